"""One kind of thing in the book, by key: changed at once, written when that is committed, taken back when it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Shelf(Generic[K, V]):
    """One kind of thing in the book, by key, with what it was before the change that is being made."""

    def __init__(
        self, key: Callable[[V], K], save: Callable[[V | None, V | None], None],
        moved: Callable[[V | None, V | None], None] = lambda before, after: None,
    ) -> None:  # fmt: skip
        """Args:
        key: of a thing, its key.
        save: writes into the journal what a thing was and what it is; None: it is not there.
        moved: hears of every change, so that an index follows it.
        """
        self._now: dict[K, V] = {}
        self._before: dict[K, V | None] = {}
        self._key, self._save, self._moved = key, save, moved

    def load(self, values: Iterable[V]) -> None:
        """Take in what the journal holds; it is no change."""
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
        """One thing is there no longer."""
        if key in self._now:
            self._change(key, None)

    def _change(self, key: K, value: V | None) -> None:
        before = self._now.get(key)
        self._before.setdefault(key, before)
        self._set(key, before, value)

    def forget(self, key: K) -> None:
        """Let go of what the journal keeps; it is no change."""
        self._set(key, self._now.get(key), None)

    def _set(self, key: K, before: V | None, value: V | None) -> None:
        if value is None:
            self._now.pop(key, None)
        else:
            self._now[key] = value
        self._moved(before, value)

    def save(self) -> None:
        """Write what is changed, in the order of the first change."""
        for key, before in self._before.items():
            after = self._now.get(key)
            if before is not after and before != after:
                self._save(before, after)

    def changed(self) -> list[V]:
        """Return what is changed and still there."""
        return [self._now[key] for key in self._before if key in self._now]

    def settle(self) -> None:
        """What was changed is committed."""
        self._before.clear()

    def take_back(self) -> None:
        """What was changed was not committed: everything is as it was."""
        for key, before in self._before.items():
            self._set(key, self._now.get(key), before)
        self._before.clear()
