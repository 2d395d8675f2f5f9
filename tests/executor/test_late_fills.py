"""Orders of a finished trade that fill late: one answer to what is unfinished, and nothing of ours is left unsaid."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.ports import Status
from executor.core.trades import State

from .fakes import EURUSD, House
from .test_desk import entered

PRICE = Decimal("1.19")
EXITS = {"T1": Decimal(10000), "S1": Decimal(10000)}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House.build(str(tmp_path / "trade_state.db")).connect()


def states(house: House) -> list[str]:
    return [row["state"] for row in house.trades()]


def held(house: House) -> Decimal:
    return house.broker.quantity.get(EURUSD.con_id, Decimal(0))


def void(house: House) -> int:
    """A trade whose entry was cancelled before it filled; the entry's id."""
    house.broker.fill_entries = False
    entered(house)
    house.signal("close")
    house.pass_time(5)
    house.broker.fill_entries = True
    assert states(house) == ["void"]
    return house.broker.id_of("E1")


def stopped_out(house: House) -> int:
    """A trade that ended by its stop; the id of the take-profit that was cancelled with it."""
    entered(house)
    house.broker.hit("S")
    house.pass_time(5)
    assert states(house) == ["closed"]
    return house.broker.id_of("T1")


def fill_late(house: House, order_id: int) -> None:
    house.broker.execute(order_id, Decimal(10000), PRICE)
    house.pass_time(8)


def working_of(house: House, trade: int) -> dict[str, Decimal]:
    refs = {o.order_ref for o in house.desk.book.trade(trade).orders}
    live = (r for r in house.broker.orders.values() if r.status.is_live and r.order_ref in refs)
    return {r.order_ref[20:]: r.remaining or Decimal(0) for r in live}


def agree(house: House) -> None:
    """State and column say the same of every trade."""
    assert all(bool(row["closed"]) is State(row["state"]).is_finished for row in house.trades())


def test_late_entry_beside_a_new_trade_is_said_and_closed_by_its_own_flatten(house: House) -> None:
    """It was closed = 1 and on hold: "closed", then "nothing to do", and 10000 of our own were left."""
    late = void(house)
    entered(house)
    fill_late(house, late)
    assert states(house) == ["hold", "open"] and working_of(house, 2) == EXITS and held(house) == 20000
    agree(house)
    first, second = house.signal("close"), house.signal("close")
    house.pass_time(8)
    assert house.outcome(first)[0] == "closed" and "10000 are left" in str(house.outcome(first)[1])
    assert house.outcome(second)[0] is None and "stuck signal" in house.alarms()
    said = house.command(Command(CommandKind.FLATTEN, trade_id=1))
    assert "10000 is closed at market" in said
    house.pass_time(8)
    assert held(house) == 0 and states(house) == ["closed", "closed"] and house.working() == {}
    assert house.outcome(second)[0] == "closed"
    agree(house)


def test_late_entry_is_flattened_beside_the_trade_that_is_open(house: House) -> None:
    late = void(house)
    entered(house)
    fill_late(house, late)
    with pytest.raises(CommandRefused, match="flattened or dismissed"):
        house.command(Command(CommandKind.ADOPT, trade_id=1))
    house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(10)
    assert states(house) == ["closed", "open"] and held(house) == 10000 and working_of(house, 2) == EXITS


def test_what_filled_late_is_protected_beside_the_trade_that_is_open(house: House) -> None:
    late = void(house)
    entered(house)
    fill_late(house, late)
    house.pass_time(10)
    assert working_of(house, 1) == {"R1": 10000} and working_of(house, 2) == EXITS


def test_late_exit_of_a_finished_trade_takes_its_quantity_out_of_the_open_one(house: House) -> None:
    """The account is flat: the open trade's stop would have opened a short."""
    late = stopped_out(house)
    entered(house)
    fill_late(house, late)
    assert held(house) == 0 and house.working() == {} and states(house) == ["hold", "closed"]
    assert house.trades()[1]["exit_reason"] == "late fill of an earlier trade"
    close = house.signal("close")
    house.pass_time(5)
    assert held(house) == 0 and house.outcome(close)[0] is None
    house.command(Command(CommandKind.DISMISS, trade_id=1))
    house.pass_time(2)
    assert house.alarms() == [] and house.desk.owner.unknown_positions() == []
    agree(house)


def test_late_exit_in_part_leaves_the_rest_of_the_open_trade_protected(house: House) -> None:
    late = stopped_out(house)
    entered(house)
    house.broker.execute(late, Decimal(4000), PRICE)
    house.pass_time(10)
    assert working_of(house, 2) == {"T1": 6000, "S1": 6000} and states(house) == ["hold", "open"]
    house.signal("close")
    house.pass_time(8)
    assert held(house) == 0


def test_late_exit_beside_a_short_is_flattened_by_buying_it_back(house: House) -> None:
    late = stopped_out(house)
    entered(house, "sell", tp="1.18", sl="1.20")
    fill_late(house, late)
    assert held(house) == -20000 and states(house) == ["hold", "open"]
    house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(10)
    assert held(house) == -10000 and [row["state"] for row in house.trades()][1] == "open"
    assert working_of(house, 2) == EXITS


@pytest.mark.parametrize("kind", [void, stopped_out])
def test_flatten_of_a_finished_trade_on_hold_does_what_it_says(house: House, kind) -> None:  # type: ignore[no-untyped-def]
    """It said "closed at market", and all of it was still there."""
    fill_late(house, kind(house))
    assert states(house) == ["hold"]
    agree(house)
    house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(10)
    assert held(house) == 0 and all(State(s).is_finished for s in states(house))


def test_late_fills_are_the_same_after_a_restart(house: House, tmp_path: Path) -> None:
    late = void(house)
    entered(house)
    fill_late(house, late)
    later = house.restart(str(tmp_path / "trade_state.db")).connect()
    later.pass_time(5)
    assert states(later) == ["hold", "open"] and [t.id for t in later.desk.book.unfinished()] == [1, 2]
    later.signal("close")
    later.pass_time(8)
    assert states(later) == ["hold", "closed"] and held(later) == 10000


def test_row_whose_state_and_column_contradict_is_refused_by_the_file(house: House) -> None:
    entered(house)
    with pytest.raises(Exception, match="contradict"):
        house.journal._write("UPDATE trades SET closed = 1")


def test_status_alone_does_not_make_a_finished_trade_unfinished(house: House) -> None:
    late = stopped_out(house)
    house.broker._report(late, Status.CANCELLED)
    house.pass_time(3)
    assert states(house) == ["closed"]


@pytest.mark.parametrize("sold", [10000, 4000])
def test_what_the_owner_sells_leaves_one_of_two_trades(house: House, sold: int) -> None:
    """The flatten of the one waited at TWS: both were reduced by the same sale, and 10000 stood without a stop."""
    late = void(house)
    entered(house)
    fill_late(house, late)
    house.broker.fill_entries = False
    house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(5)
    assert states(house) == ["closing", "open"]
    house.broker.by_hand(EURUSD, Decimal(-sold), PRICE)
    house.pass_time(30)
    assert sum(trade.signed for trade in house.desk.book.unfinished()) == held(house) == 20000 - sold
    stops = [size for ref, size in working_of(house, 2).items() if ref[0] in "SR"]
    assert house.desk.book.trade(2).held == 10000 and stops == [10000]
