"""What the exits of an open trade need next, pure: their size, their price, one that is lost; and what makes a trade smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from common.exits import AtEntry, Distance
from common.signals import decimal_text
from executor.core.brackets import exit_price, order_ref, trail_in
from executor.core.moment import Moment
from executor.core.orders import (
    EXITS,
    REDUCE_SECONDS,
    STOPS,
    ZERO,
    Aim,
    Leg,
    Order,
    OrderState,
    awaits_executions,
)
from executor.core.policy import Policy
from executor.core.ports import Contract, Kind, Status
from executor.core.sizes import bare_pairs, exit_sizes, main_stop, pair_of, pair_sizes, stops_of
from executor.core.steps import (
    CANCEL_WITH_BLOCK,
    OCA_GRACE,
    Amend,
    Cancel,
    CloseRest,
    GiveUp,
    LookUp,
    MoveTarget,
    Place,
    Step,
    TakeAim,
    Unprotected,
    may_ask,
    was_asked,
)
from executor.core.trades import Trade

CONFIRM_SECONDS = 5  # so long TWS may take to confirm that exits are smaller; then it is looked up what they are


def closable(trade: Trade, moment: Moment) -> Decimal:
    """Return what may be closed: the trade's own quantity, never more than the broker still shows in that direction.

    Once everything has been read since, a position that lags behind counts as what it will be with our executions in it.
    """
    if moment.is_behind(trade):
        return trade.held
    return min(trade.held, max(moment.shown_for(trade), ZERO))


def next_for_exits(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """Return what the exits of a trade that holds something need next, or the reduction that waits for them; None: nothing."""
    return (
        end_reduction(trade, moment)
        or spare_exit(trade, moment)
        or begin_trail(trade, moment)
        or take_aim(trade, moment)
        or amend_one(trade, moment)
        or reduction(trade, moment)
        or add_exit(trade, moment)
        or protection(trade, moment, policy)
    )


def end_reduction(trade: Trade, moment: Moment) -> Step | None:
    """Take back a reduction that does not fill, that takes out more than is wanted by now, or that cannot be sent in time.

    One after which nothing would be left is a close.
    """
    live = [order for order in trade.legs(Leg.REDUCE) if order.is_live]
    for order in live:
        if trade.staying < trade.shrinks_to and may_ask(order, moment):
            return Cancel(order, f"it would leave less than {decimal_text(trade.shrinks_to)}")
        if moment.lasted(order.sent_at, REDUCE_SECONDS) and may_ask(order, moment):
            return Cancel(order, f"not filled within {REDUCE_SECONDS} s")
    if trade.reduction is None or live or not _can_reduce(trade, moment):
        return None
    if trade.shrinks_to == 0:
        return CloseRest()  # no exit can be made so small that it may stay beside the reduction
    unanswered = min(_unanswered(trade, moment), default=None)
    late = moment.lasted(unanswered, CONFIRM_SECONDS)
    return GiveUp("TWS did not confirm that its exits are smaller") if late else None


def _unanswered(trade: Trade, moment: Moment) -> Iterator[datetime]:
    """Yield since when each exit is awaited that was asked to change, or to go: for this reduction, not for one before."""
    since = trade.reduction.since if trade.reduction is not None else moment.now
    sizes = _sizes(trade, moment)
    for order in trade.legs(*EXITS):
        lacks = sizes.get(order.order_ref, order.remaining) != order.remaining
        asked = order.resize_asked_at if lacks or _is_changing(order) else order.cancelling_since
        if order.is_live and asked is not None:
            yield max(asked, since)


def reduction(trade: Trade, moment: Moment) -> Step | None:
    """Send what a reduction lacks, once each exit is confirmed at the size that will be left.

    So exits and reduction together never sell more than the trade holds, whatever fills first. Where the market is known
    to be closed, nothing is made smaller before it opens.
    """
    if trade.reduction is None or not _can_reduce(trade, moment):
        return None
    lacking = trade.staying - trade.shrinks_to
    if lacking <= 0 or not _all_have_size(trade, moment):
        return None
    if (doubt := look_again(trade, moment)) is not None:
        return doubt
    signal_id = trade.reduction.signal_id
    attempt = 1 + sum(1 for o in trade.legs(Leg.REDUCE) if o.signal_id == signal_id)
    if attempt > 9:  # one digit
        return GiveUp("it was sent nine times")
    ref = order_ref(signal_id, Leg.REDUCE, attempt)
    return Place(Order(ref, Leg.REDUCE, attempt, trade.side.opposite, Kind.MARKET, lacking, signal_id=signal_id))


def look_again(trade: Trade, moment: Moment) -> LookUp | None:
    """Ask again where the account shows less than the executions say, so that nothing is closed that is not there."""
    if moment.shows_less(trade) and not moment.is_behind(trade):
        return LookUp(f"the account shows less {trade.symbol} than this trade holds")
    return None


def _can_reduce(trade: Trade, moment: Moment) -> bool:
    """True if a reduction may go out now: nobody knows the market to be closed, and nothing about the trade is in doubt."""
    return not awaits_open(moment) and trade.entry_is_done and not any(awaits_executions(o) for o in trade.orders)


def awaits_open(moment: Moment) -> bool:
    """True if nothing can fill before the market opens, or before its hours are known."""
    return moment.awaits_hours or (moment.opens_at is not None and not moment.reached(moment.opens_at))


def spare_exit(trade: Trade, moment: Moment) -> Step | None:
    """Cancel an exit that is one too many, once the stop that covers its pair has its size.

    A stop believed lost shows up again next to its replacement; an addition's stop has done its work.
    """
    sizes = _sizes(trade, moment)
    for order in trade.live_exits:
        if sizes.get(order.order_ref) == 0 and exit_size(trade, moment) > 0:
            stop = main_stop(order, trade)
            if stop is None or stop is order or stop.remaining == sizes[stop.order_ref]:
                return Cancel(order, "another order does its work" if stop is not order else "nothing is left for it")
    return None


def begin_trail(trade: Trade, moment: Moment) -> Step | None:
    """Place a trailing stop beside each fixed one, in its group, when the entry has filled; the fixed one goes when it works.

    It cannot be part of the bracket: TWS takes a trailing stop under a limit order only. Source: IBKR, Message Codes, 328;
    recorded with a market order as parent.
    """
    if trade.trail is None or moment.contract is None or not trade.entry_is_done:
        return None
    if any(awaits_executions(o) for o in trade.orders) or (trade.stop_aim and trade.stop_aim.signal_id is not None):
        return None
    for stop in trade.live_stops:
        size = _sizes(trade, moment).get(stop.order_ref, ZERO)
        begun = any(o.pair == stop.pair and o.kind is Kind.TRAIL for o in trade.orders)
        if not size or begun or stop.leg is Leg.ADD_STOP or stop.wish is not None:
            continue
        return look_again(trade, moment) or Place(_trailing(trade, stop, size, moment.contract, trade.trail))
    return None


def _awaits_trail(trade: Trade) -> bool:
    """True if the price that came with the entry is one at which its trailing stop is still to begin."""
    if trade.trail is None or trade.stop_aim is None or trade.stop_aim.signal_id is not None:
        return False
    return not any(o.kind is Kind.TRAIL for o in trade.orders)


def _trailing(trade: Trade, stop: Order, size: Decimal, contract: Contract, trail: Distance) -> Order:
    """Return the trailing stop that takes the place of a fixed one; it begins where that is, or was to be moved to."""
    price, entry, aim = stop.shall_price, trade.entry_price, trade.stop_aim
    if aim is not None:
        price = exit_price(aim.at, trade.side, contract, entry, stop=True) or price
    order = exit_order(trade, Leg.TRAIL, size, Kind.TRAIL, price, like=stop.pair)
    return replace(order, trail=trail_in(trail, entry or price or ZERO, contract))


def take_aim(trade: Trade, moment: Moment) -> Step | None:
    """Move an exit to where it was to be once the entry has filled; one that is to be added is not there yet."""
    if not trade.entry_is_done:
        return None
    for stop in (True, False):
        aim, there = trade.aim(stop=stop), trade.to_move(stop=stop)
        if stop and _awaits_trail(trade):
            continue
        if aim is None or (not there and (isinstance(aim.at, Decimal) or aim.signal_id is None)):
            continue
        if stop and bare_pairs(trade) and all(o.shall_price == aim.at for o in there):
            continue  # it is there, and other pairs are still to get theirs
        if isinstance(aim.at, Decimal) or moment.contract is not None:
            return TakeAim(aim, stop)
    return _after_fill(trade) if moment.contract is not None else None


def _after_fill(trade: Trade) -> Step | None:
    """Move targets to their distance from the fill, and after the first that filled the stop to the entry price."""
    targets = list(trade.legs(Leg.TAKE_PROFIT))
    if (away := next((o for o in targets if o.distance is not None and o.may_be_moved), None)) is not None:
        return MoveTarget(away)
    if trade.breakeven and any(o.state is OrderState.FILLED for o in targets):
        return TakeAim(Aim(AtEntry.ENTRY), stop=True)
    return None


def add_exit(trade: Trade, moment: Moment) -> Step | None:
    """Add the stop or the take-profit that a signal asked for and that the trade lacks."""
    sizes = pair_sizes(trade, exit_size(trade, moment), moment.size_step)
    if not trade.entry_is_done or any(awaits_executions(o) for o in trade.orders):
        return None
    stop, target = trade.aim(stop=True), trade.aim(stop=False)
    bare = [pair for pair in bare_pairs(trade) if sizes.get(pair)]
    wanted = None
    if stop is not None and isinstance(stop.at, Decimal) and bare:
        wanted = exit_order(trade, Leg.PUT_BACK, sizes[bare[0]], Kind.STOP, stop.at, like=bare[0])
        wanted = replace(wanted, signal_id=stop.signal_id)
    elif (
        target is not None
        and isinstance(target.at, Decimal)
        and not any(o.is_live for o in trade.legs(Leg.TAKE_PROFIT))
    ):
        pair = max(sizes, key=lambda each: sizes[each])
        wanted = exit_order(trade, Leg.TAKE_PROFIT, sizes[pair], Kind.LIMIT, target.at, like=pair)
        wanted = replace(wanted, signal_id=target.signal_id)
    if wanted is None or not wanted.quantity:
        return None
    return look_again(trade, moment) or Place(wanted)


def amend_one(trade: Trade, moment: Moment) -> Step | None:
    """Fit the exits to what is held and wanted; the broker's own OCA reduction gets a moment to do it first.

    Where the broker's count is ahead of the executions, these come at once or (after midnight) never: nothing is
    fitted before either has shown, and the account agrees on what is held.
    """
    if moment.lacking_since is not None and not _has_settled(trade, moment):
        return None
    sizes = _sizes(trade, moment)
    wanted = trade.unprotected_at is None or trade.reduction is not None
    settled = wanted or moment.lasted(trade.unprotected_at, OCA_GRACE.total_seconds())
    for order in trade.legs(*EXITS):
        size = sizes.get(order.order_ref, ZERO)
        if size and not _fits(order, size, moment) and (settled or order.remaining == size):
            return Amend(order, order.filled_at_broker + size)
    return None


def exit_size(trade: Trade, moment: Moment) -> Decimal:
    """Return what the exits shall cover: what is held less what a reduction takes out, once it may go out.

    What a live addition has brought so far is covered by its own stop.
    """
    staying = trade.staying - trade.adding
    return max(min(staying, trade.shrinks_to) if _shrinks(trade, moment) else staying, ZERO)


def _shrinks(trade: Trade, moment: Moment) -> bool:
    """True if the trade is being made smaller now."""
    return trade.reduction is not None and _can_reduce(trade, moment)


def _sizes(trade: Trade, moment: Moment) -> dict[str, Decimal]:
    return exit_sizes(trade, exit_size(trade, moment), moment.size_step)


def _all_have_size(trade: Trade, moment: Moment) -> bool:
    """True if TWS has confirmed each exit in the size that it shall have; a change under way may give it another yet."""
    if any(o.is_live and (o.cancel_asked_at or _is_changing(o)) for o in trade.legs(*EXITS)):
        return False
    sizes = _sizes(trade, moment)
    return all(trade.order(ref).remaining == size for ref, size in sizes.items())


def _is_changing(order: Order) -> bool:
    return order.resize_asked_at is not None and order.refusal_code is None


def _has_settled(trade: Trade, moment: Moment) -> bool:
    waited = moment.lasted(moment.lacking_since, OCA_GRACE.total_seconds())
    return waited and moment.left_for(trade) == trade.held


def _fits(order: Order, size: Decimal, moment: Moment) -> bool:
    """True if an exit needs no change: it is as it shall be, over or on its way out, or it was changed a moment ago."""
    if order.state is not OrderState.WORKING or order.cancel_asked_at is not None:
        return True
    if order.remaining == size and order.wish is None:
        return True
    if awaits_executions(order):
        return True
    return was_asked(order.resize_asked_at, moment)


def protection(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """Put a lost stop back once; after that, or if the owner cancelled it, alert the owner.

    An order that the broker calls finished, and whose executions are still to come, may have closed the trade: until
    they are here (or looked up, `_is_overdue`) nothing is missing.
    """
    if any(awaits_executions(o) for o in trade.orders):
        return None
    if _shrinks(trade, moment) and not moment.lasted(trade.unprotected_at, REDUCE_SECONDS + 2):
        return None  # the reduction goes out, or is given up, within seconds
    if trade.is_protected or not moment.lasted(trade.unprotected_at, policy.protect_seconds / 2):
        return None
    return _replace_stop(trade, _lacking_stops(trade, moment), moment, policy)


def _replace_stop(trade: Trade, stops: list[Order], moment: Moment, policy: Policy) -> Step | None:
    """Return what is done about a pair of which no stop protects; its stops that are over are among them."""
    if any(o.is_live and o.said is Status.PENDING for o in stops):
        why = "the stop-loss is not active at the broker although the entry has filled"
        return _still_unprotected(trade, moment, policy, why) or LookUp(why)
    if any(o.is_live for o in stops):
        return _with_live_stop(trade, moment, policy)
    lost = _lost_stop(stops)
    if lost and taken_by_owner(lost, trade):
        reason = f" ({lost.reason})" if lost.reason else ""
        return Unprotected(f"its stop-loss was cancelled by hand in TWS, or by IBKR{reason}, and will not be put back")
    if _was_put_back(stops, trade) or lost is None or lost.price is None:
        return _still_unprotected(trade, moment, policy, "its stop-loss was lost and could not be put back")
    if moment.shows_less(trade):
        less = f"its stop-loss is gone, and the account shows less {trade.symbol} than the trade holds"
        return _still_unprotected(trade, moment, policy, less) or LookUp(less)
    return Place(_put_back(trade, lost, moment))


def _lacking_stops(trade: Trade, moment: Moment) -> list[Order]:
    """Return the stops of the first pair in which none works, those that are over included; else all of the trade."""
    for pair, size in pair_sizes(trade, exit_size(trade, moment), moment.size_step).items():
        stops = stops_of(trade, pair)
        if size and stops and not any(o.is_live for o in stops):
            return stops
    return list(trade.legs(*STOPS))


def _was_put_back(stops: list[Order], trade: Trade) -> bool:
    return sum(o.leg is Leg.PUT_BACK for o in stops) > trade.stops_forgiven


def _lost_stop(stops: list[Order]) -> Order | None:
    """Return the stop that worked last, where none works any more; an addition's only where there is no other."""
    own = [o for o in stops if o.leg is not Leg.ADD_STOP] or stops
    return max(reversed(own), key=lambda o: (o.done_at is not None, o.done_at), default=None)


