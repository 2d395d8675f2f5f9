"""A complete snapshot into the book: its facts, then the resolutions of `reconcile`, in one change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from common.clock import Clock
from common.logs import get_logger
from common.signals import decimal_text
from executor.core.conditions import AlarmKind
from executor.core.moment import GONE_UNTOLD
from executor.core.orders import ENTRIES, STOPS, Leg, Order, OrderState
from executor.core.outcomes import ExitReason
from executor.core.policy import Policy
from executor.core.ports import Broker, Snapshot, Status
from executor.core.reconcile import (
    Books,
    LessThanKnown,
    MoreThanKnown,
    OrderResolution,
    Orphan,
    OwnSold,
    Reduced,
    Resolution,
    Unexplained,
    Unknown,
    Verdict,
    differing,
    is_open,
    last_midnight,
    reconcile,
)
from executor.core.steps import CANCEL_AGAIN
from executor.core.trades import State, Trade
from executor.desk.alarms import Alarms, Wanted
from executor.desk.book import Book
from executor.desk.gate import Gate
from executor.desk.life import Life
from executor.desk.orders import Orders
from executor.desk.outbox import Outbox
from executor.desk.recorder import Recorder
from executor.desk.sight import Sight

log = get_logger(__name__)

SETTLE = timedelta(seconds=2)  # a difference must persist this long, unchanged, before it is acted on
BELIEVE = timedelta(seconds=30)  # and this long, where nothing explains it: TWS reports positions late
LATER = timedelta(seconds=5)  # between two checks of a difference that persists
_REDUCED = {ExitReason.UNKNOWN: "in a way that TWS no longer shows", ExitReason.LIQUIDATED: "by IBKR: liquidated"}
After = Callable[[], None]


class Snapshots:
    """Applies snapshots. Returns what must be sent because of one, to be done once orders may go out."""

    def __init__(
        self, book: Book, gate: Gate, sight: Sight, life: Life, alarms: Alarms, recorder: Recorder, orders: Orders,
        outbox: Outbox, broker: Broker, clock: Clock, policy: Policy, client_id: int,
        differs_since: Callable[[int], datetime | None],
    ) -> None:  # fmt: skip
        """Args:
        differs_since: since when the account shows unexplained what it shows in a contract, as far as that was watched.
        """
        self._book, self._gate, self._sight, self._life, self._alarms = book, gate, sight, life, alarms
        self._recorder, self._orders, self._outbox, self._broker = recorder, orders, outbox, broker
        self._clock, self._policy, self._client_id, self._differs_since = clock, policy, client_id, differs_since
        self._seen: dict[tuple[int, object], datetime] = {}  # (conId, difference) → since when
        # conId of an unfinished trade → when account and journal last agreed
        self._agreed: dict[int, tuple[str, datetime]] = {}
        # executions of before then may be gone: some that were shown are, or IBKR's day has ended since
        self._hidden_before: datetime | None = None
        # a working order that is not shown → since when, last seen
        self._missed: dict[str, tuple[datetime, str | None]] = {}
        # (conId, quantity) that somebody else bought beside an unfinished trade of ours
        self._bought: set[tuple[int, Decimal]] = set()
        self._was_unsent: dict[int, datetime] = {}  # trade id → since when an order of it was to be sent again
        self.recheck_at: datetime | None = None  # when another snapshot is wanted to confirm this one

    def apply(self, snapshot: Snapshot) -> list[After]:
        """Record the snapshot's facts, then what follows from them, in one change.

        Returns:
            What is to be done about it once everything is committed and orders may go out.
        """
        before, self._sight.last = self._sight.last, snapshot
        self.recheck_at = None
        self._was_unsent = self._gate.begin_looking()
        with self._book.change():
            with self._life.together():
                self._record(snapshot)
            self._forget_unproven(snapshot)
            found = reconcile(books := self._books(snapshot, before), snapshot)
            traded = {trade.con_id for trade in books.trades}
            self._bought = {each for each in self._bought if each[0] in traded}
            self._bought |= {(r.trade.con_id, r.quantity) for r in found if isinstance(r, MoreThanKnown) and r.bought}
            after = [act for each in found for act in self._apply(each)]
            self._alarms.all_of(AlarmKind.MISMATCH, [want for each in found if (want := _mismatch(each))])
            self._alarms.all_of(AlarmKind.ORPHAN, [_orphan(each) for each in found if isinstance(each, Orphan)])
            for trade in books.trades:
                self._life.settle(self._book.trade(trade.id))
        return after

    def _record(self, snapshot: Snapshot) -> None:
        for fill in sorted(snapshot.fills, key=lambda f: (f.at, f.exec_id)):
            if fill.account == self._book.account:
                self._recorder.fill(fill)
                if fill.commission is not None:
                    self._recorder.commission(fill.exec_id, fill.commission)
        for report in (*snapshot.completed_orders, *snapshot.open_orders):
            self._recorder.report(report)

    def _forget_unproven(self, snapshot: Snapshot) -> None:
        """What was asked on an earlier connection may never have left: it is asked again.

        That is the cancel of what lives or was never seen, and every change of an exit.
        """
        if self._gate.ready_since is not None:
            return
        alive = {r.order_ref for r in snapshot.open_orders if r.status in (Status.PENDING, Status.WORKING)}
        for trade in self._book.unfinished():
            for order in trade.live:
                unseen = order.leg in ENTRIES and order.state is OrderState.SENDING
                if order.cancel_asked_at is not None and (unseen or order.order_ref in alive):
                    trade = self._life.settle(trade.with_order(replace(order, cancel_asked_at=None)))
                elif order.resize_asked_at is not None or order.sent_prices:
                    again = replace(order, resize_asked_at=None, sent_prices=())
                    trade = self._life.settle(trade.with_order(again))

    # ---- what reconciliation looks at ----

    def _books(self, snapshot: Snapshot, before: Snapshot | None) -> Books:
        now = self._clock.now()
        trades = tuple(self._book.unfinished())
        refs = {r.order_ref for r in snapshot.open_orders if r.order_ref}
        known = frozenset(r for r in refs if self._book.find_order(r))
        foreign = tuple(f for f in snapshot.fills if not self._book.is_attributed(f.exec_root))
        if _forgets(snapshot, before):
            self._hidden_before = snapshot.taken_at
        midnight = last_midnight(snapshot.taken_at)
        self._hidden_before = max(self._hidden_before or midnight, midnight)
        ready, patience = self._gate.ready_since, timedelta(seconds=self._policy.inflight_seconds)
        arrived = None if ready is None else max(ready, now - patience)  # of another connection nothing is under way
        account = self._book.account
        books = Books(
            now, trades, known, foreign, {(account, c): q for c, q in self._book.holdings().items()}, frozenset(),
            arrived=arrived, missed=self._missing(trades, snapshot, before.day if before else None),
            hidden_before=self._hidden_before, midnight=midnight, account=account, contracts=self._book.contracts(),
        )  # fmt: skip
        return self._with_looks(books, snapshot)

    def _missing(self, trades: Iterable[Trade], snapshot: Snapshot, seen_day: str | None) -> dict[str, str | None]:
        """Return the working orders that were missing before: TWS may need a moment to list them. And when they were seen."""
        now = self._clock.now()
        working = (o for t in trades for o in t.live if o.state is OrderState.WORKING)
        missing = [o.order_ref for o in working if not is_open(o, snapshot)]
        if self._gate.ready_since is None:  # a new connection's first snapshot never confirms an older one
            self._missed = {ref: (now, day) for ref, (_, day) in self._missed.items()}
        self._missed = {ref: self._missed.get(ref, (now, seen_day)) for ref in missing}
        return {ref: day for ref, (since, day) in self._missed.items() if abs(now - since) >= SETTLE}

    def _with_looks(self, books: Books, snapshot: Snapshot) -> Books:
        """Add what was seen before: how long each difference has lasted; request another snapshot if it needs confirming."""
        now, current = books.now, differing(books, snapshot)
        self._seen = {d: min(self._seen.get(d, now), now) for d in current}
        apart = {con_id for con_id, _ in current}
        ours = {trade.con_id for trade in books.trades}
        self._agreed = {c: d for c, d in self._agreed.items() if c in ours} | dict.fromkeys(
            ours - apart, (snapshot.day, snapshot.taken_at)
        )
        since = self._hidden_before
        old = {t.con_id for t in books.trades if since and t.timestamp < since}
        hidden = frozenset(c for c in old if since and (c not in self._agreed or self._agreed[c][1] < since))
        settled = self._stood(now, SETTLE)
        loaded, believed = self._stood(now, GONE_UNTOLD), self._stood(now, BELIEVE)
        if len(believed) < len(current):
            self._again(SETTLE if len(settled) < len(current) else LATER)
        days = {con_id: day for con_id, (day, _) in self._agreed.items()}
        return replace(
            books,
            settled=settled,
            bought=frozenset(self._bought),
            loaded=loaded,
            believed=believed,
            agreed=days,
            hidden=hidden,
        )

    def _again(self, delay: timedelta) -> None:
        """Have everything read again after a while, or sooner if that is already due."""
        at = self._clock.now() + delay
        self.recheck_at = at if self.recheck_at is None else min(at, self.recheck_at)

    def _stood(self, now: datetime, long: timedelta) -> frozenset[int]:
        return frozenset(con_id for (con_id, _), since in self._seen.items() if now - since >= long)

    # ---- one resolution ----

    def _apply(self, resolution: Resolution) -> Iterable[After]:
        match resolution:
            case OrderResolution():
                return self._order(resolution)
            case Reduced():
                self._reduced(resolution)
            case OwnSold():
                self._own_sold(resolution)
            case Unexplained(trade, why):
                self._life.hold(self._book.trade(trade.id), why)
            case Orphan():
                return self._cancel_orphan(resolution)
        return ()

    def _order(self, found: OrderResolution) -> Iterable[After]:
        trade = self._book.trade(found.trade.id)  # other orders of it may have been judged before
        order, verdict, why = trade.order(found.order.order_ref), found.verdict, found.why
        log.info("order_looked_up", symbol=trade.symbol, leg=order.leg.word, verdict=verdict.value, why=why)
        match verdict:
            case Verdict.GONE:
                self._end(order, trade, Status.CANCELLED, why)
            case Verdict.DEAD:
                self._end(order, trade, Status.INACTIVE, why)
            case Verdict.HOLD:
                self._life.hold(trade, f"{order.leg.word}: {why}")
            case Verdict.WAIT:
                self._again(SETTLE)
            case Verdict.CANCEL_FIRST:
                return self._cancel_first(order, trade, why)
            case Verdict.RESEND:
                return self._resend(order, trade)
        return ()

    def _end(self, order: Order, trade: Trade, said: Status, why: str) -> None:
        over = replace(order, said=said, said_filled=order.filled, reason=why)
        since, _ = self._missed.get(order.order_ref, (None, None))
        if order.leg in STOPS and trade.unprotected_at is None:  # it was missed before it was given up
            trade = replace(trade, unprotected_at=since)
        self._book.put(trade.with_order(over))  # settled with all the others, once everything is judged

    def _cancel_first(self, order: Order, trade: Trade, why: str) -> Iterable[After]:
        """Before an entry is called dead its id is cancelled: a held order could otherwise be released later."""
        order = replace(order, reason=order.reason or why)
        self._book.put(trade.with_order(order))
        self._again(timedelta(seconds=1))
        return [lambda: self._cancel(trade.id, order.order_ref, why)]

    def _cancel(self, trade_id: int, order_ref: str, why: str) -> None:
        trade = self._book.trade(trade_id)
        self._orders.cancel(trade, trade.order(order_ref), why)

    def _resend(self, order: Order, trade: Trade) -> Iterable[After]:
        """Send again under the same ids: an entry with all of its bracket, so that it is the same bracket."""
        bracket = trade.state is State.SENDING
        if bracket and order.leg is not Leg.ENTRY:
            return ()
        refs = [o.order_ref for o in trade.live if bracket or o is order]
        self._gate.must_resend(trade.id, self._was_unsent.get(trade.id, self._clock.now()))
        return [lambda: self._send_again(trade.id, refs)]

    def _send_again(self, trade_id: int, refs: list[str]) -> None:
        trade = self._book.trade(trade_id)
        contract = self._sight.contract_of(trade)
        orders = [trade.order(ref) for ref in refs]
        entering = any(order.leg in ENTRIES for order in orders)
        if contract is None or (entering and self._gate.no_entries):  # looked at again until it may go, or is too old
            self._again(timedelta(seconds=1))
            return
        self._gate.resent(trade_id)
        self._orders.send_again(trade, orders, contract)

    def _own_sold(self, found: OwnSold) -> None:
        """What the owner sold of his own is none of the trade's."""
        trade = found.trade
        for fill in found.fills:
            self._book.counted_as_own(fill.exec_root)
        beside = self._book.beside(trade.con_id)
        left = beside - found.quantity.copy_sign(beside)
        self._book.set_beside(trade.con_id, trade.symbol, left)
        text = f"you took out {decimal_text(found.quantity)} of your own {trade.symbol} in TWS; {decimal_text(abs(left))} are left"
        self._book.log("own position", text, symbol=trade.symbol, trade_id=trade.id)

    def _reduced(self, found: Reduced) -> None:
        """What was closed by hand (or in an unknown way) leaves the trade; the rest goes on.

        Of a fraction the rest of its unit leaves too, and is the owner's: no exit could be sent for it.
        """
        trade, now = self._book.trade(found.trade.id), self._clock.now()
        contract = self._sight.contract_of(trade)
        unit = contract.size_step if contract and contract.sec_type != "CASH" else found.quantity
        quantity = min((found.quantity / unit).to_integral_value(ROUND_CEILING) * unit, trade.held)
        held, by_hand = trade.held, found.how is ExitReason.BY_HAND
        for fill in found.fills:
            known = self._book.execution(fill.exec_root)
            if known is not None:
                self._book.attributed(fill.exec_root)
                trade = trade.with_execution(known[0])
        trade = replace(trade, reduced=trade.reduced + quantity, missed_at=trade.missed_at if by_hand else now)
        if quantity == held:
            trade = replace(trade, exit_reason=found.how)
        elif trade.stop_wanted and trade.unprotected_at is None:  # too large a stop, since the difference was seen
            trade = replace(trade, unprotected_at=self._differs_since(trade.con_id) or now)
        self._book.put(trade)
        how = _REDUCED.get(found.how, "in TWS")
        text = f"{quantity} of {held} {trade.symbol} closed {how}"
        self._book.log("reduced by hand" if by_hand else "reduced", text, symbol=trade.symbol, trade_id=trade.id)

    # ---- orders without a trade ----

    def _cancel_orphan(self, found: Orphan) -> Iterable[After]:
        report = found.report
        mine = report.client_id == self._client_id and report.order_id > 0
        known = self._book.find_order(report.order_ref) if found.known and mine else None
        if known is None:
            return ()
        self._again(CANCEL_AGAIN)
        trade, order = known
        if order.cancel_asked_at is not None and abs(self._clock.now() - order.cancel_asked_at) < CANCEL_AGAIN:
            return ()
        self._book.put(trade.with_order(order.with_cancel(self._clock.now())))
        return [lambda: self._outbox.add(lambda: self._broker.cancel(report.order_id))]


