"""A journal and a broker without programs, for the tests of the checker: a clean course of things that can be tampered with."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from zlib import crc32

import pytest

from common.clock import FakeClock, utc_text
from executor.journal.journal import Journal
from tests.simulate.checker import Checker, Sight
from tests.simulate.records import JournalSide, LiveOrder
from tests.simulate.sizes import key_of

NOW = datetime(2026, 4, 13, 14, 0, tzinfo=UTC)
FIRST, SECOND = "sx1:AAAAAAAAAAAAAAAA", "sx1:BBBBBBBBBBBBBBBB"
SIDES = {"E": "BUY"}


class Stage:
    """A journal's file and a broker, in which a long trade of 100 with both exits came to be; both can be tampered with."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal.open(folder / "trade_state.db", FakeClock(NOW))
        self.journal._db.execute("PRAGMA synchronous = OFF")
        self.live: list[LiveOrder] = []
        self.checker = Checker(JournalSide(folder / "trade_state.db"), lambda: self.live)
        self.number = 0
        self.at = NOW
        self.accepted = {"s1": "k1"}  # by the relay: its id → the sender's

    # ---- the broker ----

    def truth(self, event: str, ref: str, quantity: int = 100, **more: Any) -> None:
        """Have the broker's log say something of an order."""
        self.number += 1
        action = more.pop("action", SIDES.get(ref[20:21], "SELL"))
        entry = {
            "n": self.number, "at": utc_text(self.at), "event": event, "orderRef": ref, "permId": crc32(ref.encode()),
            "clientId": 1,
            "orderId": 1 + "ETSCRX".find(ref[20:21]) + 10 * (ref[:20] == SECOND), "action": action, "quantity": str(quantity),
            "conId": 5, "price": "10", "execId": f"x.{self.number}.01", "symbol": "AAPL", **more,
        }  # fmt: skip
        self.checker.hear(entry)

    def shows(self, quantity: int) -> None:
        self.truth("position", "", quantity)

    def alive(self, *refs: str, size: int = 100) -> None:
        """Have exactly these orders live at the broker."""
        self.live = [self.order_alive(ref, size) for ref in refs]

    def order_alive(self, ref: str, size: int) -> LiveOrder:
        return LiveOrder(ref, crc32(ref.encode()), 1, 5, -1, Decimal(size), False, "Submitted")

    # ---- the journal ----

    def write(self, sql: str, *values: object) -> None:
        self.journal._write(sql, *values)

    def signal(self, signal_id: str) -> None:
        sql = """INSERT INTO inbox (signal_id, payload, received_at, arrived_at, action, symbol, state, outcome)
                 VALUES (?, '', '', '', 'open', 'AAPL', 'done', 'entered')"""
        self.write(sql, signal_id)

    def trade(self, signal_id: str, family: str, legs: str = "ETS", order_id: int = 1) -> int:
        """Write an open trade whose orders were sent."""
        sql = """INSERT INTO trades (timestamp, symbol, signal, position_size, state, signal_id, account, con_id, asked,
                 received_at, valid_until, stop_wanted, sent_at) VALUES
                 (?, 'AAPL', 'buy', 100, 'open', ?, 'DU1', 5, '100', ?, ?, 1, ?)"""
        at, later = utc_text(self.at), utc_text(self.at + timedelta(seconds=90))
        self.write(sql, at, signal_id, at, later, at)
        trade_id = int(self.journal._rows("SELECT max(id) FROM trades")[0][0])
        for number, leg in enumerate(legs):
            self.order(trade_id, f"{family}{leg}1", order_id + number)
        return trade_id

    def order(self, trade_id: int, ref: str, order_id: int | None) -> None:
        sql = """INSERT INTO orders (order_ref, trade_id, leg, attempt, account, con_id, client_id, order_id, side, kind, quantity,
                 state, filled, sent_at) VALUES (?, ?, ?, 1, 'DU1', 5, 1, ?, 'buy', 'MKT', '100', 'working', '0', ?)"""
        self.write(sql, ref, trade_id, ref[20], order_id, utc_text(self.at))

    def filled(self, ref: str, quantity: int, **more: Any) -> None:
        """Have an order fill at the broker, and the journal know it."""
        self.truth("filled", ref, quantity, **more)
        root = f"x.{self.number}"
        sql = "INSERT INTO fills VALUES (?, ?, ?, 1, 'DU1', 5, 'buy', ?, '10', ?, NULL, 0)"
        self.write(sql, root, f"{root}.01", ref, str(quantity), utc_text(self.at))
        self.write("UPDATE orders SET filled = ? WHERE order_ref = ?", str(quantity), ref)

    def end(self, reason: str, *, tp_hit: int = 0, state: str = "closed") -> None:
        """Write the first trade down as finished."""
        sql = """UPDATE trades SET state = ?, closed = 1, exit_reason = ?, tp_hit = ?, entry_price = 10, exit_price = 10,
                 closed_at = ? WHERE id = 1"""
        self.write(sql, state, reason, tp_hit, utc_text(self.at))

    def asks(self, to: int, signal_id: str = "r1", **data: Any) -> str:
        """A strategy holds so much now, and the trade is to come down to it; the reduction is committed, and its reference told."""
        told = {"action": "reduce", "side": "buy", "market_position": "long", "quantity": str(to), **data}
        sql = """INSERT INTO inbox (signal_id, payload, received_at, arrived_at, action, symbol, side, quantity, state, outcome,
                 trade_id, decided_at) VALUES (?, ?, ?, ?, ?, 'AAPL', 'buy', ?, 'done', 'reduced', 1, ?)"""
        at = utc_text(self.at)
        self.write(sql, signal_id, json.dumps({"data": told}), at, at, told["action"], str(to), at)
        self.accepted[signal_id] = signal_id
        ref = f"sx1:{key_of(signal_id)}X1"
        self.order(1, ref, 20 + len(self.accepted))
        self.write("UPDATE orders SET quantity = ? WHERE order_ref = ?", str(100 - to), ref)
        return ref

    def leaves(self, ref: str, quantity: int, order_id: int = 20) -> None:
        """The bytes of an order leave."""
        ticket = SimpleNamespace(order_id=order_id, order_ref=ref, quantity=Decimal(quantity))
        self.checker.sizes.leaving(ticket, self.at)

    # ---- what the checker does ----

    def pass_time(self, seconds: float) -> None:
        """Look at the beginning and at the end of a while in which everything can be seen."""
        for now in (0.0, seconds):
            self.checker.look(Sight(0.0, now))

    def rules(self) -> set[str]:
        self.pass_time(40)
        self.checker.rest(self.accepted)
        return {text.partition(":")[0] for text in self.checker.found}


