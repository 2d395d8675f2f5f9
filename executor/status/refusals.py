"""How the page says no: a page for people, problem+json (RFC 9457) for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response, json, render_template, request
from werkzeug.exceptions import HTTPException

from common.errors import BridgeError
from common.logs import get_logger

log = get_logger(__name__)


class Refusal(BridgeError):
    """A request cannot be served: the status, a stable code, a title and what to do."""

    code = "refused"

    def __init__(self, status: int, kind: str, title: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail = status, kind, title, detail
        self.retry_after = retry_after


def wants_json() -> bool:
    """Whether a program asks: under /api, or one that names JSON before HTML."""
    if request.path.startswith(("/api/", "/metrics", "/healthz", "/webhook")):
        return True
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def answer(refusal: Refusal) -> Response:
    """Return the refusal as a response in the form that the asker reads."""
    body: dict[str, Any] = {"type": "about:blank", "title": refusal.title, "status": refusal.status,
                            "code": refusal.kind, "detail": refusal.detail}  # fmt: skip
    if wants_json():
        response = Response(json.dumps(body), refusal.status, content_type="application/problem+json")
    else:
        template = "login.html" if refusal.kind in ("login-required", "too-many-guesses") else "error.html"
        response = Response(render_template(template, refusal=refusal), refusal.status)
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
    """Return the refusal for an error of ours; the log has where it happened, the reader does not."""
    log.exception("page_failed", path=request.path, error=type(error).__name__)
    return Refusal(
        500, "internal", "The page could not be made", "the executor's log says why; trading is not affected"
    )
