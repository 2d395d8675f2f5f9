"""The owner's channels (Telegram, Discord, e-mail, …), by Apprise addresses."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading

from common.clock import SystemClock
from common.logs import get_logger
from common.secret import Secret

log = get_logger(__name__)
SEND_SECONDS = 15.0
_clock = SystemClock()


class Channels:
    """Notifies the owner of what must not wait until they look at a page. `setting` names its setting in messages."""

    def __init__(self, urls: Secret | None, setting: str) -> None:
        self._urls, self._setting = urls.items() if urls else (), setting

    def __bool__(self) -> bool:
        return bool(self._urls)

    def send(self, title: str, text: str, *, failure: bool) -> bool:
        """Send to all channels; return whether one took it, as soon as one has.

        Each is spoken to in a thread of its own: one that hangs (a name server that is away) keeps the owner from
        hearing nothing. Blocks for at most SEND_SECONDS.
        """
        import apprise  # here: its many plugins cost time at every start

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it writes addresses, and so their secrets
        told: queue.SimpleQueue[bool] = queue.SimpleQueue()
        kind = apprise.NotifyType.FAILURE if failure else apprise.NotifyType.SUCCESS

        def send_one(url: str) -> None:
            one = apprise.Apprise()
            try:
                if not one.add(url):
                    log.warning("channel_refused", channel=url.partition(":")[0], remedy=f"correct {self._setting}")
                told.put(bool(one.notify(title=title, body=text, notify_type=kind)))
            except Exception as exc:  # a plugin may raise anything; its text may hold the address
                log.warning("channel_failed", error=type(exc).__name__)
                told.put(False)

        for url in self._urls:
            threading.Thread(target=send_one, args=[url], name="channel", daemon=True).start()
        until = _clock.monotonic() + SEND_SECONDS
        with contextlib.suppress(queue.Empty):  # the rest takes too long
            return any(told.get(timeout=max(0.0, until - _clock.monotonic())) for _ in self._urls)
        return False
