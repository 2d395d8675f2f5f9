"""What the views of Flask share: a request and an answer in Flask's form, and who may ask."""

from __future__ import annotations

from flask import Response, request

from relay.calls import Request
from relay.context import Relay
from relay.problems import Answer, RequestRefused


def response(answer: Answer) -> Response:
    """Return an answer as Flask gives it."""
    return Response(answer.body, answer.status, answer.lines)


def whole_request(path_secret: str | None = None) -> Request:
    """Return the present request with all of its body.

    Raises:
        RequestRefused: Nothing says how long it is.
    """
    if request.content_length is None and "wsgi.input_terminated" not in request.environ:
        raise RequestRefused("length-required")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(headers, request.get_data(), request.remote_addr or "", request.path, path_secret)


def require_executor(relay: Relay) -> None:
    """Raise UnauthenticSignal or TooManyFailures unless the request carries an executor's token."""
    relay.require_executor(request.headers.get("Authorization"), request.remote_addr or "", request.path)
