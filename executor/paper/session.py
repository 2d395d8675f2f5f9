"""One connected client: handshake, the boundary of every message, and who gets to hear what.

No I/O: bytes come in by `receive`, go out by the function given. The gateway hands it what answers its requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from executor.paper import replies
from executor.paper.exchange import Exchange
from executor.paper.feeds import Feeds
from executor.paper.owner import Owner
from executor.paper.replies import Message
from executor.paper.requests import Request, UnknownMessage, read
from executor.paper.validation import words
from executor.paper.wire import Receiver, WireError, frame, negotiate, whole

Answer = Callable[["Session", Request], None]  # answers one request of a client that has logged in
FARMS = ((2104, "Market data farm connection is OK:usfarm"), (2106, "HMDS data farm connection is OK:ushmds"),
         (2158, "Sec-def data farm connection is OK:secdefnj"))  # fmt: skip


class Gate(Protocol):
    """What a session needs of the gateway that it came in by."""

    exchange: Exchange
    owner: Owner
    sessions: list[Session]

    def pump(self) -> None:
        """Handle all waiting messages, of every session."""

    def claim(self, session: Session, client_id: int) -> bool:
        """Give a client id to a session; False if it is taken."""

    def boundary(self, session: Session, direction: str, when: str, kind: str) -> bool:
        """Let faults act before or after a message; False if it must not pass."""

    def count(self, direction: str, kind: str) -> None:
        """Take notice of a message that was handled or written."""

    def note(self, text: str) -> None:
        """Keep what a log would want to know."""

    def left(self, session: Session) -> None:
        """Forget a session that has ended."""


class Session:
    """The server's side of one connection."""

    def __init__(
        self, gateway: Gate, answer: Answer, write: Callable[[bytes], None], on_close: Callable[[], None]
    ) -> None:
        self.gateway = gateway
        self.floor = gateway.exchange.floor
        self.feeds = Feeds(self.floor)
        self.version = 0
        self.client_id: int | None = None
        self.closed = False
        self.sees_all = False  # has asked for the orders of all clients
        self.auto_bind = False
        self.paused = False  # frozen: nothing is read, nothing is written
        self._answer = answer
        self._write = write
        self._leaving = False  # the client is gone, its last messages wait behind a freeze
        self._on_close = on_close
        self._receiver = Receiver()
        self._inbox: deque[list[str]] = deque()
        self._outbox: deque[Message] = deque()
        self._times: deque[float] = deque()
        self._faults_of_rate = 0

    # -- in ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the client; answers go out before this returns, unless a fault holds them."""
        if self.closed:
            return
        try:
            self._inbox.extend(self._receiver.feed(data))
        except WireError as error:
            self.gateway.note(f"closed a connection: {error}")
            self.cut()
            return
        self.gateway.pump()

    def is_paused(self) -> bool:
        """True if a freeze keeps this session from reading and writing."""
        return self.paused

    def handle_next(self) -> bool:
        """Handle one message that waits; False if there is none or the session rests."""
        if self.closed or self.is_paused():
            return False
        if not self._inbox:
            if self._leaving:
                self.cut()
            return False
        fields = self._inbox.popleft()
        if not self.version:
            self._greet(fields)
            return True
        request = self._read(fields)
        if request is None:
            return True
        if not self.gateway.boundary(self, "in", "before", request.kind):
            if self.is_paused():
                self._inbox.appendleft(fields)
            return not self.is_paused()
        self.gateway.count("in", request.kind)
        self._handle(request)
        self.gateway.boundary(self, "in", "after", request.kind)
        return True

    def _greet(self, fields: list[str]) -> None:
        try:
            self.version = negotiate(fields[0])
        except WireError as error:
            self.gateway.note(f"closed a connection: {error}")
            self.cut()
            return
        self._put([self.version, f"{self.floor.now:%Y%m%d %H:%M:%S} UTC"])

    def _read(self, fields: list[str]) -> Request | None:
        try:
            return read(fields, self.version)
        except UnknownMessage:
            self.error(-1, 505, "Fatal Error: Unknown message id.")
        except WireError as error:
            self.error(-1, 320, f"{words(320)} - {error}")
        return None

    def _handle(self, request: Request) -> None:
        if not self._within_rate():
            return
        try:
            self._obey(request)
        except WireError as error:
            self.error(request.req_id or -1, 320, f"{words(320)} - {error}")

    def _obey(self, request: Request) -> None:
        if request.kind == "startApi":
            self._start(request)
        elif self.client_id is None:
            self.error(-1, 504, "Not connected")
        else:
            self._answer(self, request)

    def _start(self, request: Request) -> None:
        client_id = whole(request.args["client_id"])
        if self.client_id is not None:
            return
        if not self.gateway.claim(self, client_id):
            self.error(-1, 326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
            self.cut()
            return
        self.client_id = client_id
        if self.floor.faults.standing("silent_login"):
            return
        self.put(replies.managed_accounts(self.floor.books.accounts))
        self.put(replies.next_valid_id(self.floor.book.mark(client_id)))
        for code, text in FARMS:
            self.error(-1, code, text)

    def _within_rate(self) -> bool:
        """Count a message against the knob `max_rate`: error 100, and the third time the end."""
        fault = self.floor.faults.standing("max_rate")
        if not fault:
            return True
        now, limit = self.floor.clock.monotonic(), fault.whole("per_second")
        self._times.append(now)
        while now - self._times[0] >= 1.0:
            self._times.popleft()
        if len(self._times) <= limit:
            return True
        self._faults_of_rate += 1
        self.error(-1, 100, f"Max rate of messages per second has been exceeded:max={limit} rec={len(self._times)}")
        if self._faults_of_rate >= 3:
            self.cut()
        return False

    # -- out --------------------------------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Send one message; faults may keep it back, leave it out, or cut the connection around it."""
        kind = replies.kind(message)
        if self.closed or (kind.endswith("End") and self.floor.faults.take_end("missing_end", kind)):
            return
        if self.is_paused() or not self._deliver(message, kind):
            self._outbox.append(message)

    def _deliver(self, message: Message, kind: str) -> bool:
        """Write one message unless a fault stops everything before it; False: it has to wait."""
        if not self.gateway.boundary(self, "out", "before", kind):
            return not self.is_paused()
        self._put(message)
        self.gateway.count("out", kind)
        self.gateway.boundary(self, "out", "after", kind)
        return True

    def put_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.put(message)

    def error(self, req_id: int, code: int, text: str) -> None:
        self.put(replies.error(req_id, code, text, self.version))

    def _put(self, message: Message) -> None:
        self._write(frame(message))

    def resume(self) -> None:
        """End a freeze: send what waited, then read what waited."""
        self.paused = False
        while self._outbox and not self.is_paused() and not self.closed:
            message = self._outbox.popleft()
            if not self._deliver(message, replies.kind(message)):
                self._outbox.appendleft(message)

    def close(self) -> None:
        """Take notice that the client is gone. What it sent before is still obeyed, also after a freeze."""
        if self._inbox and self.is_paused() and not self.closed:
            self._write, self._leaving = lambda data: None, True
        else:
            self.cut()

    def abandon(self) -> None:
        """Cut the connection of a server that ends in trouble; no record is made of it."""
        self.closed = True
        self.gateway.sessions.remove(self)
        self._on_close()

    def cut(self) -> None:
        """Cut the connection from our side; harmless if it is cut already."""
        if self.closed:
            return
        self.closed = True
        self._inbox.clear()
        self._outbox.clear()
        self.gateway.left(self)
        self._on_close()
