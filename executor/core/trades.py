"""What a trade and its orders are, and the table of a trade's life: states × events. Pure.

A *trade* is one round trip, from the intent to enter until flat. Its quantity is known from executions only.
How a fact changes a trade is in `life`; what it needs next is in `planning`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from common.errors import IllegalTransition
from common.exits import Distance
from common.signals import Side, decimal_text
from executor.core.orders import (
    ENTRIES,
    EXITS,
    STOPS,
    ZERO,
    Aim,
    Execution,
    Leg,
    Order,
    OrderState,
    Reduction,
    average,
    awaits_executions,
)
from executor.core.outcomes import CloseCause, ExitReason
from executor.core.ports import Status


class State(StrEnum):
    """A trade's progress. Flat is not a state: it is the absence of an unfinished trade."""

    SENDING = "sending"  # the entry may or may not exist at the broker
    WORKING = "working"  # the entry is at the broker, not wholly filled
    OPEN = "open"  # the entry is done, quantity is held
    CANCELLING = "cancelling"  # its orders are being cancelled, so that it can be closed
    CLOSING = "closing"  # nothing else is live; the close order is on its way
    HOLD = "hold"  # we cannot know: the owner decides
    CLOSED = "closed"  # flat again
    VOID = "void"  # it never filled

    @property
    def is_finished(self) -> bool:
        return self in (State.CLOSED, State.VOID)


class Event(StrEnum):
    """What can happen to a trade. Facts are read off the trade by `observed`; the others are asked for."""

    SEEN = "seen"  # the broker shows the entry alive
    ENTERED = "entered"  # the entry is done, and something filled
    DEAD = "dead"  # the entry is done, nothing filled, and no order of it is live
    CLOSE = "close"  # a close is asked for: by signal, by the owner, by policy
    CLEARED = "cleared"  # no order is live, quantity remains
    FLAT = "flat"  # no order is live, no quantity remains
    REFUSED = "refused"  # the close order is dead, quantity remains
    DOUBT = "doubt"  # the evidence does not say what happened
    FLIPPED = "flipped"  # the exits filled more than the trade held
    LATE_FILL = "late fill"  # an execution for a finished trade
    ADOPT = "adopt"  # the owner: what the broker shows is the trade
    FLATTEN = "flatten"  # the owner: cancel and close it
    DISMISS = "dismiss"  # the owner: it is settled


# Every cell is explicit: a state to go to, `=` stay (a fact that changes nothing here), `!` impossible (a bug of ours).
_LIFE = """
            sending working    open       cancelling closing    hold       closed void
seen        working =          =          =          =          =          =      =
entered     open    open       =          =          =          =          =      =
dead        void    void       void       void       !          =          =      =
close       !       cancelling cancelling =          =          !          !      !
cleared     !       !          !          closing    =          =          !      !
flat        closed  closed     closed     closed     closed     =          =      =
refused     !       !          !          !          hold       =          !      !
doubt       hold    hold       hold       hold       hold       =          hold   hold
flipped     hold    hold       hold       hold       hold       =          hold   hold
late fill   !       !          !          !          !          =          hold   hold
adopt       !       !          !          !          !          open       !      !
flatten     !       !          !          !          !          cancelling !      !
dismiss     !       !          !          !          !          closed     !      !
"""


def _parse(table: str) -> dict[tuple[State, Event], State | None]:
    """Read the table into (state, event) → next state; None where it is impossible."""
    head, *rows = table.strip("\n").splitlines()
    states = [State(word) for word in head.split()]
    life: dict[tuple[State, Event], State | None] = {}
    for row in rows:
        event = Event(row[:12].strip())
        for state, word in zip(states, row[12:].split(), strict=True):
            life[state, event] = {"=": state, "!": None}.get(word) if word in "=!" else State(word)
    return life


LIFE = _parse(_LIFE)


def following(state: State, event: Event) -> State:
    """Return the state after an event.

    Raises:
        IllegalTransition: The table says that this cannot happen: a bug of ours. Stop this symbol, keep the evidence.

    >>> following(State.OPEN, Event.CLOSE)
    <State.CANCELLING: 'cancelling'>
    """
    after = LIFE[state, event]
    if after is None:
        raise IllegalTransition(f"a trade that is {state.value} cannot take the event '{event.value}'")
    return after


