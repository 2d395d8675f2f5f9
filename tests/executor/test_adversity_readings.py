"""Readings of the broker that come too early or too late, show half of it, or show nothing at all."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from executor.core.ports import Connectivity, OrderReport, Position, Refusal, Snapshot, Status
from executor.tws.reading import same_picture

from .fakes import ACCOUNT, EURUSD, START, House
from .test_desk import entered

EXITS = {"T1": Decimal(10000), "S1": Decimal(10000)}
EVERYTHING = frozenset({"orders", "executions", "positions"})
PRICE = Decimal("1.19")


@pytest.fixture
def house() -> House:
    house = House.build().connect()
    house.clock.advance(1)
    return house


def look(house: House, seconds: float) -> None:
    house.clock.advance(seconds)
    house.connect()


def restarted(house: House) -> None:
    """TWS goes and comes back, and is read at once."""
    house.desk.disconnected("TWS restarts")
    house.connect()


# ---- TWS without IBKR ----


def test_nothing_is_concluded_from_what_tws_shows_while_it_has_lost_ibkr(house: House) -> None:
    """Two empty readings closed the trade, and its stop was cancelled when IBKR was back: 10000 stood naked."""
    entered(house)
    house.desk.on_connectivity(Connectivity.LOST, "1100")
    house.broker.hidden = EVERYTHING
    for _ in range(3):
        look(house, 3)
    house.broker.hidden = frozenset()
    house.desk.on_connectivity(Connectivity.RESTORED, "1102")
    house.pass_time(10)
    assert house.state == "open" and house.working() == EXITS


def test_reading_begun_before_the_line_broke_does_not_count(house: House) -> None:
    """It was begun on the old line: orders could go out on what it shows, though nothing is known of the new one."""
    early = replace(house.broker.snapshot(), begun_at=house.clock.now())
    house.clock.advance(1)
    house.desk.on_connectivity(Connectivity.LOST, "1100")
    house.desk.on_connectivity(Connectivity.RESTORED, "1102")
    house.desk.reconciled(replace(early, taken_at=house.clock.now()))
    assert not house.desk.can_send
    look(house, 1)
    assert house.desk.can_send


def test_held_position_without_ibkr_is_said_within_a_minute(house: House) -> None:
    """TWS stood and answered, so nobody was told that a held position could not be seen."""
    entered(house)
    house.desk.on_connectivity(Connectivity.LOST, "1100")
    house.pass_time(1)
    house.clock.advance(60)
    house.pass_time(1)
    assert house.alarms() == ["broker blind"]
    house.desk.on_connectivity(Connectivity.RESTORED, "1102")
    house.pass_time(7)
    assert house.alarms() == [] and house.desk.can_send


# ---- orders that a reading does not show ----


def test_order_sent_a_moment_ago_is_not_sent_again_by_another_symbols_look(house: House) -> None:
    """Three looks within two seconds sent a healthy entry three times, and put it on hold."""
    house.broker.deaf = True
    entered(house)
    for _ in range(3):
        look(house, 0.7)
    assert house.legs() == ["E1", "T1", "S1"] and house.state == "sending"


def test_position_told_before_any_word_of_the_order_is_no_hold_at_once(house: House) -> None:
    """The position came first: the entry was held as "no trace of it", with nobody to protect what it bought."""
    house.broker.deaf = True
    entered(house)
    house.clock.advance(0.3)
    house.broker._move(EURUSD, Decimal(10000))
    house.connect()
    assert house.state == "sending"


def test_exits_missing_in_one_look_are_not_given_up(house: House) -> None:
    """TWS had just started and listed no order yet: both exits counted as gone, and others were to be put beside."""
    entered(house)
    house.broker.hidden = frozenset({"orders"})
    restarted(house)
    assert [o.state.value for o in house.journal.trade(1).orders[1:]] == ["working", "working"]


def test_close_is_not_sent_while_the_exits_may_still_live(house: House) -> None:
    """The close went out beside exits that TWS had only not listed yet: both could fill, and the position turn."""
    entered(house)
    house.broker.takes_cancels = False
    house.signal("close")
    house.broker.hidden = frozenset({"orders"})
    restarted(house)
    house.pass_time(1)
    assert "C1" not in house.legs()


def test_first_look_of_a_connection_is_never_the_second_look(house: House) -> None:
    """Missing while TWS goes down and missing when it has just come up is one thing, not two."""
    entered(house)
    house.broker.hidden = frozenset({"orders"})
    house.connect()
    house.desk.disconnected("TWS restarts")
    house.clock.advance(60)
    house.connect()
    assert [o.state.value for o in house.journal.trade(1).orders[1:]] == ["working", "working"]


def test_order_sent_just_after_midnight_is_of_the_new_day(house: House) -> None:
    """It bore the day of the last look, so that a lost answer was a hold, and not one more sending."""
    house.broker.day = "2026-11-24"
    house.broker.deaf = True
    entered(house)
    house.clock.advance(11)
    house.desk.tick()
    house.broker.deaf = False
    house.connect()
    house.pass_time(3)
    assert house.state == "open"


# ---- orders that come back ----


def test_entry_that_wakes_up_after_it_was_called_inactive_is_cancelled(house: House) -> None:
    """Its trade was void, so nobody looked for ten minutes: it could fill late, and naked."""
    house.broker.fill_entries = False
    entered(house)
    house.broker._report(1, Status.INACTIVE)
    house.broker.cancel_by_hand("T")
    house.broker.cancel_by_hand("S")
    assert house.state == "void"
    house.broker._report(1, Status.WORKING)
    house.pass_time(20)
    assert house.working() == {}


def test_order_of_a_finished_trade_that_stays_alive_is_not_read_for_ever(house: House) -> None:
    """A cancel that waits for the exchange to open made a reading of everything, and another cancel, each second."""
    entered(house)
    house.broker.hit("T", siblings=False)
    house.broker.takes_cancels = False
    house.broker._report(3, Status.CANCELLED)
    house.pass_time(3)
    house.broker.orders[3] = stop = replace(house.broker.orders[3], status=Status.WORKING)
    looks = 0
    for _ in range(120):
        house.pass_time(0.5, look=False)
        if house.wanted:
            looks += 1
            house.wanted.clear()
            house.desk.on_order(stop)  # what a reading hears the desk hears too
            house.connect()
    assert looks < 10


def test_order_that_lives_although_it_was_cancelled_by_its_id_is_cancelled_again(house: House) -> None:
    """Refused, cancelled, "not found", and alive after all: it worked for ten minutes, and would have filled bare."""
    house.broker.fill_entries = False
    house.broker.deaf = True
    entered(house)
    house.desk.on_refusal(Refusal(1, 201, "Order rejected"))
    house.connect()
    house.pass_time(3)
    house.broker.tickets[1] = house.broker.sent[0]
    house.broker._report(1, Status.WORKING)
    house.pass_time(12)
    assert house.working() == {}


def test_lost_cancel_of_an_order_without_a_trade_is_asked_again(house: House) -> None:
    """The alarm said "it is being cancelled"; the cancel was lost, and the next came ten minutes later."""
    entered(house)
    house.broker.hit("T")
    house.pass_time(4)
    house.broker.takes_cancels = False
    house.broker._report(3, Status.WORKING)
    house.pass_time(2)
    assert 3 in house.broker.cancels and house.alarms() == ["orphan"]
    house.broker.takes_cancels = True
    for _ in range(2):
        house.clock.advance(9)
        house.pass_time(2)
    assert house.working() == {} and house.alarms() == []


# ---- positions ----


@pytest.mark.parametrize(("day", "seconds"), [("2026-11-23", 20), ("2026-11-24", 5)])
def test_position_that_tws_has_not_loaded_yet_does_not_end_a_trade(house: House, day: str, seconds: float) -> None:
    """Four seconds of it closed the trade as "unknown" and cancelled its stop: 10000 stood naked."""
    entered(house)
    house.pass_time(5)
    if day != house.broker.day:
        house.broker.day, house.broker.fills = day, []
    house.broker.hidden = frozenset({"positions"})
    house.clock.advance(60)
    restarted(house)
    house.pass_time(seconds)
    house.broker.hidden = frozenset()
    house.pass_time(10)
    assert house.working() == EXITS


def test_close_waits_until_the_position_is_loaded(house: House) -> None:
    """TWS has just started: closed would be nothing, or what nobody holds."""
    entered(house)
    house.broker.hidden = frozenset({"positions"})
    restarted(house)
    close = house.signal("close")
    house.pass_time(8)
    assert house.legs() == ["E1", "T1", "S1"]
    house.broker.hidden = frozenset()
    house.pass_time(10)
    assert house.outcome(close)[0] == "closed" and house.broker.quantity[EURUSD.con_id] == 0


def test_reversal_waits_until_the_position_is_told(house: House) -> None:
    """TWS told it seven seconds late: the entry was refused for a position that "the journal does not know"."""
    entered(house)
    house.broker.unheard = frozenset({"on_position"})
    reversal = entered(house, "sell", tp="1.18", sl="1.20")
    house.pass_time(7, look=False)
    house.broker.unheard = frozenset()
    house.desk.on_position(Position(ACCOUNT, EURUSD.con_id, "EURUSD", Decimal(0), Decimal(1)))
    house.pass_time(3)
    assert house.outcome(reversal)[0] == "entered"


def test_executions_that_come_after_the_position_name_the_exit(house: House) -> None:
    """A take-profit told late ended as "unknown", and then as a hold with -10000 that nobody held."""
    entered(house)
    house.broker.unheard = frozenset({"on_fill", "on_order"})
    house.broker.hit("T")
    house.broker.hidden = frozenset({"orders", "executions"})
    house.pass_time(8)
    house.broker.unheard = house.broker.hidden = frozenset()
    house.desk.on_fill(house.broker.fills[-1])
    house.pass_time(5)
    assert (house.state, house.trades()[0]["tp_hit"]) == ("closed", 1)


def test_flip_while_the_entry_still_works_is_held_and_told(house: House) -> None:
    """4000 of 10000 entered and the stop sold all of them: 6000 were short, unsaid, and the entry stayed alive."""
    house.broker.fill_entries = False
    entered(house)
    house.broker.execute(1, Decimal(4000), PRICE)
    house.broker.hit("S")
    house.pass_time(12)
    assert house.state == "hold" and "hold" in house.alarms()


# ---- two readings that agree ----


def reading(*orders: OrderReport, positions: tuple[Position, ...] = ()) -> Snapshot:
    return Snapshot(START, "2026-11-23", orders, (), (), positions)


def test_what_others_trade_elsewhere_keeps_no_two_readings_from_agreeing(house: House) -> None:
    """On a busy account an order in doubt kept the executor blind for ever."""
    entered(house)
    ours = house.broker.orders[3]
    foreign = replace(ours, order_ref="", order_id=0, perm_id=9, con_id=1)
    elsewhere = Position(ACCOUNT, 1, "MSFT", Decimal(5), Decimal(1))
    here = Position(ACCOUNT, EURUSD.con_id, "EURUSD", Decimal(5), Decimal(1))
    contracts = {EURUSD.con_id}
    assert same_picture(reading(ours), reading(ours, foreign, positions=(elsewhere,)), contracts)
    assert not same_picture(reading(ours), reading(replace(ours, status=Status.PENDING)), contracts)
    assert not same_picture(reading(ours), reading(ours, positions=(here,)), contracts)
