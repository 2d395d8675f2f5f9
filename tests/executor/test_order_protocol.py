"""The rules of the order protocol, each by what would go wrong without it; `make mutants` takes each of them away."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import FakeClock
from common.errors import BrokerUnavailable, JournalError
from common.signals import Action, Envelope, Side, Signal, payload_text
from executor.core.commands import Command, CommandKind
from executor.core.conditions import AlarmKind
from executor.core.policy import Policy
from executor.core.ports import Connectivity, OrderReport, Refusal, Status
from executor.core.trades import State
from executor.desk import orders

from .fakes import ACCOUNT, EURUSD, START, FakeBroker, House

LONG = {"tp": "1.20", "sl": "1.18"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "trade_state.db")


@pytest.fixture
def house(path: str) -> House:
    return House.build(path).connect()


def buy(house: House, **prices: str) -> str:
    return house.signal("open", side="buy", size="10000", **(prices or LONG))


def sell(house: House) -> str:
    return house.signal("open", side="sell", size="10000", tp="1.18", sl="1.20")


def legs(house: House) -> list[str]:
    return [ticket.order_ref[20:] for ticket in house.broker.sent]


def id_of(house: House, leg: str) -> int:
    return next(t.order_id for t in house.broker.sent if t.order_ref[20] == leg)


def state(house: House) -> str:
    return str(house.trades()[-1]["state"])


def deaf_to_cancels(house: House) -> list[int]:
    """Have the broker answer no cancel; the ids that were asked for."""
    asked: list[int] = []
    house.broker.cancel = asked.append  # type: ignore[method-assign]
    return asked


# ---- written down before it leaves ----


def test_nothing_leaves_before_it_is_written_down(house: House, path: str) -> None:
    send, cancel, seen = house.broker.send, house.broker.cancel, []

    def row(order_id: int) -> sqlite3.Row:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            db.row_factory = sqlite3.Row
            return db.execute("SELECT * FROM orders WHERE order_id = ?", [order_id]).fetchone()

    def watched_send(ticket):
        order = row(ticket.order_id)
        assert order and order["order_ref"] == ticket.order_ref and order["client_id"] == 1
        assert order["resize_asked_at"] or (order["state"], order["sent_day"]) == ("sending", "2026-11-23")
        seen.append(order["leg"])
        send(ticket)

    def watched_cancel(order_id):
        assert row(order_id)["cancel_asked_at"]
        seen.append("cancel")
        cancel(order_id)

    house.broker.send, house.broker.cancel = watched_send, watched_cancel
    buy(house)
    house.broker.hit("T", Decimal(4000))
    house.pass_time(4)
    house.signal("close")
    assert seen == ["E", "T", "S", "S", "cancel", "cancel", "C"]
    assert house.trades()[0]["closed"] == 1


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_every_leg_goes_out_complete(house: House, side: str) -> None:
    buy(house) if side == "buy" else sell(house)
    entry, target, stop = house.broker.sent
    assert [t.tif for t in (entry, target, stop)] == ["DAY", "GTC", "GTC"]
    assert not entry.oca_group and target.oca_group and target.oca_group == stop.oca_group
    assert {t.parent_id for t in (target, stop)} == {entry.order_id} and entry.parent_id == 0
    assert {t.account for t in (entry, target, stop)} == {ACCOUNT}


@pytest.mark.parametrize(
    ("side", "prices", "rounded"),
    [
        ("buy", {"tp": "1.20004", "sl": "1.18001"}, ("1.20000", "1.18005")),
        ("sell", {"tp": "1.18001", "sl": "1.20004"}, ("1.18005", "1.20000")),
    ],
)
def test_prices_are_rounded_so_that_the_loss_is_never_larger(house: House, side: str, prices, rounded) -> None:
    house.signal("open", side=side, size="10000", **prices)
    assert [t.price for t in house.broker.sent[1:]] == [Decimal(p) for p in rounded]


def test_ids_begin_above_what_the_broker_gives_out(house: House) -> None:
    house.broker.floor = 40
    buy(house)
    assert [t.order_id for t in house.broker.sent] == [40, 41, 42]


def test_signal_delivered_again_when_its_trade_is_over_is_not_acted_on(house: House) -> None:
    now = house.clock.now()
    envelope = Envelope("S0", now, None, Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal(10000)))
    assert house.desk.receive([(envelope, payload_text(envelope))]) == [True]
    house.signal("close")
    assert house.desk.receive([(envelope, payload_text(envelope))]) == [False]
    assert legs(house) == ["E1", "C1"] and house.outcome("S0")[0] == "entered" and house.desk.can_send


# ---- only in time ----


def test_entry_that_waited_for_its_turn_is_given_up_when_too_old(house: House, path: str) -> None:
    house.broker.is_paced = True
    signal = buy(house)
    assert not house.trades() and "too many messages are queued" in str(house.outcome(signal)[1])
    house.clock.advance(91)
    later = house.restart(path).connect()
    later.pass_time(2)
    assert later.outcome(signal)[0] == "expired" and not house.broker.sent


def test_entry_is_good_for_the_shorter_of_the_relays_time_and_ours(house: House) -> None:
    house.desk.disconnected("TWS is away")
    now = house.clock.now()
    signal = Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal(10000))
    envelope = Envelope("S0", now, now + timedelta(seconds=30), signal)
    house.desk.receive([(envelope, payload_text(envelope))])
    house.clock.advance(31)
    house.connect()
    assert house.outcome("S0")[0] == "expired" and not house.broker.sent


def test_limit_on_the_size_of_an_entry() -> None:
    house = House.build(policy=Policy(max_quantity={"EURUSD": Decimal(5000)})).connect()
    outcome, reason = house.outcome(buy(house))
    assert outcome == "refused" and "above max_quantity (5000)" in str(reason) and not house.broker.sent


# ---- orders in doubt ----


def test_order_without_a_trace_is_held_where_the_position_moved(house: House, path: str) -> None:
    house.broker.deaf = True
    buy(house)
    house.broker.by_hand(EURUSD, Decimal(5000), Decimal("1.19"))
    later = house.restart(path).connect()
    assert state(later) == "hold" and "hold" in later.alarms() and len(house.broker.sent) == 3
    assert "position differs by 5000" in later.trades()[0]["hold_reason"] and later.trades()[0]["evidence"]


@pytest.mark.parametrize("leg", ["E", "C"])
def test_order_without_a_trace_is_not_sent_again_on_another_day(house: House, path: str, leg: str) -> None:
    """Midnight lies between: what it did on its own day cannot be read any more, however fresh it is."""
    if leg == "C":
        buy(house)
    house.broker.deaf = True
    buy(house) if leg == "E" else house.signal("close")
    sent = len(house.broker.sent)
    house.broker.deaf, house.broker.day = False, "2026-11-24"
    house.clock.advance(20)
    later = house.restart(path).connect()
    later.pass_time(20)
    assert state(later) == "hold" and "hold" in later.alarms() and len(house.broker.sent) == sent


@pytest.mark.parametrize("leg", ["E", "C"])
def test_order_without_a_trace_is_not_sent_again_after_midnight_in_new_york(path: str, leg: str) -> None:
    """The day is still the same by TWS's own clock; by whose midnight it forgets executions is not documented."""
    house = House.build(path)
    before = datetime(2026, 11, 24, 4, 59, 50, tzinfo=UTC)
    house.clock.advance((before - house.clock.now()).total_seconds())
    house.connect()
    if leg == "C":
        buy(house)
    house.broker.deaf = True
    buy(house) if leg == "E" else house.signal("close")
    sent = len(house.broker.sent)
    house.broker.deaf = False
    house.clock.advance(20)
    later = house.restart(path).connect()
    later.pass_time(20)
    assert state(later) == "hold" and "hold" in later.alarms() and len(house.broker.sent) == sent


