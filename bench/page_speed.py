"""What a long history costs the executor besides trading: at rest, and while its page and metrics are read."""

from __future__ import annotations

import http.client
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import history
from bench.pairs import turns
from bench.report import Row
from bench.servers import HOST
from bench.systems import System, whole

SETTLED, IDLE_SECONDS = 5.0, 20.0
READS, SECONDS = 25, 40


def measure_idle(events: int = history.EVENTS, seconds: float = IDLE_SECONDS) -> Iterator[Row]:
    """Yield the row of the CPU that an executor uses while nothing happens, beside one with an empty journal."""
    journal = history.ready_made(events)
    with (
        tempfile.TemporaryDirectory() as name,
        whole(Path(name, "empty")) as light,
        whole(Path(name, "full"), journal=journal) as heavy,
    ):
        time.sleep(min(SETTLED, seconds))
        before = [used(heavy), used(light)]
        time.sleep(seconds)
        many, none = (100 * (used(one) - was) / seconds for one, was in zip((heavy, light), before, strict=True))
    text = f"{many:.1f} % of a core ({none:.1f} % with an empty journal)"
    yield Row(f"idle executor, journal of {events:,} events", text, must="2 %", aim="1 %")


def used(system: System) -> float:
    """Return the seconds of CPU that the executor of a system has used."""
    assert system.executor
    return system.executor.cpu()


def measure_page(events: int = history.EVENTS, reads: int = READS) -> Iterator[Row]:
    """Yield the rows of the page, freshly rendered, and of the metrics, with a long journal, beside an empty one."""
    journal = history.ready_made(events)
    with (
        tempfile.TemporaryDirectory() as name,
        whole(Path(name, "empty")) as light,
        whole(Path(name, "full"), journal=journal) as heavy,
    ):
        for path, must, aim in (("/", "60 ms", "30 ms"), ("/metrics", "40 ms", "20 ms")):
            times = [(read_anew(heavy, path, n), read_anew(light, path, n)) for n in turns(reads, SECONDS)]
            many, none = median(pair[0] for pair in times[1:]), median(pair[1] for pair in times[1:])
            what = f"GET {path}{' newly rendered' if path == '/' else ''}, journal of {events:,} events"
            yield Row(what, f"p50 {many:.1f} ms ({none:.1f} with an empty journal)", must=must, aim=aim)


def read_anew(system: System, path: str, number: int) -> float:
    """Have something happen that the page shows, read the path; return the milliseconds until all of it was here."""
    note = f"read {number} of {path}"
    system.send(action="reset", symbol="EURUSD", note=note)
    system.wait_for_verdict(note)
    took, body = fetch(system.page, path)
    if path == "/" and note.encode() not in body:
        raise RuntimeError("the page does not show what happened before it was read")
    return took


def fetch(port: int, path: str) -> tuple[float, bytes]:
    """Read a path on a new connection; return the milliseconds it took, and what it said."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.connect()
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - began) * 1000
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"GET {path} was answered {answer.status}: {body[:500]!r}")
    return took, body
