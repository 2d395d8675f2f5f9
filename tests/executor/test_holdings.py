"""What the account shows against what the journal explains: looked up, said, and never taken for something else."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.commands import Command, CommandKind

from .fakes import AAPL, EURUSD, House
from .test_desk import entered

PRICE = Decimal("1.19")


@pytest.fixture
def house() -> House:
    return House.build().connect()


def by_hand(house: House, signed: int) -> None:
    house.broker.by_hand(EURUSD, Decimal(signed), PRICE)


def over(house: House) -> House:
    """A trade came and went: its contract is one of ours."""
    entered(house)
    house.broker.hit("S")
    house.pass_time(6)
    assert house.trades()[0]["closed"] == 1 and not house.alarms()
    house.wanted.clear()
    return house


def test_fill_behind_a_cancel_that_only_the_position_tells_of_is_held_at_once(house: House) -> None:
    """TWS told neither execution nor status: the next regular look was minutes away."""
    house.broker.fill_entries = False
    entered(house)
    house.signal("close")
    assert house.trades()[0]["state"] == "void"
    entry = house.broker.sent[0]
    house.broker.silent = True
    house.broker.execute(entry.order_id, Decimal(400), PRICE)
    house.broker.silent = False
    house.broker._move(EURUSD, Decimal(0))
    house.pass_time(3)
    assert house.trades()[0]["state"] == "hold" and house.alarms() == ["hold"]


def test_position_in_a_traded_contract_is_said_until_the_owner_chooses(house: House) -> None:
    over(house)
    by_hand(house, -6000)
    house.pass_time(8)
    assert house.alarms() == ["position mismatch"]
    assert "shows -6000 EURUSD, the journal knows of 0" in house.journal.standing_alarms()[0]["text"]
    assert house.outcome(entered(house))[0] == "refused"
    house.command(Command(CommandKind.IGNORE_POSITION, symbol="EURUSD"))
    house.pass_time(5)
    assert house.alarms() == []
    by_hand(house, 6000)  # the owner closed it: what was to be ignored is gone
    house.pass_time(8)
    assert "shows 0 EURUSD, the journal knows of -6000" in house.journal.standing_alarms()[0]["text"]
    house.command(Command(CommandKind.IGNORE_POSITION, symbol="EURUSD"))
    house.pass_time(5)
    assert house.alarms() == [] and house.outcome(entered(house))[0] == "entered"


def test_position_is_said_after_a_restart_too(house: House, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = str(tmp_path / "trade_state.db")
    house = over(House.build(path).connect())
    house.broker.silent = True
    by_hand(house, 500)
    house.broker.silent = False
    house = house.restart(path).connect()
    house.pass_time(5)
    assert house.alarms() == ["position mismatch"]


def test_contract_that_was_never_traded_is_not_looked_at(house: House) -> None:
    over(house)
    house.broker.by_hand(AAPL, Decimal(10), Decimal(150))
    house.pass_time(60, look=False)
    assert house.wanted == [] and house.alarms() == []


def test_one_change_is_looked_up_once(house: House) -> None:
    entered(house)
    by_hand(house, 5000)
    house.pass_time(60, look=False)
    assert len(house.wanted) == 1
    house.connect()
    house.wanted.clear()
    house.pass_time(60)
    assert house.alarms() == ["position mismatch"] and house.wanted == []


def test_exit_larger_than_what_is_left_is_said_while_tws_does_not_answer(house: House) -> None:
    entered(house)
    by_hand(house, -4000)
    house.pass_time(9, look=False)
    assert house.alarms() == []
    house.pass_time(2, look=False)
    assert house.alarms() == ["exit too large"]
    text = house.journal.standing_alarms()[0]["text"]
    assert (
        "take-profit and the stop-loss would trade more than the account shows (6000" in text
        and "trade's 10000" in text
    )
    house.connect()
    house.pass_time(6)
    assert house.alarms() == []
    assert {o.quantity for o in house.journal.trade(1).live_exits} == {Decimal(6000)}


def test_one_order_of_the_owner_over_his_own_and_ours_is_by_hand(house: House) -> None:
    """TWS's button closes the whole position: the owner's 5000 and the trade's 10000 in one order."""
    entered(house)
    by_hand(house, 5000)
    house.pass_time(6)
    by_hand(house, -15000)
    house.pass_time(8)
    trade = house.trades()[0]
    assert (trade["closed"], trade["exit_reason"], trade["exit_price"], trade["tp_hit"]) == (1, "by hand", None, 0)
    assert house.alarms() == [] and house.desk.book.block(EURUSD.con_id, "EURUSD") is None