def test_order_that_never_arrives_is_sent_again_twice_and_then_held(house: House) -> None:
    house.broker.deaf = True
    buy(house)
    house.pass_time(60)
    assert state(house) == "hold" and "sent 3 times" in house.trades()[0]["hold_reason"]
    assert [t.order_id for t in house.broker.sent] == [1, 2, 3] * 3


def test_entry_that_was_refused_unseen_is_cancelled_by_its_id_before_it_is_called_dead(house: House) -> None:
    asked = deaf_to_cancels(house)
    house.broker.deaf = True
    signal = buy(house)
    house.desk.on_refusal(Refusal(2, 110, "The price does not conform to the minimum price variation"))
    house.connect()
    assert asked == [1] and state(house) == "sending"
    house.pass_time(5)
    assert state(house) == "void" and house.outcome(signal)[0] == "refused"


@pytest.mark.parametrize(
    "code",
    [103, 104, 105, 135, 161, 200, 201, 202, 321, 322, 436, 460, 463, 481, 10052, 10089, 10147, 10148, 10149, 10197, 10268]
    + [10311, 10318, 10329, 10349],
)  # fmt: skip
def test_error_on_a_working_order_is_no_proof_that_it_is_dead(house: House, code: int) -> None:
    """The client libraries call the order cancelled on each of these; the broker may still work it."""
    house.broker.fill_entries = False
    buy(house)
    house.desk.on_refusal(Refusal(1, code, "Error processing request"))
    house.pass_time(3)
    assert state(house) == "working" and len(house.broker.sent) == 3
    house.broker.execute(1, Decimal(10000), Decimal("1.19"))
    assert state(house) == "open" and house.trades()[0]["entry_price"] == 1.19


