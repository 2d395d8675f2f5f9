"""A lease belongs to the consumer that took it, on both engines: also over a restart, and through every mode."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from common.errors import AnotherConsumer
from relay.pending import rules
from relay.pending.base import Consumer, Leased, Pending, Wish, outcome_of
from tests.pending.conftest import Opener
from tests.pending.examples import START, acks, at, fill, ids, take

SILENCE = timedelta(seconds=120)


def ask(queue: Pending, name: str = "home", seconds: float = 0, *, limit: int = 10, lease: float = 10) -> list[Leased]:
    """Poll as a consumer, so many seconds after the start."""
    return queue.take(Wish(limit, lease, lambda: at(seconds), 0, lambda: True, Consumer(name, SILENCE)))


def test_the_same_leases_are_given_again_until_they_end(queue: Any) -> None:
    put = fill(queue, "EURUSD", "GBPUSD", "EURUSD")
    first = ask(queue)
    assert ids(first) == put
    for seconds in (0, 1, 9.9):
        assert ask(queue, seconds=seconds) == first
    assert ids(ask(queue, seconds=9, limit=2)) == put[:2]
    late = ask(queue, seconds=11)
    assert [one.attempt for one in late] == [2, 2, 2] and {one.lease for one in late}.isdisjoint({first[0].lease})


def test_lost_answers_alone_make_no_dead_letter(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    for _ in range(50):
        ask(queue)
    assert queue.dead(10) == [] and queue.ack(acks(ask(queue)), START).acked == [id]


def test_what_is_new_comes_after_what_was_lost(queue: Any) -> None:
    (old,) = fill(queue, "EURUSD")
    lost = ask(queue)
    (new,) = fill(queue, "GBPUSD")
    assert ids(ask(queue)) == [old]
    queue.ack(acks(lost), START)
    assert ids(ask(queue)) == [new]


def test_what_is_acked_or_given_back_is_held_no_more(queue: Any) -> None:
    fill(queue, "EURUSD", "GBPUSD")
    one, other = ask(queue)
    queue.ack([(one.id, one.lease)], START)
    assert queue.nack(other.id, other.lease, "later", 60, START)
    assert ask(queue) == []
    (again,) = ask(queue, seconds=61)
    assert (again.id, again.attempt) == (other.id, 2)


def test_nobody_else_is_given_what_a_consumer_holds(queue: Any) -> None:
    fill(queue, "EURUSD")
    assert len(ask(queue, lease=300)) == 1
    assert take(queue) == []
    assert ask(queue, "other", seconds=200) == [], "it takes over, and waits for the lease to end"


def test_the_modes_hold_back_what_is_given_again(queue: Any) -> None:
    (opened,) = fill(queue, "EURUSD", action="open")
    (closed,) = fill(queue, "GBPUSD", action="close")
    ask(queue)
    queue.set_mode("paused")
    assert ask(queue) == []
    queue.set_mode("close-only")
    assert ids(ask(queue)) == [closed]
    queue.set_mode("open")
    assert ids(ask(queue)) == [opened, closed]


def test_one_that_refuses_entries_by_itself_is_given_them_in_close_only_mode_and_told_the_mode(queue: Any) -> None:
    put = [*fill(queue, "EURUSD"), *fill(queue, "EURUSD", "GBPUSD", action="close")]
    queue.set_mode("close-only")
    home = Consumer("home", SILENCE, refuses_entries=True)
    poll = partial(queue.poll, Wish(10, 10, lambda: START, 0, lambda: True, home))
    lent = outcome_of(poll)
    assert (ids(lent), lent.mode) == (put, "close-only")
    assert ids(outcome_of(poll)) == put, "again: the answer was lost"
    assert queue.dead(10) == []
    queue.set_mode("paused")
    assert (outcome_of(poll), outcome_of(poll).mode) == ([], "paused")


def test_a_close_is_not_given_again_ahead_of_its_open(queue: Any) -> None:
    """Close-only mode came between: were the close given alone, its open would follow it when the mode is open again."""
    (opened,) = fill(queue, "EURUSD")
    (closed,) = fill(queue, "EURUSD", action="close")
    lost = ask(queue)
    queue.set_mode("close-only")
    assert ask(queue) == []
    queue.set_mode("open")
    assert ask(queue) == lost and ids(lost) == [opened, closed]
    queue.set_mode("close-only")
    late = ask(queue, seconds=11)
    assert ids(late) == [closed] and [dead.id for dead in queue.dead(10)] == [opened]


def test_behind_what_was_given_back_nothing_is_given_again(queue: Any) -> None:
    first, second = fill(queue, "EURUSD", "EURUSD")
    one, _ = ask(queue)
    assert queue.nack(one.id, one.lease, "later", 5, START)
    assert ask(queue) == []
    assert ids(ask(queue, seconds=6)) == [first]
    assert ids(ask(queue, seconds=7)) == [first, second]


def test_a_consumer_is_known_over_a_restart_of_the_relay(opener: Opener) -> None:
    queue = opener()
    fill(queue, "EURUSD")
    lost = ask(queue)
    queue.close()
    queue = opener()
    with pytest.raises(AnotherConsumer):
        ask(queue, "other", seconds=5)
    assert ask(queue, seconds=5) == lost


def test_the_claim_is_kept_by_asking_and_ends_with_the_silence(queue: Any) -> None:
    for seconds in (0, 100, 200):
        ask(queue, seconds=seconds)
    with pytest.raises(AnotherConsumer) as refused:
        ask(queue, "other", seconds=319)
    assert refused.value.retry_after == 1
    assert ask(queue, "other", seconds=320) == []
    with pytest.raises(AnotherConsumer):
        ask(queue, seconds=321)


def test_of_two_that_come_first_at_the_same_instant_one_is_refused(opener: Opener) -> None:
    """Through relays of their own, as two relays over one database."""
    queues, together = [opener() for _ in range(4)], threading.Barrier(4)
    for queue in queues:
        queue.ready()
    outcomes: list[object] = []

    def first(queue: Pending, name: str) -> None:
        together.wait()
        try:
            outcomes.append(ask(queue, name))
        except AnotherConsumer as exc:
            outcomes.append(exc)

    threads = [threading.Thread(target=first, args=(queue, f"c{n}")) for n, queue in enumerate(queues)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(each, AnotherConsumer) for each in outcomes) == [False, True, True, True]


def test_a_clock_that_was_set_back_holds_nobody_off() -> None:
    me = Consumer("me", SILENCE)
    ahead = rules.claim(None, Consumer("other", SILENCE), at(3600))
    assert rules.claim(ahead, me, START) == rules.claim(None, me, START)
    with pytest.raises(AnotherConsumer):
        rules.claim(ahead, me, at(3590))


def test_a_claim_is_written_seldom() -> None:
    me = Consumer("me", SILENCE)
    claim = rules.claim(None, me, START)
    assert rules.claim(claim, me, at(4.9)) is None and rules.claim(claim, me, at(5)) is not None
    assert rules.claim(claim, me, at(-1)) is not None, "it would seem silent too late"
