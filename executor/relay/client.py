"""The relay, seen from home: lease, ack and nack over HTTPS, outward only; every signal's signature verified.

Whatever the other side answers (a login page, endless bytes, a redirect), the outcome is signals or
RelayUnavailable, and it is bounded: in bytes and seconds, in the number of signals, in the length of each text. A
signal counts only with the relay's signature over its exact text, so that anyone who can write to the relay's
database, or sits on the way, cannot make an order.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from common import strict_json
from common.clock import Clock, parse_utc
from common.errors import BridgeError, MalformedSignal, UnauthenticSignal
from common.ids import is_id, new_id
from common.secret import Rotating, Secret
from common.signals import Envelope, parse_payload
from common.signing import HEADERS, SigningKeys, verify
from common.version import user_agent
from executor.relay.http import AnswerTooLarge, AnswerTooSlow, bounded_session

LEASE_SECONDS = 10  # short: the ack follows our own commit at once
LIMIT = 10
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 10.0
_CHUNK = 64 * 1024
_LARGEST_ANSWER = 512 * 1024  # ten signals and a hundred notices are a tenth of it
_LONGEST_PAYLOAD = 16 * 1024  # an alert has no more, and a payload says the same
_MOST_NOTICES, _LONGEST_NOTICE, _LONGEST_WORD = 100, 500, 60
_MOST_KEYS = 16
_LONGEST_PAUSE = 60.0


class RelayUnavailable(BridgeError):
    """The relay gave no usable answer; nothing is lost, it keeps its signals. Retry after a pause."""

    code = "relay-unavailable"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class SecondExecutor(RelayUnavailable):
    """Another executor fetches from this relay, so this one may not. The owner stops one of them."""

    code = "second-executor"


class FieldUnknown(RelayUnavailable):
    """The relay refuses a field that it does not know: it is another program, or not updated yet. Ask without the field.

    Relay and executor run on two machines and are updated one after the other, and the relay's API may be served by
    another program (docs/reference/http-api.md): one that reads its requests strictly must not cut off the exits.
    """


@dataclass(frozen=True, slots=True)
class Delivery:
    """One leased signal: its envelope where signature and form are right, else what is wrong with it.

    `id` and `lease` are well-formed; both are "" where the relay sent anything else.
    """

    id: str
    lease: str
    payload: str
    envelope: Envelope | None
    problem: str = ""
    forged: bool = False  # the signature is wrong: never act on it, never ack it


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice from the relay to the owner. It may come several times; `key` is the same each time."""

    kind: str
    key: str
    symbol: str
    text: str
    id: str = ""  # by which it is confirmed; "" from a relay that asks for no confirmation


@dataclass(frozen=True, slots=True)
class Answer:
    """What one lease brought, and by how many seconds the relay's clock is ahead of ours."""

    deliveries: tuple[Delivery, ...]  # no more than were asked for
    skew_seconds: float | None
    notices: tuple[Notice, ...] = ()
    mode: str | None = "open"  # the relay's own; None: it did not look
    surplus: int = 0  # signals beyond those that were asked for; they were not looked at


@dataclass(frozen=True, slots=True)
class Status:
    """The relay's own status: fingerprints of its keys, newest first; its queue, None while that is unreachable."""

    fingerprints: tuple[str, ...]
    queue: Mapping[str, Any] | None
    skew_seconds: float | None


