"""The checker finds nothing in a clean course of things, and each planted violation of each rule."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from common.clock import utc_text
from tests.simulate import calm
from tests.simulate import checker as checker_module
from tests.simulate import ends as ends_module
from tests.simulate.records import JournalSide, LiveOrder
from tests.simulate.stage import FIRST, NOW, SECOND, Stage, begun, next_entry, places, reached, take_profit


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return begun(tmp_path)


# ---- planted violations: each a function that tampers, with the rule that must speak ----


def accepted_twice(stage: Stage) -> None:
    stage.truth("accepted", f"{FIRST}S1", permId=77)


def entered_twice(stage: Stage) -> None:
    stage.order(1, f"{FIRST}E2", 9)
    stage.filled(f"{FIRST}E2", 100, action="BUY")


def order_id_of_another(stage: Stage) -> None:
    stage.truth("accepted", f"{SECOND}E1", orderId=1)


def sent_before_it_was_written(stage: Stage) -> None:
    stage.truth("accepted", f"{FIRST}C1")


def enters_beside_a_live_exit(stage: Stage) -> None:
    stage.end("close signal")
    next_entry(stage)


def exit_left_alive(stage: Stage) -> None:
    stage.filled(f"{FIRST}T1", 100)
    stage.shows(0)
    stage.end("take-profit", tp_hit=1)
    stage.alive(f"{FIRST}S1")


def enters_against_the_block(stage: Stage) -> None:
    take_profit(stage)
    next_entry(stage)


def enters_too_late(stage: Stage) -> None:
    stage.write("UPDATE trades SET valid_until = '2026-01-01T00:00:00.000000Z' WHERE id = 1")
    stage.truth("accepted", f"{FIRST}E1")


def enters_on_a_position(stage: Stage) -> None:
    stage.alive()
    stage.end("stop-loss")
    next_entry(stage)


def closes_beside_its_exits(stage: Stage) -> None:
    stage.order(1, f"{FIRST}C1", 4)
    stage.truth("accepted", f"{FIRST}C1")


def closes_more_than_there_is(stage: Stage) -> None:
    stage.alive()
    stage.shows(60)
    stage.order(1, f"{FIRST}C1", 4)
    stage.truth("accepted", f"{FIRST}C1")


def turns_over_in_silence(stage: Stage) -> None:
    stage.filled(f"{FIRST}T1", 100)
    stage.filled(f"{FIRST}S1", 100)


def sells_the_owners_shares(stage: Stage) -> None:
    stage.alive()
    stage.shows(200)
    stage.order(1, f"{FIRST}C1", 4)
    stage.truth("accepted", f"{FIRST}C1", 200)


def cancels_the_owners_order(stage: Stage) -> None:
    stage.truth("cancelled", "", clientId=0, why="Cancelled by Trader")


def changes_the_owners_order(stage: Stage) -> None:
    stage.truth("modified", "", clientId=0)


def puts_back_beside_a_stop(stage: Stage) -> None:
    stage.order(1, f"{FIRST}R1", 4)
    stage.truth("accepted", f"{FIRST}R1")


def gives_out_an_id_again(stage: Stage) -> None:
    stage.pass_time(1)
    stage.write("UPDATE orders SET order_id = NULL")
    stage.order(1, f"{FIRST}C1", 2)


def holds_without_a_word(stage: Stage) -> None:
    stage.write("UPDATE trades SET state = 'hold'")


def stop_gone(stage: Stage) -> None:
    stage.alive(f"{FIRST}T1")


def stop_too_small(stage: Stage) -> None:
    stage.alive(f"{FIRST}T1", f"{FIRST}S1", size=40)


def position_unlike_the_trade(stage: Stage) -> None:
    stage.shows(170)


def signal_lost(stage: Stage) -> None:
    stage.write("DELETE FROM inbox")


def resend_becomes_a_signal(stage: Stage) -> None:
    stage.signal("s2")
    stage.accepted["s2"] = "k1"


def held_after_its_trade(stage: Stage) -> None:
    take_profit(stage)
    stage.live = [LiveOrder(f"{FIRST}E1", 3, 1, 5, 1, Decimal(100), True, "PendingSubmit")]


def signal_without_verdict(stage: Stage) -> None:
    stage.write("UPDATE inbox SET state = 'waiting', outcome = NULL")


def fill_missed(stage: Stage) -> None:
    stage.write("DELETE FROM fills")


def void_though_filled(stage: Stage) -> None:
    stage.alive()
    stage.shows(0)
    stage.end("never filled", state="void")


def unknown_though_seen(stage: Stage) -> None:
    take_profit(stage)
    stage.end("unknown")


def take_profit_not_noted(stage: Stage) -> None:
    take_profit(stage, tp_hit=0)


def closed_with_a_rest(stage: Stage) -> None:
    stage.alive()
    stage.filled(f"{FIRST}T1", 60)
    stage.end("take-profit", tp_hit=1)


def entry_price_wrong(stage: Stage) -> None:
    take_profit(stage)
    stage.write("UPDATE trades SET entry_price = 10.1")


def exit_price_wrong(stage: Stage) -> None:
    take_profit(stage)
    stage.write("UPDATE trades SET exit_price = 10.1")


def reduction_left_at_tws(stage: Stage) -> None:
    ref = stage.asks(40)
    stage.live.append(stage.order_alive(ref, 60))
    stage.pass_time(60)


def stopped_by_a_bug(stage: Stage) -> None:
    stage.write(
        "INSERT INTO alarms (key, kind, level, text, raised_at) VALUES ('program:', 'program', 'page', 'x', '2026')"
    )


PLANTED: list[tuple[Callable[[Stage], None], str]] = [
    (accepted_twice, "once"), (order_id_of_another, "once"), (entered_twice, "once"), (sent_before_it_was_written, "written-first"),
    (enters_beside_a_live_exit, "left-behind"), (exit_left_alive, "left-behind"), (enters_against_the_block, "blocked"),
    (enters_too_late, "fresh"), (enters_on_a_position, "flat-first"), (closes_beside_its_exits, "cancel-first"),
    (closes_more_than_there_is, "flip"), (turns_over_in_silence, "flip"), (sells_the_owners_shares, "owner"),
    (cancels_the_owners_order, "owner"), (changes_the_owners_order, "owner"), (puts_back_beside_a_stop, "one-stop"),
    (gives_out_an_id_again, "ids-rise"), (holds_without_a_word, "hold"), (stop_gone, "protected"),
    (stop_too_small, "protected"), (position_unlike_the_trade, "position"), (signal_lost, "lost"),
    (resend_becomes_a_signal, "one-signal"), (held_after_its_trade, "held-back"), (closed_with_a_rest, "flat"),
    (entry_price_wrong, "entry-price"),
    (signal_without_verdict, "verdict"), (fill_missed, "fills"), (void_though_filled, "fills"),
    (unknown_though_seen, "known-exit"), (take_profit_not_noted, "tp-hit"), (exit_price_wrong, "exit-price"),
    (stopped_by_a_bug, "program"), (reduction_left_at_tws, "taken-back"),
]  # fmt: skip


def test_clean_course_breaks_no_rule(stage: Stage) -> None:
    assert stage.rules() == set()
    take_profit(stage)
    assert stage.rules() == set()


@pytest.mark.parametrize(("plant", "rule"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_planted_violation_is_caught(stage: Stage, plant: Callable[[Stage], None], rule: str) -> None:
    plant(stage)
    assert rule in stage.rules(), stage.checker.found


def test_query_that_the_journal_does_not_know_is_an_error(stage: Stage, tmp_path: Path) -> None:
    """Else a rule whose column was renamed would find nothing for ever."""
    for sql in ("SELECT no_such FROM trades", "SELECT * FROM no_such"):
        with pytest.raises(sqlite3.OperationalError, match="no_such"):
            stage.checker.journal.rows(sql)
    (tmp_path / "new.db").touch()
    assert JournalSide(tmp_path / "new.db").rows("SELECT * FROM trades") == []


def test_an_alarm_for_the_symbol_answers_for_a_missing_stop(stage: Stage) -> None:
    stop_gone(stage)
    columns = "(key, kind, level, symbol, text, raised_at)"
    stage.write(f"INSERT INTO alarms {columns} VALUES ('unprotected:1', 'unprotected', 'page', 'AAPL', '', '')")
    assert stage.rules() == set()


# ---- what must not be on a day without a fault ----


def paged(stage: Stage) -> None:
    holds_without_a_word(stage)
    stage.write(
        "INSERT INTO alarms (key, kind, level, text, raised_at) VALUES ('hold:1', 'hold', 'page', 'on hold', '2026')"
    )


def verdict(outcome: str, side: str | None = "buy") -> Callable[[Stage], None]:
    """Return what gives the signal another outcome, as decided just now."""

    def change(stage: Stage) -> None:
        now = utc_text(NOW)
        sql = "UPDATE inbox SET outcome = ?, side = ?, quantity = '100', received_at = ?, decided_at = ?"
        stage.write(sql, outcome, side, utc_text(NOW + timedelta(seconds=1)), now)

    return change


def test_calm_course_is_quiet_and_founded(stage: Stage) -> None:
    for outcome, side in (("ignored", "buy"), ("entered", "buy"), ("entered", "sell")):
        verdict(outcome, side)(stage)
        assert [*calm.quiet(stage.checker.journal), *calm.unfounded(stage.checker.journal)] == []
    take_profit(stage)
    verdict("refused")(stage)
    assert list(calm.unfounded(stage.checker.journal)) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(paged, "an alarm was raised", id="paged"),
        pytest.param(paged, "on hold", id="held"),
        pytest.param(verdict("expired"), "is expired", id="expired"),
        pytest.param(verdict("refused"), "is refused", id="refused though nothing blocks"),
        pytest.param(verdict("ignored", "sell"), "is ignored", id="ignored though no trade is on its side"),
    ],
)
def test_what_a_calm_day_must_not_bring_is_found(stage: Stage, change: Callable[[Stage], None], text: str) -> None:
    change(stage)
    found = [text for rule in (calm.quiet, calm.unfounded, calm.knowable) for text in rule(stage.checker.journal)]
    assert any(text in each for each in found), found


def test_close_that_did_nothing_beside_an_open_trade_is_found(stage: Stage) -> None:
    verdict("nothing to do", None)(stage)
    stage.write("UPDATE inbox SET decided_at = received_at")
    assert any("nothing to do" in text for text in calm.unfounded(stage.checker.journal))


def test_every_place_that_can_say_no_is_reached_by_a_planted_violation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two places of one rule need two plants: the first must not stand for the second."""
    modules = checker_module, ends_module
    assert reached([plant for plant, _ in PLANTED], tmp_path, monkeypatch, *modules) == places(*modules)
