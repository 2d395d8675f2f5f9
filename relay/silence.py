"""The watch over the executor: when no executor fetches alerts any more, the owner is alerted.

Only the relay can notice that the machine at home is off. It runs in a thread of its own and touches
nothing that an alert or a poll waits for.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Thread

from common.channels import Channels
from common.errors import QueueError
from common.logs import get_logger
from relay.context import Relay
from relay.pending.base import Stats

log = get_logger(__name__)
LOOK_EVERY_SECONDS = 5.0
REPEAT_SECONDS = 3600.0
RETRY_SECONDS = 60.0  # for what no channel took
MOST_DEAD = 10_000  # dead letters of one look
RECENT = timedelta(minutes=10)  # what died so long before the last look was reported then, or by an earlier run


class ExecutorWatch:
    """Checks the queue every few seconds; reports silence, hourly while it lasts, its end, and dead letters."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._channels = Channels(relay.settings.alarm_urls, "RELAY_ALARM_URLS")
        self._started_at = relay.clock.now()
        self._next: float | None = None  # monotonic, when silence is reported again; None while all is well
        self._dead = set[str]()  # ids of the recent dead letters at the last look
        self._looked_at: datetime | None = None
        self._owed: dict[str, tuple[str, str, bool]] = {}  # subject -> title, text, failure: not delivered yet
        self._try_at = 0.0  # monotonic, when what is owed is tried again

    def start(self) -> None:
        """Start checking, in the background, until the relay closes."""
        Thread(target=self._run, name="executor-watch", daemon=True).start()

    def _run(self) -> None:
        while not self._relay.closing.wait(LOOK_EVERY_SECONDS):
            try:
                self.look()
            except QueueError as exc:  # senders get 503, and /readyz says so
                log.debug("executor_watch_blind", reason=exc.message)
            except Exception:  # a bug of ours must not end the watch
                log.exception("executor_watch_failed")

    def look(self) -> None:
        """Check once; notify the owner of what is new, or has been bad for another hour.

        Raises:
            QueueError: The queue cannot be asked, so nothing is known.
        """
        self._pay()
        now = self._relay.clock.now()
        stats = self._relay.pending.stats(now)
        self._look_at_polls(stats, now)
        self._look_at_dead(stats.dead, now)

    def _look_at_polls(self, stats: Stats, now: datetime) -> None:
        seen_at = stats.last_poll_at
        silent = (now - max(seen_at or self._started_at, self._started_at)).total_seconds()
        if silent <= self._relay.settings.executor_silent_seconds:
            if self._next is not None:
                self._next = None
                log.info("executor_polls_again")
                self._tell("executor", "Executor is back", "It is fetching alerts again.", failure=False)
        elif self._next is None or self._relay.clock.monotonic() >= self._next:
            self._next = self._relay.clock.monotonic() + REPEAT_SECONDS
            log.error("executor_silent", seconds=round(silent), waiting=stats.depth)
            since = f"for {round(silent)} s" if seen_at else "since the relay started"
            text = f"No executor has fetched alerts {since}; {stats.depth} are waiting. Is the machine at home on?"
            self._tell("executor", "Executor is away", text, failure=True)

    def _look_at_dead(self, count: int, now: datetime) -> None:
        """A signal that is not delivered any more is an order that was not placed."""
        since = min(self._looked_at or now, now) - RECENT
        letters = self._relay.pending.dead(MOST_DEAD, since) if count else []
        fresh = [each for each in letters if each.id not in self._dead]
        self._dead, self._looked_at = {each.id for each in letters}, now
        if not fresh:
            return
        self._relay.news.set()  # each has a notice in the queue
        log.error("signals_dead", fresh=len(fresh), dead=count)
        text = f"{len(fresh)} more will not be delivered, {count} in all. List them: python -m relay dead"
        self._tell("dead letters", "Dead letters", text, failure=True)

    def _tell(self, subject: str, title: str, text: str, *, failure: bool) -> None:
        """Notify the owner; what no channel accepts is retried, until there is newer news on the subject."""
        self._owed[subject] = (title, text, failure)
        self._try_at = self._relay.clock.monotonic()
        self._pay()

    def _pay(self) -> None:
        if self._relay.clock.monotonic() < self._try_at:
            return
        self._try_at = self._relay.clock.monotonic() + RETRY_SECONDS
        for subject, (title, text, failure) in list(self._owed.items()):
            if self._send(title, text, failure):
                del self._owed[subject]

    def _send(self, title: str, text: str, failure: bool) -> bool:
        """Send to the owner's channels; return whether one took it, or there are none."""
        if not self._channels:
            return True
        try:
            told = self._channels.send(f"Relay: {title}", text, failure=failure)
        except Exception as exc:  # whatever a plugin raises must not end the watch
            log.warning("channel_failed", error=type(exc).__name__)
            told = False
        if not told:
            log.error("alarm_not_delivered", title=title)
        return told