class RelayClient:
    """One connection to one relay, for one request at a time: a second one is refused while the first is under way."""

    def __init__(
        self,
        url: str,
        token: Secret,
        signing_secrets: Secret,
        clock: Clock,
        ca: Path | None = None,
        consumer: str | None = None,
    ) -> None:
        self._consumer, self._knows_modes = consumer, True
        self._url, self._clock = url.rstrip("/"), clock
        self._token = Rotating(token, clock.monotonic)
        self._secrets = Rotating(signing_secrets, clock.monotonic, _keys)
        self._keys_of: tuple[Secret, SigningKeys] | None = None
        self._alone = threading.Lock()
        self._session = bounded_session(clock, _LARGEST_ANSWER)
        self._session.verify = str(ca) if ca else True
        self._session.headers.update({"User-Agent": user_agent("signal-executor"), "Accept": "application/json"})

    def lease(self, wait_seconds: float) -> Answer:
        """Lease what waits, after at most `wait_seconds`; every delivery verified.

        Raises:
            RelayUnavailable: No usable answer.
            SecondExecutor: Another executor fetches from this relay. A kind of RelayUnavailable.
        """
        asked: dict[str, Any] = {"limit": LIMIT, "wait_seconds": wait_seconds, "lease_seconds": LEASE_SECONDS}
        if self._consumer is not None:
            asked["consumer"] = self._consumer
        body, headers = self._ask_for_signals(asked, wait_seconds)
        signals = body.get("signals")
        if not isinstance(signals, list):
            raise RelayUnavailable(f"{self._url} answered without signals; is this the relay?")
        keys = self._keys()
        deliveries = tuple(self._delivery(signal, keys) for signal in signals[:LIMIT])
        notices, surplus = _notices(body.get("notices")), max(0, len(signals) - LIMIT)
        return Answer(deliveries, self._skew(headers), notices, _mode(body.get("mode", "open")), surplus)

    def _ask_for_signals(self, asked: dict[str, Any], wait: float) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Ask as one that refuses entries by itself in close-only mode; a relay that does not know the field holds opens then."""
        if self._consumer is None or not self._knows_modes:
            return self._post("/v1/lease", asked, wait)
        try:
            return self._post("/v1/lease", {**asked, "refuses_entries": True}, wait)
        except FieldUnknown:
            self._knows_modes = False
            return self._post("/v1/lease", asked, wait)

    def ack(self, deliveries: list[Delivery]) -> list[str]:
        """Report that these are committed here; returns the ids whose lease had expired (they will come again)."""
        acks = [{"id": delivery.id, "lease": delivery.lease} for delivery in deliveries]
        body, _ = self._post("/v1/ack", {"acks": acks})
        stale = body.get("stale")
        return [each.id for each in deliveries if each.id in stale] if isinstance(stale, list) else []

    def heard(self, ids: Sequence[str]) -> None:
        """Confirm notices that are committed here, so that the relay need not repeat them."""
        self._post("/v1/ack", {"acks": [], "notices": list(ids)})

    def nack(self, delivery: Delivery, reason: str, retry_seconds: int) -> None:
        """Give a signal back, with the reason; after five times the relay makes it a dead letter."""
        given = {"id": delivery.id, "lease": delivery.lease, "reason": reason[:500], "retry_seconds": retry_seconds}
        self._post("/v1/nack", given)

    def status(self) -> Status:
        """Return the relay's own status, for the doctor.

        Raises:
            RelayUnavailable: No usable answer.
        """
        body, headers = self._ask("GET", "/v1/status", None)
        keys, queue = body.get("signing_keys"), body.get("queue")
        if not isinstance(keys, list) or not isinstance(queue, dict | None):
            raise RelayUnavailable(f"{self._url} answered without its keys; is this the relay?")
        shown = {_words(name, _LONGEST_WORD): _words(value, _LONGEST_WORD) for name, value in (queue or {}).items()}
        prints = tuple(_words(key, _LONGEST_WORD) for key in keys[:_MOST_KEYS])
        return Status(prints, None if queue is None else shown, self._skew(headers))

    def close(self) -> None:
        self._session.close()

    # --- one delivery -------------------------------------------------------------------------------

    def _keys(self) -> SigningKeys:
        secret = self._secrets.current()
        if self._keys_of is None or self._keys_of[0] != secret:
            self._keys_of = secret, _keys(secret)
        return self._keys_of[1]

    def _delivery(self, signal: Any, keys: SigningKeys) -> Delivery:
        if not isinstance(signal, dict):
            raise RelayUnavailable(f"{self._url} answered with a signal that is not an object; is this the relay?")
        id, lease, payload = (_text(signal.get(name)) for name in ("id", "lease", "payload"))
        if not (is_id(id) and is_id(lease) and 0 < len(payload) <= _LONGEST_PAYLOAD):
            return Delivery("", "", "", None, "it does not have the form of a signal", forged=True)
        headers = signal.get("headers")
        try:
            signed = verify(keys, _headers(headers), payload)
            if signed != id:
                raise UnauthenticSignal(f"the signature is for the signal {signed}")
            return Delivery(id, lease, payload, parse_payload(id, payload))
        except UnauthenticSignal as exc:
            return Delivery(id, lease, payload, None, str(exc)[:_LONGEST_NOTICE], forged=True)
        except MalformedSignal as exc:
            return Delivery(id, lease, payload, None, str(exc)[:_LONGEST_NOTICE])

    # --- one request --------------------------------------------------------------------------------

    def _post(self, path: str, body: Mapping[str, Any], wait: float = 0.0) -> tuple[dict[str, Any], Mapping[str, str]]:
        return self._ask("POST", path, body, wait)

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, wait: float = 0.0
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        send: Callable[[], requests.Response] = lambda: self._session.request(  # noqa: E731 - sent once or twice
            method,
            self._url + path,
            json=body,
            headers={"Authorization": f"Bearer {self._token.current().reveal()}"},
            timeout=(_CONNECT_SECONDS, wait + _ANSWER_SECONDS),
            allow_redirects=False,
            stream=True,
        )
        if not self._alone.acquire(blocking=False):  # one that was given up for its time still runs in its thread
            raise RelayUnavailable(f"the last request to {self._url} has not ended yet")
        try:
            with _once_more(send) as response:
                raw = self._read(response)
        except AnswerTooLarge as exc:
            raise RelayUnavailable(f"{self._url} answered with more than {_LARGEST_ANSWER} bytes") from exc
        except AnswerTooSlow as exc:
            raise RelayUnavailable(f"{self._url} took too long to answer") from exc
        except requests.RequestException as exc:
            raise RelayUnavailable(f"the relay {self._url} cannot be reached: {_why(exc)}") from exc
        finally:
            self._alone.release()
        self._check(response, raw)
        return self._object(raw), response.headers

    def _read(self, response: requests.Response) -> bytes:
        """Return the body as it came over the wire: a few bytes must not become gigabytes."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise RelayUnavailable(
                f"{self._url} compressed its answer, which was not asked for; is a proxy in between?"
            )
        found = bytearray()
        try:
            while chunk := response.raw.read(_CHUNK, decode_content=False):  # not all that its length claims there is
                found += chunk
        except (OSError, ValueError, HTTPError) as exc:
            raise RelayUnavailable(f"the answer from {self._url} was cut off: {type(exc).__name__}") from exc
        return bytes(found)

    def _check(self, response: requests.Response, raw: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        retry_after = _seconds(response.headers.get("Retry-After"))
        if status == 409 and b'"another-consumer"' in raw:
            raise SecondExecutor(f"another executor fetches from the relay {self._url}: {_detail(raw)}", retry_after)
        if status == 400 and b'"refuses_entries"' in raw:
            raise FieldUnknown(f"the relay {self._url} does not know what refuses entries by itself")
        raise RelayUnavailable(self._refused(status, response.headers.get("Location", "")), retry_after)

    def _refused(self, status: int, location: str) -> str:
        if status in (401, 403):
            return (
                f"the relay {self._url} rejects our token ({status}); EXECUTOR_RELAY_TOKEN must be one of "
                "its RELAY_EXECUTOR_TOKENS"
            )
        if 300 <= status < 400:
            return f"{self._url} redirects to {location[:200]!r}, which is not followed; set --relay-url to it"
        if status == 404:
            return f"{self._url} is not a relay (404); correct --relay-url"
        return f"the relay {self._url} answered {status}"

    def _object(self, raw: bytes) -> dict[str, Any]:
        try:
            body = strict_json.loads(raw)
        except MalformedSignal as exc:
            raise RelayUnavailable(f"{self._url} answered 200 without JSON ({exc}); is this the relay?") from exc
        if not isinstance(body, dict):
            raise RelayUnavailable(f"{self._url} answered 200 without a JSON object; is this the relay?")
        return body

    def _skew(self, headers: Mapping[str, str]) -> float | None:
        """Return how far the relay's clock is ahead; its `Date` counts whole seconds, so half of one is added."""
        now = self._clock.now()
        exact, rough = headers.get("X-Relay-Time"), headers.get("Date")
        try:
            if exact:
                return (parse_utc(exact) - now).total_seconds()
            if rough:
                return (_date(rough) - now).total_seconds() + 0.5
        except (ValueError, OverflowError):
            return None
        return None


def consumer_of(journal: Path) -> str:
    """Return the id by which the executor of a journal identifies itself to the relay: created once, kept in a file next to it.

    The file is no part of a backup, so that a journal that is restored elsewhere makes another executor.

    Raises:
        OSError: It can be neither read nor written.
    """
    path = journal.with_name(journal.name + ".consumer")
    with contextlib.suppress(FileExistsError), open(path, "x", encoding="ascii", opener=_private) as file:
        file.write(new_id())
    found = path.read_text("ascii", "replace").strip()
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", found, re.ASCII):
        return found
    path.unlink()  # cut off in the middle of its writing, or written by somebody else
    return consumer_of(journal)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _detail(raw: bytes) -> str:
    """Return the words of a refusal, as far as they can be read."""
    with contextlib.suppress(MalformedSignal):
        found = strict_json.loads(raw)
        if isinstance(found, dict):
            return _words(found.get("detail"), _LONGEST_NOTICE)
    return ""


def _text(value: object) -> str:
    """Return text as it is, "" for anything else: a number, or a list of a million."""
    return value if isinstance(value, str) and not isinstance(value, strict_json.Number) else ""


def _words(value: object, longest: int) -> str:
    """Return a text or number from outside as it may be shown: cut to length, without control characters."""
    text = value[:longest] if isinstance(value, str) else ""
    return "".join(each if each.isprintable() else " " for each in text)


def _keys(secret: Secret) -> SigningKeys:
    return SigningKeys.parse(",".join(secret.items()))


def _notices(found: Any) -> tuple[Notice, ...]:
    """Return the notices of an answer. They are not signed: words to show, never anything to act on."""
    each = [notice for notice in found if isinstance(notice, dict)] if isinstance(found, list) else []
    return tuple(_notice(notice) for notice in each[:_MOST_NOTICES])


def _notice(found: dict[str, Any]) -> Notice:
    kind, symbol, at, id = (_words(found.get(name), _LONGEST_WORD) for name in ("kind", "symbol", "at", "id"))
    is_id = re.fullmatch(r"[0-9]{1,18}", id, re.ASCII)
    return Notice(kind, f"{symbol} {at}", symbol, _words(found.get("text"), _LONGEST_NOTICE), id if is_id else "")


def _mode(found: Any) -> str | None:
    """Return the relay's mode; None for an unknown one, which changes nothing."""
    return found if found in ("open", "paused", "close-only") else None


def _headers(headers: Any) -> dict[str, str]:
    found = headers if isinstance(headers, dict) else {}
    return {name: _text(found[name]) for name in HEADERS if name in found}


def _once_more(send: Callable[[], requests.Response]) -> requests.Response:
    """Send, and once more where the connection kept from last time turns out to be closed."""
    try:
        return send()
    except requests.ConnectionError:
        return send()


def _date(text: str) -> datetime:
    at = parsedate_to_datetime(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _seconds(text: str | None) -> float | None:
    return min(float(text), _LONGEST_PAUSE) if text and text.isascii() and text.isdigit() else None


def _why(error: requests.RequestException) -> str:
    """Return in a few words why a request failed; the library's own text is nested and long."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted (EXECUTOR_RELAY_CA names a private authority)"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    text = str(error)
    for sign, words in _SIGNS.items():
        if sign in text:
            return words
    return type(error).__name__


_SIGNS = {
    "refused": "nothing is listening there",
    "Name or service": "its name is not known",
    "getaddrinfo": "its name is not known",
    "NameResolution": "its name is not known",
    "unreachable": "the network is unreachable",
    "reset": "the connection was reset",
    "aborted": "it closed the connection",
    "RemoteDisconnected": "it closed the connection",
}
