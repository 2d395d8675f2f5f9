"""The watch over the executor: when nobody fetches alerts any more, the owner is told.

Only the relay can notice that the machine at home is off. It runs in a thread of its own and touches
nothing that an alert or a poll waits for.
"""

from __future__ import annotations

from datetime import datetime
from threading import Thread

from common.channels import Channels
from common.clock import utc_text
from common.errors import QueueError
from common.logs import get_logger
from relay.context import Relay
from relay.pending.base import Stats

log = get_logger(__name__)
LOOK_EVERY_SECONDS = 5.0
REPEAT_SECONDS = 3600.0
MOST_DEAD = 1000  # looked through for the newest
RETRY_SECONDS = 60.0  # for an alarm that no channel took


class ExecutorWatch:
    """Looks at the queue every few seconds; tells of silence, hourly while it lasts, of its end, and of dead letters."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._channels = Channels(relay.settings.alarm_urls, "RELAY_ALARM_URLS")
        self._started_at = relay.clock.now()
        self._next: float | None = None  # monotonic, when silence is told again; None while all is well
        self._dead: int | None = None  # dead letters at the last look

    def start(self) -> None:
        """Start looking, in the background, until the relay closes."""
        Thread(target=self._run, name="executor-watch", daemon=True).start()

    def _run(self) -> None:
        silent_after = self._relay.settings.executor_silent_seconds
        while not self._relay.closing.wait(min(LOOK_EVERY_SECONDS, silent_after / 2)):
            try:
                self.look()
            except QueueError as exc:
                log.debug("executor_watch_blind", reason=exc.message)
            except Exception:
                log.exception("executor_watch_failed")

    def look(self) -> None:
        """Look once; tell the owner what is new, or has been bad for another hour.

        Raises:
            QueueError: The queue cannot be asked, so nothing is known.
        """
        now = self._relay.clock.now()
        stats = self._relay.pending.stats(now)
        self._look_at_polls(stats, now)
        self._look_at_dead(stats.dead)

    def _look_at_polls(self, stats: Stats, now: datetime) -> None:
        seen_at = stats.last_poll_at
        silent = (now - max(seen_at or self._started_at, self._started_at)).total_seconds()
        if silent <= self._relay.settings.executor_silent_seconds:
            if self._next is not None:
                self._next = None
                log.info("executor_polls_again")
                self._tell("Executor is back", "It fetches alerts again.", failure=False)
        elif self._next is None or self._relay.clock.monotonic() >= self._next:
            log.error("executor_silent", seconds=round(silent), waiting=stats.depth)
            since = f"for {round(silent)} s" if seen_at else "since the relay started"
            text = f"No executor fetched alerts {since}; {stats.depth} are waiting. Is the machine at home on?"
            told = self._tell("Executor is away", text, failure=True)
            self._next = self._relay.clock.monotonic() + (REPEAT_SECONDS if told else RETRY_SECONDS)

    def _look_at_dead(self, dead: int) -> None:
        """A signal that is not delivered any more is an order that was not placed. What was dead at the start is old."""
        fresh = dead - (dead if self._dead is None else self._dead)
        self._dead = dead
        if fresh <= 0:
            return
        log.error("signals_dead", fresh=fresh, dead=dead)
        for letter in self._relay.pending.dead(MOST_DEAD)[-fresh:]:
            text = (
                f"The relay gave up the {letter.action} for {letter.symbol}, received {utc_text(letter.received_at)}: "
            )
            text += f"{letter.reason}. Bring it back with: python -m relay requeue {letter.id}"
            notice = {"kind": "dead-letter", "symbol": letter.symbol, "text": text, "at": utc_text(letter.dead_at)}
            self._relay.notices.append(notice)
        text = f"{fresh} more will not be delivered, {dead} in all. Look at: python -m relay dead"
        self._tell("Dead letters", text, failure=True)

    def _tell(self, title: str, text: str, *, failure: bool) -> bool:
        """Send an alarm to the owner's channels; return whether one took it, or there are none."""
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
