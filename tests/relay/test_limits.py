"""When something runs out: file descriptors, the disk, the memory for addresses. The real relay, kept short."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import tracemalloc
from pathlib import Path

import psutil
import pytest

from relay.credentials import MOST_ADDRESSES, FailureCounter, LineLimit, address_group
from tests.relay.examples import body, signal
from tests.relay.process import PATIENT, ROOT, RelayProcess, http, is_waiting, limited, read_answer, status


def test_silent_strangers_never_take_the_last_descriptor(tmp_path: Path) -> None:
    """The system gives 400; 500 connections stand open with half a request; alerts are taken all the same, before any
    of them has had its time.
    """
    relay = RelayProcess(tmp_path / "r", limits={resource.RLIMIT_NOFILE: (400, 400)}, seconds=PATIENT)
    worker = psutil.Process(relay.process.pid)
    strangers: list[socket.socket] = []
    try:
        for _ in range(500):
            strangers.append(relay.connect())
            strangers[-1].sendall(http(body())[:-3])
        for number in range(5):
            assert relay.post("/webhook", signal(symbol=f"FD{number}")).status_code == 202
        assert worker.num_fds() < 300
        assert sum(map(is_waiting, strangers)) > 100, "these are still being waited for"
    finally:
        for each in strangers:
            each.close()
    assert relay.stop() == 0 and "Traceback" not in relay.log


PARTIAL = b"POST /webhook HTTP/1.1\r\nHost: x\r\n"
# what many send at once and then keep the connection open -> how many do so
STUBBORN = {
    "answered for the last time": (30, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    "refused": (30, b"rubbish\r\n\r\n"),
    "a body in single bytes": (100, PARTIAL + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 10_000),
    "a long head, not ended": (500, PARTIAL + b"X: " + b"x" * 31_000),
    "a thousand requests at once": (40, (PARTIAL + b"Content-Length: 0\r\n\r\n") * 1000),
}  # fmt: skip


@pytest.mark.parametrize("count, data", STUBBORN.values(), ids=STUBBORN.keys())
def test_stubborn_clients_keep_nobody_waiting(relay: RelayProcess, count: int, data: bytes) -> None:
    """The main loop serves all senders, so it must never wait for one: the relay here would do so for ten minutes.

    Nor may it do all the work of the others first.
    """
    clients = [relay.connect() for _ in range(count)]
    try:
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(data)
        with relay.computes_at_most(1):
            assert relay.post("/webhook", signal(symbol=f"STUB{len(data)}")).status_code == 202
    finally:
        for client in clients:
            client.close()


def test_who_does_not_read_his_answers_holds_no_thread(tmp_path: Path) -> None:
    """Twice as many as there are threads; the executor is answered all the same, while every one of them is stuck."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # soon full
        relay = RelayProcess(tmp_path / "r", "--threads", "20", listen_fd=listener.fileno(), seconds=PATIENT)
    clients = [relay.connect() for _ in range(40)]
    for client in clients:
        client.sendall(http(b"", "/openapi.json", method=b"GET", length=False) * 20)
    assert {client.recv(1) for client in clients} == {b"H"}  # the first answers are on their way, and stuck
    assert relay.call("lease", wait_seconds=0) == {"signals": []}
    with clients[0].makefile("rb") as reader:
        assert reader.read(100_000).count(b"TTP/1.1 200 OK") > 3, "who reads gets all of it"
    for client in clients:
        client.close()
    assert relay.stop() == 0 and "Traceback" not in relay.log


def test_requests_that_never_end_fill_no_memory(relay: RelayProcess) -> None:
    """700 strangers with 30 kB each would be 21 MB, and more with what is made of it; the longest silent are dropped."""
    relay.call("lease", wait_seconds=0)
    assert relay.post("/webhook", signal(symbol="BEFORE")).status_code == 202
    assert status(relay.raw(http(b"", "/healthz", method=b"GET", length=False))) == 200  # by now all is imported
    worker = psutil.Process(relay.process.pid)
    before = worker.memory_info().rss
    data = PARTIAL + b"X: " + b"x" * 7_000 + b"\r\nContent-Length: 16384\r\nY: " + b"y" * 7_000
    data += b"\r\n\r\n" + b"{" * 16_000
    clients = [relay.connect() for _ in range(700)]
    try:
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(data)
        assert relay.post("/webhook", signal(symbol="MEMORY")).status_code == 202
        assert worker.memory_info().rss - before < 26_000_000
    finally:
        for client in clients:
            client.close()


