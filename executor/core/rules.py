"""The rules of trading, pure: what one signal means for its symbol.

A decision is a value, never an exception. The reason is a sentence for the status page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from common.signals import Action, Exit, Side, Signal, decimal_text
from executor.core.aims import Move, move_of
from executor.core.orders import EXITS, ZERO, Aim
from executor.core.outcomes import CloseCause, Outcome
from executor.core.ports import Contract
from executor.core.sizes import in_steps
from executor.core.trades import State, Trade


@dataclass(frozen=True, slots=True)
class Enter:
    """Open a trade: every rule allows it."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the open trade; the signal is decided again when that is done."""

    cause: CloseCause


@dataclass(frozen=True, slots=True)
class Add:
    """Make the open trade larger: every rule allows it."""

    reason: str
    strategy_size: Decimal  # what the strategy holds now


@dataclass(frozen=True, slots=True)
class Reduce:
    """Make the open trade smaller, to this size; the rest keeps its exits."""

    to: Decimal
    reason: str
    strategy_size: Decimal | None = None  # what the strategy holds now


@dataclass(frozen=True, slots=True)
class Protect:
    """Move exits of the open trade; None: it stays where it is."""

    reason: str
    stop: tuple[Aim, Move] | None = None
    target: tuple[Aim, Move] | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: the signal stays at the head of its symbol's queue."""

    reason: str
    page: bool = False  # alert the owner: only they can end the wait


@dataclass(frozen=True, slots=True)
class Done:
    """The signal is finished."""

    outcome: Outcome
    reason: str
    strategy_size: Decimal | None = None  # what the strategy holds now, where a trade is open on its side
    strategy_differs: bool = False  # the strategy holds something where this account holds nothing


Decision = Enter | Add | Close | Reduce | Protect | Wait | Done


@dataclass(frozen=True, slots=True)
class View:
    """What the rules may use, as of `now`."""

    now: datetime
    received_at: datetime  # the signal, by the relay
    valid_until: datetime | None  # None: it never expires
    trade: Trade | None = None  # the unfinished trade in this contract
    scale_in: bool = False  # whether the owner lets it follow its strategy to a larger size
    size_step: Decimal = Decimal(1)  # in which its quantity can be traded
    contract: Contract | None = None
    market: Decimal | None = None  # its price, where it is known
    agrees: bool = True  # whether the account shows what the trade holds
    signal_id: str = ""
    closed_here: bool = False  # the signal has already had its close: it is being decided again
    block: Side | None = None
    block_is_sure: bool = True  # whether it is known that the last trade took profit
    unknown_position: Decimal = Decimal(0)  # what the account holds here that the journal does not know
    opposed_holding: Decimal = Decimal(0)  # the owner's own holding against the signal's side
    objection: str | None = None  # why this size, these prices or this account cannot be traded now

    @property
    def is_fresh(self) -> bool:
        return self.valid_until is None or self.now <= self.valid_until


RELAYS_APART = timedelta(
    seconds=2
)  # how far relay clocks may drift apart unnoticed; a requeued dead letter is far older
UNDER_WAY = (State.CANCELLING, State.CLOSING)


def decide(signal: Signal, view: View) -> Decision:
    """Decide what one signal means for its symbol. The first rule that applies wins.

    1. Reset releases the re-entry block, whatever else is going on.
    2. On hold: an open is refused; a close waits, and the owner is alerted.
    3. A close acts on the open trade, if that was opened by an earlier signal. So does a protect, which moves its exits.
       One that names a quantity or a percentage takes only that part out.
    4. An open on the trade's side is ignored: one trade per symbol. A strategy whose size is smaller now makes the trade
       smaller, whatever the alert's age. One whose size has grown makes it larger, where the owner allows that, under
       the rules of an entry; else the owner is alerted to both sizes. Where it is equal, other exits move those of the
       trade.
    5. An open on the other side closes the trade first, even when it is too old to enter. So does a reduction there:
       the strategy is on its own side, whatever its size.
    6. On a flat symbol what changes a strategy's position is ignored: the position that it changes is gone. So a
       reduction is never an entry.
    7. On a flat symbol an open that is too old has expired.
    8. The side that last took profit is refused until its block is released.
    9. A position that the journal does not know is not traded into.
    10. What cannot be ordered as asked (size, prices, limits) is refused.
    11. Otherwise enter.
    """
    if signal.action is Action.RESET:
        return Done(Outcome.RESET, _reset_reason(signal, view))
    if view.trade is not None:
        return _with_trade(signal, view, view.trade)
    if signal.action is Action.PROTECT:
        return Done(Outcome.NOTHING, f"no trade is open in {signal.symbol}")
    if signal.action is Action.CLOSE:
        if view.closed_here:
            return Done(Outcome.CLOSED, f"the trade in {signal.symbol} was closed")
        return Done(Outcome.NOTHING, f"no trade is open in {signal.symbol}")
    return _of_gone_position(signal, view) if signal.changes_position else _flat(signal, view)


