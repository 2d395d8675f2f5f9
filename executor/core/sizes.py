"""How large each exit of a trade shall be, pure: what is held, dealt out to the pairs of target and stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_DOWN, Decimal
from itertools import accumulate

from executor.core.orders import EXITS, STOPS, ZERO, Leg, Order, OrderState
from executor.core.ports import Kind
from executor.core.trades import Trade


def in_steps(quantity: Decimal, step: Decimal, rounding: str) -> Decimal:
    """Return a quantity in whole steps.

    >>> in_steps(Decimal("10.5"), Decimal(1), "ROUND_FLOOR")
    Decimal('10')
    """
    return (quantity / step).to_integral_value(rounding) * step


def shares(percents: Sequence[Decimal], size: Decimal, step: Decimal) -> list[Decimal]:
    """Return what targets of these percentages take of a size, in whole steps.

    Together, from the first on, they take the nearest step to what their percentages add up to: 100 percent is all.

    >>> [str(each) for each in shares([Decimal("33.3"), Decimal("33.3"), Decimal("33.4")], Decimal(4), Decimal(1))]
    ['1', '2', '1']
    """
    ends = [in_steps(size * percent / 100, step, ROUND_HALF_DOWN) for percent in accumulate(percents)]
    return [end - start for start, end in zip([ZERO, *ends], ends, strict=False)]


def exit_sizes(trade: Trade, total: Decimal, step: Decimal) -> dict[str, Decimal]:
    """Return the size that each exit that works shall have: order reference → size; 0 where it is one too many.

    The stops add up to `total`, and no target has more than its stop. Each pair takes its percentage of what the first
    entry filled; the pair without one takes the rest, and what was added later. Where less is left than that (something
    was sold by hand, or is to be), the last pair gives first. An addition's own stop is in nobody's way while the
    addition may still fill.
    """
    sizes: dict[str, Decimal] = {}
    for pair, share in pair_sizes(trade, total, step).items():
        working = [
            o for o in trade.legs(*EXITS)
            if o.is_live and o.cancel_asked_at is None and pair_of(o, trade) == pair and not _may_grow(o, trade)
        ]  # fmt: skip
        kept = _kept_stop(working)
        for order in working:
            sizes[order.order_ref] = share if order.leg is Leg.TAKE_PROFIT or order is kept else ZERO
    return sizes


def pair_sizes(trade: Trade, total: Decimal, step: Decimal) -> dict[int, Decimal]:
    """Return what each pair shall cover; see `exit_sizes`."""
    sizes: dict[int, Decimal] = {}
    left = total
    for pair, most in _pairs(trade, step):
        sizes[pair] = left if most is None else min(most, left)
        left -= sizes[pair]
    return sizes


def stops_of(trade: Trade, pair: int) -> list[Order]:
    """Return the stops of a pair, those that are over included."""
    return [o for o in trade.legs(*STOPS) if pair_of(o, trade) == pair]


def bare_pairs(trade: Trade) -> list[int]:
    """Return the pairs that hold something and have no stop: those of live targets, and the one of what these leave."""
    targets = [o for o in trade.legs(Leg.TAKE_PROFIT) if o.is_live]
    pairs = {o.pair for o in targets}
    if sum((o.remaining for o in targets), ZERO) < trade.staying:
        pairs.add(_rest(trade))
    return [pair for pair in sorted(pairs) if not any(o.is_live for o in stops_of(trade, pair))]


def main_stop(order: Order, trade: Trade) -> Order | None:
    """Return the stop that covers the pair of an order, None where none works."""
    return _kept_stop([o for o in stops_of(trade, pair_of(order, trade)) if o.is_live and o.cancel_asked_at is None])


def _pairs(trade: Trade, step: Decimal) -> Iterator[tuple[int, Decimal | None]]:
    """Yield each pair and what it may still take: None, all that is left. That one comes last."""
    entry = trade.entry
    first = trade.entered if entry is None else entry.filled if entry.is_done else entry.quantity
    percents = {o.pair: o.percent for o in trade.legs(*EXITS) if o.percent is not None}
    planned = shares([percents[pair] for pair in sorted(percents)], first, step)
    for pair, size in zip(sorted(percents), planned, strict=True):
        yield pair, max(size - sum((o.filled for o in trade.legs(*EXITS) if o.pair == pair), ZERO), ZERO)
    yield _rest(trade), None


def _rest(trade: Trade) -> int:
    """Return the pair that takes what the others leave."""
    return next((o.pair for o in trade.legs(*EXITS) if o.percent is None and o.leg is not Leg.ADD_STOP), 0)


def pair_of(order: Order, trade: Trade) -> int:
    """Return the pair of an exit; an addition's stop helps the one that takes the rest."""
    return _rest(trade) if order.leg is Leg.ADD_STOP else order.pair


def _kept_stop(working: list[Order]) -> Order | None:
    """Return the one stop of a pair that shall cover it: its own, the oldest; an addition's only where there is no other.

    A trailing stop that TWS has taken comes before a fixed one.
    """
    stops = [o for o in working if o.leg in STOPS]
    stops.sort(key=lambda o: o.kind is Kind.TRAIL and o.state is OrderState.WORKING, reverse=True)
    return next((o for o in stops if o.leg is not Leg.ADD_STOP), stops[0] if stops else None)


def _may_grow(stop: Order, trade: Trade) -> bool:
    """True if the addition that this stop belongs to may still fill."""
    return any(o.order_ref == stop.parent_ref and o.is_live for o in trade.legs(Leg.ADD))
