"""Takes the steps that trades need; nothing else sends orders: each is committed as being sent, then sent."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from common.clock import Clock
from common.errors import IllegalTransition
from common.exits import AtEntry
from common.logs import get_logger
from common.signals import decimal_text
from executor.core.aims import added_for, carried_out, move_of
from executor.core.brackets import exit_price
from executor.core.conditions import Case, conditions_of, larger_exits
from executor.core.moment import Moment
from executor.core.orders import ENTRIES, EXITS, Aim, Leg, Order, OrderState, awaits_executions
from executor.core.outcomes import CloseCause, Outcome
from executor.core.planning import next_step
from executor.core.policy import Policy
from executor.core.ports import Broker, Contract, Ticket
from executor.core.steps import (
    Amend,
    Cancel,
    CloseRest,
    GiveUp,
    Hold,
    LookUp,
    MoveTarget,
    Place,
    Step,
    TakeAim,
    Unprotected,
)
from executor.core.trades import Event, State, Trade
from executor.desk.agenda import Agenda
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.desk.gate import Gate
from executor.desk.life import Life
from executor.desk.outbox import Outbox
from executor.desk.sight import NAME_TOLD, Sight

log = get_logger(__name__)

_REDUCE_WITH_BLOCK = 2  # source: IBKR, TWS API, One-Cancels-All
MAX_STEPS = 50  # more steps than this in one turn of one trade is a bug of ours
_ASK_AGAIN = timedelta(seconds=1)


class Orders:
    """From the next step of a trade to the bytes. Called within a change: what is sent waits in the outbox for its commit."""

    def __init__(
        self, book: Book, gate: Gate, sight: Sight, life: Life, alarms: Alarms, agenda: Agenda, outbox: Outbox, broker: Broker,
        clock: Clock, policy: Policy, client_id: int,
    ) -> None:  # fmt: skip
        self._book, self._gate, self._sight, self._life = book, gate, sight, life
        self._alarms, self._agenda, self._outbox, self._broker = alarms, agenda, outbox, broker
        self._clock, self._policy, self._client_id = clock, policy, client_id
        self._lacking: dict[int, datetime] = {}  # trade id → since when executions of its live orders are missing
        self._amiss: dict[int, datetime] = {}  # trade id → since when its exits are too large, or its stop missing
        self._waiting: dict[int, datetime] = {}  # trade id → since when its close has waited for no order of its own
        # trade id → what the account shows of it, less than it holds, and since when
        self._less: dict[int, tuple[Decimal, datetime]] = {}

    def work(self, trade_id: int) -> None:
        """Take every step that a trade needs now, report what is wrong with it, and note when to check it again.

        Raises:
            IllegalTransition: A bug of ours in this trade. Nothing of this turn may be sent; hold the trade.
        """
        trade = self._book.trade(trade_id)
        if trade.state.is_finished:
            self._forget(trade_id)
            return
        for _ in range(MAX_STEPS):
            moment = self.moment(trade)
            step = next_step(trade, moment, self._policy) if self._gate.can_send else None
            blocked = step is not None and not self._take(trade, step)
            trade = self._book.trade(trade_id)
            if step is None or blocked:
                self._tell(trade, moment, step)
                return
        raise IllegalTransition(f"trade {trade_id} took more than {MAX_STEPS} steps in one turn", trade_id)

    def _forget(self, trade_id: int) -> None:
        self._lacking.pop(trade_id, None)
        self._amiss.pop(trade_id, None)
        self._less.pop(trade_id, None)
        self._waiting.pop(trade_id, None)
        self._agenda.at(trade_id, None)

    def _tell(self, trade: Trade, moment: Moment, step: Step | None) -> None:
        """Raise and end the alarms about a trade."""
        problem = self._sight.unnamed.get(trade.con_id)
        if problem is not None:
            self._sight.contract_of(trade)  # asked again once a minute: TWS may only have been too slow
            moment.reached(moment.now + NAME_TOLD)
        if (
            problem is None
            and isinstance(step, Place | Amend | TakeAim | MoveTarget)
            and self._sight.contract_of(trade) is None
        ):
            problem = ""
        self._alarms.of_trade(trade, conditions_of(Case(trade, moment, self._policy, step, problem)))
        if isinstance(step, LookUp):
            moment.reached(moment.now + _ASK_AGAIN)
        self._agenda.at(trade.id, moment.due)

    # ---- what a step depends on ----

    def moment(self, trade: Trade) -> Moment:
        """Return what the steps of a trade depend on besides the trade."""
        con_id, now = trade.con_id, self._clock.now()
        moment = Moment(
            now, self._sight.shown(con_id), self._book.beside(con_id) + self._book.of_others(trade), self._gate.ready_since,
            counted=self._sight.is_counted(con_id), told=self._sight.was_told(con_id),
            behind=self._sight.behind(con_id), size_step=self._sight.size_step(con_id),
        )  # fmt: skip
        if trade.computes_prices:
            moment.contract = self._sight.contract_of(trade)
        moment.lacking_since = self._since(self._lacking, trade.id, now if trade.lacks_executions else None)
        if self._gate.ready_since is not None:
            large = bool(larger_exits(trade, moment))
            self._since(self._amiss, trade.id, trade.unprotected_at or (now if large else None))
        moment.amiss_since = self._amiss.get(trade.id)
        waits = trade.state is State.CLOSING and not trade.live
        moment.waiting_since = self._since(self._waiting, trade.id, now if waits else None)
        moment.less_since = self._shows_less_since(trade, moment)
        if trade.state is State.CANCELLING or trade.reduction is not None:
            moment.awaits_hours, moment.opens_at = self._sight.awaits_hours(trade), self._sight.opens_at(trade)
        return moment

    def _shows_less_since(self, trade: Trade, moment: Moment) -> datetime | None:
        """Return since when the account has shown of a trade what it shows now, None where that is all of it."""
        if not moment.shows_less(trade):
            self._less.pop(trade.id, None)
            return None
        left = moment.left_for(trade)
        known = self._less.get(trade.id)
        if known is None or known[0] != left:
            known = self._less[trade.id] = left, moment.now
        return known[1]

    @staticmethod
    def _since(known: dict[int, datetime], trade_id: int, began: datetime | None) -> datetime | None:
        """Remember since when something is so: the earliest of what was noted; None: it is not so now."""
        if began is None:
            known.pop(trade_id, None)
            return None
        known[trade_id] = min(known.get(trade_id, began), began)
        return known[trade_id]

    # ---- the steps ----

    def _take(self, trade: Trade, step: Step) -> bool:
        """Take one step; whether another may follow in this turn."""
        match step:
            case Cancel(order, why):
                self.cancel(trade, order, why)
                return True
            case Amend() | Place() | TakeAim() | MoveTarget():
                return self._change(trade, step)
            case Unprotected(then_flatten=True):
                self._life.move(replace(trade, close_cause=CloseCause.UNPROTECTED), Event.CLOSE)
                return True
            case Unprotected(then_hold=True) | Hold():
                self._life.hold(trade, step.why)
            case CloseRest():
                self._life.move(replace(trade, close_cause=CloseCause.SIGNAL), Event.CLOSE)
                return True
            case GiveUp(why):
                self._life.give_up(trade, why)
                self._gate.want_snapshot(f"{trade.symbol}: {why}")  # a change may have been taken all the same
                return True
            case LookUp(why):
                self._gate.want_snapshot(why)
        return False

    def _change(self, trade: Trade, step: Amend | Place | TakeAim | MoveTarget) -> bool:
        """Take a step that needs the contract; whether it could be taken."""
        match step:
            case Amend(order, quantity):
                return self._amend(trade, order, quantity)
            case Place(order):
                return self._place(trade, order)
            case TakeAim(aim, stop):
                return self._take_aim(trade, aim, stop=stop)
            case MoveTarget(order):
                return self._move_target(trade, order)

    def cancel(self, trade: Trade, order: Order, why: str) -> None:
        """Ask to cancel one order, written down first."""
        with self._book.change():
            self._life.settle(trade.with_order(order.with_cancel(self._clock.now())))
            text = f"{order.leg.word}: {why}"
            self._book.log("cancel requested", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
            self._outbox.add(lambda: self._broker.cancel(order.order_id or 0))

    def _amend(self, trade: Trade, order: Order, quantity: Decimal) -> bool:
        """Have the broker change the size or the price of a working order; whether that can be sent."""
        contract = self._sight.contract_of(trade)
        if contract is None:
            return False
        self._say_moving(trade, order)
        self._life.settle(trade.with_order(order.with_change_sent(self._clock.now())))
        left = quantity - order.filled_at_broker
        if left != order.remaining:
            text = f"{order.leg.word} set to {left}, {_why_so_large(trade, left)}"
            self._book.log("resized", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        sized = replace(order, quantity=quantity)
        self._outbox.add(lambda: self._broker.send(self._ticket(trade, contract, sized, transmit=True)))
        return True

    def _say_moving(self, trade: Trade, order: Order) -> None:
        if order.wish is None:
            return
        at = "no price" if order.price is None else decimal_text(order.price)
        again = ", sent again: TWS has not confirmed it" if order.wish_sent_at is not None else ""
        text = f"{order.leg.word} from {at} to {decimal_text(order.wish)}{again}"
        self._book.log("moving", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)

    def _take_aim(self, trade: Trade, aim: Aim, *, stop: bool) -> bool:
        """Write down the price that an exit shall have, now that it is known; whether that can be done."""
        contract = self._sight.contract_of(trade)
        if contract is None:
            return False
        move = move_of(aim, trade, contract, self._broker.price(trade.con_id), stop=stop)
        if aim.at is AtEntry.ENTRY and aim.signal_id is None:
            trade = replace(trade, breakeven=False)  # once
        self._life.settle(carried_out(trade, aim, move, stop=stop))
        if move.is_due:
            self._book.log("exit set", move.text, symbol=trade.symbol, trade_id=trade.id, signal_id=aim.signal_id)
        elif aim.signal_id is not None and move.outcome is not Outcome.NOTHING:
            self._book.log("exit stays", move.text, symbol=trade.symbol, trade_id=trade.id, signal_id=aim.signal_id)
            self._book.revise_signal(aim.signal_id, move.outcome, f"{trade.symbol}: {move.text}")
        return True

    def _move_target(self, trade: Trade, order: Order) -> bool:
        """Write down the price of a target at its distance from the fill; whether that can be done."""
        contract = self._sight.contract_of(trade)
        if contract is None:
            return False
        price = order.distance and exit_price(order.distance, trade.side, contract, trade.entry_price, stop=False)
        moved = replace(order, distance=None) if not price else order.with_wish(price, None)
        self._life.settle(trade.with_order(moved))
        if price:
            text = f"take-profit to {decimal_text(price)} ({order.distance} from the entry)"
            self._book.log("exit set", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        return True

    def _place(self, trade: Trade, order: Order) -> bool:
        """Write down one more order of a trade as being sent; it is sent after the commit."""
        contract = None if self._gate.resends else self._sight.contract_of(trade)
        if contract is None:
            return False
        (order,) = self._as_sending([order])
        self._life.settle(added_for(trade, order).with_order(order))
        kind = _SENT.get(order.leg) or ("stop put back" if order.signal_id is None else "stop added")
        price = "market" if order.price is None else decimal_text(order.price)
        text = f"{order.side.value} {decimal_text(order.quantity)} {trade.symbol} at {price}"
        text += f", trailing by {order.trail}" if order.trail is not None else ""
        self._book.log(kind, text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        self._outbox.add(lambda: self.send(trade.id, contract, {order.order_ref}))
        return True

    def enter(self, trade: Trade, orders: Collection[Order], contract: Contract) -> Trade:
        """Write down a new trade with its orders as being sent, and return it; they are sent after the commit.

        So the decision, the intended orders and their ids are one commit: before it there is nothing, after it the
        orders may be at the broker.
        """
        sending = self._as_sending(orders)
        trade = self._book.add(replace(trade, orders=tuple(sending), sent_at=self._clock.now()))
        order = f"{trade.side.value} {trade.asked}"
        text = ", ".join([f"{order} {trade.symbol} at market", *_exits_in_words(sending[1:])])
        self._book.log("entry sent", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)

        self._outbox.add(
            lambda: self.send(trade.id, contract, {o.order_ref for o in sending}),
            lambda: log.info(
                "entry_sent", symbol=trade.symbol, order=order, signal_id=trade.signal_id, trade_id=trade.id
            ),
        )
        return trade

    def add(self, trade: Trade, orders: Collection[Order], contract: Contract) -> None:
        """Write down that an open trade is made larger, with the orders for it; they are sent after the commit."""
        sending = self._as_sending(orders)
        trade = replace(trade, orders=(*trade.orders, *sending))
        self._life.settle(trade)
        exits = [f"{o.leg.word} {o.price}" for o in sending[1:]]
        text = ", ".join([f"{trade.side.value} {sending[0].quantity} {trade.symbol} at market", *exits])
        self._book.log("addition sent", text, symbol=trade.symbol, trade_id=trade.id, order_ref=sending[0].order_ref)
        refs = {o.order_ref for o in sending}
        self._outbox.add(lambda: self.send(trade.id, contract, refs))

    def _as_sending(self, orders: Collection[Order]) -> list[Order]:
        """Return orders with the ids under which they go out from now on."""
        first = self._book.take_order_ids(self._client_id, len(orders), self._broker.order_id_floor())
        now, day = self._clock.now(), self._broker.day
        return [
            replace(
                order,
                order_id=first + n,
                client_id=self._client_id,
                state=OrderState.SENDING,
                sent_at=now,
                sent_day=day,
            )
            for n, order in enumerate(orders)
        ]

    def send_again(self, trade: Trade, orders: Collection[Order], contract: Contract) -> None:
        """Write down that orders go out again under their own ids; they are sent after the commit."""
        now, day = self._clock.now(), self._broker.day
        with self._book.change():
            for order in (o.with_change_sent(now) if o.wish is not None else o for o in orders):
                again = replace(order, resends=order.resends + 1, sent_at=now, sent_day=day)
                trade = self._life.settle(trade.with_order(again))
            text = f"{', '.join(o.leg.word for o in orders)}: never arrived at the broker, resent under the same id"
            self._book.log("sent again", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)
            refs = {o.order_ref for o in orders}
            self._outbox.add(lambda: self.send(trade.id, contract, refs))

    # ---- the bytes ----

    def send(self, trade_id: int, contract: Contract, refs: Collection[str]) -> None:
        """Write these orders to the broker as they are committed, in their order; only the last one transmits.

        Raises:
            BrokerUnavailable: TWS is gone; some may have left. What was noted is looked up by evidence.
        """
        trade = self._book.trade(trade_id)
        orders = [o for o in trade.orders if o.order_ref in refs]
        for order in orders:
            self._broker.send(self._ticket(trade, contract, order, transmit=order is orders[-1]))

    def _ticket(self, trade: Trade, contract: Contract, order: Order, *, transmit: bool) -> Ticket:
        is_exit = order.leg in EXITS
        parent = next(
            (o.order_id or 0 for o in trade.legs(*ENTRIES) if o.order_ref == order.parent_ref and _is_parent(o)), 0
        )
        group, oca_type = order.oca_group or _oca_group(trade, order), order.oca_type or _REDUCE_WITH_BLOCK
        return Ticket(
            order_id=order.order_id or 0, order_ref=order.order_ref, contract=contract, account=trade.account, side=order.side,
            kind=order.kind, quantity=order.quantity, price=order.shall_price, trail=order.trail,
            tif="DAY" if order.leg in ENTRIES else "GTC",
            parent_id=parent, transmit=transmit, oca_group=group if is_exit else "", oca_type=oca_type,
            outside_rth=(self._policy.outside_rth and is_exit) or _trades_all_hours(order, contract),
        )  # fmt: skip


def _exits_in_words(exits: Sequence[Order]) -> list[str]:
    """Return the exits of a bracket: with several targets what each takes, and the stops by their price."""
    targets = [o for o in exits if o.leg is Leg.TAKE_PROFIT]
    stops = dict.fromkeys(f"{o.leg.word} {o.price}" for o in exits if o.leg is not Leg.TAKE_PROFIT)
    if len(targets) <= 1:
        return [f"{o.leg.word} {o.price}" for o in targets] + list(stops)
    return [f"take-profit {o.price} for {decimal_text(o.quantity)}" for o in targets] + list(stops)


_SENT = {
    Leg.CLOSE: "close sent",
    Leg.REDUCE: "reduction sent",
    Leg.TAKE_PROFIT: "take-profit added",
    Leg.TRAIL: "trail begun",
}


def _why_so_large(trade: Trade, size: Decimal) -> str:
    if any(o.percent is not None for o in trade.orders):
        return "its share of what stays"
    if size == trade.held:
        return "the quantity held"
    return (
        "what will be left after the reduction" if size < trade.held and trade.reduction else "what the account shows"
    )


def _trades_all_hours(order: Order, contract: Contract) -> bool:
    """True for what takes a future out: it works whenever the exchange trades.

    IBKR simulates a future's stop, and triggers it in regular hours only unless it is told otherwise.
    Source: interactivebrokers.ca, US futures stop order.
    """
    return contract.sec_type == "FUT" and order.leg not in ENTRIES


def _is_parent(entry: Order) -> bool:
    """True if exits may still name the entry; one that the broker called finished is none, executions or not.

    Source: ib_insync issue 647: error 135 for a child whose parent has filled.
    """
    return entry.is_live and not awaits_executions(entry)


def _oca_group(trade: Trade, order: Order) -> str:
    """The exits of a pair share one group, so that they cancel each other at the broker too; an addition's stop has none.

    The broker may give the exits of a bracket a group and type of its own; an order is then only changed under
    these. Source: users' logs of 10326 and 10327; brackets read back with their parent's permId as group.
    """
    if order.leg is Leg.ADD_STOP:
        return ""
    entry = trade.orders[0].order_ref if trade.orders else trade.signal_id
    return f"{entry[:20]}-exits{order.pair or ''}"
