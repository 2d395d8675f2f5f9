"""Journal × snapshot → resolutions, pure: what became of every order and position that events do not show.

It is called only with a snapshot whose every part ended, after the snapshot's own facts (reports, executions) were
recorded. `desk` carries out the resolutions; if the evidence is not conclusive, the resolution says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from zoneinfo import ZoneInfo

from common.signals import Side
from executor.core.brackets import is_ours
from executor.core.orders import ENTRIES, EXITS, TAKE_OUT, ZERO, Leg, Order, OrderState, awaits_executions
from executor.core.outcomes import ExitReason
from executor.core.ports import Fill, OrderReport, Snapshot
from executor.core.trades import State, Trade

MAX_RESENDS = 2
_BRACKET = (Leg.ENTRY, Leg.TAKE_PROFIT, Leg.STOP_LOSS)
_ADDITION = (Leg.ADD, Leg.ADD_STOP)
IBKR_ZONE = ZoneInfo("America/New_York")
CLOCKS_APART = timedelta(seconds=5)  # executions bear IBKR's clock, in whole seconds; trades bear ours


class Verdict(StrEnum):
    """What the evidence makes of one order that the broker does not show as working."""

    GONE = "gone"  # it was there and is no more: cancelled
    DEAD = "dead"  # it was refused, or never arrived: rejected
    RESEND = "resend"  # it never arrived: the same order under the same id again
    CANCEL_FIRST = "cancel first"  # before it is called dead, its id is cancelled, so that nobody can release it later
    WAIT = "wait"  # the broker reports executions that have not arrived yet
    HOLD = "hold"  # the evidence is not conclusive


@dataclass(frozen=True, slots=True)
class OrderResolution:
    order: Order
    trade: Trade
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Reduced:
    """The account shows less of the trade than its executions say: taken out by hand, or by an exit nobody saw."""

    trade: Trade
    quantity: Decimal
    fills: tuple[Fill, ...]  # the executions that took out just this; empty where none did
    how: ExitReason  # by hand, liquidated, or unknown


@dataclass(frozen=True, slots=True)
class OwnSold:
    """What was taken out in a trade's contract by hand is the owner's own, which he holds beside it."""

    trade: Trade
    quantity: Decimal
    fills: tuple[Fill, ...]


@dataclass(frozen=True, slots=True)
class Unexplained:
    """The position contradicts the journal in a way that no rule explains."""

    trade: Trade
    why: str


@dataclass(frozen=True, slots=True)
class MoreThanKnown:
    """The account holds more than the journal's trade: the owner's own; left alone, and reported."""

    trade: Trade
    quantity: Decimal
    bought: bool = False  # executions of another program, or by hand, show it


@dataclass(frozen=True, slots=True)
class LessThanKnown:
    """The account shows less than the trade, and nothing explains it yet: reported; the position may only be late."""

    trade: Trade
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Unknown:
    """In a contract without an open trade, the account shows a position that neither the journal nor the owner explains."""

    symbol: str
    con_id: int
    shown: Decimal
    known: Decimal  # what the owner chose to leave alone


@dataclass(frozen=True, slots=True)
class Orphan:
    """An order with our reference is live though its trade is finished, or though the journal does not know it."""

    report: OrderReport
    known: bool
    copied: bool = False  # another client's, under the reference of an order that is ours


Resolution = OrderResolution | Reduced | OwnSold | Unexplained | MoreThanKnown | LessThanKnown | Unknown | Orphan


@dataclass(frozen=True)
class Books:
    """The journal's view as of the snapshot; the snapshot's executions are already in it."""

    now: datetime
    trades: tuple[Trade, ...]  # every unfinished trade
    known_refs: frozenset[str]  # of the snapshot's references, those that the journal knows
    foreign: tuple[Fill, ...]  # executions that no trade accounts for
    beside: Mapping[tuple[str, int], Decimal]  # (account, conId) → what the owner chose to ignore
    settled: frozenset[int]  # contracts whose position was found different before, equally, some seconds ago
    loaded: frozenset[int] = frozenset()  # those where it has lasted so long that TWS has loaded its positions
    believed: frozenset[int] = frozenset()  # those where it has lasted so long that it is not just late
    bought: frozenset[tuple[int, Decimal]] = frozenset()  # (conId, quantity) beside a trade, seen being bought before
    agreed: Mapping[int, str] = field(default_factory=dict)  # contract → the day when account and journal last agreed
    # executions of before then may be gone: some that were shown are, or IBKR's day has ended since
    hidden_before: datetime | None = None
    midnight: datetime | None = None  # when IBKR's day began
    hidden: frozenset[int] = frozenset()  # contracts in which account and journal have not agreed since then
    arrived: datetime | None = None  # what was sent up to then has had its time to arrive; None: all of it
    missed: Mapping[str, str | None] = field(
        default_factory=dict
    )  # working orders, missing for a while → last seen when
    account: str = ""
    contracts: Mapping[int, str] = field(default_factory=dict)  # ever traded, or ignored by the owner → symbol

    @cached_property
    def ours(self) -> Mapping[int, Decimal]:
        """What the unfinished trades hold by contract, as it adds to the account's position."""
        held: dict[int, Decimal] = {}
        for trade in self.trades:
            held[trade.con_id] = held.get(trade.con_id, ZERO) + trade.signed
        return held

    @property
    def idle(self) -> dict[int, str]:
        """The contracts of ours without a trade now."""
        busy = {trade.con_id for trade in self.trades}
        return {con_id: symbol for con_id, symbol in self.contracts.items() if con_id not in busy}


