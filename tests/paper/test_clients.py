"""Client libraries as they are published, each over a real socket: a bracket from entry to exit.

All but ib_insync live in environments of their own (.venv-ib_async-3.x, .venv-ibapi-3.x, .venv-node …), made on first
use; where one cannot be made, its test is skipped. nautilus_trader needs 700 MB, so it is among the slow ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.paper.processes import ROOT, Paper, environment, node_packages

CLIENTS = Path(__file__).parent / "clients"


@pytest.fixture
def paper() -> Iterator[Paper]:
    running = Paper()
    yield running
    assert running.end() == 0


def run(program: str | Path, script: str, *arguments: object, folder: Path = ROOT) -> dict[str, Any]:
    command = [str(program), str(CLIENTS / script), *map(str, arguments)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
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


@pytest.mark.parametrize(("library", "version"), [("ibapi==9.81.1.post1", 157), ("ibapi-stable==10.50.2", 176)])
def test_official_client(paper: Paper, library: str, version: int) -> None:
    seen = run(environment(library), "official.py", paper.port, paper.control._port)
    assert seen["version"] == version and seen["details"] == [12087792, 5e-05, "European Monetary Union Euro"]
    assert seen["position"] == ["EUR", 20000.0, 1.19005]
    assert seen["stop"] == ["S", "STP", 1.18, 3, "PreSubmitted"]
    assert seen["fills"] == [["E", 1.19005], ["S", 1.17945]] and seen["commission"] == 2.0
    assert seen["completed"] == [["E", "Filled"], ["S", "Filled"], ["T", "Cancelled"]]


@pytest.mark.parametrize("library", ["ib_insync", "ib_async"])
def test_exits_that_move(paper: Paper, library: str) -> None:
    """Two pairs of target and stop under a market order, a stop made smaller and moved, a trailing stop that follows."""
    python = sys.executable if library == "ib_insync" else environment("ib_async==2.1.0")
    seen = run(python, "exits.py", library, paper.port, paper.control._port)
    assert (seen["stop"], seen["stops"], seen["last"], seen["stale"]) == ([263, 70], [269, 273], 273, True)
    assert (seen["positions"], seen["filled"], seen["codes"]) == ([70], 271.99, [202])


@pytest.mark.parametrize(("library", "version"), [("ibapi==9.81.1.post1", 157), ("ibapi-stable==10.50.2", 176)])
def test_trailing_stop_of_the_official_client(paper: Paper, library: str, version: int) -> None:
    seen = run(environment(library), "official_exits.py", paper.port, paper.control._port)
    assert (seen["version"], seen["position"], seen["shown"]) == (version, "4", [260.0, 10.0, "TRAIL", 2.0])
    assert seen["completed"] == [["S", 265.0, "Filled"]]


@pytest.mark.parametrize("library", ["ibapi==9.81.1.post1", "ibapi-stable==10.50.2"])
def test_changes_of_the_official_client(paper: Paper, library: str) -> None:
    seen = run(environment(library), "official_changes.py", paper.port, paper.control._port)
    assert seen == {"codes": [462, 10326, 10327, 201, 201, 104], "left": [0], "lost": ["TRAIL"]}


@pytest.mark.timeout(240)
def test_node_client(paper: Paper) -> None:
    node, folder = node_packages("@stoqey/ib@1.6.10")
    seen = run(node, "stoqey.cjs", paper.port, paper.control._port, folder=folder)
    assert (seen["version"], seen["details"]) == (176, [12087792, 5e-05])
    assert seen["position"] == ["EUR", 20000, 1.19005]
    assert seen["stop"] == ["S", "STP", 1.18, 3, "PreSubmitted"]
    assert seen["fills"] == [["E", 1.19005], ["S", 1.17945]]
    assert seen["summary"] == ["FullInitMarginReq", "NetLiquidation"] and seen["codes"] == [202]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nautilus_node(paper: Paper) -> None:
    """The node is built from its own configuration and factories; it starts only if the account and the stock are
    described as a real TWS describes them."""
    python = environment("nautilus_trader[ib]==1.221.0", seconds=480)
    seen = run(python, "nautilus.py", paper.port, paper.control._port)
    assert seen["orders"] == {"entry": "FILLED", "stop": "CANCELED", "target": "FILLED"}
    assert seen["fills"] == {"entry": 263.51, "target": 280.0} and seen["isin"] == "US0378331005"
