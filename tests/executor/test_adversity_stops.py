"""Stops that are refused, lost, renamed, put to sleep or taken away: put back once, never for what is gone, always said."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.clock import FakeClock
from executor.core.policy import Policy
from executor.core.ports import OrderReport, Refusal, Status, Ticket
from executor.tws import decode

from .fakes import AAPL, EURUSD, START, FakeBroker, House
from .test_desk import BRACKET, entered

PRICE = Decimal("1.19")
PLACED = ["E1", "T1", "S1"]


@pytest.fixture
def house() -> House:
    house = House.build().connect()
    house.clock.advance(1)
    return house


def by_hand(house: House, signed: int) -> None:
    house.broker.by_hand(EURUSD, Decimal(signed), PRICE)


def refuse_stop(house: House) -> None:
    """IBKR deactivates the stop."""
    stop = house.broker.id_of("S1")
    house.desk.on_refusal(Refusal(stop, 201, "Order rejected"))
    house.broker._report(stop, Status.INACTIVE)


def say(house: House, leg: str, **changes: object) -> None:
    """TWS shows an order otherwise from now on, and tells of it."""
    number = house.broker.id_of(leg)
    house.broker.orders[number] = replace(house.broker.orders[number], **changes)  # type: ignore[arg-type]
    house.desk.on_order(house.broker.orders[number])


# ---- a stop for what is gone ----


@pytest.mark.parametrize("protect_seconds", [2, 4])
def test_no_stop_is_put_back_for_what_the_owner_closed_by_hand(protect_seconds: int) -> None:
    """The owner closed as the price neared the stop, which IBKR deactivated: a new one would have opened a short at once."""
    house = House.build(policy=Policy(protect_seconds=protect_seconds)).connect()
    entered(house)
    by_hand(house, -10000)
    refuse_stop(house)
    house.pass_time(15)
    assert house.legs() == PLACED


def test_no_stop_is_put_back_while_the_look_takes_long(house: House) -> None:
    """A TWS whose readings take 2.5 s: the stop went back before the second reading showed that all was gone."""
    entered(house)
    by_hand(house, -10000)
    refuse_stop(house)
    for _ in range(8):
        house.pass_time(2.5, look=False)
        house.connect()
    assert house.legs() == PLACED


def test_no_stop_stays_after_a_close_that_was_refused_because_all_is_gone(house: House) -> None:
    """Owner and bot closed in the same moment: a stop of 10000 stood on the flat account, good till cancelled."""
    entered(house)
    house.broker.refuse["C"] = (201, "Order rejected - reason: the account cannot be short")
    house.signal("close")
    house.pass_time(1, look=False)
    by_hand(house, -10000)
    house.pass_time(12)
    assert house.working() == {}


def test_bust_of_the_entry_cancels_the_exits(house: House) -> None:
    """IBKR took the entry's execution back: take-profit and stop of 10000 stood on the flat account."""
    entered(house)
    first = house.broker.fills[0]
    house.broker.fills[0] = replace(first, exec_id=first.exec_id.removesuffix(".01") + ".02", quantity=Decimal(0))
    house.desk.on_fill(house.broker.fills[0])
    house.broker._move(EURUSD, Decimal(-10000))
    house.pass_time(10)
    assert house.working() == {}


def test_lost_stop_that_comes_back_does_not_leave_two(house: House) -> None:
    """TWS had it all the time: beside the one put in its place both would trigger, and 10000 stand short."""
    entered(house)
    lost = house.broker.orders.pop(3)
    house.desk.disconnected("TWS restarts")
    house.connect()
    house.pass_time(15)
    assert house.legs() == [*PLACED, "R1"]
    house.broker.orders[3] = lost
    house.desk.on_order(lost)
    house.pass_time(25)
    assert house.working() == {"T1": 10000, "S1": 10000} and house.alarms() == [] and house.state == "open"


def test_lost_cancel_of_the_spare_stop_is_asked_again(house: House) -> None:
    """Asked once and lost, it was left at that: two stops of 10000 each stayed alive without a word."""
    entered(house)
    lost = house.broker.orders.pop(3)
    house.desk.disconnected("TWS restarts")
    house.connect()
    house.pass_time(15)
    house.broker.takes_cancels = False
    house.broker.orders[3] = lost
    house.desk.on_order(lost)
    house.pass_time(2)
    assert house.broker.cancels == [house.broker.id_of("R1")]
    house.broker.takes_cancels = True
    house.pass_time(12)
    assert house.working() == {"T1": 10000, "S1": 10000}


# ---- bare, and said ----


def test_part_of_an_entry_without_a_waking_stop_is_said_within_its_time(house: House) -> None:
    """TWS kept the exits asleep until all had filled: 4000 of 10000 stood naked for as long as the entry was good."""
    house.broker.fill_entries = False
    entered(house)
    house.broker.execute(1, Decimal(4000), PRICE)
    for leg in ("T1", "S1"):
        say(house, leg, status=Status.PENDING, why_held="child")
    house.pass_time(12)
    assert "unprotected" in house.alarms()


