"""One kind of thing in the book, by key: changed at once, written on commit, rolled back if the commit fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Shelf(Generic[K, V]):
    """One kind of thing in the book, by key, with its values from before the current change."""

    def __init__(
        self, key: Callable[[V], K], save: Callable[[V | None, V | None], None],
        moved: Callable[[V | None, V | None], None] = lambda before, after: None,
    ) -> None:  # fmt: skip
        """Args:
        key: of a thing, its key.
        save: writes a thing's old and new value to the journal; None: it does not exist.
        moved: is called for every change, so that an index can follow.
        """
        self._now: dict[K, V] = {}
        self._before: dict[K, V | None] = {}
        self._key, self._save, self._moved = key, save, moved

    def load(self, values: Iterable[V]) -> None:
        """Load the journal's rows; this is not a change."""
        for value in values:
            self._now[self._key(value)] = value
            self._moved(None, value)

    def get(self, key: K) -> V | None:
        return self._now.get(key)

    def values(self) -> list[V]:
        return list(self._now.values())

    def put(self, value: V) -> None:
        """Change one thing, or add it."""
        self._change(self._key(value), value)

    def take_off(self, key: K) -> None:
        """Remove one thing."""
        if key in self._now:
            self._change(key, None)

    def _change(self, key: K, value: V | None) -> None:
        before = self._now.get(key)
        self._before.setdefault(key, before)
        self._set(key, before, value)

    def forget(self, key: K) -> None:
        """Forget what the journal keeps; this is not a change."""
        self._set(key, self._now.get(key), None)

    def _set(self, key: K, before: V | None, value: V | None) -> None:
        if value is None:
            self._now.pop(key, None)
        else:
            self._now[key] = value
        self._moved(before, value)

    def save(self) -> None:
        """Write the changes, in the order of the first change."""
        for key, before in self._before.items():
            after = self._now.get(key)
            if before is not after and before != after:
                self._save(before, after)

    def changed(self) -> list[V]:
        """Return what has changed and still exists."""
        return [self._now[key] for key in self._before if key in self._now]

    def settle(self) -> None:
        """Note that the change is committed."""
        self._before.clear()

    def take_back(self) -> None:
        """Roll the change back: everything is as it was before."""
        for key, before in self._before.items():
            self._set(key, self._now.get(key), before)
        self._before.clear()
