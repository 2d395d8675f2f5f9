"""A fuzz: the relay's front reads every request as the server's parser does alone, and as an independent one.

The front hands bytes on in pieces of its own, rewrites a header, counts lengths, and refuses some requests. Whatever the
bytes and however they arrive, it must see the same requests as httptools (node.js's parser) sees in all of them at once;
and what h11, which shares no code with it, takes for a request has the same method, target, body and framing there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import httptools
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.asgi import App, Front
from relay.connections import Connection, Room
from relay.delivery import Delivery
from relay.intake import Intake
from tests.relay.examples import Web

Seen = tuple[bytes, bytes, bytes]  # method, target, body
SILENCE_SECONDS = 20.0


# --- what is sent -------------------------------------------------------------------------------------------------

END = b"\r\n"
LENGTHS = [
    b"0",
    b"5",
    b"5",
    b"5",
    b"05",
    b"0" * 18 + b"5",
    b"+5",
    b"-5",
    b"5,5",
    b"5, 5",
    b"0x5",
    b"5 ",
    b"\t5",
    b"5\x0b",
    b"\x0b5",
    b"5\x00",
    b"",
    b"6",
    b"99",
    b"18446744073709551621",
    b"\xb5",
    b"5;",
    b"5.0",
]
CODINGS = [
    b"chunked",
    b"chunked",
    b"Chunked",
    b"chunked ",
    b"\tchunked",
    b"identity",
    b"gzip",
    b"gzip, chunked",
    b"chunked, chunked",
    b"xchunked",
    b"chunked\x0b",
    b"chunked;a=b",
    b"",
]
NAMES = [
    b"Content-Length",
    b"content-length",
    b"CONTENT-LENGTH",
    b"Content_Length",
    b"Content-Length ",
    b" Content-Length",
    b"Content-Length\x00",
    b"X-Content-Length",
    b"Content-Lengths",
]
CODING_NAMES = [
    b"Transfer-Encoding",
    b"transfer-encoding",
    b"Transfer_Encoding",
    b"Transfer-Encoding ",
    b"\tTransfer-Encoding",
]
OTHERS = [
    b"Host: x",
    b"Host: y",
    b"X: y",
    b"X:",
    b"X: \xff\x80",
    b"X: a\rb",
    b"X: a\nb",
    b" folded",
    b"\tfolded",
    b"Connection: close",
    b"X y: z",
    b"Connection: keep-alive",
    b"Connection: Content-Length",
    b"Expect: 100-continue",
    b"Expect: x",
    b": nothing",
    b"X",
    b"Trailer: X",
    b"X-Forwarded-For: 1.2.3.4",
    b"X_Forwarded_For: 1.2.3.4",
]
CHUNKS = [
    b"5\r\n12345\r\n0\r\n\r\n",
    b"5\r\n12345\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"005\r\n12345\r\n0\r\n\r\n",
    b"5;a=b\r\n12345\r\n0\r\n\r\n",
    b"5\n12345\n0\n\n",
    b"5 \r\n12345\r\n0\r\n\r\n",
    b"+5\r\n12345\r\n0\r\n\r\n",
    b"0x5\r\n12345\r\n0\r\n\r\n",
    b"4\r\n12345\r\n0\r\n\r\n",
    b"5\r\n12345\r\n0\r\nX: y\r\n\r\n",
    b"5\r\n12345\r\n0\r\nContent-Length: 9\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\n1",
    b"5\r\n12345\r\n0\r\n",
]
STARTS = [
    b"POST /a HTTP/1.1",
    b"POST /a HTTP/1.1",
    b"POST /a HTTP/1.1",
    b"GET /b HTTP/1.1",
    b"POST /a HTTP/1.0",
    b"POST /a HTTP/1.2",
    b"post /a HTTP/1.1",
    b"POST  /a HTTP/1.1",
    b"POST /a\tHTTP/1.1",
    b"POST /a HTTP/1.1 ",
    b"POST http://x/a HTTP/1.1",
    b"POST /a#b HTTP/1.1",
    b"POST /a?b HTTP/1.1",
    b"POST a HTTP/1.1",
    b"POST /\x80 HTTP/1.1",
    b"POST /%00 HTTP/1.1",
    b"PUT /a HTTP/1.1",
    b"\r\nPOST /a HTTP/1.1",
    b"POST /a",
    b"OPTIONS * HTTP/1.1",
]

_lengths = st.builds(lambda name, value: name + b": " + value, st.sampled_from(NAMES), st.sampled_from(LENGTHS))
_codings = st.builds(lambda name, value: name + b": " + value, st.sampled_from(CODING_NAMES), st.sampled_from(CODINGS))
_PLAIN, _CHUNKED = b"Content-Length: 5", b"Transfer-Encoding: chunked"
_starts = st.one_of(st.just(b"POST /a HTTP/1.1"), st.just(b"POST /a HTTP/1.1"), st.sampled_from(STARTS))
_lines = st.lists(st.one_of(_lengths, _codings, st.sampled_from(OTHERS)), max_size=2)
_ends = st.sampled_from([END] * 40 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
BODIES = [b"", b"1", b"123456789", *CHUNKS]


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    """Return one request, more or less."""
    framing, body = draw(st.sampled_from([(_PLAIN, b"12345")] * 3 + [(_CHUNKED, CHUNKS[0])] * 2 + [(b"X: y", b"")]))
    lines = draw(st.permutations([framing, *draw(_lines)]))
    head = b"".join(line + draw(_ends) for line in [draw(_starts), b"Host: relay", *lines]) + draw(_ends)
    return head + draw(st.one_of(st.just(body), st.just(body), st.sampled_from(BODIES)))


HIDDEN = b"POST /hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
PADDING = (
    b"x" * 40_000
)  # whatever still waits for the end of a head or of a body is over by then, and the connection with it
streams = st.lists(one_request(), min_size=1, max_size=3).map(lambda parts: b"".join(parts) + HIDDEN)


# --- who reads it -------------------------------------------------------------------------------------------------


@dataclass
class ByParser:
    """The server's parser alone, given all bytes at once: the whole requests in them, up to the first error."""

    seen: list[Seen] = field(default_factory=list)
    _target: bytes = b""
    _body: bytes = b""
    _is_last: bool = False

    def read(self, data: bytes) -> list[Seen]:
        self._parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser.feed_data(data)
        return self.seen

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._is_last:
            self.seen.append((self._parser.get_method(), self._target, self._body))
        self._is_last = self._is_last or not self._parser.should_keep_alive()