def test_take_profit_after_a_part_that_nobody_can_name_is_a_take_profit(house: House) -> None:
    """Its last execution says how it ended, though one part of its price can never be known."""
    entered(house)
    over_midnight(house, "S", Decimal(4000))
    house.pass_time(8)
    assert house.trades()[0]["reduced"] == "4000" and not house.alarms()
    house.broker.hit("T", Decimal(6000))
    house.broker.cancel_by_hand("S")
    trade = house.trades()[0]
    assert (trade["exit_reason"], trade["tp_hit"], trade["exit_price"]) == ("take-profit", 1, None)
    assert house.outcome(entered(house))[0] == "refused"


def test_unexplained_end_is_unknown_though_an_exit_filled_before(house: House) -> None:
    entered(house)
    house.broker.hit("T", Decimal(4000), siblings=False)
    house.pass_time(6)
    over_midnight(house, "S", Decimal(6000))
    house.broker.orders.clear()
    house.pass_time(8)
    trade = house.trades()[0]
    assert (trade["exit_reason"], trade["tp_hit"], trade["exit_price"]) == ("unknown", 0, None)
    assert house.alarms() == ["unknown exit"]


def over_midnight(house: House, leg: str, quantity: Decimal) -> None:
    """An exit fills while nobody looks, and the executions of that day are gone."""
    house.broker.silent = True
    house.broker.execute(next(t.order_id for t in house.broker.sent if t.order_ref[20] == leg), quantity, PRICE)
    house.broker.silent = False
    house.broker.fills.clear()
    house.broker.orders = {number: report for number, report in house.broker.orders.items() if report.status.is_live}
    house.broker.day = "2026-11-24"
    house.desk.disconnected("midnight")
    house.connect()


def test_position_that_tws_tells_late_is_no_exit(house: House) -> None:
    """After its start TWS may list positions late: both exits are open, and no execution of today took anything."""
    entered(house)
    shown = house.broker.quantity.pop(EURUSD.con_id)
    house.desk.disconnected("TWS restarts")
    house.connect()
    house.pass_time(20)
    assert house.trades()[0]["state"] == "open" and [t.order_ref[20:] for t in house.broker.sent] == ["E1", "T1", "S1"]
    house.broker.quantity[EURUSD.con_id] = shown
    house.connect()
    house.pass_time(10)
    assert house.alarms() == [] and house.trades()[0]["state"] == "open"


def test_position_that_stays_away_without_an_execution_is_held_without_its_exits(house: House) -> None:
    """Left alive they would open a position that nobody asked for."""
    entered(house)
    house.broker.quantity.pop(EURUSD.con_id)
    house.desk.disconnected("TWS restarts")
    house.connect()
    house.pass_time(40)
    assert house.trades()[0]["state"] == "hold" and "no execution explains it" in house.trades()[0]["hold_reason"]
    assert house.working() == {}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("sold, own, left", [(3000, 2000, 10000), (5000, 0, 10000), (8000, 0, 7000)])
def test_what_the_owner_sells_comes_out_of_his_own_first(
    tmp_path: Path, sold: int, own: int, left: int, restarted: bool
) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    entered(house)
    by_hand(house, 5000)
    house.beside(EURUSD, Decimal(5000))
    by_hand(house, -sold)
    house.pass_time(8)
    house = house.restart(path).connect() if restarted else house
    house.pass_time(8)
    assert house.desk.book.beside(EURUSD.con_id) == own and house.trades()[0]["held"] == left
    assert {o.quantity for o in house.journal.trade(1).live_exits} == {Decimal(left)} and house.alarms() == []
    assert "own position" in {row["kind"] for row in house.journal._rows("SELECT kind FROM events")}
    by_hand(house, -own - 1000)
    house.pass_time(8)
    assert house.desk.book.beside(EURUSD.con_id) == 0 and house.trades()[0]["held"] == left - 1000
    assert {o.quantity for o in house.journal.trade(1).live_exits} == {Decimal(left - 1000)} and house.alarms() == []
