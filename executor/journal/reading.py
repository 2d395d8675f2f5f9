"""Trades with their orders and executions, read in bulk: three queries, however many trades."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from common.errors import JournalError
from executor.core.trades import Trade
from executor.journal.rows import execution_of, order_of, trade_of

Rows = Callable[..., list[sqlite3.Row]]  # (SQL, *values) → its rows

TRADES = "SELECT * FROM trades WHERE id IN ({which}) ORDER BY id"
ORDERS = "SELECT * FROM orders WHERE trade_id IN ({which}) ORDER BY rowid"
EXECUTIONS = "SELECT rowid AS seq, * FROM fills WHERE trade_id IN ({which})"


@dataclass(slots=True)
class Found:
    """The rows of one trade."""

    row: sqlite3.Row
    orders: list[sqlite3.Row] = field(default_factory=list)
    executions: list[sqlite3.Row] = field(default_factory=list)

    def trade(self) -> Trade:
        """Return them as a value.

        Raises:
            JournalError: A column holds what was never written there. The text says how to fix it.
        """
        try:
            return trade_of(self.row, map(order_of, self.orders), map(execution_of, self.executions))
        except (ValueError, TypeError, ArithmeticError) as exc:
            why = " ".join(f"{type(exc).__name__}: {exc}".split())
            which = f"trade {self.row['id']} ({self.row['symbol']})"
            raise JournalError(f"{which} cannot be read from the journal ({why}): restore a backup") from exc


def found_trades(rows: Rows, which: str, *values: object) -> list[Found]:
    """Return the trades whose ids the query `which` selects, oldest first; `rows` reads, within one transaction."""
    found = {row["id"]: Found(row) for row in rows(TRADES.format(which=which), *values)}
    for row in rows(ORDERS.format(which=which), *values):
        found[row["trade_id"]].orders.append(row)
    for row in rows(EXECUTIONS.format(which=which), *values):
        found[row["trade_id"]].executions.append(row)
    return list(found.values())
