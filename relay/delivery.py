"""What the executor calls: lease, ack, nack.

A poll waits in the queue and holds no thread. Just before leasing it is checked that the client is still there: a
signal is not lent to nobody.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from common import strict_json
from common.clock import utc_text
from common.errors import AnotherConsumer, LeaseLost, MalformedSignal, Problem, QueueError
from common.logs import get_logger
from relay.calls import Request, Wait, blocking, result_of, to_the_end
from relay.context import Relay
from relay.pending.base import MAX_LEASE_SECONDS, MAX_RETRY_SECONDS, AckResult, Consumer, Leased, Lent, Notice, Wish
from relay.pending.notices import second_executor
from relay.problems import Answer, answer, code_of, reply

log = get_logger(__name__)
MOST_LEASED, LONGEST_WAIT_SECONDS, MOST_ACKS = 100, 55.0, 200
ID_LIMIT, REASON_LIMIT = 200, 500
NOTICE_ID_PATTERN = r"[0-9]{1,18}"
CONSUMER_PATTERN = r"[A-Za-z0-9_.-]{1,64}"


@dataclass(frozen=True, slots=True)
class Poll:
    """One executor's question: how many, how long it waits, and for how long it wants them."""

    limit: int
    wait_seconds: float
    lease_seconds: float
    consumer: str | None = None  # the executor's own id; callers without one cannot be told apart
    refuses_entries: bool = False  # in close-only mode, by itself


