"""The executor as a process: a signal posted to a real relay becomes a bracket at a paper TWS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from executor.status.settings import own_addresses
from tests.executor.processes import ExecutorProcess
from tests.paper.processes import Paper
from tests.relay.examples import AUTH
from tests.relay.process import RelayProcess

OPEN = {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": 20000, "tp": 1.25, "sl": 1.10}
Until = Callable[..., Any]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    running = RelayProcess(tmp_path / "relay")
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ExecutorProcess]]:
    running: list[ExecutorProcess] = []

    def start(*flags: object, **more: str) -> ExecutorProcess:
        running.append(ExecutorProcess(tmp_path, *flags, **more))
        return running[-1]

    yield start
    for each in running:
        each.end()
        assert "Traceback" not in "\n".join(each.lines), "\n".join(each.lines)


@pytest.fixture
def paper() -> Iterator[Paper]:
    running = Paper()
    yield running
    running.end()


def post(relay: RelayProcess, **signal: Any) -> str:
    answer = requests.post(f"http://127.0.0.1:{relay.port}/webhook", json=signal, headers=AUTH, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_page_that_cannot_be_made_is_an_alarm_of_the_program(
    tmp_path: Path, start: Callable[..., ExecutorProcess], eventually: Until
) -> None:
    """The owner's own template has a mistake: said in log, journal and /healthz; fixed and restarted, it is over."""
    (tmp_path / "mine").mkdir()
    template = tmp_path / "mine" / "index.html"
    template.write_text("{{ dashboard_data.nothing.at_all }}", encoding="utf-8")
    one = start("--templates", tmp_path / "mine")
    eventually(lambda: one.status(), 40)
    answer = requests.get(f"{one.page}/", timeout=30)
    assert answer.status_code == 500 and "your own template index.html, line 1" in answer.text
    standing = "SELECT text FROM alarms WHERE kind = 'program' AND cleared_at IS NULL"
    assert "your own template index.html, line 1" in eventually(lambda: one.rows(standing))[0]["text"]
    assert requests.get(f"{one.page}/healthz", timeout=30).status_code == 503
    assert len(one.said("page_failed")) == 1 and "index.html" in one.said("page_failed")[0]
    one.end()
    template.write_text("{{ dashboard_data.status }}", encoding="utf-8")
    two = start("--templates", tmp_path / "mine")
    eventually(lambda: two.status(), 40)
    assert requests.get(f"{two.page}/", timeout=30).status_code == 200
    eventually(lambda: not two.rows(standing))


def test_settings_reach_what_they_are_for(start: Callable[..., ExecutorProcess], eventually: Until) -> None:
    """Those that no other test sees through: names of the page, the form of the log."""
    one = start("--page-hosts", "box.example,tower.example", "--log-json")
    eventually(lambda: one.status(), 40)
    for host, expected in (("tower.example", 200), ("box.example:5001", 200), ("evil.example", 421)):
        assert requests.get(f"{one.page}/", headers={"Host": host}, timeout=30).status_code == expected
    assert one.end() == 0
    logged = [json.loads(line) for line in one.lines if line.startswith("{")]
    assert {"stopping"} <= {line["event"] for line in logged} and not one.said(" INFO ")


def url(relay: RelayProcess) -> list[object]:
    return ["--relay-url", f"http://127.0.0.1:{relay.port}"]


def test_signal_becomes_a_bracket_and_the_page_shows_it(
    relay: RelayProcess, paper: Paper, start: Callable[..., ExecutorProcess], eventually: Until
) -> None:
    one = start("--ib-port", paper.port, *url(relay))
    eventually(lambda: one.status().get("connected"), 40)
    post(relay, **OPEN)
    eventually(lambda: len(paper.control.orders()) == 2, 30)
    eventually(lambda: one.status().get("positions"), 30)
    legs = {row["orderRef"][20]: row for row in paper.control.orders()}
    assert set(legs) == {"T", "S"}
    trade = one.rows("SELECT * FROM trades")[0]
    assert (trade["symbol"], trade["signal"], trade["position_size"], trade["closed"]) == ("EURUSD", "buy", 20000, 0)
    assert (trade["tp_price"], trade["sl_price"], trade["entry_price"]) == (1.25, 1.10, 1.19005)
    paper.control.set_price("EURUSD", "1.2505")
    eventually(lambda: one.rows("SELECT * FROM trades WHERE closed = 1 AND tp_hit = 1"))
    again = post(relay, **{**OPEN, "note": "again"})
    verdict = eventually(
        lambda: one.rows(f"SELECT outcome, reason FROM inbox WHERE signal_id = '{again}' AND outcome <> ''")
    )
    assert verdict[0]["reason"].startswith("re-entry blocked: the last buy trade"), verdict
    assert one.end() == 0
    assert [line for line in one.lines if " ERROR " in line] == []


