"""Reading a request's body: bounded, chunked or not, never silently cut."""

from __future__ import annotations

from typing import Any

from common.errors import MalformedSignal, SignalTooLarge
from relay.problems import BadFraming, LengthRequired

MAX_BODY_BYTES = 16 * 1024


def read_body(environ: dict[str, Any]) -> bytes:
    """Return the whole body.

    Raises:
        SignalTooLarge: It is longer than 16 KiB, whatever its Content-Length says.
        LengthRequired: Neither Content-Length nor chunks say where it ends.
        MalformedSignal: It ended before its Content-Length.
        BadFraming: Its chunks are out of form.
    """
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        return _of_length(environ, int(declared))
    if not environ.get("wsgi.input_terminated"):
        raise LengthRequired("send Content-Length")
    if "HTTP_TRANSFER_ENCODING" not in environ:
        raise LengthRequired("send Content-Length")
    try:
        body = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
    except Exception as exc:  # each server has its own exceptions for this
        raise BadFraming("the chunks of the body are out of form") from exc
    return _bounded(body)


def _of_length(environ: dict[str, Any], length: int) -> bytes:
    if length > MAX_BODY_BYTES:
        raise SignalTooLarge(f"at most {MAX_BODY_BYTES} bytes, was {length}")
    body = _bounded(environ["wsgi.input"].read(length))
    if len(body) != length:
        raise MalformedSignal(f"the body ended after {len(body)} of {length} bytes")
    return body


def _bounded(body: bytes) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise SignalTooLarge(f"at most {MAX_BODY_BYTES} bytes")
    return body
