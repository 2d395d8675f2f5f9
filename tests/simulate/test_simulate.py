"""A few seeds of `make simulate`, and that a seed is the same run each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.core import steps
from executor.core.policy import Policy
from executor.core.ports import Kind
from executor.core.trades import Leg, State, Trade
from executor.desk.book import Book
from executor.desk.life import Life
from tests.simulate.story import is_calm, play, play_seed
from tests.simulate.world import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [0, 5])  # the second with deaths of the executor
def test_a_trading_day_breaks_no_rule(seed: int) -> None:
    result = play_seed(1, seed)
    assert result.broken == "", "\n".join(result.lines)
    assert result.figures.days == 1 and result.figures.orders > 0


def test_seed_gives_the_same_trace_to_the_byte_in_another_process() -> None:
    """Whatever the hashes of that process are."""
    lines: list[str] = []
    result = run(1, 1, play, lines.append)
    words = [sys.executable, "-W", "ignore", "-m", "tests.simulate", "--seeds", "1", "--days", "1", "--trace"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=170, env={**os.environ, "PYTHONHASHSEED": "1"}
    )
    assert f"trace {result.trace}" in done.stdout, done.stdout[-2000:] + done.stderr
    assert (
        done.stdout.splitlines()[1 : 1 + len(lines)]
        == [part for line in lines for part in line.splitlines()][: len(lines)]
    )


# ---- planted bugs: the real executor sabotaged by one line; the simulation must find it ----


def close_on_a_stale_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it once was: the rest of a close went out on the position shown before its first part."""

    def at_once(trade: Trade, moment: steps.Moment, policy: Policy) -> steps.Step | None:
        quantity = steps.closable(trade, moment)
        if trade.live or quantity <= 0:
            return None
        return steps.Place(steps._exit(trade, Leg.CLOSE, quantity, Kind.MARKET, None))

    monkeypatch.setitem(steps._PLANNERS, State.CLOSING, at_once)


def no_block_after_a_take_profit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Life, "_block", lambda *_, **__: None)


def ids_as_tws_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "take_order_ids", lambda book, client_id, count, floor: floor)


def no_stop_put_back_and_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_protect", lambda *_: None)


Plant = Callable[[pytest.MonkeyPatch], None]


def rules_broken(plant: Plant, monkeypatch: pytest.MonkeyPatch, seeds: int) -> str:
    plant(monkeypatch)
    broken = (play_seed(3, seed).broken for seed in range(1, seeds) if not is_calm(seed))
    return next((text for text in broken if text), "")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (close_on_a_stale_position, "flip: "), (no_block_after_a_take_profit, "blocked: "), (ids_as_tws_says, "program: "),
        (no_stop_put_back_and_no_word, "protected: "),
    ],
)  # fmt: skip
def test_planted_bug_is_found(plant: Plant, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = rules_broken(plant, monkeypatch, 60)
    assert broken and broken.startswith(rule)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_weeks_break_no_rule() -> None:
    for seed in range(20):
        result = play_seed(5, seed)
        assert result.broken == "", f"seed {seed}: {result.broken}\n" + "\n".join(result.lines)
