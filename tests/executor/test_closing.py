"""Closes that meet the owner's own trading, or that take long: found by `make simulate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from common.clock import FakeClock
from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.orders import OrderState
from executor.core.ports import Position, Status
from executor.core.reconcile import Books, differing, reconcile
from executor.core.trades import State
from executor.desk.snapshots import may_be_live

from .fakes import EURUSD, START, FakeBroker, House


class LatePositions(FakeBroker):
    """Tells a position only when something else happens after the execution, as TWS does."""

    late: Position | None = None

    def _tell(self, what: str, fact: object) -> None:
        if what == "on_position" and isinstance(fact, Position):
            self.late = fact
        else:
            super()._tell(what, fact)

    def tell(self) -> None:
        if self.late is not None:
            super()._tell("on_position", self.late)
            self.late = None


def buy(house: House) -> None:
    house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")


def closes(house: House) -> list[Decimal]:
    return [t.quantity for t in house.broker.sent if t.order_ref[20] == "C"]


def test_position_told_after_the_execution_is_not_closed_twice() -> None:
    """The owner took 4000 out; when 6000 were closed the account still showed 6000, and another 4000 were sold."""
    broker = LatePositions(FakeClock(START))
    house = House.build(broker=broker).connect()
    buy(house)
    broker.tell()
    broker.by_hand(EURUSD, Decimal(-4000), Decimal("1.19"))
    broker.tell()
    house.signal("close")
    house.pass_time(15)
    broker.tell()
    house.pass_time(15)
    assert closes(house) == [6000]
    assert broker.quantity[EURUSD.con_id] == 0 and house.trades()[0]["closed"] == 1


def test_close_of_what_the_owner_has_netted_away_is_held() -> None:
    """The account is flat, since the owner is short beside the trade: no order can be right."""
    house = House.build().connect()
    buy(house)
    house.beside(EURUSD, Decimal(-10000))
    house.broker.by_hand(EURUSD, Decimal(-10000), Decimal("1.19"))
    house.signal("close")
    house.pass_time(8)
    assert closes(house) == [] and house.trades()[0]["state"] == "hold"
    assert "your own -10000" in house.trades()[0]["hold_reason"] and "hold" in house.alarms()
    house.command(Command(CommandKind.DISMISS, trade_id=1))
    assert house.trades()[0]["closed"] == 1


def test_rest_of_a_close_waits_for_the_position_after_its_first_part() -> None:
    """Beside the trade the owner is short 4000, so the account shows 6000 of 10000: those are closed, and no more."""
    broker = LatePositions(FakeClock(START))
    house = House.build(broker=broker).connect()
    buy(house)
    house.beside(EURUSD, Decimal(-4000))
    broker.by_hand(EURUSD, Decimal(-4000), Decimal("1.19"))
    broker.tell()
    house.signal("close")
    house.pass_time(8)
    assert closes(house) == [6000] and broker.quantity[EURUSD.con_id] == 0
    assert house.trades()[0]["state"] == "hold"


def test_close_that_hangs_is_told_as_unprotected() -> None:
    """The stop is cancelled for the close; the take-profit will not go; the position stands bare meanwhile."""
    house = House.build().connect()
    buy(house)
    stuck = next(t for t in house.broker.sent if t.order_ref[20] == "T")
    cancel = house.broker.cancel
    house.broker.cancel = lambda order_id: None if order_id == stuck.order_id else cancel(order_id)  # type: ignore[method-assign]
    house.signal("close")
    house.pass_time(9)
    assert house.alarms() == []
    house.pass_time(2)
    assert sorted(house.alarms()) == ["close waits", "unprotected"]
    house.broker._report(stuck.order_id, Status.CANCELLED)
    house.pass_time(1)
    assert house.trades()[0]["closed"] == 1 and house.alarms() == []


def test_position_of_an_entry_under_way_is_nobodys_to_ignore() -> None:
    """Its position is told before its executions: ignored, the trade would count as taken out by the owner."""
    house = House.build().connect()
    house.broker.fill_entries = False
    buy(house)
    house.broker._move(EURUSD, Decimal(10000))
    assert house.desk.owner.unknown_positions() == []
    with pytest.raises(CommandRefused):
        house.command(Command(CommandKind.IGNORE_POSITION, symbol="EURUSD"))


def test_last_exit_of_one_second_is_the_last_that_was_told() -> None:
    """IBKR's execution times are whole seconds, and the order of its ids means nothing."""
    house = House.build().connect()
    buy(house)
    house.broker.hit("T", Decimal(4000))
    house.signal("close")
    house.pass_time(5)
    assert house.trades()[0]["closed"] == 1
    house.journal._write("UPDATE fills SET at = (SELECT min(at) FROM fills), exec_id = 'z' || (9 - rowid)")
    assert [e.order_ref[20] for e in house.journal.trade(1).executions] == ["E", "T", "C"]