def by_h11(data: bytes) -> list[Seen]:
    """Return the whole requests that an independent parser finds, up to its first error."""
    found: list[Seen] = []
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    with contextlib.suppress(h11.RemoteProtocolError):
        method = target = body = b""
        while (event := reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                method, target, body = event.method, event.target, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                found.append((method, target, body))
                reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                reader.send(h11.EndOfMessage())
                if reader.our_state is h11.MUST_CLOSE:
                    break
                reader.start_next_cycle()
    return found


class NotingFront(Front):
    """Writes down, too, what it refuses by itself."""

    seen: list[Seen | None]

    async def _refuse(self, error: Exception, receive: Any, send: Any) -> None:
        self.seen.append(None)
        await super()._refuse(error, receive, send)


class Served:
    """The relay's own connections and front over real sockets; behind them an application that writes down what it gets."""

    def __init__(self, web: Web) -> None:
        self._web, self.seen = web, list[Seen | None]()

    async def __aenter__(self) -> Served:
        relay = self._web.relay
        front = self._front = NotingFront(relay, Intake(relay), Delivery(relay), lambda: self._application)
        config = uvicorn.Config(
            front, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
        )
        config.load()
        kind = type("FuzzedConnection", (Connection,), {"room": Room(100)})
        state = uvicorn.server.ServerState()
        make = lambda: kind(config=config, server_state=state, app_state={})  # noqa: E731 - an argument
        self._server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def _application(self) -> App:
        async def write_down(scope: Any, receive: Any, send: Any) -> None:
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            self.seen.append((scope["method"].encode(), target, (await receive())["body"]))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        return write_down

    async def read(self, data: bytes, cuts: list[int]) -> list[Seen | None]:
        """Send bytes in pieces until the relay ends the connection; return the requests that reached the application."""
        self.seen = self._front.seen = []
        port = self._server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
        async with asyncio.timeout(SILENCE_SECONDS):
            with contextlib.suppress(OSError):
                for start, end in zip(places, places[1:], strict=False):
                    writer.write(data[start:end])
                    await writer.drain()
                    await asyncio.sleep(0)
            with contextlib.suppress(OSError):
                while await reader.read(65536):
                    pass
            writer.close()
        return self.seen


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    found = Web(tmp_path)
    yield found
    found.pending.close()


def path_of(seen: Seen) -> Seen:
    """Return a request with its target as the front gets it: without a scheme, a host, or what follows a #."""
    method, target, body = seen
    with contextlib.suppress(httptools.HttpParserInvalidURLError):
        url = httptools.parse_url(target)
        target = (url.path or b"") + (b"?" + url.query if url.query else b"")
    return method, target, body


def shortened(seen: list[Seen]) -> list[Seen]:
    return [(method, target[:100], body[:100]) for method, target, body in seen]


def agree(seen: Sequence[Seen | None], whole: list[Seen]) -> bool:
    """True if each request that was not refused is the one that stands at its place."""
    return all(each is None or (at < len(whole) and each == whole[at]) for at, each in enumerate(seen))


@pytest.mark.timeout(300)  # a busy machine takes its time for a connection each
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=streams, cuts=st.lists(st.integers(0, 2000), max_size=4))
def test_front_reads_every_request_as_the_parsers_do(web: Web, data: bytes, cuts: list[int]) -> None:
    data += PADDING

    async def read() -> list[Seen | None]:
        async with Served(web) as served:
            return await served.read(data, cuts)

    seen = asyncio.run(read())
    parser = [path_of(each) for each in ByParser().read(data)]
    assert agree(seen, parser), (seen, shortened(parser))
    independent = [path_of(each) for each in by_h11(data)]
    both = min(len(seen), len(independent))
    assert agree(seen[:both], independent), (seen, shortened(independent))


@pytest.mark.timeout(300)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_plain_requests_are_all_read_however_they_are_cut(web: Web, cuts: list[int]) -> None:
    one = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"
    two = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"

    async def read() -> list[Seen | None]:
        async with Served(web) as served:
            return await served.read(one + two + one + HIDDEN, cuts)

    expected = (b"POST", b"/a?b", b"12345"), (b"POST", b"/a", b"12345"), (b"POST", b"/a?b", b"12345")
    assert asyncio.run(read()) == [*expected, (b"POST", b"/hidden", b"{}")]
