"""The owner's channels (Telegram, Discord, e-mail, …), by Apprise addresses."""

from __future__ import annotations

import logging

from common.logs import get_logger
from common.secret import Secret

log = get_logger(__name__)


class Channels:
    """Where the owner is told what must not wait until he looks at a page. `setting` names it for him."""

    def __init__(self, urls: Secret | None, setting: str) -> None:
        self._urls, self._setting = urls.items() if urls else (), setting

    def __bool__(self) -> bool:
        return bool(self._urls)

    def send(self, title: str, text: str, *, failure: bool) -> bool:
        """Send to all channels; return whether at least one took it. Blocks; a plugin may raise anything."""
        import apprise  # here: its many plugins cost time at every start

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it writes addresses, and so their secrets
        notifier = apprise.Apprise()
        for url in self._urls:
            if not notifier.add(url):
                log.warning("channel_refused", channel=url.partition(":")[0], mend=f"correct {self._setting}")
        kind = apprise.NotifyType.FAILURE if failure else apprise.NotifyType.SUCCESS
        return any([each.notify(title=title, body=text, notify_type=kind) for each in notifier])
