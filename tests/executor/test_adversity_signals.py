"""Signals that meet a market that is closed, clocks that differ, names that change, and closes that hang."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from common.signals import Action, Envelope, Signal, payload_text
from executor.core.commands import Command, CommandKind
from executor.core.outcomes import StopCause
from executor.core.ports import OrderReport

from .fakes import EURUSD, House
from .test_desk import entered

PRICE = Decimal("1.19")
SHORT = {"tp": "1.18", "sl": "1.20"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "trade_state.db")


@pytest.fixture
def house() -> House:
    house = House.build().connect()
    house.clock.advance(1)
    return house


def by_hand(house: House, signed: int) -> None:
    house.broker.by_hand(EURUSD, Decimal(signed), PRICE)


def waiting_close(house: House) -> None:
    """A trade whose close waits for the market to open."""
    entered(house)
    house.broker.fill_entries = False
    house.signal("close")
    house.clock.advance(10)
    house.pass_time(2)
    assert house.working() == {"C1": Decimal(10000)} and "close waits" in house.alarms()


def market_opens(house: House) -> None:
    house.broker.fill_entries = True
    for report in list(house.broker.orders.values()):
        if report.status.is_live and report.kind == "MKT":
            house.broker.execute(report.order_id, report.remaining or Decimal(0), PRICE)


# ---- which signal acts ----


@pytest.mark.parametrize("action", ["close", "reversal"])
def test_close_is_done_though_its_symbol_cannot_be_looked_up(path: str, action: str) -> None:
    """After a restart TWS could not name the symbol: the close was refused for good, and the position stayed."""
    house = House.build(path).connect()
    entered(house)
    later = house.restart(path)
    del later.broker.contracts["EURUSD"]
    later.broker.by_number[EURUSD.con_id] = EURUSD
    later.connect()
    later.broker.hit("T", Decimal(4000), siblings=False)  # its stop must be fitted: the contract is asked for
    later.pass_time(4)
    later.signal("close") if action == "close" else entered(later, "sell", **SHORT)
    later.pass_time(5)
    assert later.trades()[0]["closed"] == 1 and later.broker.quantity[EURUSD.con_id] == 0


def test_close_that_came_after_its_trade_is_done_though_the_relays_clocks_differ(house: House) -> None:
    """The second relay's clock was half a second behind: its close was "ignored", and the position stayed."""
    entered(house)
    at = house.journal.trade(1).received_at - timedelta(seconds=0.5)
    envelope = Envelope("later", at, None, Signal(Action.CLOSE, "EURUSD"))
    house.desk.receive([(envelope, payload_text(envelope))])
    house.desk.advance()
    assert house.outcome("later")[0] == "closed"


def test_close_under_another_name_of_the_same_contract_closes_it(house: House) -> None:
    """It found "no trade", and the position stayed."""
    house.broker.contracts["EURUSD.X"] = replace(EURUSD, symbol="EURUSD.X")
    entered(house)
    assert house.outcome(house.signal("close", "EURUSD.X"))[0] == "closed"
    assert house.broker.quantity[EURUSD.con_id] == 0


def test_close_of_the_old_trade_does_not_close_what_the_owner_adopted(house: House) -> None:
    """Both exits filled behind the close; what stood the owner made a trade, and the old close sold it at once."""
    entered(house)
    house.broker.takes_cancels = False
    house.signal("close")
    house.broker.hit("T", siblings=False)
    house.broker.hit("S", siblings=False)
    house.pass_time(10)
    house.command(Command(CommandKind.ADOPT, trade_id=1))
    house.pass_time(10)
    assert house.state == "open" and house.broker.quantity[EURUSD.con_id] == -10000


def test_correction_of_an_older_opposite_entry_releases_no_block(house: House) -> None:
    """IBKR corrected a price of the trade before: the block of the side that took profit was gone."""
    entered(house, "sell", **SHORT)
    old = house.broker.fills[0]
    entered(house)
    house.broker.hit("T")
    assert house.outcome(entered(house))[0] == "refused"
    house.desk.on_fill(replace(old, exec_id=old.exec_id.removesuffix(".01") + ".02", price=Decimal("1.1901")))
    assert house.outcome(entered(house))[0] == "refused"


def test_reset_does_not_overtake_an_open_that_came_before_it(house: House) -> None:
    """TWS was away: the buy was blocked when it came, and entered since the reset behind it went first."""
    entered(house)
    house.broker.hit("T")
    house.desk.disconnected("TWS is away")
    blocked = entered(house)
    house.signal("reset")
    house.connect()
    assert house.outcome(blocked)[0] == "refused"


def test_entry_that_waited_is_not_sent_once_entries_are_refused(house: House) -> None:
    """The computer's clock was found to be wrong meanwhile: whether the signal is fresh nobody knew."""
    house.broker.is_paced = True
    entered(house)
    house.desk.gate.forbid(StopCause.CLOCK, "the clock is wrong by an hour")
    house.broker.is_paced = False
    house.pass_time(2)
    assert house.legs() == []


def test_entry_that_expired_at_the_broker_is_an_alarm_like_any_expired_one(house: House) -> None:
    """Nothing was entered, and only an entry that had never been sent said so."""
    house.broker.fill_entries = False
    signal = entered(house)
    house.clock.advance(90)
    house.pass_time(3)
    assert house.outcome(signal)[0] == "expired" and house.alarms() == ["expired signal"]


# ---- cancels that hang ----


def test_close_whose_cancel_is_never_confirmed_is_said(house: House) -> None:
    """The exchange was closed and the cancel of the take-profit hung: for ten minutes nobody knew."""
    entered(house, tp="1.20")
    house.broker.takes_cancels = False
    house.signal("close")
    house.pass_time(15)
    assert house.alarms() == ["close waits"]


