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

from pathlib import Path
from typing import Any

from executor.paper import replies, requests
from executor.paper.actions import ActionError, check, perform
from executor.paper.contracts import tables
from executor.paper.server import PaperServer
from executor.paper.truth import EVENTS
from executor.paper.values import Reader, one_of, seconds, text, whole

KEYS = ("at", "on", "do", "with")
_SENT = one_of(*(name for name, _ in requests.TABLE.values()))
_SAID = one_of(*replies.KINDS.values())


class ScenarioError(Exception):
    """A scenario file cannot be used; the text says which step and why."""


class Step:
    """One step, which acts once. Raises ScenarioError if it makes no sense."""

    def __init__(self, server: PaperServer, number: int, table: dict[str, Any]) -> None:
        self._server, self._number = server, number
        self._allow(table, KEYS)
        if "at" in table and "on" in table:
            raise self._wrong("a step has either `at` or `on`")
        self._name = self._read("do", text, table.get("do"))
        self._given = self._table(table, "with")
        try:
            check(self._name, self._given)
        except ActionError as error:
            raise self._wrong(str(error)) from error
        self._at = self._read("at", seconds, table.get("at", 0.0))
        self._on = self._trigger(self._table(table, "on")) if "on" in table else {}
        self._left = self._read("n", whole(1, 1_000_000), self._on.pop("n", 1))

    def _trigger(self, on: dict[str, Any]) -> dict[str, Any]:
        if ("event" in on) == ("message" in on):
            raise self._wrong("`on` needs an event or a message")
        if "event" in on:
            self._read("event", one_of(*EVENTS), on["event"])
            return on
        self._allow(on, ("message", "direction", "n"))
        on.setdefault("direction", "in")
        self._read("direction", one_of("in", "out"), on["direction"])
        self._read("message", _SENT if on["direction"] == "in" else _SAID, on["message"])
        return on

    def _read(self, key: str, reader: Reader, value: Any) -> Any:
        try:
            return reader(value)
        except ValueError as error:
            raise self._wrong(f"{key}: {error}") from error

    def _table(self, table: dict[str, Any], key: str) -> dict[str, Any]:
        found = table.get(key, {})
        if not isinstance(found, dict):
            raise self._wrong(f"expected `{key}` to be a table, found {str(found)[:40]!r}")
        return dict(found)

    def _allow(self, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        unknown = sorted(set(table) - set(keys))
        if unknown:
            raise self._wrong(f"unknown {', '.join(unknown)}; there are {', '.join(keys)}")

    def _wrong(self, why: str) -> ScenarioError:
        return ScenarioError(f"step {self._number}: {why}")

    def arm(self) -> None:
        """Wait for the trigger, or act now if there is none."""
        if "event" in self._on:
            self._server.exchange.floor.truth.listeners.append(self._heard)
        elif "message" in self._on:
            self._server.gateway.hooks.append(self._passed)
        else:
            self._server.exchange.floor.after(self._at, self._act)

    def _heard(self, entry: dict[str, Any]) -> None:
        if all(str(entry.get(name)) == str(wanted) for name, wanted in self._on.items()):
            self._count()

    def _passed(self, direction: str, kind: str, number: int) -> None:
        if (kind, direction) == (self._on["message"], self._on["direction"]):
            self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._server.gateway.chores.append(self._act)

    def _act(self) -> None:
        try:
            perform(self._server, self._name, **self._given)
        except ActionError as error:
            self._server.gateway.note(f"step {self._number} of the scenario could not be done: {error}")


def load(path: Path) -> list[dict[str, Any]]:
    """Return the steps of a file. Raises ScenarioError if it is no TOML or JSON, or holds anything else."""
    return tables(path, "step", ScenarioError)


def play(server: PaperServer, steps: list[dict[str, Any]]) -> None:
    """Arm every step. Raises ScenarioError, and arms none, if one of them makes no sense."""
    ready = [Step(server, number, table) for number, table in enumerate(steps, 1)]
    for step in ready:
        step.arm()
