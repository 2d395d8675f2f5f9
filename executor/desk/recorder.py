"""Facts into the journal: what the broker said is written down, and `life` told of it, in one transaction each.

Nothing is sent from here. Every call may be repeated with the same fact: the journal stays the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from common.logs import get_logger
from common.signals import decimal_text
from executor.core.ports import Fill, OrderReport, Refusal, Status
from executor.core.trades import Leg, Order, OrderState, State, Trade
from executor.desk.alarms import Alarms
from executor.desk.life import Life
from executor.journal.journal import Journal

log = get_logger(__name__)

# Error codes that refuse nothing: code → what to do with the text. Source: IBKR Message Codes; order messages.
HELD_CODES = frozenset({399, 404, 10349})  # a warning on a live order: shown, not a rejection
LOOK_UP_CODES = frozenset(
    {104, 105, 135, 136, 161, 10147, 10148, 10149, 10326, 10327}
)  # about a modify or cancel: look up the truth
MISSED = timedelta(seconds=2)  # a quantity that is missed was gone so long before
USUAL_HOLDS = ("child", "trigger")  # whyHeld of every bracket child and every stop: nothing to tell
QUIET_CODES = frozenset(
    {202, 10167, *range(2100, 2200)}
)  # 202 only announces the Cancelled status that comes beside it


class Recorder:
    """Write down what the broker said of our orders and executions."""

    def __init__(self, journal: Journal, alarms: Alarms, life: Life, client_id: int) -> None:
        self._journal = journal
        self._alarms = alarms
        self._life = life
        self._client_id = client_id
        self.revived = False  # whether the last report was of an order that is alive again though its trade is finished

    def report(self, report: OrderReport) -> int | None:
        """Record a report about an order of ours; its trade's id, or None where it is not ours."""
        self.revived = False
        ours = report.client_id in (None, self._client_id)
        found = self._journal.find_order(
            order_ref=report.order_ref, client_id=self._client_id, order_id=report.order_id if ours else 0
        )
        if found is None:
            return None
        trade_id, order = found
        if order.said is Status.PENDING and report.status is Status.WORKING and report.remaining is None:
            report = replace(report, status=Status.PENDING)  # openOrder knows no sleep; the orderStatus beside it does
        if report.status is Status.FILLED and report.filled is None:
            report = replace(report, filled=report.quantity or order.quantity)  # not what an earlier status counted
        with self._journal.transaction():
            self._say_held(trade_id, order, report)
            self._say_moved(trade_id, order, report)
            self._journal.record_report(order.order_ref, report)
            if report.note and not report.status.is_live and order.reason is None:
                self._journal.change_order(order.order_ref, reason=report.note)
            if report.oca_group not in (None, order.oca_group):
                self._journal.change_order(order.order_ref, resize_asked_at=None)  # under the old group it was refused
            if order.state is OrderState.WORKING and report.status is Status.WORKING:
                self._journal.change_order(order.order_ref, refusal_code=None)  # it was a change that was refused
            state = self._life.refresh(trade_id).state
        self.revived = report.status.is_live and not order.is_live and state.is_finished
        return trade_id

    def _say_moved(self, trade_id: int, order: Order, report: OrderReport) -> None:
        """A price that is not ours any more is the owner's: he moved it in TWS, and it is followed."""
        before, after = order.price, report.price
        if order.state is OrderState.WORKING and before is not None and after is not None and before != after:
            text = f"the {order.leg.word} was moved in TWS from {decimal_text(before)} to {decimal_text(after)}"
            symbol = self._journal.trade(trade_id).symbol
            self._journal.log("moved", text, symbol=symbol, trade_id=trade_id, order_ref=order.order_ref)

    def _say_held(self, trade_id: int, order: Order, report: OrderReport) -> None:
        if report.why_held and report.why_held not in (order.held, *USUAL_HOLDS):
            symbol = self._journal.trade(trade_id).symbol
            text = f"the broker holds the {order.leg.word} back: {report.why_held}"
            self._journal.log("held", text, symbol=symbol, trade_id=trade_id, order_ref=order.order_ref)

    def fill(self, fill: Fill) -> int | None:
        """Record an execution; the id of the trade it belongs to, or None where it is not ours or was known."""
        found = self._journal.find_order(order_ref=fill.order_ref)
        trade_id = found[0] if found else None
        with self._journal.transaction():
            if not self._journal.record_fill(fill, fill.order_ref if found else "", trade_id) or found is None:
                return None
            self._announce_fill(fill, found[1], found[0])
            self._explain(fill, found[1], self._journal.trade(found[0]))
            self._life.refresh(found[0])
        return found[0]

    def _explain(self, fill: Fill, order: Order, trade: Trade) -> None:
        """An exit's execution that comes late, of before its quantity was missed, takes back what nobody could name."""
        noted = self._journal.last_event(trade.id, "reduced")
        if noted is None or order.leg is Leg.ENTRY or fill.at > noted - MISSED or not fill.is_first:
            return
        back = min(trade.reduced, fill.quantity)
        if back <= 0:
            return
        self._journal.change_trade(trade.id, reduced=trade.reduced - back, exit_reason=None)
        text = f"the missing {decimal_text(back)} of {trade.symbol} are explained: {order.leg.word}"
        self._journal.log("explained", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        if trade.state is State.CLOSED:
            self._take_back_block(trade)
            self._life.refresh(trade.id)
            if self._journal.trade(trade.id).state is State.CLOSED:
                self._life.closed(self._journal.trade(trade.id))

    def _take_back_block(self, trade: Trade) -> None:
        """How the trade ended is known now: what was done because it was not known is undone."""
        block = self._journal.block(trade.account, trade.con_id, trade.symbol, trade.side)
        if block is not None and block.trade_id == trade.id:
            self._journal.release_block(trade.account, trade.con_id, trade.symbol, trade.side)
        self._alarms.clear(
            "unknown exit",
            str(trade.id),
            f"{trade.symbol}: how it ended is known now",
            symbol=trade.symbol,
            trade_id=trade.id,
        )

    def _announce_fill(self, fill: Fill, order: Order, trade_id: int) -> None:
        trade = self._journal.trade(trade_id)
        quantity, price = decimal_text(fill.quantity), decimal_text(fill.price)
        text = f"{order.leg.word} filled: {fill.side.value} {quantity} {trade.symbol} at {price}"
        kind = f"{order.leg.word} filled"
        self._journal.log(
            kind, text, symbol=trade.symbol, trade_id=trade_id, signal_id=trade.signal_id, order_ref=order.order_ref
        )
        log.info("filled", symbol=trade.symbol, leg=order.leg.word, quantity=quantity, price=price)
        if order.leg is Leg.ENTRY and self._journal.note_first_fill(trade.id):
            self._release_by_entry(trade)

    def _release_by_entry(self, trade: Trade) -> None:
        """The first fill of an opposite entry releases the re-entry block."""
        block = self._journal.block(trade.account, trade.con_id, trade.symbol, trade.side.opposite)
        if block is not None:
            self._journal.release_block(trade.account, trade.con_id, trade.symbol, block.side)
            text = f"re-entry block on {block.side.value} released: a {trade.side.value} entry filled"
            self._journal.log("block released", text, symbol=trade.symbol, trade_id=trade.id)

    def refusal(self, refusal: Refusal) -> bool:
        """Record an error message about an order of ours; whether the truth must now be looked up."""
        found = self._journal.find_order(client_id=self._client_id, order_id=refusal.order_id)
        if found is None or refusal.code in QUIET_CODES:
            return False
        trade_id, order = found
        trade = self._journal.trade(trade_id)
        text = f"TWS on the {order.leg.word}: {refusal.text} (code {refusal.code})"
        with self._journal.transaction():
            self._journal.log("TWS says", text, symbol=trade.symbol, trade_id=trade_id, order_ref=order.order_ref)
            if refusal.code in HELD_CODES:
                if refusal.text not in (order.held or ""):
                    held = f"{order.held}; {refusal.text}" if order.held else refusal.text
                    self._journal.change_order(order.order_ref, held=held)
                return False
            if refusal.code not in LOOK_UP_CODES:
                self._journal.change_order(order.order_ref, refusal_code=refusal.code, reason=refusal.text)
            self._life.refresh(trade_id)
        log.warning("order_refused", symbol=trade.symbol, leg=order.leg.word, code=refusal.code, text=refusal.text)
        return True
