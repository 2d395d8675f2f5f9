"""What the journal says, read and nothing more: one SQL text for each list, one dataclass for each row.

Every function reads inside the caller's transaction, so that all lists of one page show the same moment.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from common.clock import parse_utc

CLOSED_SHOWN, SIGNALS_SHOWN, LOG_SHOWN = 40, 60, 150
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order of a trade."""

    order_ref: str
    trade_id: int
    leg: str  # E entry, T take-profit, S stop-loss, R stop-loss put back, C close
    side: str
    kind: str
    quantity: Decimal
    price: Decimal | None
    state: str
    filled: Decimal
    reason: str | None
    held: str | None


@dataclass(frozen=True, slots=True)
class TradeRow:
    """One trade with its orders, and what its executions add up to."""

    id: int
    timestamp: datetime | None
    symbol: str
    side: str
    size: Decimal
    account: str
    con_id: int
    state: str
    closed: bool
    entry_price: Decimal | None
    exit_price: Decimal | None
    tp_price: Decimal | None
    sl_price: Decimal | None
    tp_hit: bool
    signal_id: str
    stop_wanted: bool
    reduced: Decimal
    exit_reason: str | None
    close_cause: str | None
    hold_reason: str | None
    evidence: Any
    unprotected_at: datetime | None
    received_at: datetime | None
    sent_at: datetime | None
    filled_at: datetime | None
    closed_at: datetime | None
    orders: tuple[OrderRow, ...]
    commission: Decimal | None  # None until the broker said it

    @property
    def entered(self) -> Decimal:
        """What the entry bought or sold; a position that was adopted has no entry and came whole."""
        entries = [order.filled for order in self.orders if order.leg == "E"]
        return sum(entries, ZERO) if entries else self.size

    @property
    def held(self) -> Decimal:
        exited = sum((order.filled for order in self.orders if order.leg != "E"), ZERO)
        return self.entered - exited - self.reduced

    @property
    def signed(self) -> Decimal:
        return self.held if self.side == "buy" else -self.held


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal with its verdict; `trade_id` is the trade that it opened or closed."""

    seq: int
    signal_id: str
    received_at: datetime | None
    arrived_at: datetime | None
    decided_at: datetime | None
    expires_at: datetime | None
    action: str
    symbol: str
    side: str | None
    quantity: Decimal | None
    tp: Decimal | None
    sl: Decimal | None
    note: str | None
    state: str
    outcome: str | None
    reason: str | None
    trade_id: int | None


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the trade log; the names are those of feature F9."""

    id: int
    timestamp: str  # UTC, ISO 8601
    symbol: str
    action: str
    details: str
    trade_id: int | None = None


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm that is not cleared; level "page" or "warn"."""

    id: int
    key: str  # kind:object
    kind: str
    level: str
    symbol: str
    text: str
    raised_at: datetime | None
    told_at: datetime | None


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A side that took profit last and may not be entered again until released."""

    symbol: str
    side: str
    since: datetime | None
    reason: str
    trade_id: int | None


@dataclass(frozen=True, slots=True)
class Live:
    """The executor's newest word on one subject, and when it was said (the same word again is no news)."""

    value: Any
    at: datetime | None = field(compare=False)


@dataclass(frozen=True, slots=True)
class Content:
    """Everything the page shows, as of one moment of the journal."""

    live: Mapping[str, Live]
    open_trades: tuple[TradeRow, ...] = ()
    closed_trades: tuple[TradeRow, ...] = ()
    signals: tuple[SignalRow, ...] = ()
    log: tuple[LogRow, ...] = ()
    alarms: tuple[AlarmRow, ...] = ()
    blocks: tuple[BlockRow, ...] = ()
    ignored: Mapping[tuple[str, int], Decimal] | None = None  # (account, con_id) → quantity


EMPTY = Content(live={})

_OPEN = "SELECT * FROM trades WHERE closed = 0 ORDER BY state = 'hold' DESC, unprotected_at IS NULL, id DESC"
_CLOSED = "SELECT * FROM trades WHERE closed = 1 ORDER BY closed_at DESC LIMIT ?"
_ORDERS = "SELECT * FROM orders WHERE trade_id = ? ORDER BY leg, attempt"
_COMMISSIONS = "SELECT commission FROM fills WHERE trade_id = ?"
_SIGNALS = "SELECT * FROM inbox ORDER BY seq DESC LIMIT ?"
_LOG = "SELECT id, at, symbol, kind, details, trade_id FROM events ORDER BY id DESC LIMIT ?"
_ALARMS = "SELECT * FROM alarms WHERE cleared_at IS NULL ORDER BY level = 'page' DESC, raised_at DESC, id DESC"
_BLOCKS = "SELECT * FROM blocks ORDER BY since DESC"
_OUTCOMES = "SELECT coalesce(outcome, state), count(*) FROM inbox GROUP BY 1"
# How long trades took, in seconds, over the whole journal: count, sum, and how many took at most each of 12 bounds.
# The arithmetic is SQLite's, outside Python's interpreter lock, which the trading loop needs.
_DELAYS = """
WITH delays (s) AS (SELECT (julianday({to}) - julianday({since})) * 86400.0 FROM trades WHERE {to} IS NOT NULL)
SELECT count(s), total(s), total(s <= ?), total(s <= ?), total(s <= ?), total(s <= ?), total(s <= ?), total(s <= ?),
       total(s <= ?), total(s <= ?), total(s <= ?), total(s <= ?), total(s <= ?), total(s <= ?) FROM delays
"""
TO_ORDER = _DELAYS.format(since="received_at", to="sent_at")
TO_FILL = _DELAYS.format(since="sent_at", to="filled_at")
DELAY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def read_content(db: sqlite3.Connection) -> Content:
    """Return everything the page shows; the caller holds one read transaction around the call."""
    return Content(
        live={row["key"]: _live(row) for row in db.execute("SELECT key, value, at FROM live")},
        open_trades=tuple(_trade(db, row) for row in db.execute(_OPEN).fetchall()),
        closed_trades=tuple(_trade(db, row) for row in db.execute(_CLOSED, (CLOSED_SHOWN,)).fetchall()),
        signals=tuple(_signal(row) for row in db.execute(_SIGNALS, (SIGNALS_SHOWN,))),
        log=tuple(_log(row) for row in db.execute(_LOG, (LOG_SHOWN,))),
        alarms=tuple(_alarm(row) for row in db.execute(_ALARMS)),
        blocks=tuple(_block(row) for row in db.execute(_BLOCKS)),
        ignored=_ignored(db),
    )