def test_order_sent_while_a_snapshot_is_read_is_not_missing_in_it() -> None:
    """Its open orders were read before the order arrived: on its word a stop was forgotten, and closed beside."""
    house = House.build().connect()
    buy(house)
    begun = house.clock.now()
    before = replace(house.broker.snapshot(), begun_at=begun)
    house.clock.advance(0.2)
    house.broker.silent = True
    house.signal("close")  # the cancels leave; their answers are under way
    house.broker.silent = False
    order = replace(house.journal.trade(1).orders[2], sent_at=begun + timedelta(seconds=0.1), state=OrderState.SENDING)
    late = replace(before, open_orders=(), taken_at=house.clock.now())
    assert may_be_live(order, late)
    assert not may_be_live(replace(order, sent_at=begun), late)
    trade = replace(house.journal.trade(1), state=State.OPEN, orders=(house.journal.trade(1).orders[0], order))
    books = Books(house.clock.now(), (trade,), frozenset(), (), {}, frozenset())
    assert reconcile(books, late) == []


def test_entry_that_filled_unseen_before_midnight_is_held_though_its_cancel_was_asked() -> None:
    """The cancel was lost on a dead line, the entry filled, midnight hid its executions: not void, it is a position."""
    house = House.build().connect()
    broker = house.broker
    broker.fill_entries = False
    buy(house)
    cancelled: list[int] = []
    broker.cancel = cancelled.append  # type: ignore[method-assign]
    house.signal("close")
    assert cancelled
    broker.silent = True
    entry = next(t for t in broker.sent if t.order_ref[20] == "E")
    broker.execute(entry.order_id, entry.quantity, Decimal("1.19"))
    broker.silent = False
    broker.fills.clear()
    broker.orders = {number: report for number, report in broker.orders.items() if report.status.is_live}
    broker.day = "2026-11-24"
    house.desk.disconnected("midnight")
    house.connect()
    house.pass_time(3)  # a second look agrees
    assert house.trades()[0]["state"] == "hold" and "its cancel was requested" in house.trades()[0]["hold_reason"]


def test_stop_too_large_since_the_owner_reduced_is_told_ten_seconds_after_that_was_seen() -> None:
    house = House.build().connect()
    buy(house)
    house.broker.deaf = True  # no change of an order is taken
    house.broker.by_hand(EURUSD, Decimal(-4000), Decimal("1.19"))
    house.pass_time(13)
    assert house.trades()[0]["reduced"] == "4000"
    assert "unprotected" in house.alarms()


def test_order_without_a_trace_is_not_looked_up_for_ever_on_hold() -> None:
    house = House.build().connect()
    house.broker.fill_entries = False
    house.broker.deaf = True
    buy(house)
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    house.pass_time(100)
    house.wanted.clear()
    house.pass_time(30, look=False)
    assert house.wanted == [] and house.trades()[0]["state"] == "hold"


