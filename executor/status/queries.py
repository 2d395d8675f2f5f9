"""The journal's contents, read only: one SQL text for each list, one dataclass for each row.

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
from functools import partial
from typing import Any

from common.clock import parse_utc
from common.errors import JournalError
from executor.core.orders import ZERO
from executor.core.trades import State, Trade
from executor.journal.reading import found_trades

from .kept import Kept

CLOSED_SHOWN, SIGNALS_SHOWN, LOG_SHOWN = 40, 60, 150


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A trade with an unreadable value: what its buttons need, and what is wrong with it."""

    id: int
    symbol: str
    account: str
    con_id: int
    state: str
    closed: bool
    text: str


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
    percent: Decimal | None  # of a close: of a part
    tp: Decimal | str | None  # text where it is no price
    sl: Decimal | str | None
    trail: str | None
    targets: tuple[Mapping[str, str], ...]  # {"tp", "percent"}
    breakeven_after_target: bool
    loosen: bool
    strategy_name: str | None
    price: Decimal | None  # what its sender saw
    time: datetime | None  # and when
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
    trade_id: int | None = None  # the trade that it is about

    @property
    def words(self) -> str:
        """What it says, to stand beside its symbol."""
        return self.text.removeprefix(f"{self.symbol}: ")

    @property
    def difference(self) -> str:
        """What it says of strategy and account, to stand beside the buttons that it names."""
        return self.words.partition(" Choose on the page")[0].rstrip(".")


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
    """The executor's latest value on one subject, and when it was published (the same value again is no news)."""

    value: Any
    at: datetime | None = field(compare=False)


Delays = tuple[tuple[float, int, float], ...]  # bound in seconds, how many trades come to it, the sum of their seconds