def _put_back(trade: Trade, lost: Order, moment: Moment) -> Order:
    """Return what takes the place of a lost stop, at the price that it was to have; a trailing one, at the best it had reached.

    One that TWS refused does not trail any more: a fixed stop is what it takes for sure.
    """
    pair, kind = pair_of(lost, trade), Kind.STOP
    if lost.kind is Kind.TRAIL and lost.refusal_code is None:
        kind = Kind.TRAIL
    size = pair_sizes(trade, exit_size(trade, moment), moment.size_step)[pair]
    order = exit_order(trade, Leg.PUT_BACK, size, kind, lost.shall_price, like=pair)
    return replace(order, trail=lost.trail if kind is Kind.TRAIL else None)


def _was_resized(order: Order, moment: Moment) -> bool:
    """True if an order was sent a new size a moment ago."""
    asked = order.resize_asked_at
    return asked is not None and not moment.lasted(asked, OCA_GRACE.total_seconds())


def _with_live_stop(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """A stop that is live but does not protect: alarmed in time; held only if a snapshot cannot tell more."""
    if any(o.is_live and _was_resized(o, moment) for o in trade.legs(*STOPS)):
        return None  # the broker's answer to its new size is on the way
    unanswered = any(o.state is OrderState.SENDING for o in trade.legs(*STOPS))
    if not unanswered and not trade.lacks_executions:
        return _still_unprotected(trade, moment, policy, "the size of its stop-loss does not match the trade")
    why = "its stop-loss went unanswered" if unanswered else "the broker reports more filled than its executions show"
    late = moment.lasted(trade.unprotected_at, policy.alarm_seconds)
    return Unprotected(why) if late else LookUp(why)


def _still_unprotected(trade: Trade, moment: Moment, policy: Policy, why: str) -> Step | None:
    if not moment.lasted(trade.unprotected_at, policy.alarm_seconds):
        return None
    flatten = policy.unprotected == "flatten"
    return Unprotected(why, then_hold=not flatten, then_flatten=flatten)


def restore_stop(trade: Trade, moment: Moment, policy: Policy) -> Step | None:
    """Put a stop that a trade on hold lacks back once, unless the owner took it away or the position is in doubt."""
    stops, waits = _lacking_stops(trade, moment), any(o.leg not in EXITS for o in trade.live)
    lost = _lost_stop(stops)
    if waits or lost is None or any(o.is_live for o in stops) or not trade.stop_wanted or trade.held <= 0:
        return None
    if taken_by_owner(lost, trade) or _was_put_back(stops, trade):
        return None
    if moment.shows_less(trade) or not moment.counted or closable(trade, moment) < trade.held:
        return None  # a close may have been refused because the position was gone
    if not moment.lasted(trade.unprotected_at, policy.protect_seconds / 2):
        return None
    return Place(_put_back(trade, lost, moment))


def taken_by_owner(stop: Order, trade: Trade) -> bool:
    """True if a stop was cancelled by hand: cancelled, not by us, not refused, and nothing else explains it."""
    if stop.state is not OrderState.CANCELLED or stop.cancel_asked_at is not None or stop.refusal_code is not None:
        return False
    if stop.ends_today:
        return False  # its day was over
    if stop.oca_type == CANCEL_WITH_BLOCK and any(
        o.filled > 0 and o.pair == stop.pair for o in trade.legs(Leg.TAKE_PROFIT)
    ):
        return False  # the broker cancelled it when part of the take-profit filled
    entry = trade.entry
    went_along = entry is not None and entry.is_done and entry.filled < entry.quantity and stop.leg is Leg.STOP_LOSS
    return not went_along  # it was cancelled with the rest of its entry


def exit_order(trade: Trade, leg: Leg, quantity: Decimal, kind: Kind, price: Decimal | None, like: int = 0) -> Order:
    """Return one more order of a trade; an exit is of this pair, and in the group that its pair has at the broker."""
    attempt = 1 + sum(1 for _ in trade.legs(leg))
    ref = order_ref(trade.signal_id, leg, attempt)
    order = Order(ref, leg, attempt, trade.side.opposite, kind, quantity, price)
    if leg not in EXITS:
        return order
    pair = [o for o in trade.legs(*EXITS) if pair_of(o, trade) == like and o.leg is not Leg.ADD_STOP]
    order = replace(order, pair=like, percent=next((o.percent for o in pair), None))
    beside = next((o for o in pair if o.is_live and o.oca_group), None)
    return order if beside is None else replace(order, oca_group=beside.oca_group, oca_type=beside.oca_type)