def test_button_on_a_full_disk_is_refused_in_words() -> None:
    house = House.build().connect()
    buy(house)
    house.journal._db.execute("PRAGMA query_only = ON")
    with pytest.raises(CommandRefused, match="the journal could not be written"):
        house.command(Command(CommandKind.CLOSE, trade_id=1))
    assert not house.desk.can_send
    house.journal._db.execute("PRAGMA query_only = OFF")
    house.pass_time(2)
    assert house.desk.can_send and house.trades()[0]["state"] == "open"


def test_turned_position_that_nets_to_zero_with_the_owners_own_can_be_adopted() -> None:
    """The account is flat: long 10000 of the owner's own, and a long trade that turned short by 10000."""
    house = House.build().connect()
    buy(house)
    house.broker.hit("T", siblings=False)
    house.broker.hit("S")
    assert house.trades()[0]["state"] == "hold"
    house.beside(EURUSD, Decimal(10000))
    house.broker.by_hand(EURUSD, Decimal(10000), Decimal("1.19"))
    house.broker.quantity[EURUSD.con_id] = Decimal(0)
    house.desk.reconciled(house.broker.snapshot())
    house.command(Command(CommandKind.ADOPT, trade_id=1))
    assert [t["signal"] for t in house.trades()] == ["buy", "sell"] and house.trades()[1]["entry_price"] is None


def test_adopted_trade_that_never_filled_is_void() -> None:
    """The account shows none of it: it was `open` without a quantity, which stopped the desk for every symbol."""
    house = House.build().connect()
    house.broker.fill_entries = False
    house.broker.deaf = True
    buy(house)
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    house.clock.advance(5)
    house.desk.reconciled(house.broker.snapshot())
    house.command(Command(CommandKind.ADOPT, trade_id=1))
    assert house.trades()[0]["state"] == "void" and house.desk.can_send


def test_stop_whose_partial_fill_midnight_hid_keeps_the_size_of_what_is_left(tmp_path: Path) -> None:
    """Its executions are gone, the broker's count is not: resized by the executions alone it would be too small."""
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    buy(house)
    house.broker.silent = True
    house.broker.hit("S", Decimal(2500))
    house.broker.silent = False
    house.broker.fills.clear()
    house.broker.orders = {k: v for k, v in house.broker.orders.items() if v.status.is_live}
    house.broker.day = "2026-11-24"
    house.clock.advance(12 * 3600)
    later = house.restart(path).connect()
    later.pass_time(15)
    assert max(t.quantity for t in later.broker.sent if t.order_ref[20] == "S") == 10000
    working = {r.order_ref[20]: (r.quantity, r.filled) for r in later.broker.orders.values() if r.order_ref}
    assert working == {"T": (Decimal(7500), Decimal(0)), "S": (Decimal(10000), Decimal(2500))}
    assert later.journal.unfinished()[0].held == 7500 and not later.alarms()


def test_count_that_is_ahead_of_its_execution_resizes_nothing() -> None:
    house = House.build().connect()
    buy(house)
    sent = len(house.broker.sent)
    target = next(r for r in house.broker.orders.values() if r.order_ref and r.order_ref[20] == "T")
    house.desk.on_order(replace(target, filled=Decimal(2500), remaining=Decimal(7500)))
    house.pass_time(1)
    assert len(house.broker.sent) == sent


def test_close_called_filled_after_its_first_part_is_not_sent_for_the_rest_again() -> None:
    """An openOrder says Filled and no quantity; by the count of an earlier status the second half was closed twice."""
    house = House.build().connect()
    house.broker.fill_entries = False
    buy(house)
    house.broker.execute(1, Decimal(10000), Decimal("1.19"))
    house.signal("close")
    close = house.broker.sent[-1]
    assert close.order_ref[20:] == "C1"
    house.broker.execute(close.order_id, Decimal(4000), Decimal("1.19"))
    house.desk.on_order(replace(house.broker.orders[close.order_id], status=Status.FILLED, filled=None, remaining=None))
    house.pass_time(1)
    assert closes(house) == [10000]
    house.broker.execute(close.order_id, Decimal(6000), Decimal("1.19"))
    house.pass_time(1)
    assert closes(house) == [10000] and house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0