@pytest.mark.parametrize("code", [2139, 2100, 2137, 2199, 203, 10268])
def test_refusal_of_whatever_number_is_one_and_keeps_its_words(house: House, code: int) -> None:
    """2139: dropped with all "system warnings", the order was sent three times and then held without the words."""
    house.broker.deaf = True
    signal = house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")
    words = "Paper trading has not been acknowledged"
    for number in (1, 2, 3):
        house.desk.on_refusal(Refusal(number, code, words))
    house.pass_time(30)
    outcome, reason = house.outcome(signal)
    assert outcome == "refused" and words in str(reason) and legs(house) == ["E1", "T1", "S1"]
    said = house.journal._rows("SELECT details FROM events WHERE kind = 'TWS says'")
    assert any(words in row["details"] for row in said)


@pytest.mark.parametrize("reason, level", [("", "INFO"), ("the contract is halted", "WARNING")])
def test_cancel_without_a_reason_is_no_warning(house: House, caplog, reason: str, level: str) -> None:
    """Each exit whose sibling filled, or whose trade is closed, brings one: a log full of warnings hides the real ones."""
    buy(house)
    with caplog.at_level("INFO"):
        house.desk.on_refusal(Refusal(id_of(house, "T"), 202, f"Order Canceled - reason:{reason}"))
    (line,) = [record for record in caplog.records if record.getMessage() == "tws_says"]
    assert line.levelname == level


def test_reason_of_a_cancel_is_on_the_page(house: House) -> None:
    buy(house)
    house.desk.on_refusal(Refusal(id_of(house, "T"), 202, "Order Canceled - reason:"))
    house.desk.on_refusal(Refusal(id_of(house, "T"), 202, "Order Canceled - reason:the contract is halted"))
    said = [row["details"] for row in house.journal._rows("SELECT details FROM events WHERE kind = 'TWS says'")]
    assert len(said) == 1 and "halted" in said[0] and state(house) == "open"


@pytest.mark.parametrize("code", [104, 105, 135, 161, 10147, 10148])
def test_refused_change_is_no_refusal_of_the_order(house: House, code: int) -> None:
    """So a stop that the owner then cancels was cancelled by hand, and is not put back."""
    buy(house)
    house.desk.on_refusal(Refusal(id_of(house, "S"), code, "Cannot modify"))
    assert house.wanted
    house.broker.cancel_by_hand("S")
    house.pass_time(15)
    assert legs(house) == ["E1", "T1", "S1"] and "unprotected" in house.alarms()


