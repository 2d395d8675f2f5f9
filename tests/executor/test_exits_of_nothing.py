"""An exit is never left alive on an account that holds nothing of its trade, whoever took that away and whenever."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.commands import Command, CommandKind

from .fakes import EURUSD, House
from .test_desk import entered

PRICE = Decimal("1.19")
EXITS = {"T1": Decimal(10000), "S1": Decimal(10000)}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "trade_state.db")


@pytest.fixture
def house(path: str) -> House:
    house = House.build(path).connect()
    entered(house)
    house.pass_time(5)
    return house


def doubted(house: House) -> None:
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")


def gone_overnight(house: House, path: str, quantity: int = 10000) -> House:
    """The owner closes by hand while the executor is down, and the next day TWS shows no execution of it."""
    house.broker.silent = True
    house.broker.by_hand(EURUSD, Decimal(-quantity), PRICE)
    house.broker.silent = False
    house.broker.fills, house.broker.day = [], "2026-11-24"
    house.clock.advance(60 * 60 * 18)
    return house.restart(path).connect()


@pytest.mark.parametrize("held_before", [False, True], ids=["open", "on hold"])
def test_exits_of_a_position_that_went_overnight_are_cancelled_within_seconds(
    house: House, path: str, held_before: bool
) -> None:
    """They stayed alive for over a minute, on hold too, and the stop then opened a short."""
    if held_before:
        doubted(house)
    later = gone_overnight(house, path)
    later.pass_time(14)
    assert later.working() == {} and later.state == "hold" and "hold" in later.alarms()
    assert later.broker.quantity[EURUSD.con_id] == 0


def test_exits_of_a_position_that_went_in_part_overnight_shrink_to_what_is_left(house: House, path: str) -> None:
    later = gone_overnight(house, path, 6000)
    later.pass_time(20)
    assert later.working() == {"T1": 4000, "S1": 4000} and later.state == "hold"


@pytest.mark.parametrize("quantity", [10000, 4000])
def test_exits_on_hold_follow_what_the_owner_sells(house: House, quantity: int) -> None:
    """The owner sees the hold and sells in TWS: what is left of the exits must not open the other side."""
    doubted(house)
    house.broker.by_hand(EURUSD, Decimal(-quantity), PRICE)
    house.pass_time(4)
    left = Decimal(10000 - quantity)
    assert house.working() == ({"T1": left, "S1": left} if left else {}) and house.state == "hold"


def test_position_that_vanishes_without_an_execution_takes_its_exits_along(house: House) -> None:
    """A transfer, an assignment, a symbol that was renamed: TWS has shown the position, and says that it is gone."""
    house.broker._move(EURUSD, Decimal(-10000))
    house.pass_time(6)
    assert house.working() == {}
    house.pass_time(40)
    assert house.state == "hold" and "hold" in house.alarms()


@pytest.mark.parametrize("on_hold", [False, True], ids=["open", "on hold"])
def test_stop_comes_back_with_its_position(house: House, path: str, on_hold: bool) -> None:
    """TWS had not loaded the position: its exits were cancelled, and what is held must not stand bare."""
    if on_hold:
        doubted(house)
    later = gone_overnight(house, path)
    later.pass_time(20)
    later.broker._move(EURUSD, Decimal(10000))
    later.pass_time(15)
    assert later.working() == {"R1": 10000}


def test_hold_cancels_no_exit_of_a_position_that_is_merely_told_late(house: House, path: str) -> None:
    doubted(house)
    house.broker.hidden = frozenset({"positions"})
    later = house.restart(path).connect()
    later.pass_time(7)
    later.broker.hidden = frozenset()
    later.connect()
    later.pass_time(15)
    assert later.working() == EXITS


def test_adopted_after_its_exits_were_cancelled_the_trade_is_protected_again(house: House, path: str) -> None:
    later = gone_overnight(house, path, 6000)
    later.pass_time(20)
    later.command(Command(CommandKind.ADOPT, trade_id=1))
    later.pass_time(10)
    assert later.state == "open" and later.working() == {"T1": 4000, "S1": 4000} and later.alarms() == []


# ---- entries: a hold freezes opening ----


@pytest.mark.parametrize("filled", [0, 4000])
def test_hold_ends_an_entry_that_still_works(path: str, filled: int) -> None:
    """Its rest stayed at the market past its time, and would have entered on hold."""
    house = House.build(path).connect()
    house.broker.fill_entries = False
    entered(house)
    if filled:
        house.broker.execute(1, Decimal(filled), PRICE)
    doubted(house)
    house.pass_time(3)
    assert "E1" not in house.working() and house.state == "hold"
    house.pass_time(12)
    left = Decimal(filled)
    assert house.working() == ({"T1": left, "S1": left} if filled else {})


def test_cancel_of_an_entry_on_hold_is_asked_again_until_it_is_answered(path: str) -> None:
    house = House.build(path).connect()
    house.broker.fill_entries = house.broker.takes_cancels = False
    entered(house)
    doubted(house)
    house.pass_time(25)
    assert house.broker.cancels == [1, 1, 1]


@pytest.mark.parametrize("held", [False, True], ids=["open", "on hold"])
def test_exits_of_a_position_that_is_told_late_stay(house: House, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second trade of a day: TWS had shown the contract's position before, so after 2 s the stop was cancelled."""
    house.signal("close")
    house.pass_time(40)
    move = house.broker._move
    monkeypatch.setattr(house.broker, "_move", lambda *_: None)
    entered(house)
    if held:
        house.desk.life.hold(house.desk.book.trade(2), "a doubt")
    for _ in range(25):
        house.pass_time(1)
        house.connect()
        assert house.working() == EXITS
    move(EURUSD, Decimal(10000))
    house.pass_time(5)
    assert house.working() == EXITS
    move(EURUSD, Decimal(-10000))
    house.pass_time(15)
    assert house.working() == {}, "gone now, after it was told"


@pytest.mark.parametrize("held", [False, True], ids=["open", "on hold"])
def test_exits_of_a_reversal_whose_position_is_told_late_stay(
    house: House, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report that counted the close was taken for one of the entry, and its stop was cancelled after 2 s."""
    move = house.broker._move
    monkeypatch.setattr(house.broker, "_move", lambda *_: None)
    house.signal("open", side="sell", size="10000", tp="1.17", sl="1.21")
    assert house.working() == {}, "the entry waits for the position after the close"
    move(EURUSD, Decimal(-10000))
    if held:
        house.desk.life.hold(house.desk.book.trade(2), "a doubt")
    for _ in range(12):
        house.pass_time(1)
        house.connect()
        assert house.working() == EXITS
    move(EURUSD, Decimal(-10000))
    house.pass_time(10)
    assert house.working() == EXITS and house.broker.quantity[EURUSD.con_id] == -10000
