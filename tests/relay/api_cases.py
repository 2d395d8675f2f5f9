"""What a request of schemathesis must have to be let in.

Each comes from an address of its own (the relay is told that there is a proxy), since many wrong credentials from one
address are slowed down; a poll does not wait; the right secret is added where the description says that there is one.
"""

from __future__ import annotations

import itertools
from typing import Any

from tests.relay.examples import SECRET, TOKEN

_numbers = itertools.count(1)


def address() -> str:
    """Return an address that was not used before."""
    number = next(_numbers)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def credential(path: str) -> str:
    return SECRET if path.startswith("/webhook") else TOKEN


def prepare(case: Any) -> None:
    """Give a request its address, the path its secret; make a valid poll answer at once."""
    case.headers["X-Forwarded-For"] = address()
    if "secret" in (case.path_parameters or {}):
        case.path_parameters["secret"] = SECRET
    if case.operation.path == "/v1/lease" and isinstance(case.body, dict):
        wait = case.body.get("wait_seconds", 20)
        if isinstance(wait, int | float) and not isinstance(wait, bool) and 0 < wait <= 55:
            case.body["wait_seconds"] = 0