def test_held_trade_without_stop_is_said_as_unprotected(house: House) -> None:
    """On hold nothing is put back, and the hold alone did not say that the position was naked."""
    entered(house)
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    house.broker.cancel_by_hand("S")
    house.pass_time(12)
    assert "unprotected" in house.alarms()


class Unanswering(FakeBroker):
    """Answers a question about a contract only when the test lets it."""

    def request_contract(self, symbol: str, con_id: int = 0) -> None:
        self.asked = symbol, con_id

    def answer(self) -> None:
        super().request_contract(*self.asked)


@pytest.fixture
def restarted(tmp_path: Path) -> House:
    """An open trade after a restart: what its contract is TWS has not said yet."""
    path = str(tmp_path / "trade_state.db")
    broker = Unanswering(FakeClock(START))
    house = House.build(path, broker=broker).connect()
    entered(house)
    broker.answer()
    assert house.legs() == PLACED
    return house.restart(path).connect()


def test_stop_that_cannot_be_put_back_for_want_of_the_contract_is_said(restarted: House) -> None:
    """The question took for ever, and as long the position stood naked without a word."""
    refuse_stop(restarted)
    restarted.pass_time(15)
    assert "unprotected" in restarted.alarms()


def test_exits_are_fitted_as_soon_as_the_contract_is_known(restarted: House) -> None:
    """The journal said that it was done when nothing could be sent: the next try came ten seconds later."""
    restarted.broker.hit("T", Decimal(4000), siblings=False)
    restarted.pass_time(5)
    assert isinstance(restarted.broker, Unanswering)
    restarted.broker.answer()
    restarted.pass_time(1)
    assert restarted.working()["S1"] == 6000


# ---- who took it away ----


@pytest.mark.parametrize("code", [110, 201, 10326])
def test_stop_that_the_owner_takes_away_after_a_refused_change_is_not_put_back(house: House, code: int) -> None:
    """The change was refused hours ago, the stop stood: put back, it would sell what the owner means to keep."""
    entered(house)
    house.desk.on_refusal(Refusal(house.broker.id_of("S1"), code, "the change is refused"))
    house.pass_time(3)
    house.broker.cancel_by_hand("S")
    house.pass_time(15)
    assert house.legs() == PLACED and "unprotected" in house.alarms()


@pytest.mark.parametrize("taken", [1, 4000, 9999])
@pytest.mark.parametrize("oca_type", [None, 2, 3])
def test_stop_that_the_owner_takes_away_after_part_of_the_take_profit_is_not_put_back(
    house: House, taken: int, oca_type: int | None
) -> None:
    """Any fill of the take-profit was taken for what had cancelled the stop; in these groups it only makes it smaller."""
    entered(house)
    say(house, "S1", oca_type=oca_type)
    house.broker.hit("T", Decimal(taken), siblings=False)
    house.pass_time(5)
    house.broker.cancel_by_hand("S")
    house.pass_time(15)
    assert "R1" not in house.legs() and "unprotected" in house.alarms() and house.state == "open"


def test_stop_that_the_broker_cancels_for_part_of_the_take_profit_is_put_back(house: House) -> None:
    """In a group of type 1 the first fill cancels the others, whatever is left."""
    entered(house)
    say(house, "S1", oca_type=1)
    house.broker.hit("T", Decimal(4000), siblings=False)
    house.broker.cancel_by_hand("S")
    house.pass_time(15)
    assert house.working()["R1"] == 6000


@pytest.mark.parametrize("by", ["its expiry", "the exchange"])
def test_stop_that_went_with_the_rest_of_its_entry_is_put_back(by: str) -> None:
    """The rest of the entry was cancelled, its exits with it: 4000 stayed naked, "cancelled by hand"."""
    house = House.build(broker=Family(FakeClock(START))).connect()
    house.broker.fill_entries = False
    entered(house)
    house.broker.execute(1, Decimal(4000), PRICE)
    house.broker.cancel(1) if by == "the exchange" else house.clock.advance(90)
    house.pass_time(10)
    assert house.state == "open" and house.working()["R1"] == 4000


class Family(FakeBroker):
    """Takes attached orders along when their parent is cancelled."""

    def cancel(self, order_id: int) -> None:
        super().cancel(order_id)
        for child in [t.order_id for t in self.tickets.values() if t.parent_id == order_id]:
            if self.orders[child].status.is_live:
                self._report(child, Status.CANCELLED)


def test_take_profit_that_tws_lost_is_said(house: House) -> None:
    """It vanished without the record that every cancel leaves, and the owner went on counting on it."""
    entered(house)
    del house.broker.orders[house.broker.id_of("T1")]
    house.desk.disconnected("TWS restarts")
    house.connect()
    house.pass_time(20)
    assert house.alarms() == ["take-profit lost"]


