"""How a fact changes a trade: its orders and state follow its executions and the broker's reports. Pure.

`settled` and `moved` return the trade as it is afterwards and the news: what happened on the way, for the trade log
and for the code that acts on it. Both may be repeated with the same facts: then there is no news.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from common.errors import IllegalTransition
from executor.core.orders import REDUCE_SECONDS, STOPS, ZERO, Aim, Leg, Order, OrderState, Reduction, order_state
from executor.core.outcomes import CloseCause, ExitReason
from executor.core.trades import Event, State, Trade, following, observed


@dataclass(frozen=True, slots=True)
class OrderOver:
    """An order was rejected or cancelled; `expected` where this program asked for it, or nothing was left to do."""

    order: Order
    expected: bool


@dataclass(frozen=True, slots=True)
class Entered:
    """The trade changed its state by an event; None where the program froze it."""

    state: State
    event: Event | None


@dataclass(frozen=True, slots=True)
class ReductionOver:
    """The wish to make the trade smaller is fulfilled, or has failed, and then why."""

    wish: Reduction
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class MoveOver:
    """The trade was over before an exit was where a signal wanted it."""

    signal_id: str


News = OrderOver | Entered | ReductionOver | MoveOver
Evolved = tuple[Trade, tuple[News, ...]]

_OVER = (OrderState.REJECTED, OrderState.CANCELLED)
_HOLD_REASONS = {
    Event.REFUSED: "the close order was refused or cancelled, and the position is still there",
    Event.FLIPPED: "its exits filled more than the trade held: the position may have flipped",
    Event.LATE_FILL: "an execution arrived for a trade that was already finished",
}
# Where a stop that was asked for may be missing.
_HOLDING = (State.WORKING, State.OPEN, State.CANCELLING, State.CLOSING, State.HOLD)


def settled(trade: Trade, now: datetime) -> Evolved:
    """Bring a trade up to its facts.

    Raises:
        IllegalTransition: The table of a trade's life forbids what the facts say: a bug of ours. Hold the trade.
    """
    trade, over = _with_orders_judged(trade, now)
    news: tuple[News, ...] = tuple(over)
    trade = _timed(trade, now)
    while (event := observed(trade)) and _following(trade, event) is not trade.state:
        trade, more = moved(trade, event, now)
        news += more
    trade, over_too = _with_reduction_judged(trade)
    trade, moves_over = _with_moves_judged(_agreed(trade))
    return trade, news + over_too + moves_over


def moved(trade: Trade, event: Event, now: datetime) -> Evolved:
    """Take a trade through one event of its life.

    Raises:
        IllegalTransition: The table forbids it: a bug of ours. Hold the trade.
    """
    state = _following(trade, event)
    if state is trade.state:
        return _timed(trade, now), ()
    if event is Event.ENTERED:
        trade = replace(trade, unprotected_at=None)  # what the stop lacked while the entry filled counts from now
    if state is State.HOLD:
        trade = replace(trade, hold_reason=trade.hold_reason or _HOLD_REASONS[event])
    return _in_state(replace(trade, state=state), now), (Entered(state, event),)


def frozen(trade: Trade, why: str, now: datetime) -> Evolved:
    """Put a trade on hold whatever its state, since the program failed on it."""
    held = replace(trade, state=State.HOLD, hold_reason=why)
    return _timed(held, now), (Entered(State.HOLD, None),)


def given_up(trade: Trade, why: str, now: datetime) -> Evolved:
    """Let go of the wish to make a trade smaller."""
    if trade.reduction is None:
        return trade, ()
    wish = trade.reduction
    bare_from_now = replace(trade, reduction=None, unprotected_at=None)
    return _timed(bare_from_now, now), (ReductionOver(wish, why),)


def ended(trade: Trade, now: datetime) -> Trade:
    """Record how a closed trade ended, as its executions show it now."""
    reason, leg = _exit_reason(trade)
    return replace(trade, closed_at=now, exit_reason=reason, tp_hit=leg is Leg.TAKE_PROFIT)


def _with_orders_judged(trade: Trade, now: datetime) -> tuple[Trade, list[OrderOver]]:
    over: list[OrderOver] = []
    orders = []
    for order in trade.orders:
        known = replace(order, filled=trade.filled(order.order_ref))
        state = order_state(known)
        if state is not order.state:
            known = replace(known, state=state)
            known = replace(known, done_at=now) if known.is_done else known
            if known.leg is Leg.TRAIL and state is OrderState.REJECTED and trade.to_move(stop=True)[:1] != (order,):
                trade = _with_fixed_stop(trade, known)
            if state in _OVER:
                over.append(OrderOver(known, order.cancel_asked_at is not None or trade.held == 0))
        orders.append(known)
    return replace(trade, orders=tuple(orders)), over


def _with_fixed_stop(trade: Trade, refused: Order) -> Trade:
    """Let the fixed stop go where the trailing one was to begin, since TWS takes no trailing one."""
    return trade if refused.shall_price is None else replace(trade, stop_aim=Aim(refused.shall_price, free=True))


def _with_reduction_judged(trade: Trade) -> tuple[Trade, tuple[News, ...]]:
    """End the wish to make a trade smaller when it is fulfilled, when its order failed, or when the trade takes another way.

    A close that is asked for takes its place; on hold nothing is wished.
    """
    wish = trade.reduction
    if wish is None:
        return trade, ()
    over = replace(trade, reduction=None)
    if trade.state in (State.CANCELLING, State.CLOSING) or trade.state.is_finished:
        return over, ()
    if trade.state is State.HOLD:
        return over, (ReductionOver(wish, "the trade is on hold"),)
    if trade.reducing or not trade.entry_is_done:
        return trade, ()
    if trade.held <= trade.shrinks_to:
        agreed = trade.strategy_size == wish.to  # whatever the exits took meanwhile
        return replace(over, strategy_size=None if agreed else trade.strategy_size), (ReductionOver(wish),)
    if trade.shrinks_to == 0:
        return trade, ()  # its exits took what was to stay: the rest is closed, whatever became of the reduction
    failed = next((o for o in trade.legs(Leg.REDUCE) if o.signal_id == wish.signal_id and _has_failed(o)), None)
    return (trade, ()) if failed is None else (over, (ReductionOver(wish, _why_failed(failed)),))


def _agreed(trade: Trade) -> Trade:
    """Forget the strategy's size once the trade has it: what its exits fill later is no difference."""
    rests = trade.entry_is_done and trade.reduction is None and not trade.reducing
    return replace(trade, strategy_size=None) if rests and trade.held == trade.strategy_size else trade


