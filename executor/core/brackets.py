"""From an open signal to its orders, pure: references, rounded prices, and the bracket, or why there can be none.

Prices are rounded towards the entry, so that the loss is never larger than asked.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from common.exits import AtEntry, Distance, Exit, Unit
from common.floats import NOISE
from common.signals import Side, Signal, decimal_text
from executor.core.orders import STOPS, ZERO, Leg, Order
from executor.core.ports import Contract, Kind
from executor.core.sizes import in_steps, shares
from executor.core.trades import Trade


def order_ref(signal_id: str, leg: Leg, attempt: int) -> str:
    """Return the key of one leg and attempt of one signal: the same forever, so that a rerun asks about the same order.

    >>> order_ref("01J", Leg.ENTRY, 1)
    'sx1:LDLX73G2BWEHXY7BE1'
    """
    digest = base64.b32encode(hashlib.sha256(signal_id.encode()).digest()).decode()
    return f"sx1:{digest[:16]}{leg.value}{attempt}"


def is_ours(ref: str | None) -> bool:
    """True if an order reference at the broker is one that this program makes."""
    return ref is not None and ref.startswith("sx1:")


def round_price(price: Decimal, contract: Contract, up: bool) -> Decimal:
    """Round to the contract's price step, up or down; what is within a float's noise of a step is that step.

    Source: IBKR market rules: the step depends on the price; the row with the highest edge not above it counts.
    """
    tick = tick_at(price, contract)
    nearest = (price / tick).to_integral_value(ROUND_HALF_EVEN) * tick
    if abs(nearest - price) <= price * NOISE:
        return nearest
    return (price / tick).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR) * tick


def tick_at(price: Decimal, contract: Contract) -> Decimal:
    """Return the step in which a contract's prices move at this price."""
    rows = (step for step in contract.price_steps if step.low <= price)
    return max(rows, key=lambda step: step.low, default=contract.price_steps[0]).increment


def distance_in(distance: Distance, price: Decimal, contract: Contract) -> Decimal:
    """Return how far a distance from a price reaches, in price."""
    if distance.unit is Unit.PERCENT:
        return price * distance.amount / 100
    return distance.amount * (tick_at(price, contract) if distance.unit is Unit.TICKS else 1)


def trail_in(trail: Distance, price: Decimal, contract: Contract) -> Distance:
    """Return a trailing distance as TWS takes it: in percent, or in points of whole ticks, never more than was asked.

    >>> str(trail_in(Distance(Decimal(25), Unit.TICKS), Decimal(190), Contract(1, "X", "STK", "X", "USD", "SMART")))
    '0.25 points'
    """
    if trail.unit is Unit.PERCENT:
        return trail
    tick = tick_at(price, contract)
    ticks = (distance_in(trail, price, contract) / tick).to_integral_value(ROUND_FLOOR)
    return Distance(max(ticks, Decimal(1)) * tick, Unit.POINTS)


def exit_price(at: Exit, side: Side, contract: Contract, entry: Decimal | None, *, stop: bool) -> Decimal | None:
    """Return the price of an exit, rounded to the contract's tick towards the entry; None while the entry's is not known.

    A distance is on the losing side of the entry for a stop, and on the winning side for a take-profit. What is to be at
    the entry is rounded to the tick that loses nothing.
    """
    buy = side is Side.BUY
    if isinstance(at, Decimal):
        return round_price(at, contract, up=buy is stop)
    if entry is None:
        return None
    if isinstance(at, AtEntry):
        return round_price(entry, contract, up=buy)
    away = distance_in(at, entry, contract)
    return round_price(entry - away if buy is stop else entry + away, contract, up=buy is stop)


@dataclass(frozen=True, slots=True)
class Bracket:
    """The orders of one entry, in the order in which they are sent; the stop-loss is last."""

    orders: tuple[Order, ...]
    words: str = ""  # how its prices were computed, where they were

    @property
    def stop_wanted(self) -> bool:
        return any(o.leg in STOPS for o in self.orders)


def plan_bracket(signal: Signal, signal_id: str, contract: Contract, market: Decimal | None) -> Bracket | str:
    """Return the bracket for an open signal, or in words why it cannot be ordered.

    `market` is the current price, None if unknown: then only the exits are checked against each other. Exits that are
    relative are computed from it for now; they follow from the fill when that is known.
    """
    if signal.side is None or signal.quantity is None:
        return "an open signal needs a side and a quantity"
    problem = size_problem(signal.quantity, contract)
    if problem:
        return problem
    targets = [
        ("take-profit", at, exit_price(at, signal.side, contract, market, stop=False)) for at in _targets_of(signal)
    ]
    stop = signal.sl or signal.trail
    sl = None if stop is None else exit_price(stop, signal.side, contract, market, stop=True)
    relative = [
        str(at) for _, at, price in (("stop-loss", stop, sl), *targets) if isinstance(at, Distance) and price is None
    ]
    if relative:
        return f"TWS has no price for {contract.symbol} now, so {' and '.join(relative)} from it cannot be computed"
    sizes = shares([target.percent for target in signal.targets], signal.quantity, contract.size_step)
    if not all(sizes):
        return _too_small(signal, sizes, contract)
    tps = [price for _, _, price in targets if price is not None]
    for tp in tps if tps else [None]:
        if (problem := price_problem(signal.side, tp, sl, market)) is not None:
            return problem
    words = _computed((("stop-loss", stop, sl), *targets), market)
    return Bracket(tuple(_bracket_orders(signal, signal_id, tps, sizes, sl)), words)


