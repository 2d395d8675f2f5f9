"""The relay as an ASGI application: alerts and the executor's calls are answered in the event loop, the rest by Flask.

No thread waits for a socket, or for a signal. Whatever a request is for, its body is read here, up to 16 KiB; an alert
or a poll then goes to the queue's writer and is answered after its commit. Flask gets requests that are whole, in a
thread each.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from common.errors import SignalTooLarge
from common.logs import get_logger
from relay.calls import Call, Request
from relay.context import Relay
from relay.credentials import LineLimit
from relay.delivery import Delivery
from relay.intake import MAX_BODY_BYTES, Intake
from relay.problems import Answer, RequestRefused, answer, code_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_TARGET_BYTES, MOST_FIELD_BYTES, MOST_FIELDS = 2048, 8190, 64
PART_SECONDS, MOST_IGNORED = 1.0, 256 * 1024  # what is read and thrown away after a last answer, at most
MOST_TOGETHER = 64  # works of the queue; those that came first do not wait for more
_LENGTH = re.compile(r"[0-9]{1,64}")  # the parser takes more leading zeros than Python's int() does
log = get_logger(__name__)


class ClientGone(Exception):
    """The client left before its request was whole: nobody is there to be answered."""


class Front:
    """The application. `make_web` returns Flask's part; it is called in a thread, at the first request for it."""

    def __init__(self, relay: Relay, intake: Intake, delivery: Delivery, make_web: Callable[[], App]) -> None:
        self._relay, self._intake, self._delivery, self._make_web = relay, intake, delivery, make_web
        # Flask takes a path with and without a slash at its end, and so must who answers in its place.
        self._deliveries = {path + slash: path for path in delivery.paths for slash in ("", "/")}
        self._web: asyncio.Future[App] | None = None
        self._rounds = Rounds()
        self._lines = LineLimit()  # of requests that are not even valid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = fields(scope)
        try:
            refuse_misformed(scope, headers)
            body = await read_body(headers, receive)
        except ClientGone:
            return
        except (RequestRefused, SignalTooLarge) as exc:
            await self._refuse(exc, receive, send)
            if isinstance(exc, SignalTooLarge) and (secret := alert_secret(scope)) is not None:
                unread = Request(headers, b"", self._sender(scope, headers), scope["path"], secret or None)
                await self._intake.keep_refused(unread, exc, self._rounds.wait)
            return
        secret = alert_secret(scope)
        delivery = self._deliveries.get(scope["path"]) if scope["method"] == "POST" else None
        if secret is None and delivery is None:
            await self._ask_web(scope, body, send)
            return
        request = Request(headers, body, self._sender(scope, headers), scope["path"], secret or None)
        if delivery is None:
            await self._intake.accept(request, self._rounds.wait, partial(give, send))
        else:
            await give(send, await self._deliver(delivery, request, receive))

    async def _deliver(self, path: str, request: Request, receive: Receive) -> Answer:
        """Answer one of the executor's calls; while it waits, watch whether the client is still there."""
        presence = Presence()
        watch = asyncio.ensure_future(presence.watch(receive))
        try:
            return await self._delivery.accept(path, request, self._rounds.wait, presence.is_there)
        finally:
            watch.cancel()

    def _sender(self, scope: Scope, headers: dict[str, str]) -> str:
        client = scope.get("client")
        return self._relay.proxies.sender(client[0] if client else "", headers.get("x-forwarded-for"))

    async def _refuse(self, error: Exception, receive: Receive, send: Send) -> None:
        """Answer and end the connection: where its next request begins is not known.

        What the client still sends is read for a moment: closing in the middle of it would destroy the answer.
        """
        code = code_of(error)
        self._relay.refused.add(code)
        if self._lines.allows(self._relay.clock.monotonic()):
            log.info("request_refused", code=code)
        await give(send, answer(error), more=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PART_SECONDS):
                ignored, message = 0, await receive()
                while message["type"] == "http.request" and message.get("more_body") and ignored < MOST_IGNORED:
                    ignored += len(message.get("body", b""))
                    message = await receive()
        await send({"type": "http.response.body", "body": b""})

    async def prepare(self) -> None:
        """Create the Flask part, so that nobody waits for it."""
        await self._ready_web()

    async def _ready_web(self) -> App:
        if self._web is None:
            self._web = asyncio.ensure_future(asyncio.to_thread(self._make_web))
        return await asyncio.shield(self._web)

    async def _ask_web(self, scope: Scope, body: bytes, send: Send) -> None:
        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await (await self._ready_web())(whole(scope, len(body)), receive, send)