def test_expired_entry_that_cannot_be_cancelled_is_said(house: House) -> None:
    """It could fill at the opening, long expired, and nobody was told."""
    house.broker.fill_entries = house.broker.takes_cancels = False
    entered(house)
    for _ in range(2):
        house.clock.advance(90)
        house.pass_time(1)
    assert house.alarms() == ["close waits"]


def test_waiting_entry_is_no_exit_too_large(house: House) -> None:
    """Its exits wait for it: the owner was paged that they "would trade more than the account shows"."""
    house.broker.fill_entries = False
    entered(house)
    house.pass_time(12)
    assert house.alarms() == []


# ---- closes that wait ----


@pytest.mark.parametrize("sold", [10000, 4000])
def test_waiting_close_does_not_sell_what_the_owner_sold_meanwhile(house: House, sold: int) -> None:
    """Alerted that it waits, the owner sold by hand: at the open the close sold it again, and the position flipped."""
    waiting_close(house)
    by_hand(house, -sold)
    house.pass_time(10)
    assert house.working().get("C1") is None
    market_opens(house)
    house.pass_time(3)
    assert house.broker.quantity[EURUSD.con_id] == 0 and house.trades()[0]["closed"] == 1


def test_waiting_close_that_cannot_be_cancelled_is_never_doubled(house: House) -> None:
    """While the exchange is closed a cancel waits too: a second close beside the first would turn the position."""
    waiting_close(house)
    house.broker.takes_cancels = False
    by_hand(house, -4000)
    house.pass_time(12)
    assert list(house.working()) == ["C1"] and house.broker.id_of("C1") in house.broker.cancels


def test_close_that_fills_behind_its_own_cancel_is_held_and_flattened_by_a_button(house: House) -> None:
    """The owner sold 4000, the close of 10000 filled all the same: 4000 short, which the owner ends by one press."""
    waiting_close(house)
    house.broker.takes_cancels = False
    by_hand(house, -4000)
    house.pass_time(5)
    market_opens(house)
    house.pass_time(5)
    assert house.state == "hold" and house.broker.quantity[EURUSD.con_id] == -4000
    house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(5)
    assert house.broker.quantity[EURUSD.con_id] == 0


def test_reversal_enters_once_its_waiting_close_is_taken_back(house: House) -> None:
    """The owner sold what the reversal was to close: the close must not sell it again, and the entry goes on."""
    entered(house)
    house.broker.fill_entries = False
    reversal = entered(house, "sell", **SHORT)
    house.pass_time(2)
    by_hand(house, -10000)
    house.broker.fill_entries = True
    house.pass_time(12)
    assert house.outcome(reversal)[0] == "entered" and house.broker.quantity[EURUSD.con_id] == -10000


def test_entry_that_ibkr_corrects_to_less_is_not_closed_by_more(house: House) -> None:
    """9000 of 10000 were bought after all, and the close sold 10000: 1000 short."""
    waiting_close(house)
    first = house.broker.fills[0]
    less = replace(first, exec_id=first.exec_id.removesuffix(".01") + ".02", quantity=Decimal(9000))
    house.broker.fills[0] = less
    house.desk.on_fill(less)
    house.broker.orders[1] = replace(house.broker.orders[1], filled=Decimal(9000), remaining=Decimal(1000))
    house.desk.on_order(house.broker.orders[1])
    house.broker._move(EURUSD, Decimal(-1000))
    house.pass_time(10)
    market_opens(house)
    assert house.broker.quantity[EURUSD.con_id] == 0


def test_close_that_waits_on_hold_never_sells_more_than_the_account_shows(house: House) -> None:
    """IBKR took 1000 of the entry back but counts them yet: a doubt, and a hold, under which 10000 were sold of 9000."""
    waiting_close(house)
    first = house.broker.fills[0]
    house.broker.fills[0] = replace(first, exec_id=first.exec_id.removesuffix(".01") + ".02", quantity=Decimal(9000))
    house.desk.on_fill(house.broker.fills[0])
    house.broker._move(EURUSD, Decimal(-1000))
    house.pass_time(5)
    assert house.state == "hold"
    house.pass_time(2)
    assert house.working() == {}


@pytest.mark.parametrize("told", ["before the close fills", "after it filled"])
def test_exit_that_comes_back_while_its_trade_is_closing_is_cancelled(house: House, told: str) -> None:
    """Both exits were called gone and lived on in full size: on a flat account the next touch opened 10000."""
    entered(house)
    house.broker.takes_cancels = house.broker.fill_entries = False
    house.signal("close")
    exits = {number: house.broker.orders.pop(number) for number in (2, 3)}
    house.desk.disconnected("TWS restarts")
    house.connect()
    house.pass_time(6)
    house.broker.takes_cancels = True
    for happens in (alive, closes) if told == "before the close fills" else (closes, alive):
        happens(house, exits)
        house.pass_time(12)
    assert house.working() == {} and house.broker.quantity[EURUSD.con_id] == 0


def alive(house: House, exits: dict[int, OrderReport]) -> None:
    """TWS tells of orders that it had not listed."""
    house.broker.orders |= exits
    for report in exits.values():
        house.desk.on_order(report)


def closes(house: House, _: object) -> None:
    house.broker.execute(house.broker.id_of("C1"), Decimal(10000), PRICE)


def test_close_that_is_taken_back_survives_two_deaths(path: str) -> None:
    """The owner sold 4000 of the 10000 that wait to be closed; the executor dies twice: one close of 6000 is left."""
    house = House.build(path).connect()
    waiting_close(house)
    by_hand(house, -4000)
    house.pass_time(2.5)
    for seconds in (3, 10):
        house = house.restart(path).connect()
        house.pass_time(seconds)
    assert list(house.working().values()) == [6000]
