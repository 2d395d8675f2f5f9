"""Serve the relay with uvicorn, in one process: the same program on Linux, macOS and Windows.

One process, since one more would be a second writer to the same file. Why uvicorn, and what was measured:
docs/decisions/0012-relay-on-asgi.md.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn

from common import garbage
from common.clock import SystemClock
from common.errors import ConfigError
from common.logs import get_logger, write_in_background
from relay.app import make_front, make_relay
from relay.asgi import Front
from relay.connections import Connection, Room, most_connections
from relay.context import Relay
from relay.pending import open_pending
from relay.settings import RelaySettings
from relay.silence import ExecutorWatch

log = get_logger(__name__)
KEEP_ALIVE_SECONDS = 75  # longer than a poll's answer is away, and than a proxy keeps a connection
STOP_SECONDS = 5
PORT_SECONDS = 7.0  # a little more than STOP_SECONDS
BACKLOG = 2048  # a bar closes and everybody sends at once
MOST_ACCEPTED = 64  # connections in one round of the loop: those over the limit are dropped before there are more
REST_SECONDS, _RESTS = 0.5, 120  # how often garbage is looked for; every 120th time everywhere
PREPARE_SECONDS = 0.15  # after the start; the first alert is not to wait for it


def serve(settings: RelaySettings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: The address or port cannot be had.
    """
    listener = listening(settings)
    write_in_background()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ended)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    relay = make_relay(settings, open_pending(settings.queue_url, max_depth=settings.max_depth))
    try:
        asyncio.run(_serve(relay, listener))
    finally:
        relay.closing.set()
        relay.pending.close()


def _ended(number: int, frame: FrameType | None) -> None:
    """End the process with 0: while uvicorn does not listen yet, and when it raises the signal again after its graceful end."""
    sys.exit(0)


class Server(uvicorn.Server):
    """Ends the waiting polls first when it is to stop."""

    def __init__(self, config: uvicorn.Config, relay: Relay) -> None:
        super().__init__(config)
        self._relay = relay

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen with a long queue, while so many as the loop's own number are accepted in one round at most."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # In a thread: a signal may interrupt the holder of the event's own lock.
        threading.Thread(target=self._relay.closing.set, daemon=True).start()


async def _serve(relay: Relay, listener: socket.socket) -> None:
    room, front = Room(most_connections()), make_front(relay)
    config = uvicorn.Config(
        front,
        http=type("RelayConnection", (Connection,), {"room": room}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # its lines would hold the secret of a path
        server_header=False,
        date_header=True,
        proxy_headers=False,  # ours judges X-Forwarded-For, by hops
        backlog=MOST_ACCEPTED,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    ExecutorWatch(relay).start()
    host, port = listener.getsockname()[:2]
    log.info("relay_listening", host=host, port=port)
    tasks = [asyncio.create_task(each) for each in (room.sweep(), _prepare(front), _collect_garbage())]
    try:
        await Server(config, relay).serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()


async def _prepare(front: Front) -> None:
    await asyncio.sleep(PREPARE_SECONDS)
    await front.prepare()
    garbage.keep()


async def _collect_garbage() -> None:
    """Do so between alerts, forever."""
    while True:
        for _ in range(_RESTS):
            await asyncio.sleep(REST_SECONDS)
            garbage.rest()
        garbage.rest(long=True)


def listening(settings: RelaySettings) -> socket.socket:
    """Return a listening socket. A port that is taken is tried for some seconds: who was killed may hold it still.

    Raises:
        ConfigError: The address or port cannot be had.
    """
    if settings.listen_fd is not None:
        return _inherited(settings.listen_fd)
    clock = SystemClock()
    deadline = clock.monotonic() + PORT_SECONDS
    while True:
        try:
            return _bound(settings)
        except OSError as exc:
            taken = exc.errno == errno.EADDRINUSE
            if not taken or clock.monotonic() >= deadline:
                where = f"{settings.host} port {settings.port}"
                why = "is in use by another program" if taken else f"is not available ({exc.strerror})"
                text = f"--host, --port / RELAY_HOST, RELAY_PORT: {where} {why}; choose another"
                raise ConfigError(text) from exc
        threading.Event().wait(0.2)


def _bound(settings: RelaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # TCP by name: only then asyncio switches Nagle's delay off, and an answer in two parts is not held for 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would let two programs have one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found


def _inherited(number: int) -> socket.socket:
    """Return the listening socket that our parent process opened; it stays open when we exit."""
    try:
        found = socket.socket(fileno=number)
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return found
        why = "it is not listening"
    except OSError as exc:
        why = exc.strerror or str(exc)
    raise ConfigError(
        f"--listen-fd / RELAY_LISTEN_FD: {number} is not a listening socket ({why}); is there a socket unit?"
    )
