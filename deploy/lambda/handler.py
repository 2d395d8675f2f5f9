"""The relay behind an AWS Lambda function URL; the queue is PostgreSQL, since a function keeps no disk.

Lambda runs one request at a time in each process and freezes the process in between. So there is no watch over the
executor here, and a poll is answered soon (RELAY_LONGEST_WAIT_SECONDS): while it waits, it occupies a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from apig_wsgi import make_lambda_handler

from common.logs import configure, never_log
from relay.app import create_app
from relay.pending import open_pending
from relay.settings import RelaySettings

Event = dict[str, Any]


def make_handler() -> Callable[[Event, Any], Event]:
    """Return the function that Lambda calls, over the settings in its environment.

    Raises:
        ConfigError: A setting is wrong or missing; Lambda shows the text in the log of the start.
    """
    settings = RelaySettings.load()
    configure("relay", json=True)
    never_log(urlsplit(settings.queue_url).password or "")
    answer = make_lambda_handler(create_app(settings, open_pending(settings.queue_url, max_depth=settings.max_depth)))

    def handle(event: Event, context: Any) -> Event:
        # `Webhook_Id` would be read as `Webhook-Id`: what our own server drops is dropped here too.
        event["headers"] = {name: value for name, value in event["headers"].items() if "_" not in name}
        found: Event = answer(event, context)
        return found

    return handle


handler = make_handler()
