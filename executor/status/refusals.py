"""How the page refuses: a page for people, problem+json (RFC 9457) for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response, json, request
from werkzeug.exceptions import HTTPException

from common.errors import BridgeError

from . import plain
from .faults import asked_for, current_faults
from .rendering import render


class Refusal(BridgeError):
    """A request cannot be served: the status, a stable code, a title and what to do."""

    code = "refused"

    def __init__(self, status: int, kind: str, title: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail = status, kind, title, detail
        self.retry_after = retry_after


def wants_json() -> bool:
    """True if the client is a program: under /api, or one that prefers JSON to HTML."""
    if request.path.startswith(("/api/", "/metrics", "/healthz", "/webhook")):
        return True
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def answer(refusal: Refusal) -> Response:
    """Return the refusal as a response in the format that the client reads."""
    body: dict[str, Any] = {"type": "about:blank", "title": refusal.title, "status": refusal.status,
                            "code": refusal.kind, "detail": refusal.detail}  # fmt: skip
    if wants_json():
        response = Response(json.dumps(body), refusal.status, content_type="application/problem+json")
    else:
        is_login = refusal.kind in ("login-required", "too-many-guesses")
        template, bare = ("login.html", plain.login) if is_login else ("error.html", plain.notice)
        html = render(template, lambda: bare(refusal.title, refusal.detail), refusal=refusal)
        response = Response(html, refusal.status)
    if refusal.retry_after:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def from_http(error: HTTPException) -> Refusal:
    """Return the refusal for what the web framework itself refuses: no such page, wrong method, ..."""
    status = error.code or 500
    name = HTTPStatus(status).phrase
    detail = (
        "the page is at /" if status == HTTPStatus.NOT_FOUND else f"{name.lower()} for {request.method} {request.path}"
    )
    return Refusal(status, name.lower().replace(" ", "-"), name, detail)


def from_bug(error: Exception) -> Refusal:
    """Return the refusal for a bug of ours, which is logged and raises an alarm; the log has the location."""
    is_press = request.method == "POST"
    current_faults().failed(asked_for(), error, is_press=is_press)
    if is_press:
        return Refusal(500, "internal", "The button failed",
                       "it may have acted all the same: check the trade log before you press it again; "
                       "the executor's log says why")  # fmt: skip
    return Refusal(
        500, "internal", "The page could not be rendered", "the executor's log says why; trading is not affected"
    )
