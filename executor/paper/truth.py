"""The broker's own record: an append-only list of what was accepted and filled. Checkers read it, nothing else does.

Every entry has `n` (rising from 1), `at` (UTC text) and `event`; the words are in docs/reference/paper-tws.md.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from common.clock import utc_text
from executor.paper.orders import Execution, Order
from executor.paper.wire import text

EVENTS = ("connected", "disconnected", "accepted", "modified", "cancelled", "inactive", "rejected", "lost", "refused",
          "filled", "correction", "position", "midnight", "restart", "trailed")  # fmt: skip
MOST_KEPT = 100_000  # entries in memory; the file has them all
TAIL = 1 << 16  # bytes; an entry has some 500


class Truth:
    """Append entries in memory and, if a file is given, to it, flushed line by line.

    Raises OSError, from any method, if the file cannot be used: nothing may be told to a client then.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[dict[str, Any]] = []
        self.unwritten: list[dict[str, Any]] = []  # of the running turn
        self.holding = False  # a turn runs: write when its state is saved
        tail = _tail(path) if path and path.exists() else b""
        self._number = _last_number(tail)
        self._file = path.open("a", encoding="utf-8") if path else None
        if self._file and tail and not tail.endswith(b"\n"):
            self._file.write("\n")
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    def add(self, at: datetime, event: str, **facts: object) -> None:
        self._number += 1
        entry = {"n": self._number, "at": utc_text(at), "event": event} | {
            name: text(value) if isinstance(value, Decimal) else value for name, value in facts.items()}  # fmt: skip
        self.entries.append(entry)
        if len(self.entries) > MOST_KEPT:
            del self.entries[: MOST_KEPT // 10]
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
            with contextlib.suppress(OSError):  # what could not be written was not told to anybody either
                self._file.close()


def _tail(path: Path) -> bytes:
    """Return the end of the file, which holds its last entries."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        return file.read(TAIL)


def _last_number(tail: bytes) -> int:
    """Return the number of the last whole line; a line cut short by a kill is ignored."""
    number = 0
    for line in tail.splitlines():
        try:
            number = int(json.loads(line)["n"])
        except (ValueError, TypeError, KeyError):
            continue
    return number


def order_facts(order: Order, symbol: str) -> dict[str, object]:
    """Return what the log says of an order."""
    form = order.form
    return {
        "account": form.account, "clientId": order.client_id, "orderId": order.order_id, "permId": order.perm_id,
        "orderRef": form.order_ref, "parentId": form.parent_id, "ocaGroup": order.oca_group,
        "ocaType": order.oca_type, "action": form.action, "quantity": order.quantity, "filled": order.filled,
        "orderType": form.order_type, "lmtPrice": form.limit_price, "auxPrice": form.aux_price, "tif": form.tif,
        "trailStopPrice": order.trail_stop,
        "conId": order.con_id, "symbol": symbol, "status": order.status,
    }  # fmt: skip


def execution_facts(one: Execution, symbol: str) -> dict[str, object]:
    """Return what the log says of a fill."""
    return {
        "execId": one.exec_id, "account": one.account, "clientId": one.client_id, "orderId": one.order_id,
        "permId": one.perm_id, "orderRef": one.order_ref, "action": one.action, "quantity": one.quantity,
        "price": one.price, "conId": one.con_id, "symbol": symbol, "commission": one.commission,
    }  # fmt: skip
