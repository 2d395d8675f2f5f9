"""A few of the kills of `make crash`, each of another kind; the whole of it takes too long for every day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)  # a busy machine may take its time
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")
def test_killed_anywhere_nothing_is_lost_doubled_or_naked() -> None:
    words = [
        "--only",
        "reversal with bracket",
        "--runs",
        "6",
        "--double",
        "1",
        "--patient",
        "0",
        "--relay",
        "3",
        "--seed",
        "7",
    ]
    words += ["--engines", "sqlite"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *words], cwd=ROOT, capture_output=True, text=True, timeout=290
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n")