def reconcile(books: Books, snapshot: Snapshot) -> list[Resolution]:
    """Compare journal and broker: one resolution for everything that only a complete view can settle.

    What is missing in a contract is taken out of one trade only, also where another is being closed there.
    """
    resolutions: list[Resolution] = list(_orphans(books, snapshot))
    reduced: set[int] = set()  # contracts
    for trade in books.trades:
        if trade.state is not State.HOLD:
            found = [r for r in _of_trade(trade, books, snapshot) if trade.con_id not in reduced or not _reduces(r)]
            reduced.update(trade.con_id for r in found if _reduces(r))
            resolutions += found
    return [*resolutions, *_unknown(books, snapshot)]


def _reduces(resolution: Resolution) -> bool:
    return isinstance(resolution, Reduced)


def _of_trade(trade: Trade, books: Books, snapshot: Snapshot) -> Iterator[Resolution]:
    missing = [o for o in trade.live if not is_open(o, snapshot) and not _is_under_way(o, trade, books, snapshot)]
    difference = _difference(trade, books, snapshot)
    for order in missing:
        yield judge(order, trade, books, snapshot, difference)
    if trade.state is not State.SENDING and not any(awaits_executions(o) for o in missing):
        yield from _of_position(trade, books, snapshot, difference)


def _is_under_way(order: Order, trade: Trade, books: Books, snapshot: Snapshot) -> bool:
    """True if an order may be missing only because it was sent a moment ago; a refused one is not."""
    if snapshot.may_lack(order.sent_at):
        return True
    young = books.arrived is not None and order.sent_at is not None and order.sent_at > books.arrived
    return young and order.state is OrderState.SENDING and order.said is None and not _was_refused(order, trade)


def is_open(order: Order, snapshot: Snapshot) -> bool:
    """True if a snapshot shows an order of ours as open; a copy under its reference does not count."""
    return any(_means(report, order) for report in snapshot.open_under(order.order_ref))


def _means(report: OrderReport, order: Order) -> bool:
    return order.is_meant(report.client_id, report.order_id, report.perm_id)


def _difference(trade: Trade, books: Books, snapshot: Snapshot) -> Decimal:
    """What the account shows beyond what the journal explains, in the trade's direction."""
    key = (trade.account, trade.con_id)
    unexplained = snapshot.position(*key) - books.beside.get(key, ZERO) - books.ours[trade.con_id]
    return unexplained if trade.side is Side.BUY else -unexplained


