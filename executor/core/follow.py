"""The alert that would lead from what this account holds to what a strategy holds, at its owner's word. Pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from common.signals import Action, PrevPosition, Side, Signal
from executor.core.trades import Trade

_NOTE = "Follow now, asked for on the page"


def resized(trade: Trade, size: Decimal) -> Signal:
    """Return the alert that gives an open trade its strategy's size; the exits stay those of the trade.

    It begins at what the trade holds, so that it is followed up and down.
    """
    word = "long" if trade.side is Side.BUY else "short"
    prev = PrevPosition(word, trade.shall_hold)
    return Signal(Action.OPEN, trade.symbol, trade.side, size, market_position=word, prev=prev, note=_NOTE)


def entered(symbol: str, holds: PrevPosition, opened: Signal | None, last: Trade | None) -> Signal | str:
    """Return the alert that enters what a strategy holds now, or in words why none may.

    `opened` is its newest alert with exits of its own, the one that began or enlarged its position, None where that is not
    known; `last` is the trade that ended last in the symbol. Nothing is entered without the stop that was asked for: where
    the alert names none and the last trade had one, it is not known what was.

    >>> asked = Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal(50), sl=Decimal("1.18"), market_position="long")
    >>> wish = entered("EURUSD", PrevPosition("long", Decimal(20)), asked, None)
    >>> str(wish.action), str(wish.quantity), str(wish.sl)
    ('open', '20', '1.18')
    """
    if holds.size is None:
        return f"the strategy's newest alert says no size. Send an open signal for {symbol}, or leave it"
    if opened is None or opened.market_position != holds.market_position:
        return _no_exits(symbol, "the alert that opened the strategy's position is not known, nor are its exits")
    if opened.sl is None and opened.trail is None and last is not None and last.stop_wanted:
        return _no_exits(symbol, "the strategy's alert names no stop-loss, and the last trade had one")
    return replace(
        opened, quantity=holds.size, prev=None, sender_id=None, warning=None, price=None, time=None, note=_NOTE
    )


def _no_exits(symbol: str, why: str) -> str:
    return f"{why}. Send an open signal for {symbol} with the exits that you want, or leave it"
