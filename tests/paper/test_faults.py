"""Knobs in general: each is documented, tested, and set in three ways alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from executor.paper.actions import ACTIONS, ActionError, perform
from executor.paper.control import ControlServer
from executor.paper.faults import KNOBS, KnobError
from executor.paper.scenario import load, play
from tests.paper.harness import Tws

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "paper-tws.md"


# parameters that a knob cannot do without
NEEDED: dict[str, dict[str, Any]] = {"partials": {"sizes": [3, 2]}}


@pytest.mark.parametrize("name", sorted([*KNOBS, *ACTIONS]))
def test_knob_is_in_the_table_and_has_a_test(name: str) -> None:
    assert f"| `{name}`" in TABLE.read_text("utf-8")
    if name in KNOBS:
        tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
        assert f'"{name}"' in tests, f"no test names the knob {name}"


@pytest.mark.parametrize("name", sorted(KNOBS))
def test_knob_is_set_alike_by_test_control_port_and_scenario_file(tws: Tws, tmp_path: Path, name: str) -> None:
    given = NEEDED.get(name, {})
    tws.server.fault(name, **given)
    by_test = perform(tws.server, "faults")
    line = json.dumps({"do": name} | given).encode()
    for ask in (lambda: ControlServer(tws.server).answer(line), lambda: _play(tws, tmp_path, name, given)):
        tws.exchange.floor.faults.clear()
        ask()
        assert perform(tws.server, "faults") == by_test and by_test[0]["name"] == name


def _play(tws: Tws, folder: Path, name: str, given: dict[str, Any]) -> None:
    file = folder / "story.json"
    file.write_text(json.dumps({"step": [{"do": name, "with": given}]}), "utf-8")
    play(tws.server, load(file))


def test_unknown_knob_is_named_with_the_choices(tws: Tws) -> None:
    with pytest.raises(KnobError, match="no knob is called 'nonsense'; there are cancel_race"):
        tws.fault("nonsense")
    with pytest.raises(KnobError, match="reject has no colour"):
        tws.fault("reject", colour="red")
    with pytest.raises(ActionError, match="nothing is called"):
        perform(tws.server, "nonsense")
