"""Takes the steps that trades need, and is the only one who sends orders; each is written down before it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from common.errors import BrokerUnavailable, IllegalTransition
from common.logs import get_logger
from executor.core.ports import Contract, Ticket
from executor.core.steps import (
    Cancel,
    GiveUp,
    Hold,
    LookUp,
    Moment,
    Place,
    Resize,
    SendBracket,
    Step,
    Unprotected,
    next_step,
)
from executor.core.trades import STOPS, ZERO, Event, Leg, Order, OrderState, Trade, awaits_executions

if TYPE_CHECKING:
    from executor.desk.desk import Desk

log = get_logger(__name__)

_REDUCE_WITH_BLOCK = 2  # source: IBKR, TWS API, One-Cancels-All
MAX_STEPS = 50  # more steps than this in one turn of one trade is a bug of ours


class Dispatch:
    """From the next step of a trade to the bytes: committed as being sent, then sent."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._journal = desk.journal
        self._lacking: dict[int, datetime] = {}  # trade id → since when executions of its live orders are missing

    def moment(self, trade: Trade) -> Moment:
        """Return what the steps of a trade depend on besides the trade."""
        beside = self._journal.ignored().get((trade.account, trade.con_id), ZERO)
        return Moment(
            self._desk.clock.now(), self._desk.shown(trade.con_id), beside, self._desk.ready_since,
            counted=self._desk.is_counted(trade.con_id), lacking_since=self._lacking_since(trade),
        )  # fmt: skip

    def _lacking_since(self, trade: Trade) -> datetime | None:
        if not trade.lacks_executions:
            self._lacking.pop(trade.id, None)
            return None
        return self._lacking.setdefault(trade.id, self._desk.clock.now())

    def work(self, trade_id: int) -> None:
        """Bring one trade up to its facts, and take every step that it needs now."""
        for _ in range(MAX_STEPS):
            trade = self._desk.life.refresh(trade_id)
            if trade.state.is_finished or not self._desk.can_send:
                return
            step = next_step(trade, self.moment(trade), self._desk.policy)
            if step is None or not self._do(trade, step):
                return
        raise IllegalTransition(f"trade {trade_id} took more than {MAX_STEPS} steps in one turn", trade_id)

    def enter(self, trade: Trade) -> Callable[[], object]:
        """Return what sends a new trade's orders, to be called after the transaction in which this was.

        So the decision, the intended orders and their ids are one commit: before it there is nothing, after it
        the orders may be at the broker. Where nothing can be sent now, the trade stays planned.
        """
        can_send = self._desk.can_send
        step = next_step(trade, self.moment(trade), self._desk.policy) if can_send else None
        contract = self._sendable(trade) if isinstance(step, SendBracket) else None
        if contract is None:
            return lambda: self.work(trade.id)
        sent = self._mark_sent(trade)
        return lambda: self._attempt(trade, lambda: self._send_marked(sent, contract))

    def _do(self, trade: Trade, step: Step) -> bool:
        """Take one step; whether another may follow in this turn."""
        return self._attempt(trade, lambda: self._take(trade, step))

    def _attempt(self, trade: Trade, act: Callable[[], bool]) -> bool:
        """Do what needs TWS; False where TWS is gone."""
        try:
            return act()
        except BrokerUnavailable as exc:
            log.warning("tws_gone", symbol=trade.symbol, reason=str(exc))
            self._desk.disconnected(f"TWS is gone: {exc}")
            self._desk.want_snapshot("an order could not be written to TWS")
            return False

    def _take(self, trade: Trade, step: Step) -> bool:
        match step:
            case SendBracket():
                return self._send_bracket(trade)
            case GiveUp(reason):
                self._give_up(trade, reason)
            case Cancel(order, why):
                self.cancel(trade, order, why)
            case Resize(order, quantity):
                return self._resize(trade, order, quantity)
            case Place(order):
                return self._place(trade, order)
            case LookUp() | Unprotected() | Hold():
                return self._tell(trade, step)
        return True

    def _tell(self, trade: Trade, step: LookUp | Unprotected | Hold) -> bool:
        """Take a step that sends nothing."""
        if isinstance(step, Unprotected):
            return self._unprotected(trade, step)
        if isinstance(step, Hold):
            self._desk.resolver.hold(trade, step.why)
        else:
            self._desk.want_snapshot(step.why)
        return False

    def _send_bracket(self, trade: Trade) -> bool:
        contract = self._sendable(trade)
        if contract is None:
            return False
        with self._journal.transaction():
            sent = self._mark_sent(trade)
        return self._send_marked(sent, contract)

    def _sendable(self, trade: Trade) -> Contract | None:
        """Return the contract of an entry, None while it must not go out, or cannot at once."""
        if self._desk.no_entries or self._desk.broker.is_paced:  # held up there it could leave when it is too old
            return None
        return self._desk.contract_of(trade)

    def _mark_sent(self, trade: Trade) -> Trade:
        """Write down that the planned orders of a trade go out, in the caller's transaction."""
        orders = [o for o in trade.orders if o.state is OrderState.PLANNED]
        ids = self._sending(orders)
        text = ", ".join([f"{trade.side.value} {trade.asked} {trade.symbol} at market", *map(_exit_words, orders[1:])])
        moved = self._desk.life.move(
            trade, Event.SEND, sent_at=self._desk.clock.now(), entry_order_id=ids[orders[0].order_ref]
        )
        self._journal.log("entry sent", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)
        return moved

    def _send_marked(self, trade: Trade, contract: Contract) -> bool:
        self.send_all(trade, contract, {o.order_ref for o in trade.orders if o.state is OrderState.SENDING})
        order = f"{trade.side.value} {trade.asked}"
        log.info("entry_sent", symbol=trade.symbol, order=order, signal_id=trade.signal_id, trade_id=trade.id)
        return True

    def _sending(self, orders: Iterable[Order]) -> dict[str, int]:
        """Write down, before the first byte, under which ids these orders go out."""
        planned = list(orders)
        first = self._journal.take_order_ids(self._desk.client_id, len(planned), self._desk.broker.order_id_floor())
        ids = {o.order_ref: first + n for n, o in enumerate(planned)}
        for ref, order_id in ids.items():
            self._journal.change_order(
                ref, order_id=order_id, client_id=self._desk.client_id, state=OrderState.SENDING.value,
                sent_at=self._desk.clock.now(), sent_day=self._desk.broker.day,
            )  # fmt: skip
        return ids

    def send_all(self, trade: Trade, contract: Contract, refs: set[str]) -> None:
        """Write these orders to the broker, in their order; only the last one transmits, so that they go together."""
        orders = [o for o in trade.orders if o.order_ref in refs]
        ids = {o.order_ref: o.order_id or 0 for o in trade.orders}
        for order in orders:
            self._desk.broker.send(self._ticket(trade, contract, order, ids, transmit=order is orders[-1]))

    def _ticket(self, trade: Trade, contract: Contract, order: Order, ids: dict[str, int], *, transmit: bool) -> Ticket:
        is_exit = order.leg in (Leg.TAKE_PROFIT, *STOPS)
        parent = ids.get(order.parent_ref or "", 0) if _is_parent(trade.entry) else 0
        group, oca_type = order.oca_group or _oca_group(trade), order.oca_type or _REDUCE_WITH_BLOCK
        return Ticket(
            order_id=order.order_id or 0, order_ref=order.order_ref, contract=contract, account=trade.account, side=order.side,
            kind=order.kind, quantity=order.quantity, price=order.price, tif="DAY" if order.leg is Leg.ENTRY else "GTC",
            parent_id=parent, transmit=transmit, oca_group=group if is_exit else "", oca_type=oca_type,
            outside_rth=self._desk.policy.outside_rth and is_exit,
        )  # fmt: skip

    def _give_up(self, trade: Trade, reason: str) -> None:
        with self._journal.transaction():
            for order in trade.orders:
                self._journal.change_order(order.order_ref, state=OrderState.CANCELLED.value, reason=reason)

    def cancel(self, trade: Trade, order: Order, why: str) -> None:
        """Ask to cancel one order, written down first."""
        with self._journal.transaction():
            self._journal.change_order(order.order_ref, cancel_asked_at=self._desk.clock.now())
            text = f"cancel of the {order.leg.word} asked: {why}"
            self._journal.log("cancel asked", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        self._desk.broker.cancel(order.order_id or 0)

    def _resize(self, trade: Trade, order: Order, quantity: Decimal) -> bool:
        contract = self._desk.contract_of(trade)
        if contract is None:
            return False
        with self._journal.transaction():
            self._journal.change_order(order.order_ref, resize_asked_at=self._desk.clock.now())
            text = f"{order.leg.word} fitted to the {trade.held} that the trade holds"
            self._journal.log("resized", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        ids = {o.order_ref: o.order_id or 0 for o in trade.orders}
        self._desk.broker.send(self._ticket(trade, contract, replace(order, quantity=quantity), ids, transmit=True))
        return True

    def _place(self, trade: Trade, order: Order) -> bool:
        """Write down one more order of a trade as being sent, then send it."""
        if self._desk.resolver.resends:
            return False
        contract = self._desk.contract_of(trade)
        if contract is None:
            self._desk.watch.tell_bare(
                trade, f"TWS has not told the contract yet, so that no {order.leg.word} can be sent"
            )
            return False
        kind = "close sent" if order.leg is Leg.CLOSE else "stop put back"
        price = "" if order.price is None else f" at {order.price}"
        with self._journal.transaction():
            self._journal.add_order(trade, trade.id, order, self._desk.client_id)
            self._sending([order])
            text = f"{order.side.value} {order.quantity} {trade.symbol}{price} ({order.leg.word})"
            self._journal.log(kind, text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        self.send_all(self._journal.trade(trade.id), contract, {order.order_ref})
        return True

    def _unprotected(self, trade: Trade, step: Unprotected) -> bool:
        text = f"{trade.symbol}: {trade.held} stand WITHOUT a stop-loss: {step.why}"
        self._desk.alarms.raise_("unprotected", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id)
        if step.then_flatten:
            self._desk.life.move(trade, Event.CLOSE, close_cause="no stop-loss could be placed")
            return True
        if step.then_hold:
            self._desk.resolver.hold(trade, step.why)
        return False


def _is_parent(entry: Order | None) -> bool:
    """Whether exits may still name the entry; one that the broker called finished is none, executions or not.

    Source: ib_insync issue 647: error 135 for a child whose parent has filled.
    """
    return entry is not None and entry.is_live and not awaits_executions(entry)


def _oca_group(trade: Trade) -> str:
    """The exits of a trade share one group, so that they cancel each other at the broker too.

    The broker may give the exits of a bracket a group and type of its own; an order is then only changed under
    these. Source: users' logs of 10326 and 10327; brackets read back with their parent's permId as group.
    """
    entry = trade.orders[0].order_ref if trade.orders else trade.signal_id
    return f"{entry[:20]}-exits"


def _exit_words(order: Order) -> str:
    return f"{order.leg.word} {order.price}"
