"""Which connections may stay: uvicorn's HTTP protocol, with limits in bytes and seconds that it leaves to a proxy.

Slow, oversized or unclosed connections are dropped, longest silent first, so that strangers can take neither the last
descriptor nor the memory. Nothing of HTTP is parsed here. What is used of uvicorn: its protocol class, given as the
setting `http`, asyncio's callbacks, and the state of its present request.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.clock import SystemClock
from common.logs import get_logger
from relay.credentials import LineLimit
from relay.problems import problem

CONNECTIONS = 2048
OWN_FILES = 200  # the database, PostgreSQL's connections, polls' wake-ups, alarms going out
HEAD_BYTES = 16 * 1024
ARRIVE_SECONDS = 10.0  # a request that is not whole by then is dropped
LINGER_SECONDS = 1.0  # for a request that is on its way while the server stops
SEND_SECONDS = 10.0  # and so is a client that has not read its answer
MOST_HELD = 8 * 1024 * 1024  # bytes of all requests that are not whole
ENOUGH_AHEAD = 64 * 1024  # bytes of further requests after which no more are read before an answer
TURNS = 8  # connections that go on with a further request in one round of the loop
MOST_CHUNKS = 256  # of a body in one piece of it: each costs time, and single bytes would keep everybody waiting
SWEEP_SECONDS = 0.5
_END, _BARE_END = b"\r\n\r\n", b"\n\n"
_ANSWER = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")  # not 100 Continue
# A request may ask for another protocol and must not get it; the parser would take the body for that protocol's.
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
_clock = SystemClock()
log = get_logger(__name__)


def most_connections() -> int:
    """Return how many connections may be open at once, after asking the system for enough descriptors.

    Without this a thousand silent strangers take the last one: nothing can be accepted, and no file opened.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS
    if soft < CONNECTIONS + OWN_FILES:
        wanted = CONNECTIONS + OWN_FILES
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(128, min(CONNECTIONS, soft - OWN_FILES))


