"""Notifies the owner: alarms go from the journal to the log and the configured channels, repeated until they are over.

Nothing here holds up trading: a channel is spoken to in a thread, for a bounded time, and what it does is no
condition for anything.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import requests

from common.channels import Channels
from common.clock import Clock
from common.errors import JournalError
from common.logs import get_logger, scrub
from common.secret import Secret
from common.version import user_agent
from executor.journal.journal import Journal
from executor.threads import in_thread

log = get_logger(__name__)

REPEAT = timedelta(minutes=15)
_RETRIES = tuple(timedelta(seconds=seconds) for seconds in (30, 60, 120, 300, 900))
_SEND_SECONDS = 20.0
_PING_SECONDS = 10.0
_PINGED_WITHIN = 120.0


class Notifier:
    """Delivers alarm rows; `turn` is called about once a second."""

    def __init__(
        self, journal: Journal, channels: Channels, clock: Clock, unwritten: Callable[[], str | None] = lambda: None
    ) -> None:
        """Args:
        unwritten: tells an alarm that the journal could not take; such a one is delivered and repeated without it.
        """
        self._journal, self._channels, self._clock, self._unwritten = journal, channels, clock, unwritten
        self._not_before: dict[
            object, datetime
        ] = {}  # what was sent → when to send it again, whether or not the journal recorded it

    async def turn(self) -> None:
        """Send what is due: new alarms, reminders every quarter of an hour, and closing messages."""
        now = self._clock.now()
        self._not_before = {about: at for about, at in self._not_before.items() if now < at <= now + REPEAT}
        await self._tell_unwritten()
        try:
            for alarm in self._journal.alarms_to_tell(now):
                if (alarm["id"], alarm["cleared_at"]) not in self._not_before:
                    await self._tell(alarm)
        except JournalError as exc:
            log.error("alarms_not_read", reason=str(exc))

    async def _tell_unwritten(self) -> None:
        text = self._unwritten()
        if text is not None and "unwritten" not in self._not_before:
            log.error("alarm_stands", kind="storage", text=scrub(text))
            delivered = await self._send("storage", scrub(text), failure=True)
            self._not_before["unwritten"] = self._clock.now() + (REPEAT if delivered else _RETRIES[0])

    async def _tell(self, alarm: dict[str, Any]) -> None:
        over = alarm["cleared_at"] is not None
        title = f"{alarm['symbol']} {alarm['kind']}".strip() + (" (over)" if over else "")
        text = scrub(f"Over: {alarm['cleared_text']}" if over else alarm["text"])
        if alarm["tries"] and not over:
            log.warning("alarm_stands", kind=alarm["kind"], symbol=alarm["symbol"] or None, text=text)
        delivered = await self._send(title, text, failure=not over)
        pause = REPEAT if delivered else _RETRIES[min(alarm["tries"], len(_RETRIES) - 1)]
        again = self._not_before[alarm["id"], alarm["cleared_at"]] = self._clock.now() + pause
        self._journal.mark_told(alarm["id"], delivered=delivered, try_after=again, closing=over)

    async def _send(self, title: str, text: str, *, failure: bool) -> bool:
        """True if the owner was notified; log and page alone count if no channel is configured."""
        if not self._channels:
            return True
        send = lambda: self._channels.send(title, text, failure=failure)  # noqa: E731 - a thread takes a call
        try:
            delivered = await in_thread(send, timeout=_SEND_SECONDS)
        except TimeoutError:
            delivered = False
        except Exception as exc:  # whatever a plugin raises must not stop the notifications
            log.warning("channel_failed", error=type(exc).__name__)
            delivered = False
        if not delivered:
            log.warning("alarm_not_delivered", title=title, then="retrying")
        return delivered


class Heartbeat:
    """Tells an outside watcher that the executor is alive and fetches signals; silence is the watcher's alarm."""

    def __init__(self, url: Secret | None, clock: Clock) -> None:
        self._url, self._clock = url, clock
        self._failed = False

    async def turn(self, last_poll: float | None) -> None:
        """Ping, unless signals were not fetched for two minutes."""
        if not self._url or last_poll is None or self._clock.monotonic() - last_poll > _PINGED_WITHIN:
            return
        try:
            await in_thread(_ping, self._url.reveal(), timeout=2 * _PING_SECONDS)
            self._failed = False
        except (requests.RequestException, TimeoutError) as exc:
            if not self._failed:
                log.warning("heartbeat_not_sent", error=type(exc).__name__)
            self._failed = True


def _ping(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["User-Agent"] = user_agent("signal-executor")
        with session.get(url, timeout=_PING_SECONDS, allow_redirects=False, stream=True) as response:
            response.raise_for_status()
