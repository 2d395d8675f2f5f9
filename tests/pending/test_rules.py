"""The queue's pure parts: the life of a signal, what is picked, what is a duplicate, SQL files."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.pending import open_pending, queries, rules
from relay.pending.base import MAX_HOLD, MODES, storable
from relay.pending.rules import Waiting, as_mode, housekeep_until, is_held, pick
from relay.pending.writer import GroupWriter, Ticket
from tests.pending.examples import START, at


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_the_schema_knows_exactly_the_states_of_the_life(engine: str) -> None:
    allowed = ", ".join(f"'{state}'" for state in ("pending", "leased", "acked", "dead", "purged"))
    assert f"state IN ({allowed})" in queries.migrations(engine)[0]


# fmt: off
@pytest.mark.parametrize(("until", "held"), [
    (None,                                  False),
    (at(-1),                                False),
    (at(0),                                 False),
    (at(0.000001),                          True),
    (START + MAX_HOLD,                      True),
    (START + MAX_HOLD + timedelta(seconds=1), False),  # written by a clock that went back
])
# fmt: on
def test_a_hold_counts_from_now_to_the_longest_hold(until: object, held: bool) -> None:
    assert is_held(until, START) is held  # type: ignore[arg-type]


def row(seq: int, symbol: str, attempts: int = 0, held: bool = False) -> Waiting:
    return Waiting(seq, str(seq), symbol, attempts, None, at(5) if held else None, None, START, "{}", "")


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 5), st.booleans()), max_size=20),
    st.integers(1, 8),
)
def test_what_is_picked_keeps_the_order_of_every_symbol(lines: list[tuple[str, int, bool]], limit: int) -> None:
    rows = [row(seq, *line) for seq, line in enumerate(lines)]
    picked = pick(rows, limit, START)
    assert len(picked.leased) <= limit
    for symbol in "ABC":
        line = [one for one in rows if one.symbol == symbol]
        free = [one for one in line[: next((n for n, one in enumerate(line) if one.held_until), len(line))]]
        living = [one for one in free if one.attempts < 5]
        taken = [one for one in picked.leased if one.symbol == symbol]
        assert taken == living[: len(taken)]
        assert all(one in free and one.attempts == 5 for one in picked.exhausted if one.symbol == symbol)


def test_housekeeping_believes_the_clock_a_day_at_a_time() -> None:
    assert housekeep_until(at(5), None) == at(5)
    assert housekeep_until(at(5), START) == at(5)
    assert housekeep_until(START + timedelta(days=400), START) == START + timedelta(days=1)
    assert housekeep_until(at(-5), START) == at(-5)


def test_a_stored_mode_that_nobody_knows_is_the_careful_one() -> None:
    assert [as_mode(mode) for mode in (*MODES, "rubbish")] == [*MODES, "paused"]


@given(st.text(max_size=50), st.integers(1, 40))
def test_free_text_becomes_storable_whatever_it_is(text: str, size: int) -> None:
    kept = storable(text, size)
    assert "\0" not in kept
    assert len(kept.encode()) <= size


@given(st.floats(-10, 1e9), st.floats(-10, 1e9))
def test_holds_are_bounded(lease: float, retry: float) -> None:
    assert START < rules.lease_end(START, lease) <= START + MAX_HOLD
    until = rules.retry_at(START, retry)
    assert until is None or until <= START + MAX_HOLD


@pytest.mark.parametrize("url", ["", "sqlite:", "sqlite:///", "mysql://host/db", "pending.db"])
def test_a_url_of_no_engine_is_refused_with_the_choices(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///FILE or postgresql://"):
        open_pending(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(ValueError) as caught:
        open_pending("mysql://user:secret@host/db")
    assert "secret" not in str(caught.value)


def test_statements_of_a_script_are_split_at_their_ends() -> None:
    from relay.pending.sqlite import _statements

    script = queries.migrations("sqlite")[0]
    database = sqlite3.connect(":memory:")
    for statement in _statements(script):
        database.execute(statement)
    database.close()


def test_jobs_that_come_together_share_a_batch_and_get_their_own_answers() -> None:
    sizes: list[int] = []

    def run(tickets: list[Ticket[int]]) -> None:
        sizes.append(len(tickets))
        for ticket in tickets:
            ticket.answer(ticket.job * 2)

    writer: GroupWriter[int] = GroupWriter("test", run)
    tickets = [writer.post(number) for number in range(100)]
    assert [ticket.result(5) for ticket in tickets] == [number * 2 for number in range(100)]
    assert sum(sizes) == 100
    writer.close()


def test_a_fault_in_one_batch_does_not_end_the_writer() -> None:
    def run(tickets: list[Ticket[int]]) -> None:
        for ticket in tickets:
            ticket.answer(1 // ticket.job)

    writer: GroupWriter[int] = GroupWriter("test", run)
    with pytest.raises(ZeroDivisionError):
        writer.submit(0)
    assert writer.submit(1) == 1
    writer.close()