def judge(order: Order, trade: Trade, books: Books, snapshot: Snapshot, difference: Decimal) -> OrderResolution:
    """Return what became of an order that is live in the journal and not open at the broker. The first row that fits:

    1. The broker reports it finished, its executions are missing: wait for them; if they do not arrive, hold.
    2. It was refused: dead (an entry is cancelled by its id first, so that no held parent can be released later).
    3. We asked to cancel it: gone. An entry only on the day it was sent, and if the position did not move: else hold.
    4. It was seen working, is missing for the second time, and the position agrees with the executions: gone. An exit
       that vanished today without the record that every cancel leaves: dead, lost by TWS (a stop is put back, unlike
       one that the owner cancelled; a take-profit is reported).
    5. It was sent on another day, by TWS's midnight or by IBKR's: its executions are no longer available. Hold.
    6. It was never seen, and the position moved: hold.
    7. An exit whose entry lives or is done: it never arrived: dead (the stop is put back by the protection rule).
    8. It was never seen, the position did not move: it never arrived. An entry that is still fresh, and every close,
       is sent again under the same id, at most twice; an entry that is not fresh is cancelled by its id, then dead.
    """
    verdict, why = _judge(order, trade, books, snapshot, difference)
    if verdict is Verdict.HOLD and difference < 0 and trade.con_id not in books.believed:
        verdict = Verdict.WAIT  # the position may be late
    return OrderResolution(order, trade, verdict, why)


def _judge(order: Order, trade: Trade, books: Books, snapshot: Snapshot, difference: Decimal) -> tuple[Verdict, str]:
    if awaits_executions(order):
        return _missing_executions(order, trade, books)
    if order.state is OrderState.WORKING and order.order_ref not in books.missed:
        return Verdict.WAIT, "no longer at the broker, but missing from one snapshot only so far"
    if _was_refused(order, trade):
        return _refused(order, trade, difference)
    if order.cancel_asked_at is not None:
        return _after_cancel(order, books, snapshot, difference)
    if order.state is OrderState.WORKING:
        return _no_longer_working(order, books, snapshot, difference)
    if not _is_of_today(order, books, snapshot):
        return Verdict.HOLD, f"sent on {order.sent_day}; TWS no longer shows what happened to it"
    if difference != 0:
        return Verdict.HOLD, f"no trace of the order, yet the position differs by {difference}"
    return _never_arrived(order, trade, books)


def _missing_executions(order: Order, trade: Trade, books: Books) -> tuple[Verdict, str]:
    said = f"the broker reports {order.said} with {order.said_filled} filled, but its executions show {order.filled}"
    return (Verdict.HOLD if trade.con_id in books.settled else Verdict.WAIT), said


def _refused(order: Order, trade: Trade, difference: Decimal) -> tuple[Verdict, str]:
    if order.was_overtaken and difference != 0:
        return Verdict.HOLD, f"its id was used already, and the position differs by {difference}"
    return _dead_or_cancel_first(order, order.reason or _refusal_of(trade) or "refused by the broker")


def _refusal_of(trade: Trade) -> str | None:
    return next((f"{o.leg.word}: {o.reason}" for o in trade.orders if o.refusal_code is not None and o.reason), None)


def _was_refused(order: Order, trade: Trade) -> bool:
    """True if this order is dead by a refusal: its own, or, while the entry was never seen, any leg's of its bracket."""
    if order.refusal_code is not None and order.state is OrderState.SENDING:
        return True
    unseen = trade.state is State.SENDING and order.state is OrderState.SENDING and order.filled == 0
    return unseen and any(o.refusal_code is not None for o in trade.orders)


def _dead_or_cancel_first(order: Order, why: str) -> tuple[Verdict, str]:
    if order.leg in ENTRIES and order.cancel_asked_at is None:
        return Verdict.CANCEL_FIRST, why
    return Verdict.DEAD, why


def _is_of_today(order: Order, books: Books, snapshot: Snapshot) -> bool:
    """True if an order was sent today, by TWS's midnight and by IBKR's."""
    before = books.midnight is not None and order.sent_at is not None and order.sent_at - CLOCKS_APART < books.midnight
    return order.sent_day == snapshot.day and not before


def _is_in_sight(order: Order, books: Books, snapshot: Snapshot) -> bool:
    """True if the executions of an order would be shown: it was sent today, and none of today has gone since."""
    hidden = books.hidden_before is not None and order.sent_at is not None and order.sent_at < books.hidden_before
    return _is_of_today(order, books, snapshot) and not hidden


def _after_cancel(order: Order, books: Books, snapshot: Snapshot, difference: Decimal) -> tuple[Verdict, str]:
    if order.leg in ENTRIES and (difference != 0 or not _is_in_sight(order, books, snapshot)):
        return (
            Verdict.HOLD,
            f"its cancel was requested, it is no longer at the broker, and the position differs by {difference}",
        )
    if order.state is OrderState.SENDING:
        return Verdict.DEAD, order.reason or "never arrived at the broker, and cancelled by its id"
    return Verdict.GONE, order.reason or "cancelled"


