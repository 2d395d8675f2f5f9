"""`put` tells its outcome once and in time, while nobody waits."""

from __future__ import annotations

import queue as queues
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from common.errors import DuplicateConflict, QueueUnavailable
from relay.pending import open_pending
from relay.pending.base import MaybeStored, NewSignal, Pending, outcome_of
from relay.pending.promise import Patience, Promise
from tests.pending.conftest import Opener
from tests.pending.examples import START, ids, signal, take


def later(queue: Pending, new: NewSignal) -> Any:
    """Return what is told about a signal."""
    return outcome_of(lambda told: queue.put(new, START, told))


def test_each_outcome_is_told_as_a_value(opener: Opener) -> None:
    queue = opener()
    first = signal(key="k", what=1)
    assert later(queue, first).id == first.id
    again = later(queue, signal(key="k", what=1))
    assert (again.id, again.duplicate) == (first.id, True)
    assert isinstance(later(queue, signal(key="k", what=2)), DuplicateConflict)
    assert ids(take(queue)) == [first.id]


def test_many_at_once_are_all_answered(opener: Opener) -> None:
    queue, told = opener(), queues.SimpleQueue[Any]()
    news = [signal(f"S{number % 5}") for number in range(200)]
    for new in news:
        queue.put(new, START, told.put)
    assert sorted(told.get(timeout=5).id for _ in news) == sorted(new.id for new in news)
    assert len(take(queue, limit=100)) == 100


def test_a_closed_queue_says_so(opener: Opener) -> None:
    queue = opener()
    queue.close()
    assert isinstance(later(queue, signal()), QueueUnavailable)


def test_behind_a_database_that_is_held_it_is_refused_in_time_and_not_stored(tmp_path: Path) -> None:
    queue = open_pending(f"sqlite:///{tmp_path / 'pending.db'}")
    queue.ready()
    holder = sqlite3.connect(tmp_path / "pending.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    told, began = queues.SimpleQueue[Any](), time.monotonic()
    for _ in range(3):  # the writer waits a second for each batch
        queue.put(signal(), START, told.put)
        time.sleep(0.05)
    answers = [told.get(timeout=5) for _ in range(3)]
    assert time.monotonic() - began < 2
    assert all(isinstance(each, QueueUnavailable) for each in answers)
    holder.rollback()
    assert take(queue) == []
    queue.close()
    holder.close()


@pytest.mark.parametrize(("sealed", "kind"), [(False, QueueUnavailable), (True, MaybeStored)])
def test_who_waits_too_long_is_told_once(sealed: bool, kind: type[Exception]) -> None:
    told: list[object] = []
    promise: Promise[object] = Promise("work", told.append)
    promise.until = 0
    if sealed:
        promise.seal()
    patience = Patience()
    patience.watch(promise)
    deadline = time.monotonic() + 5
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    promise.answer("too late")
    assert [type(each) for each in told] == [kind] and promise.withdrawn is not sealed