def begun(folder: Path) -> Stage:
    """Return the clean course of one trade, as long as it is open."""
    folder.mkdir(exist_ok=True)
    stage = Stage(folder)
    stage.signal("s1")
    stage.trade("s1", FIRST)
    for leg in "ETS":
        stage.truth("accepted", f"{FIRST}{leg}1")
    stage.filled(f"{FIRST}E1", 100)
    stage.shows(100)
    stage.alive(f"{FIRST}T1", f"{FIRST}S1")
    return stage


def take_profit(stage: Stage, tp_hit: int = 1) -> None:
    """The take-profit ends the trade."""
    stage.alive()
    stage.filled(f"{FIRST}T1", 100)
    stage.shows(0)
    stage.end("take-profit", tp_hit=tp_hit)


def next_entry(stage: Stage) -> None:
    """A second signal enters after the first trade."""
    stage.signal("s2")
    stage.trade("s2", SECOND, "E", 11)
    stage.truth("accepted", f"{SECOND}E1")


# ---- that every rule is tried ----

Plant = Callable[[Stage], None]


def places(*modules: ModuleType) -> set[tuple[str, int]]:
    """Return where the code of these modules says that a rule is broken: file and line."""
    trees = ((module.__name__, ast.parse(Path(str(module.__file__)).read_text("utf-8"))) for module in modules)
    calls = [(name, node) for name, tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {(name, c.lineno) for name, c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "say"}


def reached(
    plants: list[Plant], folder: Path, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType
) -> set[tuple[str, int]]:
    """Return at which places of these modules planted violations are found, each in a clean course of its own."""
    found: set[tuple[str, int]] = set()

    def say(checker: Checker, rule: str, text: str) -> None:
        frame = sys._getframe(1)
        found.add((frame.f_globals["__name__"], frame.f_lineno))
        checker.found.append(f"{rule}: {text}")

    monkeypatch.setattr(Checker, "say", say)
    for plant in plants:
        stage = begun(folder / plant.__name__)
        plant(stage)
        stage.rules()
    names = [module.__name__ for module in modules]
    return {place for place in found if place[0] in names}
