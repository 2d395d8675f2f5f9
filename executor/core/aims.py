"""Where the exits of an open trade shall be: what a signal asks for, judged against what is there, in prices. Pure.

A move is a price that an exit shall have, never a step: a repeated or overtaken one changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from common.exits import AtEntry, Distance
from common.signals import Side, decimal_text
from executor.core.brackets import exit_price
from executor.core.orders import Aim, Leg, Order
from executor.core.outcomes import Outcome
from executor.core.ports import Contract
from executor.core.sizes import bare_pairs
from executor.core.trades import Trade

MOST_ATTEMPTS = 9  # one digit in the reference


@dataclass(frozen=True, slots=True)
class Move:
    """What an aim means for its trade now: the outcome, and in words why; the price, None while it is not known."""

    outcome: Outcome
    text: str
    price: Decimal | None = None

    @property
    def is_due(self) -> bool:
        """True if something of the trade is to change."""
        return self.outcome is Outcome.PROTECTED


def move_of(aim: Aim, trade: Trade, contract: Contract, market: Decimal | None, *, stop: bool) -> Move:
    """Return what an aim means for a trade's stop or take-profit.

    A stop is never moved away from the market, unless the aim is free to. One beyond the market is moved all the same,
    and it is said that it triggers at once.
    """
    word = "stop-loss" if stop else "take-profit"
    entry = trade.entry_price if trade.entry_is_done else None
    price = exit_price(aim.at, trade.side, contract, entry, stop=stop)
    if price is None and trade.entry_is_done:
        return Move(
            Outcome.REFUSED, f"the {word} stays: what was paid for {trade.symbol} is not known. Send it as a price"
        )
    known = trade.aim(stop=stop)
    if price is None and known is not None and known.at == aim.at:
        return Move(Outcome.NOTHING, f"the {word} goes to {aim_words(aim)} already, once the entry is filled")
    if price is None:
        return Move(Outcome.PROTECTED, f"{word} to {aim_words(aim)}, once the entry is filled")
    if price <= 0:
        return Move(Outcome.REFUSED, f"the {word} stays: {aim_words(aim)} is {decimal_text(price)}, not above zero")
    there = trade.to_move(stop=stop)
    if not there:
        return _added(aim, trade, price, market, stop=stop)
    return _moved(aim, trade, there, price, market, stop=stop)


def _moved(
    aim: Aim, trade: Trade, there: tuple[Order, ...], price: Decimal, market: Decimal | None, *, stop: bool
) -> Move:
    word, to = "stop-loss" if stop else "take-profit", _to(aim, trade, price)
    before = " and ".join(dict.fromkeys(decimal_text(o.shall_price) for o in there if o.shall_price is not None))
    if all(o.shall_price == price for o in there):
        if trade.aim(stop=stop) in (None, aim):
            return Move(Outcome.NOTHING, f"the {word} is at {to} already", price)
        return Move(Outcome.PROTECTED, f"{word} stays at {to}, whatever the fill", price)
    if not any(_may_move(o, trade, price, aim, stop=stop) for o in there):
        return Move(
            Outcome.IGNORED,
            f'the {word} stays at {before}: {to} would move it away from the market ("loosen": true allows that)',
            price,
        )
    return Move(Outcome.PROTECTED, f"{word} from {before} to {to}{_beyond(trade, price, market, stop=stop)}", price)


def _added(aim: Aim, trade: Trade, price: Decimal, market: Decimal | None, *, stop: bool) -> Move:
    word = "stop-loss" if stop else "take-profit"
    leg = Leg.PUT_BACK if stop else Leg.TAKE_PROFIT
    if sum(1 for _ in trade.legs(leg)) >= MOST_ATTEMPTS:
        return Move(Outcome.REFUSED, f"no {word} is added: it was sent nine times. Place it in TWS, or close the trade")
    text = f"{word} at {_to(aim, trade, price)}, where there was none{_beyond(trade, price, market, stop=stop)}"
    return Move(Outcome.PROTECTED, text, price)


def carried_out(trade: Trade, aim: Aim, move: Move, *, stop: bool) -> Trade:
    """Return a trade with a move written down: as the price that its exits shall have, or as what is still to be done."""
    trade = trade.with_aim(None, stop=stop)
    if not move.is_due:
        return trade
    there = trade.to_move(stop=stop)
    if move.price is None or not there:
        wanted = trade.stop_wanted or (stop and move.price is not None)
        at = aim.at if move.price is None else move.price
        return replace(trade.with_aim(replace(aim, at=at), stop=stop), stop_wanted=wanted)
    for order in there:
        if _may_move(order, trade, move.price, aim, stop=stop):
            trade = trade.with_order(order.with_wish(move.price, aim.signal_id))
    return trade


def at_entry(trade: Trade, contract: Contract, signal_id: str | None = None) -> tuple[Trade, Move]:
    """Return a trade with its stop moved to the entry price, never away from the market, and what that means."""
    aim = Aim(AtEntry.ENTRY, signal_id)
    move = move_of(aim, trade, contract, None, stop=True)
    return carried_out(trade, aim, move, stop=True), move


def tightens(price: Decimal, than: Decimal | None, side: Side) -> bool:
    """True if a stop at a price is nearer to the market, for a trade of this side, than one at another.

    >>> tightens(Decimal("1.19"), Decimal("1.18"), Side.BUY), tightens(Decimal("1.19"), Decimal("1.18"), Side.SELL)
    (True, False)
    """
    return than is None or (price > than if side is Side.BUY else price < than)


def _may_move(order: Order, trade: Trade, price: Decimal, aim: Aim, *, stop: bool) -> bool:
    if order.shall_price == price:
        return False
    return not stop or aim.free or tightens(price, order.shall_price, trade.side)


def added_for(trade: Trade, order: Order) -> Trade:
    """Return a trade whose exit is added by this order, so that it does not lack it any more.

    A stop that a signal asked for may be put back once, as any other.
    """
    if order.leg is Leg.TAKE_PROFIT:
        return trade.with_aim(None, stop=False)
    if order.leg is Leg.TRAIL:
        return trade.with_aim(None, stop=True)
    if order.leg is not Leg.PUT_BACK or order.signal_id is None:
        return trade
    if any(pair != order.pair for pair in bare_pairs(trade)):
        return trade  # those get theirs next
    forgiven = 1 + sum(1 for _ in trade.legs(Leg.PUT_BACK))
    return replace(trade.with_aim(None, stop=True), stops_forgiven=max(trade.stops_forgiven, forgiven))


def aim_words(aim: Aim) -> str:
    """Return where an aim is, without its price: "1.18", "1.5% from the fill", "the entry price"."""
    if isinstance(aim.at, AtEntry):
        return "the entry price"
    return f"{aim.at} from the fill" if isinstance(aim.at, Distance) else decimal_text(aim.at)


def _to(aim: Aim, trade: Trade, price: Decimal) -> str:
    """Return a price with the arithmetic that led to it."""
    told = decimal_text(price)
    if isinstance(aim.at, Decimal):
        return told if aim.at == price else f"{told} ({decimal_text(aim.at)} to the tick)"
    entry = decimal_text(trade.entry_price or Decimal(0))
    return (
        f"{told} (the entry at {entry})"
        if isinstance(aim.at, AtEntry)
        else f"{told} ({aim.at} from the entry at {entry})"
    )


def _beyond(trade: Trade, price: Decimal, market: Decimal | None, *, stop: bool) -> str:
    """Return in words that an exit fills at once, where the market is beyond it."""
    if market is None:
        return ""
    gone = market <= price if stop is (trade.side is Side.BUY) else market >= price
    how = "triggers" if stop else "fills"
    return f"; the market is at {decimal_text(market)}, so it {how} at once" if gone else ""
