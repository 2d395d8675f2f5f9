"""The watch over the executor: when nobody fetches alerts any more, the owner is told.

Only the relay can notice that the machine at home is off. It runs in a thread of its own and touches
nothing that an alert or a poll waits for.
"""

from __future__ import annotations

from threading import Thread

from common.errors import QueueError
from common.logs import get_logger
from relay.context import Relay

log = get_logger(__name__)
LOOK_EVERY_SECONDS = 5.0
REPEAT_SECONDS = 3600.0


class ExecutorWatch:
    """Looks at the last poll every few seconds; tells of silence, repeats it hourly, tells of its end."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._started_at = relay.clock.now()
        self._told_at: float | None = None  # monotonic; None while all is well

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
        """Look once; tell the owner when the state changed, or when it has been bad for another hour.

        Raises:
            QueueError: The queue cannot be asked, so nothing is known.
        """
        now, stats = self._relay.clock.now(), self._relay.pending.stats(self._relay.clock.now())
        seen_at = stats.last_poll_at
        silent = (now - max(seen_at or self._started_at, self._started_at)).total_seconds()
        if silent <= self._relay.settings.executor_silent_seconds:
            if self._told_at is not None:
                self._told_at = None
                log.info("executor_polls_again")
                self._tell("Executor is back", "It fetches alerts again.")
            return
        if self._told_at is None or self._relay.clock.monotonic() - self._told_at >= REPEAT_SECONDS:
            self._told_at = self._relay.clock.monotonic()
            log.error("executor_silent", seconds=round(silent), waiting=stats.depth)
            since = f"for {round(silent)} s" if seen_at else "since the relay started"
            self._tell("Executor is away", f"No executor fetched alerts {since}; {stats.depth} are waiting.")

    def _tell(self, title: str, text: str) -> None:
        urls = self._relay.settings.alarm_urls
        if not urls:
            return
        import apprise

        channels = apprise.Apprise()
        for url in urls.items():
            if not channels.add(url):
                log.warning("alarm_channel_unknown", hint="a URL in RELAY_ALARM_URLS is none that Apprise knows")
        if not channels.notify(title=f"Relay: {title}", body=text):
            log.error("alarm_not_delivered", title=title)