@pytest.mark.slow
def test_take_profit_while_the_executor_was_dead_is_found(
    relay: RelayProcess, paper: Paper, start: Callable[..., ExecutorProcess], eventually: Until
) -> None:
    one = start("--ib-port", paper.port, *url(relay))
    post(relay, **OPEN)
    eventually(lambda: len(paper.control.orders()) == 2, 40)
    eventually(lambda: one.rows("SELECT * FROM trades WHERE state = 'open'"))
    one.end(kill=True)
    paper.control.set_price("EURUSD", "1.2505")
    two = start("--ib-port", paper.port, *url(relay))
    eventually(lambda: two.rows("SELECT * FROM trades WHERE tp_hit = 1 AND exit_price = 1.25"), 40)


def test_paper_is_one_command_and_its_broker_survives_a_kill(
    relay: RelayProcess, start: Callable[..., ExecutorProcess], eventually: Until
) -> None:
    one = start("--paper", *url(relay))
    post(relay, **OPEN)
    eventually(lambda: one.status().get("positions"), 40)
    child = psutil.Process(one.process.pid).children()[0]
    one.end(kill=True)
    eventually(lambda: not child.is_running(), 40)
    two = start("--paper", *url(relay))
    eventually(lambda: (now := two.status()).get("connected") and now.get("positions"), 40)
    assert len(two.rows("SELECT * FROM trades")) == 1 and (two.directory / "trade_state.paper.db").exists()
    child = eventually(lambda: psutil.Process(two.process.pid).children(), 40)[0]  # type: ignore[index]
    assert two.end() == 0 and not child.is_running()


@pytest.mark.timeout(240)  # two programs start, one after the other, on a machine that may be overloaded
def test_second_executor_ends_at_once_and_names_the_first(
    paper: Paper, start: Callable[..., ExecutorProcess], eventually: Until
) -> None:
    one = start("--ib-port", paper.port)
    eventually(lambda: one.page, 100)
    two = start("--ib-port", paper.port)
    assert two.ends(100) == 1
    assert f"process {one.process.pid} on" in "\n".join(two.lines)


def test_everything_away_is_said_and_ctrl_c_ends_it(
    start: Callable[..., ExecutorProcess], eventually: Until, free_port: Callable[[], int]
) -> None:
    one = start("--ib-port", free_port(), "--relay-url", f"http://127.0.0.1:{free_port()}")
    eventually(lambda: one.said("relay_away") and one.said("1 of 3"), 40)
    assert eventually(one.status)["status"].startswith("disconnected: ")
    assert one.end() == 0
    assert len(one.said("relay_away")) == 1


def test_page_token_is_made_once_and_kept(
    start: Callable[..., ExecutorProcess], eventually: Until, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    for _ in range(2):
        one = start("--flask-host", "0.0.0.0", "--flask-port", 0, "--ib-port", free_port())
        link = eventually(lambda one=one: one.page, 40)
        one.end()
        token = link.partition("token=")[2]
        assert token and (tmp_path / ".env").read_text().count("EXECUTOR_PAGE_TOKEN=") == 1
        assert f"EXECUTOR_PAGE_TOKEN={token}" in (tmp_path / ".env").read_text()
        links = [line for line in one.lines if "/login?token=" in line]
        assert one.said(token) == links and len(links) <= 1 + len(own_addresses())  # and no log line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ib-port", "x"], "--ib-port / EXECUTOR_IB_PORT must be a whole number"),
        pytest.param(["--config", "none.toml"], "none.toml cannot be read", marks=pytest.mark.slow),
        (["--templates", "none"], "expected a folder with an index.html"),
        pytest.param(["--relay-url", "ftp://x"], "must be an address like https://", marks=pytest.mark.slow),
    ],
)
def test_mistake_ends_with_2_and_its_remedy(
    start: Callable[..., ExecutorProcess], flags: list[str], words: str
) -> None:
    one = start(*flags)
    assert one.process.wait(50) == 2
    one.end()
    assert any(line.startswith("configuration: ") and words in line for line in one.lines), one.lines


def test_journal_that_is_none_ends_with_1_and_its_remedy(start: Callable[..., ExecutorProcess], tmp_path: Path) -> None:
    (tmp_path / "trade_state.db").write_bytes(b"this is no database, whatever it is called" * 100)
    one = start()
    assert one.process.wait(50) == 1
    one.end()
    assert "executor: the journal" in "\n".join(one.lines)
