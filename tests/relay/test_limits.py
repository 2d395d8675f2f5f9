"""When something runs out: file descriptors, the disk, the memory for addresses. The real relay, kept short."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path

import psutil
import pytest

from relay.failures import MOST_ADDRESSES, FailureCounter, LineLimit, address_group
from tests.relay.examples import body, signal
from tests.relay.process import ROOT, RelayProcess, http, read_answer, status


def test_silent_strangers_never_take_the_last_descriptor(tmp_path: Path) -> None:
    """The system gives 400; 500 connections stand open with half a request; alerts are taken at once all the same."""
    relay = RelayProcess(tmp_path / "r", limits={resource.RLIMIT_NOFILE: (400, 400)})
    worker = psutil.Process(relay.process.pid).children()[0]
    strangers: list[socket.socket] = []
    try:
        for _ in range(500):
            strangers.append(relay.connect())
            strangers[-1].sendall(http(body())[:-3])
        started = time.monotonic()
        for number in range(5):
            assert relay.post("/webhook", signal(symbol=f"FD{number}")).status_code == 202
        assert time.monotonic() - started < 2
        assert worker.num_fds() < 300
    finally:
        for each in strangers:
            each.close()
    assert relay.stop() == 0 and "Traceback" not in relay.log


ASKED = """
import resource
from relay.descriptors import most_connections
print(most_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize("soft, hard, connections, asked", [(256, 4000, 2048, 2248), (256, 500, 300, 500)])
def test_as_many_descriptors_are_asked_for_as_connections_need(soft, hard, connections, asked) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    found = subprocess.run(
        [sys.executable, "-c", ASKED], cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [str(connections), str(asked)]


def test_a_full_disk_is_503_and_over_when_there_is_room(tmp_path: Path) -> None:
    """No file may grow beyond 1 MB; then it may. All that was answered 202 is delivered, once, and nothing else."""
    unlimited = resource.RLIM_INFINITY
    relay = RelayProcess(tmp_path / "r", limits={resource.RLIMIT_FSIZE: (1_000_000, unlimited)})
    worker = psutil.Process(relay.process.pid).children()[0]
    kept, refused = set[str](), 0
    with relay.connect() as client:
        for number in range(2_000):
            client.sendall(http(body(symbol=f"D{number}", note="x" * 190)))
            answer = read_answer(client)
            if status(answer) == 202:
                kept.add(f"D{number}")
                continue
            assert status(answer) == 503 and b"queue-unavailable" in answer and b"Retry-After" in answer
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


def test_a_spray_fills_no_log() -> None:
    lines = LineLimit()
    assert sum(lines.allows(now=1.0) for _ in range(1000)) == 60
    assert lines.allows(now=61.5)