@pytest.mark.parametrize("code", [399, 404, 10349])
def test_warning_is_shown_and_refuses_nothing(house: House, code: int) -> None:
    house.broker.fill_entries = False
    buy(house)
    house.desk.on_refusal(Refusal(1, code, "will not be placed at the exchange until 09:30"))
    entry = house.journal.unfinished()[0].entry
    assert entry and (entry.refusal_code, entry.reason) == (None, None) and "until 09:30" in str(entry.held)
    assert not house.wanted


@pytest.mark.parametrize("knows", [True, False], ids=["while we ran", "while we were down"])
def test_stop_that_vanished_without_a_record_is_put_back_where_nobody_can_have_taken_it(
    house: House, path: str, knows: bool
) -> None:
    """Each cancel of today leaves a record; of another day none is shown, and then the owner is asked."""
    buy(house)
    del house.broker.orders[id_of(house, "S")]
    later = house if knows else house.restart(path)
    later.desk.disconnected("TWS restarts")
    later.connect()
    later.pass_time(12)
    assert legs(house) == ["E1", "T1", "S1", *(["R1"] if knows else [])]
    assert ("unprotected" in later.alarms()) is not knows


# ---- what the broker says ----


def test_filled_without_executions_is_not_believed_yet(house: House) -> None:
    house.broker.fill_entries = False
    asked = deaf_to_cancels(house)
    buy(house)
    said = replace(house.broker.orders[1], status=Status.FILLED, filled=Decimal(10000), remaining=Decimal(0))
    house.desk.on_order(said)
    house.pass_time(4, look=False)
    assert state(house) == "working" and not asked
    house.broker.execute(1, Decimal(10000), Decimal("1.19"))
    assert state(house) == "open" and house.trades()[0]["entry_price"] == 1.19


def test_take_profit_said_before_its_execution_is_no_lost_stop(house: House) -> None:
    buy(house)
    target, stop = (house.broker.orders[id_of(house, leg)] for leg in "TS")
    house.desk.on_order(replace(target, status=Status.FILLED, filled=Decimal(10000), remaining=Decimal(0)))
    house.desk.on_order(replace(stop, status=Status.CANCELLED))
    house.pass_time(9, look=False)
    assert not house.alarms() and legs(house) == ["E1", "T1", "S1"]
    house.broker.execute(target.order_id, Decimal(10000), Decimal("1.20"))
    assert (house.trades()[0]["closed"], house.trades()[0]["tp_hit"]) == (1, 1)


def test_correction_replaces_its_execution_and_releases_no_block(house: House) -> None:
    buy(house)
    house.broker.hit("T")
    first = house.broker.fills[0]
    root = first.exec_id.removesuffix(".01")
    house.desk.on_fill(replace(first, exec_id=f"{root}.02", price=Decimal("1.191")))
    house.desk.on_fill(first)  # an old word comes late
    trade = house.trades()[0]
    assert (trade["entry_price"], trade["position_size"], trade["closed"]) == (1.191, 10000, 1)
    assert house.outcome(buy(house))[0] == "refused"  # the side is still blocked


@pytest.mark.parametrize("how", ["refused", "expired"])
def test_opposite_entry_that_never_filled_releases_no_block(house: House, how: str) -> None:
    buy(house)
    house.broker.hit("T")
    house.broker.fill_entries = False
    if how == "refused":
        house.broker.refuse["E"] = (201, "Order rejected - reason: margin")
    signal = sell(house)
    house.pass_time(100)
    assert house.outcome(signal)[0] == how
    assert "re-entry blocked" in str(house.outcome(buy(house))[1])


# ---- whose orders ----


def test_report_of_another_client_with_the_same_order_id_is_not_ours(house: House) -> None:
    buy(house)
    stop = house.broker.orders[id_of(house, "S")]
    house.desk.on_order(replace(stop, client_id=7, order_ref="", status=Status.CANCELLED))
    house.pass_time(15)
    assert state(house) == "open" and not house.alarms() and legs(house) == ["E1", "T1", "S1"]


def manual_order(**changes: object) -> OrderReport:
    report = OrderReport(
        0,
        Status.WORKING,
        0,
        4711,
        "",
        EURUSD.con_id,
        ACCOUNT,
        Side.SELL,
        "LMT",
        Decimal(5000),
        Decimal(0),
        Decimal(5000),
    )
    return replace(report, **changes)


