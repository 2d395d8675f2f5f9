"""One reading of each header: where a body ends is said once and plainly, or the request is refused.

Whatever is sent here ends in a second request, hidden where a careless reader would look for one. It must never be
answered for itself, and no byte of one connection may end, or delay, another.
"""

from __future__ import annotations

import contextlib
import threading

import pytest

from tests.relay.examples import AUTH, body, signal
from tests.relay.process import RelayProcess, http, read_answer, status

HIDDEN = http(body(symbol="HIDDEN"))  # authenticated, so that it would be taken if it were read
CHUNKS = b"Transfer-Encoding: chunked"


def framed(*headers: bytes, after: bytes = HIDDEN) -> bytes:
    """Return a request with these headers, and what comes behind its head."""
    lines = [b"POST /webhook HTTP/1.1", b"Host: relay", b"Authorization: " + AUTH["Authorization"].encode(), *headers]
    return b"\r\n".join([*lines, b"", after])


def length(value: bytes) -> bytes:
    return framed(b"Content-Length:" + value)


CONTROLS = [bytes([n]) for n in (*range(1, 9), 11, 12, *range(14, 32), 127)]
REFUSED = {
    **{f"a length behind 18 times {each!r}": length(each * 18 + b"5") for each in CONTROLS},
    **{f"a length before {each!r}": length(b" 5" + each) for each in CONTROLS},
    **{
        f"a length of {value!r}": length(b" " + value)
        for value in (
            b"+5", b"-5", b"0x5", b"5,5", b"5, 5", b"5 5", b"5;", b"5.0", b"1e1", b"5_0", b"\xd9\xa5", b"\xa05", b"\xef\xbc\x95",
            b"", b"18446744073709551621", b"9" * 400, b"five", b'"5"', b"\x005",
        )
    },
    "a length of more digits than Python reads": length(b" " + b"0" * 4300 + b"5"),
    "a length in the next line": framed(b"Content-Length:", b" 5"),
    "a length with a blank before its colon": framed(b"Content-Length : 5"),
    "a length with a NUL in its name": framed(b"Content-Length\0: 5"),
    "a length behind a bare CR": framed(b"X: y\rContent-Length: 5"),
    "a length behind a bare LF": framed(b"X: y\nContent-Length: 5"),
    "two lengths": framed(b"Content-Length: 5", b"Content-Length: 6"),
    "two lengths, the second right": framed(b"Content-Length: 5", b"Content-Length: %d" % len(HIDDEN)),
    "length, then chunks": framed(b"Content-Length: 5", CHUNKS, after=b"0\r\n\r\n" + HIDDEN),
    "chunks, then length": framed(CHUNKS, b"Content-Length: 5", after=b"0\r\n\r\n" + HIDDEN),
    **{
        f"a coding of {value!r}": framed(b"Transfer-Encoding: " + value, after=b"0\r\n\r\n" + HIDDEN)
        for value in (
            b"chunked, chunked", b"identity", b"xchunked", b"chunked\x0b", b"\x0bchunked", b"chunked;q=1", b"chunked, gzip",
            b"gzip", b"chunked,", b'"chunked"', b"\xa0chunked", b"",
        )
    },
    "two codings": framed(CHUNKS, b"Transfer-Encoding: identity", after=b"0\r\n\r\n" + HIDDEN),
    "a coding in the next line": framed(b"Transfer-Encoding:", b" chunked", after=b"0\r\n\r\n" + HIDDEN),
    "a coding with a blank before its colon": framed(b"Transfer-Encoding : chunked", after=b"0\r\n\r\n" + HIDDEN),
    **{
        f"a chunk of size {size!r}": framed(CHUNKS, after=size + b"\r\n{}000\r\n0\r\n\r\n" + HIDDEN)
        for size in (b"0x5", b"+5", b"-5", b"5_0", b" 5", b"", b"5\x0b", b"10000000000000005", b"5\r", b"g", b"\xd9\xa5")
    },
    "a chunk's size that ends with a bare LF": framed(CHUNKS, after=b"5\n{}000\r\n0\r\n\r\n" + HIDDEN),
    "a chunk that is longer than it says": framed(CHUNKS, after=b"2\r\n{}000\r\n0\r\n\r\n" + HIDDEN),
    "a chunk that ends with a bare LF": framed(CHUNKS, after=b"2\r\n{}\n0\r\n\r\n" + HIDDEN),
    "lines that end with a bare LF": length(b" 5").replace(b"\r\n", b"\n"),
    "a head that ends with two bare LFs": framed(b"X: y\n\nContent-Length: 5"),
    "HTTP/1.0 with chunks and length": length(b" 5\r\n" + CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a folded name": framed(b"Content-\r\n Length: 5"),
}  # fmt: skip


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_doubtful_framing_is_refused_and_nothing_behind_it_is_read(relay: RelayProcess, data: bytes) -> None:
    received = everything(relay, data)
    assert received.count(b"HTTP/1.1 ") == 1, received
    assert status(received) in (400, 413), received
    assert b"connection: close" in received.lower()
    assert_undisturbed(relay)


PLAIN = {
    "18 leading zeros": framed(b"Content-Length: " + b"0" * 18 + b"%d" % len(HIDDEN)),
    "30 leading zeros": framed(b"Content-Length: " + b"0" * 30 + b"%d" % len(HIDDEN)),
    "a tab before the length": framed(b"Content-Length:\t%d" % len(HIDDEN)),
    "blanks behind the length": framed(b"Content-Length: %d \t " % len(HIDDEN)),
    "a chunk's size with leading zeros": framed(CHUNKS, after=b"%018x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "an extension of a chunk": framed(CHUNKS, after=b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    "a trailer that looks like a length": framed(
        CHUNKS, after=b"%x\r\n%s\r\n0\r\nContent-Length: 5\r\n\r\n" % (len(HIDDEN), HIDDEN)
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN.keys())
def test_a_body_is_never_answered_as_a_request(relay: RelayProcess, data: bytes) -> None:
    """The hidden request is the body, all of it; behind it comes a request that is answered as the second."""
    received = everything(relay, data + http(b"", "/healthz", (b"Connection: close",), b"GET", length=False))
    answers = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert answers in ([400, 200], [400]), received
    assert_undisturbed(relay)


def assert_undisturbed(relay: RelayProcess) -> None:
    """The process lives, and the hidden request was not taken."""
    assert relay.process.poll() is None
    assert "symbol=HIDDEN" not in relay.log and "Traceback" not in relay.log


def everything(relay: RelayProcess, data: bytes) -> bytes:
    """Return all that comes back until the connection ends, which must not wait for more from us."""
    received = b""
    with relay.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(data)
        while more := client.recv(65536):
            received += more
    return received


# --- many in one connection -------------------------------------------------------------------------

PIPELINED = {
    "no length": b"POST /webhook/# HTTP/1.1\r\nHost: x\r\n\r\n",
    "a wrong secret": b"POST /webhook/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "as short as may be": b"GET / HTTP/1.1\r\n\r\n",
    "a fragment and a query": b"GET /healthz?#?# HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", PIPELINED.values(), ids=PIPELINED.keys())
def test_400_pipelined_requests_are_each_answered(relay: RelayProcess, request_bytes: bytes) -> None:
    last = http(b"", "/healthz", (b"Connection: close",), b"GET", length=False)
    received = b""
    with relay.connect() as client:
        sender = threading.Thread(target=client.sendall, args=(request_bytes * 400 + last,))
        sender.start()
        while more := client.recv(65536):
            received += more
        sender.join()
    assert received.count(b"HTTP/1.1 ") == 401 and received.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize("request_bytes", PIPELINED.values(), ids=PIPELINED.keys())
def test_alerts_are_taken_while_200_connections_pipeline(relay: RelayProcess, request_bytes: bytes) -> None:
    clients = [relay.connect() for _ in range(200)]
    try:
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.send(request_bytes * 400)
        for number in range(5):
            with relay.computes_at_most(1):  # all that was sent costs ten times as much
                assert relay.post("/webhook", signal(symbol=f"AMID{number}")).status_code in (200, 202)
    finally:
        for client in clients:
            client.close()
    assert relay.process.poll() is None


def test_rubbish_behind_an_alert_does_not_take_its_answer(relay: RelayProcess) -> None:
    """The alert is stored, so its sender must hear 202, whatever comes behind it in the same packet."""
    received = everything(relay, http(body(symbol="BEFORE")) + b"\x00rubbish\r\n\r\n")
    assert status(received) == 202 and b"connection: close" in received.lower(), received


def test_a_head_in_pieces_that_asks_for_another_protocol_is_answered_in_ours(relay: RelayProcess) -> None:
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAAA")
    with relay.connect() as client:
        for number in range(2):
            data = http(body(symbol=f"UP{number}"), headers=upgrade)
            for at in range(0, len(data), 7):
                client.sendall(data[at : at + 7])
            assert status(read_answer(client)) == 202
