"""Alarms reach their owner, again and again until they are over, and never hold anything up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from common.clock import FakeClock
from common.logs import never_log
from common.secret import Secret
from executor import notify as module
from executor.core.conditions import AlarmKind
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.journal.journal import Journal
from executor.notify import Channels, Heartbeat, Notifier
from tests.executor.fakes import START

# Apprise's e-mail plugin imports a module that Python 3.13 has not; it copes without.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Inbox(BaseHTTPRequestHandler):
    """Whatever is posted or fetched is kept; `code` is what it answers."""

    got: list[tuple[str, str]] = []
    code = 200
    open = threading.Event()  # shut: it answers nobody

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.open.wait(30)
        self.got.append((self.path, body.decode()))
        self.send_response(self.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def inbox() -> Iterator[type[Inbox]]:
    Inbox.got, Inbox.code = [], 200
    Inbox.open.set()
    server = HTTPServer(("127.0.0.1", 0), Inbox)
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
    Inbox.port = server.server_port  # type: ignore[attr-defined]
    yield Inbox
    server.shutdown()
    server.server_close()


class Office:
    def __init__(self, urls: str | None) -> None:
        self.clock = FakeClock(START)
        self.journal = Journal.open(":memory:", self.clock)
        self.alarms = Alarms(Book(self.journal, self.clock), self.clock)
        self.notifier = Notifier(
            self.journal, Channels(Secret(urls) if urls else None, "EXECUTOR_NOTIFY_URLS"), self.clock
        )

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        asyncio.run(self.notifier.turn())


@pytest.fixture
def office(inbox: type[Inbox]) -> Office:
    return Office(f"json://127.0.0.1:{inbox.port}/hook")  # type: ignore[attr-defined]


def test_told_at_once_repeated_and_closed(office: Office, inbox: type[Inbox]) -> None:
    office.alarms.state(AlarmKind.UNPROTECTED, "EURUSD stands without a stop", "1", symbol="EURUSD")
    office.turn()
    office.turn(1)
    assert len(inbox.got) == 1 and "EURUSD unprotected" in inbox.got[0][1] and "without a stop" in inbox.got[0][1]
    office.turn(15 * 60)
    assert len(inbox.got) == 2
    office.alarms.state(AlarmKind.UNPROTECTED, None, "1", over="the stop stands again")
    office.turn(1)
    office.turn(3600)
    assert len(inbox.got) == 3 and "(over)" in inbox.got[2][1] and "the stop stands again" in inbox.got[2][1]


def test_what_an_earlier_run_had_no_time_to_tell_is_told_before_it_is_over(office: Office, inbox: type[Inbox]) -> None:
    """The program died within a second of an expired entry, and came back when the report of it was over."""
    office.alarms.state(AlarmKind.EXPIRED_SIGNAL, "EURUSD: too old", "1", symbol="EURUSD")
    office.clock.advance(16 * 60)
    alarms = Alarms(Book(office.journal, office.clock), office.clock)
    alarms.told(office.clock.now())
    office.turn(1)
    assert len(inbox.got) == 1 and "too old" in inbox.got[0][1]
    office.clock.advance(60)
    alarms.told(office.clock.now())
    assert office.journal.standing_alarms() == []


def test_channel_that_is_down_is_tried_again(office: Office, inbox: type[Inbox]) -> None:
    inbox.code = 500
    office.alarms.state(AlarmKind.HOLD, "held", "1")
    office.turn()
    inbox.code = 200
    office.turn(1)
    assert len(inbox.got) == 1
    office.turn(30)
    assert len(inbox.got) == 2
    office.turn(60)
    assert len(inbox.got) == 2


def test_one_channel_that_works_is_enough(inbox: type[Inbox]) -> None:
    office = Office(f"json://127.0.0.1:1/dead, json://127.0.0.1:{inbox.port}/good")  # type: ignore[attr-defined]
    office.alarms.state(AlarmKind.HOLD, "held", "1")
    office.turn()
    assert [path for path, _ in inbox.got] == ["/good"]
    office.turn(60)
    assert len(inbox.got) == 1


def test_slow_channel_is_given_up_in_time(
    office: Office, inbox: type[Inbox], monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    monkeypatch.setattr(module, "_SEND_SECONDS", 0.2)
    asyncio.run(office.notifier.turn())
    inbox.open.clear()
    office.alarms.state(AlarmKind.HOLD, "held", "1")
    office.turn()
    assert office.journal.standing_alarms()[0]["told_at"] is None and inbox.got == []  # it still waits, and we do not
    inbox.open.set()
    eventually(lambda: inbox.got)  # the thread that was left to itself ends before its server does


def test_without_channels_log_and_page_are_all(caplog: pytest.LogCaptureFixture) -> None:
    office = Office(None)
    office.alarms.state(AlarmKind.HOLD, "held", "1")
    for _ in range(3):
        office.turn(15 * 60)
    assert [r.getMessage() for r in caplog.records] == ["alarm_raised", "alarm_stands", "alarm_stands"]


def test_wrong_address_is_said_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    office = Office("nonsense://tokentoken")
    office.alarms.state(AlarmKind.HOLD, "held", "1")
    office.turn()
    assert "channel_refused" in caplog.messages and "alarm_not_delivered" in caplog.messages
    assert "tokentoken" not in caplog.text


def test_secrets_do_not_leave_by_a_channel(office: Office, inbox: type[Inbox]) -> None:
    never_log("super-secret-value")
    office.alarms.state(AlarmKind.HOLD, "TWS said super-secret-value", "1")
    office.turn()
    assert "super-secret-value" not in inbox.got[0][1] and "[secret]" in inbox.got[0][1]


def test_heartbeat_only_while_signals_are_fetched(inbox: type[Inbox]) -> None:
    clock = FakeClock(START)
    heartbeat = Heartbeat(Secret(f"http://127.0.0.1:{inbox.port}/ping"), clock)  # type: ignore[attr-defined]
    asyncio.run(heartbeat.turn(None))
    asyncio.run(heartbeat.turn(0.0))
    assert [path for path, _ in inbox.got] == ["/ping"]
    clock.advance(121)
    asyncio.run(heartbeat.turn(0.0))
    assert len(inbox.got) == 1


def test_heartbeat_that_fails_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    heartbeat = Heartbeat(Secret("http://127.0.0.1:1/uuid-secret"), FakeClock(START))
    for _ in range(3):
        asyncio.run(heartbeat.turn(0.0))
    assert caplog.messages == ["heartbeat_not_sent"] and "uuid-secret" not in caplog.text