def copied(house: House, leg: str, **changes: Any) -> OrderReport:
    """What another client's order under our reference looks like."""
    report = house.broker.orders[id_of(house, leg)]
    return replace(report, **{"client_id": 7, "order_id": 900, "perm_id": 5550, **changes})


@pytest.mark.parametrize(
    "changes", [{"quantity": Decimal(100)}, {"price": Decimal("1.10")}, {"status": Status.CANCELLED}]
)
@pytest.mark.parametrize("completed", [False, True])
def test_copy_under_our_reference_says_nothing_about_our_order(
    house: House, changes: dict[str, Any], completed: bool
) -> None:
    """Another API client used our reference, and our stop was taken to be what the copy says."""
    buy(house)
    ours = house.desk.book.trade(1).stop
    alone = {"client_id": None, "order_id": 0, "completed": True} if completed else {}
    house.desk.on_order(copied(house, "S", **changes, **alone))
    house.pass_time(15)
    assert house.desk.book.trade(1).stop == ours and state(house) == "open" and not house.alarms()


def test_live_copy_under_our_reference_is_said_and_is_not_taken_for_our_order(house: House) -> None:
    buy(house)
    copy = copied(house, "S")
    del house.broker.orders[id_of(house, "S")]  # TWS has lost ours
    house.broker.orders[900], house.broker.tickets[900] = copy, house.broker.tickets[id_of(house, "S")]
    house.desk.disconnected("TWS restarts")
    house.connect()
    house.pass_time(15)
    assert "orphan" in house.alarms() and "R1" in legs(house) and house.broker.cancels == []
    assert any("another program" in alarm["text"] for alarm in house.journal.standing_alarms())


def test_execution_of_a_copy_under_our_reference_is_not_ours(house: House) -> None:
    buy(house)
    fill = house.broker.fills[-1]
    other = replace(fill, exec_id="0000cccc.1.01.01", client_id=7, order_id=900, perm_id=5550, quantity=Decimal(500))
    house.desk.on_fill(other)
    assert house.desk.book.trade(1).held == 10000


def test_order_that_the_owner_changed_in_tws_is_still_ours(house: House) -> None:
    """Its lasting number says so, whoever is named as its client."""
    buy(house)
    number = id_of(house, "S")
    report = replace(house.broker.orders[number], client_id=0, order_id=0, price=Decimal("1.17"))
    house.desk.on_order(report)
    assert house.desk.book.trade(1).stop.price == Decimal("1.17")


def test_order_of_the_owner_is_left_alone(house: House) -> None:
    asked = deaf_to_cancels(house)
    house.desk.reconciled(replace(house.broker.snapshot(), open_orders=(manual_order(),)))
    house.pass_time(5)
    assert not asked and not house.alarms() and not house.broker.sent


@pytest.mark.parametrize(("client_id", "cancelled"), [(1, True), (5, False)])
def test_orphan_is_cancelled_where_its_id_is_ours(house: House, client_id: int, cancelled: bool) -> None:
    """An order id is a client's own: under another client's it would name somebody else's order."""
    buy(house)
    house.broker.hit("T")
    asked = deaf_to_cancels(house)
    stop = replace(house.broker.orders[id_of(house, "S")], status=Status.WORKING, client_id=client_id)
    house.desk.reconciled(replace(house.broker.snapshot(), open_orders=(stop,)))
    assert asked == ([stop.order_id] if cancelled else []) and "orphan" in house.alarms()


# ---- closing ----


def test_close_waits_until_the_exits_are_confirmed_cancelled(house: House) -> None:
    buy(house)
    asked = deaf_to_cancels(house)
    house.signal("close")
    house.pass_time(5)
    assert asked == [id_of(house, "T"), id_of(house, "S")] and "C1" not in legs(house)
    house.broker._report(id_of(house, "T"), Status.CANCELLED)
    house.pass_time(2)
    assert "C1" not in legs(house) and state(house) == "cancelling"
    house.broker.hit("S")  # the cancel comes too late
    assert "C1" not in legs(house) and house.trades()[0]["exit_reason"] == "stop-loss"
    assert house.broker.quantity[EURUSD.con_id] == 0


