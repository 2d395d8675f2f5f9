"""The laws of sizes find nothing in a clean reduction, and each planted violation of each."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulate import sizes
from tests.simulate.stage import FIRST, Plant, Stage, begun, places, reached

EXITS = (f"{FIRST}T1", f"{FIRST}S1")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return begun(tmp_path)


def reduce(stage: Stage, to: int = 40, **data: str) -> str:
    """The strategy of the trade of 100 comes down, and so does the trade; not wrong."""
    ref = stage.asks(to, **data)
    stage.alive(*EXITS, size=to)
    stage.leaves(ref, 100 - to)
    stage.truth("accepted", ref, 100 - to)
    stage.filled(ref, 100 - to)
    stage.shows(to)
    return ref


def alarm(stage: Stage, text: str) -> None:
    columns = "(key, kind, level, symbol, text, raised_at)"
    stage.write(f"INSERT INTO alarms {columns} VALUES ('d', 'size differs', 'page', 'AAPL', ?, '')", text)


def leaves_before_it_is_written(stage: Stage) -> None:
    stage.leaves(f"{FIRST}X1", 60)


def leaves_with_another_size(stage: Stage) -> None:
    stage.leaves(stage.asks(40), 50)


def leaves_again_with_another_size(stage: Stage) -> None:
    ref = reduce(stage)
    stage.write("UPDATE orders SET quantity = '50' WHERE order_ref = ?", ref)
    stage.leaves(ref, 50)


def leaves_though_nobody_asked(stage: Stage) -> None:
    stage.asks(40)
    stage.order(1, f"{FIRST}X1", 8)
    stage.leaves(f"{FIRST}X1", 100)


def leaves_before_an_exit_is_smaller(stage: Stage) -> None:
    ref = stage.asks(40)
    stage.live = [stage.order_alive(EXITS[0], 40), stage.order_alive(EXITS[1], 100)]
    stage.leaves(ref, 60)


def leaves_beside_another_reduction(stage: Stage) -> None:
    """Together they sell more than the exits leave."""
    first, second = stage.asks(60), stage.asks(40, "r2")
    stage.live = [stage.order_alive(first, 40), stage.order_alive(EXITS[1], 40)]
    stage.leaves(second, 60)


def sells_more_than_the_strategy_did(stage: Stage) -> None:
    ref = stage.asks(40)
    stage.write("UPDATE orders SET quantity = '70' WHERE order_ref = ?", ref)
    stage.alive(*EXITS, size=30)
    stage.leaves(ref, 70)


def sells_more_than_the_part(stage: Stage) -> None:
    ref = stage.asks(60, action="close", percent="40")
    stage.write("UPDATE orders SET quantity = '50' WHERE order_ref = ?", ref)
    stage.alive(*EXITS, size=50)
    stage.leaves(ref, 50)


def buys_more(stage: Stage) -> None:
    stage.filled(stage.asks(40), 60, action="BUY")


def turns_the_trade_over(stage: Stage) -> None:
    stage.filled(stage.asks(40), 160)


def keeps_its_size_in_silence(stage: Stage) -> None:
    stage.asks(40)


def tells_one_number_only(stage: Stage) -> None:
    stage.asks(40)
    alarm(stage, "AAPL: the strategy holds 40")


def is_never_done(stage: Stage) -> None:
    reduce(stage)
    stage.write("UPDATE trades SET shrink_to = '40', shrink_for = 'r1', shrink_at = '', shrink_taken = '0'")


def add(stage: Stage, stop: int | None = 50, **data: str) -> str:
    """The strategy of the trade of 100 grows to 150, and so does the trade; not wrong."""
    old = stage.asks(150, action="open", **data)
    ref = f"{old[:20]}A1"
    stage.write("UPDATE orders SET order_ref = ?, leg = 'A', quantity = '50' WHERE order_ref = ?", ref, old)
    if stop is not None:
        stage.order(1, f"{old[:20]}K1", 30)
        stage.write("UPDATE orders SET parent_ref = ?, quantity = ? WHERE leg = 'K'", ref, str(stop))
    return ref


def added(stage: Stage) -> None:
    ref = add(stage)
    stage.leaves(ref, 50)
    stage.filled(ref, 50, action="BUY")
    stage.shows(150)
    stage.alive(*EXITS, size=150)


def adds_without_a_stop(stage: Stage) -> None:
    stage.leaves(add(stage, None), 50)


def adds_with_a_small_stop(stage: Stage) -> None:
    stage.leaves(add(stage, 40), 50)


def adds_more_than_the_strategy_did(stage: Stage) -> None:
    ref = add(stage)
    stage.write("UPDATE orders SET quantity = '60' WHERE order_ref = ?", ref)
    stage.leaves(ref, 60)


def adds_too_late(stage: Stage) -> None:
    ref = add(stage)
    stage.at += timedelta(seconds=100)
    stage.leaves(ref, 50)


PLANTED: list[tuple[Plant, str]] = [
    (leaves_before_it_is_written, "written-first"), (leaves_with_another_size, "committed"),
    (leaves_again_with_another_size, "same-size"), (leaves_though_nobody_asked, "asked"),
    (leaves_before_an_exit_is_smaller, "exits-first"), (leaves_beside_another_reduction, "exits-first"),
    (sells_more_than_the_strategy_did, "overshoot"), (sells_more_than_the_part, "overshoot"), (buys_more, "beyond"),
    (turns_the_trade_over, "beyond"), (keeps_its_size_in_silence, "size"), (tells_one_number_only, "size"),
    (is_never_done, "size"), (adds_without_a_stop, "bare"), (adds_with_a_small_stop, "bare"),
    (adds_more_than_the_strategy_did, "beyond"), (adds_too_late, "fresh"),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "rule"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_planted_violation_is_caught(stage: Stage, plant: Plant, rule: str) -> None:
    plant(stage)
    assert rule in stage.rules(), stage.checker.found


def test_every_place_that_can_say_no_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reached([plant for plant, _ in PLANTED], tmp_path, monkeypatch, sizes) == places(sizes)


@pytest.mark.parametrize(
    "data", [{}, {"action": "close", "quantity": "60"}, {"action": "close", "percent": "60"}], ids=str
)
def test_clean_reduction_breaks_no_rule(stage: Stage, data: dict[str, str]) -> None:
    reduce(stage, **data)
    assert stage.rules() == set()


def test_clean_addition_breaks_no_rule(stage: Stage) -> None:
    added(stage)
    assert stage.rules() == set()


def test_two_reductions_one_behind_the_other_break_no_rule(stage: Stage) -> None:
    reduce(stage)
    ref = stage.asks(30, "r2")
    stage.write("UPDATE orders SET quantity = '10' WHERE order_ref = ?", ref)
    stage.alive(*EXITS, size=30)
    stage.leaves(ref, 10, order_id=21)
    stage.filled(ref, 10)
    stage.shows(30)
    assert stage.rules() == set()


def test_while_a_reduction_is_at_tws_the_rest_needs_a_stop_and_no_more(stage: Stage) -> None:
    ref = stage.asks(40)
    stage.alive(*EXITS, size=40)
    stage.live.append(stage.order_alive(ref, 60))
    stage.pass_time(30)
    assert stage.checker.found == []
    stage.live.pop()
    stage.pass_time(30)
    assert {text.partition(":")[0] for text in stage.checker.found} == {"protected"}


def test_what_the_exits_took_is_part_of_the_way_down(stage: Stage) -> None:
    reduce(stage)
    stage.filled(f"{FIRST}S1", 10)
    stage.shows(30)
    stage.alive(*EXITS, size=30)
    assert stage.rules() == set()


def test_a_difference_that_an_alarm_tells_is_told(stage: Stage) -> None:
    stage.asks(40)
    alarm(stage, "AAPL: the strategy holds 40, this trade 100. Adjust it in TWS, or close it")
    assert stage.rules() == set()
