"""Rules of the order protocol that only a mutant showed to be without a test."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.orders import OrderState
from executor.core.ports import Status
from executor.tws.client import _order
from tests.executor.fakes import ACCOUNT, EURUSD, House


@pytest.fixture
def house() -> House:
    return House.build().connect()


def buy(house: House) -> None:
    house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")


def by_hand(house: House, quantity: int) -> None:
    """The owner trades, and one snapshot shows it."""
    house.broker.by_hand(EURUSD, Decimal(quantity), Decimal("1.19"))
    house.connect()


def test_close_that_never_arrived_is_sent_again_however_old_its_trade_is(house: House) -> None:
    buy(house)
    house.pass_time(100)  # an entry of that age would be given up
    house.broker.deaf = True
    house.signal("close")
    house.broker.deaf = False
    house.pass_time(20)
    closes = [ticket.order_id for ticket in house.broker.sent if ticket.order_ref[20] == "C"]
    assert len(closes) == 2 and len(set(closes)) == 1
    assert house.trades()[0]["state"] == "closed"


def test_what_was_taken_out_by_hand_is_believed_at_the_second_look(house: House) -> None:
    buy(house)
    by_hand(house, -4000)
    assert house.trades()[0]["reduced"] == "0"
    house.pass_time(8)
    assert house.trades()[0]["reduced"] == "4000"


def test_more_gone_than_the_trade_held_is_a_hold(house: House) -> None:
    buy(house)
    by_hand(house, -15000)
    house.pass_time(8)
    trade = house.trades()[0]
    assert trade["state"] == "hold" and trade["reduced"] == "0", "what nobody knows is not written down as known"
    assert "15000" in trade["hold_reason"] and "hold" in house.alarms()


def test_cancel_that_nobody_answers_is_asked_again(house: House) -> None:
    buy(house)
    asked: list[int] = []
    house.broker.cancel = asked.append  # type: ignore[method-assign]
    house.signal("close")
    house.pass_time(60)
    assert len(set(asked)) == 2 and len(asked) >= 4


def test_every_order_names_its_account_to_tws(house: House) -> None:
    buy(house)
    house.signal("close")
    assert [_order(ticket).account for ticket in house.broker.sent] == [ACCOUNT] * 4


def test_choice_of_the_owner_is_an_event_in_the_journal(house: House) -> None:
    buy(house)
    said = house.command(Command(CommandKind.CLOSE, trade_id=1))
    rows = house.journal._rows("SELECT details FROM events WHERE kind = 'owner'")
    assert [row["details"] for row in rows] == [said]


def on_hold(house: House) -> None:
    """Both exits are live at the broker."""
    buy(house)
    house.pass_time(3)
    house.connect()
    house.desk.life.hold(house.desk.book.trade(1), "nobody knows")


def test_hold_whose_orders_are_live_is_not_dismissed(house: House) -> None:
    on_hold(house)
    with pytest.raises(CommandRefused, match="live"):
        house.command(Command(CommandKind.DISMISS, trade_id=1))
    assert house.trades()[0]["state"] == "hold"


def test_nothing_is_chosen_while_the_broker_is_not_seen(house: House) -> None:
    on_hold(house)
    house.desk.disconnected("the connection is gone")
    with pytest.raises(CommandRefused, match="connected"):
        house.command(Command(CommandKind.ADOPT, trade_id=1))
    assert house.trades()[0]["state"] == "hold"


def test_exits_are_asked_to_reduce_each_other_and_to_block(house: House) -> None:
    buy(house)
    assert [(_order(ticket).ocaGroup != "", _order(ticket).ocaType) for ticket in house.broker.sent] == [
        (False, 0), (True, 2), (True, 2),
    ]  # fmt: skip


def test_report_of_another_client_under_our_order_id_changes_nothing(house: House) -> None:
    buy(house)
    stop = house.broker.orders[house.broker.sent[2].order_id]
    house.desk.on_order(replace(stop, client_id=7, order_ref="", status=Status.CANCELLED))
    assert [order.state for order in house.journal.trade(1).live] == [OrderState.WORKING] * 2