@dataclass(frozen=True, slots=True)
class Content:
    """Everything the page shows, as of one moment of the journal."""

    live: Mapping[str, Live]
    open_trades: tuple[Trade, ...] = ()
    closed_trades: tuple[Trade, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    signals: tuple[SignalRow, ...] = ()
    log: tuple[LogRow, ...] = ()
    alarms: tuple[AlarmRow, ...] = ()
    blocks: tuple[BlockRow, ...] = ()
    strategies: Mapping[int, str] = field(default_factory=dict)  # trade id → the strategy whose alert opened it
    ignored: Mapping[tuple[str, int], Decimal] | None = None  # (account, con_id) → quantity
    outcomes: Mapping[str, int] = field(default_factory=dict)  # outcome, or state while not done → how many signals
    delays: Mapping[str, Delays] = field(default_factory=dict)  # "to order", "to fill"


EMPTY = Content(live={})

_STRATEGIES = """SELECT t.id, i.strategy_name FROM trades t JOIN inbox i ON i.signal_id = t.signal_id
                 WHERE i.strategy_name IS NOT NULL AND t.id IN (SELECT value FROM json_each(?))"""
_OPEN = "SELECT id FROM trades WHERE closed = 0"
_CLOSED = "SELECT id FROM trades WHERE closed = 1 ORDER BY closed_at DESC LIMIT ?"
_SIGNALS = "SELECT * FROM inbox ORDER BY seq DESC LIMIT ?"
_LOG = "SELECT id, at, symbol, kind, details, trade_id FROM events ORDER BY id DESC LIMIT ?"
_ALARMS = "SELECT * FROM alarms WHERE cleared_at IS NULL ORDER BY level = 'page' DESC, raised_at DESC, id DESC"
_BLOCKS = "SELECT * FROM blocks ORDER BY since DESC"
_OUTCOMES = "SELECT outcome, signals FROM signal_tallies"
_DELAYS = "SELECT delay, at_most, trades, seconds FROM delay_tallies ORDER BY delay, at_most"


def read_content(db: sqlite3.Connection, kept: Kept) -> Content:
    """Return everything the page shows; the caller holds one read transaction around the call, and keeps `kept`."""
    opened, lost = _trades(db, kept, _OPEN)
    closed, lost_too = _trades(db, kept, _CLOSED, CLOSED_SHOWN)
    content = Content(
        live={row["key"]: _live(row) for row in db.execute("SELECT key, value, at FROM live")},
        open_trades=tuple(sorted(opened, key=_urgency)),
        closed_trades=tuple(sorted(closed, key=lambda trade: trade.closed_at or trade.timestamp, reverse=True)),
        unreadable=(*lost, *lost_too),
        signals=tuple(
            kept.of(("signal", row["seq"]), row, partial(_signal, row))
            for row in db.execute(_SIGNALS, (SIGNALS_SHOWN,))
        ),
        log=tuple(_log(row) for row in db.execute(_LOG, (LOG_SHOWN,))),
        alarms=tuple(_alarm(row) for row in db.execute(_ALARMS)),
        blocks=tuple(_block(row) for row in db.execute(_BLOCKS)),
        strategies=dict(map(tuple, db.execute(_STRATEGIES, (json.dumps([t.id for t in (*opened, *closed)]),)))),
        ignored=_ignored(db),
        outcomes=dict(map(tuple, db.execute(_OUTCOMES))),
        delays=_delays(db),
    )
    kept.settle()
    return content


def trade_symbol(db: sqlite3.Connection, trade_id: int) -> str | None:
    """Return the symbol of one trade, or None where there is no such trade."""
    row = db.execute("SELECT symbol FROM trades WHERE id = ?", (trade_id,)).fetchone()
    return None if row is None else str(row["symbol"])


def _trades(db: sqlite3.Connection, kept: Kept, which: str, *values: object) -> tuple[list[Trade], list[Unreadable]]:
    """Return the trades that a query selects, and separately those that cannot be read, in words."""
    read: list[Trade] = []
    lost: list[Unreadable] = []
    for found in found_trades(lambda sql, *given: db.execute(sql, given).fetchall(), which, *values):
        try:
            read.append(kept.of(("trade", found.row["id"]), found, found.trade))
        except JournalError as error:
            known = _plain(found.row, "id symbol account con_id state closed")
            lost.append(Unreadable(**known, text=str(error)))
    return read, lost


def _urgency(trade: Trade) -> tuple[bool, bool, int]:
    """What needs its owner comes first, then the newest."""
    return trade.state is not State.HOLD, trade.unprotected_at is None, -trade.id


def _signal(row: sqlite3.Row) -> SignalRow:
    values = _plain(row, "seq signal_id action symbol side trail strategy_name note state outcome reason trade_id")
    values |= _instants(row, "received_at arrived_at decided_at expires_at time")
    values |= {name: bool(row[name]) for name in ("breakeven_after_target", "loosen")}
    values |= {name: _exit(row[name]) for name in ("tp", "sl")}
    return SignalRow(**values, **_numbers(row, "quantity percent price"), targets=_targets(row["targets"]))


def _targets(text: str | None) -> tuple[Mapping[str, str], ...]:
    """Return the targets of a signal; none where the text is not what the executor writes."""
    found = from_json(text)
    rows = found if isinstance(found, list) else []
    return tuple(row for row in rows if isinstance(row, dict) and {"tp", "percent"} <= row.keys())


def _exit(text: str | None) -> Decimal | str | None:
    """Return a price, or the text of what is none: a distance, or "entry"."""
    return _number(text) if text is None or text[-1:].isdigit() else text


def _log(row: sqlite3.Row) -> LogRow:
    return LogRow(row["id"], row["at"], row["symbol"], row["kind"], row["details"], row["trade_id"])


def _alarm(row: sqlite3.Row) -> AlarmRow:
    return AlarmRow(**_plain(row, "id key kind level symbol text trade_id"), **_instants(row, "raised_at told_at"))


def _block(row: sqlite3.Row) -> BlockRow:
    return BlockRow(**_plain(row, "symbol side reason trade_id"), **_instants(row, "since"))


def _ignored(db: sqlite3.Connection) -> dict[tuple[str, int], Decimal]:
    found: defaultdict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for row in db.execute("SELECT account, con_id, quantity FROM ignored_holdings"):
        found[row["account"], row["con_id"]] += _number(row["quantity"]) or ZERO
    return found


def _delays(db: sqlite3.Connection) -> dict[str, Delays]:
    found: dict[str, Delays] = {}
    for row in db.execute(_DELAYS):
        found[row["delay"]] = (*found.get(row["delay"], ()), (row["at_most"], row["trades"], row["seconds"]))
    return found


def _live(row: sqlite3.Row) -> Live:
    return Live(from_json(row["value"]), _instant(row["at"]))


def _plain(row: sqlite3.Row, names: str) -> dict[str, Any]:
    return {name: row[name] for name in names.split()}


def _numbers(row: sqlite3.Row, names: str) -> dict[str, Any]:
    return {name: _number(row[name]) for name in names.split()}


def _instants(row: sqlite3.Row, names: str) -> dict[str, Any]:
    return {name: _instant(row[name]) for name in names.split()}


def from_json(text: str | None) -> Any:
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
