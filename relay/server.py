"""Serve the relay in production form: gunicorn, or waitress where there is no gunicorn.

The settings were measured under load (docs/performance.md): one process, many threads, since a process
more would be a second writer to the same file; every limit tight; nothing a stranger sends is believed.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any

from flask import Flask

from common.clock import SystemClock
from common.errors import ConfigError
from common.logs import get_logger, write_in_background
from relay.descriptors import CONNECTIONS, most_connections
from relay.pending import open_pending
from relay.settings import RelaySettings

log = get_logger(__name__)
KEEP_ALIVE_SECONDS = 75
PORT_SECONDS = 7.0  # a little more than the graceful end of a worker
BACKLOG = 2048  # a bar closes and everybody sends at once


def serve(settings: RelaySettings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: The address or port cannot be had.
    """
    if os.name == "nt":
        _serve_waitress(settings)
    else:
        _serve_gunicorn(settings)


def make_app(settings: RelaySettings) -> Flask:
    """Return the application over its opened queue, with the watch over the executor running."""
    write_in_background()
    from relay.app import create_app
    from relay.watch import ExecutorWatch

    app = create_app(settings, open_pending(settings.queue_url, max_depth=settings.max_depth))
    ExecutorWatch(app.extensions["relay"]).start()
    return app


def gunicorn_options(settings: RelaySettings) -> dict[str, Any]:
    """Return gunicorn's configuration."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "bind": [f"{host}:{settings.port}"],
        "worker_class": "relay.worker.RelayWorker",
        "workers": 1,
        "threads": settings.threads,
        "worker_connections": most_connections(),
        "backlog": BACKLOG,
        "keepalive": KEEP_ALIVE_SECONDS,
        "timeout": 120,  # the main loop must give a sign of life; requests are not what is timed
        "graceful_timeout": 5,
        "limit_request_line": 2048,
        "limit_request_fields": 50,
        "limit_request_field_size": 8190,
        "forwarder_headers": "",  # else a peer on loopback may rewrite the path
        "forwarded_allow_ips": "",
        "secure_scheme_headers": {},
        "http_parser": "python",  # what the tests judge; another one is taken silently where it is installed
        "accesslog": None,  # its lines would hold the secret of a path
        "logger_class": "relay.worker.ServerLog",
        "proc_name": "relay",
        "control_socket_disable": True,
        "post_worker_init": _tell_listening,
        "worker_exit": _close_queue,
    }


def listening(settings: RelaySettings) -> socket.socket:
    """Return a listening socket; gunicorn itself would say five times that the port is taken.

    A port that is taken is tried for some seconds: the worker of a server that was killed lets go when its polls end.

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
                why = "is in use by another program" if taken else f"cannot be had ({exc.strerror})"
                text = f"--host, --port / RELAY_HOST, RELAY_PORT: {where} {why}; choose another"
                raise ConfigError(text) from exc
        threading.Event().wait(0.2)


def _bound(settings: RelaySettings) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found


def _inherited(number: int) -> socket.socket:
    """Return the listening socket that whoever started us has opened; it stays open when we end."""
    try:
        found = socket.socket(fileno=number)
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return found
        why = "it does not listen"
    except OSError as exc:
        why = exc.strerror or str(exc)
    raise ConfigError(
        f"--listen-fd / RELAY_LISTEN_FD: {number} is no listening socket ({why}); is there a socket unit?"
    )


def _serve_gunicorn(settings: RelaySettings) -> None:
    from gunicorn.app.base import BaseApplication

    listener = listening(settings)
    options = {**gunicorn_options(settings), "bind": [f"fd://{listener.fileno()}"]}

    class Server(BaseApplication):  # type: ignore[misc]
        """gunicorn as a library: the options from our settings, nothing from files or the environment."""

        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Flask:
            return make_app(settings)

    Server().run()


def _tell_listening(worker: Any) -> None:
    for listener in worker.sockets:
        host, port = listener.getsockname()[:2]
        log.info("relay_listening", host=host, port=port, pid=worker.pid)


def _close_queue(server: Any, worker: Any) -> None:
    relay = getattr(worker.wsgi, "extensions", {}).get("relay")
    if relay:
        relay.closing.set()
        relay.pending.close()


def _serve_waitress(settings: RelaySettings) -> None:
    import waitress

    app = make_app(settings)
    log.info("relay_listening", host=settings.host, port=settings.port, server="waitress")
    waitress.serve(
        app,
        host=settings.host,
        port=settings.port,
        threads=settings.threads,
        ident=None,
        connection_limit=CONNECTIONS,
        channel_timeout=KEEP_ALIVE_SECONDS,
        channel_request_lookahead=1,  # so that a poll can ask whether its client is gone
        max_request_header_size=32 * 1024,
        max_request_body_size=64 * 1024,
        clear_untrusted_proxy_headers=False,  # ours judges X-Forwarded-For, by hops
        _quiet=True,
    )
