"""gunicorn's threaded worker, taught not to spend a thread where there is nothing to do.

An alert needs no thread at all: the main loop hands it to the queue's writer and answers when its commit is done,
for many alerts at once; a thread for each would spend more time on being woken than on its alert. All else is
answered in a thread. Refusals that happen below the application become problem details too, without a banner.
Written against gunicorn 27; `python -m relay` is its only user.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gunicorn import http
from gunicorn.glogging import Logger
from gunicorn.http import errors, wsgi

from common.clock import SystemClock
from common.logs import get_logger
from relay.arrival import Arrival
from relay.connections import CollectingWorker, Connection
from relay.failures import LineLimit
from relay.handoff import Threads, Wakeups
from relay.problems import Answer
from relay.sending import WholeAnswer, problem_bytes, send_now

log = get_logger(__name__)
MOST_TOGETHER = 64  # alerts; those that came first do not wait for more

_clock = SystemClock()
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


class _Later:
    """The answer to an alert, given when its commit is done (see relay.intake.Later)."""

    def __init__(self, worker: RelayWorker, conn: Connection, response: WholeAnswer) -> None:
        self._worker, self._conn, self._response = worker, conn, response

    def soon(self, call: Callable[[], None]) -> None:
        self._worker.soon(call)

    def answer(self, answer: Answer) -> None:
        self._worker.method_queue.defer(self._worker.answer_alert, self._conn, self._response, answer)

    def aside(self, call: Callable[[], None]) -> None:
        self._worker.tpool.put(call)


class RelayWorker(CollectingWorker):
    """See the module's docstring."""

    def init_process(self) -> None:
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

    def arrived(self, conn: Connection) -> None:
        """Answer an alert here, all else in a thread."""
        if not _ALERT.match(conn.arrival.received):
            self.tpool.put(partial(self._work, conn))
            return
        keep = self._handle(conn, may_wait=False)
        if keep is not None:
            self.finished(conn, keep)

    def _work(self, conn: Connection) -> None:
        self.method_queue.defer(self.finished, conn, self._handle(conn, may_wait=True))

    def _handle(self, conn: Connection, may_wait: bool) -> bool | None:
        """Answer one request; return whether the connection may be used again, None where the answer comes later."""
        request = None
        arrival, conn.arrival = conn.arrival, Arrival()
        try:
            if arrival.head_too_large:
                raise errors.LimitRequestHeaders("headers")
            if arrival.too_many_chunks:
                raise errors.ParseException("chunks")
            parser = http.get_parser(self.cfg, _once(bytes(arrival.received)), conn.client)
            request = next(parser)
            if not arrival.has_end:
                request.force_close()
            response = self._answer(request, conn, may_wait)
            conn.unsent, conn.reusable = response.unsent, _is_at_end(parser)
            conn.arrival.received += parser.unreader.take_buffered()
            if response.status is None:
                return None
            return conn.reusable and not response.should_close()
        except (OSError, StopIteration) as exc:
            self.log.debug("client went away: %s", exc)
        except Exception as exc:
            self.handle_error(request, conn.sock, conn.client, exc)
        return False

    def _answer(self, request: Any, conn: Connection, may_wait: bool) -> WholeAnswer:
        """Have the application answer, now or, where nothing may wait, later.

        The stock method also keeps the time for an access log and asks for hooks; here there are neither.
        """
        response: WholeAnswer
        response, environ = wsgi.create(request, conn.sock, conn.client, conn.server, self.cfg, WholeAnswer)
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

    def answer_alert(self, conn: Connection, response: WholeAnswer, answer: Answer) -> None:
        """Send the answer to an alert."""
        if not self.alive:
            response.force_close()
        (body,) = answer.for_server(response.start_response)
        keep = conn.reusable and not response.should_close()
        try:
            conn.unsent = send_now(conn.sock, response.whole(body))
        except OSError:  # it is gone
            keep = False
        self.finished(conn, keep)

    def handle_error(self, request: Any, client: socket.socket, address: Any, error: Exception) -> None:
        """Answer what never reached the application; nothing of the request is repeated or logged."""
        refused = isinstance(error, errors.ParseException)
        code = _CODES.get(type(error), "bad-request" if refused else "internal")
        if not refused:
            log.exception("request_failed", code=code, address=str(address and address[0]))
        elif self.lines.allows(_clock.monotonic()):
            log.info("request_refused", code=code, reason=type(error).__name__, address=str(address and address[0]))
        with contextlib.suppress(OSError):  # it is gone
            client.send(problem_bytes(code))


def _is_at_end(parser: Any) -> bool:
    """Tell whether the request was read to its end; what comes behind it is then the next one."""
    try:
        return bool(parser.finish_body())
    except (errors.ParseException, OSError):  # out of form: where it ends is not known
        return False


def _once(data: bytes) -> Iterator[bytes]:
    """Yield data, then nothing: the parser never waits for the network."""
    yield data
