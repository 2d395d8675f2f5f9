"""An alert that never came: from TradingView's text through relay and executor to the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.__main__ import main
from tests.executor.processes import ExecutorProcess, open_url
from tests.paper.processes import Paper
from tests.relay.examples import SECRET
from tests.relay.process import RelayProcess
from tests.senders.tradingview import fill, post


@pytest.mark.slow
def test_a_missed_alert_is_an_alarm_on_the_page(relay: RelayProcess, tmp_path: Path, eventually) -> None:
    """The strategy went long (this alert came), flat (this one was lost), and long again."""
    text = CliRunner().invoke(main, ["alert-message", "strategy"]).stdout
    paper = Paper()
    one = ExecutorProcess(tmp_path, "--ib-port", paper.port, "--relay-url", relay.url)
    try:
        eventually(lambda: one.status().get("connected"), 50)
        for minute in ("10", "20"):
            answer = post(f"{relay.url}/webhook/{SECRET}", fill(text, timenow=f"2026-11-23T09:{minute}:00Z"))
            assert answer.status_code == 202
        alarms = eventually(lambda: one.status().get("alarms"), 50)
        said = "An alert for EURUSD was missed: the strategy held flat, but its previous alert reported long 10000."
        assert [(each["kind"], each["text"]) for each in alarms] == [("missed alert", said)]
        with open_url(one.page, timeout=30) as page:
            assert said in page.read().decode()
    finally:
        one.end()
        paper.end()
