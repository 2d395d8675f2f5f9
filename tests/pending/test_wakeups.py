"""A waiting poll learns of a signal at once: in the same process, in another one, and when the wake-up is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from common.clock import SystemClock
from relay.pending.base import Leased, Pending
from tests.pending.conftest import Opener
from tests.pending.examples import START, acks, fill, take
from tests.timing import in_time


def wakes(waiting: Pending, act: Callable[[], Any], timeout: float = 30) -> None:
    """Hold that `act` soon makes a thread that found nothing look again."""
    woken: list[bool] = []
    asleep = threading.Event()

    def poll() -> None:
        while not take(waiting):
            asleep.set()
            waiting.wait(timeout)
        woken.append(True)

    thread = threading.Thread(target=poll)
    thread.start()
    assert asleep.wait(timeout)
    with in_time(0.5):
        act()
        thread.join(timeout)
    assert woken, "the poll was not woken"


def test_a_put_wakes_a_poll_of_the_same_process(opener: Opener) -> None:
    queue = opener()
    wakes(queue, lambda: fill(queue, "EURUSD"))


def test_a_put_wakes_a_poll_of_another_instance(opener: Opener, eventually: Any) -> None:
    waiting, other = opener(), opener()
    eventually(lambda: waiting.ready().wakeups in ("notify", "in-process"))
    wakes(waiting, lambda: fill(other, "EURUSD"))


def test_a_nack_and_the_end_of_its_retry_wake_a_poll(opener: Opener) -> None:
    queue = opener()
    fill(queue, "EURUSD")
    (leased,) = take(queue)
    wakes(queue, lambda: queue.nack(leased.id, leased.lease, "no", 0, START))


def test_going_on_after_a_pause_wakes_a_poll(opener: Opener) -> None:
    queue = opener()
    queue.set_mode("paused")
    fill(queue, "EURUSD")
    wakes(queue, lambda: queue.set_mode("open"))


def test_what_arrives_between_the_look_and_the_wait_is_not_missed(opener: Opener) -> None:
    queue = opener()
    assert take(queue) == []
    fill(queue, "EURUSD")
    with in_time(0.5):
        assert queue.wait(30)


def test_without_any_wake_up_the_poll_looks_again_within_a_second(opener: Opener) -> None:
    queue = opener()
    take(queue)
    queue.wait(0.2)  # whatever the opening rang
    take(queue)
    began = time.monotonic()
    with in_time(1.5):
        assert queue.wait(30)
    assert time.monotonic() - began > 0.2


def test_the_wait_ends_when_a_lease_does(opener: Opener) -> None:
    queue = opener()
    fill(queue, "EURUSD")
    take(queue, seconds=0.3)
    while queue.wait(0.05):  # the put and the opening rang
        assert take(queue) == []
    take(queue)
    began = time.monotonic()
    with in_time(0.9):
        assert queue.wait(30)
    assert time.monotonic() - began > 0.2


def test_a_wait_that_is_over_says_no(opener: Opener) -> None:
    queue = opener()
    fill(queue, "EURUSD")
    queue.ack(acks(take(queue)), START)
    take(queue)
    while queue.wait(0.1):
        take(queue)
    assert not queue.wait(0)


@pytest.mark.parametrize("engine", ["sqlite"])
def test_other_processes_are_watched_only_while_somebody_waits(opener: Opener, eventually: Any) -> None:
    queue: Any = opener()
    take(queue)
    assert queue._writer._idle_seconds() is None
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            queue.wait(0.3)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        assert eventually(queue._writer._idle_seconds) <= 0.05
    finally:
        over.set()
        thread.join()


def test_a_poll_that_waits_gets_what_is_put(opener: Opener) -> None:
    queue, found = opener(), list[Leased]()
    thread = threading.Thread(target=lambda: found.extend(poll(queue, 5)))
    thread.start()
    (id,) = fill(queue, "EURUSD")
    thread.join(5)
    assert [(one.id, one.attempt) for one in found] == [(id, 1)] and poll(queue, 0) == []


def test_a_poll_whose_client_is_gone_takes_nothing(opener: Opener) -> None:
    queue = opener()
    thread = threading.Thread(target=lambda: poll(queue, 1, is_wanted=lambda: False))
    thread.start()
    fill(queue, "EURUSD")
    thread.join(5)
    assert len(poll(queue, 0)) == 1


def test_of_two_polls_one_gets_the_signal_and_the_other_waits_on(opener: Opener) -> None:
    queue, found = opener(), list[Leased]()
    threads = [threading.Thread(target=lambda: found.extend(poll(queue, 2))) for _ in range(2)]
    for thread in threads:
        thread.start()
    fill(queue, "EURUSD")
    for thread in threads:
        thread.join(5)
    assert len(found) == 1


def test_a_poll_that_waits_gets_what_a_lease_that_ran_out_held(opener: Opener) -> None:
    queue, clock = opener(), SystemClock()
    fill(queue, "EURUSD")
    queue.lease(10, 0.3, clock.now())
    assert [one.attempt for one in poll(queue, 5)] == [2]


def poll(queue: Pending, seconds: float, is_wanted: Callable[[], bool] = lambda: True) -> list[Leased]:
    """Poll as the relay does, by the real clock."""
    clock = SystemClock()
    until = clock.monotonic() + seconds
    while True:
        left = max(0.0, until - clock.monotonic())
        found = queue.take(10, 30, clock.now, left, is_wanted)
        if found or not left:
            return found
