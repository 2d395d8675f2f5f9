"""The broker's own record: an append-only list of what was accepted and filled. Checkers read it, nothing else does.

Every entry has `n` (rising from 1), `at` (UTC text) and `event`; the words are in docs/reference/paper-tws.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from common.clock import utc_text
from executor.paper.orders import Execution, Order
from executor.paper.wire import text


class Truth:
    """Append entries in memory and, if a file is given, to it, flushed line by line."""

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[dict[str, Any]] = []
        self.unwritten: list[dict[str, Any]] = []  # of the running turn
        self.holding = False  # a turn runs: write when its state is saved
        self._number = _last_number(path) if path and path.exists() else 0
        self._file = path.open("a", encoding="utf-8") if path else None
        if self._file and path and not _ends_whole(path):
            self._file.write("\n")
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    def add(self, at: datetime, event: str, **facts: object) -> None:
        self._number += 1
        entry = {"n": self._number, "at": utc_text(at), "event": event} | {
            name: text(value) if isinstance(value, Decimal) else value for name, value in facts.items()}  # fmt: skip
        self.entries.append(entry)
        self.unwritten.append(entry)
        if not self.holding:
            self.flush()
        for listener in self.listeners:
            listener(entry)

    def flush(self) -> None:
        """Write what the turn added; its state is saved by now."""
        self.holding = False
        if self._file and self.unwritten:
            self._file.writelines(json.dumps(entry) + "\n" for entry in self.unwritten)
            self._file.flush()
        self.unwritten = []

    def catch_up(self, saved: list[dict[str, Any]]) -> None:
        """Write entries that were saved with the state and did not reach the file before the process died."""
        self.unwritten = [entry for entry in saved if entry["n"] > self._number]
        self._number = max([self._number, *(entry["n"] for entry in saved)])
        self.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()


def _last_number(path: Path) -> int:
    """Return the number of the last whole line; a line cut short by a kill is ignored."""
    number = 0
    for line in path.read_text("utf-8").splitlines():
        try:
            number = int(json.loads(line)["n"])
        except ValueError:
            continue
    return number


def _ends_whole(path: Path) -> bool:
    content = path.read_bytes()
    return not content or content.endswith(b"\n")


def order_facts(order: Order, symbol: str) -> dict[str, object]:
    """Return what the log says of an order."""
    form = order.form
    return {
        "account": form.account, "clientId": order.client_id, "orderId": order.order_id, "permId": order.perm_id,
        "orderRef": form.order_ref, "parentId": form.parent_id, "ocaGroup": order.oca_group,
        "ocaType": order.oca_type, "action": form.action, "quantity": order.quantity, "filled": order.filled,
        "orderType": form.order_type, "lmtPrice": form.limit_price, "auxPrice": form.aux_price, "tif": form.tif,
        "conId": order.con_id, "symbol": symbol, "status": order.status,
    }  # fmt: skip


def execution_facts(one: Execution, symbol: str) -> dict[str, object]:
    """Return what the log says of a fill."""
    return {
        "execId": one.exec_id, "account": one.account, "clientId": one.client_id, "orderId": one.order_id,
        "permId": one.perm_id, "orderRef": one.order_ref, "action": one.action, "quantity": one.quantity,
        "price": one.price, "conId": one.con_id, "symbol": symbol, "commission": one.commission,
    }  # fmt: skip
