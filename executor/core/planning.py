"""What an unfinished trade needs next, pure: one step at a time, read off the trade, the moment and the policy."""

from __future__ import annotations

from decimal import Decimal

from executor.core.exits import (
    add_exit,
    amend_one,
    awaits_open,
    closable,
    exit_order,
    look_again,
    next_for_exits,
    restore_stop,
    take_aim,
)
from executor.core.moment import Moment
from executor.core.orders import (
    ENTRIES,
    EXITS,
    TAKE_OUT,
    ZERO,
    Leg,
    Order,
    OrderState,
    awaits_executions,
)
from executor.core.policy import Policy
from executor.core.ports import Kind
from executor.core.steps import (
    ASKED_ON_HOLD,
    NOTHING_LEFT,
    OCA_GRACE,
    Amend,
    Cancel,
    Hold,
    LookUp,
    Place,
    Step,
    Unprotected,
    may_ask,
    was_asked,
)
from executor.core.trades import State, Trade


def next_step(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """Return the one thing that an unfinished trade needs now, or None. Called again until it returns None."""
    if trade.state is State.HOLD and isinstance(cancel := _when_held(trade, moment, policy), Cancel):
        return cancel  # what could only open a position does not wait for a snapshot
    missing = next((o for o in trade.orders if _is_overdue(o, moment, policy)), None)
    if missing is not None and not _is_settled_by_owner(trade, missing, moment):
        return LookUp(f"the {missing.leg.word} in {trade.symbol} went unanswered")
    if trade.held < 0 and trade.state is not State.HOLD:
        return _look_for_entry(trade, moment, policy)
    planner = _PLANNERS.get(trade.state)
    return planner(trade, moment, policy) if planner else None


def _look_for_entry(trade: Trade, moment: Moment, policy: Policy) -> Step:
    """Its exits have filled, and nothing is heard of the entry: its executions arrive, or its fate is unknown."""
    why = f"the exits in {trade.symbol} filled more than the entry shows"
    sent_at = trade.entry.sent_at if trade.entry else None
    return Hold(why) if moment.lasted(sent_at, 2 * policy.inflight_seconds) else LookUp(f"{why} so far")


def _is_overdue(order: Order, moment: Moment, policy: Policy) -> bool:
    if order.state is OrderState.SENDING and order.said is None:
        return moment.lasted(order.sent_at, policy.inflight_seconds)
    return awaits_executions(order) and moment.lasted(order.sent_at, policy.inflight_seconds)


def _is_settled_by_owner(trade: Trade, missing: Order, moment: Moment) -> bool:
    """On hold, an order is looked up for a minute; after that the owner decides."""
    return trade.state is State.HOLD and moment.lasted(missing.sent_at, ASKED_ON_HOLD.total_seconds())


def _when_sending(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    return _cancel_loose(trade, moment, "the entry never filled")


def _when_working(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    entry = trade.entry
    if entry is not None and entry.is_live and may_ask(entry, moment):
        if moment.passed(trade.valid_until):
            return Cancel(entry, "not fully filled when it expired")
        if trade.held == 0 < entry.filled and any(o.filled for o in trade.legs(Leg.TAKE_PROFIT)):
            return Cancel(entry, "its take-profit took all that had filled")
    return _cancel_loose(trade, moment, "the entry never filled")


def _cancel_loose(trade: Trade, moment: Moment, why: str) -> Step | None:
    """Cancel what is live though nothing is held; the broker gets a moment to do it on its own."""
    return _cancel_one(trade, moment, why) if moment.lasted(trade.loose_at, OCA_GRACE.total_seconds()) else None


def _when_cancelling(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """Clear the way for the close; where the market is known to be closed, only when it opens.

    Until then the entry is cancelled, and the exits are kept in order as those of an open trade. One that cannot be
    is alarmed and nothing more: the close is asked for already.
    """
    cause = trade.close_cause or "the trade is being closed"
    if not awaits_market(trade, moment):
        return _cancel_one(trade, moment, cause)
    if (entry := next((o for o in trade.legs(*ENTRIES) if o.is_live), None)) is not None:
        return Cancel(entry, cause) if may_ask(entry, moment) else None
    step = _when_open(trade, moment, policy)
    return Unprotected(step.why) if isinstance(step, Unprotected) else step


def awaits_market(trade: Trade, moment: Moment) -> bool:
    """True if a close waits for its market to open, or for its contract and hours, while exits of the trade are working."""
    if trade.state is not State.CANCELLING or trade.held <= 0:
        return False
    if not any(o.is_live and o.cancel_asked_at is None for o in trade.legs(*EXITS)):
        return False
    return awaits_open(moment)


def _cancel_one(trade: Trade, moment: Moment, why: str) -> Step | None:
    order = next((o for o in trade.live if may_ask(o, moment)), None)
    return None if order is None else Cancel(order, why)


def _when_closing(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """Close what is held, once account and executions agree on it: nothing is closed on a position that is in doubt.

    A close that waits at the broker, and is larger than what the owner has left of it, is cancelled and replaced.
    """
    if trade.live:
        return _cancel_while_closing(trade, moment)
    if not moment.counted and any(o.filled for o in trade.legs(Leg.CLOSE)):
        return LookUp(f"part of {trade.symbol} was closed, and TWS has not reported the position since")
    if (doubt := look_again(trade, moment)) is not None:
        return doubt
    quantity = closable(trade, moment)
    if quantity <= 0:
        return Hold(
            f"{trade.held} {trade.symbol} should be closed, but the account shows none beyond your own {moment.beside}"
        )
    return Place(exit_order(trade, Leg.CLOSE, quantity, Kind.MARKET, None))


def _cancel_while_closing(trade: Trade, moment: Moment) -> Step | None:
    for order in trade.live:
        if order.leg is not Leg.CLOSE and may_ask(order, moment):
            return Cancel(order, "the trade is being closed")
        if order.leg is Leg.CLOSE and order.remaining > trade.held and may_ask(order, moment):
            return Cancel(order, "it would close more than the trade holds")
    return None


def _when_open(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    loose = (o for o in trade.live if (o.leg in (Leg.ENTRY, Leg.CLOSE) or o.cancel_asked_at) and may_ask(o, moment))
    if order := next(loose, None):
        again = order.cancel_asked_at is not None
        return Cancel(order, "TWS did not answer the last cancel" if again else "the trade was adopted as it is")
    late = (o for o in trade.legs(Leg.ADD) if o.is_live and o.sent_at and moment.passed(o.sent_at + policy.validity))
    if (order := next((o for o in late if may_ask(o, moment)), None)) is not None:
        return Cancel(order, "not fully filled in time")
    if trade.held == 0:
        return _cancel_loose(trade, moment, "the trade is flat")
    if moment.told and moment.left_for(trade) <= 0 and moment.has_lost(trade):
        return _cancel_one(trade, moment, NOTHING_LEFT)
    return next_for_exits(trade, moment, policy)


def _when_held(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """A hold stops entries only. What protects, reduces or ends a position goes on, never for more than the account shows:

    1. An entry that may still fill is cancelled.
    2. Exits and a close that are larger than what the account shows of the trade are cancelled, or shrink to it.
    3. A stop that is missing, and that the owner did not take away, comes back once.
    4. Exits are moved, and added, as signals ask for.
    """
    return (
        _end_entry(trade, moment)
        or _aim_on_hold(trade, moment)
        or _fit_to_account(trade, moment)
        or restore_stop(trade, moment, policy)
    )


def _aim_on_hold(trade: Trade, moment: Moment) -> Step | None:
    """Move and add exits that a signal asked for while the account shows what the trade holds."""
    if not moment.counted or not moment.left_for(trade) == trade.held > 0:
        return None
    if any(o.is_live for o in trade.legs(*TAKE_OUT)):
        return None
    return take_aim(trade, moment) or add_exit(trade, moment)


def _end_entry(trade: Trade, moment: Moment) -> Step | None:
    """Cancel an entry on hold: again where it works and the cancel is not answered, once where it was never seen."""
    entry = next((o for o in trade.legs(*ENTRIES) if o.is_live and not awaits_executions(o)), None)
    if entry is None or not may_ask(entry, moment):
        return None
    if entry.state is OrderState.SENDING and entry.cancel_asked_at is not None:
        return None
    return Cancel(entry, "a trade on hold enters nothing more")


def _fit_to_account(trade: Trade, moment: Moment) -> Step | None:
    shown, lost = moment.left_for(trade), moment.has_lost(trade)
    if (shown < 0 or (shown == 0 and (lost or trade.held <= 0))) and not _may_enter(trade):
        return _cancel_one(trade, moment, NOTHING_LEFT)
    larger = (o for o in trade.legs(*TAKE_OUT) if o.is_live and o.remaining > max(shown, ZERO) and may_ask(o, moment))
    if order := next(larger, None):
        return Cancel(order, "it would close more than the account shows")
    return _fit_exits(trade, moment, shown, lost=lost) if trade.entry_is_done else None


def _fit_exits(trade: Trade, moment: Moment, shown: Decimal, *, lost: bool) -> Step | None:
    """Fit them to what is held where the account agrees, and never leave them larger than what it shows."""
    if lost:
        exits = (o for o in trade.live_exits if o.remaining > shown and not was_asked(o.resize_asked_at, moment))
        return next((Amend(order, order.filled_at_broker + shown) for order in exits), None)
    return amend_one(trade, moment) if shown == trade.held > 0 and moment.counted else None


def _may_enter(trade: Trade) -> bool:
    """True if the entry may fill yet, so that its exits must stay."""
    return any(o.is_live and not awaits_executions(o) for o in trade.legs(*ENTRIES))


_PLANNERS = {
    State.SENDING: _when_sending,
    State.WORKING: _when_working,
    State.OPEN: _when_open,
    State.CANCELLING: _when_cancelling,
    State.CLOSING: _when_closing,
    State.HOLD: _when_held,
}
