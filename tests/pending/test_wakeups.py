"""A waiting poll learns of a signal at once: in the same process, in another one, and when the wake-up is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from common.clock import SystemClock
from relay.pending.base import Leased, Pending, Wish
from relay.pending.bell import RECHECK_SECONDS, Bell
from tests.pending.conftest import Opener
from tests.pending.examples import START, fill, signal, take
from tests.pending.patience import FOREVER, look_again_after


@pytest.fixture
def unwoken(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Polls that nobody wakes look again only when no test runs any more; return a function that says when."""
    look_again_after(monkeypatch, FOREVER)
    return lambda seconds: look_again_after(monkeypatch, seconds)


def wakes(queue: Pending, act: Callable[[], Any]) -> bool:
    """Return whether a poll that found nothing gets a signal by `act`."""
    woken, looked = threading.Event(), threading.Event()

    def look() -> bool:
        looked.set()
        return True

    def poll() -> None:
        while not queue.take(Wish(10, 10, lambda: START, FOREVER, look)):
            pass
        woken.set()

    threading.Thread(target=poll, daemon=True).start()
    assert looked.wait(50)
    act()
    return woken.wait(50)


@pytest.mark.usefixtures("unwoken")
def test_a_put_wakes_a_poll_of_the_same_process(opener: Opener) -> None:
    queue = opener()
    assert wakes(queue, lambda: fill(queue, "EURUSD"))


@pytest.mark.usefixtures("unwoken")
def test_a_put_wakes_a_poll_of_another_instance(opener: Opener, eventually: Any) -> None:
    queue, other = opener(), opener()
    eventually(lambda: queue.ready().wakeups in ("notify", "in-process"))
    assert wakes(queue, lambda: fill(other, "EURUSD"))


@pytest.mark.usefixtures("unwoken")
def test_a_nack_and_the_end_of_its_retry_wake_a_poll(opener: Opener) -> None:
    queue = opener()
    fill(queue, "EURUSD")
    (leased,) = take(queue)
    assert wakes(queue, lambda: queue.nack(leased.id, leased.lease, "no", 0, START))


@pytest.mark.usefixtures("unwoken")
def test_going_on_after_a_pause_wakes_a_poll(opener: Opener) -> None:
    queue = opener()
    queue.set_mode("paused")
    fill(queue, "EURUSD")
    assert wakes(queue, lambda: queue.set_mode("open"))


def test_what_arrives_between_the_look_and_the_wait_is_not_missed() -> None:
    bell, woken = Bell(), threading.Event()
    seen = bell.look()
    bell.ring()
    bell.wait(seen, 5, woken.set)
    assert woken.is_set()


def test_without_any_wake_up_the_poll_looks_again(opener: Opener, unwoken: Callable[[float], None]) -> None:
    """Within the second of RECHECK_SECONDS, here a third of it, although it would wait for ten minutes."""
    assert RECHECK_SECONDS == 1
    unwoken(0.3)
    queue = opener()
    take(queue)
    for _ in range(2):  # the opening may have rung
        began = time.monotonic()
        assert queue.take(Wish(10, 10, lambda: START, FOREVER, lambda: True)) == []
    assert time.monotonic() - began > 0.2


@pytest.mark.usefixtures("unwoken")
def test_a_wait_that_is_over_brings_nothing(opener: Opener) -> None:
    queue = opener()
    take(queue)
    assert poll(queue, 0.2) == []


@pytest.mark.parametrize("engine", ["sqlite"])
def test_other_processes_are_watched_only_while_somebody_waits(opener: Opener, eventually: Any) -> None:
    queue: Any = opener()
    take(queue)
    assert queue._writer._idle_seconds() is None
    here = threading.Event()
    here.set()
    told = waiting(queue, here.is_set)
    assert 0 < eventually(queue._writer._idle_seconds) <= 0.05
    here.clear()
    assert told.get(timeout=50) == []
    eventually(lambda: queue._writer._idle_seconds() is None)


def test_a_poll_that_waits_gets_what_is_put(opener: Opener) -> None:
    queue, found = opener(), list[Leased]()
    thread = threading.Thread(target=lambda: found.extend(poll(queue, 50)))
    thread.start()
    (id,) = fill(queue, "EURUSD")
    thread.join(50)
    assert [(one.id, one.attempt) for one in found] == [(id, 1)] and poll(queue, 0) == []


