"""Every refusal of the relay: RFC 9457 problem details with a stable code, from one table.

`answer` is the one translator. A code never changes its meaning; docs/reference/http-api.md lists them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.errors import AnotherConsumer, BridgeError, MalformedSignal, Problem, SignalError
from common.logs import get_logger, scrub

log = get_logger(__name__)
RETRY_SECONDS = 5  # what a sender is asked to wait when nothing could be stored
# On every answer of the relay.
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of codes."""

    status: int
    title: str
    remedy: str  # what the caller should do; shown in the documentation


# code -> what it means
PROBLEMS: dict[str, Kind] = {
    "malformed": Kind(400, "The body is not valid", "Fix every listed field."),
    "unauthorized": Kind(
        401,
        "No valid credential",
        "Present one of the configured secrets or tokens, whole, in plain quotation marks, in the place of the "
        "example's placeholder.",
    ),
    "address-refused": Kind(403, "This address may not post alerts", "Add it to RELAY_ALLOWED_ADDRESSES."),
    "not-found": Kind(404, "There is nothing at this path", "See /openapi.json."),
    "method-not-allowed": Kind(405, "This path does not take this method", "See the Allow header."),
    "duplicate-conflict": Kind(409, "This id was used for another signal", "Use a new id for a new signal."),
    "lease-lost": Kind(409, "The lease is no longer yours", "Do not act on it; poll again."),
    "another-consumer": Kind(409, "Another executor fetches from this queue", "Run one executor only."),
    "length-required": Kind(411, "The body's length is missing", "Send Content-Length."),
    "too-large": Kind(413, "The body is too large", "Send at most 16 KiB."),
    "too-many-failures": Kind(429, "Too many wrong credentials", "Wait, then send a right one."),
    "internal": Kind(500, "The relay failed", "Check its log; a retried alert is accepted once."),
    "queue-full": Kind(503, "Too many signals are waiting", "Start the executor, or purge; then send again."),
    "queue-unavailable": Kind(503, "The queue cannot be reached", "Nothing was stored; send again."),
    "bad-request": Kind(400, "The request is not valid HTTP", "Send a well-formed request."),
    "header-too-large": Kind(431, "The headers are too large", "Send shorter headers."),
    "uri-too-long": Kind(414, "The path is too long", "Send a shorter path."),
    "expectation-failed": Kind(417, "The expectation cannot be met", "Send no Expect header."),
}
_RETRY = {"Retry-After": str(RETRY_SECONDS)}
_CLOSE = {"Connection": "close"}  # where the next request begins is not known
# code -> headers beside those of every answer
_MORE_HEADERS = {
    "unauthorized": {"WWW-Authenticate": "Bearer"},
    **dict.fromkeys(
        ("bad-request", "too-large", "header-too-large", "uri-too-long", "expectation-failed"), _CLOSE
    ),
    "queue-full": _RETRY, "queue-unavailable": _RETRY,
}  # fmt: skip


class TooManyFailures(SignalError):
    """An address sent more than 60 wrong credentials within a minute."""

    code = "too-many-failures"
    status = 429

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__("too many wrong credentials from this address")


class AddressRefused(SignalError):
    """The address filter is on and the sender's address is not in it."""

    code = "address-refused"
    status = 403


class RequestRefused(SignalError):
    """A request that is refused before its sender is checked; `code` is one from the table."""

    def __init__(self, code: str, message: str = "") -> None:
        self.code = code  # type: ignore[misc]  # of this one, not of the class
        super().__init__(message or PROBLEMS[code].remedy)


class NoSuchMethod(RequestRefused):
    """The path exists and does not take the method; `allowed` are those that it takes."""

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__("method-not-allowed")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)  # beside those of every answer

    @property
    def lines(self) -> dict[str, str]:
        """Return all headers of the answer, its length among them."""
        return {**HEADERS, "Content-Type": self.kind, "Content-Length": str(len(self.body)), **self.headers}


_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def reply(status: int, value: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON answer."""
    return Answer(status, _COMPACT.encode(value).encode("utf-8"), "application/json", headers or {})


def problem(
    code: str,
    detail: str = "",
    problems: list[Problem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return the answer for a code of the table."""
    kind = PROBLEMS[code]
    value: dict[str, object] = {
        "type": f"urn:signal-relay:problem:{code}", "title": kind.title, "status": kind.status, "code": code,
        "detail": detail or kind.remedy,
    }  # fmt: skip
    if problems is not None:
        value["problems"] = [{"field": each.field, "message": each.message} for each in problems]
    body = scrub(json.dumps(value, separators=(",", ":"))).encode("utf-8")
    return Answer(kind.status, body, "application/problem+json", {**_MORE_HEADERS.get(code, {}), **(headers or {})})


def code_of(error: Exception) -> str:
    """Return the code that an error is answered with."""
    return error.code if isinstance(error, BridgeError) and error.code in PROBLEMS else "internal"


def answer(error: Exception) -> Answer:
    """Translate any error into the answer that its sender gets."""
    code = code_of(error)
    if code == "internal":
        log.exception("request_failed")
    if isinstance(error, MalformedSignal):
        return problem(code, "Every problem is listed in `problems`.", error.problems)
    return problem(code, _detail(error, code), None, _extra_headers(error))


def _detail(error: Exception, code: str) -> str:
    """Return what may be disclosed: nothing about a credential, nothing about the machine inside."""
    return str(error) if code in ("duplicate-conflict", "another-consumer", "length-required") else ""


def _extra_headers(error: Exception) -> dict[str, str]:
    if isinstance(error, TooManyFailures | AnotherConsumer):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, NoSuchMethod):
        return {"Allow": ", ".join(sorted(error.allowed))}
    return {}
