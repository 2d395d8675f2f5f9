"""The benches run, on sizes that say nothing about speed: no figure is asserted here.

Those that start programs are run by `make test-ci`: they prove something about the benches, and nothing about the product.
"""

import re
import sqlite3
from contextlib import closing

import pytest

from bench import growth_speed, history, pairs, report
from bench.systems import shares, whole


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The journal of a short story that a real executor traded, one trade with each ending."""
    return history.record(tmp_path_factory.mktemp("bench") / "story", history.SYMBOLS[: len(history.ENDINGS)])


@pytest.mark.ci
def test_multiplied_history_is_whole_and_in_the_past(story, tmp_path):
    history.multiply(story, tmp_path / "long.db", 500)
    with closing(sqlite3.connect(tmp_path / "long.db")) as long, closing(sqlite3.connect(story)) as short:
        assert long.execute("SELECT count(*) FROM events").fetchone()[0] >= 500
        assert long.execute("SELECT count(*) FROM trades WHERE closed = 0").fetchone()[0] == 0
        assert not long.execute("PRAGMA foreign_key_check").fetchall()
        assert endings(long) == endings(short)
        newest = long.execute("SELECT max(at) FROM events").fetchone()[0]
        assert newest < short.execute("SELECT min(at) FROM events").fetchone()[0]
        for table, key in (("inbox", "received_at"), ("trades", "timestamp"), ("events", "at")):
            times = [row[0] for row in long.execute(f"SELECT {key} FROM {table} ORDER BY rowid")]
            assert times == sorted(times)


def endings(journal: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(journal.execute("SELECT state, exit_reason FROM trades"))


@pytest.mark.ci
def test_executor_trades_on_a_multiplied_history(story, tmp_path):
    history.multiply(story, tmp_path / "long.db", 500)
    with whole(tmp_path / "full", journal=tmp_path / "long.db") as system:
        assert system.reversal() > 0


@pytest.mark.ci
def test_burst_is_measured_to_its_last_bracket(monkeypatch):
    monkeypatch.setattr(growth_speed, "PACE_SECONDS", 0)
    (row,) = growth_speed.measure_burst(alerts=2, bursts=1, standing=1)
    assert " s (the bare bot's: " in row.value, row


def test_pairs_keep_what_was_measured_before_an_order_failed_to_come():
    def fails_in_the_third(number: int) -> float:
        if number == 2:
            raise RuntimeError("the paper TWS did not log it\nand more")
        return 2.0

    found = pairs.take(fails_in_the_third, lambda _: 1.0, 10, seconds=60, warm_up=1)
    assert (found.ours, found.theirs) == ([2.0], [1.0])
    assert "ended early: the paper TWS did not log it)" in str(found)


def test_ratio_is_the_median_of_the_pairs():
    assert pairs.Pairs(ours=[2, 30, 4], theirs=[1, 10, 4]).ratio == 2


def test_made_up_stocks_have_names_of_their_own():
    assert len({str(shares(number)["symbol"]) for number in range(26 * 26)}) == 26 * 26


def test_written_figures_name_the_day_the_code_and_the_machine(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", "utf-8")
    report.write(page, [report.Row("rate", "5/s", must="4/s")], "2026-11-30")
    text = page.read_text("utf-8")
    assert re.search(r"Measured on 2026-11-30 at (commit [0-9a-f]{7,}|a tree without git)", text)
    assert report.machine() in text and "| rate | 5/s | 4/s |  |" in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")