def test_a_poll_whose_client_is_gone_takes_nothing(opener: Opener) -> None:
    queue = opener()
    fill(queue, "EURUSD")
    assert queue.take(Wish(10, 30, SystemClock().now, 30, lambda: False)) == []
    assert len(poll(queue, 0)) == 1


def test_of_two_polls_one_gets_the_signal_and_the_other_waits_on(
    opener: Opener, eventually: Any, unwoken: Callable[[float], None]
) -> None:
    unwoken(0.1)
    queue, found, here = opener(), list[Leased](), threading.Event()
    here.set()
    threads = [threading.Thread(target=lambda: found.extend(poll(queue, 50, here.is_set))) for _ in range(2)]
    for thread in threads:
        thread.start()
    fill(queue, "EURUSD")
    eventually(lambda: len(found) == 1)
    eventually(lambda: sum(thread.is_alive() for thread in threads) == 1)
    here.clear()
    for thread in threads:
        thread.join(50)
    assert len(found) == 1


def test_a_poll_that_waits_gets_what_a_lease_that_ran_out_held(opener: Opener) -> None:
    queue, clock = opener(), SystemClock()
    fill(queue, "EURUSD")
    take(queue, clock.now(), seconds=0.3)
    assert [one.attempt for one in poll(queue, 50)] == [2]


def waiting(queue: Pending, is_wanted: Callable[[], bool] = lambda: True) -> SimpleQueue[Any]:
    """Hand a poll in that waits; return where it is told. It has looked at the queue, and found nothing."""
    told, looked = SimpleQueue[Any](), threading.Event()

    def look() -> bool:
        looked.set()
        return is_wanted()

    queue.poll(Wish(10, 30, SystemClock().now, 30, look), told.put)
    assert looked.wait(50)
    return told


@pytest.mark.parametrize("engine", ["sqlite"])  # the other one stores and delivers in transactions of their own
def test_a_poll_gets_a_signal_that_comes_into_the_same_commit(opener: Opener) -> None:
    """Whichever was handed in first. Else it would wait beside a signal until the next one comes."""
    queue: Any = opener()
    take(queue)
    for number, put_first in enumerate((True, False, False)):
        told, stored = SimpleQueue[Any](), SimpleQueue[Any]()
        begun, gate = threading.Event(), threading.Event()
        queue._begin(lambda ledger, begun=begun, gate=gate: begun.set() or gate.wait(50), stored.put)
        assert begun.wait(50)
        acts = [
            lambda told=told: queue.poll(Wish(10, 30, SystemClock().now, 30, lambda: True), told.put),
            lambda stored=stored, number=number: queue.put(signal(f"S{number}"), START, stored.put),
        ]
        for act in reversed(acts) if put_first else acts:
            act()
        gate.set()
        assert [one.attempt for one in told.get(timeout=50)] == [1]


def test_polls_that_wait_hold_no_thread_and_are_told_nothing_in_the_end(
    opener: Opener, unwoken: Callable[[float], None]
) -> None:
    unwoken(0.5)
    queue = opener()
    first = waiting(queue)
    before = threading.active_count()
    more = [waiting(queue) for _ in range(20)]
    assert threading.active_count() <= before + 8  # those of the queue itself, whatever their number
    assert [each.get(timeout=50) for each in (first, *more)] == [[]] * 21


def test_a_poll_whose_client_leaves_while_it_waits_is_over_and_takes_nothing(opener: Opener) -> None:
    queue, here = opener(), threading.Event()
    here.set()
    told = waiting(queue, here.is_set)
    here.clear()
    fill(queue, "EURUSD")
    assert told.get(timeout=50) == []
    assert [one.attempt for one in poll(queue, 0)] == [1]


@pytest.mark.usefixtures("unwoken")
def test_a_queue_that_closes_leaves_no_poll_waiting(opener: Opener) -> None:
    queue = opener()
    told = waiting(queue)
    queue.close()
    assert told.get(timeout=50) == []


def poll(queue: Pending, seconds: float, is_wanted: Callable[[], bool] = lambda: True) -> list[Leased]:
    """Poll as the relay does, by the real clock."""
    clock = SystemClock()
    until = clock.monotonic() + seconds
    while True:
        left = max(0.0, until - clock.monotonic())
        found = queue.take(Wish(10, 30, clock.now, left, is_wanted))
        if found or not left or not is_wanted():
            return found
