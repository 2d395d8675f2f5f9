"""A request that is all here, and how its endpoint waits for the queue: the same code under either kind of server.

An endpoint is a coroutine. In the event loop it is suspended until the queue tells its outcome; under a WSGI server
(AWS Lambda, the tests) the caller's thread waits, and nothing is ever suspended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from relay.pending.base import Told, outcome_of

Outcome = TypeVar("Outcome")
Call = Callable[[Told], None]  # the queue's work; it tells its outcome, or an error as a value
Wait = Callable[[Call], Awaitable[Any]]  # begins such a work and waits for what it tells


@dataclass(frozen=True, slots=True)
class Request:
    """A request of which everything has arrived: whichever server took it."""

    headers: Mapping[str, str]  # names in lower case
    body: bytes
    address: str  # the sender's, "" if unknown
    path: str
    path_secret: str | None = None


async def result_of(wait: Wait, call: Call) -> Any:
    """Return what the queue tells; an error that comes as a value is raised."""
    outcome = await wait(call)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def blocking(call: Call) -> Any:
    """Begin a work of the queue and wait for it in this thread: nothing here is ever suspended."""
    return outcome_of(call)


def to_the_end(steps: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run what is never suspended; return its result."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: Outcome = end.value
        return result
    raise RuntimeError("it waits for an event loop")