def _no_longer_working(order: Order, books: Books, snapshot: Snapshot, difference: Decimal) -> tuple[Verdict, str]:
    if order.leg in ENTRIES and (difference != 0 or not _is_in_sight(order, books, snapshot)):
        return (
            Verdict.HOLD,
            f"the {order.leg.word} is no longer at the broker, and the position differs by {difference}",
        )
    if order.leg in ENTRIES:
        return Verdict.CANCEL_FIRST, "no longer at the broker; TWS may be holding it, and a click would transmit it"
    if order.leg in EXITS and books.missed.get(order.order_ref) == snapshot.day:
        return Verdict.DEAD, "no longer at the broker, and completed orders show no cancel: TWS lost it"
    return Verdict.GONE, "no longer at the broker; TWS no longer shows why"


def _never_arrived(order: Order, trade: Trade, books: Books) -> tuple[Verdict, str]:
    parent = next((o for o in trade.legs(*ENTRIES) if o.order_ref == order.parent_ref), None)
    added = order.leg is Leg.TAKE_PROFIT and parent is None  # by a signal, later than its entry
    if order.leg in EXITS and parent is not None and parent.state is not OrderState.SENDING:
        return Verdict.DEAD, f"the {order.leg.word} never arrived at the broker"
    if order.leg in _ADDITION:
        return _dead_or_cancel_first(order, f"the {order.leg.word} never arrived at the broker, and is not sent again")
    if order.leg is Leg.REDUCE and trade.reduction is None:
        return Verdict.DEAD, "never arrived at the broker, and is no longer wanted"
    if order.leg in _BRACKET and not added and books.now > trade.valid_until:
        return _dead_or_cancel_first(order, "expired before it arrived at the broker")
    if order.resends >= MAX_RESENDS:
        return Verdict.HOLD, f"sent {1 + order.resends} times under the same id and never seen at the broker"
    return Verdict.RESEND, "never arrived at the broker"


def _of_position(trade: Trade, books: Books, snapshot: Snapshot, difference: Decimal) -> Iterator[Resolution]:
    if difference > 0:
        yield _beside(trade, difference, books)
    if difference >= 0 or trade.con_id not in books.settled:
        return
    taken, foreign = -difference, _foreign(trade, books.foreign)
    found = _reduced(trade, taken, foreign)
    own = _own(trade, books)
    if own > 0 and found.how is ExitReason.BY_HAND:
        yield OwnSold(trade, min(own, taken), tuple(f for f in foreign if f.side is not trade.side))
        if taken <= own:
            return
        taken -= own
        found = Reduced(trade, taken, (), found.how)
    known = found.how is not ExitReason.UNKNOWN or taken == _counted_beyond(trade)
    sold = sum((f.quantity for f in foreign if f.side is not trade.side), ZERO)
    if taken <= trade.held and (known or (taken == trade.held and _is_out_of_sight(trade, books, snapshot))):
        yield found
    elif sold >= taken or trade.con_id in (
        books.loaded if _executions_hidden(trade, books, snapshot) else books.believed
    ):
        why = f"the account shows {taken} {trade.symbol} less than the journal; the trade holds {trade.held}"
        yield Unexplained(trade, why if known else f"{why}; no execution explains it")
    else:
        yield LessThanKnown(trade, taken)


def _own(trade: Trade, books: Books) -> Decimal:
    """Return what the owner holds beside a trade, on its side: what he sells comes out of that first."""
    beside = books.beside.get((trade.account, trade.con_id), ZERO)
    return beside if trade.side is Side.BUY else -beside


def _beside(trade: Trade, more: Decimal, books: Books) -> Resolution:
    """Return whose the rest of a position is: the owner's, unless it can only be a corporate action.

    That multiplies a position without an execution: of a split, 10 shares become 100.
    """
    bought = any(f.side is trade.side for f in _foreign(trade, books.foreign))
    if bought or (trade.con_id, more) in books.bought or trade.con_id not in books.loaded:
        return MoreThanKnown(trade, more, bought)
    shown = trade.held + more
    if trade.held <= 0 or shown % trade.held != 0:
        return MoreThanKnown(trade, more)
    return Unexplained(
        trade,
        f"the trade holds {trade.held} {trade.symbol}, the account shows {shown}, and no execution explains it: a split, or "
        "another corporate action? Its exits may have been changed as well",
    )


