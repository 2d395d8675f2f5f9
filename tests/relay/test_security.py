"""What a stranger may try, byte by byte, on the real server: where he comes from, what he says, what he is told."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.problems import HEADERS
from tests.relay.examples import EXECUTOR, SECRET, SENDER_SIGNING, body
from tests.relay.process import PATIENT, RelayProcess, http, read_answer, run_command, status

# --- where a request comes from ---------------------------------------------------------------------

KNOWN, STRANGER = b"52.89.214.238", b"203.0.113.9"  # one of TradingView's addresses; nobody's


def told(*addresses: bytes) -> bytes:
    return b"X-Forwarded-For: " + b", ".join(addresses)


# proxies before the relay -> what stands in the request -> is it let in? We are the last proxy, at 127.0.0.1.
TELLING = {
    0: [
        ((), False),
        ((told(KNOWN),), False),
        ((b"X_Forwarded_For: " + KNOWN,), False),
        ((b"Forwarded: for=" + KNOWN, b"X-Real-IP: " + KNOWN, b"True-Client-IP: " + KNOWN), False),
        ((b"Remote-Addr: " + KNOWN, b"REMOTE_ADDR: " + KNOWN), False),
    ],
    1: [
        ((told(KNOWN),), True),
        ((), False),
        ((told(STRANGER, KNOWN),), True),
        ((told(KNOWN, STRANGER),), False),
        ((told(KNOWN), told(STRANGER)), False),
        ((told(STRANGER), told(KNOWN)), True),
        ((told(b"::ffff:" + KNOWN),), True),
        ((told(b"[::ffff:" + KNOWN + b"]:443"),), True),
        ((told(KNOWN + b":443"),), True),
        ((told(KNOWN, b'"'),), False),
        ((told(KNOWN, b""),), False),
        ((told(KNOWN + b"\t"),), True),
        ((b"X_Forwarded_For: " + KNOWN,), False),
        ((told(STRANGER), b"X_Forwarded_For: " + KNOWN), False),
        ((told(b"rubbish"),), False),
        ((told(b""),), False),
    ],
    2: [
        ((told(KNOWN, b"10.0.0.7"),), True),
        ((told(KNOWN),), False),
        ((told(KNOWN, STRANGER, b"10.0.0.7"),), False),
        ((told(STRANGER, KNOWN, b"10.0.0.7"),), True),
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=[1, *(pytest.param(hops, marks=pytest.mark.slow) for hops in (0, 2))])
def filtered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """A relay that takes alerts from TradingView's addresses only, behind so many proxies."""
    # All of this machine's addresses, since a relay on loopback behind no proxy would let nobody in and does not start.
    flags = ["--host", "0.0.0.0", "--allowed-addresses", "tradingview", "--proxy-hops", str(request.param)]
    found = RelayProcess(tmp_path_factory.mktemp("filtered"), *flags)
    found.hops = request.param  # type: ignore[attr-defined]
    yield found
    assert found.stop() == 0 and "Traceback" not in found.log


def test_a_forged_address_lets_nobody_in(filtered: RelayProcess) -> None:
    for number, (headers, let_in) in enumerate(TELLING[filtered.hops]):  # type: ignore[attr-defined]
        answer = filtered.raw(http(body(symbol=f"H{number}"), headers=headers))
        assert status(answer) == (202 if let_in else 403), (headers, answer)


def test_an_allowed_address_is_no_credential(filtered: RelayProcess) -> None:
    headers = (told(*[KNOWN] * max(1, filtered.hops)), b"Authorization: Bearer no")  # type: ignore[attr-defined]
    assert status(filtered.raw(http(body(symbol="NOCRED"), headers=headers))) in (401, 403)


def test_an_ambiguous_filter_does_not_start(tmp_path: Path) -> None:
    found = run_command(tmp_path, "--port", "0", "--allowed-addresses", "tradingview")
    assert found.returncode == 2 and "--proxy-hops / RELAY_PROXY_HOPS must be set" in found.stderr


# --- what it says -----------------------------------------------------------------------------------

