"""The page's server: waitress, which runs on Windows too, in a thread of its own.

A reader asks for news once a second and is answered at once, so a few threads serve many readers; no answer
stays open, so nothing breaks when a laptop sleeps. Only a button may wait, for the trading loop. When too many
connections are open, those that have been silent for longest are closed: strangers cannot keep the owner out.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any

from flask import Flask
from waitress.server import create_server
from waitress.wasyncore import close_all, loop

from common.errors import ConfigError

_TURN_SECONDS = 1.0
MOST_CONNECTIONS = 200
_LIMITS: dict[str, Any] = {
    "threads": 8,
    "connection_limit": MOST_CONNECTIONS + 64,  # at this one nobody new is accepted: it is never reached
    "channel_timeout": 60,
    "cleanup_interval": 10,
    "max_request_body_size": 64 * 1024,
    "clear_untrusted_proxy_headers": True,
    "ident": "",
}


class PageServer:
    """Listens from its making on; `start` serves in a background thread until `close`."""

    def __init__(self, app: Flask, host: str, port: int) -> None:
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a short queue is no news
        listening = _listen(host, port)
        self.port = int(listening.getsockname()[1])
        self._app = app
        self._stopping = threading.Event()
        self._sockets: dict[int, Any] = {}
        self._server: Any = create_server(app, map=self._sockets, sockets=[listening], **_LIMITS)
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop serving, within a second; requests under way get no answer."""
        self._stopping.set()
        self._server.pull_trigger()
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        close_all(self._sockets, ignore_all=True)
        self._server.task_dispatcher.shutdown(timeout=1)
        self._app.extensions["page"].journal.close()

    def _run(self) -> None:
        while self._sockets and not self._stopping.is_set():
            loop(timeout=_TURN_SECONDS, use_poll=True, map=self._sockets, count=1)
            self._drop_silent()

    def _drop_silent(self) -> None:
        """Close the connections that nothing was heard of for longest, where there are too many; one that is answered stays."""
        channels = self._server.active_channels
        too_many = len(channels) - MOST_CONNECTIONS
        if too_many <= 0:
            return
        silent = sorted((each for each in channels.values() if not each.requests), key=lambda each: each.last_activity)
        for channel in silent[:too_many]:
            channel.handle_close()


def serve(app: Flask, host: str, port: int) -> PageServer:
    """Serve the page in a background thread and return the server; port 0 takes a free one.

    Raises:
        ConfigError: The address cannot be used; the message says how to fix it.
    """
    server = PageServer(app, host, port)
    server.start()
    return server


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        why = (
            os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        )  # without Python's own words
        raise ConfigError(
            f"the page cannot listen on {host}:{port} ({why}): is another executor running? "
            "Choose another address with --flask-port or --flask-host"
        ) from error
