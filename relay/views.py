"""What the views of Flask share: an answer in Flask's form, and who may ask."""

from __future__ import annotations

from flask import Response, request

from relay.context import Relay, bearer
from relay.problems import Answer, RequestRefused


def response(answer: Answer) -> Response:
    """Return an answer as Flask gives it."""
    return Response(answer.body, answer.status, answer.lines)


def body() -> bytes:
    """Return the request's whole body.

    Raises:
        RequestRefused: Nothing says how long it is.
    """
    if request.content_length is None and "wsgi.input_terminated" not in request.environ:
        raise RequestRefused("length-required")
    return request.get_data()


def require_executor(relay: Relay) -> None:
    """Raise UnauthenticSignal or TooManyFailures unless the request carries an executor's token."""
    if not relay.credentials.is_executor(bearer(request.headers.get("Authorization"))):
        raise relay.unauthentic(request.remote_addr or "", request.path)