@dataclass(frozen=True, slots=True)
class Trade:
    """One round trip: its orders, its executions, and what was decided about it. What follows from these is derived."""

    id: int
    symbol: str
    side: Side
    account: str
    con_id: int
    asked: Decimal
    state: State
    signal_id: str
    received_at: datetime  # of the opening signal, by the relay
    valid_until: datetime
    timestamp: datetime
    stop_wanted: bool = False
    reduced: Decimal = ZERO  # closed by hand, or by an unknown exit
    missed_at: datetime | None = None  # when a quantity was found missing that nothing explains
    close_cause: CloseCause | None = None
    exit_reason: ExitReason | None = None
    tp_hit: bool = False
    adopted_price: Decimal | None = None  # what the owner paid for a position that was adopted
    unprotected_at: datetime | None = None  # since when the stop that was asked for is missing
    loose_at: datetime | None = None  # since when orders are live though nothing is held
    hold_reason: str | None = None
    evidence: str | None = None  # JSON: what was seen when it was put on hold
    closes_forgiven: int = 0  # refused close orders after which the owner chose to go on
    stops_forgiven: int = 0  # stops that could not be put back, after which the owner chose to go on
    strategy_size: Decimal | None = None  # what its strategy holds on this side, where it said another size
    reduction: Reduction | None = None  # the wish to make it smaller, until it is fulfilled or has failed
    breakeven: bool = False  # whether the first target that fills moves the stop to the entry price
    trail: Distance | None = None  # how far its stop is to follow the market, once the entry has filled
    stop_aim: Aim | None = None  # where its stop shall be, until it is moved there or added
    target_aim: Aim | None = None  # and its take-profit
    protected_at: datetime | None = None  # receipt of the newest signal that moved its exits
    sent_at: datetime | None = None  # when its entry was written down as being sent
    filled_at: datetime | None = None  # first fill of the entry
    closed_at: datetime | None = None
    orders: tuple[Order, ...] = ()
    executions: tuple[Execution, ...] = ()  # all that it accounts for, in order

    @property
    def closed(self) -> bool:
        """True if it is finished; one on hold is not, though it may have been before."""
        return self.state.is_finished

    def order(self, ref: str) -> Order:
        """Return one order of it; KeyError where it has none of that reference."""
        for order in self.orders:
            if order.order_ref == ref:
                return order
        raise KeyError(ref)

    def with_order(self, order: Order) -> Trade:
        """Return the trade with an order changed, or added where it is new."""
        known = any(o.order_ref == order.order_ref for o in self.orders)
        if not known:
            return replace(self, orders=(*self.orders, order))
        return replace(self, orders=tuple(order if o.order_ref == order.order_ref else o for o in self.orders))

    def with_execution(self, execution: Execution) -> Trade:
        """Return the trade with an execution, which takes the place of the one that it corrects."""
        others = [e for e in self.executions if e.exec_root != execution.exec_root]
        insort(others, execution)
        return replace(self, executions=tuple(others))

    def filled(self, ref: str) -> Decimal:
        """Return the sum of an order's executions."""
        return sum((e.quantity for e in self.executions if e.order_ref == ref), ZERO)

    @property
    def entry_price(self) -> Decimal | None:
        """The average over the executions of its entry and additions, None while there are none."""
        refs = self._entry_refs
        entries = [e for e in self.executions if e.order_ref in refs]
        if self.entry is not None or self.adopted_price is None:
            return average(entries)
        if not entries:
            return self.adopted_price
        added = sum((e.quantity * e.price for e in entries), self.asked * self.adopted_price)
        return round(added / (self.asked + sum((e.quantity for e in entries), ZERO)), 10)

    def gain(self, price: Decimal | None, factor: Decimal) -> Decimal | None:
        """Return (price - entry) times a factor for a long trade, the opposite for a short one; commissions not counted.

        None where a price is not known.
        """
        if price is None or self.entry_price is None:
            return None
        entry, price = (Decimal(decimal_text(each)) for each in (self.entry_price, price))  # no zeros of an average
        gain = (price - entry) * factor
        return gain if self.side is Side.BUY else -gain

    @property
    def exit_price(self) -> Decimal | None:
        """The average over everything that took it out, None while any of it has no price, or if nobody knows how it ended."""
        if self.closed and self.exit_reason is ExitReason.UNKNOWN:
            return None
        exits = self.exits
        priced = sum((e.quantity for e in exits), ZERO)
        return average(exits) if priced == self.exited + max(self.reduced, ZERO) else None

    @property
    def exits(self) -> tuple[Execution, ...]:
        """The executions that took it out: its own orders', and the owner's where they account for it."""
        refs = self._entry_refs
        return tuple(e for e in self.executions if e.order_ref not in refs)

    @property
    def _entry_refs(self) -> frozenset[str]:
        return frozenset(o.order_ref for o in self.legs(*ENTRIES))

    @property
    def entry(self) -> Order | None:
        """The entry order; an adopted position has none."""
        return next((o for o in self.orders if o.leg is Leg.ENTRY), None)

    @property
    def target(self) -> Order | None:
        """Its take-profit: of several the next that has not filled, or the last."""
        found = list(self.legs(Leg.TAKE_PROFIT))
        return next((o for o in found if o.is_live), found[-1] if found else None)

    @property
    def stop(self) -> Order | None:
        """Its stop-loss, the latest of those that were put back; one that works before one that is over."""
        found = [o for o in self.orders if o.leg in STOPS]
        live = [o for o in found if o.is_live and o.leg is not Leg.ADD_STOP]
        return (live or found)[-1] if found else None

    @property
    def computes_prices(self) -> bool:
        """True if prices of its exits are still to follow from the fill, or from a target, so that its contract is needed."""
        aims = self.stop_aim is not None or self.target_aim is not None
        return aims or self.trail is not None or self.breakeven or any(o.distance is not None for o in self.orders)

    def aim(self, *, stop: bool) -> Aim | None:
        return self.stop_aim if stop else self.target_aim

    def with_aim(self, aim: Aim | None, *, stop: bool) -> Trade:
        if stop:
            return replace(self, stop_aim=aim)
        return replace(self, target_aim=aim and replace(aim, free=False))  # which asks nobody

    def to_move(self, *, stop: bool) -> tuple[Order, ...]:
        """The stops that may be moved, or of the take-profits the next."""
        found = tuple(o for o in self.legs(*(STOPS if stop else (Leg.TAKE_PROFIT,))) if o.may_be_moved)
        return found if stop else found[:1]

    @property
    def size(self) -> Decimal:
        """What was entered in all, once the first entry is done; until then what was asked for."""
        first_is_done = self.entry is None or self.entry.is_done
        return self.entered if first_is_done and self.entered > 0 else self.asked

    @property
    def commission(self) -> Decimal | None:
        """What its executions cost, None until the broker has said it of each."""
        paid = [e.commission for e in self.executions]
        return sum((p for p in paid if p is not None), ZERO) if paid and None not in paid else None

    def legs(self, *legs: Leg) -> Iterator[Order]:
        return (o for o in self.orders if o.leg in legs)

    @property
    def entered(self) -> Decimal:
        """What entry and additions bought (or sold): the sum of their executions; an adopted position came whole."""
        return sum((o.filled for o in self.legs(*ENTRIES)), self.asked if self.entry is None else ZERO)

    @property
    def exited(self) -> Decimal:
        return sum((o.filled for o in self.orders if o.leg not in ENTRIES), ZERO)

    @property
    def held(self) -> Decimal:
        """The trade's own quantity, by executions; negative when the exits filled more than it had."""
        return self.entered - self.exited - self.reduced

    @property
    def reducing(self) -> Decimal:
        """What reductions that were sent may still take out."""
        return sum((o.quantity - o.filled for o in self.legs(Leg.REDUCE) if o.is_live), ZERO)

    @property
    def shall_hold(self) -> Decimal:
        """The size that it shall have, when what is under way is over."""
        if self.reduction is not None:
            return self.shrinks_to
        return self.staying if self.entry_is_done else self.asked

    @property
    def taken(self) -> Decimal:
        """What its exits have filled."""
        return sum((o.filled for o in self.legs(*EXITS)), ZERO)

    @property
    def shrinks_to(self) -> Decimal:
        """The size to which a reduction is to bring it, if there is one: as asked for, less what the exits took since."""
        wish = self.reduction
        return ZERO if wish is None else max(wish.to - (self.taken - wish.taken), ZERO)

    @property
    def staying(self) -> Decimal:
        """What is held less what reductions that were sent may still take out: what needs a stop."""
        return self.held - self.reducing

    @property
    def is_ending(self) -> bool:
        """True if an exit took it out already, and only the end of its other orders is awaited."""
        return self.state is State.OPEN and self.held == 0

    @property
    def signed(self) -> Decimal:
        """The quantity as it adds to the account's position."""
        return self.held if self.side is Side.BUY else -self.held

    @property
    def entry_is_done(self) -> bool:
        """True if nothing may enter any more: neither its entry nor an addition is live."""
        return all(o.is_done for o in self.legs(*ENTRIES))

    @property
    def adding(self) -> Decimal:
        """What additions that are still live have brought so far: their own stops cover it."""
        return sum((o.filled for o in self.legs(Leg.ADD) if o.is_live), ZERO)

    @property
    def entry_is_untold(self) -> bool:
        """True if executions of an entry must be missing once an exit has filled: none was heard of, or not all."""
        return any(o.is_live and (o.filled == 0 or awaits_executions(o)) for o in self.legs(*ENTRIES))

    @property
    def refusal(self) -> Order | None:
        """The first order that TWS refused, if any."""
        return next((o for o in self.orders if o.refusal_code is not None), None)

    @property
    def live(self) -> tuple[Order, ...]:
        return tuple(o for o in self.orders if o.is_live)

    @property
    def live_exits(self) -> tuple[Order, ...]:
        """The exits that may fill now: confirmed, awake, and not on their way out."""
        exits = (o for o in self.legs(*EXITS) if o.state is OrderState.WORKING and o.cancel_asked_at is None)
        return tuple(o for o in exits if o.said is not Status.PENDING)

    @property
    def live_stops(self) -> tuple[Order, ...]:
        """The stops that would trigger now."""
        return tuple(o for o in self.live_exits if o.leg in STOPS)

    @property
    def lacks_executions(self) -> bool:
        """True if the broker counts more filled of a live order than its executions show."""
        return any(o.filled_at_broker > o.filled for o in self.live)

    @property
    def is_protected(self) -> bool:
        """True if the stop that was asked for works at the broker in the trade's size (or none was asked for).

        While the entry still fills, the stop may be as large as what it can become. What a sent reduction is still
        to fill needs no stop.
        """
        if not self.stop_wanted or self.staying <= 0:
            return True
        size = sum((o.remaining for o in self.live_stops), ZERO)
        return size == self.staying if self.entry_is_done else size >= self.staying


