"""Connections in gunicorn's main loop: bytes are collected here, and only whole requests are answered.

The stock worker gives a connection to a thread at its first byte; clients that dribble (by malice or by a
bad line) then hold all threads, and an alert waits behind them. Here nobody is waited for: who is too slow,
sends too much, or does not part, is dropped, those first that began first. Written against gunicorn 27.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from functools import partial
from itertools import chain
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from common.clock import SystemClock
from relay.arrival import Arrival
from relay.sending import send_now

KEEP_ALIVE_SECONDS = 75.0  # longer than a poll's answer is away, and than a proxy keeps a connection
ARRIVE_SECONDS = 10.0  # a request that is not whole by then is dropped
SEND_SECONDS = 10.0  # and so is a client that has not read its answer
MOST_ACCEPTED = 64  # connections in one round
LINGER_SECONDS = 1.0  # for a request that is on its way while the server stops
PART_SECONDS, MOST_IGNORED = 1.0, 256 * 1024  # what is read and thrown away after a last answer, at most
MOST_HELD = 16 * 1024 * 1024  # bytes of all requests and answers that are on their way for longer

_clock = SystemClock()


class Connection:
    """One client: its socket, never blocking, and what it has sent of its next request."""

    def __init__(self, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock, self.client, self.server = sock, client, server
        self.arrival = Arrival()
        self.unsent = b""  # of the answer
        self.expected: Expected | None = None  # among those that something is expected of now
        self.until = 0.0  # when it is dropped if nothing more happens
        self.watched = 0  # for which events
        self.held = 0  # bytes that are counted
        self.ignored = 0  # bytes that came after the last answer
        self.reusable = False  # for another request, as far as the last one tells
        sock.setblocking(False)


class Expected(dict[Connection, None]):
    """Connections that are to send or to read, for so many seconds, in the order in which they are dropped."""

    def __init__(self, seconds: float, event: int = selectors.EVENT_READ) -> None:
        super().__init__()
        self.seconds, self.event = seconds, event


class CollectingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Has whole requests answered by `arrived`, after which `finished` is called, in the main loop.

    Meanwhile nothing more is read of that connection.
    """

    wsgi: Any = None  # the application, once it is loaded

    def init_process(self) -> None:
        self.arriving = Expected(ARRIVE_SECONDS)  # to send the rest of a request that has begun
        self.reading = Expected(SEND_SECONDS, selectors.EVENT_WRITE)  # to read the rest of an answer
        self.idle = Expected(KEEP_ALIVE_SECONDS)  # to send another request
        self.parting = Expected(PART_SECONDS)  # to end, after the last answer
        self.stopped_at = 0.0
        self.held = 0
        super().init_process()

    def arrived(self, conn: Connection) -> None:
        """Have the request in `conn.arrival` answered."""
        raise NotImplementedError

    def finished(self, conn: Connection, keep: bool) -> None:
        """Send the rest of the answer; then go on with the client's next request, or wait for it. Without `keep`, part."""
        conn.reusable = keep
        if conn.unsent:
            self._expect(conn, self.reading)
            self._hold(conn, len(conn.unsent))
        elif not keep:
            self._part(conn)
        elif conn.arrival.received:
            self._take(conn, b"")
        else:
            self._expect(conn, self.idle)

    def accept(self, listener: socket.socket) -> None:
        """Take the new connections, all that came at once: one a round would have an alert wait for many rounds."""
        for _ in range(MOST_ACCEPTED):
            try:
                client, address = listener.accept()
            except OSError:  # there are no more, or this one is gone again
                return
            self._admit(Connection(client, address, listener.getsockname()))

    def _admit(self, conn: Connection) -> None:
        """Begin with a connection; when there are too many, drop one that has been slow or idle for longest."""
        self.nr_conns += 1
        self._expect(conn, self.arriving)
        self._look(conn, conn.sock)
        slow = next(chain(self.parting, self.reading, self.arriving, self.idle), None)
        if self.nr_conns >= self.worker_connections and slow:
            self._drop(slow)

    def _expect(self, conn: Connection, among: Expected) -> None:
        """Expect something. The socket stays watched during a request: that costs no system call."""
        self._forget(conn)
        conn.until = _clock.monotonic() + among.seconds
        conn.expected = among
        among[conn] = None
        if conn.watched != among.event:
            self._unwatch(conn)
            conn.watched = among.event
            self.poller.register(conn.sock, among.event, partial(self._look, conn))

    def _forget(self, conn: Connection) -> None:
        """Expect nothing more, and hold nothing."""
        self._count(conn, 0)
        if conn.expected is not None:
            del conn.expected[conn]
            conn.expected = None

    def _count(self, conn: Connection, size: int) -> None:
        """Count the bytes that are held for a connection."""
        self.held += size - conn.held
        conn.held = size

    def _hold(self, conn: Connection, size: int) -> None:
        """Hold so many bytes; when there are too many, drop those who began first, this one perhaps."""
        self._count(conn, size)
        while self.held > MOST_HELD:
            self._drop(next(chain(self.reading, self.arriving)))

    def _drop(self, conn: Connection) -> None:
        self._forget(conn)
        self._unwatch(conn)
        self.nr_conns -= 1
        util.close(conn.sock)

    def _unwatch(self, conn: Connection) -> None:
        if conn.watched:
            conn.watched = 0
            self.poller.unregister(conn.sock)

    def _look(self, conn: Connection, client: socket.socket) -> None:
        """Do what the socket is ready for."""
        if conn.expected is None:  # the next request, or the end, before the answer to this one: let it wait
            self._unwatch(conn)
        elif conn.expected is self.reading:
            self._send(conn, client)
        else:
            self._receive(conn, client)

    def _send(self, conn: Connection, client: socket.socket) -> None:
        """Send more of the answer; after its end, go on."""
        try:
            conn.unsent = send_now(client, conn.unsent)
        except OSError:  # it is gone
            self._drop(conn)
            return
        if not conn.unsent:
            self.finished(conn, conn.reusable)

    def _receive(self, conn: Connection, client: socket.socket) -> None:
        """Read what there is, and go on with it."""
        try:
            data = client.recv(64 * 1024)
        except (BlockingIOError, InterruptedError):  # nothing yet
            return
        except OSError:  # it is gone
            data = b""
        if not data:
            self._drop(conn)
        elif conn.expected is self.parting:
            self._ignore(conn, len(data))
        else:
            self._take(conn, data)

    def _ignore(self, conn: Connection, size: int) -> None:
        conn.ignored += size
        if conn.ignored > MOST_IGNORED:
            self._drop(conn)

    def _take(self, conn: Connection, data: bytes) -> None:
        """Take more of a request; have it answered when it is whole."""
        if conn.arrival.add(data):
            self._forget(conn)
            self.arrived(conn)
        else:
            self._wait_for_more(conn)

    def _wait_for_more(self, conn: Connection) -> None:
        if conn.expected is not self.arriving:
            self._expect(conn, self.arriving)
        self._hold(conn, len(conn.arrival.received))
        if conn.arrival.take_expectation():
            with contextlib.suppress(OSError):  # it is gone, which is heard of soon
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _part(self, conn: Connection) -> None:
        """End a connection after its last answer, once the client has ended it too, or soon.

        To close while it still sends would destroy the answer on its way; to wait for it here, as the stock
        worker does for up to two seconds, would keep everybody else waiting.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            self._drop(conn)
        else:
            self._expect(conn, self.parting)

    def murder_pending(self) -> None:
        """Drop clients that did not send or read in time, or do not part."""
        self._drop_late(self.arriving)
        self._drop_late(self.reading)
        self._drop_late(self.parting)

    def murder_keepalived(self, force: bool = False) -> None:
        """Drop connections that nobody used for long; when the server stops, all that are idle."""
        if force or not self.alive:
            for conn in self.idle:
                conn.until = min(conn.until, self.stopped_at + LINGER_SECONDS * (not force))
        self._drop_late(self.idle)

    def _drop_late(self, among: Expected) -> None:
        now = _clock.monotonic()
        while among and (first := next(iter(among))).until <= now:
            self._drop(first)

    def handle_exit(self, *args: Any) -> None:
        """SIGTERM: end the waiting polls, answer what is in hand, stop."""
        self._end_polls()
        super().handle_exit(*args)

    def handle_quit(self, *args: Any) -> None:
        """SIGINT, SIGQUIT: end the waiting polls, stop."""
        self._end_polls()
        super().handle_quit(*args)

    def _end_polls(self) -> None:
        """Once: a second signal may interrupt the first one's handler, and would wait for its lock for ever."""
        if self.stopped_at:
            return
        self.stopped_at = _clock.monotonic()
        relay = getattr(self.wsgi, "extensions", {}).get("relay")
        if relay:
            relay.closing.set()
