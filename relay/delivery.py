"""What the executor calls: lease, ack, nack.

A poll holds one thread; so many threads are kept free of polls that nothing else waits for one. Just before
leasing it is checked that the client is still there: a signal is not lent to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from flask import Blueprint, Response, request

from common import strict_json
from common.clock import utc_text
from common.errors import AnotherConsumer, LeaseLost, MalformedSignal, Problem
from common.logs import get_logger
from relay.context import Relay
from relay.pending.base import MAX_LEASE_SECONDS, MAX_RETRY_SECONDS, Consumer, Leased
from relay.problems import reply
from relay.views import body, require_executor, response

log = get_logger(__name__)
MOST_LEASED, LONGEST_WAIT_SECONDS, MOST_ACKS = 100, 55.0, 200
ID_LIMIT, REASON_LIMIT = 200, 500
CONSUMER_PATTERN = r"[A-Za-z0-9_.-]{1,64}"


@dataclass(frozen=True, slots=True)
class Poll:
    """One executor's question: how many, how long it waits, and for how long it wants them."""

    limit: int
    wait_seconds: float
    lease_seconds: float
    consumer: str | None = None  # the executor's own id; callers without one cannot be told apart


def blueprint(relay: Relay) -> Blueprint:
    """Return the endpoints of the executor."""
    web = Blueprint("delivery", __name__, url_prefix="/v1")

    @web.before_request
    def executor_only() -> None:
        require_executor(relay)

    for endpoint in (lease, ack, nack):
        view = partial(endpoint, relay)
        web.add_url_rule(
            f"/{endpoint.__name__}", endpoint.__name__, view, methods=["POST"], provide_automatic_options=False
        )
    return web


def lease(relay: Relay) -> Response:
    """Answer a poll: with signals, with what the owner should hear, or with nothing when the time is up."""
    poll = read_poll(_fields())
    try:
        signals = _wait_for_signals(relay, poll, _connected(request.environ))
    except AnotherConsumer as exc:
        relay.notice_second(poll.consumer or "", request.remote_addr or "")
        log.error("second_executor_refused", reason=exc.message)
        raise
    value: dict[str, object] = {"signals": [_signal(each) for each in signals]}
    notices = relay.take_notices()
    if notices:
        value["notices"] = notices
    return _dated(relay, value)


def ack(relay: Relay) -> Response:
    """Finish signals that the executor has committed."""
    result = relay.pending.ack(read_acks(_fields()), relay.clock.now())
    log.info("signals_acked", acked=",".join(result.acked), stale=",".join(result.stale))
    return _dated(relay, {"acked": result.acked, "stale": result.stale})


def nack(relay: Relay) -> Response:
    """Take one signal back, to be delivered again."""
    id, token, reason, retry_seconds = read_nack(_fields())
    if not relay.pending.nack(id, token, reason, retry_seconds, relay.clock.now()):
        raise LeaseLost(f"{id} is leased to another executor, finished, or unknown")
    log.info("signal_given_back", id=id, reason=reason, retry_seconds=retry_seconds)
    return _dated(relay, {"status": "returned", "id": id})


def _wait_for_signals(relay: Relay, poll: Poll, connected: Callable[[], bool]) -> list[Leased]:
    """Return the next signals, waiting for the first as long as asked, or [].

    Ends early when the client is gone, when the server stops, and without waiting at all when as many
    polls wait as may wait.
    """
    waits = poll.wait_seconds > 0 and relay.polls.acquire(blocking=False)
    try:
        consumer, is_noted = _consumer(relay, poll), False
        until = relay.clock.monotonic() + (min(poll.wait_seconds, relay.settings.longest_poll_seconds) if waits else 0)
        while not relay.closing.is_set():
            left = max(0.0, until - relay.clock.monotonic())
            found = relay.pending.take(poll.limit, poll.lease_seconds, relay.clock.now, left, connected, consumer)
            if not is_noted:  # not before: a second executor that is refused must not hide that the first is silent
                relay.pending.note_poll(relay.clock.now())
                is_noted = True
            if found or not left or not connected():
                return found
        return []
    finally:
        if waits:
            relay.polls.release()


def _consumer(relay: Relay, poll: Poll) -> Consumer | None:
    if poll.consumer is None:
        return None
    return Consumer(poll.consumer, timedelta(seconds=relay.settings.executor_silent_seconds))


def _connected(environ: dict[str, object]) -> Callable[[], bool]:
    """Return a check of whether the client is still there, if the server in front knows (see relay.asgi)."""
    scope = environ.get("asgi.scope")
    presence = scope["relay.presence"] if isinstance(scope, dict) else None
    return (lambda: True) if presence is None else (lambda: not presence.is_gone)


def _signal(leased: Leased) -> dict[str, object]:
    return {
        "id": leased.id,
        "lease": leased.lease,
        "attempt": leased.attempt,
        "received_at": utc_text(leased.received_at),
        "headers": leased.headers,
        "payload": leased.payload,
    }


def _dated(relay: Relay, value: dict[str, object]) -> Response:
    """Return an answer that carries the relay's clock to the millisecond, for measuring the skew."""
    return response(reply(200, value, {"X-Relay-Time": utc_text(relay.clock.now())}))


# --- reading what the executor sends ----------------------------------------------------------------


def _fields() -> dict[str, object]:
    value = strict_json.loads(body())
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
    )
    reading.finish()
    return poll


def read_acks(fields: dict[str, object]) -> list[tuple[str, str]]:
    """Return the (id, lease) pairs to finish."""
    reading = _Reading(fields)
    pairs = []
    for item in reading.items("acks", MOST_ACKS):
        inner = _Reading(item, reading.problems, "acks.")
        pairs.append((inner.text("id", ID_LIMIT), inner.text("lease", ID_LIMIT)))
        inner.refuse_unknown()
    reading.finish()
    return pairs


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

    def items(self, name: str, most: int) -> list[object]:
        value = self._take(name, None)
        if isinstance(value, list) and len(value) <= most:
            return value
        self._refuse(name, f"must be a list of at most {most}")
        return []

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
