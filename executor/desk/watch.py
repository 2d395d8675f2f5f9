"""The watch: what only the clock can reveal, because no message announces it, and that is not about a single trade."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from common.clock import Clock
from common.errors import JournalError
from executor.core.conditions import AlarmKind
from executor.core.orders import ZERO
from executor.core.outcomes import StopCause
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.desk.gate import Gate
from executor.desk.sight import Sight
from executor.journal.journal import Journal

BLIND = timedelta(seconds=60)  # how long the broker may be unseen while a position is held
LOOK_ROUND = timedelta(minutes=10)  # take a complete snapshot at least this often
STEADY = timedelta(seconds=5)  # how long the broker must be visible again before it counts as visible
MISMATCH = timedelta(seconds=2)  # how long a position may disagree with the executions before it is looked up
_STOPS = {StopCause.STORAGE: AlarmKind.STORAGE, StopCause.PROGRAM: AlarmKind.PROGRAM}


class Watch:
    """Called by the desk's tick: each check costs the same, however many trades are open."""

    def __init__(self, book: Book, gate: Gate, sight: Sight, alarms: Alarms, journal: Journal, clock: Clock) -> None:
        self._book, self._gate, self._sight, self._alarms = book, gate, sight, alarms
        self._journal, self._clock = journal, clock
        self._blind_since: datetime | None = None
        self._looked_at: datetime | None = None
        self.unwritten: str | None = None  # an alarm that the journal did not take
        # parts of the page that failed in an earlier run, and not yet in this one
        self._failed_before = {a.about for a in book.alarms() if a.kind is AlarmKind.PROGRAM and a.about}
        self._looked: dict[int, Decimal] = {}  # conId → what was unexplained in it when everything was last read
        self._stands: dict[int, tuple[Decimal, datetime]] = {}  # conId → what is unexplained in it now, and since when

    def tick(self, recheck_at: datetime | None) -> bool:
        """Check everything that time alone can make wrong; True if the snapshot due at `recheck_at` was requested."""
        now = self._clock.now()
        self._storage()
        self._blindness(now)
        self._alarms.told(now)
        if self._gate.ready_since is None:
            return False
        self._positions(now, recheck_at)
        self._look_round(now)
        if recheck_at is not None and now >= recheck_at:
            self._gate.want_snapshot("a difference is being confirmed")
            return True
        return False

    def _look_round(self, now: datetime) -> None:
        if self._looked_at is None or now - self._looked_at >= LOOK_ROUND:
            if self._looked_at is not None:
                self._gate.want_snapshot("the regular check")
            self._looked_at = now

    # ---- positions ----

    def changed(self, con_id: int) -> None:
        """Something happened in a contract: note since when the account shows in it what nothing explains."""
        if not self._book.trades_in(con_id):
            return
        unexplained = self._sight.unexplained(con_id)
        stands, _ = self._stands.get(con_id, (ZERO, None))
        if unexplained == ZERO and self._looked.get(con_id, ZERO) == ZERO:
            self._stands.pop(con_id, None)
        elif con_id not in self._stands or stands != unexplained:
            self._stands[con_id] = unexplained, self._clock.now()

    def _positions(self, now: datetime, recheck_at: datetime | None) -> None:
        """Look up, once, what changed in the account without an execution of ours: somebody traded, or TWS did not report it."""
        changed = {
            con_id: quantity
            for con_id, (quantity, since) in self._stands.items()
            if now - since >= MISMATCH and quantity != self._looked.get(con_id, ZERO)
        }
        if changed and recheck_at is None:
            self._looked |= changed
            self._gate.want_snapshot("the account shows something that no execution of ours explains")
        elif self._sight.counts_late():
            self._gate.want_snapshot("TWS has not reported the position since our last execution")

    def stands_since(self, con_id: int) -> datetime | None:
        """Return since when the account shows what it shows unexplained in a contract, None where it shows nothing so."""
        found = self._stands.get(con_id)
        return found[1] if found and found[0] == self._sight.unexplained(con_id) else None

    def looked(self) -> None:
        """Everything was read, and what the account shows was judged by it."""
        self._looked = self._sight.all_unexplained()
        for con_id in {*self._stands, *self._looked}:
            self.changed(con_id)

    # ---- conditions that are about no single trade ----

    def _blindness(self, now: datetime) -> None:
        ready = self._gate.ready_since
        if ready is not None and now - ready >= STEADY:
            self._blind_since = None
            self._alarms.state(AlarmKind.BROKER_BLIND, None)
        elif ready is None:
            self._blind_since = min(self._blind_since or now, now)
        if ready is not None or self._blind_since is None or now - self._blind_since < BLIND:
            return
        if held := [t.symbol for t in self._book.unfinished() if t.held]:
            since, symbols = f"{self._blind_since:%H:%M:%S} UTC", ", ".join(held)
            text = f"no complete view of TWS since {since}, while holding {symbols}: {self._gate.mode_text}"
            self._alarms.state(AlarmKind.BROKER_BLIND, text)

    # ---- the program and its journal ----

    def began(self) -> None:
        """Everything has been read: an earlier run's failure is over, unless it persists."""
        for cause, kind in _STOPS.items():
            if cause not in self._gate.causes:
                self._alarms.state(kind, None, over="the program is running again, and everything has been read")
        for about in self._failed_before:  # a button may never be pressed again to show that it works
            self._alarms.state(AlarmKind.PROGRAM, None, about, over="the program was restarted")

    def _storage(self) -> None:
        """Try to write after a failure; once it works, everything is read again before anything is sent."""
        if StopCause.STORAGE not in self._gate.causes:
            return
        try:
            self._journal.publish("storage", "written again")
        except JournalError:
            return
        self._gate.forbid(StopCause.STORAGE, None)
        self.unwritten = None
        self._alarms.state(AlarmKind.STORAGE, None)
        self._gate.disconnected("the journal could not be written for a while: rereading everything")
        self._gate.want_snapshot("the journal can be written again")

    def tell_stop(self, cause: StopCause, text: str) -> None:
        """Raise the alarm of a stopped desk, which the journal may no longer take."""
        text = f"no order is sent: {text}"
        try:
            self._alarms.state(_STOPS[cause], text)
        except JournalError:
            self.unwritten = text  # the notifier sends it all the same; `_storage` retries

    def tell_page(self, what: str, words: str | None) -> None:
        """Report in words that part of the status page fails; None: it works again. No order stops for it."""
        about = f"page {what}"
        self._failed_before.discard(about)
        text = None if words is None else f"the status page fails at {what}; trading continues: {words}"
        self._alarms.state(AlarmKind.PROGRAM, text, about, over=f"the status page works again at {what}")