def _forgets(snapshot: Snapshot, before: Snapshot | None) -> bool:
    """True if executions that were shown before are not any more."""
    return before is not None and not {f.exec_root for f in before.fills} <= {f.exec_root for f in snapshot.fills}


def _mismatch(found: Resolution) -> Wanted | None:
    """Return the alarm about a position larger or smaller than the journal knows, None for another resolution."""
    match found:
        case MoreThanKnown(trade, quantity):
            text = (
                f"besides the trade, the account holds {decimal_text(quantity)} {trade.symbol} that the journal does not know; "
                "left alone"
            )
            return Wanted(AlarmKind.MISMATCH, str(trade.id), text, trade.symbol, trade.id)
        case LessThanKnown(trade, quantity):
            text = (
                f"the account shows {decimal_text(quantity)} {trade.symbol} less than the trade holds, and nothing explains it "
                "yet: check TWS"
            )
            return Wanted(AlarmKind.MISMATCH, str(trade.id), text, trade.symbol, trade.id)
        case Unknown(symbol, con_id, shown, known):
            text = (
                f"the account shows {decimal_text(shown)} {symbol}, the journal knows of {decimal_text(known)}: entries in "
                f"{symbol} are refused until you ignore or adopt it on the page"
            )
            return Wanted(AlarmKind.MISMATCH, f"contract {con_id}", text, symbol)
    return None


def _orphan(found: Orphan) -> Wanted:
    ref = str(found.report.order_ref)
    if found.copied:
        text = (
            f"another program (client id {found.report.client_id}) has an order at the broker under a reference of ours "
            f"({ref}): it is none of this program's, and nothing is concluded from it. Cancel it in TWS"
        )
        return Wanted(AlarmKind.ORPHAN, ref, text)
    text = f"an order of this program ({ref}) is live at the broker without a trade"
    text += (
        ": it is being cancelled"
        if found.known
        else ", and this journal does not know it: cancel it in TWS, or use the journal that sent it"
    )
    return Wanted(AlarmKind.ORPHAN, ref, text)


def may_be_live(order: Order, snapshot: Snapshot) -> bool:
    """True if an order may be alive at the broker: the snapshot shows it, or was begun before it was sent."""
    shown = (r for r in snapshot.open_under(order.order_ref) if r.status.is_live)
    if any(order.is_meant(r.client_id, r.order_id, r.perm_id) for r in shown):
        return True
    return order.is_live and snapshot.may_lack(order.sent_at)