ASKED = """
import resource
from relay.connections import most_connections
print(most_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize("soft, hard, connections, asked", [(256, 4000, 2048, 2248), (256, 500, 300, 500)])
def test_as_many_descriptors_are_asked_for_as_connections_need(soft, hard, connections, asked) -> None:
    command = limited({resource.RLIMIT_NOFILE: (soft, hard)}, "-c", ASKED)
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(connections), str(asked)]


def test_a_full_disk_is_503_and_over_when_there_is_room(tmp_path: Path) -> None:
    """No file may grow beyond 1 MB; then it may. All that was answered 202 is delivered, once, and nothing else."""
    unlimited = resource.RLIM_INFINITY
    relay = RelayProcess(tmp_path / "r", limits={resource.RLIMIT_FSIZE: (1_000_000, unlimited)})
    worker = psutil.Process(relay.process.pid)
    kept, refused = set[str](), 0
    with relay.connect() as client:
        for number in range(2_000):
            client.sendall(http(body(symbol=f"D{number}", note="x" * 190)))
            answer = read_answer(client)
            if status(answer) == 202:
                kept.add(f"D{number}")
                continue
            assert status(answer) == 503 and b"queue-unavailable" in answer and b"retry-after" in answer
            refused += 1
            if refused == 3:
                break
    assert refused == 3 and len(kept) > 50, "the disk was full after a while"
    assert status(relay.raw(http(b"", "/healthz", method=b"GET", length=False))) == 200
    worker.rlimit(psutil.RLIMIT_FSIZE, (unlimited, unlimited))
    assert relay.post("/webhook", signal(symbol="AFTER")).status_code == 202
    kept.add("AFTER")
    assert sorted(delivered(relay)) == sorted(kept)
    assert relay.stop() == 0 and "Traceback" not in relay.log


def delivered(relay: RelayProcess) -> list[str]:
    """Return the symbol of every signal that waits."""
    found = []
    while signals := relay.call("lease", limit=100, wait_seconds=0)["signals"]:
        found += [each["payload"].partition('"symbol":"')[2].partition('"')[0] for each in signals]
        relay.call("ack", acks=[{"id": each["id"], "lease": each["lease"]} for each in signals])
    return found


# --- memory -----------------------------------------------------------------------------------------


def test_a_spray_from_50_000_addresses_is_counted_in_bounded_memory() -> None:
    counter, room = FailureCounter(), 10_000
    for number in range(40_000):
        counter.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    tracemalloc.start()
    try:
        for number in range(room):
            counter.add(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(counter) == MOST_ADDRESSES == room, "the traced ones took the place of all others"
    assert grown < 400 * room


def test_one_customer_of_ipv6_is_one_address() -> None:
    groups = {address_group(f"2001:db8:1:2:{number:x}::1") for number in range(100)}
    assert groups == {"2001:db8:1:2::/64"} and address_group("2001:db8:1:3::1") not in groups
    assert address_group("rubbish") == address_group("") == "unknown"


def test_rubbish_fills_no_log(tmp_path: Path) -> None:
    """300 requests that are no HTTP, and 300 with a signature that is none: 60 lines a minute for each kind."""
    relay = RelayProcess(tmp_path / "r", "--proxy-hops", "1")
    signed = (b"webhook-id: x", b"webhook-timestamp: 1", b"webhook-signature: v1,AAAA", b"Authorization: none")
    with relay.connect() as client:
        for number in range(300):
            client.sendall(http(b"{}", headers=(*signed, b"X-Forwarded-For: 10.0.%d.%d" % divmod(number, 250))))
            assert status(read_answer(client)) == 401
    for _ in range(300):
        assert status(relay.raw(b"rubbish\r\n\r\n")) == 400
    assert relay.stop() == 0
    counted = [relay.log.count(event) for event in ("signature_refused", "request_refused", "credential_refused")]
    assert counted == [60, 60, 60]


def test_a_limit_of_lines_is_for_a_minute() -> None:
    lines = LineLimit()
    assert sum(lines.allows(now=1.0) for _ in range(1000)) == 60
    assert lines.allows(now=61.5)
