"""Facts into the book: the broker's reports on our orders and executions are recorded, one change for each.

Nothing is sent from here. Every call may be repeated with the same fact: the book stays the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from common.clock import Clock
from common.logs import get_logger
from common.signals import decimal_text
from executor.core.aims import tightens
from executor.core.conditions import AlarmKind
from executor.core.orders import ENTRIES, STOPS, Execution, Leg, Order, OrderState
from executor.core.outcomes import ExitReason, Outcome
from executor.core.ports import Fill, Kind, OrderReport, Refusal, Status
from executor.core.trades import State, Trade
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.desk.life import Life

log = get_logger(__name__)

# Error codes that refuse nothing: code → what to do with the text. Source: IBKR Message Codes; order messages.
HELD_CODES = frozenset({399, 404, 2109, 10349})  # a warning on a live order: shown, not a rejection
# About a modify or cancel: look up the truth.
LOOK_UP_CODES = frozenset({104, 105, 135, 136, 161, 10147, 10148, 10149, 10326, 10327})
_STILL_BUSY = 2102  # a change that came before the last one was answered: not taken, but nothing is wrong with it
_DOES_NOT_MATCH = 105  # a change of something that cannot be changed
MISSED = timedelta(seconds=2)  # a quantity that is missed was gone so long before
USUAL_HOLDS = ("", "child", "trigger")  # whyHeld of every bracket child and every stop: nothing to tell
CANCELLED_CODE = 202  # only announces the Cancelled status that comes beside it, and sometimes says why


class Recorder:
    """Record what the broker reports about our orders and executions."""

    def __init__(self, book: Book, alarms: Alarms, life: Life, clock: Clock, client_id: int) -> None:
        self._book, self._alarms, self._life, self._clock = book, alarms, life, clock
        self._client_id = client_id

    def report(self, report: OrderReport) -> bool:
        """Record a report about an order; whether it is of one that is alive again though its trade is finished."""
        ours = report.client_id in (None, self._client_id)
        found = self._book.find_order(report.order_ref, self._client_id, report.order_id if ours else 0)
        if found is None:
            return False
        trade, order = found
        if not order.is_meant(report.client_id, report.order_id, report.perm_id):
            return False  # a copy, which a snapshot tells of
        report = _completed(report, order)
        now = _as_reported(order, report)
        if now == order:
            return False
        with self._book.change():
            self._say_held(trade, order, report)
            trade = self._with_owners_move(trade, order, report)
            state = self._life.settle(trade.with_order(now)).state
        return report.status.is_live and not order.is_live and state.is_finished

    def _with_owners_move(self, trade: Trade, order: Order, report: OrderReport) -> Trade:
        """A price that is neither ours nor asked for was moved by the owner in TWS: that one counts."""
        before, after = order.price, report.price
        if order.state is not OrderState.WORKING or before is None or after is None or before == after:
            return trade
        if order.kind is Kind.TRAIL:
            return trade  # it follows the market
        by_hand = _is_by_hand(order, report)
        how = "by hand in TWS" if by_hand else "as asked"
        if by_hand and order.wish is not None:
            how += f"; the move to {decimal_text(order.wish)}, which TWS had not confirmed, is dropped"
        text = f"{order.leg.word} from {decimal_text(before)} to {decimal_text(after)}, {how}"
        self._book.log("moved", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        if not by_hand:
            return trade
        if order.wish_for is not None and not order.sent_prices:
            text = f"{trade.symbol}: you moved the {order.leg.word} to {decimal_text(after)} by hand in TWS, and that counts"
            self._book.revise_signal(order.wish_for, Outcome.IGNORED, text)
        return trade.with_aim(None, stop=order.leg in STOPS)

    def _say_held(self, trade: Trade, order: Order, report: OrderReport) -> None:
        if report.why_held not in (*USUAL_HOLDS, order.held):
            text = f"{order.leg.word}, by the broker: {report.why_held}"
            self._book.log("held", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)

    # ---- executions ----

    def fill(self, fill: Fill) -> None:
        """Record an execution, ours or not; a correction replaces the one that it corrects."""
        found = self._book.find_order(fill.order_ref)
        if found is not None and not found[1].is_meant(fill.client_id, fill.order_id, fill.perm_id):
            found = None  # another client's, under our reference
        known = self._book.execution(fill.exec_root)
        if known is not None and fill.exec_id <= known[0].exec_id:
            return
        with self._book.change():
            execution = self._book.as_execution(fill, fill.order_ref if found else "", known and known[0])
            if found is not None:
                self._count(fill, execution, *found)
            elif known is not None and known[1] is not None:
                self._life.settle(known[1].with_execution(execution))
            else:
                self._book.put_foreign(execution)

    def _count(self, fill: Fill, execution: Execution, trade: Trade, order: Order) -> None:
        """An execution of an order of ours is counted with its trade."""
        self._book.attributed(execution.exec_root)
        trade = trade.with_execution(execution)
        first = order.leg is Leg.ENTRY and trade.filled_at is None
        if first:
            trade = replace(trade, filled_at=self._clock.now())
        self._announce(fill, trade, order)
        if first:
            self._release_by_entry(trade)
        back = self._explained(fill, order, trade)
        if back > 0:
            trade = replace(trade, reduced=trade.reduced - back, exit_reason=None)
        was_over = trade.closed
        trade = self._life.settle(trade)
        if was_over and trade.state is State.HOLD:
            self._net(trade)
        if back > 0 and trade.state is State.CLOSED:
            self._take_back_block(trade)
            self._life.end_again(trade)

    def _net(self, late: Trade) -> None:
        """A late fill against the trade that is open now has taken that much out of it: IBKR nets the two."""
        open_now = self._book.open_trade(late.con_id)
        if open_now is None or open_now.state is State.HOLD or late.signed * open_now.signed >= 0:
            return
        taken = min(abs(late.held), open_now.held)
        text = f"an order of it filled late, and took {decimal_text(taken)} {late.symbol} out of the trade that is open now"
        rest = late.reduced + taken.copy_sign(late.held)
        self._book.put(replace(late, reduced=rest, hold_reason=text))
        reason = ExitReason.NETTED if taken == open_now.held else open_now.exit_reason
        self._life.settle(replace(open_now, reduced=open_now.reduced + taken, exit_reason=reason))
        self._book.log("netted", f"trade {late.id}: {text}", symbol=late.symbol, trade_id=open_now.id)

    def _explained(self, fill: Fill, order: Order, trade: Trade) -> Decimal:
        """Return what an exit's execution explains that comes late, of before its quantity was missed."""
        if trade.missed_at is None or order.leg in ENTRIES or fill.at > trade.missed_at - MISSED or not fill.is_first:
            return Decimal(0)
        back = min(trade.reduced, fill.quantity)
        if back > 0:
            text = f"the {order.leg.word} accounts for the missing {decimal_text(back)} {trade.symbol}"
            self._book.log("explained", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        return max(back, Decimal(0))

    def _take_back_block(self, trade: Trade) -> None:
        """How the trade ended is known now: undo what was done because it was not."""
        block = self._book.block(trade.con_id, trade.symbol, trade.side)
        if block is not None and block.trade_id == trade.id:
            self._book.release_block(trade.con_id, trade.symbol, trade.side)
        self._alarms.state(
            AlarmKind.UNKNOWN_EXIT, None, str(trade.id), over=f"{trade.symbol}: TWS has now reported how it closed"
        )

    def _announce(self, fill: Fill, trade: Trade, order: Order) -> None:
        quantity, price = decimal_text(fill.quantity), decimal_text(fill.price)
        text = f"{fill.side.value} {quantity} {trade.symbol} at {price}"
        self._book.log(
            f"{order.leg.word} filled", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id,
            order_ref=order.order_ref,
        )  # fmt: skip
        log.info("filled", symbol=trade.symbol, leg=order.leg.word, quantity=quantity, price=price)

    def _release_by_entry(self, trade: Trade) -> None:
        """The first fill of an opposite entry releases the re-entry block."""
        side = trade.side.opposite
        if self._book.release_block(trade.con_id, trade.symbol, side):
            text = f"{side.value} in {trade.symbol} is allowed again: a {trade.side.value} entry filled"
            self._book.log("block released", text, symbol=trade.symbol, trade_id=trade.id)

    def commission(self, exec_id: str, commission: Decimal) -> None:
        """Record the commission of an execution, known only after it."""
        found = self._book.execution(exec_id.rpartition(".")[0] or exec_id)
        if found is None or found[0].exec_id != exec_id or found[0].commission == commission:
            return
        execution, trade = replace(found[0], commission=commission), found[1]
        with self._book.change():
            if trade is None:
                self._book.put_foreign(execution)
            else:
                self._book.put(trade.with_execution(execution))

    # ---- errors ----

    def refusal(self, refusal: Refusal) -> bool:
        """Record an error message about an order of ours; True if a snapshot must now settle the facts."""
        found = self._book.find_order(None, self._client_id, refusal.order_id)
        if found is None:
            log.warning("tws_says", order_id=refusal.order_id, code=refusal.code, text=refusal.text)
            return False
        trade, order = found
        is_bare = refusal.code == CANCELLED_CODE and not refusal.text.rstrip().rpartition("reason:")[2]
        say = log.info if is_bare else log.warning  # each exit that its sibling or a close cancels brings one
        say("tws_says", symbol=trade.symbol, leg=order.leg.word, code=refusal.code, text=refusal.text)
        if is_bare:
            return False
        text = f"{order.leg.word}: {refusal.text} (code {refusal.code})"
        with self._book.change():
            self._book.log("TWS says", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
            if refusal.code == CANCELLED_CODE:
                return False
            return self._judge_refusal(refusal, trade, order)

    def _judge_refusal(self, refusal: Refusal, trade: Trade, order: Order) -> bool:
        """Take in what TWS says against an order; True if a snapshot must now settle the facts."""
        if refusal.code == _STILL_BUSY:
            self._life.settle(trade.with_order(replace(order, sent_prices=order.sent_prices[:-1])))
            return False  # it is sent again when the last change is answered
        if refusal.code in HELD_CODES:
            if refusal.text not in (order.held or ""):
                held = f"{order.held}; {refusal.text}" if order.held else refusal.text
                self._book.put(trade.with_order(replace(order, held=held)))
            return False
        if refusal.code not in LOOK_UP_CODES:
            order = replace(order, refusal_code=refusal.code, reason=refusal.text)
            trade = self._life.settle(trade.with_order(order))
        if _refuses_move(refusal.code, order):
            self._life.not_moved(trade, trade.order(order.order_ref), f"{refusal.text} (code {refusal.code})")
        return True


def _completed(report: OrderReport, order: Order) -> OrderReport:
    """Return a report with what its message leaves to others."""
    if order.said is Status.PENDING and report.status is Status.WORKING and report.remaining is None:
        report = replace(report, status=Status.PENDING)  # openOrder knows no sleep; the orderStatus beside it does
    if report.status is Status.FILLED and report.filled is None:
        report = replace(report, filled=report.quantity or order.quantity)  # not what an earlier status counted
    return report


def _as_reported(order: Order, report: OrderReport) -> Order:
    """Return an order updated by the broker's report. What it did not report stays as it was."""
    now = replace(
        order, said=report.status, said_filled=_newer(report.filled, order.said_filled), perm_id=report.perm_id or order.perm_id,
        quantity=order.quantity if report.quantity is None else report.quantity, price=_price_told(order, report),
        trail=report.trail or order.trail,
        tif=report.tif or order.tif, oca_group=report.oca_group or order.oca_group, oca_type=report.oca_type or order.oca_type,
        held=order.held if report.why_held in USUAL_HOLDS else report.why_held,
    )  # fmt: skip
    now = _with_price_told(now, order, report)
    moved = now.price != order.price and order.kind is not Kind.TRAIL  # which moves by itself
    if (moved or now.quantity != order.quantity or now.wish != order.wish) and not now.sent_prices:
        now = replace(now, resize_asked_at=None)  # the change was answered
    if report.note and not report.status.is_live and order.reason is None:
        now = replace(now, reason=report.note)
    if report.oca_group not in (None, order.oca_group):
        now = replace(now, resize_asked_at=None)  # under the old group it was refused
    if order.state is OrderState.WORKING and report.status is Status.WORKING:
        now = replace(now, refusal_code=None)  # it was a change that was refused
    return now


def _with_price_told(now: Order, order: Order, report: OrderReport) -> Order:
    """Return an order whose price the broker reports: one that it was sent, one that it had, or its owner's.

    It is as it shall be when the last of what was sent is reported: TWS answers in the order of sending.
    """
    said, sent = report.price, order.sent_prices
    if said is None:
        return now
    if order.kind is Kind.TRAIL:
        return _with_trail_told(now, order, said)
    left = sent[sent.index(said) + 1 :] if said in sent else sent
    now = replace(now, sent_prices=left)
    is_there = said == order.wish and not left and (said in sent or said != order.price)
    return now.without_wish() if is_there or _is_by_hand(order, report) else now


def _price_told(order: Order, report: OrderReport) -> Decimal | None:
    """Return where an order is; one that trailed keeps the best that it had reached when it is over."""
    over = order.kind is Kind.TRAIL and not report.status.is_live and report.price is not None
    if over and order.price is not None and tightens(order.price, report.price, order.side.opposite):
        return order.price
    return _newer(report.price, order.price)


def _with_trail_told(now: Order, order: Order, said: Decimal) -> Order:
    """Return a trailing stop that is where TWS says; it may have gone beyond what was asked for."""
    if order.wish is None or order.wish_sent_at is None or tightens(order.wish, said, order.side.opposite):
        return now
    return replace(now.without_wish(), sent_prices=())


def _is_by_hand(order: Order, report: OrderReport) -> bool:
    if order.state is not OrderState.WORKING or report.price in (None, order.price, order.wish):
        return False
    return report.price not in order.sent_prices


def _refuses_move(code: int, order: Order) -> bool:
    """True if TWS refuses the price that a working order was to have."""
    asked = order.state is OrderState.WORKING and order.wish is not None and order.wish_sent_at is not None
    return asked and (code not in LOOK_UP_CODES or code == _DOES_NOT_MATCH)


def _newer(said: Decimal | None, known: Decimal | None) -> Decimal | None:
    return known if said is None else said