class Delivery:
    """The endpoints of the executor: from a request to its answer."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._endpoints: dict[str, Callable[[Request, Wait, Callable[[], bool]], Awaitable[Answer]]] = {
            "/v1/lease": self._lease, "/v1/ack": self._ack, "/v1/nack": self._nack,
        }  # fmt: skip

    @property
    def paths(self) -> list[str]:
        """Return the paths that are answered here, to POST."""
        return list(self._endpoints)

    async def accept(self, path: str, request: Request, wait: Wait, is_there: Callable[[], bool]) -> Answer:
        """Answer a request to one of `paths`, whole or refused. Never raises.

        `is_there` tells whether the client still is, as far as its socket shows; asked in any thread.
        """
        relay = self._relay
        try:
            relay.require_executor(request.headers.get("authorization"), request.address, request.path)
            return await self._endpoints[path](request, wait, is_there)
        except Exception as exc:
            relay.refused.add(code_of(exc))
            return answer(exc)

    def answer(self, path: str, request: Request) -> Answer:
        """Do the same in the caller's thread, which waits; nobody tells whether the client is still there."""
        return to_the_end(self.accept(path, request, blocking, lambda: True))

    async def _lease(self, request: Request, wait: Wait, is_there: Callable[[], bool]) -> Answer:
        """Answer a poll: with signals, with what the owner should hear, or with nothing when the time is up."""
        relay, poll = self._relay, read_poll(_fields(request.body))
        try:
            signals = await self._wait_for_signals(poll, wait, is_there)
        except AnotherConsumer as exc:
            if relay.is_news(poll.consumer or ""):
                await self._keep(second_executor(poll.consumer or "", request.address, relay.clock.now()), wait)
            log.error("second_executor_refused", reason=exc.message)
            raise
        value: dict[str, object] = {"signals": [_signal(each) for each in signals]}
        mode = signals.mode if isinstance(signals, Lent) else None
        if mode != "open":
            value["mode"] = mode or "unknown"
        if relay.news.is_set() or not signals:
            notices = await self._notices(wait)
            value |= {"notices": [_told(each) for each in notices]} if notices else {}
        return self._dated(value)

    async def _notices(self, wait: Wait) -> list[Notice]:
        """Return what the owner is to hear; nothing while the queue cannot be asked, since the signals come first."""
        self._relay.news.clear()
        with contextlib.suppress(QueueError):
            found: list[Notice] = await result_of(wait, partial(self._relay.pending.notices, self._relay.clock.now()))
            return found
        self._relay.news.set()
        return []

    async def _keep(self, notice: Notice, wait: Wait) -> None:
        """Keep a notice for the executor that may poll; a failure here never changes an answer."""
        with contextlib.suppress(QueueError):
            await result_of(wait, partial(self._relay.pending.note, notice))
            self._relay.news.set()

    async def _ack(self, request: Request, wait: Wait, is_there: Callable[[], bool]) -> Answer:
        """Finish signals that the executor has committed, and forget notices that it has."""
        acks, heard = read_acks(_fields(request.body))
        if heard:
            await result_of(wait, partial(self._relay.pending.heard, heard))
        if heard and not acks:
            return self._dated({"acked": [], "stale": []})
        result: AckResult = await result_of(wait, partial(self._relay.pending.finish, acks, self._relay.clock.now()))
        log.info("signals_acked", acked=",".join(result.acked), stale=",".join(result.stale))
        return self._dated({"acked": result.acked, "stale": result.stale})

    async def _nack(self, request: Request, wait: Wait, is_there: Callable[[], bool]) -> Answer:
        """Take one signal back, to be delivered again."""
        id, token, reason, retry_seconds = read_nack(_fields(request.body))
        now = self._relay.clock.now()
        if not await result_of(wait, partial(self._relay.pending.give_back, id, token, reason, retry_seconds, now)):
            raise LeaseLost(f"{id} is leased to somebody else, finished, or unknown")
        log.info("signal_given_back", id=id, reason=reason, retry_seconds=retry_seconds)
        return self._dated({"status": "returned", "id": id})

    async def _wait_for_signals(self, poll: Poll, wait: Wait, is_there: Callable[[], bool]) -> list[Leased]:
        """Return the next signals, waiting for the first as long as asked, or [].

        Ends early when the client is gone, when the server stops, and without waiting at all when as many
        polls wait as may wait.
        """
        relay = self._relay
        waits = poll.wait_seconds > 0 and relay.polls.acquire(blocking=False)

        def is_wanted() -> bool:
            return is_there() and not relay.closing.is_set()

        try:
            is_noted = False
            longest = min(poll.wait_seconds, relay.settings.longest_poll_seconds) if waits else 0
            until = relay.clock.monotonic() + longest
            while True:
                left = max(0.0, until - relay.clock.monotonic())
                wish = Wish(poll.limit, poll.lease_seconds, relay.clock.now, left, is_wanted, self._consumer(poll))
                found: list[Leased] = await result_of(wait, partial(relay.pending.poll, wish))
                if not is_noted:  # not before: a second executor that is refused must not hide that the first is silent
                    relay.pending.note_poll(relay.clock.now())
                    is_noted = True
                if found or not left or not is_wanted() or relay.news.is_set():
                    return found
        finally:
            if waits:
                relay.polls.release()

    def _consumer(self, poll: Poll) -> Consumer | None:
        if poll.consumer is None:
            return None
        silence = timedelta(seconds=self._relay.settings.executor_silent_seconds)
        return Consumer(poll.consumer, silence, poll.refuses_entries)

    def _dated(self, value: dict[str, object]) -> Answer:
        """Return an answer that carries the relay's clock to the millisecond, for measuring the skew."""
        return reply(200, value, {"X-Relay-Time": utc_text(self._relay.clock.now())})


def _told(notice: Notice) -> dict[str, str]:
    at, id = utc_text(notice.at), str(notice.id)
    return {"id": id, "kind": notice.kind, "symbol": notice.symbol, "text": notice.text, "at": at}


def _signal(leased: Leased) -> dict[str, object]:
    return {
        "id": leased.id,
        "lease": leased.lease,
        "attempt": leased.attempt,
        "received_at": utc_text(leased.received_at),
        "headers": leased.headers,
        "payload": leased.payload,
    }


# --- reading what the executor sends ----------------------------------------------------------------


def _fields(body: bytes) -> dict[str, object]:
    value = strict_json.loads(body)
    if not isinstance(value, dict):
        raise MalformedSignal("must be one JSON object")
    return value


def read_poll(fields: dict[str, object]) -> Poll:
    """Return the poll that fields ask for; what is not given has a default."""
    reading = _Reading(fields)
    poll = Poll(
        int(reading.number("limit", 10, 1, MOST_LEASED, whole=True)),
        reading.number("wait_seconds", 20, 0, LONGEST_WAIT_SECONDS),
        reading.number("lease_seconds", 30, 1, MAX_LEASE_SECONDS),
        reading.name("consumer"),
        reading.flag("refuses_entries"),
    )
    reading.finish()
    return poll