def test_stop_that_tws_made_a_day_order_is_said_while_there_is_time(house: House) -> None:
    """A preset of TWS: the stop died at the close, and the position stood naked overnight."""
    entered(house)
    say(house, "S1", tif="DAY")
    house.pass_time(1)
    assert house.alarms() == ["day order"]


def test_stop_that_ended_with_its_day_is_put_back(house: House) -> None:
    """It was called "cancelled by hand", and left away."""
    entered(house)
    say(house, "S1", tif="DAY")
    house.broker.cancel_by_hand("S")
    house.pass_time(12)
    assert house.working()["R1"] == 10000


# ---- sizes ----


class Renaming(FakeBroker):
    """Gives the exits of a bracket a group of its own, and refuses every change that names another, as IBKR does."""

    group = "1448732136"
    told = True  # off: only a reading tells the new name

    def _report(self, order_id: int, status: Status, filled: Decimal = Decimal(0)) -> None:
        super()._report(order_id, status, filled)
        if order_id in (2, 3):
            self.orders[order_id] = replace(self.orders[order_id], oca_group=self.group, oca_type=3)
            if self.told:
                self._tell("on_order", self.orders[order_id])

    def send(self, ticket: Ticket) -> None:
        if ticket.order_id in self.tickets and (ticket.oca_group, ticket.oca_type) != (self.group, 3):
            self._tell("on_refusal", Refusal(ticket.order_id, 10326, "OCA group revision is not allowed."))
        else:
            super().send(ticket)


@pytest.mark.parametrize("told", [True, False])
def test_exits_are_fitted_at_a_broker_that_renames_their_group(told: bool) -> None:
    """Every change was refused: the stop stayed larger than the position, which its trigger would have turned."""
    broker = Renaming(FakeClock(START))
    broker.told = told
    house = House.build(broker=broker).connect()
    entered(house)
    broker.hit("T", Decimal(4000), siblings=False)
    house.pass_time(15)
    assert house.working() == {"T1": 6000, "S1": 6000} and house.state == "open"


@pytest.mark.parametrize(
    ("symbol", "size", "taken"), [("AAPL", "10", "2.5"), ("AAPL", "10", "0.5"), ("EURUSD", "10000.5", "0.2")]
)
def test_fraction_that_the_owner_took_leaves_exits_that_can_be_ordered(
    house: House, symbol: str, size: str, taken: str
) -> None:
    """Exits of 7.5 shares are refused through the API; the stop of 10 stayed, and no close ever went out."""
    contract = {"AAPL": AAPL, "EURUSD": EURUSD}[symbol]
    house.signal("open", symbol, "buy", size, **(BRACKET if symbol == "EURUSD" else {"tp": "2", "sl": "1"}))
    house.broker.by_hand(contract, -Decimal(taken), PRICE)
    house.pass_time(12)
    stop = house.working()["S1"]
    assert stop <= house.broker.quantity[contract.con_id] and (symbol == "EURUSD" or stop % 1 == 0)
    house.signal("close", symbol)
    house.pass_time(5)
    assert house.trades()[0]["closed"] == 1 and 0 <= house.broker.quantity[contract.con_id] < 1


def completed(report: OrderReport, filled: int) -> OrderReport:
    """What TWS says of a completed order: once it has filled, its totalQuantity may be 0."""
    assert report.side is not None
    order = SimpleNamespace(
        permId=report.perm_id, orderRef=report.order_ref, account=report.account, action=report.side.value.upper(),
        orderType=report.kind, totalQuantity=0.0, filledQuantity=float(filled), lmtPrice=0.0, auxPrice=0.0, tif="GTC",
    )  # fmt: skip
    state = SimpleNamespace(status="Filled", completedStatus=f"Filled Size: {filled}")
    return decode.from_completed_order(order, SimpleNamespace(conId=report.con_id), state)


@pytest.mark.parametrize("exits", [{}, BRACKET], ids=["bare", "bracket"])
def test_entry_whose_completed_order_shows_no_quantity_is_not_void(house: House, exits: dict[str, str]) -> None:
    """It counted as "filled 0 of 0" before its executions came: void, its exits cancelled, and 10000 naked."""
    house.broker.silent = True
    house.signal("open", side="buy", size="10000", **exits)
    house.broker.silent = False
    early = replace(house.broker.snapshot(), fills=(), completed_orders=(completed(house.broker.orders[1], 10000),))
    house.clock.advance(1)
    house.desk.reconciled(replace(early, taken_at=house.clock.now(), begun_at=house.clock.now()))
    house.pass_time(3, look=False)
    house.desk.on_fill(house.broker.fills[0])
    house.pass_time(5)
    assert house.state == "open" and list(house.working()) == ["T1", "S1"][: len(exits)]
