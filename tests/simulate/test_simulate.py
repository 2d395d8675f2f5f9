"""A few seeds of `make simulate`, and that a seed is the same run each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulate.story import play, play_seed
from tests.simulate.world import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [0, 2])
def test_a_trading_day_breaks_no_rule(seed: int) -> None:
    result = play_seed(1, seed)
    assert result.broken == "", "\n".join(result.lines)
    assert result.figures.days == 1 and result.figures.orders > 0


def test_seed_gives_the_same_trace_to_the_byte_in_another_process() -> None:
    """Whatever the hashes of that process are."""
    lines: list[str] = []
    result = run(3, 1, play, lines.append)
    words = [sys.executable, "-W", "ignore", "-m", "tests.simulate", "--seeds", "3", "--days", "1", "--trace"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=50, env={**os.environ, "PYTHONHASHSEED": "1"}
    )
    assert f"trace {result.trace}" in done.stdout, done.stdout[-2000:] + done.stderr
    assert (
        done.stdout.splitlines()[: len(lines)] == [part for line in lines for part in line.splitlines()][: len(lines)]
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_weeks_break_no_rule() -> None:
    for seed in range(20):
        result = play_seed(5, seed)
        assert result.broken == "", f"seed {seed}: {result.broken}\n" + "\n".join(result.lines)