def superseded(signal: Signal, later: Iterable[Signal], trade: Trade | None) -> Done | None:
    """Return the end of an entry that waits because nothing can be sent, where a later signal has taken it back; else None.

    So nothing is bought only to be sold. What is open already is closed as ever, and a reversal of it is not taken back
    by the opposite signal.
    """
    if signal.action is not Action.OPEN:
        return None
    grows = trade is not None and signal.side is trade.side and signal.market_position is not None
    for each in later:
        closes = each.action is Action.CLOSE and not each.is_partial_close
        opposite = signal.side is not None and each.action is Action.OPEN and each.side is signal.side.opposite
        newer = grows and each.market_position is not None and each.strategy_name == signal.strategy_name
        if closes or newer or (opposite and trade is None):
            what = "close" if closes else "alert of the strategy" if newer else f"{each.side} signal"
            return Done(Outcome.SUPERSEDED, f"a later {what} came before this could be sent; nothing was entered")
    return None


def late(signal: Signal) -> Done:
    """Return the end of an alert whose strategy has moved on: its sender's order counts, not the order of arrival."""
    was = (
        f"it led from {signal.prev} to {signal.position}" if signal.prev else f"the strategy was {signal.position} then"
    )
    return Done(Outcome.IGNORED, f"late: {was}, and a later alert of the strategy came before it")


def _reset_reason(signal: Signal, view: View) -> str:
    if view.block is None:
        return f"no re-entry block was set in {signal.symbol}"
    return f"the block on {view.block.value} in {signal.symbol} is released"


def _with_trade(signal: Signal, view: View, trade: Trade) -> Decision:
    if view.closed_here:
        return _after_its_close(signal, trade)
    if trade.state is State.HOLD:
        return _on_hold(signal, view, trade)
    if trade.is_ending:
        return Wait(f"the trade in {trade.symbol} is ending")
    if signal.side is trade.side and trade.state not in UNDER_WAY:
        return _same_side(signal, view, trade)
    if _opened_later(trade, view):
        return Done(Outcome.IGNORED, f"the trade in {trade.symbol} was opened by a later signal")
    if trade.state in UNDER_WAY and signal.action is not Action.PROTECT:
        return _while_closing(signal, view, trade)
    if trade.state is State.SENDING:
        return Wait(f"the status of the entry in {trade.symbol} is being looked up")
    return _closing(signal, view, trade)


def _opened_later(trade: Trade, view: View) -> bool:
    """True if a trade was opened after the signal's receipt: the signal must not touch it."""
    return trade.received_at - view.received_at > RELAYS_APART


def _closing(signal: Signal, view: View, trade: Trade) -> Decision:
    if signal.action is Action.PROTECT:
        return _protect(signal, view, trade)
    if signal.is_partial_close:
        return _partly(signal, view, trade)
    return Close(CloseCause.SIGNAL if signal.action is Action.CLOSE else CloseCause.REVERSAL)


def _same_side(signal: Signal, view: View, trade: Trade) -> Decision:
    """One trade per symbol. A strategy's size is followed down, and up where the owner allows that.

    Where the trade has the strategy's size, its exits follow the alert's.
    """
    open_already = f"a {trade.side.value} trade in {trade.symbol} is already open (since {trade.timestamp:%H:%M} UTC)"
    if signal.position is None or signal.quantity is None or trade.received_at - view.received_at > RELAYS_APART:
        kept = "; its exits stay where they are: action protect moves them" if signal.tp or signal.sl else ""
        return Done(Outcome.IGNORED, open_already + kept)
    held, size = trade.shall_hold, in_steps(signal.quantity, view.size_step, ROUND_CEILING)
    if size < held:
        text = f"the strategy is now {signal.position} {signal.symbol}"
        return Reduce(size, _reduced_to(trade, size, text), strategy_size=signal.quantity)
    if signal.quantity == held:
        return _same_size(signal, view, trade, f"{open_already}, and it has the strategy's size")
    if wants_more(signal, trade, view.scale_in):
        return _added(signal, view, trade)
    why = "it did not grow with this alert" if view.scale_in else "a larger size is followed with scale_in = true only"
    text = f"the strategy is now {signal.position} {signal.symbol}, this trade {decimal_text(held)}: {why}"
    return Done(Outcome.IGNORED, text, strategy_size=signal.quantity)


