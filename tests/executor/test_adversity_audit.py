"""What an outside examiner found with real processes, each as the smallest case that shows it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from common.signals import Side
from executor.core.commands import Command, CommandKind
from executor.core.ports import Refusal, Status, Ticket
from executor.tws.wire import within

from .fakes import EURUSD, House
from .test_desk import entered


@pytest.fixture
def house() -> House:
    return House.build().connect()


def legs(house: House) -> list[str]:
    return [ticket.order_ref[20:] for ticket in house.broker.sent]


def test_close_whose_id_was_overtaken_gets_a_new_attempt(house: House) -> None:
    """Sent again under its own id it met 103, since a higher one had been used; nothing of it had ever arrived."""
    entered(house)
    house.broker.deaf = True
    house.signal("close")
    house.broker.deaf = False
    send = house.broker.send

    def overtaken(ticket: Ticket) -> None:
        house.broker.refuse = {"C": (103, "Duplicate order id")} if ticket.order_ref[20:] == "C1" else {}
        send(ticket)

    house.broker.send = overtaken  # type: ignore[method-assign]
    house.pass_time(15)
    assert house.trades()[0]["closed"] == 1 and "C2" in legs(house)
    assert house.broker.quantity[EURUSD.con_id] == 0 and "hold" not in house.alarms()


def test_nothing_with_a_higher_id_overtakes_an_order_that_is_sent_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Its contract must be told first, after a restart; another symbol's entry waits for that moment."""
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.deaf = True
    house.signal("open", side="buy", size="10000")
    later = house.restart(path)
    later.broker.deaf = False
    answer, asked = later.broker.request_contract, []
    later.broker.request_contract = lambda symbol, con_id=0: asked.append((symbol, con_id))  # type: ignore[method-assign]
    later.signal("open", "AAPL", side="buy", size="10")
    later.connect()
    answer("AAPL")
    assert [t.contract.symbol for t in later.broker.sent] == ["EURUSD"]
    answer("EURUSD")
    later.pass_time(3)
    assert [t.contract.symbol for t in later.broker.sent] == ["EURUSD", "EURUSD", "AAPL"]
    assert later.broker.sent[1].order_id < later.broker.sent[2].order_id


def test_cancel_that_comes_with_the_answer_is_not_lost() -> None:
    """`asyncio.wait_for` of Python 3.11 loses it: the heartbeat lived on, and nothing was ever read again."""

    async def cancelled() -> bool:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(within(5, answer))
        await asyncio.sleep(0)
        answer.set_result(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_timers_do_not_count_a_sleep(house: House) -> None:
    """On waking a message came before the tick: the stop, confirmed long ago, was judged as missing for all that time."""
    entered(house)
    house.broker._report(3, Status.PENDING)
    house.desk.before_turn = lambda: house.desk.disconnected("this computer slept")
    house.clock.advance(60)
    house.desk.advance()
    assert house.trades()[0]["state"] == "open" and house.alarms() == []


def test_adopted_trade_gets_its_stop_tried_once_more(house: House) -> None:
    house.broker.refuse |= {"S": (201, "Order rejected"), "R": (201, "Order rejected")}
    entered(house)
    house.pass_time(20)
    assert house.trades()[0]["state"] == "hold"
    house.broker.refuse.clear()
    house.command(Command(CommandKind.ADOPT, trade_id=1))
    house.pass_time(12)
    assert house.trades()[0]["state"] == "open" and legs(house)[-1] == "R2"
    assert "unprotected" not in house.alarms() and "hold" not in house.alarms()


def test_exits_of_a_position_that_the_owner_turned_over_are_cancelled(house: House) -> None:
    """The owner sold more than the trade held: the exits could only have gone on selling."""
    entered(house)
    house.broker.by_hand(EURUSD, Decimal(-15000), Decimal("1.19"))
    house.pass_time(10)
    assert house.trades()[0]["state"] == "hold"
    assert not any(house.broker.orders[number].status.is_live for number in (2, 3))
    house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(5)
    assert house.broker.quantity[EURUSD.con_id] == 0 and not house.journal.unfinished()


def test_entry_whose_answer_was_lost_and_whose_target_filled_first_is_looked_up(house: House) -> None:
    """An exit cannot fill before its entry: the entry's execution is missing, and nothing has turned over."""
    house.broker.silent = True
    entered(house)
    house.broker.silent = False
    house.broker.hit("T")
    assert house.trades()[0]["state"] != "hold"
    house.pass_time(4)
    trade = house.trades()[0]
    assert (trade["closed"], trade["tp_hit"], trade["entry_price"]) == (1, 1, 1.19) and not house.alarms()


def test_price_that_the_owner_moved_is_in_the_trade_log(house: House) -> None:
    entered(house)
    house.broker.tickets[3] = house.broker.tickets[3].__class__(
        **{name: getattr(house.broker.tickets[3], name) for name in house.broker.tickets[3].__slots__}
        | {"price": Decimal("1.185")}
    )
    house.broker._report(3, Status.WORKING)
    moved = house.journal._rows("SELECT details FROM events WHERE kind = 'moved'")
    assert [row["details"] for row in moved] == ["stop-loss from 1.18 to 1.185, by hand in TWS"]


def test_refusal_after_an_exit_that_nobody_saw_does_not_claim_a_profit(house: House) -> None:
    entered(house)
    with house.desk.book.change():
        house.desk.book.set_block(house.desk.book.trade(1), "the last trade closed for an unknown reason", sure=False)
    house.broker.hit("S")
    reason = str(house.outcome(entered(house))[1])
    assert "re-entry blocked" in reason and "may have hit its take-profit" in reason
    assert house.desk.book.block(EURUSD.con_id, "EURUSD") is not None


@pytest.mark.parametrize("code", [10326, 10327])
def test_refused_change_is_no_refusal_of_the_order(house: House, code: int) -> None:
    entered(house)
    house.desk.on_refusal(Refusal(3, code, "OCA group revision is not allowed."))
    house.pass_time(15)
    assert house.trades()[0]["state"] == "open" and house.alarms() == []


def test_block_of_one_side_outlives_the_end_of_a_trade_on_the_other(house: House) -> None:
    """Only an entry that fills, a reset or the owner releases it: not the end of a position that was adopted."""
    entered(house)
    house.broker.hit("T")
    with house.desk.book.change():
        sold = replace(house.desk.book.trade(1), side=Side.SELL)
        house.desk.book.set_block(sold, "the last trade closed for an unknown reason", sure=False)
    assert house.outcome(entered(house))[0] == "refused"
    assert house.outcome(entered(house, side="sell", tp="1.18", sl="1.20"))[0] == "refused"
    house.signal("reset")
    assert house.outcome(entered(house))[0] == "entered"