@pytest.mark.parametrize("exits", [{"tp": "1.20", "sl": "1.18"}, {}])
@pytest.mark.parametrize("late", [15, 45])
def test_close_does_not_wait_for_a_position_that_is_told_late(late: int, exits: dict[str, str]) -> None:
    """It stood for 15 to 31 s without its exits: everything was read, and only its own entry was not counted yet."""
    broker = LatePositions(FakeClock(START))
    broker.hidden = frozenset({"positions"})
    house = House.build(broker=broker).connect()
    house.signal("open", side="buy", size="10000", **exits)
    house.signal("close")
    house.pass_time(6)
    assert closes(house) == [10000] and house.trades()[0]["closed"] == 1
    house.pass_time(late - 6)
    broker.hidden = frozenset()
    broker.tell()
    house.connect()
    house.pass_time(8)
    assert closes(house) == [10000] and house.alarms() == [] and house.desk.owner.unknown_positions() == []


def test_close_that_waits_for_its_position_is_told_in_time(tmp_path: Path) -> None:
    """After a restart nothing says that the position is merely late: the close waits, and somebody must know."""
    broker = LatePositions(FakeClock(START))
    house = House.build(str(tmp_path / "trade_state.db"), broker=broker).connect()
    buy(house)
    broker.takes_cancels = False
    house.signal("close")
    broker.hidden = frozenset({"positions"})
    later = house.restart(str(tmp_path / "trade_state.db")).connect()
    broker.takes_cancels = True
    for leg in ("T1", "S1"):
        broker.cancel(broker.id_of(leg))
    later.pass_time(11)
    assert closes(later) == [] and {"unprotected", "close waits"} <= set(later.alarms())


def test_position_that_the_owner_took_is_not_taken_for_one_that_is_late() -> None:
    """The owner sold while the entry's position was on its way: TWS reports that execution, and nothing more is sold."""
    broker = LatePositions(FakeClock(START))
    house = House.build(broker=broker).connect()
    buy(house)
    broker.by_hand(EURUSD, Decimal(-10000), Decimal("1.19"))
    broker.late = None
    house.signal("close")
    house.pass_time(20)
    assert closes(house) == [] and house.trades()[0]["closed"] == 1


class Counted(tuple):  # type: ignore[type-arg]
    """What a snapshot holds, and how many of it were looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[object]:
        for each in super().__iter__():
            Counted.looked_at += 1
            yield each


def looked_at(trades: int) -> int:
    """Compare a snapshot with that many open trades; return how much of it and of the journal was looked at."""
    house = House.build().connect()
    buy(house)
    known, snapshot = house.journal.trade(1), house.broker.snapshot()
    (position,) = snapshot.positions
    numbers = range(known.con_id, known.con_id + trades)
    snapshot = replace(
        snapshot,
        open_orders=Counted(replace(r, order_ref=f"{n} {r.order_ref}") for n in numbers for r in snapshot.open_orders),
        positions=Counted(replace(position, con_id=n) for n in numbers),
    )
    each = (
        replace(known, con_id=n, orders=tuple(replace(o, order_ref=f"{n} {o.order_ref}") for o in known.orders))
        for n in numbers
    )
    Counted.looked_at = 0
    books = Books(house.clock.now(), Counted(each), frozenset(), (), {}, frozenset())
    assert reconcile(books, snapshot) == [] and not differing(books, snapshot)
    return Counted.looked_at


def test_a_snapshot_costs_what_it_holds_however_many_trades_are_open() -> None:
    assert looked_at(40) <= 10 * looked_at(4)
