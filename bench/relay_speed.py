"""(b) durable accepts beside a bare echo, (c) start to the first accepted webhook, and the relay under a crowd."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from bench.load import MakeRequest, Outcome, load, numbered, percentile, post
from bench.report import Row
from bench.servers import HOST, SECRET, SECRETS, Server, bare_echo, free_port, relay, spawn, stop
from common.clock import SystemClock
from common.secret import Secret
from executor.relay.client import RelayClient
from tests.pending.pg import running_postgres

ROUNDS, SECONDS = 8, 1.5
DELIVERIES = 200


def alert(number: int) -> bytes:
    """Return an open signal that differs from every other."""
    return (
        b'{"secret":"%s","action":"open","symbol":"EURUSD","side":"buy","quantity":10000,"tp":1.2,"sl":1.18,"id":"b-%d"}'
        % (SECRET.encode(), number)
    )


def alerts() -> MakeRequest:
    """Return a maker of webhooks."""
    return numbered("/webhook", alert)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[dict[str, Server]]:
    """Run the echo and a relay on each engine, side by side."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(running_postgres()).new_database()
        found = {"bare echo": stack.enter_context(bare_echo(_sub(folder, "echo")))}
        found["SQLite"] = stack.enter_context(relay(_sub(folder, "sqlite")))
        found["PostgreSQL"] = stack.enter_context(relay(_sub(folder, "postgres"), database))
        yield found


def _sub(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def accepted(outcome: Outcome) -> Outcome:
    """Return the outcome; anything but 202, and an alert without an answer, spoils the measurement."""
    if set(outcome.statuses) != {202} or outcome.unanswered:
        raise RuntimeError(f"not every alert was accepted: {dict(outcome.statuses)}, {outcome.unanswered} unanswered")
    return outcome


def measure() -> Iterator[Row]:
    """Yield every row of this part."""
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as found:
        make = alerts()
        for server in found.values():
            load(server.port, make, 16, seconds=1)  # warm
        yield from _throughput(found, make)
        yield from _crowd(found, make)
        yield _delivery(found["SQLite"])
        yield Row("memory of the relay after all this", f"{found['SQLite'].memory():.0f} MiB", "at most 60 MiB")
    yield _start()


def _throughput(found: dict[str, Server], make: MakeRequest) -> Iterator[Row]:
    rates: dict[str, list[float]] = {name: [] for name in found}
    slow: dict[str, list[float]] = {name: [] for name in found}
    costs: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, server in found.items():
            before = server.cpu()
            outcome = accepted(load(server.port, make, 64, seconds=SECONDS))
            rates[name].append(outcome.rate)
            slow[name].append(outcome.percentile(0.99))
            costs[name].append((server.cpu() - before) / len(outcome.latencies) * 1e6)
    for name, aim in (("bare echo", ""), ("SQLite", "at least 1.4"), ("PostgreSQL", "at least 0.9")):
        ratio = median(mine / bare for mine, bare in zip(rates[name], rates["bare echo"], strict=True))
        value = (
            f"{median(rates[name]):.0f}/s, p99 {median(slow[name]):.0f} ms, {median(costs[name]):.0f} µs of CPU each"
        )
        yield Row(f"(b) 64 connections, {name}", value + (f", ratio {ratio:.2f}" if aim else ""), aim)


def _crowd(found: dict[str, Server], make: MakeRequest) -> Iterator[Row]:
    port = found["SQLite"].port
    many = accepted(load(port, make, 256, seconds=SECONDS))
    value = f"{many.rate:.0f}/s, p50 {many.percentile(0.5):.0f}, p99 {many.percentile(0.99):.0f} ms"
    yield Row("256 connections, SQLite", value, "p99 at most 500 ms")
    burst = [accepted(load(port, make, 500, each=1)).seconds for _ in range(3)]
    yield Row("500 alerts in the same instant, SQLite", f"all accepted after {median(burst):.2f} s", "1.5 s")


def _delivery(server: Server) -> Row:
    """Measure from the webhook's first byte until the executor's own client has the signal, verified."""
    token, keys = Secret(SECRETS["EXECUTOR_RELAY_TOKEN"]), Secret(SECRETS["EXECUTOR_SIGNING_SECRETS"])
    client = RelayClient(f"http://{HOST}:{server.port}", token, keys, SystemClock())
    while deliveries := client.lease(0).deliveries:  # what the crowd left
        client.ack(list(deliveries))
    with socket.create_connection((HOST, server.port)) as sender, ThreadPoolExecutor(1) as executor:
        taken = [_sent_to_leased(sender, client, executor) for _ in range(DELIVERIES)]
    value = f"p50 {median(taken):.1f}, p99 {percentile(taken, 0.99):.1f} ms"
    return Row("webhook sent to executor has it, SQLite", value, "p50 at most 8 ms")


def _sent_to_leased(sender: socket.socket, client: RelayClient, executor: ThreadPoolExecutor) -> float:
    polled = executor.submit(lambda: (client.lease(10).deliveries, time.perf_counter()))
    time.sleep(0.02)  # until the poll waits
    sent_at = time.perf_counter()
    sender.sendall(post("/webhook", alert(time.perf_counter_ns())))
    deliveries, had_at = polled.result()
    sender.recv(65536)
    client.ack(list(deliveries))
    return (had_at - sent_at) * 1000


def _start() -> Row:
    with tempfile.TemporaryDirectory() as name:
        times = [_first_accept(Path(name)) for _ in range(7)]
    value = f"p50 {median(times):.0f} ms, slowest {percentile(times, 1):.0f} ms"
    return Row("(c) start of the relay to its first accepted webhook", value, "under 350 ms")


def _first_accept(folder: Path) -> float:
    port = free_port()
    started = time.perf_counter()
    process = spawn(["relay", "--host", HOST, "--port", str(port)], folder, "start.log")
    try:
        while not _is_accepted(port, alert(time.perf_counter_ns())):
            if time.perf_counter() - started > 20:
                raise RuntimeError((folder / "start.log").read_text("utf-8")[-2000:])
            time.sleep(0.002)
        return (time.perf_counter() - started) * 1000
    finally:
        stop(process)


def _is_accepted(port: int, body: bytes) -> bool:
    try:
        with socket.create_connection((HOST, port), 2) as client:
            client.sendall(post("/webhook", body))
            return client.recv(4096)[9:12] == b"202"
    except OSError:
        return False
