"""A small load generator: keep-alive connections over raw sockets, one request in flight on each.

It reads just enough HTTP to know where an answer ends, so that what it costs itself is small beside a server
written in Python. Latencies are in milliseconds, from the first byte written to the last byte read.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MakeRequest = Callable[[], bytes]


@dataclass(slots=True)
class Outcome:
    """What a run of requests gave: status → count, how many got no answer, latencies, and how long all of it took."""

    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency that `share` (0 to 1) of the requests did not exceed."""
        return percentile(self.latencies, share)


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that `share` of the values do not exceed; 0 for none.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered)) - 1))] if ordered else 0.0


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """Return the bytes of one POST with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One connection that sends the next request as soon as the last one is answered."""

    def __init__(self, make: MakeRequest, outcome: Outcome, count: int | None) -> None:
        self.make, self.outcome, self.left = make, outcome, count
        self.until = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.sent_at = 0.0
        self.is_waiting = False  # for an answer
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def start(self, until: float) -> None:
        """Send the first request; none is sent after `until` (perf_counter)."""
        self.until = until
        self.send()

    def send(self) -> None:
        """Send the next request, or finish."""
        assert self.transport
        if self.left == 0 or time.perf_counter() >= self.until:
            self.transport.close()
            return
        if self.left is not None:
            self.left -= 1
        self.is_waiting, self.sent_at = True, time.perf_counter()
        self.transport.write(self.make())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator or len(rest) < content_length(head):
            return
        self.buffer, self.is_waiting = b"", False
        self.outcome.statuses[int(head[9:12])] += 1
        self.outcome.latencies.append((time.perf_counter() - self.sent_at) * 1000)
        if b"connection: close" not in head.lower():
            self.send()
        elif self.transport:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.outcome.unanswered += self.is_waiting
        if not self.done.done():
            self.done.set_result(None)


def content_length(head: bytes) -> int:
    """Return the length of the body that a response's head announces."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def run(
    port: int, make: MakeRequest, connections: int, *, seconds: float = 3600, each: int | None = None
) -> Outcome:
    """Send requests over so many connections, for so long or `each` on every one, all beginning at once."""
    outcome, loop = Outcome(), asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: Connection(make, outcome, each), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    started = time.perf_counter()
    for connection in made:
        connection.start(started + seconds)
    await asyncio.gather(*(connection.done for connection in made))
    outcome.seconds = time.perf_counter() - started
    return outcome


def load(port: int, make: MakeRequest, connections: int, *, seconds: float = 3600, each: int | None = None) -> Outcome:
    """Run `run` to its end."""
    return asyncio.run(run(port, make, connections, seconds=seconds, each=each))


def numbered(path: str, body: Callable[[int], bytes], headers: str = "") -> MakeRequest:
    """Return a maker of POSTs whose bodies differ by a rising number."""
    numbers: Iterator[int] = iter(range(1, 1 << 62))
    return lambda: post(path, body(next(numbers)), headers)