HOSTILE = {
    "NaN": b'{"action":"open","symbol":"A","side":"buy","quantity":NaN}',
    "Infinity": b'{"action":"open","symbol":"A","side":"buy","quantity":-Infinity}',
    "an exponent without end": b'{"action":"open","symbol":"A","side":"buy","quantity":1E+999999999}',
    "the same as text": b'{"action":"open","symbol":"A","side":"buy","quantity":"1E+1000000"}',
    "4,000 digits": b'{"action":"open","symbol":"A","side":"buy","quantity":' + b"9" * 4000 + b"}",
    "digits of another script": '{"action":"open","symbol":"A","side":"buy","quantity":"１２"}'.encode(),
    "underscores": b'{"action":"open","symbol":"A","side":"buy","quantity":"1_000"}',
    "blanks in a number": b'{"action":"open","symbol":"A","side":"buy","quantity":" 1 "}',
    "minus nothing": b'{"action":"open","symbol":"A","side":"buy","quantity":-0}',
    "true for a number": b'{"action":"open","symbol":"A","side":"buy","quantity":true}',
    "a key twice": b'{"action":"close","symbol":"A","symbol":"B"}',
    "a key twice, once escaped": b'{"action":"close","symbol":"A","\\u0073ymbol":"B"}',
    "nested": b"[" * 8000 + b"]" * 8000,
    "nested, open": b'{"a":' * 3000,
    "a byte-order mark": b'\xef\xbb\xbf{"action":"open","symbol":"A","side":"buy","quantity":1}',
    "UTF-16": '{"action":"close","symbol":"A"}'.encode("utf-16"),
    "no UTF-8": b'{"action":"close","symbol":"A\xff"}',
    "half a pair": b'{"action":"open","symbol":"A","side":"buy","quantity":1,"note":"\\ud800"}',
    "NUL": b'{"action":"open","symbol":"A","side":"buy","quantity":1,"note":"\\u0000"}',
    "an unknown field": b'{"action":"open","symbol":"A","side":"buy","quantity":1,"leverage":10}',
    "a list": b'[{"action":"close","symbol":"A"}]',
    "two values": b'{"action":"close","symbol":"A"}{"action":"close","symbol":"B"}',
    "a comment": b'{"action":"close",/* x */"symbol":"A"}',
    "nothing": b"",
    "markup": b'{"action":"close","symbol":"<script>alert(1)</script>"}',
    "SQL": b'{"action":"close","symbol":"A\'; DROP TABLE pending_signals; --"}',
    "a path": b'{"action":"close","symbol":"../../etc/passwd"}',
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_doubtful_json_is_400_at_once(relay: RelayProcess, data: bytes) -> None:
    with relay.computes_at_most(0.3):
        answer = relay.raw(http(data))
    assert status(answer) == 400 and b'"code":"malformed"' in answer, answer


SIGNATURES = {
    "twice": (b"webhook-signature: v1,AAAA", b"webhook-signature: v1,BBBB"),
    "without a comma": (b"webhook-signature: v1AAAA",),
    "many": (b"webhook-signature: " + b" ".join([b"v1,AAAA"] * 500),),
    "no base64": (b"webhook-signature: v1,\xff\xfe",),
    "another version": (b"webhook-signature: v1a,AAAA",),
    "two ids": (b"webhook-id: other", b"webhook-signature: v1,AAAA"),
    "a time with a fraction": (b"webhook-timestamp: 1795425300.5", b"webhook-signature: v1,AAAA"),
    "a time of 20 digits": (b"webhook-timestamp: " + b"9" * 20, b"webhook-signature: v1,AAAA"),
    "a time of another script": ("webhook-timestamp: ١٢٣".encode(), b"webhook-signature: v1,AAAA"),
}


@pytest.mark.parametrize("headers", SIGNATURES.values(), ids=SIGNATURES.keys())
def test_hostile_signatures_are_401_and_nothing_else(relay: RelayProcess, headers: tuple[bytes, ...]) -> None:
    more = (b"Authorization: none", b"webhook-id: m", *headers)
    if not any(line.startswith(b"webhook-timestamp") for line in headers):
        more = (*more, b"webhook-timestamp: %d" % time.time())
    answer = relay.raw(http(body(symbol="SIGNED"), headers=more))
    assert status(answer) == 401 and b"unauthorized" in answer, answer


PIECES = (
    b"\r\n", b"\n", b"\0", b":", b" ", b"\t", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\xff", b"%00",
    b"%ff", b"HTTP/1.0", b"0\r\n\r\n", b"ffffffff\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"?", b"#", b"//",
)  # fmt: skip
WELL_FORMED = (
    http(body(symbol="MUTATED")),
    http(b"5\r\nabcde\r\n0\r\n\r\n", headers=(b"Transfer-Encoding: chunked",), length=False),
    http(b'{"limit":1,"wait_seconds":0}', "/v1/lease", (b"Authorization: " + EXECUTOR["Authorization"].encode(),)),
    http(b"", f"/webhook/{SECRET}"),
    http(b"{}", headers=(b"Expect: 100-continue",)),
)


def mutated(chance: random.Random) -> bytes:
    """Return one or three requests with a few bytes put in, taken out, changed or doubled."""
    data = bytearray(chance.choice(WELL_FORMED) * chance.choice((1, 1, 3)))
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data))
        change = chance.randrange(4)
        if change == 0:
            data[at:at] = chance.choice(PIECES)
        elif change == 1:
            del data[at : at + chance.randrange(1, 9)]
        elif change == 2:
            data[at] = chance.randrange(256)
        else:
            data[at:at] = data[at : at + chance.randrange(1, 40)]
    return bytes(data)