def outcomes(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many signals came to each outcome; those not done are counted under their state."""
    return {str(name): int(count) for name, count in db.execute(_OUTCOMES)}


def delays(db: sqlite3.Connection, which: str) -> tuple[int, float, list[float]]:
    """Return count, sum in seconds, and the counts within `DELAY_BOUNDS`, for `TO_ORDER` or `TO_FILL`."""
    count, total, *within = db.execute(which, DELAY_BOUNDS).fetchone()
    return count, total, within


def trade_symbol(db: sqlite3.Connection, trade_id: int) -> str | None:
    """Return the symbol of one trade, or None where there is no such trade."""
    row = db.execute("SELECT symbol FROM trades WHERE id = ?", (trade_id,)).fetchone()
    return None if row is None else str(row["symbol"])


def _trade(db: sqlite3.Connection, row: sqlite3.Row) -> TradeRow:
    paid = [_number(fill["commission"]) for fill in db.execute(_COMMISSIONS, (row["id"],))]
    values: dict[str, Any] = {
        **_plain(row, "id symbol account con_id state signal_id exit_reason close_cause hold_reason"),
        **_numbers(row, "reduced entry_price exit_price tp_price sl_price"),
        **_instants(row, "timestamp unprotected_at received_at sent_at filled_at closed_at"),
        **{name: bool(row[name]) for name in ("closed", "tp_hit", "stop_wanted")},
        "side": row["signal"],
        "size": _number(row["position_size"]),
        "evidence": _json(row["evidence"]),
        "orders": tuple(_order(order) for order in db.execute(_ORDERS, (row["id"],))),
        "commission": None if not paid or None in paid else sum(filter(None, paid), ZERO),
    }
    return TradeRow(**values)


def _order(row: sqlite3.Row) -> OrderRow:
    values = _plain(row, "order_ref trade_id leg side kind state reason held")
    return OrderRow(**values, **_numbers(row, "quantity price filled"))


def _signal(row: sqlite3.Row) -> SignalRow:
    values = _plain(row, "seq signal_id action symbol side note state outcome reason trade_id")
    values |= _instants(row, "received_at arrived_at decided_at expires_at")
    return SignalRow(**values, **_numbers(row, "quantity tp sl"))


def _log(row: sqlite3.Row) -> LogRow:
    return LogRow(row["id"], row["at"], row["symbol"], row["kind"], row["details"], row["trade_id"])


def _alarm(row: sqlite3.Row) -> AlarmRow:
    return AlarmRow(**_plain(row, "id key kind level symbol text"), **_instants(row, "raised_at told_at"))


def _block(row: sqlite3.Row) -> BlockRow:
    return BlockRow(**_plain(row, "symbol side reason trade_id"), **_instants(row, "since"))


def _ignored(db: sqlite3.Connection) -> dict[tuple[str, int], Decimal]:
    found: defaultdict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for row in db.execute("SELECT account, con_id, quantity FROM ignored_holdings"):
        found[row["account"], row["con_id"]] += _number(row["quantity"]) or ZERO
    return found


def _live(row: sqlite3.Row) -> Live:
    return Live(_json(row["value"]), _instant(row["at"]))


def _plain(row: sqlite3.Row, names: str) -> dict[str, Any]:
    return {name: row[name] for name in names.split()}


def _numbers(row: sqlite3.Row, names: str) -> dict[str, Any]:
    return {name: _number(row[name]) for name in names.split()}


def _instants(row: sqlite3.Row, names: str) -> dict[str, Any]:
    return {name: _instant(row[name]) for name in names.split()}


def _json(text: str | None) -> Any:
    """Return what a JSON text holds; the text itself where it is none (evidence is shown, whatever it is)."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def _number(value: object) -> Decimal | None:
    """Return a stored number exactly as it reads, or None."""
    try:
        number = None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number is None or number.is_finite() else None


def _instant(text: str | None) -> datetime | None:
    """Return a stored instant, or None where it is none."""
    try:
        return None if text is None else parse_utc(text)
    except ValueError:
        return None
