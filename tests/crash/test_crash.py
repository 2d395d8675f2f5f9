"""A few of the kills of `make crash`, each of another kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")
@pytest.mark.parametrize("scenario", ["entry buy bracket", "reversal with bracket"])
def test_killed_anywhere_nothing_is_lost_doubled_or_naked(scenario: str) -> None:
    words = ["--only", scenario, "--runs", "5", "--double", "1", "--seed", "7"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *words], cwd=ROOT, capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 with a violation" in done.stdout
