"""The journal: the executor's record of truth, in SQLite.

Every write is committed when its transaction ends (WAL, synchronous=FULL), and a state change is committed before
what it announces is done. The event loop's thread owns the one connection that writes; the page reads through its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from common.clock import Clock, parse_utc, utc_text
from common.errors import JournalError
from common.signals import Envelope, Side, decimal_text
from executor.core.ports import Fill, OrderReport
from executor.core.trades import Order, Trade
from executor.journal.rows import Block, InboxRow, describe, inbox_row, number_text, order_of, time_text, trade_of
from executor.journal.storage import Storage, open_file

_OF_BLOCK = "account = ? AND (con_id = ? OR symbol = ?) AND side = coalesce(?, side)"


class Journal(Storage):
    """The tables of one journal. Any sqlite3 error becomes a JournalError: without a journal there is no trading."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        super().__init__(connection)
        self._clock = clock
        self._ours: dict[int, str] = {}  # what `our_contracts` returns, until there is another one

    @classmethod
    def open(cls, path: str | Path, clock: Clock, readonly: bool = False) -> Self:
        """Open the journal, created and migrated as needed.

        Raises:
            JournalError: It cannot be opened, is damaged, or was made by a newer version. The text says the mend.
        """
        return cls(open_file(Path(path), readonly=readonly), clock)

    def _now(self) -> str:
        return utc_text(self._clock.now())

    # ---- meta, live, events ----

    def account(self) -> str | None:
        """Return the account that this journal belongs to, None while it has none."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'account'")
        return str(rows[0][0]) if rows else None

    def bind_account(self, account: str) -> None:
        """Remember for ever which account this journal belongs to. Bound again to another, it raises JournalError."""
        bound = self.account()
        if bound not in (None, account):
            raise JournalError(
                f"this journal belongs to account {bound}, not to {account}: use another --db for each account"
            )
        self._write("INSERT OR IGNORE INTO meta VALUES ('account', ?)", account)

    def publish(self, key: str, value: object) -> None:
        """Replace what the page shows of the moment under `key`, as JSON."""
        text = json.dumps(value, default=str, separators=(",", ":"))
        self._write("INSERT OR REPLACE INTO live VALUES (?, ?, ?)", key, text, self._now())

    def log(
        self, kind: str, details: str, *, symbol: str = "", trade_id: int | None = None, signal_id: str | None = None,
        order_ref: str | None = None
    ) -> None:  # fmt: skip
        """Append one line to the trade log."""
        sql = "INSERT INTO events (at, kind, symbol, trade_id, signal_id, order_ref, details) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._write(sql, self._now(), kind, symbol, trade_id, signal_id, order_ref, details)

    def last_event(self, trade_id: int, kind: str) -> datetime | None:
        """Return when the trade log last said something of this kind about a trade, None where it never did."""
        rows = self._rows("SELECT max(at) FROM events WHERE trade_id = ? AND kind = ?", trade_id, kind)
        return parse_utc(rows[0][0]) if rows[0][0] else None

    # ---- inbox ----

    def receive(self, envelope: Envelope, payload: str) -> bool:
        """Commit one verified signal; False when it was there already. Either way it may be acked now."""
        return self.receive_all([(envelope, payload)])[0]

    def receive_all(self, signals: Sequence[tuple[Envelope, str]]) -> list[bool]:
        """Commit verified signals in one transaction; for each, whether it is new. All of them may be acked now."""
        with self.transaction():
            return [self._receive(envelope, payload) for envelope, payload in signals]

    def _receive(self, envelope: Envelope, payload: str) -> bool:
        signal = envelope.signal
        sql = """INSERT INTO inbox (signal_id, payload, received_at, arrived_at, expires_at, action, symbol, side, quantity,
                 tp, sl, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (signal_id) DO NOTHING"""
        row = (
            envelope.id, payload, utc_text(envelope.received_at), self._now(), time_text(envelope.expires_at),
            signal.action.value, signal.symbol, signal.side, number_text(signal.quantity), number_text(signal.tp),
            number_text(signal.sl), signal.note,
        )  # fmt: skip
        if self._write(sql, *row).rowcount == 0:
            return False
        self.log("signal", describe(signal), symbol=signal.symbol, signal_id=envelope.id)
        return True

    def undone(self) -> list[InboxRow]:
        """Return the signals that are not done, in the order of arrival."""
        return [inbox_row(r) for r in self._rows("SELECT * FROM inbox WHERE state <> 'done' ORDER BY seq")]

    def signal_of(self, signal_id: str) -> InboxRow | None:
        """Return one signal of the inbox, done or not."""
        rows = self._rows("SELECT * FROM inbox WHERE signal_id = ?", signal_id)
        return inbox_row(rows[0]) if rows else None

    def finish_signal(self, row: InboxRow, outcome: str, reason: str, trade_id: int | None = None) -> None:
        """Give a signal its one outcome, with the reason in words. A signal that has one keeps it."""
        sql = """UPDATE inbox SET state = 'done', outcome = ?, reason = ?, trade_id = coalesce(?, trade_id), decided_at = ?
                 WHERE seq = ? AND state <> 'done'"""
        with self.transaction():
            if self._write(sql, outcome, reason, trade_id, self._now(), row.seq).rowcount:
                self.log(outcome, reason, symbol=row.signal.symbol, signal_id=row.signal_id, trade_id=trade_id)

    def revise_signal(self, signal_id: str, outcome: str, reason: str) -> None:
        """Correct the outcome of a signal whose entry came to nothing after all."""
        sql = "UPDATE inbox SET outcome = ?, reason = ? WHERE signal_id = ? AND outcome = 'entered'"
        self._write(sql, outcome, reason, signal_id)

    def begin_closing(self, row: InboxRow, trade_id: int) -> None:
        """Note that a signal had its close asked for, of this trade; it is decided again when that is done."""
        self._write("UPDATE inbox SET state = 'closing', trade_id = ? WHERE seq = ?", trade_id, row.seq)

    def note_waiting(self, row: InboxRow, reason: str) -> None:
        """Say why a signal waits."""
        if row.reason != reason:
            self._write("UPDATE inbox SET reason = ? WHERE seq = ?", reason, row.seq)

    # ---- trades and orders ----

    def create_trade(self, trade: Trade, orders: Iterable[Order], client_id: int | None) -> Trade:
        """Write a trade and its planned orders; `trade.id` is ignored. The trade is returned as it stands now."""
        sql = """INSERT INTO trades (timestamp, symbol, signal, position_size, state, signal_id, account, con_id, asked,
                 received_at, valid_until, stop_wanted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        with self.transaction():
            cursor = self._write(
                sql, utc_text(trade.timestamp), trade.symbol, trade.side.value, decimal_text(trade.asked), trade.state.value,
                trade.signal_id, trade.account, trade.con_id, decimal_text(trade.asked), utc_text(trade.received_at),
                utc_text(trade.valid_until), int(trade.stop_wanted),
            )  # fmt: skip
            trade_id = int(cursor.lastrowid or 0)
            self._ours = {}
            for order in orders:
                self.add_order(trade, trade_id, order, client_id)
            return self.trade(trade_id)

    def add_order(self, trade: Trade, trade_id: int, order: Order, client_id: int | None) -> None:
        """Write one planned order of a trade."""
        sql = """INSERT INTO orders (order_ref, trade_id, leg, attempt, account, con_id, client_id, side, kind, quantity, price,
                 state, parent_ref) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        self._write(
            sql, order.order_ref, trade_id, order.leg.value, order.attempt, trade.account, trade.con_id, client_id,
            order.side.value, order.kind.value, decimal_text(order.quantity), number_text(order.price), order.state.value,
            order.parent_ref,
        )  # fmt: skip

    def trade(self, trade_id: int) -> Trade:
        """Return one trade with its orders.

        Raises:
            KeyError: There is no such trade.
        """
        rows = self._rows("SELECT * FROM trades WHERE id = ?", trade_id)
        if not rows:
            raise KeyError(trade_id)
        return self._with_orders(rows[0])

    def unfinished(self) -> list[Trade]:
        """Return every trade that is not closed or void, oldest first."""
        return [self._with_orders(r) for r in self._rows("SELECT * FROM trades WHERE closed = 0 ORDER BY id")]

    def open_trade(self, account: str, con_id: int, symbol: str = "") -> Trade | None:
        """Return the unfinished trade in a contract, of which there is at most one, or else the symbol's in another one."""
        sql = """SELECT * FROM trades WHERE closed = 0 AND account = ? AND (con_id = ? OR symbol = ?)
                 ORDER BY con_id = ? DESC, id LIMIT 1"""
        rows = self._rows(sql, account, con_id, symbol, con_id)
        return self._with_orders(rows[0]) if rows else None

    def our_contracts(self) -> Mapping[int, str]:
        """Return every contract that was traded, or in which the owner told us to leave his own alone, and its symbol."""
        if not self._ours:
            sql = """SELECT con_id, symbol, 0 AS id FROM ignored_holdings UNION ALL
                     SELECT con_id, symbol, max(id) AS id FROM trades GROUP BY con_id ORDER BY id"""
            self._ours = {r["con_id"]: r["symbol"] for r in self._rows(sql)}
        return self._ours

    def _with_orders(self, row: sqlite3.Row) -> Trade:
        orders = self._rows("SELECT * FROM orders WHERE trade_id = ? ORDER BY rowid", row["id"])
        return trade_of(row, tuple(order_of(o) for o in orders))

    def change_trade(self, trade_id: int, **values: object) -> None:
        """Set columns of a trade; instants and decimals are written as the journal writes them."""
        self._change("trades", "id", trade_id, values)

    def note_first_fill(self, trade_id: int) -> bool:
        """Remember when the entry first filled; whether that is now."""
        sql = "UPDATE trades SET filled_at = ? WHERE id = ? AND filled_at IS NULL"
        return self._write(sql, self._now(), trade_id).rowcount > 0

    def change_order(self, order_ref: str, **values: object) -> None:
        """Set columns of an order."""
        self._change("orders", "order_ref", order_ref, values)

    def find_order(
        self, *, order_ref: str | None = None, client_id: int | None = None, order_id: int = 0
    ) -> tuple[int, Order] | None:
        """Return (trade id, order) by its reference, else by our client id and order id."""
        rows = self._rows("SELECT * FROM orders WHERE order_ref = ?", order_ref) if order_ref else []
        if not rows and order_id:
            rows = self._rows("SELECT * FROM orders WHERE client_id = ? AND order_id = ?", client_id, order_id)
        return (rows[0]["trade_id"], order_of(rows[0])) if rows else None

    def take_order_ids(self, client_id: int, count: int, floor: int) -> int:
        """Return the first of `count` order ids that were never used, at or above the broker's floor."""
        with self.transaction():
            rows = self._rows("SELECT next FROM order_ids WHERE client_id = ?", client_id)
            first = max(floor, rows[0][0] if rows else 1)
            self._write("INSERT OR REPLACE INTO order_ids VALUES (?, ?)", client_id, first + count)
            return first

    def record_report(self, order_ref: str, report: OrderReport) -> None:
        """Record what the broker said of an order of ours. What it did not say stays as it was."""
        usual = report.why_held in ("", "child", "trigger")  # every bracket child, every stop: nothing to tell
        said = {
            "said": report.status.value, "said_filled": report.filled, "perm_id": report.perm_id or None,
            "quantity": report.quantity, "price": report.price, "tif": report.tif,
            "oca_group": report.oca_group or None, "oca_type": report.oca_type or None, "held": None if usual else report.why_held,
        }  # fmt: skip
        self.change_order(order_ref, **{name: value for name, value in said.items() if value is not None})

    def other_clients(self, client_id: int) -> list[int]:
        """Return the client ids other than ours under which orders of this journal are live, or may be."""
        sql = """SELECT DISTINCT client_id FROM orders JOIN trades ON trades.id = trade_id
                 WHERE orders.state IN ('sending', 'working') AND client_id <> ? AND closed = 0"""
        return [int(r[0]) for r in self._rows(sql, client_id)]

    # ---- fills ----

    def record_fill(self, fill: Fill, order_ref: str, trade_id: int | None) -> bool:
        """Record an execution; a correction replaces the one it corrects. False when it was known as it is."""
        sql = """INSERT INTO fills (exec_root, exec_id, order_ref, trade_id, account, con_id, side, quantity, price, at, commission,
                 liquidation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (exec_root) DO UPDATE SET
                 exec_id = excluded.exec_id, quantity = excluded.quantity, price = excluded.price
                 WHERE excluded.exec_id > fills.exec_id"""
        row = (
            fill.exec_root, fill.exec_id, order_ref, trade_id, fill.account, fill.con_id, fill.side.value,
            decimal_text(fill.quantity), decimal_text(fill.price), utc_text(fill.at), number_text(fill.commission),
            int(fill.liquidation),
        )  # fmt: skip
        return self._write(sql, *row).rowcount > 0

    def record_commission(self, exec_id: str, commission: Decimal) -> None:
        """Record the commission of an execution, known only after it."""
        self._write("UPDATE fills SET commission = ? WHERE exec_id = ?", decimal_text(commission), exec_id)

    def fills_of(self, trade_id: int) -> list[tuple[str, Side, Decimal, Decimal]]:
        """Return (order_ref, side, quantity, price) of a trade's executions, in the order of time."""
        rows = self._rows("SELECT * FROM fills WHERE trade_id = ? ORDER BY at, rowid", trade_id)
        return [(r["order_ref"], Side(r["side"]), Decimal(r["quantity"]), Decimal(r["price"])) for r in rows]

    def filled(self, order_ref: str) -> Decimal:
        """Return the sum of an order's executions."""
        rows = self._rows("SELECT quantity FROM fills WHERE order_ref = ?", order_ref)
        return sum((Decimal(r[0]) for r in rows), Decimal(0))

    def has_fill(self, exec_root: str) -> bool:
        """Whether an execution is written down, in whichever revision."""
        return bool(self._rows("SELECT 1 FROM fills WHERE exec_root = ?", exec_root))

    def is_attributed(self, exec_root: str) -> bool:
        """Whether an execution is accounted for by a trade."""
        return bool(self._rows("SELECT 1 FROM fills WHERE exec_root = ? AND trade_id IS NOT NULL", exec_root))

    def attribute_fill(self, exec_root: str, trade_id: int) -> None:
        """Account for an execution that is not ours (the owner's own hand) by a trade."""
        self._write("UPDATE fills SET trade_id = ? WHERE exec_root = ?", trade_id, exec_root)

    # ---- blocks, holdings, contracts ----

    def block(self, account: str, con_id: int, symbol: str, side: Side | None = None) -> Block | None:
        """Return the newest block on a contract, or on its symbol from another one (a future that has rolled on); of a side."""
        rows = self._rows(f"SELECT * FROM blocks WHERE {_OF_BLOCK} ORDER BY since DESC", account, con_id, symbol, side)  # noqa: S608  ours
        if not rows:
            return None
        return Block(Side(rows[0]["side"]), parse_utc(rows[0]["since"]), rows[0]["reason"], rows[0]["trade_id"])

    def set_block(self, trade: Trade, reason: str) -> None:
        """Block the side of a trade that ended, in its contract and for its symbol."""
        sql = "INSERT INTO blocks (account, con_id, symbol, side, trade_id, since, reason) VALUES (?, ?, ?, ?, ?, ?, ?)"
        with self.transaction():
            self.release_block(trade.account, trade.con_id, trade.symbol, trade.side)
            self._write(sql, trade.account, trade.con_id, trade.symbol, trade.side.value, trade.id, self._now(), reason)

    def release_block(self, account: str, con_id: int, symbol: str, side: Side | None = None) -> bool:
        """Release what `block` may return, of one side or of both; whether there was any."""
        sql = f"DELETE FROM blocks WHERE {_OF_BLOCK}"  # noqa: S608  ours
        return self._write(sql, account, con_id, symbol, side).rowcount > 0

    def ignored(self) -> dict[tuple[str, int], Decimal]:
        """Return (account, conId) → the quantity that the owner holds beside us and told us to leave alone."""
        rows = self._rows("SELECT * FROM ignored_holdings")
        return {(r["account"], r["con_id"]): Decimal(r["quantity"]) for r in rows}

    def ignore_holding(self, account: str, con_id: int, symbol: str, quantity: Decimal) -> None:
        self._ours = {}
        sql = "INSERT OR REPLACE INTO ignored_holdings VALUES (?, ?, ?, ?, ?)"
        self._write(sql, account, con_id, symbol, decimal_text(quantity), self._now())

    def remember_contract(self, symbol: str, con_id: int) -> None:
        self._write("INSERT OR REPLACE INTO contracts VALUES (?, ?)", symbol, con_id)

    def contract_id(self, symbol: str) -> int | None:
        rows = self._rows("SELECT con_id FROM contracts WHERE symbol = ?", symbol)
        return int(rows[0][0]) if rows else None

    # ---- alarms ----

    def raise_alarm(self, key: str, kind: str, level: str, symbol: str, text: str) -> bool:
        """Write an alarm down, once until it is cleared. False when it stands already (its text is brought up to date)."""
        with self.transaction():
            if standing := self._rows("SELECT text FROM alarms WHERE key = ? AND cleared_at IS NULL", key):
                if standing[0]["text"] != text:
                    self._write("UPDATE alarms SET text = ? WHERE key = ? AND cleared_at IS NULL", text, key)
                return False
            sql = "INSERT INTO alarms (key, kind, level, symbol, text, raised_at) VALUES (?, ?, ?, ?, ?, ?)"
            self._write(sql, key, kind, level, symbol, text, self._now())
            return True

    def clear_alarm(self, key: str, text: str) -> bool:
        """End an alarm with a closing word. False when it did not stand."""
        if not self._rows("SELECT 1 FROM alarms WHERE key = ? AND cleared_at IS NULL", key):
            return False
        sql = (
            "UPDATE alarms SET cleared_at = ?, cleared_text = ?, try_after = NULL WHERE key = ? AND cleared_at IS NULL"
        )
        return self._write(sql, self._now(), text, key).rowcount > 0

    def standing_alarms(self) -> list[dict[str, Any]]:
        """Return the alarms that stand, oldest first, as their columns."""
        return [dict(r) for r in self._rows("SELECT * FROM alarms WHERE cleared_at IS NULL ORDER BY id")]

    def alarms_to_tell(self, now: datetime) -> list[dict[str, Any]]:
        """Return the alarms whose owner must be told now: raised or due again, and those that ended untold."""
        sql = """SELECT * FROM alarms WHERE (try_after IS NULL OR try_after <= ?) AND (cleared_at IS NULL
                 OR (clear_told = 0 AND told_at IS NOT NULL)) ORDER BY id"""
        return [dict(r) for r in self._rows(sql, utc_text(now))]

    def mark_told(self, alarm_id: int, *, delivered: bool, try_after: datetime, closing: bool = False) -> None:
        """Note one try to tell the owner; the next is at `try_after`. A delivered closing word is the last."""
        told = self._now() if delivered else None
        sql = """UPDATE alarms SET tries = tries + 1, told_at = coalesce(?, told_at), clear_told = ?,
                 try_after = iif(cleared_at IS NULL OR ?, ?, NULL) WHERE id = ?"""
        self._write(sql, told, int(delivered and closing), closing, utc_text(try_after), alarm_id)
