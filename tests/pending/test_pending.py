"""The contract of the pending queue: what every engine promises, alone and as two over one database."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from common.chain import MOST_STRATEGIES
from common.errors import DuplicateConflict, QueueFull
from common.signals import PrevPosition
from relay.pending.base import KEY_WINDOW, Notice, Refused, outcome_of
from relay.pending.rules import EXHAUSTED, OVERTAKEN
from tests.pending.conftest import Opener
from tests.pending.examples import START, acks, at, fill, housekeep, ids, put, signal, take

DAYS = timedelta(days=1)


# accepting


def test_what_was_put_is_there_for_another_instance(opener: Opener) -> None:
    new = signal(headers={"webhook-id": "1", "webhook-signature": "v1,é"}, payload='{"ü":"\\u0000"}')
    put(opener(), new, START)
    (leased,) = take(opener())
    assert (leased.id, leased.headers, leased.payload) == (new.id, new.headers, new.payload)
    assert (leased.attempt, leased.received_at) == (1, START)


def test_put_answers_with_its_own_id(queue: Any) -> None:
    new = signal()
    accepted = put(queue, new, START)
    assert (accepted.id, accepted.duplicate) == (new.id, False)


@pytest.mark.parametrize("after", [timedelta(0), timedelta(days=29), KEY_WINDOW - timedelta(microseconds=1)])
def test_same_key_and_signal_is_a_duplicate_for_30_days(queue: Any, after: timedelta) -> None:
    first = put(queue, signal(key="k", what="a"), START)
    again = put(queue, signal(key="k", what="a"), START + after)
    assert (again.id, again.duplicate) == (first.id, True)
    assert queue.stats(START).depth == 1


def test_a_key_is_free_again_after_30_days(queue: Any) -> None:
    put(queue, signal(key="k", what="a"), START)
    later = START + KEY_WINDOW
    again = put(queue, signal(key="k", what="b", now=later), later)
    assert not again.duplicate
    assert put(queue, signal(key="k", what="b"), later).id == again.id


def test_same_key_with_another_signal_is_a_conflict_and_stores_nothing(queue: Any) -> None:
    put(queue, signal(key="k", what="a"), START)
    with pytest.raises(DuplicateConflict, match="'k'"):
        put(queue, signal("GBPUSD", key="k", what="b"), START)
    assert queue.stats(START).depth == 1


def test_a_duplicate_is_known_after_its_ack(queue: Any) -> None:
    first = put(queue, signal(key="k", what="a"), START)
    queue.ack(acks(take(queue)), START)
    assert put(queue, signal(key="k", what="a"), at(5)).id == first.id
    assert take(queue, at(6)) == []


def test_without_key_an_equal_signal_within_30_s_is_a_resend(queue: Any) -> None:
    first = put(queue, signal(what="a"), START)
    for seconds in (5, 10, 29.9):
        assert put(queue, signal(what="a", now=at(seconds)), at(seconds)).id == first.id


def test_a_resend_does_not_prolong_the_30_s(queue: Any) -> None:
    put(queue, signal(what="a"), START)
    assert put(queue, signal(what="a", now=at(20)), at(20)).duplicate
    assert not put(queue, signal(what="a", now=at(30)), at(30)).duplicate


def test_without_key_only_the_newest_of_the_symbol_counts(queue: Any) -> None:
    for what in ("a", "b", "a"):
        assert not put(queue, signal(what=what), START).duplicate


def test_signals_of_other_symbols_do_not_matter_to_a_resend(queue: Any) -> None:
    put(queue, signal(what="a"), START)
    put(queue, signal("GBPUSD", what="b"), START)
    assert put(queue, signal(what="a"), at(1)).duplicate


def test_a_key_makes_an_equal_signal_a_new_one(queue: Any) -> None:
    put(queue, signal(key="1", what="a"), START)
    assert not put(queue, signal(key="2", what="a"), START).duplicate


def test_putting_the_same_id_again_is_no_duplicate_but_our_own_second_try(queue: Any) -> None:
    new = signal(key="k")
    assert not put(queue, new, START).duplicate
    assert not put(queue, new, START).duplicate
    assert queue.stats(START).depth == 1


def test_a_full_queue_refuses_new_signals_and_knows_duplicates(opener: Opener) -> None:
    queue = opener(max_depth=2)
    first = put(queue, signal(key="k", what="a"), START)
    fill(queue, "GBPUSD")
    with pytest.raises(QueueFull, match="2 signals wait, the limit is 2"):
        put(queue, signal(), START)
    assert put(queue, signal(key="k", what="a"), START).id == first.id
    queue.ack(acks(take(queue, limit=1)), START)
    assert not put(queue, signal(), START).duplicate


def test_text_that_cannot_be_stored_is_refused_before_the_database() -> None:
    for field in ("symbol", "dedupe_key", "payload"):
        with pytest.raises(ValueError, match=field):
            signal(**{field: "a\0b"})


# order and leases


def test_signals_come_in_order_of_acceptance_across_symbols(queue: Any) -> None:
    put = fill(queue, "EURUSD", "GBPUSD", "EURUSD", "AAPL", "GBPUSD")
    assert ids(take(queue, limit=3)) == put[:3]


def test_several_of_one_symbol_come_in_one_answer(queue: Any) -> None:
    put = fill(queue, "EURUSD", "EURUSD", "EURUSD")
    assert ids(take(queue)) == put


def test_behind_a_leased_signal_its_symbol_waits_and_others_go_on(queue: Any) -> None:
    first, _, other = fill(queue, "EURUSD", "EURUSD", "GBPUSD")
    assert ids(take(queue, limit=1)) == [first]
    assert ids(take(queue)) == [other]


def test_after_the_ack_the_next_of_the_symbol_comes(queue: Any) -> None:
    _, second = fill(queue, "EURUSD", "EURUSD")
    queue.ack(acks(take(queue, limit=1)), START)
    assert ids(take(queue)) == [second]


def test_nothing_is_delivered_again_after_its_ack(queue: Any) -> None:
    put = fill(queue, "EURUSD", "GBPUSD")
    leased = take(queue)
    assert queue.ack(acks(leased), START).acked == put
    assert take(queue, at(1_000)) == []
    assert queue.stats(START).depth == 0


def test_a_lease_ends_exactly_after_its_time(queue: Any) -> None:
    fill(queue, "EURUSD")
    take(queue, seconds=10)
    assert take(queue, at(9.999999)) == []
    assert [one.attempt for one in take(queue, at(10))] == [2]


def test_a_lost_answer_brings_the_same_signals_in_the_same_order(queue: Any) -> None:
    put = fill(queue, "EURUSD", "GBPUSD", "EURUSD")
    take(queue, seconds=10)
    assert ids(take(queue, at(10))) == put


def test_an_old_lease_cannot_ack_what_another_has(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    old = take(queue)
    new = take(queue, at(10))
    assert queue.ack(acks(old), at(11)).stale == [id]
    assert queue.ack(acks(new), at(11)).acked == [id]


def test_a_late_ack_counts_while_nobody_else_has_it(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    leased = take(queue)
    assert queue.ack(acks(leased), at(60)).acked == [id]
    assert take(queue, at(61)) == []


def test_ack_is_idempotent_whatever_the_lease(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    leased = take(queue)
    for given in (acks(leased), acks(leased), [(id, "another")], acks(leased) * 2):
        assert set(queue.ack(given, START).acked) == {id}
    assert queue.stats(START).depth == 0


@pytest.mark.parametrize("id", ["nobody", "", "a\0b", "\ud800"])
def test_an_id_that_nobody_has_is_stale_whatever_it_is(queue: Any, id: str) -> None:
    (known,) = fill(queue, "EURUSD")
    lease = take(queue)[0].lease
    result = queue.ack([(id, "\0"), (known, lease)], START)
    assert (result.acked, result.stale) == ([known], [id])
    assert not queue.nack(id, lease, "no", 0, START)
    assert not queue.requeue(id, START)


def test_acks_of_one_symbol_out_of_order_leave_the_rest_in_order(queue: Any) -> None:
    first, _, third = fill(queue, "EURUSD", "EURUSD", "EURUSD")
    leased = take(queue)
    queue.ack(acks(leased[1:2]), START)
    assert take(queue, at(1)) == []
    assert ids(take(queue, at(10))) == [first, third]


def test_age_is_no_reason_not_to_deliver(queue: Any) -> None:
    put = fill(queue, "EURUSD")
    assert ids(take(queue, START + 40 * DAYS)) == put


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_leases_nothing(queue: Any, limit: int) -> None:
    fill(queue, "EURUSD")
    assert take(queue, limit=limit) == []


# giving back


def test_a_nacked_signal_waits_for_its_retry_and_its_symbol_with_it(queue: Any) -> None:
    first, second, other = fill(queue, "EURUSD", "EURUSD", "GBPUSD")
    (leased,) = take(queue, limit=1)
    assert queue.nack(leased.id, leased.lease, "later", 30, START)
    assert ids(take(queue, at(29))) == [other]
    assert ids(take(queue, at(30))) == [first, second]


def test_a_nack_without_delay_is_leasable_at_once(queue: Any) -> None:
    fill(queue, "EURUSD")
    (leased,) = take(queue)
    assert queue.nack(leased.id, leased.lease, "again", 0, START)
    assert [one.attempt for one in take(queue)] == [2]


def test_an_earlier_signal_does_not_wait_for_the_retry_of_a_later_one(queue: Any) -> None:
    first, second, third = fill(queue, "EURUSD", "EURUSD", "EURUSD")
    leased = take(queue, seconds=10)
    queue.nack(second, leased[1].lease, "later", 60, START)
    retried = take(queue, at(10))
    assert ids(retried) == [first]
    queue.ack(acks(retried), at(11))
    assert take(queue, at(59)) == []
    assert ids(take(queue, at(60))) == [second, third]


def test_a_nack_with_a_lost_lease_changes_nothing(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    old = take(queue)[0]
    new = take(queue, at(10))
    assert not queue.nack(id, old.lease, "mine", 0, at(10))
    assert queue.ack(acks(new), at(11)).acked == [id]
    assert not queue.nack(id, new[0].lease, "late", 0, at(11))
    assert not queue.nack("nobody", "x", "?", 0, START)


def test_after_a_nack_the_lease_acks_no_more(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    (leased,) = take(queue)
    queue.nack(id, leased.lease, "no", 5, START)
    assert queue.ack(acks([leased]), START).stale == [id]


# dead letters


def exhaust(queue: Any, reason: str | None = None) -> Any:
    """Lease one signal five times without an ack; return the last lease."""
    for turn in range(5):
        (leased, *_) = take(queue, at(10 * turn), limit=1, seconds=10)
        if reason is not None:
            assert queue.nack(leased.id, leased.lease, reason, 0, at(10 * turn))
    return leased


def test_after_five_leases_a_signal_is_dead_and_the_next_goes_on(queue: Any) -> None:
    first, second = fill(queue, "EURUSD", "EURUSD")
    exhaust(queue)
    assert ids(take(queue, at(50))) == [second]
    (dead,) = queue.dead(10)
    assert (dead.id, dead.reason, dead.attempts, dead.dead_at) == (first, EXHAUSTED, 5, at(50))
    stats = queue.stats(at(50))
    assert (stats.depth, stats.leased, stats.dead) == (1, 1, 1)


def test_the_fifth_nack_kills_with_its_reason(queue: Any) -> None:
    fill(queue, "EURUSD")
    exhaust(queue, "unknown symbol\0")
    assert [dead.reason for dead in queue.dead(10)] == ["unknown symbol\u2400"]
    assert take(queue, at(1_000)) == []


def test_more_dead_than_the_limit_do_not_hide_the_living(queue: Any) -> None:
    symbols = [f"S{number}" for number in range(6)]
    fill(queue, *symbols)
    for turn in range(5):
        assert len(take(queue, at(10 * turn), seconds=10)) == 6
    living = fill(queue, "AAPL")
    assert ids(take(queue, at(50), limit=2)) == living
    assert queue.stats(at(50)).dead == 6


def test_the_last_holder_may_still_ack_a_dead_letter(queue: Any) -> None:
    fill(queue, "EURUSD")
    leased = exhaust(queue)
    assert take(queue, at(50)) == []
    assert queue.ack([(leased.id, leased.lease)], at(51)).acked == [leased.id]
    assert queue.dead(10) == []
    assert queue.stats(at(52)).depth == 0


def test_requeue_gives_all_attempts_back_and_the_old_place(queue: Any) -> None:
    first, second = fill(queue, "EURUSD", "EURUSD")
    exhaust(queue)
    take(queue, at(50), seconds=10)
    assert queue.requeue(first, at(55))
    assert [(one.id, one.attempt) for one in take(queue, at(60))] == [(first, 1), (second, 2)]
    assert queue.dead(10) == []


def test_requeue_knows_only_dead_letters(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    assert not queue.requeue(id, START)
    assert not queue.requeue("nobody", START)
    queue.ack(acks(take(queue)), START)
    assert not queue.requeue(id, START)


def test_dead_letters_come_longest_dead_first(queue: Any) -> None:
    put = fill(queue, "EURUSD", "GBPUSD")
    exhaust(queue)
    take(queue, at(50), limit=1)
    for turn in range(5):
        take(queue, at(100 + 10 * turn))
    take(queue, at(200))
    assert [dead.id for dead in queue.dead(10)] == put
    assert len(queue.dead(1)) == 1
    died_at = [dead.dead_at for dead in queue.dead(10)]
    assert [dead.id for dead in queue.dead(10, died_at[-1])] == put[-died_at.count(died_at[-1]) :]
    assert queue.dead(10, died_at[-1] + timedelta(microseconds=1)) == []


# purge and housekeeping


def test_purge_discards_what_waits_and_keeps_what_is_leased(queue: Any) -> None:
    _, waiting = fill(queue, "EURUSD", "EURUSD")
    (leased,) = take(queue, limit=1)
    assert queue.purge("pending", at(1), at(1)) == 1
    assert queue.ack(acks([leased]), at(2)).acked == [leased.id]
    assert take(queue, at(1_000)) == []
    assert queue.ack([(waiting, "x")], at(2)).stale == [waiting]
    assert queue.stats(at(2)).depth == 0


def test_purge_spares_what_came_later(queue: Any) -> None:
    fill(queue, "EURUSD", "GBPUSD")
    young = fill(queue, "EURUSD", now=at(10))
    assert queue.purge("pending", at(10), at(11)) == 2
    assert ids(take(queue, at(11))) == young


def test_purged_signals_are_still_known_as_duplicates(queue: Any) -> None:
    put(queue, signal(key="k", what="a"), START)
    queue.purge("pending", at(1), at(1))
    assert put(queue, signal(key="k", what="a"), at(2)).duplicate
    assert take(queue, at(3)) == []


def test_purge_of_dead_letters(queue: Any) -> None:
    (first,) = fill(queue, "EURUSD")
    exhaust(queue, "no")
    assert queue.purge("dead", at(1), at(60)) == 1
    assert queue.dead(10) == []
    assert not queue.requeue(first, at(60))


def test_purge_goes_through_more_than_one_chunk(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.pending.rules.PURGE_CHUNK", 2)
    fill(queue, "EURUSD", "GBPUSD", "EURUSD", "AAPL", "EURUSD")
    assert queue.purge("pending", at(1), at(1)) == 5
    assert queue.stats(START).depth == 0


def test_housekeeping_forgets_acked_signals_after_30_days_and_nothing_else(queue: Any) -> None:
    done, dead, waiting = fill(queue, "EURUSD", "GBPUSD", "AAPL")
    queue.ack(acks(take(queue, limit=1)), START)
    (leased,) = take(queue, limit=1)
    for turn in range(5):
        queue.nack(dead, leased.lease, "no", 0, at(turn))
        (leased, *_) = take(queue, at(turn), limit=1) if turn < 4 else [None]
    assert forget_at(queue, START + KEY_WINDOW) == 0
    assert forget_at(queue, START + KEY_WINDOW + 2 * DAYS) == 1
    assert queue.ack([(done, "x")], START).stale == [done]
    assert [one.id for one in queue.dead(10)] == [dead]
    assert ids(take(queue, START + 40 * DAYS)) == [waiting]


def forget_at(queue: Any, now: Any) -> int:
    """Housekeep every day up to now, as a queue does that is running."""
    day, forgotten = START, 0
    while day < now:
        day = min(day + DAYS, now)
        forgotten += housekeep(queue, day)
    return forgotten


def test_a_clock_a_year_ahead_does_not_cost_the_memory(queue: Any) -> None:
    first = put(queue, signal(key="k", what="a"), START)
    queue.ack(acks(take(queue)), START)
    housekeep(queue, at(1))
    assert housekeep(queue, START + 365 * DAYS) == 0
    assert put(queue, signal(key="k", what="a"), at(60)).id == first.id


# clock jumps


def test_a_clock_set_back_an_hour_holds_nothing_back_for_an_hour(queue: Any) -> None:
    put = fill(queue, "EURUSD", "EURUSD", now=at(3600))
    take(queue, at(3600), seconds=10)
    assert ids(take(queue, START)) == put


def test_a_clock_set_back_keeps_acked_signals_acked_and_the_order(queue: Any) -> None:
    _, second = fill(queue, "EURUSD", "EURUSD", now=at(3600))
    queue.ack(acks(take(queue, at(3600), limit=1)), at(3600))
    later = fill(queue, "EURUSD", now=START)
    assert ids(take(queue, START)) == [second, *later]


def test_a_clock_set_back_makes_no_second_signal_of_a_resend(queue: Any) -> None:
    put(queue, signal(what="a", now=at(10)), at(10))
    assert put(queue, signal(what="a", now=START), START).duplicate


def test_a_clock_set_back_into_a_lease_that_had_ended_hides_no_other_symbol(queue: Any) -> None:
    first, other = fill(queue, "EURUSD", "GBPUSD")
    take(queue, seconds=10)
    assert ids(take(queue, at(10), limit=1, seconds=300)) == [first]
    queue.ack(acks(take(queue, at(310), limit=1)), at(310))
    (late,) = fill(queue, "AAPL")
    assert ids(take(queue, at(5), limit=1)) == [late]
    assert ids(take(queue, at(10), limit=1)) == [other]


def test_a_clock_set_back_an_hour_makes_no_resend_of_a_new_signal(queue: Any) -> None:
    put(queue, signal(what="a", now=at(3600)), at(3600))
    assert not put(queue, signal(what="a", now=START), START).duplicate


def test_a_clock_that_jumps_ahead_ends_leases_and_loses_nothing(queue: Any) -> None:
    (id,) = fill(queue, "EURUSD")
    old = take(queue)
    new = take(queue, START + 365 * DAYS)
    assert queue.ack(acks(old), START).stale == [id]
    assert queue.ack(acks(new), START).acked == [id]


# kill switch


def test_paused_accepts_and_holds(queue: Any) -> None:
    queue.set_mode("paused")
    put = fill(queue, "EURUSD")
    assert (queue.stats(START).mode, take(queue)) == ("paused", [])
    queue.set_mode("open")
    assert ids(take(queue)) == put


def test_close_only_delivers_closes_and_holds_opens(queue: Any) -> None:
    queue.set_mode("close-only")
    (opened,) = fill(queue, "EURUSD")
    closes = fill(queue, "GBPUSD", "AAPL", action="close")
    assert ids(take(queue)) == closes
    queue.set_mode("open")
    assert ids(take(queue)) == [opened]


def test_close_only_never_lets_an_overtaken_open_follow(queue: Any) -> None:
    queue.set_mode("close-only")
    (overtaken,) = fill(queue, "EURUSD")
    (close,) = fill(queue, "EURUSD", action="close")
    (later,) = fill(queue, "EURUSD")
    leased = take(queue)
    assert ids(leased) == [close]
    assert [(dead.id, dead.reason) for dead in queue.dead(10)] == [(overtaken, OVERTAKEN)]
    queue.ack(acks(leased), START)
    queue.set_mode("open")
    assert ids(take(queue)) == [later]
    assert queue.stats(START).depth == 1


def test_close_only_waits_for_an_open_that_is_leased(queue: Any) -> None:
    fill(queue, "EURUSD")
    leased = take(queue)
    queue.set_mode("close-only")
    close = fill(queue, "EURUSD", action="close")
    assert take(queue) == []
    queue.ack(acks(leased), START)
    assert ids(take(queue)) == close


def test_an_unknown_mode_is_refused(queue: Any) -> None:
    with pytest.raises(ValueError, match="close-only"):
        queue.set_mode("closed")


# the owner's side


def test_refused_alerts_are_kept_newest_first_and_bounded(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite_ledger", "postgres_ledger"):
        monkeypatch.setattr(f"relay.pending.{module}.REFUSED_KEPT", 3)
    for number in range(5):
        refused = Refused(at(number), "malformed", f"why {number}", "ü\0\ud800" * 2_000)
        assert outcome_of(partial(queue.refuse, refused)) is None
    kept = queue.refused(10)
    assert [(one.at, one.reason) for one in kept] == [(at(n), f"why {n}") for n in (4, 3, 2)]
    assert 2_000 < len(kept[0].body.encode()) <= 2_048
    assert kept[0].body.startswith("ü\u2400?ü")


def note(queue: Any, text: str, kind: str = "news", now: datetime = START) -> None:
    assert outcome_of(partial(queue.note, Notice(kind, "EURUSD", text, now))) is None


def noticed(queue: Any, now: datetime = START) -> list[Notice]:
    found: list[Notice] = outcome_of(partial(queue.notices, now))
    return found


def test_a_notice_is_kept_until_it_is_confirmed(queue: Any) -> None:
    note(queue, "one"), note(queue, "two", now=at(1))
    first, second = noticed(queue)
    assert [(one.kind, one.symbol, one.text, one.at) for one in (first, second)] == [
        ("news", "EURUSD", "one", START), ("news", "EURUSD", "two", at(1))
    ]  # fmt: skip
    assert outcome_of(partial(queue.heard, [first.id])) is None
    assert noticed(queue, at(3600)) == [second] and outcome_of(partial(queue.heard, [second.id, 99])) is None
    assert noticed(queue) == []


def test_a_notice_that_nobody_confirms_is_told_for_a_minute_of_polls(queue: Any) -> None:
    note(queue, "one")
    assert [len(noticed(queue, at(seconds))) for seconds in (0, 59, 61)] == [1, 1, 0]
    note(queue, "two")
    assert [len(noticed(queue, at(seconds))) for seconds in (0, 3600, 3601, 3661)] == [1, 1, 1, 0]


def test_a_notice_that_found_no_room_in_an_answer_is_told_in_a_later_one(
    queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was counted as told with the others, and forgotten after a minute though nobody had heard it."""
    for module in ("sqlite_ledger", "postgres_ledger"):
        monkeypatch.setattr(f"relay.pending.{module}.NOTICES_AT_ONCE", 2)
    for number in range(5):
        note(queue, str(number))
    heard = []
    for seconds in (0, 40, 80, 120):
        found = noticed(queue, at(seconds))
        heard += [one.text for one in found]
        assert outcome_of(partial(queue.heard, [one.id for one in found])) is None
    assert heard == ["0", "1", "2", "3", "4"]


