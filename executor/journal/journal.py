"""The journal: the executor's record of truth, in SQLite.

Every write is committed when its transaction ends (WAL, synchronous=FULL). The event loop's thread owns the one
connection that writes; the page reads through its own. What was written is read once, at start, into the book
(`load`); afterwards only what the book has let go of is looked up here, by an index.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from common.chain import Chain
from common.clock import Clock, parse_utc, utc_text
from common.errors import JournalError
from common.signals import Envelope, Side, Signal, parse_payload
from executor.core.conditions import AlarmKind
from executor.core.orders import Execution
from executor.core.trades import Trade
from executor.journal.reading import found_trades
from executor.journal.rows import (
    Alarm,
    Block,
    Holding,
    InboxRow,
    Line,
    Meaning,
    Row,
    StrategyChain,
    execution_of,
    execution_row,
    inbox_row,
    number_text,
    order_row,
    signal_row,
    time_text,
    to_be_done,
    trade_row,
    wish_row,
)
from executor.journal.storage import Storage, open_file

_EVENT = "INSERT INTO events (at, kind, symbol, trade_id, signal_id, order_ref, details) VALUES (?, ?, ?, ?, ?, ?, ?)"
# What the book starts from: every unfinished trade, and those that ended a little while ago.
_RECENT = "SELECT id FROM trades WHERE closed = 0 UNION SELECT id FROM trades WHERE closed = 1 AND closed_at >= ?"
_UNFINISHED = "SELECT id FROM trades WHERE closed = 0"
_FOREIGN = "SELECT rowid AS seq, * FROM fills WHERE trade_id IS NULL AND at >= ?"
_UNDONE = "SELECT * FROM inbox WHERE state <> 'done' ORDER BY seq"
# Each contract and its last symbol: from one contract to the next by the index, however many trades there are.
_TRADED = """WITH RECURSIVE traded (con_id) AS (
                 SELECT min(con_id) FROM trades
                 UNION ALL SELECT (SELECT min(con_id) FROM trades WHERE con_id > traded.con_id) FROM traded
                 WHERE con_id IS NOT NULL)
             SELECT con_id, (SELECT symbol FROM trades WHERE con_id = traded.con_id ORDER BY id DESC LIMIT 1) AS symbol
             FROM traded WHERE con_id IS NOT NULL"""
_LAST_TRADE = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'trades'"
_LAST_EXECUTION = "SELECT max(rowid) FROM fills"
_BY_REF = "SELECT trade_id FROM orders WHERE order_ref = ?"
_BY_NUMBER = "SELECT trade_id FROM orders WHERE client_id = ? AND order_id = ?"
_EXECUTION = "SELECT rowid AS seq, * FROM fills WHERE exec_root = ?"
_STANDING = "SELECT * FROM alarms WHERE cleared_at IS NULL ORDER BY id"
_TO_TELL = """SELECT * FROM alarms WHERE (cleared_at IS NULL OR (clear_told = 0 AND told_at IS NOT NULL))
              AND (try_after IS NULL OR try_after <= ?) ORDER BY id"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the journal holds that the book needs; what it does not hold is over."""

    account: str | None
    trades: tuple[Trade, ...]  # unfinished, and ended since `since`
    foreign: tuple[Execution, ...]  # executions since then that no trade accounts for
    signals: tuple[InboxRow, ...]  # not done
    blocks: tuple[Block, ...]
    holdings: tuple[Holding, ...]
    meanings: tuple[Meaning, ...]
    traded: Mapping[int, str]  # every contract that was ever traded → its symbol
    alarms: tuple[Alarm, ...]  # standing
    order_ids: Mapping[int, int]  # client id → the next order id
    next_trade: int
    next_execution: int
    relay_mode: str = "open"  # what the relay last said of its own
    chains: tuple[StrategyChain, ...] = ()


