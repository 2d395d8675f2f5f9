"""A trade's facts into the book: `core.life` decides what they change; news is acted on and logged here.

Nothing is sent from here. Every call may be repeated: the book stays the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from decimal import Decimal

from common.clock import Clock
from common.logs import get_logger
from common.signals import decimal_text
from executor.core.conditions import AlarmKind
from executor.core.life import (
    Entered,
    Evolved,
    MoveOver,
    News,
    OrderOver,
    ReductionOver,
    ended,
    frozen,
    given_up,
    moved,
    settled,
)
from executor.core.orders import EXITS, ZERO, Leg, Order, OrderState
from executor.core.outcomes import ExitReason, Outcome
from executor.core.policy import Policy
from executor.core.ports import Snapshot
from executor.core.trades import Event, State, Trade
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.desk.sight import Sight

log = get_logger(__name__)


class Life:
    """Take trades through their life, each call in one change of the book."""

    def __init__(self, book: Book, sight: Sight, alarms: Alarms, clock: Clock, policy: Policy) -> None:
        self._book, self._sight, self._alarms, self._clock, self._policy = book, sight, alarms, clock, policy
        self._unsettled: set[int] | None = None  # trades whose facts are still being taken in

    def settle(self, trade: Trade) -> Trade:
        """Put a trade whose facts have changed into the book, brought up to them, and return it.

        Within `together` it is only put there: what its facts make of it is judged when all of them are in.
        """
        if self._unsettled is not None:
            self._unsettled.add(trade.id)
            return self._book.put(trade)
        return self._put(settled(trade, self._clock.now()))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Take in many facts as of one moment, within a change: no trade is judged by a part of them."""
        self._unsettled = set()
        try:
            yield
            found = sorted(self._unsettled)
        finally:
            self._unsettled = None
        for trade_id in found:
            self.settle(self._book.trade(trade_id))

    def move(self, trade: Trade, event: Event) -> Trade:
        """Take a trade through one event of its life, and return it.

        Raises:
            IllegalTransition: The table forbids it: a bug of ours.
        """
        now = self._clock.now()
        trade, news = moved(trade, event, now)
        trade, more = settled(trade, now)
        return self._put((trade, news + more))

    def freeze(self, trade_id: int, why: str) -> bool:
        """Put a trade on hold whatever its state is, since the program went wrong over it; False where it is already."""
        trade = self._book.trade(trade_id)
        if trade.state is State.HOLD:
            return False
        self._put(frozen(trade, why, self._clock.now()))
        return True

    def hold(self, trade: Trade, why: str) -> None:
        """Put a trade on hold: freeze it, alert the owner, keep the evidence."""
        if self._book.trade(trade.id).state is State.HOLD:
            return
        self.move(replace(trade, hold_reason=why, evidence=_seen(trade, self._sight.last)), Event.DOUBT)

    def give_up(self, trade: Trade, why: str) -> None:
        """Let go of the wish to make a trade smaller, and alert the owner."""
        self._put(given_up(trade, why, self._clock.now()))

    def end_again(self, trade: Trade) -> None:
        """Record again how a closed trade ended, since a missing execution has arrived."""
        trade = ended(replace(trade, exit_reason=None), self._clock.now())
        with self._book.change():
            self._closed(self._book.put(trade))

    def _put(self, evolved: Evolved) -> Trade:
        trade, news = evolved
        with self._book.change():
            self._book.put(trade)
            for each in news:
                self._act(trade.id, each)
        return self._book.trade(trade.id)

    def _act(self, trade_id: int, news: News) -> None:
        trade = self._book.trade(trade_id)
        match news:
            case OrderOver():
                self._order_over(trade, news)
            case ReductionOver():
                self._reduction_over(trade, news)
            case MoveOver(signal_id):
                text = f"the trade in {trade.symbol} was over before its exits were moved"
                self._book.revise_signal(signal_id, Outcome.NOTHING, text)
            case Entered():
                self._entered(trade, news)

    def _entered(self, trade: Trade, news: Entered) -> None:
        log.info(
            "trade", symbol=trade.symbol, trade_id=trade.id, state=news.state.value, by=news.event and news.event.value
        )
        if news.state is State.VOID:
            self._void(trade)
        elif news.state is State.CLOSED:
            self._closed(trade)
        elif news.state is State.OPEN and news.event is Event.ENTERED:
            self._opened(trade)
        elif news.state is State.HOLD:
            self._held(trade, news)
        if news.state.is_finished:  # not left to the next turn: after a restart nothing checks a finished trade
            self._alarms.trade_over(trade)

    def _say(self, trade: Trade, kind: str, text: str, order_ref: str | None = None) -> None:
        signal_id = None if order_ref else trade.signal_id
        self._book.log(kind, text, symbol=trade.symbol, trade_id=trade.id, signal_id=signal_id, order_ref=order_ref)

    def _order_over(self, trade: Trade, news: OrderOver) -> None:
        order = news.order
        how = "rejected" if order.state is OrderState.REJECTED else "cancelled"
        text = order.reason or f"{order.side.value} {order.quantity} {trade.symbol}"
        if order.state is OrderState.CANCELLED and not news.expected and not order.reason:
            text += ", by hand in TWS or by IBKR, not by this program"
        self._say(trade, f"{order.leg.word} {how}", text, order.order_ref)
        if order.leg is Leg.ADD and not order.filled and order.signal_id is not None:
            why = f"{trade.symbol}: nothing was added: {order.reason or 'cancelled before it filled'}"
            self._book.revise_signal(order.signal_id, Outcome.REFUSED, why)
        if order.leg is Leg.TRAIL and order.state is OrderState.REJECTED and (fixed := trade.to_move(stop=True)):
            at = fixed[0].price
            words = f"{trade.symbol}: TWS takes no trailing stop: {order.reason or text}; the stop-loss stays at {_plain(at)}"
            self._exit_refused(trade, order.order_ref, words)
        added = order.leg in EXITS and order.parent_ref is None and order.signal_id
        if added and order.state is OrderState.REJECTED and not news.expected:
            words = (
                f"{trade.symbol}: no {order.leg.word} at {_plain(order.price)} could be added: {order.reason or text}"
            )
            self._exit_refused(trade, added, words)

    def _reduction_over(self, trade: Trade, news: ReductionOver) -> None:
        wanted, held = decimal_text(news.wish.to), decimal_text(trade.held)
        if news.failure is None:
            self._say(trade, "reduced", f"{trade.symbol} {trade.side.value} reduced to {held}")
            return
        text = f"{trade.symbol} should be reduced to {wanted}, but {held} are held: {news.failure}"
        sold = any(o.filled for o in trade.legs(Leg.REDUCE) if o.signal_id == news.wish.signal_id)
        self._say(trade, "not reduced", text)
        self._book.revise_signal(news.wish.signal_id, Outcome.REDUCED if sold else Outcome.REFUSED, text)
        self._alarms.state(AlarmKind.NOT_REDUCED, text, news.wish.signal_id, symbol=trade.symbol, trade_id=trade.id)

    def not_moved(self, trade: Trade, order: Order, why: str) -> None:
        """Let go of the price that an exit was to have, since TWS refused it, and alert the owner."""
        where = f"it stays at {_plain(order.price)}"
        text = f"{trade.symbol}: the {order.leg.word} was to be moved to {_plain(order.wish)}, but {where}: {why}"
        with self._book.change():
            self.settle(trade.with_order(replace(order.without_wish(), sent_prices=())))
            self._exit_refused(trade, order.wish_for or order.order_ref, text)

    def _exit_refused(self, trade: Trade, about: str, text: str) -> None:
        self._say(trade, "exit not moved", text)
        self._book.revise_signal(about, Outcome.REFUSED, text)
        self._alarms.state(AlarmKind.NOT_MOVED, text, about, symbol=trade.symbol, trade_id=trade.id)

    def _opened(self, trade: Trade) -> None:
        part = "" if trade.entered == trade.asked else f" of {trade.asked}"
        price = _plain(trade.entry_price)
        self._say(trade, "opened", f"{trade.side.value} {trade.entered}{part} {trade.symbol} at {price}")

    def _result(self, trade: Trade, price: Decimal | None) -> str:
        """Return ": " and what a trade gained, where all of it was closed by executions that are known; else ""."""
        contract = self._sight.contract_of(trade)
        if contract is None or not trade.entered:
            return ""
        gain = trade.gain(price, contract.multiplier * trade.entered)
        return "" if gain is None else f": {gain:+.2f} {contract.currency} before commissions"

    def _void(self, trade: Trade) -> None:
        reason = next((o.reason for o in trade.orders if o.reason), None) or "cancelled before it filled"
        late = self._clock.now() > trade.valid_until and trade.refusal is None
        outcome = Outcome.EXPIRED if late else Outcome.REFUSED
        self._book.revise_signal(trade.signal_id, outcome, f"{trade.symbol}: nothing was entered: {reason}")
        self._say(trade, "not entered", reason)
        if late:
            text = f"{trade.symbol}: {reason}"
            self._alarms.state(AlarmKind.EXPIRED_SIGNAL, text, trade.signal_id, symbol=trade.symbol)

    def _closed(self, trade: Trade) -> None:
        reason = trade.exit_reason or ExitReason.UNKNOWN
        price = None if reason is ExitReason.UNKNOWN else trade.exit_price
        at = f"at {_plain(price)}" if price is not None else "at an unknown price"
        came = trade.entered or -trade.reduced  # from its executions, or as the owner adopted it
        result = self._result(trade, price)
        self._say(trade, "closed", f"{trade.symbol} {trade.side.value} {came} closed {at} {_CLOSED[reason]}{result}")
        if trade.tp_hit:
            self._block(trade, "the last trade took profit", sure=True)
        elif reason is ExitReason.UNKNOWN:
            self._unknown_exit(trade)
        elif reason is ExitReason.SETTLED and self._may_have_hit(trade):
            self._block(trade, "you settled the last trade yourself, and it may have hit its take-profit", sure=False)

    def _block(self, trade: Trade, why: str, *, sure: bool) -> None:
        self._book.set_block(trade, why, sure=sure)
        self._say(trade, "block set", f"no new {trade.side.value} in {trade.symbol}: {why}")

    def _may_have_hit(self, trade: Trade) -> bool:
        """True if re-entry is blocked where nobody knows how a trade ended: it had a take-profit, which may have filled."""
        return self._policy.unknown_exit == "block" and any(trade.legs(Leg.TAKE_PROFIT))

    def _unknown_exit(self, trade: Trade) -> None:
        what = f"the {trade.side.value} trade in {trade.symbol}"
        text = f"cannot tell how {what} closed: TWS no longer lists its executions. Check TWS"
        if self._may_have_hit(trade):
            self._block(
                trade, "the last trade closed for an unknown reason and may have hit its take-profit", sure=False
            )
            text += "; re-entry on that side is blocked until you release it"
        self._alarms.state(AlarmKind.UNKNOWN_EXIT, text, str(trade.id), symbol=trade.symbol, trade_id=trade.id)

    def _held(self, trade: Trade, news: Entered) -> None:
        if news.event is not Event.DOUBT:  # a doubt brings its own
            trade = replace(trade, evidence=_evidence(trade))
        self._book.put(trade)
        text = f"{trade.symbol} is on hold: {trade.hold_reason}. Choose on the page: adopt, flatten or dismiss"
        self._say(trade, "hold", text)
        # Not left to the trade's next step: the program may die before it.
        self._alarms.state(AlarmKind.HOLD, text, str(trade.id), symbol=trade.symbol, trade_id=trade.id)


