"""Every page over a long day of real signals: 300 trades and every way in which a signal and a trade can end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from executor.core.ports import Contract
from tests.once import once
from tests.page.day import Day, reversal

pytestmark = pytest.mark.timeout(240)  # making the day takes 12 s of work


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal after the day."""

    def make(folder: Path) -> None:
        day = Day(folder / "trade_state.db")
        day.run(300)
        day.house.journal.close()

    return (once(tmp_path_factory, "long-day", make) / "trade_state.db").read_bytes()


@pytest.fixture
def long_day(bench, journal: bytes):
    bench.path.write_bytes(journal)
    return bench


def column(bench, sql: str) -> set[str]:
    return {row[0] for row in bench.seed().db.execute(sql)}


def test_the_day_has_every_outcome_and_every_end(long_day):
    """Else the tests below would show less than they claim."""
    assert column(long_day, "SELECT outcome FROM inbox") - {None} == {
        "entered", "ignored", "refused", "expired", "closed", "reset", "nothing to do"}  # fmt: skip
    assert column(long_day, "SELECT exit_reason FROM trades") - {None} == {
        "take-profit", "stop-loss", "close signal", "reversal", "by hand", "owner", "unknown", "never filled"}  # fmt: skip
    assert column(long_day, "SELECT state FROM trades") >= {"closed", "void", "hold", "open"}
    assert long_day.seed().db.execute("SELECT count(*) FROM trades").fetchone()[0] >= 300


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics"])
def test_every_page_answers_after_a_long_day(long_day, path):
    answer = long_day.client().get(path)
    assert answer.status_code == 200, answer.text
    assert long_day.told == [(path, None)]


def test_every_button_of_the_day_is_asked_and_sent(long_day, csrf):
    client = long_day.client()
    token, html = csrf(client), client.get("/").text
    forms = {part.split('"')[0] for part in html.split('action="')[1:]}
    assert {form.rpartition("/")[2] for form in forms} >= {"close", "reset", "adopt", "flatten", "dismiss", "ignore"}
    for form in forms:
        assert client.post(form, data={"csrf_token": token, "step": "ask"}).status_code == 200, form
        assert client.post(form, data={"csrf_token": token, "step": "do", "confirm": "yes"}).status_code == 200, form
    assert len(long_day.desk.commands) == len(forms)


def test_page_answers_after_each_trade_of_a_morning_of_reversals(bench):
    """More signals are shown than closed trades, so some signals belong to trades that are not shown."""
    day, client = Day(bench.path), None
    contract = Contract(7, "AAPL", "STK", "AAPL", "USD", "SMART")
    day.house.broker.contracts["AAPL"] = contract
    for _ in range(22):
        reversal(day.house, contract)
        client = client or bench.client()
        assert client.get("/").status_code == 200
    day.house.journal.close()
    assert json.loads(client.get("/healthz").text) == {"status": "ok"}