def read_acks(fields: dict[str, object]) -> tuple[list[tuple[str, str]], list[int]]:
    """Return the (id, lease) pairs to finish, and the ids of the notices that were heard."""
    reading = _Reading(fields)
    pairs = []
    for item in reading.items("acks", MOST_ACKS):
        inner = _Reading(item, reading.problems, "acks.")
        pairs.append((inner.text("id", ID_LIMIT), inner.text("lease", ID_LIMIT)))
        inner.refuse_unknown()
    heard = [reading.number_of(id) for id in reading.items("notices", MOST_ACKS)] if "notices" in fields else []
    reading.finish()
    return pairs, heard


def read_nack(fields: dict[str, object]) -> tuple[str, str, str, float]:
    """Return the id, lease, reason and seconds to the next try of a signal that is given back."""
    reading = _Reading(fields)
    found = (
        reading.text("id", ID_LIMIT),
        reading.text("lease", ID_LIMIT),
        reading.text("reason", REASON_LIMIT, default="given back"),
        reading.number("retry_seconds", 0, 0, MAX_RETRY_SECONDS),
    )
    reading.finish()
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, strict_json.Number)


class _Reading:
    """Reads one object's fields and collects every problem."""

    def __init__(self, fields: object, problems: list[Problem] | None = None, prefix: str = "") -> None:
        self.problems: list[Problem] = [] if problems is None else problems
        self._prefix, self._known = prefix, set[str]()
        self._fields: dict[str, object] = fields if isinstance(fields, dict) else {}
        if not isinstance(fields, dict):
            self.problems.append(Problem(prefix.rstrip("."), "must contain objects"))

    def number(self, name: str, default: float, low: float, high: float, whole: bool = False) -> float:
        value = self._take(name, strict_json.Number(default))
        number = float(value) if isinstance(value, strict_json.Number) else -1.0
        if low <= number <= high and (not whole or number.is_integer()):
            return number
        self._refuse(name, f"must be {'a whole number' if whole else 'a number'} from {low:g} to {high:g}")
        return default

    def text(self, name: str, limit: int, default: str | None = None) -> str:
        value = self._take(name, default)
        if _is_text(value) and 1 <= len(str(value)) <= limit:
            return str(value)
        self._refuse(name, f"must be text of 1 to {limit} characters")
        return ""

    def name(self, name: str) -> str | None:
        value = self._take(name, None)
        if value is None:
            return None
        if _is_text(value) and re.fullmatch(CONSUMER_PATTERN, str(value), re.ASCII):
            return str(value)
        self._refuse(name, "must be 1 to 64 letters, digits, or any of _ . -")
        return None

    def flag(self, name: str) -> bool:
        value = self._take(name, False)
        if isinstance(value, bool):
            return value
        self._refuse(name, "must be true or false")
        return False

    def items(self, name: str, most: int) -> list[object]:
        value = self._take(name, None)
        if isinstance(value, list) and len(value) <= most:
            return value
        self._refuse(name, f"must be a list of at most {most}")
        return []

    def number_of(self, id: object) -> int:
        """Return a notice's id as the number that it is."""
        if _is_text(id) and re.fullmatch(NOTICE_ID_PATTERN, str(id), re.ASCII):
            return int(str(id))
        self._refuse("notices", "must contain ids of notices, as text")
        return 0

    def refuse_unknown(self) -> None:
        for name in sorted(set(self._fields) - self._known):
            self._refuse(name[:40], "is not a field")

    def finish(self) -> None:
        """Raise MalformedSignal when there was any problem."""
        self.refuse_unknown()
        if self.problems:
            raise MalformedSignal(self.problems)

    def _take(self, name: str, default: object) -> object:
        self._known.add(name)
        return self._fields.get(name, default)

    def _refuse(self, name: str, message: str) -> None:
        self.problems.append(Problem(self._prefix + name, message))