def test_reversal_enters_only_when_the_close_has_filled(house: House) -> None:
    buy(house)
    house.broker.fill_entries = False  # no market order fills any more
    signal = sell(house)
    house.pass_time(3)
    assert legs(house) == ["E1", "T1", "S1", "C1"] and house.outcome(signal)[0] is None
    house.broker.fill_entries = True
    house.broker.execute(id_of(house, "C"), Decimal(10000), Decimal("1.19"))
    assert legs(house)[4:] == ["E1", "T1", "S1"] and house.broker.quantity[EURUSD.con_id] == -10000


def test_never_more_is_closed_than_the_account_still_shows(house: House) -> None:
    buy(house)
    house.broker.by_hand(EURUSD, Decimal(-4000), Decimal("1.19"))
    house.signal("close")
    assert "C1" not in legs(house)  # account and executions disagree
    house.pass_time(15)
    assert [t.quantity for t in house.broker.sent if t.order_ref[20] == "C"] == [6000]
    assert house.broker.quantity[EURUSD.con_id] == 0 and house.trades()[0]["closed"] == 1


def test_log_line_of_an_entry_comes_after_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the broker does not wait for is done when the orders have left."""
    told: list[str] = []

    class Telling(FakeBroker):
        @contextmanager
        def together(self) -> Iterator[None]:
            yield
            told.append(f"{len(self.sent)} have left")

    house = House.build(broker=Telling(FakeClock(START))).connect()
    monkeypatch.setattr(orders, "log", SimpleNamespace(info=lambda what, **more: told.append(what)))
    buy(house)
    assert told[:2] == ["3 have left", "entry_sent"]


def test_trade_is_closed_only_when_its_last_order_is_gone(house: House) -> None:
    buy(house)
    house.broker.hit("T", siblings=False)  # the broker ignores the group
    assert state(house) == "open"
    house.pass_time(4)
    assert house.trades()[0]["closed"] == 1 and house.trades()[0]["tp_hit"] == 1
    assert not [r for r in house.broker.orders.values() if r.status.is_live]


# ---- hold ----


def flip(house: House) -> None:
    """Both exits fill: the position has flipped."""
    buy(house)
    house.broker.hit("T", siblings=False)
    house.broker.hit("S")


def test_both_exits_that_fill_are_held_and_nothing_is_sent(house: House) -> None:
    flip(house)
    house.pass_time(15)
    assert state(house) == "hold" and legs(house) == ["E1", "T1", "S1"] and "hold" in house.alarms()
    assert "flipped" in house.trades()[0]["hold_reason"]
    assert json.loads(house.trades()[0]["evidence"])["held in the journal"] == "-10000"


def test_flatten_closes_a_position_that_has_turned_over(house: House) -> None:
    flip(house)
    house.pass_time(10)
    assert "that is being closed at market" in house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(3)
    assert house.broker.quantity[EURUSD.con_id] == 0 and not house.journal.unfinished() and not house.alarms()
    assert [t.side for t in house.broker.sent[3:]] == [Side.BUY]


def test_adopt_makes_a_position_that_has_turned_over_a_trade_of_its_own(house: House) -> None:
    flip(house)
    house.pass_time(10)
    house.command(Command(CommandKind.ADOPT, trade_id=1))
    assert [(t.side, t.held, t.state) for t in house.journal.unfinished()] == [(Side.SELL, Decimal(10000), State.OPEN)]
    assert house.outcome(house.signal("close"))[0] == "closed" and house.broker.quantity[EURUSD.con_id] == 0


def test_execution_for_a_finished_trade_is_held(house: House) -> None:
    buy(house)
    house.broker.hit("T")
    assert house.trades()[0]["closed"] == 1
    house.broker.execute(id_of(house, "S"), Decimal(10000), Decimal("1.18"))  # filled behind its Cancelled
    assert state(house) == "hold" and "hold" in house.alarms()


def test_execution_for_a_finished_trade_is_an_alarm_beside_another_trade_too(house: House) -> None:
    """The newer trade is the contract's; that the older one moved the position again is said all the same."""
    buy(house)
    house.broker.hit("S")
    stale = id_of(house, "T")
    buy(house)
    house.broker.execute(stale, Decimal(10000), Decimal("1.20"))
    assert [trade["state"] for trade in house.trades()] == ["hold", "open"]
    assert "hold" in house.alarms()
    house.pass_time(5)
    assert "hold" in house.alarms()


