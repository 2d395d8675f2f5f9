"""POST /webhook: an alert comes in, and is safe before its sender hears so.

The order of the steps is the promise: authenticate, validate, sign, commit, answer 2xx. A 503 means that
nothing was stored, and the sender's resend is welcome.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from common import strict_json
from common.errors import MalformedSignal, Problem, SignalError, SignalTooLarge
from common.fields import ID_LIMIT, MOST_WARNINGS, TOLD_FIELDS
from common.ids import new_id
from common.logs import HIDDEN, get_logger
from common.pasted import bare, secrets_in, without_secrets
from common.signals import Alert, Envelope, Signal, alert_from, payload_text, warning_text
from common.signing import HEADERS, sign
from common.values import shown
from relay.addresses import is_within, networks
from relay.calls import Request, Wait, blocking, result_of, to_the_end
from relay.context import Relay, bearer
from relay.guess import looks_like_exit, symbol_of
from relay.hiding import hidden, hidden_in
from relay.pending.base import Accepted, NewSignal, Refused, storable
from relay.pending.notices import refused as refused_notice
from relay.problems import AddressRefused, Answer, answer, code_of, reply

Give = Callable[[Answer], Awaitable[None]]
log = get_logger(__name__)
MAX_BODY_BYTES = 16 * 1024
_SHORTEST = 6
_KEPT = ("symbol", "note", "id", "strategy_name")  # texts of the sender's own that are stored and shown
_BESIDE = ("id", "price", "warning")  # what two signals that are the same may differ in


@dataclass(frozen=True, slots=True)
class Posted:
    """A request's body as it was sent, and decoded where it could be."""

    body: bytes
    fields: object  # None where it could not
    readable: object  # what of it can be read all the same; see strict_json.read
    error: MalformedSignal | None
    headers: dict[str, str]
    beside: tuple[str | None, ...]  # credentials that are not in the body

    @property
    def text(self) -> str:
        """Return the body as text, for its owner to read."""
        wide = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"{\0": "utf-16-le", b"\0{": "utf-16-be"}
        return self.body.decode(wide.get(self.body[:2], "utf-8"), "replace")

    @property
    def credentials(self) -> list[str]:
        """Return every credential that came with it, right or wrong; one of a few letters would be found in any word."""
        beside = [secret for each in self.beside if each for secret in (each, bare(each))]
        return [secret for secret in dict.fromkeys([*beside, *self.secrets]) if len(secret) >= _SHORTEST]

    @property
    def secrets(self) -> list[str]:
        """Return what may be the secret in the body; also in one that is not JSON, so that its sender learns why.

        What pasting put around a secret is no part of it: then its sender can be told of the rest.
        """
        if self.error is None:
            fields = self.fields if isinstance(self.fields, dict) else {}
            found = [value for name, value in fields.items() if bare(name).lower() == "secret"]
        else:
            found = secrets_in(self.text)
        texts = [each for each in found if isinstance(each, str)]
        return list(dict.fromkeys([*texts, *map(bare, texts)]))

    def fields_without_secrets(self) -> object:
        """Return what of the body can be read, no secret in any field but `secret`: an error quotes what it is about."""
        if not isinstance(self.readable, dict):
            return self.readable
        own, secrets = self.readable.get("secret"), self.credentials
        text = self.text
        rest = text.replace(own, "", 1) if isinstance(own, str) and own else text
        if "\\" not in text and hidden(rest, secrets) == rest:  # as always: one look at all of it
            return self.readable
        kept = {"secret": own} if "secret" in self.readable else {}
        return {hidden(name, secrets): hidden_in(value, secrets) for name, value in self.readable.items()} | kept

    def without_secret(self) -> str:
        """Return the body as text with every secret taken out, however it is written and however deep."""
        if isinstance(self.fields, dict):
            kept = {name: value for name, value in self.fields.items() if name != "secret"}
            text = json.dumps(kept, ensure_ascii=False, default=shown)
        else:
            text = without_secrets(self.text, HIDDEN)
        return hidden(text, self.credentials)


@dataclass(slots=True)
class Case:
    """One alert on its way; what is None is not known yet."""

    now: datetime
    posted: Posted | None = None  # by somebody with a credential
    alert: Alert | None = None
    new: NewSignal | None = None


