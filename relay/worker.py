"""gunicorn's threaded worker, taught not to spend a thread where there is nothing to do.

The stock worker gives a connection to a thread at its first byte; clients that dribble (by malice or by a
bad line) then hold all threads, and an alert waits behind them. Here the main loop collects the bytes, and
a thread gets a request only when all of it is there. An alert needs no thread at all: the main loop hands it
to the queue's writer and answers when its commit is done, for many alerts at once; a thread for each would
spend more time on being woken than on its alert. Refusals that happen below the application become
problem details too, without a banner. Written against gunicorn 27; `python -m relay` is its only user.
"""

from __future__ import annotations

import contextlib
import logging
import re
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gunicorn import http
from gunicorn.glogging import Logger
from gunicorn.http import errors, wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

from common.logs import get_logger
from relay.arrival import Arrival
from relay.failures import LineLimit
from relay.handoff import Threads, Wakeups
from relay.problems import Answer
from relay.sending import WholeAnswer, problem_bytes, send_all

log = get_logger(__name__)
KEEP_ALIVE_SECONDS = 75.0  # longer than a poll's answer is away, and than a proxy keeps a connection
ARRIVE_SECONDS = 10.0  # a request that is not whole by then is dropped
LINGER_SECONDS = 1.0  # for a request that is on its way while the server stops
MOST_TOGETHER = 64  # alerts; those that came first do not wait for more
PART_SECONDS, MOST_IGNORED = 1.0, 256 * 1024  # what is read and thrown away after a last answer, at most
MOST_HELD = 16 * 1024 * 1024  # bytes of requests that have not wholly arrived, of all connections together