@pytest.mark.slow
def test_5_000_mutated_requests_never_fail_inside(tmp_path: Path) -> None:
    """In two pieces each; alerts are taken at once in between."""
    relay, chance = RelayProcess(tmp_path / "r", "--proxy-hops", "1", seconds=PATIENT), random.Random(7)
    for number in range(5_000):
        data = mutated(chance)
        cut = chance.randrange(len(data) + 1)
        with relay.connect() as client, contextlib.suppress(OSError):
            client.settimeout(0.02)
            client.sendall(data[:cut])
            client.sendall(data[cut:])
            client.recv(65536)
        if number % 250 == 0:
            with relay.computes_at_most(1):
                assert status(relay.raw(http(body(symbol=f"GOOD{number}")))) == 202
    assert relay.stop() == 0
    assert "request_failed" not in relay.log and "Traceback" not in relay.log and " ERROR " not in relay.log


# --- what it is told --------------------------------------------------------------------------------

ANYTHING = {
    f"{method.decode()} {path}": http(b"{}", path, (b"Origin: https://evil.example", *headers), method)
    for path in ("/webhook", f"/webhook/{SECRET}", "/v1/lease", "/v1/ack", "/v1/nack", "/v1/status", "/healthz",
                 "/v1/proof/" + "0" * 32,
                 "/readyz", "/metrics", "/openapi.json", "/", "/nothing", "/favicon.ico")
    for method in (b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE")
    for headers in ((b"Authorization: " + EXECUTOR["Authorization"].encode(),),)
    if not (path == "/v1/lease" and method == b"POST")
}  # fmt: skip


def test_every_answer_has_the_headers_of_safety_and_no_banner(relay: RelayProcess) -> None:
    """All paths by all methods, on one connection: JSON or Prometheus' text, never to be kept, nobody's origin."""
    with relay.connect() as client:
        for name, data in ANYTHING.items():
            client.sendall(data)
            answer = read_head(client) if data.startswith(b"HEAD") else read_answer(client)
            head = answer.partition(b"\r\n\r\n")[0].decode()
            for header, value in HEADERS.items():
                assert f"\r\n{header.lower()}: {value}" in head, (name, head)
            assert re.search(r"\r\ncontent-type: (application/(problem\+)?json|text/plain)", head), (name, head)
            assert not re.search(r"(?i)\r\n(server|x-powered-by|via|set-cookie|access-control-[a-z-]*):", head), (
                name,
                head,
            )
            assert SECRET.encode() not in answer
            if "onnection: close" in head:
                pytest.fail(f"{name} closed the connection")


def read_head(client) -> bytes:  # type: ignore[no-untyped-def]
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        data = client.recv(65536)
        assert data, received
        received += data
    return received


def test_guessing_is_slowed_down_and_a_right_secret_is_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    relay = RelayProcess(tmp_path_factory.mktemp("guessed"))
    seen = []
    with relay.connect() as client:
        for number in range(65):
            client.sendall(http(b"{}", f"/webhook/guess-{number}", (b"X: y", b"Authorization: none")))
            seen.append(read_answer(client))
        assert [status(answer) for answer in seen] == [401] * 60 + [429] * 5
        assert re.search(rb"\r\nretry-after: (60|[1-5]?[0-9])\r\n", seen[-1])
        client.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" * 1000)
        more = b""
        while more.count(b"HTTP/1.1 429 ") < 1000 or not more.endswith(b"}"):
            more += client.recv(1 << 20)
        client.sendall(http(body(symbol="RIGHT")))
        assert status(read_answer(client)) == 202, "from the same address"
    assert len({answer.partition(b"\r\n\r\n")[2] for answer in seen[:60]}) == 1, "the same bytes whatever was wrong"
    assert relay.stop() == 0
    assert "guess-" not in relay.log, "a guess may be nearly right"
    assert relay.log.count("credential_refused") == 2


def test_secrets_are_in_no_command_line(relay: RelayProcess) -> None:
    import psutil

    root = psutil.Process(relay.process.pid)
    for process in (root, *root.children(recursive=True)):
        assert not any(secret in " ".join(process.cmdline()) for secret in (SECRET, SENDER_SIGNING))