class Journal(Storage):
    """The tables of one journal. Any sqlite3 error becomes a JournalError: without a journal there is no trading."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        super().__init__(connection)
        self._clock = clock

    @classmethod
    def open(cls, path: str | Path, clock: Clock, readonly: bool = False) -> Self:
        """Open the journal, created and migrated as needed.

        Raises:
            JournalError: It cannot be opened, is damaged, or was made by a newer version. The text says how to fix it.
        """
        return cls(open_file(Path(path), readonly=readonly), clock)

    def _now(self) -> str:
        return utc_text(self._clock.now())

    # ---- reading: once at start, and what the book has let go of ----

    def load(self, since: datetime) -> Loaded:
        """Return what the book starts from; `since`: from when on what has ended is still wanted."""
        at = utc_text(since)
        return Loaded(
            account=self.account(),
            trades=self._trades(_RECENT, at),
            foreign=tuple(map(execution_of, self._rows(_FOREIGN, at))),
            signals=tuple(map(inbox_row, self._rows(_UNDONE))),
            blocks=self._blocks(),
            holdings=self._holdings(),
            meanings=tuple(
                Meaning(r["symbol"], r["con_id"], parse_utc(r["used_at"]))
                for r in self._rows("SELECT * FROM contracts")
            ),
            traded={r["con_id"]: r["symbol"] for r in self._rows(_TRADED)},
            alarms=tuple(map(_alarm, self.standing_alarms())),
            order_ids={r["client_id"]: r["next"] for r in self._rows("SELECT * FROM order_ids")},
            next_trade=self._next(_LAST_TRADE),
            next_execution=self._next(_LAST_EXECUTION),
            relay_mode=self._relay_mode(),
            chains=tuple(
                StrategyChain(
                    r["symbol"], r["strategy_name"], Chain.read(r["chain"]), parse_utc(r["received_at"]), r["opened_by"]
                )
                for r in self._rows("SELECT * FROM chains")
            ),
        )

    def _trades(self, which: str, *values: object) -> tuple[Trade, ...]:
        """Return the trades whose ids a query selects, oldest first."""
        return tuple(found.trade() for found in found_trades(self._rows, which, *values))

    def _blocks(self) -> tuple[Block, ...]:
        return tuple(
            Block(
                r["con_id"],
                r["symbol"],
                Side(r["side"]),
                parse_utc(r["since"]),
                r["reason"],
                r["trade_id"],
                bool(r["sure"]),
            )
            for r in self._rows("SELECT * FROM blocks")
        )

    def _holdings(self) -> tuple[Holding, ...]:
        return tuple(
            Holding(r["con_id"], r["symbol"], Decimal(r["quantity"]), parse_utc(r["chosen_at"]))
            for r in self._rows("SELECT * FROM ignored_holdings")
        )

    def _next(self, sql: str) -> int:
        return int(self._rows(sql)[0][0] or 0) + 1

    def account(self) -> str | None:
        """Return the account that this journal belongs to, None while it has none."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'account'")
        return str(rows[0][0]) if rows else None

    def _relay_mode(self) -> str:
        rows = self._rows("SELECT value FROM meta WHERE key = 'relay_mode'")
        return str(rows[0][0]) if rows else "open"

    def trade(self, trade_id: int) -> Trade:
        """Return one trade, of whatever age.

        Raises:
            KeyError: There is no such trade.
        """
        found = self._trades("SELECT ?", trade_id)
        if not found:
            raise KeyError(trade_id)
        return found[0]

    def unfinished(self) -> list[Trade]:
        """Return every trade that is not closed or void, oldest first."""
        return list(self._trades(_UNFINISHED))

    def trade_of_order(self, *, order_ref: str = "", client_id: int | None = None, order_id: int = 0) -> int | None:
        """Return the id of the trade whose order it is, by its reference, else by our client id and order id."""
        rows = self._rows(_BY_REF, order_ref) if order_ref else []
        if not rows and order_id:
            rows = self._rows(_BY_NUMBER, client_id, order_id)
        return int(rows[0][0]) if rows else None

    def execution(self, exec_root: str) -> tuple[Execution, int | None] | None:
        """Return an execution, in whichever revision, and the trade that accounts for it."""
        rows = self._rows(_EXECUTION, exec_root)
        return (execution_of(rows[0]), rows[0]["trade_id"]) if rows else None

    # ---- writing what the book has become ----

    def bind_account(self, account: str) -> None:
        """Remember forever which account this journal belongs to. Bound again to another, it raises JournalError."""
        bound = self.account()
        if bound not in (None, account):
            raise JournalError(
                f"this journal belongs to account {bound}, not to {account}: use another --db for each account"
            )
        self._write("INSERT OR IGNORE INTO meta VALUES ('account', ?)", account)

    def save_relay_mode(self, mode: str) -> None:
        """Remember the relay's mode, so that no entry slips through before the first poll after a restart."""
        self._write("INSERT OR REPLACE INTO meta VALUES ('relay_mode', ?)", mode)

    def save_chain(self, found: StrategyChain) -> None:
        values = found.symbol, found.strategy_name, str(found.chain), utc_text(found.received_at), found.opened_by
        self._write("INSERT OR REPLACE INTO chains VALUES (?, ?, ?, ?, ?)", *values)

    def drop_chain(self, found: StrategyChain) -> None:
        self._write("DELETE FROM chains WHERE symbol = ? AND strategy_name = ?", *found.key)

    def receive(self, envelope: Envelope, payload: str, late: bool = False) -> InboxRow | None:
        """Write one verified signal into the inbox; None when it was there already."""
        signal = envelope.signal
        row = {
            "signal_id": envelope.id, "payload": payload, "received_at": utc_text(envelope.received_at),
            "arrived_at": self._now(), "expires_at": time_text(envelope.expires_at), **wish_row(signal), "late": int(late),
        }  # fmt: skip
        sql = f"INSERT INTO inbox ({', '.join(row)}) VALUES ({_marks(row)}) ON CONFLICT (signal_id) DO NOTHING"  # noqa: S608  ours
        cursor = self._write(sql, *row.values())
        if cursor.rowcount == 0:
            return None
        seq = int(cursor.lastrowid or 0)
        return InboxRow(seq, envelope.id, envelope.received_at, envelope.expires_at, to_be_done(signal), late=late)

    def signal(self, signal_id: str) -> Signal | None:
        """Return what a signal asked for, as it was signed; None where there is no such signal."""
        rows = self._rows("SELECT payload FROM inbox WHERE signal_id = ?", signal_id)
        return parse_payload(signal_id, rows[0]["payload"]).signal if rows else None

    def save_signal(self, before: InboxRow, after: InboxRow) -> None:
        """Write what changed in a signal."""
        self._update("inbox", "seq", after.seq, signal_row(before), signal_row(after))

    def revise_signal(self, signal_id: str, outcome: str, reason: str) -> None:
        """Correct the outcome of a signal whose order came to nothing after all."""
        sql = """UPDATE inbox SET outcome = ?, reason = ?
                 WHERE signal_id = ? AND outcome IN ('entered', 'added', 'reduced', 'protected')"""
        self._write(sql, outcome, reason, signal_id)

    def save_trade(self, before: Trade | None, after: Trade) -> None:
        """Write a trade, or what changed in it: its row, its orders and its executions."""
        if before is None:
            self._insert("trades", [{"id": after.id, **trade_row(after)}])
        else:
            self._update("trades", "id", after.id, trade_row(before), trade_row(after))
        known = {o.order_ref: o for o in before.orders} if before else {}
        for order in after.orders:
            old = known.get(order.order_ref)
            if old is not None and old is not order and before is not None:
                self._update("orders", "order_ref", order.order_ref, order_row(before, old), order_row(after, order))
        new = [order for order in after.orders if order.order_ref not in known]
        self._insert("orders", [{"order_ref": order.order_ref, **order_row(after, order)} for order in new])
        counted = set(before.executions) if before else set()
        for execution in after.executions:
            if execution not in counted:
                self.save_execution(execution, after.id)

    def save_execution(self, execution: Execution, trade_id: int | None) -> None:
        """Write an execution; a correction, and what is known of it later, replace its row."""
        row = {"exec_root": execution.exec_root, **execution_row(execution, trade_id)}
        names = ", ".join(row)
        sets = ", ".join(
            f"{name} = excluded.{name}"
            for name in ("exec_id", "order_ref", "trade_id", "quantity", "price", "commission")
        )
        sql = f"INSERT INTO fills ({names}) VALUES ({_marks(row)}) ON CONFLICT (exec_root) DO UPDATE SET {sets}"  # noqa: S608  ours
        self._write(sql, *row.values())

    def save_block(self, account: str, block: Block) -> None:
        row = (
            account,
            block.con_id,
            block.symbol,
            block.side.value,
            block.trade_id,
            utc_text(block.since),
            block.reason,
            block.sure,
        )
        self._write("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)

    def drop_block(self, account: str, block: Block) -> None:
        sql = "DELETE FROM blocks WHERE account = ? AND con_id = ? AND side = ?"
        self._write(sql, account, block.con_id, block.side.value)

    def save_holding(self, account: str, holding: Holding) -> None:
        row = (account, holding.con_id, holding.symbol, number_text(holding.quantity), utc_text(holding.chosen_at))
        self._write("INSERT OR REPLACE INTO ignored_holdings VALUES (?, ?, ?, ?, ?)", *row)

    def save_meaning(self, meaning: Meaning) -> None:
        row = (meaning.symbol, meaning.con_id, utc_text(meaning.used_at))
        self._write("INSERT OR REPLACE INTO contracts VALUES (?, ?, ?)", *row)

    def save_order_id(self, client_id: int, following: int) -> None:
        self._write("INSERT OR REPLACE INTO order_ids VALUES (?, ?)", client_id, following)

    def write(self, lines: Iterable[Line]) -> None:
        """Append lines to the trade log."""
        rows = [
            (utc_text(each.at), each.kind, each.symbol, each.trade_id, each.signal_id, each.order_ref, each.details)
            for each in lines
        ]
        self._write_all(_EVENT, rows)

    def publish(self, key: str, value: object) -> None:
        """Replace what the page shows of the moment under `key`, as JSON."""
        text = json.dumps(value, default=str, separators=(",", ":"))
        self._write("INSERT OR REPLACE INTO live VALUES (?, ?, ?)", key, text, self._now())

    # ---- alarms ----

    def raise_alarm(self, alarm: Alarm) -> None:
        """Write a newly opened alarm."""
        sql = "INSERT INTO alarms (key, kind, level, symbol, text, trade_id, raised_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._write(
            sql, alarm.key, alarm.kind.value, alarm.level.value, alarm.symbol, alarm.text, alarm.trade_id,
            utc_text(alarm.raised_at),
        )  # fmt: skip

    def reword_alarm(self, alarm: Alarm) -> None:
        """Update the text of an open alarm."""
        self._write("UPDATE alarms SET text = ? WHERE key = ? AND cleared_at IS NULL", alarm.text, alarm.key)

    def clear_alarm(self, key: str, text: str) -> None:
        """End an alarm with a closing word."""
        sql = (
            "UPDATE alarms SET cleared_at = ?, cleared_text = ?, try_after = NULL WHERE key = ? AND cleared_at IS NULL"
        )
        self._write(sql, self._now(), text, key)

    def standing_alarms(self) -> list[dict[str, Any]]:
        """Return the alarms that stand, oldest first, as their columns."""
        return [dict(r) for r in self._rows(_STANDING)]

    def alarms_to_tell(self, now: datetime) -> list[dict[str, Any]]:
        """Return the alarms to notify the owner of now: raised or due again, and those that ended without a closing message."""
        return [dict(r) for r in self._rows(_TO_TELL, utc_text(now))]

    def mark_told(self, alarm_id: int, *, delivered: bool, try_after: datetime, closing: bool = False) -> None:
        """Note one attempt to notify the owner; the next is at `try_after`. A delivered closing message is the last."""
        told = self._now() if delivered else None
        sql = """UPDATE alarms SET tries = tries + 1, told_at = coalesce(?, told_at), clear_told = ?,
                 try_after = iif(cleared_at IS NULL OR ?, ?, NULL) WHERE id = ?"""
        self._write(sql, told, int(delivered and closing), closing, utc_text(try_after), alarm_id)

    # ---- rows ----

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows that name the same columns."""
        if rows:
            names = rows[0]
            sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({_marks(names)})"  # noqa: S608  names are ours
            self._write_all(sql, [tuple(row.values()) for row in rows])

    def _update(self, table: str, key: str, of: object, before: Row, after: Row) -> None:
        """Write the columns that changed; none: nothing is written, so that nothing waits for the disk."""
        changed = {name: value for name, value in after.items() if before[name] != value}
        if changed:
            sets = ", ".join(f"{name} = ?" for name in changed)
            self._write(f"UPDATE {table} SET {sets} WHERE {key} = ?", *changed.values(), of)  # noqa: S608  names are ours


def _marks(row: Row) -> str:
    return ", ".join("?" * len(row))


def _alarm(row: dict[str, Any]) -> Alarm:
    about = row["key"].partition(":")[2]
    return Alarm(
        AlarmKind(row["kind"]), about, row["text"], row["symbol"], row["trade_id"], parse_utc(row["raised_at"])
    )
