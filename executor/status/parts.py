"""What of an open trade is in several parts or under way, in words: its targets and stops, and what changes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from common.signals import decimal_text
from executor.core.aims import aim_words
from executor.core.orders import EXITS, STOPS, ZERO, Aim, Leg, Order, OrderState
from executor.core.trades import Trade


@dataclass(frozen=True, slots=True)
class ExitLine:
    """One exit: what of it is still to fill, or has filled where it is over, and at which price."""

    word: str
    quantity: Decimal
    price: Decimal | None
    state: str
    filled: Decimal = ZERO  # of one that still works
    trail: str | None = None  # how far it follows the market


def exit_lines(trade: Trade) -> tuple[ExitLine, ...]:
    """Return the exits of a trade where there is more to say than one target and one stop: targets first, then stops.

    Those that are gone without a fill are left out.
    """
    targets, stops = ([o for o in trade.legs(*legs) if o.is_live or o.filled] for legs in ((Leg.TAKE_PROFIT,), STOPS))
    if len(targets) <= 1 and len(stops) <= 1 and not any(o.is_live and o.filled for o in (*targets, *stops)):
        return ()
    numbers = {o.order_ref: n for n, o in enumerate(trade.legs(Leg.TAKE_PROFIT), 1)}
    words = [f"target {numbers[o.order_ref]}" if len(numbers) > 1 else o.leg.word for o in targets]
    words += [o.leg.word for o in stops]
    return tuple(_line(word, order) for word, order in zip(words, (*targets, *stops), strict=True))


def _line(word: str, order: Order) -> ExitLine:
    left = order.quantity - order.filled if order.is_live else order.filled
    state = "being cancelled" if order.is_live and order.cancel_asked_at else order.state.value
    filled = order.filled if order.is_live else ZERO
    return ExitLine(word, left, order.price, state, filled, None if order.trail is None else str(order.trail))


def covered(trade: Trade) -> Decimal:
    """Return what all stops of a trade that work take out together."""
    return sum((stop.remaining for stop in trade.live_stops), ZERO)


def under_way(trade: Trade) -> tuple[str, ...]:
    """Return what of an open trade is about to change, one sentence for each: its size, then its exits."""
    if trade.closed:
        return ()
    return (*_sizes(trade), *_moves(trade), *_follow_ups(trade))


def _sizes(trade: Trade) -> Iterator[str]:
    if trade.reduction is not None:
        sent = f"; {decimal_text(trade.reducing)} sent, not filled yet" if trade.reducing else ""
        yield f"is being reduced from {decimal_text(trade.held)} to {decimal_text(trade.shrinks_to)}{sent}"
    for order in trade.legs(Leg.ADD):
        if order.is_live:
            yield f"is being enlarged by {decimal_text(order.quantity)}; {decimal_text(order.filled)} filled so far"


def _moves(trade: Trade) -> Iterator[str]:
    """The stops of several targets move together, and are said in one sentence."""
    moves = Counter(_move(o) for o in trade.legs(*EXITS) if o.is_live and o.wish is not None)
    for (word, move), count in moves.items():
        yield f"{word} is being moved {move}" if count == 1 else f"{count} {word} orders are being moved {move}"
    if any(o.state is OrderState.SENDING for o in trade.legs(Leg.TRAIL)):
        yield "trailing stop is taking the place of the fixed one"


def _move(order: Order) -> tuple[str, str]:
    at = "" if order.price is None else f"from {decimal_text(order.price)} "
    said = "not confirmed by TWS yet" if order.wish_sent_at else "not sent yet"
    return order.leg.word, f"{at}to {decimal_text(order.wish or ZERO)}: {said}"


def _follow_ups(trade: Trade) -> Iterator[str]:
    """What follows from the fill, from a target, or is still to be added."""
    for word, aim in (("stop-loss", trade.stop_aim), ("take-profit", trade.target_aim)):
        if aim is not None:
            yield f"{word} goes to {aim_words(aim)}{_when(trade, aim)}"
    if trade.trail is not None and not any(o.kind.value == "TRAIL" for o in trade.orders):
        yield f"stop-loss will trail {trade.trail} behind the market once the entry has filled"
    if trade.breakeven and not any(o.state is OrderState.FILLED for o in trade.legs(Leg.TAKE_PROFIT)):
        yield "stop-loss moves to the entry price when the first target has filled"


def _when(trade: Trade, aim: Aim) -> str:
    return "" if trade.entry_is_done or isinstance(aim.at, Decimal) else " once the entry has filled"
