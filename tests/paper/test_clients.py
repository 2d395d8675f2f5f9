"""Three client libraries, each over a real socket: a bracket from entry to exit, and what a reconnect finds.

ib_async and the official ibapi live in environments of their own (.venv-ib_async-3.x, .venv-ibapi-3.x), made on first use.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.paper.processes import ROOT, Paper, environment

CLIENTS = Path(__file__).parent / "clients"


@pytest.fixture
def paper() -> Iterator[Paper]:
    running = Paper()
    yield running
    assert running.end() == 0


def run(python: str | Path, script: str, *arguments: object) -> dict[str, Any]:
    command = [str(python), str(CLIENTS / script), *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("library", ["ib_insync", "ib_async"])
def test_bracket_life(paper: Paper, library: str) -> None:
    python = sys.executable if library == "ib_insync" else environment("ib_async==2.1.0")
    seen = run(python, "life.py", library, paper.port, paper.control._port)
    assert seen["fills"] == [["sx1:x:E", 1.19005], ["sx1:x:T", 1.2]]
    assert seen["refs"] == ["sx1:x:E", "sx1:x:S", "sx1:x:T"] and seen["next"]
    assert (seen["avg"], seen["commission"], seen["tick"]) == (1.19005, 2.0, 5e-05)
    assert seen["net"] == "1000195.00" and seen["margin"] == pytest.approx(794.92) and seen["summary"]
    assert seen["codes"] == [202, 2104, 2106, 2158]


def test_official_client(paper: Paper) -> None:
    seen = run(environment("ibapi==9.81.1.post1"), "official.py", paper.port, paper.control._port)
    assert seen["version"] == 157 and seen["details"] == [12087792, 5e-05, "European Monetary Union Euro"]
    assert seen["position"] == ["EUR", 20000.0, 1.19005]
    assert seen["stop"] == ["S", "STP", 1.18, 3, "PreSubmitted"]
    assert seen["fills"] == [["E", 1.19005], ["S", 1.17945]] and seen["commission"] == 2.0
    assert seen["completed"] == [["E", "Filled"], ["S", "Filled"], ["T", "Cancelled"]]
