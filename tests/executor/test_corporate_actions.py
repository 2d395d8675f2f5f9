"""A position that is multiplied without an execution is nobody's purchase: hold, with both sizes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from .fakes import AAPL, House

PRICE = Decimal("263.5")


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House.build(str(tmp_path / "trade_state.db")).connect()
    house.broker.market = PRICE
    house.signal("open", "AAPL", "buy", "10", tp="280", sl="250")
    house.pass_time(5)
    return house


@pytest.mark.parametrize("ratio", [2, 4, 10])
@pytest.mark.parametrize("restart", [False, True])
def test_split_is_held_with_both_sizes(house: House, tmp_path: Path, ratio: int, restart: bool) -> None:
    """10 shares became 100, and a close sold 10."""
    house.broker.quantity[AAPL.con_id] = Decimal(10 * ratio)
    house.broker.day, house.broker.fills = "2026-11-24", []
    house.clock.advance(60 * 60 * 18)
    later = house.restart(str(tmp_path / "trade_state.db")).connect() if restart else house
    later.desk.reconciled(later.broker.snapshot())
    later.pass_time(20)
    reason = str(later.trades()[0]["hold_reason"])
    assert later.state == "hold" and "holds 10" in reason and f"shows {10 * ratio}" in reason
    later.signal("close", "AAPL")
    later.pass_time(5)
    assert [leg for leg in later.legs() if leg.startswith("C")] == [] and "hold" in later.alarms()


@pytest.mark.parametrize(("bought", "overnight"), [(10, False), (90, False), (90, True), (5, False)])
def test_what_the_owner_buys_beside_is_no_split(house: House, bought: int, overnight: bool) -> None:
    house.broker.by_hand(AAPL, Decimal(bought), PRICE)
    house.pass_time(20)
    if overnight:
        house.broker.day, house.broker.fills = "2026-11-24", []
        house.clock.advance(60 * 60 * 18)
        house.pass_time(20)
    assert house.state == "open" and "position mismatch" in house.alarms()


def test_what_was_bought_beside_a_trade_that_is_over_excuses_no_split_of_the_next(house: House) -> None:
    """10 bought beside 10, and sold; weeks later 10 of another trade became 20: that was "the owner's" again."""
    house.broker.by_hand(AAPL, Decimal(10), PRICE)
    house.pass_time(20)
    house.broker.by_hand(AAPL, Decimal(-10), PRICE)
    house.signal("close", "AAPL")
    house.pass_time(20)
    house.signal("open", "AAPL", "buy", "10", tp="280", sl="250")
    house.pass_time(20)
    house.broker.quantity[AAPL.con_id] = Decimal(20)
    house.broker.day, house.broker.fills = "2026-11-24", []
    house.clock.advance(60 * 60 * 18)
    house.connect().pass_time(20)
    assert house.state == "hold"


def test_reverse_split_is_held_and_its_exits_shrink(house: House) -> None:
    house.broker.quantity[AAPL.con_id] = Decimal(1)
    house.broker.day, house.broker.fills = "2026-11-24", []
    house.desk.disconnected("overnight")
    house.connect()
    house.pass_time(25)
    assert house.state == "hold" and house.working() == {"T1": 1, "S1": 1}
