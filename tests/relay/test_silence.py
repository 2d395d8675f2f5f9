"""The watch over the executor: its owner hears, over a real channel, that nobody fetches alerts."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.secret import Secret
from relay.silence import ExecutorWatch
from tests.relay.examples import CHANNEL, Web, signal
from tests.relay.process import RelayProcess

# One of the channels that Apprise knows imports it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Inbox:
    """An owner's channel: what was posted to it, and how it answers."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        inbox = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if inbox.status == 200:
                    inbox.got.append(json.loads(body))
                self.send_response(inbox.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/{CHANNEL}"

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.got]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    found = Inbox()
    yield found
    found.server.shutdown()
    found.server.server_close()


class Watched(Web):
    """A relay whose watch looks when it is told to."""

    def __init__(self, path: Path, urls: str | None) -> None:
        super().__init__(path, alarm_urls=Secret(urls) if urls else None, executor_silent_seconds=120.0)
        self.watch = ExecutorWatch(self.relay)

    def look(self, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        self.watch.look()


@pytest.fixture
def web(tmp_path: Path, inbox: Inbox) -> Iterator[Watched]:
    found = Watched(tmp_path, inbox.url)
    yield found
    found.pending.close()


def polls(web: Web) -> None:
    """Poll, and have it written down."""
    web.lease()
    web.pending.ready()


def test_silence_is_told_with_what_waits_and_its_end(web: Watched, inbox: Inbox) -> None:
    polls(web)
    web.send()
    web.look(119)
    assert inbox.got == []
    web.look(2)
    assert inbox.titles == ["Relay: Executor is away"] and inbox.got[0]["type"] == "failure"
    assert "No executor has fetched alerts for 121 s; 1 are waiting" in inbox.got[0]["message"]
    web.look(10)
    assert len(inbox.got) == 1
    polls(web)
    web.look()
    assert inbox.titles[1:] == ["Relay: Executor is back"]


def test_silence_is_told_again_each_hour(web: Watched, inbox: Inbox) -> None:
    web.look(121)
    assert "since the relay started" in inbox.got[0]["message"]
    for _ in range(12):
        web.look(600)
    assert len(inbox.got) == 3


def test_an_alarm_that_no_channel_took_is_sent_again_after_a_minute(web: Watched, inbox: Inbox, caplog) -> None:
    inbox.status = 500
    web.look(121)
    assert inbox.got == [] and "alarm_not_delivered" in caplog.messages
    inbox.status = 200
    web.look(30)
    assert inbox.got == []
    web.look(31)
    assert inbox.titles == ["Relay: Executor is away"] and CHANNEL not in caplog.text


def test_an_end_that_no_channel_took_is_sent_again_too(web: Watched, inbox: Inbox) -> None:
    web.look(121)
    inbox.status = 500
    polls(web)
    web.look()
    inbox.status = 200
    web.look(61)
    assert inbox.titles == ["Relay: Executor is away", "Relay: Executor is back"]


def bury(web: Watched, symbol: str) -> str:
    """Have a signal become a dead letter; return its id."""
    id: str = web.send(symbol=symbol).json["id"]
    for _ in range(5):
        web.lease(lease_seconds=1)
        web.clock.advance(2)
    assert web.lease() == []
    return id


def test_a_dead_letter_is_told_though_another_was_brought_back(web: Watched, inbox: Inbox) -> None:
    first = bury(web, "AAPL")
    web.look()
    web.pending.requeue(first, web.clock.now())
    [again] = web.lease()
    web.call("ack", acks=[{"id": again["id"], "lease": again["lease"]}])
    bury(web, "MSFT")
    web.look()
    assert inbox.titles == ["Relay: Dead letters"] * 2


def test_what_died_just_before_the_start_is_told_and_what_is_old_is_not(web: Watched, inbox: Inbox) -> None:
    bury(web, "AAPL")
    web.clock.advance(601)
    bury(web, "MSFT")
    web.look()
    assert [each["message"].partition(".")[0] for each in inbox.got] == ["1 more will not be delivered, 2 in all"]


def test_look_reads_only_what_died_lately(web: Watched, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read every dead letter with its payload each five seconds, in the thread that stores alerts."""
    for symbol in ("AAPL", "MSFT", "EURUSD"):
        bury(web, symbol)
    web.look()
    web.look(700)
    read: list[int] = []
    dead = web.pending.dead
    monkeypatch.setattr(web.pending, "dead", lambda *words: [read.append(len(found := dead(*words))), found][1])
    bury(web, "GOOG")
    web.look()
    web.look(700)
    web.look(5)
    assert read == [1, 1, 0] and inbox.titles.count("Relay: Dead letters") == 2


def test_what_dies_after_the_clock_was_set_back_is_told(web: Watched, inbox: Inbox) -> None:
    bury(web, "AAPL")
    web.look()
    web.clock.advance(-3600)
    bury(web, "MSFT")
    web.look(3)
    web.look(3600)
    assert inbox.titles == ["Relay: Dead letters"] * 2


def test_a_dead_letter_is_told_once(web: Watched, inbox: Inbox) -> None:
    web.look()
    bury(web, "EURUSD")
    web.look()
    web.look()
    assert inbox.titles == ["Relay: Dead letters"] and "python -m relay dead" in inbox.got[0]["message"]
    (notice,) = web.call("lease", wait_seconds=0).json["notices"]
    assert (notice["kind"], notice["symbol"]) == ("dead-letter", "EURUSD"), "the executor's owner hears it too"
    assert notice["text"].startswith("The relay gave up on the open for EURUSD, received 2026-11-23T09:15:00")


def test_a_clock_set_back_is_no_silence(web: Watched, inbox: Inbox) -> None:
    polls(web)
    web.look(-3600)
    polls(web)
    web.look(100)
    assert inbox.got == []


def test_without_channels_the_log_tells(tmp_path: Path, caplog) -> None:
    web = Watched(tmp_path, None)
    web.look(121)
    web.look(10)
    assert caplog.messages.count("executor_silent") == 1
    web.pending.close()


def test_a_channel_that_is_none_is_said_without_its_address(tmp_path: Path, caplog) -> None:
    web = Watched(tmp_path, f"nonsense://{CHANNEL}")
    web.look(121)
    assert "channel_refused" in caplog.messages and CHANNEL not in caplog.text
    web.pending.close()


@pytest.mark.slow  # the shortest silence that can be set is fifteen seconds
def test_a_relay_process_tells_of_silence_and_of_its_end(tmp_path: Path, inbox: Inbox, eventually) -> None:
    relay = RelayProcess(tmp_path / "r", RELAY_EXECUTOR_SILENT_SECONDS="15", RELAY_ALARM_URLS=inbox.url)
    relay.post("/webhook", signal())
    eventually(lambda: inbox.titles == ["Relay: Executor is away"], seconds=40)
    relay.call("lease", wait_seconds=0)
    eventually(lambda: inbox.titles[1:] == ["Relay: Executor is back"], seconds=50)
    for _ in range(3):
        assert relay.call("lease", wait_seconds=20)["signals"] == []
    assert len(inbox.titles) == 2, "who polls is not away, however long he waits"
    assert relay.stop() == 0 and CHANNEL not in relay.log and "executor_silent" in relay.log