def _counted_beyond(trade: Trade) -> Decimal:
    """Return what the broker counts as filled of the exits, beyond the executions that it shows."""
    return sum((o.filled_at_broker - o.filled for o in trade.legs(*EXITS, *TAKE_OUT)), ZERO)


def _is_out_of_sight(trade: Trade, books: Books, snapshot: Snapshot) -> bool:
    """True if an exit may have happened that nothing shows any more: on an earlier day, and no exit is left open.

    Today's executions would show it, and an exit that is still open did not fill: then the position is merely late
    (TWS reports it seconds later, and after its start possibly later still).
    """
    exits_open = any(o.leg in EXITS and is_open(o, snapshot) for o in trade.orders)
    return _executions_hidden(trade, books, snapshot) and not exits_open


def _executions_hidden(trade: Trade, books: Books, snapshot: Snapshot) -> bool:
    """True if executions since account and journal last agreed may be among those that TWS does not show any more."""
    day = books.agreed.get(trade.con_id, trade.entry and trade.entry.sent_day)
    return day != snapshot.day or trade.con_id in books.hidden or not _shows_entry(trade, snapshot)


def _shows_entry(trade: Trade, snapshot: Snapshot) -> bool:
    """True if TWS still shows the executions of an entry of today; by whose midnight it drops them is not documented."""
    entry = trade.entry
    if entry is None or entry.sent_day != snapshot.day or not entry.filled:
        return True
    return any(f.order_ref == entry.order_ref for f in snapshot.fills)


def _foreign(trade: Trade, foreign: Iterable[Fill]) -> list[Fill]:
    """Return the executions in a trade's contract, since it began, that no trade accounts for."""
    fills = (f for f in foreign if (f.account, f.con_id) == (trade.account, trade.con_id))
    return [f for f in fills if f.at >= trade.timestamp - CLOCKS_APART]


def _reduced(trade: Trade, taken: Decimal, foreign: Sequence[Fill]) -> Reduced:
    """Explain what was taken out: by just these executions, or by what remains of the owner's buying and selling."""
    against = tuple(f for f in foreign if f.side is not trade.side)
    net = sum((f.quantity if f in against else -f.quantity for f in foreign), ZERO)
    exact = sum((f.quantity for f in against), ZERO) == taken
    if not exact and net != taken:
        return Reduced(trade, taken, (), ExitReason.UNKNOWN)
    how = ExitReason.LIQUIDATED if any(f.liquidation for f in against) else ExitReason.BY_HAND
    return Reduced(trade, taken, against if exact else (), how)


def last_midnight(at: datetime) -> datetime:
    """Return when IBKR's day began, in UTC.

    TWS lists the executions "since midnight"; whether by its own clock or by its server's is not documented, so what
    lies before either may be gone.
    """
    return at.astimezone(IBKR_ZONE).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _orphans(books: Books, snapshot: Snapshot) -> Iterator[Orphan]:
    unfinished = {o.order_ref: o for t in books.trades for o in t.orders}
    for report in snapshot.open_orders:
        order = unfinished.get(report.order_ref or "")
        if order is not None and not _means(report, order):
            yield Orphan(report, known=False, copied=True)
        elif order is None and is_ours(report.order_ref):
            yield Orphan(report, known=report.order_ref in books.known_refs)


def _unknown(books: Books, snapshot: Snapshot) -> Iterator[Unknown]:
    for con_id, symbol in books.idle.items():
        shown, known = snapshot.position(books.account, con_id), books.beside.get((books.account, con_id), ZERO)
        if shown != known and con_id in books.settled:
            yield Unknown(symbol, con_id, shown, known)


def differing(books: Books, snapshot: Snapshot) -> frozenset[tuple[int, Decimal]]:
    """Return (conId, difference) for every contract of ours whose position or executions do not agree with the snapshot."""
    found = set()
    for trade in books.trades:
        difference = _difference(trade, books, snapshot)
        waits = any(awaits_executions(o) for o in trade.live)
        if difference != 0 or waits:
            found.add((trade.con_id, difference))
    for con_id in books.idle:
        key = (books.account, con_id)
        if difference := snapshot.position(*key) - books.beside.get(key, ZERO):
            found.add((con_id, difference))
    return frozenset(found)