def observed(trade: Trade) -> Event | None:
    """Read the next event off a trade's facts, or None if its state already reflects them."""
    if trade.state is State.HOLD:
        return None
    if trade.state.is_finished:
        return Event.LATE_FILL if trade.held != 0 else None
    if trade.held < 0 and not trade.entry_is_untold:
        return Event.FLIPPED
    if trade.entry_is_done and not trade.live:
        return _observed_at_rest(trade)
    return _observed_alive(trade)


def _observed_at_rest(trade: Trade) -> Event | None:
    """No order of the trade is live: what does that make it?"""
    if trade.held == 0:
        nothing_came = trade.entered == trade.exited == 0 and trade.state is not State.CLOSING
        return Event.DEAD if nothing_came else Event.FLAT
    if trade.state is State.CANCELLING:
        return Event.CLEARED
    if trade.state is State.CLOSING:
        return _observed_closing(trade)
    return Event.ENTERED if trade.state in (State.SENDING, State.WORKING) else None


def _observed_closing(trade: Trade) -> Event | None:
    """A close that filled was not refused, nor one that was taken back or overtaken: what is left is closed by another.

    So is, once, what TWS refused: nothing of it was sent on, and the reason may have passed.
    """
    closes = [
        o for o in list(trade.legs(Leg.CLOSE))[trade.closes_forgiven :] if not (o.cancel_asked_at or o.was_overtaken)
    ]
    refused = sum(o.state is OrderState.REJECTED for o in closes)
    return Event.REFUSED if refused > 1 or any(o.state is OrderState.CANCELLED for o in closes) else None


def _observed_alive(trade: Trade) -> Event | None:
    entry = trade.entry
    if trade.state not in (State.SENDING, State.WORKING) or entry is None:
        return None
    if entry.is_done and trade.entered > 0:
        return Event.ENTERED
    return Event.SEEN if trade.state is State.SENDING and entry.state is OrderState.WORKING else None