class Presence:
    """True if the client of one request is still there, as far as its socket shows; asked in any thread.

    A client that vanished without a word (power, network) cannot be told from a silent one; its lease then
    runs out and the signal is given away again.
    """

    def __init__(self) -> None:
        self._is_gone = False

    def is_there(self) -> bool:
        return not self._is_gone

    async def watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True


class Rounds:
    """Hands work to the queue, and its outcomes back to the loop, for a whole round of the loop at a time.

    The writer finds alerts that came together together, and one wake-up of the loop serves all their answers.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Call, asyncio.Future[Any]]] = []
        self._told: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._waking = False

    async def wait(self, call: Call) -> Any:
        """Begin a queue operation at the end of this round; return its outcome."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._calls:
            loop.call_soon(self._begin)
        self._calls.append((call, future))
        if len(self._calls) >= MOST_TOGETHER:
            self._begin()
        return await future

    def _begin(self) -> None:
        calls, self._calls = self._calls, []
        for call, future in calls:
            try:
                call(partial(self._tell, future))
            except Exception as exc:
                self._tell(future, exc)

    def _tell(self, future: asyncio.Future[Any], outcome: Any) -> None:
        """Take an outcome, in any thread. First the entry, then the look at `_waking`: none is forgotten."""
        self._told.append((future, outcome))
        if not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who waited
                future.get_loop().call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._waking = False
        while self._told:
            future, outcome = self._told.popleft()
            if not future.done():  # its connection is gone, and its task cancelled
                future.set_result(outcome)


def fields(scope: Scope) -> dict[str, str]:
    """Return name -> value of a request's headers; the values of one that came twice are joined."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def refuse_misformed(scope: Scope, headers: dict[str, str]) -> None:
    """Raise RequestRefused for what the server's parser lets through and nobody should send."""
    if scope["http_version"] not in ("1.1", "1.0"):
        raise RequestRefused("bad-request")
    if len(scope["raw_path"]) + len(scope["query_string"]) > MOST_TARGET_BYTES:
        raise RequestRefused("uri-too-long")
    if len(scope["headers"]) > MOST_FIELDS or any(
        len(name) + len(value) > MOST_FIELD_BYTES for name, value in scope["headers"]
    ):
        raise RequestRefused("header-too-large")
    if headers.get("expect", "100-continue").lower() != "100-continue":
        raise RequestRefused("expectation-failed")
    length = headers.get("content-length")
    if length is None:
        if scope["method"] == "POST" and "transfer-encoding" not in headers:
            raise RequestRefused("length-required")
    elif "transfer-encoding" in headers or not _LENGTH.fullmatch(length):
        raise RequestRefused("bad-request")


async def read_body(headers: dict[str, str], receive: Receive) -> bytes:
    """Return the whole body. One that takes too long ends with its connection (see relay.connections).

    Raises:
        SignalTooLarge: It is longer than 16 KiB, whatever its Content-Length says.
        ClientGone: Its sender left before the end, or was too slow.
    """
    if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise SignalTooLarge(f"at most {MAX_BODY_BYTES} bytes")
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise SignalTooLarge(f"at most {MAX_BODY_BYTES} bytes")
        if not message.get("more_body"):
            return body


def alert_secret(scope: Scope) -> str | None:
    """Return the secret in the path of an alert, "" for one without; None for a request that is no alert."""
    path: str = scope["path"]
    if scope["method"] != "POST" or not path.startswith("/webhook"):
        return None
    if path == "/webhook":
        return ""
    secret = path.removeprefix("/webhook/")
    return secret if secret and secret != path and "/" not in secret else None


def whole(scope: Scope, length: int) -> Scope:
    """Return a request for Flask: its body is whole, and no header of it can pass for another's."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if b"_" not in name and name not in (b"content-length", b"transfer-encoding")
    ]
    headers.append((b"content-length", b"%d" % length))
    return {**scope, "headers": headers}


async def give(send: Send, found: Answer, more: bool = False) -> None:
    """Send an answer; `more` keeps the connection until an empty last part is sent."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in found.lines.items()]
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": found.body, "more_body": more})