_CLOSED = {
    ExitReason.TAKE_PROFIT: "by take-profit",
    ExitReason.STOP_LOSS: "by stop-loss",
    ExitReason.SIGNAL: "by a close signal",
    ExitReason.REVERSAL: "by a reversal",
    ExitReason.OWNER: "by you, on the page",
    ExitReason.UNPROTECTED: "because no stop-loss could be placed",
    ExitReason.BY_HAND: "by hand in TWS",
    ExitReason.SETTLED: "by you, outside this program",
    ExitReason.LIQUIDATED: "by IBKR: liquidated",
    ExitReason.NETTED: "by an order of an earlier trade that filled late",
    ExitReason.UNKNOWN: "for an unknown reason",
    ExitReason.NEVER_FILLED: "without a fill",
}


def _evidence(trade: Trade) -> str:
    """Return as JSON what the journal knows, for the owner's eyes."""
    fills = [f"{e.side.value} {e.quantity} at {e.price}: {e.order_ref or 'not ours'}" for e in trade.executions]
    seen = {"held in the journal": trade.held, "orders": [o.summary for o in trade.orders], "executions": fills}
    return json.dumps(seen, default=str)


def _seen(trade: Trade, last: Snapshot | None) -> str:
    """Return as JSON the journal's orders, and the broker's side of the same contract as last read."""
    seen = {
        "held in the journal": trade.held,
        "account shows": last.position(trade.account, trade.con_id) if last else ZERO,
        "orders": [o.summary for o in trade.orders],
        "open at the broker": [asdict(r) for r in (last.open_orders if last else ()) if r.con_id == trade.con_id],
        "executions today": [asdict(f) for f in (last.fills if last else ()) if f.con_id == trade.con_id],
        "read at": last.taken_at if last else None,
    }
    return json.dumps(seen, default=str)


def _plain(price: Decimal | None) -> str:
    return "an unknown price" if price is None else decimal_text(price)