def wants_more(signal: Signal, trade: Trade, scale_in: bool) -> bool:
    """True if a signal may make an open trade larger: its strategy has just grown, and the owner allows it."""
    if not scale_in or signal.action is not Action.OPEN or signal.side is not trade.side or signal.quantity is None:
        return False
    before = signal.prev.size if signal.prev else None
    return before is not None and before < signal.quantity > trade.shall_hold


def _added(signal: Signal, view: View, trade: Trade) -> Decision:
    held = decimal_text(trade.shall_hold)
    if not trade.entry_is_done or trade.reduction is not None or trade.reducing:
        return Wait(f"the last change of the trade in {trade.symbol} is still under way")
    if not view.is_fresh:
        text = f"too old to add: received {_age(view)} s earlier; {held} {trade.symbol} are held"
        return Done(Outcome.EXPIRED, text, strategy_size=signal.quantity)
    refusal = _not_known(signal, view) or view.objection
    if refusal is not None:
        return Done(Outcome.REFUSED, f"nothing was added to the {held} {trade.symbol}: {refusal}", signal.quantity)
    return Add(f"the strategy is now {signal.position} {trade.symbol}; {held} were held", signal.quantity or ZERO)


def _same_size(signal: Signal, view: View, trade: Trade, same: str) -> Decision:
    if signal.tp is None and signal.sl is None:
        return Done(Outcome.NOTHING, same, strategy_size=signal.quantity)
    decision = _protect(signal, view, trade)
    if isinstance(decision, Done):
        return Done(Outcome.NOTHING, f"{same}; {decision.reason}", strategy_size=signal.quantity)
    return decision


def _protect(signal: Signal, view: View, trade: Trade) -> Protect | Done:
    """Move the exits that a signal names. What stands in the way of one of them does not keep the other."""
    if trade.protected_at is not None and view.received_at < trade.protected_at:
        return Done(Outcome.IGNORED, f"a later signal has moved the exits of {trade.symbol} already")
    if trade.state in UNDER_WAY and not any(o.may_be_moved for o in trade.legs(*EXITS)):
        return Done(Outcome.NOTHING, f"the trade in {trade.symbol} is being closed")
    stop, target = _move(signal.sl, signal, view, trade, stop=True), _move(signal.tp, signal, view, trade, stop=False)
    found = [each[1] for each in (stop, target) if each is not None]
    reason = "; ".join(move.text for move in found)
    if any(move.is_due for move in found):
        return Protect(f"{trade.symbol}: {reason}", stop, target)
    worst = next((o for o in (Outcome.REFUSED, Outcome.IGNORED) if o in [m.outcome for m in found]), Outcome.NOTHING)
    return Done(worst, f"{trade.symbol}: {reason}")


def _move(at: Exit | None, signal: Signal, view: View, trade: Trade, *, stop: bool) -> tuple[Aim, Move] | None:
    if at is None or view.contract is None:
        return None
    aim = Aim(at, view.signal_id, free=signal.loosen)
    return aim, move_of(aim, trade, view.contract, view.market, stop=stop)


def _partly(signal: Signal, view: View, trade: Trade) -> Decision:
    """A close of a part: of what the trade will hold when what is under way is over, in units that can be traded."""
    held, step = trade.shall_hold, view.size_step
    asked = signal.quantity if signal.percent is None else held * signal.percent / 100
    part = in_steps(asked or ZERO, step, ROUND_FLOOR)
    wish = decimal_text(signal.quantity or ZERO) if signal.percent is None else f"{decimal_text(signal.percent)}%"
    if part >= held:
        return Close(CloseCause.SIGNAL)
    if not part:
        return Done(
            Outcome.REFUSED,
            f"{wish} of the {decimal_text(held)} {trade.symbol} is less than can be traded ({decimal_text(step)}); "
            "nothing was closed: a close without quantity and percent closes all",
        )
    return Reduce(held - part, _reduced_to(trade, held - part, f"close {wish}"))


