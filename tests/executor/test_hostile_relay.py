"""A relay that was taken over: whatever it answers makes the executor do a bounded amount of work, and only that.

The relay is a real socket, the client and the polling are the real ones, the journal is a file. Each kind of answer is
given again and again; then what stands in the journal is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.errors import MalformedSignal
from common.ids import new_id
from common.secret import Secret
from common.signals import Action, Envelope, Side, Signal, parse_payload, payload_text
from common.signing import SigningKeys, sign
from executor.relay import client as module
from executor.relay.client import LIMIT, RelayClient
from executor.relay.hearsay import MOST_AT_ONCE
from executor.relay.polling import Poller
from tests.executor.fakes import START, House

KEY = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
OTHER = "whsec_ZZZZZZZ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
MB = 1_000_000
TURNS = 3
Does = Callable[[socket.socket], None]


@dataclass
class HostileRelay:
    """A socket that reads a request and does what it is told with the connection."""

    does: Does
    asked: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=self._listener.accept()[:1], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.asked.append(_request(connection))
            self.does(connection)

    def close(self) -> None:
        self.over.set()
        self._listener.close()


def _request(connection: socket.socket) -> bytes:
    """Read a whole request: who closes before would destroy the answer."""
    received = b""
    while (end := received.find(b"}")) < 0:
        if not (more := connection.recv(65536)):
            return received
        received += more
    return received[: end + 1]


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Does], Home]]:
    """Return a function that starts a relay which does so, and an executor that polls it."""
    monkeypatch.setattr("executor.relay.polling.WAIT_SECONDS", 0.0)
    opened = []

    def start(does: Does) -> Home:
        home = Home(HostileRelay(does), tmp_path / "journal.db")
        opened.append(home)
        return home

    yield start
    for home in opened:
        home.relay.close()
        home.client.close()
        home.house.journal.close()


class Home:
    """The executor of these tests; its own clock is moved by hand, by the pauses that it asks for."""

    def __init__(self, relay: HostileRelay, path: Path) -> None:
        self.relay, self.path = relay, path
        self.house = House.build(str(path)).connect()
        self.client = RelayClient(relay.url, Secret("tok-en"), Secret(KEY), SystemClock())
        desk = self.house.desk
        self._poller = Poller(self.client, desk, self.house.clock, lambda: None)
        self.pauses: list[float] = []

    def poll(self, turns: int = TURNS) -> None:
        for _ in range(turns):
            self.pauses.append(asyncio.run(self._poller.turn()))
            self.house.clock.advance(self.pauses[-1])

    def alarms(self) -> list[str]:
        return [row["kind"] for row in self.house.journal._rows("SELECT kind FROM alarms")]

    def texts(self) -> str:
        return "\n".join(self.house.journal._connection.iterdump())

    def journal_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.path.parent.glob(f"{self.path.name}*"))


def says(body: bytes | Callable[[], Any], head: bytes = b"") -> Does:
    """Return what gives this as an answer of 200; a function is called for each one."""

    def does(connection: socket.socket) -> None:
        found = body if isinstance(body, bytes) else json.dumps(body()).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(found), found))

    return does


def leased(key: str = OTHER, payload: str = "", **changes: Any) -> dict[str, Any]:
    id = new_id()
    signal = Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal(10000))
    payload = payload or payload_text(Envelope(id, START, START + timedelta(seconds=90), signal))
    headers = sign(SigningKeys.parse(key), id, int(START.timestamp()), payload)
    return {"id": id, "lease": new_id(), "attempt": 1, "headers": headers, "payload": payload, **changes}


def forever(data: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Does:
    def does(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(data)

    return does


DRIPS = 200  # bytes, over twenty times as long as an answer may take where it drips
heard_out: list[bytes] = []  # what dripped to its end, since nobody closed the connection


def drips(data: bytes, head: bytes = b"") -> Does:
    """Send one byte in so many milliseconds: each comes before any time for silence is up."""

    def does(connection: socket.socket) -> None:
        connection.sendall(head)
        for byte in itertools.islice(itertools.cycle(data), DRIPS):
            connection.sendall(bytes([byte]))
            threading.Event().wait(0.02)
        heard_out.append(data)

    return does


def in_chunks(connection: socket.socket) -> None:
    forever(b"1\r\n{\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")(connection)


def signals(count: int, item: bytes) -> Does:
    return says(b'{"signals":[' + b",".join([item] * count) + b"]}")


def forged(count: int) -> Does:
    return says(lambda: {"signals": [leased() for _ in range(count)]})


def unlike(**changes: Any) -> Does:
    return says(lambda: {"signals": [leased(KEY, **changes) for _ in range(LIMIT)]})


@cache
def bomb(times: int) -> bytes:
    """Return 64 MB, compressed so many times; made where it is sent, and not in every process that collects tests."""
    return gzip.compress(bomb(times - 1)) if times > 1 else gzip.compress(b" " * (64 * MB), compresslevel=1)


def explodes(times: int, coding: bytes) -> Does:
    return lambda connection: says(bomb(times), b"Content-Encoding: %s\r\n" % coding)(connection)


NESTED = b"[" * 100_000 + b"]" * 100_000
OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE: dict[str, Does] = {
    "15,000 forged signals": signals(15_000, json.dumps(leased()).encode()),
    "as many forged signals as an answer holds": forged(1000),
    "ten forged signals": forged(10),
    "ids of 1.9 MB": unlike(id="A" * 1_900_000),
    "ids of 30 kB": unlike(id="A" * 30_000),
    "leases of 30 kB": unlike(lease="A" * 30_000),
    "payloads of 30 kB": unlike(payload='{"a":"' + "x" * 30_000 + '"}'),
    "ids that are numbers": unlike(id=10**4000),
    "ids that are lists": unlike(id=[[1] * 1000]),
    "headers that are lists": unlike(headers=["x"] * 1000),
    "headers of 30 kB": unlike(headers={"webhook-id": "x" * 30_000, "webhook-timestamp": "1", "webhook-signature": "v1,x"}),
    "600,000 empty objects": signals(600_000, b"{}"),
    "150,000 empty objects": signals(150_000, b"{}"),
    "200,000 numbers": signals(200_000, b"1"),
    "nesting": says(b'{"signals":' + NESTED + b"}"),
    "nesting inside an object": says(b'{"signals":[],"x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"),
    "huge numbers": says(b'{"signals":' + b"9" * 400_000 + b"}"),
    "a huge exponent": says(b'{"signals":[{"id":1e999999999,"lease":1E+999999999,"payload":1e-999999999}]}'),
    "an endless body": forever(b" " * 65536),
    "a body that says it has a terabyte": forever(b" " * 65536, OK + b"Content-Length: 1000000000000\r\n\r\n"),
    "chunks of one byte": in_chunks,
    "interim answers for ever": forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, b""),
    "headers without an end": forever(b"X: " + b"x" * 60_000 + b"\r\n", OK),
    "a gzip bomb": explodes(1, b"gzip"),
    "a gzip bomb in a gzip bomb": explodes(2, b"gzip, gzip"),
    "an unknown coding": says(b"{}", b"Content-Encoding: br\r\n"),
    "a redirect to itself": lambda c: c.sendall(b"HTTP/1.1 307 No\r\nLocation: /v1/lease\r\nContent-Length: 0\r\n\r\n"),
    "a redirect with a long address": lambda c: c.sendall(
        b"HTTP/1.1 301 No\r\nLocation: /" + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n"
    ),
    "a refusal with a long text": lambda c: c.sendall(b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 400_000),
    "a pause of a year": lambda c: c.sendall(b"HTTP/1.1 503 No\r\nRetry-After: 31536000\r\nContent-Length: 0\r\n\r\n"),
    "nothing, at once": says(b'{"signals":[]}'),
}  # fmt: skip
SLOW: dict[str, Does] = {
    "a body": drips(b" ", OK + b"Content-Length: 100000\r\n\r\n"),
    "a header": drips(b"x", OK + b"X: "),
    "a status line": drips(b"x"),
    "chunks": drips(b"1\r\n{\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "interim answers": drips(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing": lambda c: None if c.recv(1) else None,
}


@pytest.mark.parametrize("does", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_answer_makes_the_executor_do_more_than_a_little(
    hostile: Callable[[Does], Home], does: Does, caplog: pytest.LogCaptureFixture
) -> None:
    home = hostile(does)
    caplog.clear()
    before = home.journal_bytes()
    began = time.process_time()
    home.poll()
    assert time.process_time() - began < 2.0 * TURNS
    assert min(home.pauses) > 0 and max(home.pauses) <= 60
    assert len(home.alarms()) <= 2 and home.journal_bytes() - before < MB, home.alarms()
    assert home.house.trades() == [] and b"AAAAAAAA" not in home.path.read_bytes()
    assert len(home.relay.asked) <= 2 * TURNS and len(caplog.records) <= 2 * TURNS
    assert len("".join(repr(getattr(record, "fields", "")) for record in caplog.records)) < 2000 * TURNS


LARGE = ("an endless body", "a body that says it has a terabyte", "a gzip bomb", "150,000 empty objects", "nesting")


@pytest.mark.parametrize("name", LARGE)
def test_no_answer_fills_the_memory(hostile: Callable[[Does], Home], name: str) -> None:
    home = hostile(HOSTILE[name])
    bomb(1)  # the relay's memory is not counted
    tracemalloc.start()
    try:
        home.poll(1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * MB, peak


FLAT = json.dumps({f"k{n}": 1 for n in range(1300)})


def test_problem_with_a_thousand_unknown_fields_is_short() -> None:
    with pytest.raises(MalformedSignal) as caught:
        parse_payload(
            "x", json.dumps({"type": "signal", "timestamp": "", "expires_at": None, "data": json.loads(FLAT)})
        )
    assert len(str(caught.value)) < 4000 and "1280 more" in str(caught.value)


@pytest.mark.parametrize("does", SLOW.values(), ids=SLOW.keys())
def test_answer_that_drips_is_given_up_when_its_time_is_up(
    hostile: Callable[[Does], Home],
    does: Does,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    """Each byte comes before any time for silence is up; and the next poll can be made at once."""
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.2)
    heard_out.clear()
    home = hostile(does)
    home.poll(3)
    assert heard_out == []
    assert home.pauses == [0.5, 1.0, 2.0]
    eventually(lambda: len(home.relay.asked) >= 3)  # a busy machine may read a request when nobody waits any more
    assert len(home.relay.asked) == 3


def test_answers_of_rubbish_are_asked_for_ever_more_slowly(hostile: Callable[[Does], Home]) -> None:
    home = hostile(signals(50_000, b"{}"))
    home.poll(6)
    assert home.pauses == [0.5, 1.0, 2.0, 5.0, 5.0, 5.0]


def test_forged_signals_are_one_alarm_with_their_number(hostile: Callable[[Does], Home]) -> None:
    home = hostile(forged(LIMIT))
    home.poll(3)
    (alarm,) = home.house.journal.standing_alarms()
    assert alarm["kind"] == "forged signal" and re.search(r"30 signals .* .the last: [0-9A-Z]{26}.;", alarm["text"])


def test_forged_signal_that_comes_again_counts_once(hostile: Callable[[Does], Home]) -> None:
    same = leased()
    home = hostile(says(lambda: {"signals": [same]}))
    home.poll(5)
    (alarm,) = home.house.journal.standing_alarms()
    assert f"a signal that is not signed with our key (the last: {same['id']})" in alarm["text"]


def test_no_more_signals_are_taken_than_were_asked_for(hostile: Callable[[Does], Home]) -> None:
    home = hostile(says(lambda: {"signals": [leased(KEY) for _ in range(LIMIT + 5)]}))
    home.poll(1)
    assert len(home.house.journal._rows("SELECT 1 FROM inbox")) == LIMIT


# --- what it reports ----------------------------------------------------------------------------------------------


def notices(count: int, kind: str = "alert-missed", text: str = "x" * 2000) -> Does:
    """Report so many things at each poll, none of them twice."""
    numbers = itertools.count()

    def body() -> Any:
        each = [{"kind": kind, "symbol": f"S{next(numbers)}", "text": text, "at": "now"} for _ in range(count)]
        return {"signals": [], "notices": each}

    return says(body)


REPORTS: dict[str, Does] = {
    "missed alerts": notices(100),
    "dead letters": notices(100, "dead-letter"),
    "second executors": notices(100, "second-executor"),
    "things we do not know": notices(100, "news"),
    "signed signals that cannot be read": says(lambda: {"signals": [leased(KEY, '{"type":"signal"}') for _ in range(10)]}),
    "signed signals with 1,300 mistakes": says(lambda: {"signals": [leased(KEY, FLAT) for _ in range(10)]}),
}  # fmt: skip


@pytest.mark.parametrize("does", REPORTS.values(), ids=REPORTS.keys())
def test_what_is_reported_makes_twenty_alarms_and_one_that_counts(hostile: Callable[[Does], Home], does: Does) -> None:
    home = hostile(does)
    before = home.journal_bytes()
    home.poll()
    assert len(home.alarms()) <= MOST_AT_ONCE + 2 and min(home.pauses) > 0, home.alarms()
    assert home.journal_bytes() - before < MB
    longest = max((len(row["text"]) for row in home.house.journal._rows("SELECT text FROM alarms")), default=0)
    assert longest < 700


def test_what_was_not_shown_is_counted(hostile: Callable[[Does], Home]) -> None:
    home = hostile(notices(100))
    home.poll(2)
    assert home.alarms() == ["missed alert"] * MOST_AT_ONCE + ["many reports"]
    (alarm,) = (each for each in home.house.journal.standing_alarms() if each["kind"] == "many reports")
    assert "180 more are counted" in alarm["text"]
    home.house.clock.advance(1801)  # a tenth of them may be raised again
    home.poll(1)
    assert home.alarms().count("missed alert") == MOST_AT_ONCE + 10


def test_text_of_a_relay_has_no_control_characters(hostile: Callable[[Does], Home]) -> None:
    home = hostile(notices(1, text="one\x7f\x9b31mtwo\u202e\u2028three"))
    home.poll(1)
    (alarm,) = home.house.journal.standing_alarms()
    assert alarm["text"] == "one  31mtwo  three"


def test_relay_that_changes_its_mind_all_day_wakes_nobody_every_minute(hostile: Callable[[Does], Home]) -> None:
    """Second executor, no second executor; clock wrong, clock right: each turn another word."""
    turn = itertools.count()
    conflict = b'{"code":"another-consumer","detail":"home"}'

    def does(connection: socket.socket) -> None:
        number = next(turn)
        at = START + timedelta(seconds=100 if number % 4 < 2 else 0)
        if number % 2:
            connection.sendall(b"HTTP/1.1 409 No\r\nContent-Length: %d\r\n\r\n%s" % (len(conflict), conflict))
        else:
            says(b'{"signals":[]}', b"X-Relay-Time: %s\r\n" % at.isoformat().encode())(connection)

    home = hostile(does)
    home.poll(120)
    assert len(home.alarms()) <= MOST_AT_ONCE + 4
