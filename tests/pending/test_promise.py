"""`put` tells its outcome once and in time, while nobody waits."""

from __future__ import annotations

import queue as queues
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from common.clock import FakeClock
from common.errors import DuplicateConflict, QueueUnavailable
from relay.pending import open_pending
from relay.pending.base import PUT_SECONDS, MaybeStored, NewSignal, Pending, outcome_of
from relay.pending.promise import LOOK_SECONDS, PATIENCE_SECONDS, Patience, Promise
from tests.pending.conftest import Opener
from tests.pending.examples import START, ids, signal, take
from tests.pending.patience import be_patient, hold_lock_for


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
    assert sorted(told.get(timeout=50).id for _ in news) == sorted(new.id for new in news)
    assert len(take(queue, limit=100)) == 100


def test_a_closed_queue_says_so(opener: Opener) -> None:
    queue = opener()
    queue.close()
    assert isinstance(later(queue, signal()), QueueUnavailable)


@pytest.mark.usefixtures("hurry")
def test_behind_a_database_that_is_held_it_is_refused_and_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer itself waits as long as the lock is held: it is others that tell."""
    hold_lock_for(monkeypatch, 600)
    queue = open_pending(f"sqlite:///{tmp_path / 'pending.db'}")
    queue.ready()
    holder = sqlite3.connect(tmp_path / "pending.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    told = queues.SimpleQueue[Any]()
    for _ in range(3):
        queue.put(signal(), START, told.put)
    answers = [told.get(timeout=50) for _ in range(3)]
    assert all(isinstance(each, QueueUnavailable) for each in answers)
    holder.rollback()
    be_patient(monkeypatch)
    assert take(queue) == []
    queue.close()
    holder.close()


@pytest.mark.parametrize("late", [0.0, 0.2, 0.5, 0.8, 1.0])  # of a look, how far the first is from the promise
@pytest.mark.parametrize(("sealed", "kind"), [(False, QueueUnavailable), (True, MaybeStored)])
def test_who_waits_too_long_is_told_once_and_in_time(
    sealed: bool, kind: type[Exception], late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, told = FakeClock(START), list[object]()
    monkeypatch.setattr("relay.pending.promise._clock", clock)
    promise: Promise[object] = Promise("work", told.append)
    if sealed:
        promise.seal()
    patience = Patience()
    patience._open.append(promise)
    clock.advance(late * LOOK_SECONDS)
    while not told:
        patience.look()
        clock.advance(LOOK_SECONDS)
    assert PATIENCE_SECONDS < clock.monotonic() <= PUT_SECONDS + LOOK_SECONDS < 2, "so soon a sender must be answered"
    promise.answer("too late")
    patience.look()
    assert [type(each) for each in told] == [kind] and promise.withdrawn is not sealed


def test_a_thread_looks_after_who_waits() -> None:
    told = queues.SimpleQueue[object]()
    Patience().watch(Promise("work", told.put, seconds=0))
    assert isinstance(told.get(timeout=50), QueueUnavailable)