def _reduced_to(trade: Trade, size: Decimal, why: str) -> str:
    held = trade.shall_hold
    return f"{why}: {decimal_text(held - size)} of {decimal_text(held)} {trade.symbol} are closed, {decimal_text(size)} stay"


def _of_gone_position(signal: Signal, view: View) -> Done:
    """A strategy changes a position that this account no longer holds, or never did: never an entry."""
    change = f" ({signal.prev} to {signal.position})" if signal.prev else ""
    text = f"this account does not hold the position that it changes{change}"
    if view.closed_here:
        text = f"the trade on the other side was closed, and nothing was entered: {text}"
    return Done(Outcome.CLOSED if view.closed_here else Outcome.IGNORED, text, strategy_differs=True)


def _after_its_close(signal: Signal, trade: Trade) -> Decision:
    """The trade that a signal closed is gone; what is left of an earlier one is on hold, or the owner has adopted another.

    The signal must not touch that one.
    """
    if trade.state is State.HOLD:
        left = (
            f"the trade in {signal.symbol} was closed; of an earlier one {abs(trade.held)} are left, and it is on hold"
        )
        done = Outcome.CLOSED if signal.is_exit else Outcome.REFUSED
        return Done(done, f"{left}: choose on the page")
    if signal.is_exit:
        return Done(Outcome.CLOSED, f"the trade in {signal.symbol} was closed; the trade now open is a later one")
    return Done(
        Outcome.REFUSED, f"the trade in {signal.symbol} was closed, but you adopted another one before this could enter"
    )


def _on_hold(signal: Signal, view: View, trade: Trade) -> Decision:
    if signal.action is Action.CLOSE:
        return Wait(f"{trade.symbol} is on hold: the close waits for your choice on the page", page=True)
    if signal.action is Action.PROTECT:
        return _protect_on_hold(signal, view, trade)
    if signal.side is trade.side and signal.position is not None:
        text = f"{trade.symbol} is on hold, and the strategy holds {signal.position} now"
        return Done(Outcome.REFUSED, text, strategy_size=signal.quantity)
    return Done(Outcome.REFUSED, f"{trade.symbol} is on hold: resolve it on the page first")


def _protect_on_hold(signal: Signal, view: View, trade: Trade) -> Decision:
    """A hold freezes opening. An exit may be moved, and added, where the account shows what the trade holds."""
    if _opened_later(trade, view):
        return Done(Outcome.IGNORED, f"the trade in {trade.symbol} was opened by a later signal")
    if view.agrees and trade.entry_is_done:
        return _protect(signal, view, trade)
    text = f"{trade.symbol} is on hold, and the account does not show the {decimal_text(trade.held)} that it holds"
    return Done(Outcome.REFUSED, f"{text}: resolve it on the page first")


def _while_closing(signal: Signal, view: View, trade: Trade) -> Decision:
    if signal.action is Action.CLOSE:
        return Close(trade.close_cause or CloseCause.SIGNAL)
    if not view.is_fresh:
        return Done(Outcome.EXPIRED, f"too old to enter; the trade in {trade.symbol} is being closed")
    return Wait(f"the trade in {trade.symbol} is being closed first")


def _flat(signal: Signal, view: View) -> Decision:
    if not view.is_fresh:
        after = "; the trade was closed and nothing was entered" if view.closed_here else ""
        return Done(Outcome.EXPIRED, f"too old to enter: received {_age(view)} s earlier{after}")
    if view.block is signal.side and signal.side is not None:
        return Done(
            Outcome.REFUSED,
            f"re-entry blocked: the last {signal.side.value} trade in {signal.symbol} {_how_blocked(view)};"
            " an opposite trade, a reset signal or the button on the page releases it",
        )
    refusal = _not_known(signal, view) or view.objection
    return Enter() if refusal is None else Done(Outcome.REFUSED, refusal)


def _not_known(signal: Signal, view: View) -> str | None:
    """Return why nothing may be bought beside what the account holds, in words, or None."""
    if view.unknown_position:
        return (
            f"the account holds {view.unknown_position} {signal.symbol} that the journal does not know:"
            " ignore or adopt it on the page first"
        )
    if view.opposed_holding:
        return f"your own position of {view.opposed_holding} {signal.symbol} is on the opposite side, and IBKR would net the two"
    return None


def _how_blocked(view: View) -> str:
    return "took profit" if view.block_is_sure else "closed for an unknown reason and may have hit its take-profit"


def _age(view: View) -> int:
    return int((view.now - view.received_at).total_seconds())