# An alert, as far as one need not look closer: whatever else is at this path goes to a thread.
_ALERT = re.compile(rb"POST /webhook(/[^/?% ]+)? HTTP/")
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
    """One client: its socket, never blocking, and what it has sent of its next request."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.arrival = Arrival()
        self.until = 0.0  # when it is dropped if nothing more happens
        self.expected = False  # bytes are wanted now
        self.watched = False  # the main loop hears of its bytes
        self.held = 0  # bytes of a request that has not wholly arrived
        self.ignored = 0  # bytes that came after the last answer
        self.reusable = False  # for another request, as far as the last one tells
        self.sock.setblocking(False)


class _Later:
    """The answer to an alert, given when its commit is done (see relay.intake.Later)."""

    def __init__(self, worker: RelayWorker, conn: _Connection, response: WholeAnswer) -> None:
        self._worker, self._conn, self._response = worker, conn, response

    def soon(self, call: Callable[[], None]) -> None:
        self._worker.soon(call)

    def answer(self, answer: Answer) -> None:
        self._worker.method_queue.defer(self._worker.answer_alert, self._conn, self._response, answer)

    def aside(self, call: Callable[[], None]) -> None:
        self._worker.tpool.put(call)


class RelayWorker(ThreadWorker):  # type: ignore[misc]
    """See the module's docstring."""

    def init_process(self) -> None:
        wsgi.Response = WholeAnswer
        # Both in the order in which they are dropped: connections whose request has begun, and idle ones.
        self.arriving: dict[_Connection, None] = {}
        self.idle: dict[_Connection, None] = {}
        self.parting: dict[_Connection, None] = {}  # answered for the last time
        self.stopped_at = 0.0
        self.held = 0
        self.lines = LineLimit()  # of requests that are not valid HTTP
        self._calls: list[Callable[[], None]] = []  # for the end of this round
        self.method_queue = Wakeups()
        super().init_process()

    def get_thread_pool(self) -> Threads:
        return Threads(self.cfg.threads)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do one round of the main loop: take what has arrived, then hand all its alerts on."""
        super().wait_for_and_dispatch_events(timeout)
        self._hand_on()

    def soon(self, call: Callable[[], None]) -> None:
        """Call at the end of this round."""
        self._calls.append(call)
        if len(self._calls) >= MOST_TOGETHER:
            self._hand_on()

    def _hand_on(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    # --- in the main loop: bytes arrive ---------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection; when there are too many, drop one that has been slow or idle for longest."""
        try:
            client, address = listener.accept()
        except OSError:
            return
        self.nr_conns += 1
        conn = _Connection(self.cfg, client, address, listener.getsockname())
        self._watch(conn, self.arriving, ARRIVE_SECONDS)
        self._receive(conn, client)
        if self.nr_conns >= self.worker_connections:
            for slow in [*self.parting, *self.arriving, *self.idle][:1]:
                self._drop(slow)

    def _watch(self, conn: _Connection, among: dict[_Connection, None], seconds: float) -> None:
        """Expect bytes, for so long. The socket stays watched during a request: that costs no system call."""
        conn.until = time.monotonic() + seconds  # noqa: TID251 gunicorn's own clock
        conn.expected = True
        among[conn] = None
        if not conn.watched:
            conn.watched = True
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))

    def _unwatch(self, conn: _Connection) -> None:
        if conn.watched:
            conn.watched = False
            with contextlib.suppress(OSError, KeyError, ValueError):
                self.poller.unregister(conn.sock)

    def _receive(self, conn: _Connection, client: socket.socket) -> None:
        """Read what there is; hand the connection to a thread when its request is whole."""
        if not conn.expected:  # the next request, or the end, before the answer to this one: let it wait
            self._unwatch(conn)
            return
        try:
            data = client.recv(64 * 1024)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
        elif conn in self.parting:
            self._ignore(conn, len(data))
        elif conn.arrival.add(data):
            self._forget(conn)
            self._arrived(conn)
        else:
            self._wait_for_more(conn)

    def _arrived(self, conn: _Connection) -> None:
        """Have a whole request answered: an alert here, all else by a thread."""
        if not _ALERT.match(conn.arrival.received):
            self.tpool.put(partial(self._work, conn))
            return
        conn.reusable, later = self._handle(conn, may_wait=False)
        if not later:
            self._finished(conn, conn.reusable)

    def answer_alert(self, conn: _Connection, response: WholeAnswer, answer: Answer) -> None:
        """Send the answer to an alert; what the socket does not take at once, a thread sends."""
        if not self.alive:
            response.force_close()
        (body,) = answer.for_server(response.start_response)
        data, keep = response.whole(body), conn.reusable and not response.should_close()
        try:
            sent = conn.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent, keep = len(data), False
        if sent == len(data):
            self._finished(conn, keep)
        else:
            self.tpool.put(partial(self._send_rest, conn, data[sent:], keep))

    def _send_rest(self, conn: _Connection, data: bytes, keep: bool) -> None:
        try:
            send_all(conn.sock, data)
        except OSError:
            keep = False
        self.method_queue.defer(self._finished, conn, keep)

    def _wait_for_more(self, conn: _Connection) -> None:
        if conn in self.idle:
            self._forget(conn)
            self._watch(conn, self.arriving, ARRIVE_SECONDS)
        self._hold(conn, len(conn.arrival.received))
        while self.held > MOST_HELD:
            self._drop(next(iter(self.arriving)))
        if conn.arrival.take_expectation():
            with contextlib.suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hold(self, conn: _Connection, size: int) -> None:
        """Count the bytes that wait for the rest of their request."""
        self.held += size - conn.held
        conn.held = size

    def _forget(self, conn: _Connection) -> None:
        self._hold(conn, 0)
        conn.expected = False
        self.arriving.pop(conn, None)
        self.idle.pop(conn, None)
        self.parting.pop(conn, None)

    def _drop(self, conn: _Connection) -> None:
        self._forget(conn)
        self._unwatch(conn)
        self.nr_conns -= 1
        conn.close()

    def _part(self, conn: _Connection) -> None:
        """End a connection after its last answer, once the client has ended it too, or soon.

        To close while it still sends would destroy the answer on its way; to wait for it here, as the stock
        worker does for up to two seconds, would keep everybody else waiting.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
        else:
            self._watch(conn, self.parting, PART_SECONDS)

    def _ignore(self, conn: _Connection, size: int) -> None:
        conn.ignored += size
        if conn.ignored > MOST_IGNORED:
            self._drop(conn)

    def murder_pending(self) -> None:
        """Drop requests that did not arrive in time, and clients that do not part; those that began first are first."""
        self._drop_late(self.arriving)
        self._drop_late(self.parting)

    def murder_keepalived(self, force: bool = False) -> None:
        """Drop connections that nobody used for long; when the server stops, all that are idle."""
        if force or not self.alive:
            for conn in self.idle:
                conn.until = min(conn.until, self.stopped_at + LINGER_SECONDS * (not force))
        self._drop_late(self.idle)

    def _drop_late(self, among: dict[_Connection, None]) -> None:
        now = time.monotonic()  # noqa: TID251 gunicorn's own clock
        for conn in list(among):
            if conn.until > now:
                break
            self._drop(conn)

    def _finished(self, conn: _Connection, keep: bool) -> None:
        """After an answer: go on with what the client has sent of its next request, or wait for it."""
        if not keep:
            self._part(conn)
        elif conn.arrival.received and conn.arrival.add(b""):
            self._arrived(conn)
        elif conn.arrival.received:
            self._watch(conn, self.arriving, ARRIVE_SECONDS)
        else:
            self._watch(conn, self.idle, KEEP_ALIVE_SECONDS)

    # --- a whole request is answered, but for alerts in a thread -----------------------------------

    def _work(self, conn: _Connection) -> None:
        self.method_queue.defer(self._finished, conn, self._handle(conn, may_wait=True)[0])

    def _handle(self, conn: _Connection, may_wait: bool) -> tuple[bool, bool]:
        """Answer one request; return whether the connection may be used again, and whether the answer comes later."""
        request = None
        try:
            arrival, conn.arrival = conn.arrival, Arrival()
            if arrival.head_too_large:
                raise errors.LimitRequestHeaders("headers")
            if arrival.too_many_chunks:
                raise errors.ParseException("chunks")
            conn.parser = http.get_parser(self.cfg, _once(bytes(arrival.received)), conn.client)
            request = next(conn.parser)
            if not arrival.has_end:
                request.force_close()
            response = self._answer(request, conn, may_wait)
            if response.status is None:
                return _is_at_end(conn), True
            return not response.should_close() and _is_at_end(conn), False
        except (errors.NoMoreData, StopIteration) as exc:
            self.log.debug("connection closed: %s", exc)
        except OSError as exc:
            self.log.debug("client went away: %s", exc)
        except Exception as exc:
            self.handle_error(request, conn.sock, conn.client, exc)
        return False, False

    def _answer(self, request: Any, conn: _Connection, may_wait: bool) -> WholeAnswer:
        """Have the application answer, now or, where nothing may wait, later.

        The stock method also keeps the time for an access log and asks for hooks; here there are neither.
        """
        response: WholeAnswer
        response, environ = wsgi.create(request, conn.sock, conn.client, conn.server, self.cfg)
        environ["wsgi.multithread"] = True
        if not may_wait:
            environ["relay.later"] = _Later(self, conn, response)
        if not self.alive:
            response.force_close()
        parts = self.wsgi(environ, response.start_response)
        try:
            for part in parts:
                response.write(part)
            if response.status is not None:
                response.close()
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return response

    def handle_error(self, request: Any, client: socket.socket, address: Any, error: Exception) -> None:
        """Answer what never reached the application; nothing of the request is repeated or logged."""
        refused = isinstance(error, errors.ParseException | errors.ConfigurationProblem)
        code = _CODES.get(type(error), "bad-request" if refused else "internal")
        if not refused:
            log.exception("request_failed", code=code, address=str(address and address[0]))
        elif self.lines.allows(time.monotonic()):  # noqa: TID251 gunicorn's own clock
            log.info("request_refused", code=code, reason=type(error).__name__, address=str(address and address[0]))
        with contextlib.suppress(OSError):
            client.send(problem_bytes(code))

    # --- the end --------------------------------------------------------------------------------

    def handle_exit(self, *args: Any) -> None:
        """SIGTERM: end the waiting polls, answer what is in hand, stop."""
        self._end_polls()
        super().handle_exit(*args)

    def handle_quit(self, *args: Any) -> None:
        """SIGINT, SIGQUIT: end the waiting polls, stop."""
        self._end_polls()
        super().handle_quit(*args)

    def _end_polls(self) -> None:
        self.stopped_at = time.monotonic()  # noqa: TID251 gunicorn's own clock
        relay = getattr(self.wsgi, "extensions", {}).get("relay")
        if relay:
            relay.closing.set()


def _is_at_end(conn: _Connection) -> bool:
    """Tell whether the request was read to its end, and keep what came behind it for the next one."""
    try:
        whole = bool(conn.parser.finish_body())
    except (errors.NoMoreData, errors.ParseException, OSError):
        return False
    conn.arrival.received += conn.parser.unreader.take_buffered()
    return whole


def _once(data: bytes) -> Iterator[bytes]:
    """Yield data, then nothing: the parser never waits for the network."""
    yield data