def _with_moves_judged(trade: Trade) -> tuple[Trade, tuple[News, ...]]:
    """Let go of what exits were to be: where another one stands there in its place, and when the trade is finished."""
    there = {o.shall_price for o in trade.legs(*STOPS) if o.is_live}
    replaced = (o for o in trade.legs(*STOPS) if o.is_done and o.wish is not None and o.wish in there)
    for order in replaced:
        trade = trade.with_order(order.without_wish())
    if not trade.state.is_finished:
        return trade, ()
    asked = [o.wish_for for o in trade.orders]
    asked += [aim.signal_id for aim in (trade.stop_aim, trade.target_aim) if aim is not None]
    over = tuple(MoveOver(signal_id) for signal_id in dict.fromkeys(asked) if signal_id is not None)
    orders = tuple(order.without_wish() for order in trade.orders)
    return replace(trade, orders=orders, stop_aim=None, target_aim=None), over


def _has_failed(order: Order) -> bool:
    """True if a reduction is over and did not fill; one that we took back in time goes out again, with what it lacks."""
    if not order.is_done or order.state is OrderState.FILLED:
        return False
    if order.cancelling_since is None or order.sent_at is None:
        return True
    return (order.cancelling_since - order.sent_at).total_seconds() >= REDUCE_SECONDS


def _why_failed(order: Order) -> str:
    if order.reason:
        return order.reason
    return (
        f"it did not fill within {REDUCE_SECONDS} s"
        if order.cancelling_since
        else "it was cancelled, not by this program"
    )


def _timed(trade: Trade, now: datetime) -> Trade:
    """Remember since when a stop that was asked for is missing, and since when orders are loose."""
    if trade.state.is_finished:
        return trade
    loose = trade.entry_is_done and trade.held <= 0 and bool(trade.live)
    bare = trade.state in _HOLDING and not trade.is_protected
    return replace(
        trade,
        loose_at=(trade.loose_at or now) if loose else None,
        unprotected_at=(trade.unprotected_at or now) if bare else None,
    )


def _in_state(trade: Trade, now: datetime) -> Trade:
    if not trade.state.is_finished:
        return _timed(trade, now)
    trade = replace(trade, unprotected_at=None, loose_at=None)
    if trade.state is State.VOID:
        return replace(trade, closed_at=now, exit_reason=ExitReason.NEVER_FILLED)
    return ended(trade, now)


def _exit_reason(trade: Trade) -> tuple[ExitReason, Leg | None]:
    """Name the exit by what closed the last quantity; unknown if no execution shows it."""
    if trade.exit_reason:
        return trade.exit_reason, None
    by_ref = {o.order_ref: o.leg for o in trade.orders}
    if not trade.exits:
        return ExitReason.UNKNOWN if trade.entered > ZERO else ExitReason.NEVER_FILLED, None
    leg = by_ref.get(trade.exits[-1].order_ref)
    if leg is None:
        return ExitReason.BY_HAND, None
    if leg is Leg.REDUCE:
        return ExitReason.SIGNAL, leg
    if leg is Leg.CLOSE:
        return ExitReason(trade.close_cause or CloseCause.SIGNAL), leg
    return (ExitReason.TAKE_PROFIT if leg is Leg.TAKE_PROFIT else ExitReason.STOP_LOSS), leg


def _following(trade: Trade, event: Event) -> State:
    try:
        return following(trade.state, event)
    except IllegalTransition as exc:
        raise IllegalTransition(str(exc), trade.id) from exc
