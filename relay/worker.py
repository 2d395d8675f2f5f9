"""gunicorn's threaded worker, taught not to spend a thread on a request that has not arrived yet.

The stock worker gives a connection to a thread at its first byte; clients that dribble (by malice or by a
bad line) then hold all threads, and an alert waits behind them. Here the main loop collects the bytes, and
a thread gets a request only when all of it is there. Refusals that happen below the application become
problem details too, without a banner. Written against gunicorn 27; `python -m relay` is its only user.
"""

from __future__ import annotations

import contextlib
import io
import logging
import selectors
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from gunicorn import http
from gunicorn.glogging import Logger
from gunicorn.http import errors, wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

from common.logs import get_logger
from relay.arrival import Arrival
from relay.problems import HEADERS, PROBLEMS, problem_text

log = get_logger(__name__)
ARRIVE_SECONDS = 10.0  # a request that is not whole by then is dropped
WRITE_SECONDS = 10.0  # a client that does not read its answer by then is dropped

# what the parser refuses -> our code; anything else that it refuses is a bad request
_CODES: dict[type[Exception], str] = {
    errors.LimitRequestLine: "uri-too-long",
    errors.LimitRequestHeaders: "header-too-large",
    errors.UnsupportedTransferCoding: "unsupported-coding",
    errors.ExpectationFailed: "expectation-failed",
}


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's own lines, in our form and from warnings on. It keeps no access log."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.handlers.clear()
        self.error_log.setLevel(logging.WARNING)
        self.access_log.disabled = True


class _Connection(TConn):  # type: ignore[misc]
    """One client: its socket and what it has sent of its next request."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.arrival = Arrival()
        self.until = 0.0


class _QuietResponse(wsgi.Response):  # type: ignore[misc]
    """An answer that does not tell which server made it."""

    def default_headers(self) -> list[str]:
        return [line for line in super().default_headers() if not line.startswith("Server:")]


class RelayWorker(ThreadWorker):  # type: ignore[misc]
    """See the module's docstring."""

    def init_process(self) -> None:
        wsgi.Response = _QuietResponse
        self.arriving: dict[_Connection, None] = {}  # in the order of their deadlines
        super().init_process()

    # --- in the main loop: bytes arrive ---------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection; when there are too many, drop the one that has been slow for longest."""
        try:
            client, address = listener.accept()
        except OSError:
            return
        self.nr_conns += 1
        conn = _Connection(self.cfg, client, address, listener.getsockname())
        self._await_request(conn)
        self._receive(conn, client)
        if self.nr_conns >= self.worker_connections and self.arriving:
            self._drop(next(iter(self.arriving)))

    def on_client_socket_readable(self, conn: _Connection, client: socket.socket) -> None:
        """A kept-alive connection begins its next request."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._await_request(conn)
        self._receive(conn, client)

    def _await_request(self, conn: _Connection) -> None:
        conn.until = time.monotonic() + ARRIVE_SECONDS  # noqa: TID251 gunicorn's own clock
        conn.sock.setblocking(False)
        self.arriving[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))

    def _receive(self, conn: _Connection, client: socket.socket) -> None:
        """Read what there is; hand the connection to a thread when its request is whole."""
        try:
            data = client.recv(64 * 1024)
        except (BlockingIOError, InterruptedError):
            data = None
        except OSError:
            data = b""
        if data == b"":
            return self._drop(conn)
        if conn.arrival.add(data or b""):
            del self.arriving[conn]
            self.poller.unregister(client)
            return self.enqueue_req(conn)  # type: ignore[no-any-return]
        if conn.arrival.take_expectation():
            with contextlib.suppress(OSError):
                client.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _drop(self, conn: _Connection) -> None:
        del self.arriving[conn]
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Drop requests that did not arrive in time; those that began first are first."""
        now = time.monotonic()  # noqa: TID251 gunicorn's own clock
        for conn in list(self.arriving):
            if conn.until > now and self.alive:
                break
            self._drop(conn)

    def finish_request(self, conn: _Connection, future: Any) -> None:
        """After an answer: go on with what the client has sent of its next request, if anything."""
        if not future.cancelled() and future.result() and conn.arrival.received:
            self._await_request(conn)
            self._receive(conn, conn.sock)
        else:
            super().finish_request(conn, future)

    # --- in a thread: a whole request is answered ------------------------------------------------

    def handle(self, conn: _Connection) -> bool:
        """Answer one request; return whether the connection may be used again."""
        request = None
        try:
            conn.sock.settimeout(WRITE_SECONDS)
            arrival, conn.arrival = conn.arrival, Arrival()
            if arrival.head_too_large:
                raise errors.LimitRequestHeaders("headers")
            conn.parser = http.get_parser(self.cfg, _once(bytes(arrival.received)), conn.client)
            request = next(conn.parser)
            keep = self.handle_request(request, conn) and conn.parser.finish_body()
            conn.arrival.received += conn.parser.unreader.take_buffered()
            return bool(keep)
        except (errors.NoMoreData, StopIteration) as exc:
            self.log.debug("connection closed: %s", exc)
        except OSError as exc:
            self.log.debug("client went away: %s", exc)
        except Exception as exc:
            self.handle_error(request, conn.sock, conn.client, exc)
        return False

    def handle_error(self, request: Any, client: socket.socket, address: Any, error: Exception) -> None:
        """Answer what never reached the application; nothing of the request is repeated or logged."""
        refused = isinstance(error, errors.ParseException | errors.ConfigurationProblem)
        code = _CODES.get(type(error), "bad-request" if refused else "internal")
        event = "request_refused" if refused else "request_failed"
        write = log.info if refused else log.exception
        write(event, code=code, reason=type(error).__name__, address=str(address and address[0]))
        with contextlib.suppress(OSError):
            client.settimeout(1.0)
            client.sendall(problem_bytes(code))

    def handle_exit(self, *args: Any) -> None:
        """SIGTERM: end the waiting polls, answer what is in hand, stop."""
        self._end_polls()
        super().handle_exit(*args)

    def handle_quit(self, *args: Any) -> None:
        """SIGINT, SIGQUIT: end the waiting polls, stop."""
        self._end_polls()
        super().handle_quit(*args)

    def _end_polls(self) -> None:
        relay = getattr(self.wsgi, "extensions", {}).get("relay")
        if relay:
            relay.closing.set()


def _once(data: bytes) -> Iterator[bytes]:
    """Yield data, then nothing: the parser never waits for the network."""
    yield data


def problem_bytes(code: str) -> bytes:
    """Return a whole HTTP answer for a request that the server itself refuses."""
    body, status = problem_text(code)
    lines = [f"HTTP/1.1 {status} {PROBLEMS[code].title}", "Connection: close"]
    lines += [f"Content-Type: application/problem+json\r\nContent-Length: {len(body.encode())}"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    answer = io.BytesIO()
    answer.write("\r\n".join([*lines, "", body]).encode())
    return answer.getvalue()