class Room:
    """All open connections, in the order of their last bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[Connection, Room | None] = {}
        self._held = 0
        self._waiting: deque[Connection] = deque()
        self._lines = LineLimit()  # of requests that are not valid HTTP

    def enter(self, connection: Connection) -> None:
        """Take in a connection; where there are too many, drop the one that is not being answered and silent longest."""
        self._open[connection] = None
        if len(self._open) > self._most:
            self._drop_one()

    def heard(self, connection: Connection) -> None:
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def hold(self, connection: Connection, size: int) -> None:
        """Count the bytes of a request that is not whole; where there are too many, drop who is silent longest."""
        if connection not in self._open:  # dropped
            return
        self._held += size - connection.held
        connection.held = size
        while self._held > MOST_HELD and self._drop_one():
            pass

    def leave(self, connection: Connection) -> None:
        if self._open.pop(connection, self) is None:
            self._held -= connection.held

    def _drop_one(self) -> bool:
        found = next((each for each in self._open if not each.is_undisturbed), None)
        if found:
            self.leave(found)
            found.transport.abort()
        return found is not None

    def queue_up(self, connection: Connection) -> None:
        """Have a connection go on with a request that came before the answer to its last one, when it is its turn.

        Who sends many requests at once has them answered after those of everybody who sends one.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._go_on)
        self._waiting.append(connection)

    def _go_on(self) -> None:
        for _ in range(min(TURNS, len(self._waiting))):
            self._waiting.popleft().go_on()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._go_on)

    def refused(self, connection: Connection) -> None:
        if self._lines.allows(_clock.monotonic()):
            client = connection.client
            log.info("request_refused", code="bad-request", address=client and client[0])

    async def sweep(self) -> None:
        """Drop late connections, forever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = _clock.monotonic()
            for each in [each for each in self._open if each.is_late(now)]:
                self.leave(each)
                each.transport.abort()


class Together:
    """A transport that sends the head of an answer together with its body: each system call costs all threads time,
    and each packet its receiver.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_ANSWER) and data.endswith(_END):  # the body comes next
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send a head to which no body belongs."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """One client."""

    room: Room  # of the process; a server makes a class of its own with it

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.held = 0
        self._unread = b""  # a head that is not whole, or what came before the answer to an earlier request
        self._arrived = 0  # bytes of the request that is not whole
        self._begun: float | None = None  # since when a request is awaited that is not whole
        self._stuck: float | None = None  # since when the client reads nothing
        self._chunks = 0  # of the body, in the bytes that are being parsed
        self._queued = False  # to go on with what is unread
        self._is_leaving = False  # the server stops
        self._deaf = False  # what follows is no request; the last answer ends the connection

    @property
    def is_answering(self) -> bool:
        """True if the head of a request is here, and its answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_undisturbed(self) -> bool:
        """True if a whole request is being answered and its client reads: it is not to be dropped."""
        return self.is_answering and not self.cycle.more_body and not self.transport.get_write_buffer_size()

    def is_late(self, now: float) -> bool:
        """Return True if the client should have sent or read something by now."""
        if self.transport.get_write_buffer_size():
            self._stuck = self._stuck or now
            return now - self._stuck > SEND_SECONDS
        self._stuck = None
        return self._begun is not None and now - self._begun > ARRIVE_SECONDS and not self.is_undisturbed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(Together(transport))  # type: ignore[arg-type]  # as good as one
        self._begun = _clock.monotonic()
        self.room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self.room.heard(self)
        self._unread += data
        if len(self._unread) >= ENOUGH_AHEAD:
            self.transport.pause_reading()
        if not self._queued:
            self._read()
        self._count()

    def _count(self) -> None:
        if not self.transport.is_closing():
            self.room.hold(self, self._arrived + len(self._unread))

    def go_on(self) -> None:
        """Parse what came before the last answer."""
        self._queued = False
        self._read()

    def _read(self) -> None:
        """Parse no further than the request that is being answered: each costs a hundred times its bytes."""
        while self._unread and not self._is_busy and not self.transport.is_closing():
            piece = self._next_piece()
            if not piece:
                return
            self._parse(piece)
        if len(self._unread) < ENOUGH_AHEAD and not self.flow.read_paused:
            self.transport.resume_reading()

    @property
    def _is_busy(self) -> bool:
        """True while what comes next belongs to a later request."""
        return bool(self.pipeline) or (self.is_answering and not self.cycle.more_body)

    def _next_piece(self) -> bytes:
        """Return what is to be parsed now: a head when it is whole, or more of a body, up to the end of one head."""
        unread, end = self._unread, self._unread.find(_END) + len(_END)
        if end < len(_END):
            if not (self.is_answering and self.cycle.more_body) and _BARE_END not in unread:
                self._wait_for_head()
                return b""
            end = len(unread)
        elif unread.find(_END, end) < 0:  # it holds the end of one head at most
            end = len(unread)
        self._unread = unread[end:]
        piece = unread[:end]
        return _UPGRADE.sub(rb"\r\nx-ignored:", piece, 1) if b"pgrade" in piece else piece

    def _wait_for_head(self) -> None:
        if self._begun is None:
            self._begun = _clock.monotonic()
        if len(self._unread) > HEAD_BYTES:
            self._end_with("header-too-large")

    def _parse(self, piece: bytes) -> None:
        self._chunks = 0
        super().data_received(piece)
        if self.transport.is_closing():
            return
        if self.is_answering and not self.cycle.more_body:
            self._begun, self._arrived = None, 0
            self.cycle.keep_alive = self.cycle.keep_alive and not self._is_leaving
        else:
            self._arrived += len(piece)
            if self._begun is None:
                self._begun = _clock.monotonic()

    def on_body(self, body: bytes) -> None:
        self._chunks += 1
        if self._chunks > MOST_CHUNKS:
            raise ValueError("too many chunks")  # which the parser takes for its own error
        super().on_body(body)

    def on_response_complete(self) -> None:
        self.transport.flush()  # type: ignore[attr-defined]  # see Together
        super().on_response_complete()
        if self._is_leaving:
            self.transport.close()
            return
        self._begun, self._arrived = None, 0
        self._count()
        if self._unread and not self._queued:
            self._queued = True
            self.room.queue_up(self)

    def shutdown(self) -> None:
        """End after the present answer; a request that is on its way may still come, for a moment."""
        self._is_leaving = True
        self._begun = _clock.monotonic() - ARRIVE_SECONDS + LINGER_SECONDS
        if self.is_answering:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not understand; a request before it that is whole is still answered."""
        self.room.refused(self)
        self._unread, self._deaf = b"", True
        if self.is_answering and not self.cycle.more_body:
            self.cycle.keep_alive = False
        elif self.pipeline or (self.is_answering and self.cycle.response_started):
            self.transport.close()
        else:
            self._end_with("bad-request")

    def _end_with(self, code: str) -> None:
        """Refuse what is no request, in the form of all our answers, and end the connection."""
        self._deaf = True
        found = problem(code)
        lines = [f"HTTP/1.1 {found.status} Refused", *(f"{name}: {value}" for name, value in found.lines.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + found.body)
        self.transport.close()
