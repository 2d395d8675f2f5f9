"""What strangers do to a server on the open internet: raw bytes to the real process, one socket each."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal as signals
import socket
import threading
import time

import psutil
import pytest

from relay.connections import ARRIVE_SECONDS, SEND_SECONDS
from relay.intake import MAX_BODY_BYTES
from tests.relay.examples import ENVIRONMENT, FRESH_SECRET, FRESH_TOKEN, SECRET, body, signal
from tests.relay.process import (
    FOREVER,
    PATIENT,
    RelayProcess,
    answered,
    http,
    is_waiting,
    read_answer,
    run_command,
    status,
)

TOO_BIG = MAX_BODY_BYTES + 1


def chunked(data: bytes, size: int = 1000) -> bytes:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def post(data: bytes, *headers: bytes, length: bool = True) -> bytes:
    return http(data, headers=headers, length=length)


CHUNKS = (b"Transfer-Encoding: chunked",)
PROBES = {
    "a good one": (post(body(symbol="P1")), {202}),
    "chunked": (post(chunked(body(symbol="P2")), *CHUNKS, length=False), {202}),
    "chunked in single bytes": (post(chunked(body(symbol="P3"), 1), *CHUNKS, length=False), {202}),
    "chunked over the limit": (post(chunked(b" " * TOO_BIG), *CHUNKS, length=False), {413}),
    "chunked, 40 MB": (lambda: post(chunked(b" " * 40_000_000, 65536), *CHUNKS, length=False), {413}),
    "chunked in bytes over the limit": (post(chunked(b" " * TOO_BIG, 1), *CHUNKS, length=False), {400}),
    "chunked in 255 pieces": (post(chunked(body(symbol="P9").ljust(255), 1), *CHUNKS, length=False), {202}),
    "chunked in 257 pieces": (post(chunked(body(symbol="P10").ljust(257), 1), *CHUNKS, length=False), {400}),
    "exactly at the limit": (post(body(symbol="P4").ljust(MAX_BODY_BYTES)), {202}),
    "length over the limit": (post(b" " * TOO_BIG), {413}),
    "length over the limit, nothing sent": (post(b"", b"Content-Length: 999999999", length=False), {413}),
    "a length of 30 digits": (post(b"", b"Content-Length: " + b"9" * 30, length=False), {400, 413}),
    "no length": (post(b"", length=False), {411}),
    "length and chunks": (post(chunked(b"{}"), *CHUNKS), {400}),
    "two lengths": (post(b"{}", b"Content-Length: 3"), {400}),
    "length with a plus": (post(b"{}", b"Content-Length: +2", length=False), {400}),
    "length of minus one": (post(b"{}", b"Content-Length: -1", length=False), {400}),
    "coding with a control": (post(b"0\r\n\r\n", b"Transfer-Encoding: \x0bchunked", length=False), {400, 501}),
    "coding chunked twice": (post(b"0\r\n\r\n", *CHUNKS, *CHUNKS, length=False), {400, 501}),
    "a bad chunk size": (post(b"xyz\r\n" + b"a" * 400, *CHUNKS, length=False), {400}),
    "a chunk size with underscore": (post(b"1_0\r\n" + b"a" * 400, *CHUNKS, length=False), {400}),
    "space before the colon": (post(b"{}", b"X : y"), {400}),
    "folded header": (post(b"{}", b"X: y\r\n folded"), {400}),
    "NUL in a header": (post(b"{}", b"X: a\x00b"), {400}),
    "bare LF": (post(b"{}").replace(b"\r\n", b"\n"), {400}),
    "a header of a megabyte": (post(b"{}", b"X: " + b"x" * 1_000_000), {431}),
    "a thousand headers": (post(b"{}", *[b"X%d: y" % n for n in range(1000)]), {431}),
    "no method": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {400}),
    "HTTP/3.7": (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", {400, 505}),
    "path rewritten by a header": (post(body(symbol="P5"), b"SCRIPT_NAME: /webhook"), {202, 400}),
    "path rewritten by a header with dash": (post(body(symbol="P6"), b"Script-Name: /webhook"), {202}),
    "absolute path": (http(body(symbol="P7"), "http://elsewhere/webhook"), {202, 400}),
    "two slashes": (http(b"{}", "//webhook"), {400}),
    "dots": (http(b"{}", "/webhook/../v1/lease"), {404}),
    "encoded slash in the secret": (http(b"{}", "/webhook/a%2fb"), {404}),
    "not UTF-8 in the path": (http(b"{}", "/webhook/%ff%fe", (b"Authorization: x",)), {401, 404}),
    "PUT": (http(b"{}", method=b"PUT"), {405}),
    "TRACE": (http(b"", method=b"TRACE", headers=(b"X: y",)), {405}),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404, 405}),
    "upgrade to h2c": (
        post(body(symbol="P8"), b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAAA"),
        {202},
    ),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "two authorizations": (post(b"{}", b"Authorization: Bearer x", b"Authorization: Bearer " + SECRET.encode()), {401}),
    "a gzip body": (post(b"\x1f\x8b" + b"x" * 30, b"Content-Encoding: gzip"), {400}),
}  # fmt: skip


@pytest.mark.parametrize("data, expected", PROBES.values(), ids=PROBES.keys())
def test_each_probe_has_one_answer_and_quickly(relay, data, expected):
    with relay.computes_at_most(1):
        answer = answer_to(relay, data() if callable(data) else data)
    assert status(answer) in expected, answer[:300]


def answer_to(relay: RelayProcess, data: bytes) -> bytes:
    """Send without giving up when the relay answers before all is sent."""
    with relay.connect() as client:
        sender = threading.Thread(target=quietly_send, args=(client, data))
        sender.start()
        answer = read_answer(client)
        client.close()
        sender.join()
        return answer


def quietly_send(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(data)


def test_forged_headers_reach_nothing(relay):
    """Underscores and doubled names do not make a header that was not sent; forwarded addresses are not believed."""
    relay.raw(
        http(b"{}", headers=(b"Authorization: x", b"X_Forwarded_For: 52.89.214.238", b"X-Forwarded-For: 9.9.9.9"))
    )
    assert "9.9.9.9" not in relay.log and "52.89" not in relay.log
    twice = (b"webhook-id: a", b"webhook-id: b")
    first = relay.raw(post(body(symbol="F1"), *twice))
    assert status(first) == 202
    assert status(relay.raw(post(body(symbol="F2"), b"webhook_id: a"))) == 202
    assert status(relay.raw(post(body(symbol="F3"), b"webhook-id: a"))) == 202, "neither made the key a"


def test_pipelined_requests_are_answered_in_order(relay):
    with relay.connect() as client:
        client.sendall(http(body(symbol="PIPE1")) + http(body(symbol="PIPE1")) + http(b"", "/nothing"))
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 3 or not answers.endswith(b"}"):
            answers += client.recv(65536)
    assert [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]] == [202, 200, 404]


def test_a_request_in_single_bytes_is_taken(relay):
    with relay.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in http(body(symbol="DRIP")):
            client.send(bytes([byte]))
        assert status(read_answer(client)) == 202


def test_a_client_that_expects_100_is_told_to_go_on(relay):
    data = body(symbol="EXPECT")
    head = http(b"", headers=(b"Expect: 100-continue", b"Content-Length: %d" % len(data)), length=False)
    with relay.connect() as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(data)
        assert status(read_answer(client)) == 202


def test_half_a_request_commits_nothing(relay):
    with relay.connect() as client:
        client.sendall(http(body(symbol="HALF"))[:-5])
        client.shutdown(socket.SHUT_WR)
        assert read_answer(client) == b""
    assert "HALF" not in relay.log


def test_slow_clients_hold_no_thread(relay):
    """300 connections that send half a request, and 100 that send nothing: alerts are taken while all of them wait."""
    slow = [relay.connect() for _ in range(400)]
    try:
        for client in slow[:300]:
            client.sendall(http(body())[:-3])
        for number in range(20):
            assert relay.post("/webhook", signal(symbol=f"SLOW{number}")).status_code == 202
        assert all(map(is_waiting, slow))
    finally:
        for client in slow:
            client.close()


def test_500_alerts_at_once_are_all_taken(relay):
    """A bar closes: 500 senders, each on a connection of its own, each answered 202 for 1.5 s of work in all."""
    together = threading.Barrier(50)

    def burst(sender: int) -> int:
        together.wait()
        sockets = []
        for number in range(10):
            client = relay.connect()
            client.sendall(http(body(symbol=f"B{sender}N{number}")))
            sockets.append(client)
        taken = sum(status(read_answer(client)) == 202 for client in sockets)
        for client in sockets:
            client.close()
        return taken

    with relay.computes_at_most(1.5), concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(burst, range(50))) == 500


@pytest.mark.slow
def test_500_alerts_at_once_while_polls_and_idle_connections_wait(tmp_path):
    """As on a busy day: an executor or two poll, hundreds of senders keep their connections, and a bar closes."""
    relay = RelayProcess(tmp_path / "r", seconds=PATIENT)
    idle = [relay.connect() for _ in range(256)]
    polls = [relay.poll(wait_seconds=55, limit=1) for _ in range(40)]
    sockets = [relay.connect() for _ in range(500)]
    with relay.computes_at_most(1.5):
        for number, client in enumerate(sockets):
            client.sendall(http(body(symbol=f"BUSY{number}")))
        assert {status(read_answer(client)) for client in sockets} == {202}
    found = [each["id"] for poll in polls for each in answered(poll)["signals"]]
    assert len(found) == len(set(found)) == 40, "each poll got one, none twice"
    for client in (*idle, *polls, *sockets):
        client.close()
    assert relay.stop() == 0


def test_256_connections_send_at_the_same_time(relay):
    def sender(number: int) -> int:
        with relay.connect() as client:
            taken = 0
            for turn in range(4):
                client.sendall(http(body(symbol=f"C{number}T{turn}")))
                taken += status(read_answer(client)) == 202
            return taken

    with concurrent.futures.ThreadPoolExecutor(256) as pool:
        assert sum(pool.map(sender, range(256))) == 1024


def test_a_spray_of_wrong_secrets_neither_fills_memory_nor_delays_alerts(tmp_path):
    relay = RelayProcess(tmp_path / "r", "--proxy-hops", "1")
    worker = psutil.Process(relay.process.pid)
    head = b"POST /webhook/wrong HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Forwarded-For: %d.%d.%d.9\r\n\r\n{}"
    before = worker.memory_info().rss
    with relay.connect() as client:
        for start in range(0, 3_000, 50):
            spray = [(start + n) for n in range(50)]
            client.sendall(b"".join(head % (n >> 16, n >> 8 & 255, n & 255) for n in spray))
            answered = 0
            while answered < 50:
                data = client.recv(65536)
                answered += data.count(b"HTTP/1.1 401")
                assert b" 429 " not in data
    assert worker.memory_info().rss - before < 16_000_000
    assert relay.post("/webhook", signal()).status_code == 202
    assert relay.stop() == 0


UNREAD = {
    "no credential": ("/v1/ack", b"POST", 413),
    "too long": ("/webhook", b"POST", 413),
    "no such path": ("/nothing", b"POST", 413),
    "no such method": ("/healthz", b"PUT", 413),
    "a body where none is read": ("/healthz", b"GET", 413),
}
INNER = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("path, how, expected", UNREAD.values(), ids=UNREAD.keys())
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunks"])
def test_a_body_that_is_not_read_is_never_taken_for_the_next_request(relay, path, how, expected, in_chunks):
    """Answered before all of it is here. Else a stranger's body could put an answer into another's connection."""
    data = b"x" * TOO_BIG + INNER * 5
    sent = chunked(data, len(data)) if in_chunks else data
    headers = CHUNKS if in_chunks else (b"Content-Length: %d" % len(data),)
    request = http(b"", path, (b"Authorization: x", *headers), how, length=False)
    with relay.connect() as client:
        first = TOO_BIG + 20 if in_chunks else 10
        client.sendall(request + sent[:first])
        received = read_answer(client)
        assert status(received) == expected and b"connection: close" in received.lower()
        quietly_send(client, sent[first:])
        with contextlib.suppress(OSError):
            while more := client.recv(65536):
                received += more
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_sender_that_never_reads_its_answers_holds_up_nobody(relay):
    request = post(body(symbol="SLOW", secret="wrong"))
    with relay.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(200):
                slow.sendall(request * 100)
        with relay.computes_at_most(1):
            assert relay.post("/webhook", signal(symbol="FAST")).status_code in (200, 202)


# --- life and death ---------------------------------------------------------------------------------


def test_a_relay_starts_and_answers_while_its_queue_is_away(tmp_path):
    relay = RelayProcess(tmp_path / "r", "--queue-url", "postgresql://relay@127.0.0.1:1/nothing")
    try:
        with relay.connect() as ready:
            ready.sendall(http(b"", "/readyz", method=b"GET", length=False))
            answer = relay.post("/webhook", signal(), timeout=20)  # psycopg itself would wait for 30 s
            assert requests_status(relay, "/healthz") == 200
            assert status(read_answer(ready)) == 503
        assert (answer.status_code, answer.json()["code"]) == (503, "queue-unavailable")
        assert answer.headers["Retry-After"]
    finally:
        assert relay.stop() == 0


def requests_status(relay: RelayProcess, path: str) -> int:
    return status(relay.raw(http(b"", path, method=b"GET", length=False)))


def test_what_was_answered_survives_a_kill_and_stop_ends_waiting_polls(tmp_path):
    relay = RelayProcess(tmp_path / "r")
    answer = relay.post("/webhook", signal(id="k")).json()
    for process in [*psutil.Process(relay.process.pid).children(), relay.process]:
        process.kill()
    relay.stop()
    relay = RelayProcess(tmp_path / "r")
    assert relay.post("/webhook", signal(id="k")).json() == {"status": "duplicate", "id": answer["id"]}
    (leased,) = relay.call("lease", wait_seconds=0)["signals"]
    relay.call("ack", acks=[{"id": leased["id"], "lease": leased["lease"]}])
    with relay.poll(wait_seconds=55) as waiting:
        assert relay.stop() == 0
        assert answered(waiting) == {"signals": [], "mode": "unknown"}, "and not cut off"


def test_secrets_rotate_under_load_without_a_single_refusal(tmp_path):
    """Old, then new and old, then new: the senders change over in the middle; nobody is ever answered 401."""
    files = {name: tmp_path / name for name in ("RELAY_WEBHOOK_SECRETS", "RELAY_EXECUTOR_TOKENS")}
    for name, path in files.items():
        path.write_text(ENVIRONMENT[name])
    named = {f"{name}_FILE": str(path) for name, path in files.items()}
    relay = RelayProcess(tmp_path / "r", **named, **dict.fromkeys(files, ""))
    with Senders(relay, 4) as senders:
        files["RELAY_WEBHOOK_SECRETS"].write_text(f"{FRESH_SECRET}\n{SECRET}\n")
        wait_for(lambda: relay.post("/webhook", signal(id="1"), bearer(FRESH_SECRET)).status_code < 300)
        senders.secret = FRESH_SECRET
        seen = len(senders.seen)
        wait_for(lambda: len(senders.seen) > seen + 20)
    files["RELAY_WEBHOOK_SECRETS"].write_text(FRESH_SECRET)
    wait_for(lambda: relay.post("/webhook", signal(id="1")).status_code == 401)
    files["RELAY_EXECUTOR_TOKENS"].write_text(FRESH_TOKEN)
    wait_for(lambda: relay.post("/v1/lease", {"wait_seconds": 0}, bearer(FRESH_TOKEN)).status_code == 200)
    relay.stop()
    assert set(senders.seen) == {202} and len(senders.seen) > 10
    assert "secret_rotated" in relay.log and FRESH_SECRET not in relay.log


class Senders:
    """Threads that post signals, one after the other, until the block ends."""

    def __init__(self, relay: RelayProcess, count: int) -> None:
        self._relay, self._stop = relay, threading.Event()
        self.secret, self.seen = SECRET, list[int]()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]

    def _send(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            answer = self._relay.post("/webhook", signal(symbol=f"R{number}T{turn}"), bearer(self.secret))
            self.seen.append(answer.status_code)

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def wait_for(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_is_ready_soon_and_needs_little_memory(tmp_path):
    """What it computes from its start to the first accepted alert, and its memory; figures are in docs/performance.md."""
    relay = RelayProcess(tmp_path / "r")
    assert relay.post("/webhook", signal()).status_code == 202
    seconds = relay.computed()
    root = psutil.Process(relay.process.pid)
    proportional = sum(process.memory_full_info().pss for process in [root, *root.children()])
    relay.stop()
    assert seconds < 1.5, seconds
    assert proportional < 60_000_000, proportional


def test_a_taken_port_is_one_clear_line(tmp_path, relay):
    found = run_command(tmp_path, "--port", str(relay.port))
    assert found.returncode == 2 and str(relay.port) in found.stderr and "in use" in found.stderr
    assert "Traceback" not in found.stderr and len(found.stderr.splitlines()) == 1


def test_relay_that_was_killed_can_be_started_again_at_once(tmp_path):
    """Its worker keeps the port while a poll is under way; the next relay waits for that, and takes over."""
    killed = RelayProcess(tmp_path / "killed")
    poll = killed.poll(wait_seconds=20)
    killed.stop(signals.SIGKILL)
    again = RelayProcess(tmp_path / "again", "--port", str(killed.port))
    assert again.port == killed.port and again.post("/webhook", signal()).status_code == 202
    poll.close()
    again.stop()


STOP, LINGER = "relay.server.STOP_SECONDS", "relay.connections.LINGER_SECONDS"


def test_stopping_waits_for_no_stranger(tmp_path):
    """Half a request is dropped after a second, although those that are whole have ten minutes here."""
    relay = RelayProcess(tmp_path / "r", seconds={**PATIENT, STOP: FOREVER, LINGER: 1.0})
    with relay.connect() as half:
        half.sendall(http(body(symbol="HALF"))[:-3])
        assert requests_status(relay, "/healthz") == 200
        assert relay.stop() == 0
    assert "Exception" not in relay.log


def test_who_sends_while_the_relay_stops_is_answered(tmp_path, eventually):
    """A kept connection may send one more, and is told that it was the last."""
    relay = RelayProcess(tmp_path / "r", seconds={**PATIENT, STOP: FOREVER, LINGER: FOREVER})
    with relay.connect() as kept:
        kept.sendall(http(body(symbol="KEPT")))
        assert status(read_answer(kept)) == 202
        relay.process.send_signal(signals.SIGTERM)
        eventually(lambda: not is_listening(relay))
        kept.sendall(http(body(symbol="LAST")))
        answer = read_answer(kept)
        assert status(answer) == 202 and b"connection: close" in answer.lower()
        assert relay.stop() == 0
    assert "Exception" not in relay.log


def is_listening(relay: RelayProcess) -> bool:
    return any(each.status == "LISTEN" for each in psutil.Process(relay.process.pid).net_connections())


@pytest.fixture(scope="module")
def brief(tmp_path_factory):
    """A relay that gives a request a second."""
    relay = RelayProcess(tmp_path_factory.mktemp("brief"), seconds={**PATIENT, "relay.connections.ARRIVE_SECONDS": 1.0})
    yield relay
    relay.stop()


@pytest.mark.parametrize("first", [b"", http(body(symbol="FIRST"))], ids=["at once", "after an answer"])
@pytest.mark.parametrize("cut", [30, -3], ids=["a head", "a body"])
def test_a_request_that_does_not_become_whole_is_dropped_in_time(brief, first, cut):
    """Not before, and not with the ten minutes that a client has to read its answer here."""
    assert ARRIVE_SECONDS == SEND_SECONDS == 10.0
    started = time.monotonic()
    with brief.connect() as client:
        if first:
            client.sendall(first)
            read_answer(client)
        client.sendall(http(body(symbol="NEVER"))[:cut])
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
        assert time.monotonic() - started > 0.9


def test_an_answer_without_a_body_is_sent(relay):
    with relay.connect() as client:
        client.sendall(http(b"", "/healthz", method=b"HEAD", length=False))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_refused_and_goes_on_as_rubbish_is_answered_once(relay):
    head = http(b"", headers=CHUNKS, length=False)
    received = answer_to(relay, head + chunked(b" " * TOO_BIG, 8000)[:-5] + b"rubbish\r\n" * 100)
    assert received.count(b"HTTP/1.1 ") == 1 and status(received) in (400, 413)
