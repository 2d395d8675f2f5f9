"""The watch: what must be noticed by the clock, because no message announces it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from common.clock import parse_utc
from common.errors import JournalError

from .trades import Leg, Order, OrderState, State, Trade

if TYPE_CHECKING:
    from .desk import Desk

BLIND = timedelta(seconds=60)  # how long the broker may be unseen while a position is held
STUCK = timedelta(seconds=60)  # how long beyond its validity a signal may go without an outcome
LOOK_ROUND = timedelta(minutes=10)  # a complete snapshot at least this often, whatever happens
MISMATCH = timedelta(seconds=2)  # how long a position may disagree with the executions before it is looked up
CLOSE_WAITS = timedelta(seconds=10)
EXPIRED_SHOWN = timedelta(minutes=15)


class Watch:
    """Called by the desk's tick. It raises and clears alarms, and asks for snapshots."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._blind_since: datetime | None = None
        self._looked_at: datetime | None = None
        self._differs_since: dict[int, datetime] = {}  # trade id → since when its position disagrees

    def tick(self) -> None:
        """Look at everything that time alone can make wrong."""
        now = self._desk.clock.now()
        self._storage()
        self._blindness(now)
        self._stuck_signals(now)
        if self._desk.ready_since is not None:
            self._snapshots(now)
            self._waiting_closes(now)

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
        """A position that disagrees with our executions for a while is looked up: somebody traded by hand."""
        beside = self._desk.journal.ignored()
        for trade in self._desk.journal.unfinished():
            known = beside.get((trade.account, trade.con_id), 0) + trade.signed
            if trade.state is State.HOLD or self._desk.shown(trade.con_id) == known:
                self._differs_since.pop(trade.id, None)
            elif (
                now - self._differs_since.setdefault(trade.id, now) >= MISMATCH
                and self._desk.resolver.recheck_at is None
            ):
                self._differs_since[trade.id] = now + LOOK_ROUND  # once; what is left of it is an alarm by then
                self._desk.want_snapshot(f"the position in {trade.symbol} differs from the trade")

    def _blindness(self, now: datetime) -> None:
        if self._desk.ready_since is not None:
            self._blind_since = None
            self._desk.alarms.clear("broker blind", "", "the broker is seen again, and everything was read")
            return
        self._blind_since = self._blind_since or now
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
        standing = desk.journal.standing_alarms()
        undone = {r.signal_id for r in desk.journal.undone()} if standing else set()
        for alarm in standing:
            about = alarm["key"].partition(":")[2]
            if alarm["kind"] == "stuck signal" and about not in undone:
                desk.alarms.clear("stuck signal", about, "the signal has its outcome")
            if alarm["kind"] == "expired signal" and utc_age(alarm["raised_at"], now) >= EXPIRED_SHOWN:
                desk.alarms.clear("expired signal", about, "said for 15 minutes; nothing to do")

    def _waiting_closes(self, now: datetime) -> None:
        for trade in self._desk.journal.unfinished():
            close = _waiting_close(trade)
            if close is not None and close.sent_at is not None and now - close.sent_at >= CLOSE_WAITS:
                text = f"the close of {trade.symbol} waits at the broker: {close.held or 'not filled yet (is the market closed?)'}"
                self._desk.alarms.raise_("close waits", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id)

    # ---- the journal itself ----

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
        """Raise the alarm of a stopped desk, where the journal still takes it."""
        try:
            self._desk.alarms.raise_(cause, "", f"no order is sent: {text}")
        except JournalError:
            return  # the log has said it; `_storage` tries again


def _waiting_close(trade: Trade) -> Order | None:
    return next((o for o in trade.legs(Leg.CLOSE) if o.state is OrderState.WORKING), None)


def utc_age(text: str, now: datetime) -> timedelta:
    """Return how long ago a journal instant was."""
    return now - parse_utc(text)
