"""POST /webhook: an alert comes in, and is safe before its sender hears so.

The order of the steps is the promise: authenticate, validate, sign, commit, answer 2xx. A 503 means that
nothing was stored, and the sender's resend is welcome.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from flask import Blueprint, Response, request

from common import strict_json
from common.clock import utc_text
from common.errors import DuplicateConflict, MalformedSignal, Problem, SignalError
from common.ids import new_id
from common.logs import HIDDEN, get_logger, scrub
from common.signals import ID_LIMIT, Action, Alert, Envelope, Signal, alert_from, payload_text
from common.signing import sign
from relay.addresses import is_within
from relay.bodies import read_body
from relay.context import Relay, bearer
from relay.pending.base import Accepted, NewSignal, Refused, storable
from relay.problems import AddressRefused, Answer, answer, code_of, reply
from relay.settings import networks

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Environ = dict[str, Any]
log = get_logger(__name__)
_SECRET_IN_TEXT = re.compile(r'("secret"\s*:\s*")((?:[^"\\]|\\.){1,512})')
_SIGNATURE_HEADERS = {
    "webhook-id": "HTTP_WEBHOOK_ID",
    "webhook-timestamp": "HTTP_WEBHOOK_TIMESTAMP",
    "webhook-signature": "HTTP_WEBHOOK_SIGNATURE",
}


@dataclass(frozen=True, slots=True)
class Posted:
    """A request's body as it was sent, and decoded where it could be."""

    body: bytes
    fields: object
    error: MalformedSignal | None
    headers: dict[str, str]
    beside: tuple[str | None, ...]  # credentials that are not in the body

    @property
    def secret(self) -> str | None:
        """Return the secret in the body; from a body that is no JSON too, so that its sender is told why."""
        if self.error is None:
            found = self.fields.get("secret") if isinstance(self.fields, dict) else None
            return found if isinstance(found, str) else None
        match = _SECRET_IN_TEXT.search(self.body.decode("utf-8", "replace"))
        return match[2] if match else None

    def without_secret(self) -> str:
        """Return the body as text with every secret taken out."""
        if isinstance(self.fields, dict):
            kept = {name: value for name, value in self.fields.items() if name != "secret"}
            text = json.dumps(kept, ensure_ascii=False)
        else:
            text = _SECRET_IN_TEXT.sub(rf"\1{HIDDEN}", self.body.decode("utf-8", "replace"))
        secret = self.secret
        return scrub(text.replace(secret, HIDDEN) if secret else text)


class Later(Protocol):
    """A server that can be answered later: `environ["relay.later"]`."""

    def soon(self, call: Callable[[], None]) -> None:
        """Call when all requests that came together were looked at, so that the writer finds them together."""

    def answer(self, answer: Answer) -> None:
        """Answer the request, once; in any thread."""

    def aside(self, call: Callable[[], None]) -> None:
        """Do something that may block, in another thread; from any thread."""


@dataclass(slots=True)
class Case:
    """One alert on its way; what is None is not known yet."""

    now: datetime
    posted: Posted | None = None  # by somebody with a credential
    alert: Alert | None = None
    new: NewSignal | None = None

    def is_kept(self, error: Exception) -> bool:
        """Tell whether its owner should see that it was refused."""
        return self.posted is not None and isinstance(error, MalformedSignal | DuplicateConflict)