def test_hold_freezes_its_own_symbol_only(house: House) -> None:
    flip(house)
    assert house.outcome(buy(house))[0] == "refused"
    house.broker.market = Decimal(200)
    assert house.outcome(house.signal("open", "AAPL", "buy", "10", tp="210", sl="190"))[0] == "entered"
    assert house.trades()[1]["state"] == "open"


# ---- nothing is sent blind ----


def test_nothing_is_sent_while_tws_has_lost_ibkr(house: House) -> None:
    house.desk.on_connectivity(Connectivity.LOST, "Connectivity between IBKR and TWS has been lost.")
    signal = buy(house)
    house.pass_time(5)
    assert not house.broker.sent and "TWS has lost its connection to IBKR" in str(house.outcome(signal)[1])
    house.desk.on_connectivity(Connectivity.RESTORED, "restored")
    assert not house.broker.sent and house.wanted  # first everything is read
    house.pass_time(1)
    assert legs(house) == ["E1", "T1", "S1"]


def test_journal_that_cannot_be_written_stops_everything_until_it_can(house: House) -> None:
    house.broker.fill_entries = False
    buy(house)
    write = house.journal.save_execution

    def full(*_: object) -> bool:
        raise JournalError("the journal cannot be written: disk full")

    house.journal.save_execution = full  # type: ignore[method-assign]
    house.broker.execute(1, Decimal(10000), Decimal("1.19"))
    assert not house.desk.can_send and "storage" in house.alarms()
    house.signal("close")
    assert legs(house) == ["E1", "T1", "S1"]
    house.journal.save_execution = write  # type: ignore[method-assign]
    house.broker.fill_entries = True
    house.pass_time(3)
    assert house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0
    assert "storage" not in house.alarms()


def test_alarm_that_cannot_be_written_is_not_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object) -> bool:
        raise JournalError("the journal cannot be written: disk full")

    house.journal.raise_alarm = full  # type: ignore[method-assign]
    with pytest.raises(JournalError):
        house.desk.alarms.state(AlarmKind.HOLD, "EURUSD is on hold", "1")
    assert "alarm_raised" not in caplog.messages


# ---- what the search found ----


def test_exits_heard_before_their_entry_at_a_connect_are_no_flip(house: House, path: str) -> None:
    """Everything filled while the executor was down, and the last exit was told live before the first snapshot."""
    house.broker.fill_entries = False
    buy(house)
    later, broker = house.restart(path), house.broker
    broker.silent = True
    for leg, quantity in (("E", 5000), ("T", 5000), ("E", 5000)):
        broker.execute(id_of(house, leg), Decimal(quantity), Decimal("1.2"))
    broker.silent = False
    broker.execute(id_of(house, "T"), Decimal(5000), Decimal("1.2"))
    later.connect().pass_time(5)
    assert [(t["state"], t["exit_reason"]) for t in later.trades()] == [("closed", "take-profit")]
    assert later.alarms() == []


def test_cancels_that_never_left_are_asked_again_at_once_after_a_reconnect(house: House) -> None:
    """A close was noted, and TWS was gone before its cancels left: the exits still work, so nothing is bare."""
    buy(house)
    cancel = house.broker.cancel

    def gone(order_id: int) -> None:
        raise BrokerUnavailable("the connection is gone")

    house.broker.cancel = gone  # type: ignore[method-assign]
    house.signal("close")
    assert house.trades()[0]["state"] == "cancelling" and not house.desk.can_send
    house.broker.cancel = cancel  # type: ignore[method-assign]
    house.connect()
    assert house.trades()[0]["state"] == "closed" and house.alarms() == []
