"""A few of the kills of `make crash`, each of another kind; the whole of it takes too long for every day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


# how many of each kind: killed once, killed twice, and the relay killed
EVERY_DAY, CI, MORE = (1, 1, 1), (2, 1, 1), (6, 1, 3)


@pytest.mark.timeout(300)  # a busy machine may take its time
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")
@pytest.mark.parametrize(
    "runs, double, relay",
    [EVERY_DAY, pytest.param(*CI, marks=pytest.mark.ci), pytest.param(*MORE, marks=pytest.mark.slow)],
)
def test_killed_anywhere_nothing_is_lost_doubled_or_naked(runs: int, double: int, relay: int) -> None:
    words = ["--only", "reversal with bracket", "--seed", "7", "--engines", "sqlite", "--patient", "0"]
    words += ["--runs", str(runs), "--double", str(double), "--relay", str(relay)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *words], cwd=ROOT, capture_output=True, text=True, timeout=290
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n")
