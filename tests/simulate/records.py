"""What the checker looks at: the broker's log as it grows, the broker's books, and the journal's file. Nothing of the executor."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ZERO = Decimal(0)
MINE, BY_HAND = "sx1:", 0  # our references; the client of what is done in TWS itself
ENTRIES, STOPS, EXITS = (
    "EA",
    "SRKL",
    "TSRKL",
)  # an exit goes out again in another size, under the same id; no other leg does
OUT = EXITS + "CX"  # everything that takes a trade out


def is_ours(entry: Row) -> bool:
    """True for an order of this program; the owner may copy one, with its reference."""
    return str(entry.get("orderRef") or "").startswith(MINE) and entry.get("clientId") != BY_HAND


def leg_of(ref: str) -> str:
    """Return the letter of the leg in a reference: see `executor.core.trades.Leg`.

    >>> leg_of("sx1:LDLX73G2BWEHXY7BE1")
    'E'
    """
    return ref[20]


def signed(entry: Row) -> Decimal:
    """Return a quantity, below zero for a sale."""
    return Decimal(entry["quantity"]) * (1 if entry["action"] == "BUY" else -1)


@dataclass
class BrokerSide:
    """What the broker's log says so far. `live` is read from the broker's own books at the moment of asking."""

    accepted: dict[str, int] = field(default_factory=dict)  # our orderRef → permId of its one order
    ids: dict[int, str] = field(default_factory=dict)  # our orderId → orderRef
    fills: dict[str, Row] = field(default_factory=dict)  # execId without its revision → newest revision
    of_ref: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))  # orderRef → its executions
    positions: dict[int, Decimal] = field(default_factory=dict)  # conId → quantity
    by_hand: dict[int, datetime] = field(default_factory=dict)  # conId → the owner's last execution
    midnights: list[datetime] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)  # permIds of orders that were called dead; some fill all the same

    def filled(self, ref: str) -> Decimal:
        """Return what an order of ours bought (above zero) or sold."""
        return sum((signed(entry) for entry in self.of_ref.get(ref, ())), ZERO)

    def book(self, entry: Row) -> None:
        """Take in an execution, or its correction."""
        root = entry["execId"].rpartition(".")[0]
        old, self.fills[root] = self.fills.get(root), entry
        if is_ours(entry):
            rows = self.of_ref[entry["orderRef"]]
            if old in rows:
                rows[rows.index(old)] = entry
            else:
                rows.append(entry)


@dataclass(frozen=True)
class LiveOrder:
    """One order that can still fill, from the broker's books."""

    ref: str
    perm_id: int
    client_id: int
    con_id: int
    sign: int
    remaining: Decimal
    held: bool  # TWS holds it untransmitted
    status: str
    muted: bool = False  # TWS tells nothing of it until the next connection
    price: Decimal | None = None  # its limit, or where its stop is


class JournalSide:
    """The journal's file, read by a connection of its own: only what is committed counts."""

    def __init__(self, path: Path) -> None:
        self.prices: list[tuple[str, str, Decimal]] = []  # when, symbol, the market's price from then on
        self._path = path
        self._db: sqlite3.Connection | None = None

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Return what a query finds, [] while there is no journal. A query that the tables do not know is an error."""
        if self._db is None:
            if not self._path.exists():
                return []
            self._db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)
            self._db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in self._db.execute(sql, values)]
        except sqlite3.OperationalError:
            if self._db.execute("PRAGMA user_version").fetchone()[0]:
                raise
            self.close()  # the first moment of a new file
            return []

    def version(self) -> int:
        """Return a number that changes with every change of the file."""
        found = self.one("PRAGMA data_version")
        return int(found["data_version"]) if found else -1

    def one(self, sql: str, *values: object) -> Row | None:
        found = self.rows(sql, *values)
        return found[0] if found else None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
