"""A scenario file: steps, each a trigger and an action or knob. TOML or JSON.

    [[step]]
    at = 12.5                                   # seconds after the start
    do = "set_price"
    with = {symbol = "EURUSD", price = "1.2005"}

    [[step]]
    on = {event = "filled", action = "BUY", n = 2}   # the second such entry of the truth log
    do = "restart"

    [[step]]
    on = {message = "placeOrder", direction = "in", n = 3}
    do = "freeze"

A step without trigger is done at the start.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from executor.paper.actions import ACTIONS, ActionError, perform
from executor.paper.faults import KNOBS
from executor.paper.server import PaperServer


class ScenarioError(Exception):
    """A scenario file cannot be used; the text says which step and why."""


class Step:
    """One step, which acts once."""

    def __init__(self, server: PaperServer, number: int, table: dict[str, Any]) -> None:
        self._server, self._table = server, table
        self._on = dict(table.get("on", {}))
        self._left = int(self._on.pop("n", 1))
        if table.get("do") not in ACTIONS and table.get("do") not in KNOBS:
            raise ScenarioError(f"step {number}: nothing is called {table.get('do')!r}")
        if "on" in table and not ({"event", "message"} & set(self._on)):
            raise ScenarioError(f"step {number}: `on` needs an event or a message")

    def arm(self) -> None:
        """Wait for the trigger, or act now if there is none."""
        if "event" in self._on:
            self._server.exchange.floor.truth.listeners.append(self._heard)
        elif "message" in self._on:
            self._server.gateway.hooks.append(self._passed)
        else:
            self._server.exchange.floor.after(float(self._table.get("at", 0.0)), self._act)

    def _heard(self, entry: dict[str, Any]) -> None:
        if all(entry.get(name) == wanted for name, wanted in self._on.items()):
            self._count()

    def _passed(self, direction: str, kind: str, number: int) -> None:
        if kind == self._on["message"] and direction == self._on.get("direction", "in"):
            self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._server.gateway.chores.append(self._act)

    def _act(self) -> None:
        try:
            perform(self._server, self._table["do"], **self._table.get("with", {}))
        except ActionError as error:
            self._server.gateway.note(f"a step of the scenario failed: {error}")


def load(path: Path) -> list[dict[str, Any]]:
    """Return the steps of a file. Raises ScenarioError if it is no TOML or JSON."""
    raw = path.read_text("utf-8")
    try:
        content = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw)
    except ValueError as error:
        raise ScenarioError(f"{path.name}: {error}") from error
    steps: list[dict[str, Any]] = content.get("step", [])
    return steps


def play(server: PaperServer, steps: list[dict[str, Any]]) -> None:
    """Arm every step. Raises ScenarioError, and arms none, if one of them makes no sense."""
    ready = [Step(server, number, table) for number, table in enumerate(steps, 1)]
    for step in ready:
        step.arm()