class Intake:
    """The endpoint of senders: from a request's environment to its answer."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._allowed = networks(relay.settings.allowed_addresses)

    def answer(self, environ: Environ, path_secret: str | None = None) -> Answer:
        """Take one alert, or say why not. Never raises."""
        case = Case(self._relay.clock.now())
        try:
            new = self._receive(case, environ, path_secret)
            return self._accept(case, self._relay.pending.put(new, case.now))
        except Exception as exc:
            return self._refuse(case, exc)

    def answer_later(self, environ: Environ, path_secret: str | None, later: Later) -> None:
        """Do the same without waiting for the commit, so that one thread serves many senders. Never raises."""
        case = Case(self._relay.clock.now())

        def settle(outcome: object) -> None:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                assert isinstance(outcome, Accepted)  # noqa: S101 for the type checker
                later.answer(self._accept(case, outcome))
            except Exception as exc:
                self._refuse_later(case, exc, later)

        try:
            new = self._receive(case, environ, path_secret)
        except Exception as exc:
            self._refuse_later(case, exc, later)
        else:
            later.soon(partial(self._relay.pending.put_later, new, case.now, settle))

    def _receive(self, case: Case, environ: Environ, path_secret: str | None) -> NewSignal:
        """Authenticate, validate and sign; return what is to be stored."""
        relay = self._relay
        if self._allowed and not is_within(environ.get("REMOTE_ADDR", ""), self._allowed):
            raise AddressRefused("not in RELAY_ALLOWED_ADDRESSES")
        posted = _posted(environ, path_secret)
        if not _is_sender(relay, posted, case.now):
            raise relay.unauthentic(environ)
        case.posted = posted
        case.alert = alert = _alert(posted)
        case.new = new_signal(relay, alert, _key(posted, alert.signal), case.now)
        return case.new

    def _accept(self, case: Case, stored: Accepted) -> Answer:
        """Return the answer to what is committed now, or was before."""
        assert case.alert and case.new  # noqa: S101 for the type checker
        self._relay.accepted.add("duplicate" if stored.duplicate else "queued")
        log.info(
            "signal_duplicate" if stored.duplicate else "signal_accepted",
            id=stored.id, symbol=case.new.symbol, action=case.new.action,
        )  # fmt: skip
        if stored.duplicate:
            return reply(200, {"status": "duplicate", "id": stored.id})
        _notice_missed(self._relay, case.alert, stored, case.now)
        return reply(202, {"status": "queued", "id": stored.id})

    def _refuse(self, case: Case, error: Exception) -> Answer:
        if case.posted and case.is_kept(error):
            _keep_refused(self._relay, case.posted, error, case.now)
        self._relay.refused.add(code_of(error))
        return answer(error)

    def _refuse_later(self, case: Case, error: Exception, later: Later) -> None:
        if case.is_kept(error):
            later.aside(lambda: later.answer(self._refuse(case, error)))
        else:
            later.answer(self._refuse(case, error))

    def blueprint(self) -> Blueprint:
        """Return the endpoint for Flask: it is what answers other methods, and says 405."""
        web = Blueprint("intake", __name__)

        def receive(path_secret: str | None = None) -> Response:
            return self.answer(request.environ, path_secret).for_flask()

        for path in ("/webhook", "/webhook/<path_secret>"):
            web.add_url_rule(path, path, receive, methods=["POST"], provide_automatic_options=False)
        return web

    def before(self, app: WSGIApplication) -> WSGIApplication:
        """Return the app with this endpoint in front of it: the same answers at two thirds of the cost."""

        def door(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            if environ["REQUEST_METHOD"] != "POST" or not path.startswith("/webhook"):
                return app(environ, start_response)
            secret = path[9:].encode("latin-1", "replace").decode("utf-8", "replace") or None
            if path != "/webhook" and (path[8] != "/" or secret is None or "/" in secret):
                return app(environ, start_response)
            if later := environ.get("relay.later"):
                self.answer_later(environ, secret, later)
                return ()
            return self.answer(environ, secret).for_server(start_response)

        return door


def _posted(environ: Environ, path_secret: str | None) -> Posted:
    body = read_body(environ)
    headers = {name: environ[key] for name, key in _SIGNATURE_HEADERS.items() if key in environ}
    known = (path_secret, bearer(environ))
    try:
        return Posted(body, strict_json.loads(body), None, headers, known)
    except MalformedSignal as exc:
        return Posted(body, None, exc, headers, known)


def _is_sender(relay: Relay, posted: Posted, now: datetime) -> bool:
    """Tell whether any of the credentials that came with the request is right."""
    known = relay.credentials
    if any(known.is_sender(secret) for secret in (*posted.beside, posted.secret)):
        return True
    return known.has_signed(posted.headers, posted.body, now)


def _alert(posted: Posted) -> Alert:
    if posted.error is not None:
        raise posted.error
    if not isinstance(posted.fields, dict):
        raise MalformedSignal('must be one JSON object, like {"action":"close","symbol":"EURUSD"}')
    alert = alert_from(posted.fields)
    signal = alert.signal
    secrets = [secret for secret in (*posted.beside, posted.secret) if secret]
    told = [
        field
        for field, text in (("symbol", signal.symbol), ("note", signal.note), ("id", signal.sender_id))
        if text and any(secret in text for secret in secrets)
    ]
    if told:
        raise MalformedSignal([Problem(field, "must not hold the secret") for field in told])
    return alert


def _key(posted: Posted, signal: Signal) -> str | None:
    """Return the sender's duplicate key: the `webhook-id` header, else the field `id`."""
    key = posted.headers.get("webhook-id")
    if key is None:
        return signal.sender_id
    if not 1 <= len(key) <= ID_LIMIT or not key.isprintable():
        raise MalformedSignal([Problem("webhook-id", f"must be 1 to {ID_LIMIT} printable characters")])
    return key


def new_signal(relay: Relay, alert: Alert, key: str | None, now: datetime) -> NewSignal:
    """Return a signal ready to store: stamped, signed, with its place among duplicates."""
    signal = alert.signal
    fresh = timedelta(seconds=relay.settings.signal_validity_seconds)
    envelope = Envelope(new_id(), now, now + fresh if signal.action is Action.OPEN else None, signal)
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
        position=alert.position,
    )


def fingerprint(signal: Signal) -> str:
    """Return what is equal for equal signals: the canonical fields, without the sender's id."""
    parts = [f"{name}={value}" for name, value in signal.data().items() if name != "id"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _notice_missed(relay: Relay, alert: Alert, stored: Accepted, now: datetime) -> None:
    """Tell that an alert was missed when a strategy's previous position is not where the last one left it."""
    if alert.prev is None or stored.previous is None or alert.prev.follows(stored.previous):
        return
    symbol, before = alert.signal.symbol, str(alert.prev)
    text = f"An alert for {symbol} was missed: the strategy held {before}, its last alert told {stored.previous}."
    relay.accepted.add("missed")
    relay.notices.append({"kind": "alert-missed", "symbol": symbol, "text": text, "at": utc_text(now)})
    log.warning("alert_missed", id=stored.id, symbol=symbol, held=before, told=stored.previous)


def _keep_refused(relay: Relay, posted: Posted, error: Exception, now: datetime) -> None:
    """Keep a refused alert for its owner. That this fails never changes the sender's answer."""
    assert isinstance(error, SignalError)  # noqa: S101 for the type checker
    reason, body = scrub(error.message), posted.without_secret()
    log.warning("alert_refused", code=error.code, reason=reason)
    try:
        relay.pending.refuse(Refused(now, error.code, storable(reason), storable(body)))
    except Exception as exc:  # whatever it is, the sender waits for his answer
        log.warning("refused_alert_not_kept", error=type(exc).__name__, reason=str(exc))
