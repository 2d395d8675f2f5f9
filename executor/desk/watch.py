"""The watch: what must be noticed by the clock, because no message announces it."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from common.clock import parse_utc
from common.errors import JournalError
from executor.core.steps import seconds_seen
from executor.core.trades import ZERO, Leg, Order, OrderState, State, Trade

if TYPE_CHECKING:
    from executor.desk.desk import Desk

BLIND = timedelta(seconds=60)  # how long the broker may be unseen while a position is held
STUCK = timedelta(seconds=60)  # how long beyond its validity a signal may go without an outcome
LOOK_ROUND = timedelta(minutes=10)  # a complete snapshot at least this often, whatever happens
STEADY = timedelta(seconds=5)  # how long the broker must be seen again before it counts as seen
MISMATCH = timedelta(seconds=2)  # how long a position may disagree with the executions before it is looked up
CLOSE_WAITS = timedelta(seconds=10)
SHOWN = timedelta(minutes=15)  # how long an alarm stands that only tells


class Watch:
    """Called by the desk's tick. It raises and clears alarms, and asks for snapshots."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._blind_since: datetime | None = None
        self._looked_at: datetime | None = None
        self.unwritten: str | None = None  # an alarm that the journal did not take
        self._looked: dict[int, Decimal] = {}  # conId → what was unexplained in it when everything was last read
        self._stands: dict[tuple[int, Decimal], datetime] = {}  # (conId, what is unexplained now) → since when
        self._amiss: dict[int, datetime] = {}  # trade id → since when its exits are too large, or its stop missing
        self._without_target: dict[int, datetime] = {}  # trade id → since when its take-profit is refused

    def tick(self) -> None:
        """Look at everything that time alone can make wrong."""
        now = self._desk.clock.now()
        self._storage()
        self._blindness(now)
        self._stuck_signals(now)
        self._told(now)
        if self._desk.ready_since is not None:
            self._snapshots(now)
            self._waiting_closes(now)
            self._exits(now)
            self._bare()
            self._take_profits(now)
            self._large_exits(now)
            self._day_orders()

    def _snapshots(self, now: datetime) -> None:
        recheck = self._desk.resolver.recheck_at
        if recheck is not None and now >= recheck:
            self._desk.resolver.recheck_at = now + MISMATCH
            self._desk.want_snapshot("a difference is being confirmed")
        if self._looked_at is None or now - self._looked_at >= LOOK_ROUND:
            if self._looked_at is not None:
                self._desk.want_snapshot("the regular look")
            self._looked_at = now
        self._positions(now)

    def _positions(self, now: datetime) -> None:
        """What changed in the account without an execution of ours is looked up, once: somebody traded, or TWS kept silent."""
        ours, unexplained = self._desk.journal.our_contracts(), self._desk.unexplained()
        self._stands = {each: self._stands.get(each, now) for each in unexplained.items() if each[0] in ours}
        changed = {
            c: q for (c, q), since in self._stands.items() if now - since >= MISMATCH and q != self._looked.get(c, ZERO)
        }
        if changed and self._desk.resolver.recheck_at is None:
            self._looked |= changed
            self._desk.want_snapshot("the account shows what no execution of ours explains")
        elif self._desk.counts_late():
            self._desk.want_snapshot("TWS has not told the position since an execution of ours")

    def stands_since(self, con_id: int) -> datetime | None:
        """Return since when the account shows what it shows unexplained in a contract, None where it shows nothing so."""
        return self._stands.get((con_id, self._desk.unexplained().get(con_id, ZERO)))

    def looked(self) -> None:
        """Everything was read, and what the account shows was judged by it."""
        self._looked = self._desk.unexplained()

    def _exits(self, now: datetime) -> None:
        """Remember since when exits and position do not fit, one way or the other: the owner is told within one time."""
        amiss = {t.id: t.unprotected_at for t in self._desk.journal.unfinished() if t.unprotected_at or self._larger(t)}
        self._amiss = {i: min(self._amiss.get(i, now), since or now) for i, since in amiss.items()}

    def _large_exits(self, now: datetime) -> None:
        """An exit that would trade more than the account shows of its trade is said, if no look has settled it in time."""
        desk = self._desk
        large = {t.id: t for t in desk.journal.unfinished() if t.state is not State.HOLD and self._larger(t)}
        for trade_id, trade in large.items():
            if self._lasts(self._amiss.get(trade_id, now), now):
                words = " and the ".join(o.leg.word for o in self._larger(trade))
                text = (
                    f"{trade.symbol}: the {words} would trade more than the {desk.shown_of(trade)} that the account shows of "
                    f"the trade's {trade.held}, and TWS has not told why yet: look in TWS"
                )
                desk.alarms.raise_("exit too large", str(trade_id), text, symbol=trade.symbol, trade_id=trade_id)
        for about in desk.alarms.standing("exit too large") - {str(trade_id) for trade_id in large}:
            desk.alarms.clear("exit too large", about, "the exits fit what the account shows, or the trade is on hold")

    def _larger(self, trade: Trade) -> list[Order]:
        if not trade.entry_is_done:
            return []  # its exits wait for it
        shown = max(self._desk.shown_of(trade), ZERO)
        return [order for order in trade.live_exits if order.remaining > shown]

    def _day_orders(self) -> None:
        """An exit that the broker keeps for the day only is said while there is time to mend it."""
        desk, kind = self._desk, "day order"
        ending = {str(t.id): (t, o) for t in desk.journal.unfinished() for o in t.live_exits if o.ends_today}
        for about, (trade, order) in ending.items():
            text = (
                f"{trade.symbol}: TWS keeps the {order.leg.word} for today only ({order.tif}, not GTC): set it to GTC in TWS, "
                "and take the time in force out of the presets (Global Configuration, Presets)"
            )
            desk.alarms.raise_(kind, about, text, symbol=trade.symbol, trade_id=trade.id)
        for about in desk.alarms.standing(kind) - ending.keys():
            desk.alarms.clear(kind, about, "no exit ends with the day")

    def _lasts(self, since: datetime, now: datetime) -> bool:
        """Whether something stands so long, as far as the broker was seen, that its owner must be told."""
        return seconds_seen(since, self._desk.ready_since, now) >= self._desk.policy.alarm_seconds

    def _blindness(self, now: datetime) -> None:
        ready = self._desk.ready_since
        if ready is not None and now - ready >= STEADY:
            self._blind_since = None
            self._desk.alarms.clear("broker blind", "", "the broker is seen again, and everything was read")
        elif ready is None:
            self._blind_since = min(self._blind_since or now, now)
        if ready is not None or self._blind_since is None:
            return
        held = [t.symbol for t in self._desk.journal.unfinished() if t.held]
        if held and now - self._blind_since >= BLIND:
            since, symbols = f"{self._blind_since:%H:%M:%S} UTC", ", ".join(held)
            text = f"the broker cannot be seen since {since} while {symbols} are held: {self._desk.mode_text}"
            self._desk.alarms.raise_("broker blind", "", text)

    def _stuck_signals(self, now: datetime) -> None:
        desk = self._desk
        for row in desk.journal.undone():
            seen_since = max(row.received_at, desk.ready_since) if desk.ready_since else now
            if row.state == "waiting" and now - seen_since > desk.policy.validity + STUCK:
                text = (
                    f"{row.signal.action.value} {row.signal.symbol} is still waiting: {row.reason or 'no reason known'}"
                )
                desk.alarms.raise_("stuck signal", row.signal_id, text, symbol=row.signal.symbol)
        for about in desk.alarms.standing("stuck signal") - {r.signal_id for r in desk.journal.undone()}:
            of = desk.journal.signal_of(about)
            desk.alarms.clear(
                "stuck signal", about, "the signal has its outcome", symbol=of.signal.symbol if of else ""
            )

    def _told(self, now: datetime) -> None:
        """End the alarms that only tell something, once it was said for a while and nothing is left to do."""
        for alarm in self._desk.journal.standing_alarms():
            kind, symbol = alarm["kind"], alarm["symbol"]
            if kind not in ("expired signal", "unknown exit") or now - parse_utc(alarm["raised_at"]) < SHOWN:
                continue
            if kind == "expired signal" or self._desk.journal.block(self._desk.account, 0, symbol) is None:
                self._desk.alarms.clear(kind, alarm["key"].partition(":")[2], "said for a while; nothing is left to do")

    def _take_profits(self, now: datetime) -> None:
        """A take-profit that was refused is said; one that the owner cancelled himself is in the trade log only."""
        for trade in self._desk.journal.unfinished():
            refused = next((o for o in trade.legs(Leg.TAKE_PROFIT) if o.state is OrderState.REJECTED), None)
            if refused is None or trade.state is not State.OPEN or trade.held <= 0:
                self._without_target.pop(trade.id, None)
            elif self._lasts(self._without_target.setdefault(trade.id, now), now):
                text = f"{trade.symbol}: the take-profit is not at the broker ({refused.reason or 'refused'}): close it yourself"
                self._desk.alarms.raise_(
                    "take-profit lost", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id
                )

    def _waiting_closes(self, now: datetime) -> None:
        for trade in self._desk.journal.unfinished():
            since, what = _waits(trade)
            if seconds_seen(since, self._desk.ready_since, now) >= CLOSE_WAITS.total_seconds():
                text = f"the close of {trade.symbol} waits at the broker: {what}"
                self._desk.alarms.raise_("close waits", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id)

    def _bare(self) -> None:
        """A position may be bare for a while: between two parts of its entry, or of its close. A long while is said."""
        for trade in self._desk.journal.unfinished():
            why = _BARE.get(trade.state)
            if why and self._desk.shown_of(trade) > 0:
                self.tell_bare(trade, why)

    def tell_bare(self, trade: Trade, why: str) -> None:
        """Say that a trade has been without its stop for too long, if it has."""
        since = trade.unprotected_at and min(trade.unprotected_at, self._amiss.get(trade.id, trade.unprotected_at))
        if since and self._lasts(since, self._desk.clock.now()):
            text = f"{trade.symbol}: {trade.held} stand WITHOUT a stop-loss: {why}"
            self._desk.alarms.raise_("unprotected", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id)

    # ---- the program and its journal ----

    def began(self) -> None:
        """Everything was read anew: what an earlier run of the program stumbled over is over, unless it still stands."""
        for cause in ("program", "storage"):
            if cause not in self._desk.causes:
                self._desk.alarms.clear(cause, "", "the program runs again, and everything was read anew")

    def _storage(self) -> None:
        """Try to write after a failure; when it works again, everything is read anew before anything is sent."""
        desk = self._desk
        if "storage" not in desk.causes:
            return
        try:
            desk.journal.publish("storage", "written again")
        except JournalError:
            return
        desk.forbid("storage", None)
        self.unwritten = None
        desk.alarms.clear("storage", "", "the journal can be written again")
        desk.disconnected("the journal could not be written for a while: reading everything again")
        desk.want_snapshot("the journal can be written again")

    def tell_unknown_contract(self, symbol: str, con_id: int, answer: str) -> None:
        """Say of an open trade that nothing can be ordered in its contract."""
        trade = self._desk.journal.open_trade(self._desk.account, con_id)
        if trade is not None:
            text = f"{symbol}: TWS does not tell the contract {con_id} of the open trade, so nothing can be ordered in it: {answer}"
            self._desk.alarms.raise_("contract", str(trade.id), text, symbol=symbol, trade_id=trade.id)

    def tell_stop(self, cause: str, text: str) -> None:
        """Raise the alarm of a stopped desk, which the journal may no longer take."""
        text = f"no order is sent: {text}"
        try:
            self._desk.alarms.raise_(cause, "", text)
        except JournalError:
            self.unwritten = text  # the notifier tells it all the same; `_storage` tries again


_BARE = {
    State.HOLD: "it is on hold, and its stop-loss does not work",
    State.WORKING: "its entry fills in parts, and the stop-loss does not work yet",
    State.CANCELLING: "cancelled for a close that is not through",
    State.CLOSING: "cancelled for a close that is not through",
}


def _waits(trade: Trade) -> tuple[datetime | None, str]:
    """Return since when a close waits at the broker, and for what; None where none does."""
    if trade.state is State.CANCELLING:
        asked = [(o.cancel_asked_at, o.leg.word) for o in trade.live if o.cancel_asked_at is not None]
        since, leg = min(asked, default=(None, ""))
        return since, f"its {leg} is not cancelled yet"
    entry = trade.entry
    if trade.state is State.WORKING and entry is not None and entry.cancel_asked_at is not None:
        return entry.cancel_asked_at, "its entry is to be cancelled, and is not yet"
    close = next((o for o in trade.legs(Leg.CLOSE) if o.state is OrderState.WORKING), None)
    if close is None:
        return None, ""
    return close.sent_at, close.held or "not filled yet (is the market closed?)"