class Intake:
    """The endpoint of senders: from a request to its answer."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._allowed = networks(relay.settings.allowed_addresses)

    async def accept(self, request: Request, wait: Wait, give: Give) -> None:
        """Take one alert, or say why not, and give the answer. Raises only what `give` raises.

        1. From an address that may not post: answer, and keep the alert for its owner where its credential is right.
           Only then, since the time that the answer takes must not reveal whether it is.
        2. Authenticate, validate and sign.
        3. Have the queue store it, and wait for the commit.
        4. Answer. An authenticated alert that is refused is first kept for its owner.
        """
        error = self._address_error(request)
        if error is None:
            await give(await self._answer_to(request, wait))
        else:
            self._relay.refused.add(error.code)
            await give(answer(error))
            await self.keep_refused(request, error, wait)

    async def keep_refused(self, request: Request, error: SignalError, wait: Wait) -> None:
        """Keep for its owner what was refused before its credential was looked at, if that is right.

        An alert that was too large is not read: nobody knows what it was, so it counts as an exit.
        """
        posted, now = _posted(request), self._relay.clock.now()
        if _is_sender(self._relay, posted, now):
            await self._keep(posted, error, now, wait, is_exit=isinstance(error, SignalTooLarge))

    def answer(self, request: Request) -> Answer:
        """Do the same in the caller's thread, which waits for the queue; return the answer."""
        answers: list[Answer] = []

        async def give(found: Answer) -> None:
            answers.append(found)

        to_the_end(self.accept(request, blocking, give))
        return answers[0]

    def _address_error(self, request: Request) -> AddressRefused | None:
        relay = self._relay
        if not self._allowed or is_within(request.address, self._allowed):
            return None
        if relay.address_lines.allows(relay.clock.monotonic()):
            forwarded = request.headers.get("x-forwarded-for", "")[:200]
            log.warning("address_refused", address=request.address, forwarded=forwarded)
        return AddressRefused(f"{request.address or 'its address'} is not in RELAY_ALLOWED_ADDRESSES")

    async def _answer_to(self, request: Request, wait: Wait) -> Answer:
        case = Case(self._relay.clock.now())
        try:
            new = self._receive(case, request)
            return self._accepted(case, await result_of(wait, partial(self._relay.pending.put, new, case.now)))
        except Exception as exc:
            if case.posted and isinstance(exc, SignalError):
                await self._keep(case.posted, exc, case.now, wait)
            self._relay.refused.add(code_of(exc))
            return answer(exc)

    def _receive(self, case: Case, request: Request) -> NewSignal:
        """Authenticate, validate and sign; return what is to be stored."""
        relay, posted = self._relay, _posted(request)
        if not _is_sender(relay, posted, case.now):
            raise relay.unauthentic(request.address, request.path)
        case.posted = posted
        case.alert = alert = _alert(posted)
        case.new = new_signal(relay, alert, _key(posted, alert), case.now)
        return case.new

    def _accepted(self, case: Case, stored: Accepted) -> Answer:
        """Return the answer to what is committed now, or was before."""
        assert case.alert and case.new  # noqa: S101 for the type checker
        self._relay.accepted.add("duplicate" if stored.duplicate else "queued")
        log.info(
            "signal_duplicate" if stored.duplicate else "signal_accepted",
            id=stored.id, symbol=case.new.symbol, action=case.new.action,
        )  # fmt: skip
        warnings = [*case.alert.warnings, *_of_used_id(stored)]
        value: dict[str, object] = {"status": "duplicate" if stored.duplicate else "queued", "id": stored.id}
        if warnings:
            value["warnings"] = [{"field": each.field, "message": each.message} for each in warnings]
        if stored.duplicate:
            return reply(200, value)
        if stored.missed:
            self._relay.accepted.add("missed")
            log.warning(
                "alert_missed", id=stored.id, symbol=case.new.symbol, held=str(case.new.prev), told=stored.previous
            )
        if stored.id_used:
            log.warning("id_used_before", id=stored.id, symbol=case.new.symbol, key=case.new.dedupe_key)
        if stored.missed or stored.id_used:
            self._relay.news.set()
        return reply(202, value)

    async def _keep(self, posted: Posted, error: SignalError, now: datetime, wait: Wait, is_exit: bool = False) -> None:
        """Keep a refused alert for its owner. A failure here never changes the sender's answer."""
        reason, body = hidden(error.message, posted.credentials), posted.without_secret()
        log.warning("alert_refused", code=error.code, reason=reason)
        is_exit = is_exit or looks_like_exit(posted.body, posted.readable)
        notice = refused_notice(symbol_of(posted.readable, posted.credentials), reason, body, is_exit, now)
        refused = Refused(now, error.code, storable(reason), storable(body), notice)
        try:
            await result_of(wait, partial(self._relay.pending.refuse, refused))
            self._relay.news.set()
        except Exception as exc:  # whatever it is, the sender waits for an answer
            log.warning("refused_alert_not_kept", error=type(exc).__name__, reason=str(exc))


def _posted(request: Request) -> Posted:
    body = request.body
    headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
    known = (request.path_secret, bearer(request.headers.get("authorization")))
    readable, error = strict_json.read(body, spared=TOLD_FIELDS)
    return Posted(body, None if error else readable, readable, error, headers, known)


