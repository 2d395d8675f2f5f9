"""What was made before and is asked for again: not made again while what it is made of is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Kept:
    """What was made, by a key, with what it was made of. For one thread at a time."""

    def __init__(self) -> None:
        self._before: dict[object, tuple[object, Any]] = {}
        self._now: dict[object, tuple[object, Any]] = {}

    def of(self, key: object, source: object, make: Callable[[], T]) -> T:
        """Return what `make` makes of a source, or made of an equal one when it was last asked for `key`."""
        known = self._before.get(key)
        if known is None or known[0] != source:
            known = source, make()
        self._now[key] = known
        made: T = known[1]
        return made

    def settle(self) -> None:
        """A round is over: let go of what it did not ask for."""
        self._before, self._now = self._now, {}