def test_the_same_notice_before_it_is_heard_is_one_and_the_newest_of_each_kind_are_kept(
    queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite_ledger", "postgres_ledger"):
        monkeypatch.setattr(f"relay.pending.{module}.NOTICES_KEPT", 2)
    note(queue, "same", "other"), note(queue, "same", "other", at(5))
    for text in ("a", "b", "c"):
        note(queue, text)
    assert [(one.text, one.at) for one in noticed(queue)] == [("same", at(5)), ("b", START), ("c", START)]


def test_a_missed_alert_is_noticed_in_the_commit_that_stores_the_next(queue: Any) -> None:
    put(queue, signal(position="long 5"), START)
    assert not put(queue, signal(position="flat", prev=PrevPosition("long", Decimal(5))), START).missed
    new = signal(position="long 5", prev=PrevPosition("short", Decimal(3)))
    assert put(queue, new, START).missed and put(queue, new, START).id == new.id, "our own second try"
    (one,) = noticed(queue)
    assert one.kind == "alert-missed" and "held short 3, but its previous alert reported flat" in one.text


def test_a_refused_alert_is_kept_together_with_its_notice(queue: Any) -> None:
    refused = Refused(START, "malformed", "why", "{}", Notice("exit-refused", "EURUSD", "why", START))
    assert outcome_of(partial(queue.refuse, refused)) is None
    assert [one.kind for one in noticed(queue)] == ["exit-refused"] and len(queue.refused(9)) == 1


def never_ack(queue: Any) -> None:
    for turn in range(6):
        take(queue, at(10 * turn), limit=1, seconds=10)


def give_back_for_the_last_time(queue: Any) -> None:
    for turn in range(5):
        (leased,) = take(queue, at(turn), limit=1)
        assert queue.nack(leased.id, leased.lease, "no such contract", 0, at(turn))


def overtake(queue: Any) -> None:
    queue.set_mode("close-only")
    put(queue, signal(action="close"), START)
    take(queue)


DEATHS = {never_ack: "leased 5 times", give_back_for_the_last_time: "no such contract", overtake: "then overtaken by"}


@pytest.mark.parametrize("die, reason", DEATHS.items(), ids=[each.__name__ for each in DEATHS])
def test_a_dead_letter_is_noticed_in_the_commit_in_which_it_dies(queue: Any, die: Any, reason: str) -> None:
    """A relay that was killed before it had looked, and was away for more than ten minutes, never noticed it."""
    id = put(queue, signal(), START).id
    die(queue)
    assert [letter.id for letter in queue.dead(9)] == [id]
    (one,) = noticed(queue)
    assert (one.kind, one.symbol) == ("dead-letter", "EURUSD")
    assert reason in one.text and f"requeue {id}" in one.text


def test_however_many_die_at_once_the_newest_are_noticed(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite_ledger", "postgres_ledger"):
        monkeypatch.setattr(f"relay.pending.{module}.NOTICES_KEPT", 2)
    opened = [put(queue, signal(what=str(number)), START).id for number in range(4)]
    overtake(queue)
    assert [letter.id for letter in queue.dead(9)] == opened
    assert [one.text.rpartition(" ")[2] for one in noticed(queue)] == opened[2:]


@pytest.mark.parametrize("action", ["close", "reset", "reduce"])
def test_an_exit_with_a_used_key_is_stored_without_it(queue: Any, action: str) -> None:
    put(queue, signal(key="k"), START)
    exit = signal(key="k", what="exit", action=action)
    taken = put(queue, exit, START)
    assert taken.id_used and not taken.duplicate and put(queue, exit, START).id == exit.id
    again = put(queue, signal(key="k", what="exit", action=action, now=at(29)), at(29))
    assert (again.id, again.duplicate) == (exit.id, True), "a resend"
    assert put(queue, signal(key="k", what="other exit", action=action), START).id_used
    assert [one.kind for one in noticed(queue)] == ["id-used"]
    with pytest.raises(DuplicateConflict):
        put(queue, signal(key="k"), START)


def test_a_duplicate_long_after_the_first_is_noticed(queue: Any) -> None:
    """An id that is the same for every alert would lose all but the first, without a word."""
    new = signal(key="constant", what="a", action="close")
    put(queue, new, START)
    for seconds, count in ((30, 0), (600, 0), (601, 1)):
        assert put(queue, signal(key="constant", what="a", action="close"), at(seconds)).duplicate
        assert len(noticed(queue, at(seconds))) == count
    assert "all but the first are lost" in noticed(queue, at(601))[0].text


def timed(what: str, time: str, **fields: Any) -> Any:
    """Return a signal whose sender tells its time, as `relay.intake.fingerprint` makes two of them differ."""
    return signal(**fields, fingerprint=f"{what}:{time}" if time else what)


@pytest.mark.parametrize("action", ["open", "close"])
def test_without_a_key_the_sender_s_time_tells_two_signals_apart(queue: Any, action: str) -> None:
    first = put(queue, timed("half", "T1", action=action), START)
    assert put(queue, timed("half", "T1", action=action), at(1)).id == first.id
    assert not put(queue, timed("half", "T2", action=action), at(2)).duplicate
    assert not put(queue, timed("half", "", action=action), at(3)).duplicate


def test_with_a_key_another_time_refuses_no_entry_and_enters_nothing_twice(queue: Any) -> None:
    first = put(queue, timed("buy", "T1", key="k"), START)
    assert put(queue, timed("buy", "T1", key="k"), at(1)).id == first.id and noticed(queue) == []
    again = put(queue, timed("buy", "T2", key="k"), at(2))
    assert (again.id, again.duplicate) == (first.id, True)
    (one,) = noticed(queue, at(2))
    assert one.kind == "id-used" and "all but the first are lost" in one.text


def test_with_a_key_another_time_makes_another_exit(queue: Any) -> None:
    """Two closes of a half, by a message whose id is the same for every alert: neither may be lost."""
    put(queue, timed("half", "T1", key="k", action="close"), START)
    assert put(queue, timed("half", "T1", key="k", action="close"), at(1)).duplicate
    second = put(queue, timed("half", "T2", key="k", action="close"), at(2))
    assert second.id_used and not second.duplicate
    assert put(queue, timed("half", "T2", key="k", action="close"), at(3)).id == second.id


def told(position: str, before: str, name: str | None = None, **fields: Any) -> Any:
    word, _, size = before.partition(" ")
    prev = PrevPosition(word, Decimal(size) if size else None)
    return signal(position=position, prev=prev, strategy_name=name, **fields)


def test_two_strategies_in_one_symbol_have_a_chain_each(queue: Any) -> None:
    """Whether they come in one batch or not: each is compared with its own last alert, and never with the other's."""
    for name in (None, "Turtle", "Fade"):
        assert not put(queue, told("long 5", "flat", name), START).missed
    assert put(queue, told("flat", "long 5", "Turtle"), at(1)).previous == "long 5"
    assert not put(queue, told("short 7", "flat", "Turtle"), at(2)).missed
    assert put(queue, told("flat", "short 7", "Fade"), at(3)).missed
    assert not put(queue, told("flat", "long 5"), at(4)).missed
    (one,) = noticed(queue, at(5))
    assert "An alert of Fade for EURUSD was missed" in one.text


def test_the_strategies_of_a_symbol_are_bounded(queue: Any) -> None:
    put(queue, told("long 1", "flat", "first"), START)
    for number in range(MOST_STRATEGIES):
        put(queue, told("long 1", "flat", f"s{number}"), START)
    assert put(queue, told("flat", "long 9", f"s{MOST_STRATEGIES - 1}"), START).missed
    assert not put(queue, told("flat", "long 9", "first"), START).missed, "it was silent longest"


def test_the_older_of_two_alerts_leaves_no_gap(queue: Any) -> None:
    put(queue, told("long 5", "flat", sent_at=at(10)), at(20))
    assert not put(queue, told("flat", "short 3", sent_at=at(5)), at(21)).missed
    assert not put(queue, told("flat", "long 5", sent_at=at(15)), at(22)).missed


def test_a_queue_that_is_full_of_entries_takes_exits(opener: Opener) -> None:
    queue = opener(max_depth=20)
    fill(queue, *(f"S{number}" for number in range(20)))
    assert fill(queue, "S1", "S2", action="close")
    for action in ("open", "close"):
        with pytest.raises(QueueFull):
            put(queue, signal(action=action), START)


def test_the_sender_s_position_is_remembered_and_given_back_with_the_next_put(queue: Any) -> None:
    assert put(queue, signal(position="long 5"), START).previous is None
    assert put(queue, signal(action="reset", now=at(1)), at(1)).previous == "long 5"
    assert put(queue, signal(position="flat", now=at(2)), at(2)).previous == "long 5"
    assert put(queue, signal(action="reset", now=at(3)), at(3)).previous == "flat"
    assert put(queue, signal("GBPUSD"), START).previous is None


def test_stats_count_what_is_there(queue: Any) -> None:
    empty = queue.stats(START)
    assert (empty.depth, empty.oldest_at, empty.accepted_total, empty.latency_p50_seconds) == (0, None, 0, None)
    fill(queue, "EURUSD", "GBPUSD")
    fill(queue, "AAPL", now=at(1))
    queue.ack(acks(take(queue, at(2), limit=1)), at(3))
    take(queue, at(4), limit=1)
    stats = queue.stats(at(5))
    assert (stats.depth, stats.leased, stats.dead, stats.accepted_total) == (2, 1, 0, 3)
    assert (stats.oldest_at, stats.latency_p50_seconds, stats.latency_p99_seconds) == (START, 3.0, 3.0)
    assert stats.oldest_at.utcoffset() == timedelta(0)


def test_the_last_poll_is_noted(queue: Any, eventually: Any) -> None:
    queue.note_poll(START)
    assert eventually(lambda: queue.stats(START).last_poll_at) == START


def test_ready_proves_a_write_and_names_the_wake_ups(queue: Any, engine: str) -> None:
    ready = queue.ready()
    assert ready.engine == {"sqlite": "sqlite", "postgres": "postgresql"}[engine]
    assert ready.wakeups in ("in-process", "notify", "polling")


def test_a_closed_queue_says_so(opener: Opener) -> None:
    from common.errors import QueueUnavailable

    queue = opener()
    fill(queue, "EURUSD")
    queue.close()
    with pytest.raises(QueueUnavailable, match="closed"):
        fill(queue, "EURUSD")