def _is_sender(relay: Relay, posted: Posted, now: datetime) -> bool:
    """True if any of the credentials that came with the request is right."""
    known = relay.credentials
    beside = [each for secret in posted.beside if secret for each in (secret, bare(secret))]
    if any(known.is_sender(secret) for secret in (*beside, *posted.secrets)):
        return True
    return known.has_signed(posted.headers, posted.body, now)


def _alert(posted: Posted) -> Alert:
    """Return the alert, no secret in any text of it, and without what plays no part where it is an exit.

    Raises:
        MalformedSignal: It is no signal, or something that it needs must not be in it.
    """
    secrets = posted.credentials
    error = posted.error and MalformedSignal(hidden(posted.error.message, secrets))
    fields = posted.fields_without_secrets()
    problems = _out_of_place(posted, fields)
    if any(problem.field == "symbol" for problem in problems):
        raise MalformedSignal(problems)
    alert = alert_from(fields, error)
    if problems and not alert.signal.is_exit:
        raise MalformedSignal(problems)
    wrong = {problem.field for problem in problems}
    kept = alert.signal
    signal = replace(
        kept,
        sender_id=None if "id" in wrong else kept.sender_id,
        note=None if "note" in wrong else kept.note,
        strategy_name=None if "strategy_name" in wrong else kept.strategy_name,
    )
    has_key = signal.sender_id is not None or ("webhook-id" in posted.headers and "webhook-id" not in wrong)
    warnings = (*alert.warnings, *problems, *_of_no_key(signal, has_key))[:MOST_WARNINGS]
    signal = replace(signal, warning=warning_text(warnings) if warnings else None)
    return replace(alert, signal=signal, warnings=warnings)


def _of_no_key(signal: Signal, has_key: bool) -> list[Problem]:
    """Return a warning for a part of a close that a second one like it cannot be told from."""
    if not signal.is_partial_close or has_key or signal.time is not None:
        return []
    text = "is missing, and time too: another close of the same part within 30 seconds would be taken for a resend of this one"
    return [Problem("id", f"{text}. Give every alert an id of its own, or a time ({{{{timenow}}}})")]


def _out_of_place(posted: Posted, fields: object) -> list[Problem]:
    """Return what may not be stored: a secret in another field, a duplicate key out of form or with a secret in it."""
    before, after = (each if isinstance(each, dict) else {} for each in (posted.readable, fields))
    told = [name for name in _KEPT if after.get(name) != before.get(name)]
    key = posted.headers.get("webhook-id")
    if key is not None and hidden(key, posted.credentials) != key:
        told.append("webhook-id")
    elif key is not None and (not 1 <= len(key) <= ID_LIMIT or not key.isprintable()):
        form = [Problem("webhook-id", f"must be 1 to {ID_LIMIT} printable characters")]
        return [*(Problem(field, "must not contain the secret") for field in told), *form]
    return [Problem(field, "must not contain the secret") for field in told]


def _key(posted: Posted, alert: Alert) -> str | None:
    """Return the sender's duplicate key: the `webhook-id` header, else the field `id`; None where it is out of form."""
    key = posted.headers.get("webhook-id")
    if key is None:
        return alert.signal.sender_id
    return None if any(problem.field == "webhook-id" for problem in alert.warnings) else key


def new_signal(relay: Relay, alert: Alert, key: str | None, now: datetime) -> NewSignal:
    """Return a signal ready to store: stamped, signed, with its place among duplicates."""
    signal = alert.signal
    fresh = timedelta(seconds=relay.settings.signal_validity_seconds)
    envelope = Envelope(new_id(), now, None if signal.is_exit else now + fresh, signal)
    payload = payload_text(envelope)
    return NewSignal(
        id=envelope.id,
        symbol=signal.symbol,
        action=signal.action.value,
        dedupe_key=key,
        fingerprint=fingerprint(signal),
        received_at=now,
        expires_at=envelope.expires_at,
        headers=sign(relay.credentials.signing_keys(), envelope.id, int(now.timestamp()), payload),
        payload=payload,
        position=signal.position,
        prev=signal.prev,
        strategy_name=signal.strategy_name,
        sent_at=signal.time,
    )


def fingerprint(signal: Signal) -> str:
    """Return what is equal for equal signals: of the canonical fields, and, after a colon, the sender's time.

    The sender's id, the price that it saw and what was left out are no part of it.
    """
    data = {name: value for name, value in signal.data().items() if name not in _BESIDE}
    sent_at = data.pop("time", None)
    digest = hashlib.sha256("\n".join(f"{name}={value}" for name, value in data.items()).encode()).hexdigest()
    return f"{digest}:{sent_at}" if sent_at else digest


def _of_used_id(stored: Accepted) -> list[Problem]:
    text = "was used for another signal; this exit is taken as new. Give every alert an id of its own"
    return [Problem("id", text)] if stored.id_used else []