def _computed(exits: Iterable[tuple[str, Exit | None, Decimal | None]], market: Decimal | None) -> str:
    """Return how relative exits were computed from the market, "" where there are none."""
    found = [f"{word} {decimal_text(price)} ({at})" for word, at, price in exits if isinstance(at, Distance) and price]
    if not found or market is None:
        return ""
    return f"{', '.join(found)} from the market at {decimal_text(market)} for now, and from the fill once that is known"


def _targets_of(signal: Signal) -> list[Exit]:
    if signal.targets:
        return [target.tp for target in signal.targets]
    return [] if signal.tp is None else [signal.tp]


def _too_small(signal: Signal, sizes: list[Decimal], contract: Contract) -> str:
    number = sizes.index(ZERO)
    percent = decimal_text(signal.targets[number].percent)
    return (
        f"target {number + 1} takes {percent}% of {decimal_text(signal.quantity or ZERO)} {contract.symbol}, which is less than "
        f"can be traded ({contract.size_step}): send fewer targets, or a larger quantity"
    )


def _bracket_orders(
    signal: Signal, signal_id: str, tps: list[Decimal], sizes: list[Decimal], sl: Decimal | None
) -> Iterator[Order]:
    """Yield the entry, then each pair of target and stop; what no target takes has the last stop."""
    quantity, side = signal.quantity or ZERO, signal.side or Side.BUY
    parent = order_ref(signal_id, Leg.ENTRY, 1)
    yield Order(parent, Leg.ENTRY, 1, side, Kind.MARKET, quantity)

    def exit(leg: Leg, attempt: int, size: Decimal, price: Decimal, pair: int, percent: Decimal | None) -> Order:
        at = signal.targets[attempt - 1].tp if pair and leg is Leg.TAKE_PROFIT else None
        kind = Kind.LIMIT if leg is Leg.TAKE_PROFIT else Kind.STOP
        ref = order_ref(signal_id, leg, attempt)
        return Order(
            ref,
            leg,
            attempt,
            side.opposite,
            kind,
            size,
            price,
            parent_ref=parent,
            pair=pair,
            percent=percent,
            distance=at if isinstance(at, Distance) else None,
        )

    left = quantity
    for number, (tp, size) in enumerate(zip(tps, sizes or [quantity] * len(tps), strict=True), start=1):
        left -= size
        pair = number if sizes else 0
        percent = signal.targets[number - 1].percent if sizes and left else None  # the last of 100% takes the rest
        yield exit(Leg.TAKE_PROFIT, number, size, tp, pair, percent)
        if sl is not None:
            yield exit(Leg.STOP_LOSS, number, size, sl, pair, percent)
    if left and sl is not None:
        yield exit(Leg.STOP_LOSS, len(tps) + 1, left, sl, 0, None)


def plan_addition(
    signal: Signal, signal_id: str, contract: Contract, market: Decimal | None, trade: Trade
) -> Bracket | str:
    """Return the orders that make an open trade as large as its strategy, or in words why they cannot be ordered.

    What is added has a stop of its own from the first byte: at the signal's stop-loss, else at the trade's.
    """
    quantity = in_steps((signal.quantity or ZERO) - trade.shall_hold, contract.size_step, ROUND_FLOOR)
    if quantity <= 0:
        return f"what the strategy added is less than can be traded ({contract.size_step})"
    price = trade.stop.shall_price if trade.stop is not None and trade.stop_wanted else None
    if isinstance(signal.sl, Decimal):
        price = round_price(signal.sl, contract, up=trade.side is Side.BUY)
    if trade.stop_wanted and not trade.live_stops:
        return "the trade's own stop-loss is not working"
    if price is not None and market is None:
        return f"TWS has no price for {trade.symbol} now, so the stop-loss cannot be checked against the market"
    problem = price_problem(trade.side, None, price, market)
    if problem is not None:
        return problem
    parent = order_ref(signal_id, Leg.ADD, 1)
    orders = [Order(parent, Leg.ADD, 1, trade.side, Kind.MARKET, quantity, signal_id=signal_id)]
    if price is not None:
        stop = order_ref(signal_id, Leg.ADD_STOP, 1)
        orders.append(
            Order(
                stop,
                Leg.ADD_STOP,
                1,
                trade.side.opposite,
                Kind.STOP,
                quantity,
                price,
                parent_ref=parent,
                signal_id=signal_id,
            )
        )
    return Bracket(tuple(orders))


def size_problem(quantity: Decimal, contract: Contract) -> str | None:
    """Return why this quantity cannot be traded in this contract, in words, or None."""
    if contract.sec_type != "CASH" and quantity % contract.size_step != 0:
        unit = {"STK": "whole shares", "FUT": "whole contracts"}.get(
            contract.sec_type, f"steps of {contract.size_step}"
        )
        return f"{quantity} {contract.symbol} cannot be ordered: the API accepts only {unit}"
    return None


def price_problem(side: Side, tp: Decimal | None, sl: Decimal | None, market: Decimal | None) -> str | None:
    """Return why these rounded exits are impossible, in words, or None."""
    sign = 1 if side is Side.BUY else -1
    if any(p is not None and p <= 0 for p in (tp, sl)):
        return "a take-profit or stop-loss rounds to zero or less"
    if tp is not None and sl is not None and (tp - sl) * sign <= 0:
        return f"after rounding to the contract's tick the take-profit {tp} and the stop-loss {sl} coincide or cross"
    if market is None:
        return None
    if tp is not None and (tp - market) * sign <= 0:
        return f"the take-profit {tp} is on the wrong side of the market ({market}) for a {side.value}: it would fill at once"
    if sl is not None and (market - sl) * sign <= 0:
        return f"the stop-loss {sl} is on the wrong side of the market ({market}) for a {side.value}: it would fill at once"
    return None
