"""Carries out what `reconcile` found: the journal is brought up to date by a complete snapshot, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING
from typing import TYPE_CHECKING

from common.errors import BrokerUnavailable
from common.logs import get_logger
from common.signals import decimal_text
from executor.core.ports import Fill, Snapshot, Status
from executor.core.reconcile import (
    Books,
    LessThanKnown,
    MoreThanKnown,
    OrderResolution,
    Orphan,
    Reduced,
    Resolution,
    Unexplained,
    Unknown,
    Verdict,
    differing,
    reconcile,
)
from executor.core.steps import CANCEL_AGAIN
from executor.core.trades import STOPS, ZERO, Event, Leg, Order, OrderState, State, Trade

if TYPE_CHECKING:
    from executor.desk.desk import Desk

log = get_logger(__name__)

RESENT = timedelta(seconds=5)  # how long others wait for an order that is to be sent again
SETTLE = timedelta(seconds=2)  # a difference must stand this long, equally, before something is made of it
BELIEVE = timedelta(seconds=30)  # and this long, where nothing explains it: TWS tells positions late
LATER = timedelta(seconds=5)  # between two looks at a difference that stands
After = Callable[[], None]


class Resolver:
    """Apply snapshots to the journal. What must be sent because of one is returned, to be done when all is committed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._journal = desk.journal
        self._seen: dict[tuple[int, object], datetime] = {}  # (conId, difference) → since when
        self._agreed: dict[
            int, tuple[str, datetime]
        ] = {}  # conId of an unfinished trade → when account and journal last agreed
        self._hidden_before: datetime | None = None  # executions of before then may be gone: some that were shown are
        self._missed: dict[
            str, tuple[datetime, str | None]
        ] = {}  # a working order that is not shown → since when, last seen
        self._unsent: dict[int, datetime] = {}  # trade id → since when an order of it is to be sent again
        self._was_unsent: dict[int, datetime] = {}  # the same, as of the snapshot before
        self.recheck_at: datetime | None = None  # when another snapshot is wanted to confirm this one
        self.last: Snapshot | None = None

    def apply(self, snapshot: Snapshot) -> list[After]:
        """Record the snapshot's facts, then what follows from them.

        Returns:
            What is to be sent now that everything is committed.
        """
        before = self.last
        self.last, self.recheck_at = snapshot, None
        self._was_unsent, self._unsent = self._unsent, {}
        with self._journal.transaction():
            self._record(snapshot)
            self._forget_unproven_cancels()
            books = self._books(snapshot, before)
            found = reconcile(books, snapshot)
            after = [a for r in found for a in self._apply(r)]
            self._clear(
                "position mismatch",
                {about for r in found if (about := _mismatch(r))},
                "journal and account agree again, or the trade is on hold",
            )
            orphans = {str(r.report.order_ref) for r in found if isinstance(r, Orphan)}
            self._clear("orphan", orphans, "the order is no longer at the broker")
            for trade in books.trades:
                self._desk.life.refresh(trade.id)
        return after

    def _record(self, snapshot: Snapshot) -> None:
        recorder = self._desk.recorder
        for fill in sorted(snapshot.fills, key=lambda f: (f.at, f.exec_id)):
            if fill.account == self._desk.account:
                recorder.fill(fill)
                if fill.commission is not None:
                    self._journal.record_commission(fill.exec_id, fill.commission)
        for report in (*snapshot.completed_orders, *snapshot.open_orders):
            recorder.report(report)

    def _forget_unproven_cancels(self) -> None:
        """A cancel noted on an earlier connection may never have left: an entry that was not seen is cancelled again."""
        if self._desk.ready_since is not None:
            return
        for trade in self._journal.unfinished():
            entry = trade.entry
            if entry is not None and entry.state is OrderState.SENDING and entry.cancel_asked_at is not None:
                self._journal.change_order(entry.order_ref, cancel_asked_at=None)

    def _books(self, snapshot: Snapshot, before: Snapshot | None) -> Books:
        now = self._desk.clock.now()
        trades = tuple(self._journal.unfinished())
        refs = {r.order_ref for r in snapshot.open_orders if r.order_ref}
        known = frozenset(r for r in refs if self._journal.find_order(order_ref=r))
        foreign = tuple(f for f in snapshot.fills if not self._journal.is_attributed(f.exec_root))
        if _forgets(snapshot, before):
            self._hidden_before = snapshot.taken_at
        ready, patience = self._desk.ready_since, timedelta(seconds=self._desk.policy.inflight_seconds)
        arrived = None if ready is None else max(ready, now - patience)  # of another connection nothing is under way
        books = Books(
            now, trades, known, foreign, self._journal.ignored(), frozenset(), arrived=arrived,
            missed=self._missing(trades, snapshot, before.day if before else None), hidden_before=self._hidden_before,
            account=self._desk.account, contracts=self._journal.our_contracts(),
        )  # fmt: skip
        return self._with_looks(books, snapshot)

    def _missing(self, trades: Iterable[Trade], snapshot: Snapshot, seen_day: str | None) -> dict[str, str | None]:
        """Return the working orders that were missing before: TWS may need a moment to list them. And when they were seen."""
        now, shown = self._desk.clock.now(), {r.order_ref for r in snapshot.open_orders}
        missing = [
            o.order_ref for t in trades for o in t.live if o.state is OrderState.WORKING and o.order_ref not in shown
        ]
        if self._desk.ready_since is None:  # a new connection's first look is never the second one
            self._missed = {ref: (now, day) for ref, (_, day) in self._missed.items()}
        self._missed = {ref: self._missed.get(ref, (now, seen_day)) for ref in missing}
        return {ref: day for ref, (since, day) in self._missed.items() if abs(now - since) >= SETTLE}

    def _with_looks(self, books: Books, snapshot: Snapshot) -> Books:
        """Add what was seen before: how long each difference stands, and ask for another look where it is not believed."""
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
        believed = self._stood(now, BELIEVE)
        if len(believed) < len(current):
            self._again(SETTLE if len(settled) < len(current) else LATER)
        days = {con_id: day for con_id, (day, _) in self._agreed.items()}
        return replace(books, settled=settled, believed=believed, agreed=days, hidden=hidden)

    def _again(self, delay: timedelta) -> None:
        """Have everything read once more after a while, or sooner where that is wanted already."""
        at = self._desk.clock.now() + delay
        self.recheck_at = at if self.recheck_at is None else min(at, self.recheck_at)

    def _stood(self, now: datetime, long: timedelta) -> frozenset[int]:
        return frozenset(con_id for (con_id, _), since in self._seen.items() if now - since >= long)

    def _clear(self, kind: str, found: set[str], text: str) -> None:
        """End the alarms of a kind whose cause was not found again."""
        for about in self._desk.alarms.standing(kind) - found:
            self._desk.alarms.clear(kind, about, text)

    # ---- one resolution ----

    def _apply(self, resolution: Resolution) -> Iterable[After]:
        match resolution:
            case OrderResolution():
                return self._order(resolution)
            case Reduced():
                self._reduced(resolution)
            case Unexplained(trade, why):
                self.hold(trade, why)
            case MoreThanKnown(trade, quantity):
                text = f"the account holds {quantity} {trade.symbol} beside the trade that the journal does not know; left alone"
                self._tell_mismatch(resolution, text, trade.symbol, trade.id)
            case LessThanKnown(trade, quantity):
                text = (
                    f"the account shows {quantity} {trade.symbol} less than the trade holds, and nothing explains it yet: "
                    "look in TWS"
                )
                self._tell_mismatch(resolution, text, trade.symbol, trade.id)
            case Unknown(symbol, _, shown, known):
                text = (
                    f"the account shows {decimal_text(shown)} {symbol}, the journal knows of {decimal_text(known)}: entries in "
                    f"{symbol} are refused until you choose on the page to ignore or to adopt it"
                )
                self._tell_mismatch(resolution, text, symbol)
            case Orphan():
                return self._orphan(resolution)
        return ()

    def _tell_mismatch(self, found: Resolution, text: str, symbol: str, trade_id: int | None = None) -> None:
        self._desk.alarms.raise_("position mismatch", _mismatch(found), text, symbol=symbol, trade_id=trade_id)

    def _order(self, found: OrderResolution) -> Iterable[After]:
        order, trade = found.order, found.trade
        log.info("order_looked_up", symbol=trade.symbol, leg=order.leg.word, verdict=found.verdict.value, why=found.why)
        match found.verdict:
            case Verdict.GONE:
                self._end(order, trade, Status.CANCELLED, found.why)
            case Verdict.DEAD:
                self._end(order, trade, Status.INACTIVE, found.why)
            case Verdict.HOLD:
                self.hold(trade, f"{order.leg.word}: {found.why}")
            case Verdict.WAIT:
                self._again(SETTLE)
            case Verdict.CANCEL_FIRST:
                return self._cancel_first(order, trade, found.why)
            case Verdict.RESEND:
                return self._resend(order, trade)
        return ()

    def _end(self, order: Order, trade: Trade, said: Status, why: str) -> None:
        self._journal.change_order(order.order_ref, said=said.value, said_filled=order.filled, reason=why)
        if order.leg in STOPS and trade.unprotected_at is None:  # it was missed before it was given up
            since, _ = self._missed.get(order.order_ref, (None, None))
            self._journal.change_trade(trade.id, unprotected_at=since)

    def _cancel_first(self, order: Order, trade: Trade, why: str) -> Iterable[After]:
        """Before an entry is called dead its id is cancelled: a held order could otherwise be released later."""
        self._journal.change_order(order.order_ref, reason=order.reason or why)
        self._again(timedelta(seconds=1))
        return [lambda: self._desk.dispatch.cancel(trade, order, why)]

    def _resend(self, order: Order, trade: Trade) -> Iterable[After]:
        """Send again under the same ids: an entry with all of its bracket, so that it is the same bracket."""
        bracket = trade.state is State.SENDING
        if bracket and order.leg is not Leg.ENTRY:
            return ()
        orders = [o for o in trade.live if bracket or o is order]
        self._unsent[trade.id] = self._was_unsent.get(trade.id, self._desk.clock.now())
        return [lambda: self._send_again(trade, orders)]

    @property
    def resends(self) -> bool:
        """Whether an order is about to be sent again: a higher id before it, and TWS would refuse its own (code 103)."""
        now = self._desk.clock.now()
        return any(now - since < RESENT for since in self._unsent.values())

    def _send_again(self, trade: Trade, orders: list[Order]) -> None:
        contract = self._desk.contract_of(trade)
        entering = any(order.leg is Leg.ENTRY for order in orders)
        if contract is None or (entering and self._desk.no_entries):  # looked at again until it may go, or is too old
            self._again(timedelta(seconds=1))
            return
        self._unsent.pop(trade.id, None)
        with self._journal.transaction():
            for order in orders:
                self._journal.change_order(
                    order.order_ref,
                    resends=order.resends + 1,
                    sent_at=self._desk.clock.now(),
                    sent_day=self._desk.broker.day,
                )
            text = f"{', '.join(o.leg.word for o in orders)} sent again under the same id: never arrived at the broker"
            self._journal.log("sent again", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)
        try:
            self._desk.dispatch.send_all(self._journal.trade(trade.id), contract, {o.order_ref for o in orders})
        except BrokerUnavailable as exc:
            self._desk.disconnected(f"TWS is gone: {exc}")

    def _reduced(self, found: Reduced) -> None:
        """What the owner took out by hand (or nobody can name) leaves the trade; the rest goes on.

        Of a fraction the rest of its unit leaves too, and is the owner's: no exit could be sent for it.
        """
        trade = found.trade
        contract = self._desk.contract_of(trade)
        unit = contract.size_step if contract and contract.sec_type != "CASH" else found.quantity
        quantity = min((found.quantity / unit).to_integral_value(ROUND_CEILING) * unit, trade.held)
        for fill in found.fills:
            self._journal.attribute_fill(fill.exec_root, trade.id)
        columns: dict[str, object] = {"reduced": trade.reduced + quantity}
        if quantity == trade.held:
            columns["exit_reason"] = found.how
        elif trade.stop_wanted and trade.unprotected_at is None:  # too large a stop, since the difference was seen
            now = self._desk.clock.now()
            columns["unprotected_at"] = self._desk.watch.stands_since(trade.con_id) or now
        self._journal.change_trade(trade.id, **columns)
        how = "in a way that can no longer be read" if found.how == "unknown" else f"in TWS, {found.how}"
        text = f"{quantity} of {trade.held} {trade.symbol} were taken out {how}"
        self._journal.log(
            "reduced by hand" if found.how == "by hand" else "reduced", text, symbol=trade.symbol, trade_id=trade.id
        )

    def _orphan(self, found: Orphan) -> Iterable[After]:
        report = found.report
        text = f"an order of this program ({report.order_ref}) is live at the broker without a trade"
        text += (
            ": it is being cancelled"
            if found.known
            else ", and this journal does not know it: cancel it in TWS, or use the journal that made it"
        )
        self._desk.alarms.raise_("orphan", str(report.order_ref), text)
        mine = report.client_id == self._desk.client_id and report.order_id > 0
        if not (found.known and mine):
            return []
        self._again(CANCEL_AGAIN)
        if self._asked_lately(str(report.order_ref)):
            return []
        self._journal.change_order(str(report.order_ref), cancel_asked_at=self._desk.clock.now())
        return [lambda: self._desk.broker.cancel(report.order_id)]

    def _asked_lately(self, ref: str) -> bool:
        found = self._journal.find_order(order_ref=ref)
        asked = found[1].cancel_asked_at if found else None
        return asked is not None and abs(self._desk.clock.now() - asked) < CANCEL_AGAIN

    # ---- hold ----

    def hold(self, trade: Trade, why: str) -> None:
        """Put a trade on hold: it is frozen, its owner told, the evidence kept."""
        if trade.state is State.HOLD or self._journal.trade(trade.id).state is State.HOLD:
            return
        evidence = json.dumps(self._evidence(trade), default=str)
        self._desk.life.move(trade, Event.DOUBT, hold_reason=why, evidence=evidence)

    def _evidence(self, trade: Trade) -> dict[str, object]:
        """Collect what was seen, for the owner's eyes: the journal's orders, and the broker's side of the same contract."""
        last = self.last
        fills: tuple[Fill, ...] = last.fills if last else ()
        return {
            "journal says held": trade.held,
            "account shows": last.position(trade.account, trade.con_id) if last else ZERO,
            "orders": [o.summary for o in trade.orders],
            "open at the broker": [asdict(r) for r in (last.open_orders if last else ()) if r.con_id == trade.con_id],
            "executions today": [asdict(f) for f in fills if f.con_id == trade.con_id],
            "read at": last.taken_at if last else None,
        }


def _forgets(snapshot: Snapshot, before: Snapshot | None) -> bool:
    """Whether executions that were shown before are not any more."""
    return before is not None and not {f.exec_root for f in before.fills} <= {f.exec_root for f in snapshot.fills}


def _mismatch(found: Resolution) -> str:
    """Return what an alarm of a position that is more than the journal knows is about, "" for another resolution."""
    match found:
        case MoreThanKnown(trade) | LessThanKnown(trade):
            return str(trade.id)
        case Unknown(_, con_id):
            return f"contract {con_id}"
    return ""


def may_be_live(order: Order, snapshot: Snapshot) -> bool:
    """Whether an order may be alive at the broker: the snapshot shows it, or was begun before it was sent."""
    if any(r.order_ref == order.order_ref and r.status.is_live for r in snapshot.open_orders):
        return True
    return order.is_live and snapshot.may_lack(order.sent_at)
