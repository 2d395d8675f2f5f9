"""Tells the owner: alarm rows of the journal go to the log and to wherever he wants them. Never holds up trading."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests

from common.clock import Clock
from common.logs import get_logger
from common.settings import Secret

from .journal import Journal
from .threads import in_thread

log = get_logger(__name__)

REPEAT = timedelta(minutes=15)
TRY_AGAIN = timedelta(seconds=30)
TELL_SECONDS = 20.0
HEARTBEAT = timedelta(seconds=60)


class Notifier:
    """Deliver alarms through Apprise, repeated until they are over, with a closing word."""

    def __init__(self, journal: Journal, clock: Clock, urls: Secret | None, heartbeat: Secret | None) -> None:
        self._journal, self._clock = journal, clock
        self._urls = list(urls.items()) if urls else []
        self._heartbeat = heartbeat
        self._pinged_at = clock.now() - HEARTBEAT

    async def turn(self) -> None:
        """Tell what is due now, one after the other, each in a thread with a time limit."""
        for alarm in self._journal.alarms_to_tell(self._clock.now()):
            closing = alarm["cleared_at"] is not None
            told = await self._tell(alarm, closing)
            pause = REPEAT if told else TRY_AGAIN
            self._journal.mark_told(alarm["id"], delivered=told, try_after=self._clock.now() + pause, closing=closing)

    async def _tell(self, alarm: dict[str, Any], closing: bool) -> bool:
        text = alarm["cleared_text"] if closing else alarm["text"]
        title = f"{'over' if closing else alarm['level'].upper()}: {alarm['kind']} {alarm['symbol']}".strip()
        if not closing:
            log.warning("alarm_stands", kind=alarm["kind"], symbol=alarm["symbol"] or None, text=text)
        if not self._urls:
            return True
        try:
            return await in_thread(_send, self._urls, title, str(text), timeout=TELL_SECONDS)
        except Exception as exc:  # whatever a channel does, trading goes on and it is tried again
            log.warning("alarm_not_delivered", kind=alarm["kind"], reason=type(exc).__name__)
            return False

    async def heartbeat(self, well: bool) -> None:
        """While all is well, ping the outside watcher once a minute; its silence is his alarm."""
        now = self._clock.now()
        if self._heartbeat is None or not well or now - self._pinged_at < HEARTBEAT:
            return
        self._pinged_at = now
        try:
            await in_thread(_ping, self._heartbeat.reveal(), timeout=TELL_SECONDS)
        except (requests.RequestException, TimeoutError) as exc:
            log.warning("heartbeat_not_delivered", reason=type(exc).__name__)


def _send(urls: list[str], title: str, text: str) -> bool:
    import apprise

    channels = apprise.Apprise()
    for url in urls:
        channels.add(url)
    return bool(channels.notify(title=title, body=text))


def _ping(url: str) -> None:
    requests.get(url, timeout=10).raise_for_status()
