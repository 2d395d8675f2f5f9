"""The state that IB's servers would keep, in one SQLite file, so that the paper TWS may be killed at any time.

`synchronous=OFF` is deliberate: the file survives the death of the process, which is what is simulated; it need
not survive a power cut.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from common.private import make_database_private
from executor.paper.books import Account
from executor.paper.floor import Floor
from executor.paper.market import Quote
from executor.paper.orders import UNDER_WAY, Execution, Order

_ORDER: TypeAdapter[Order] = TypeAdapter(Order)
_EXECUTION: TypeAdapter[Execution] = TypeAdapter(Execution)
_ACCOUNT: TypeAdapter[Account] = TypeAdapter(Account)
_QUOTE: TypeAdapter[Quote] = TypeAdapter(Quote)


class StoreError(Exception):
    """The state cannot be used; the text says why, and what to do."""


class Store(Protocol):
    """Where the state goes at the end of every turn."""

    def load(self, floor: Floor) -> None:
        """Bring back what was saved, if anything."""

    def save(self, floor: Floor) -> None:
        """Keep what changed since the last save; nothing was told to a client yet."""

    def close(self) -> None: ...


class NoStore:
    """Keep nothing: the state dies with the process."""

    def load(self, floor: Floor) -> None: ...

    def save(self, floor: Floor) -> None:
        floor.book.dirty.clear()
        floor.market.dirty.clear()

    def close(self) -> None: ...


class FileStore:
    """Keep the state in a file, for its owner's eyes only: one row an order, an execution, an account, an id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            make_database_private(path)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS kept (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key))"
            )
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the state file {path} cannot be used: {error}") from error

    def load(self, floor: Floor) -> None:
        """Bring back what was saved. Raises StoreError if this server cannot go on from it."""
        try:
            self._load(floor)
        except ValueError as error:  # pydantic's, and json's
            raise StoreError(f"the state file {self._path} holds another version's state: move it away") from error
        _check(floor, self._path)

    def _load(self, floor: Floor) -> None:
        rows = self._db.execute("SELECT kind, key, body FROM kept ORDER BY kind, CAST(key AS INTEGER), key").fetchall()
        for kind, key, body in rows:
            if kind in _LOADERS:
                _LOADERS[kind](floor, key, body)
        floor.truth.catch_up([json.loads(body) for kind, _, body in rows if kind == "truth"])

    def save(self, floor: Floor) -> None:
        book = floor.book
        if not book.dirty and not floor.market.dirty and not floor.truth.unwritten:
            return
        changed, gone = _rows(floor)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", changed)
        self._db.executemany("DELETE FROM kept WHERE kind = ? AND key = ?", gone)
        self._db.execute("DELETE FROM kept WHERE kind = 'truth'")
        self._db.executemany(
            "INSERT INTO kept VALUES ('truth', ?, ?)",
            [(str(one["n"]), json.dumps(one)) for one in floor.truth.unwritten],
        )
        self._db.execute("COMMIT")
        book.dirty.clear()
        floor.market.dirty.clear()

    def close(self) -> None:
        self._db.close()


def _check(floor: Floor, path: Path) -> None:
    """Raise StoreError if the state speaks of what this server was not given."""
    held = {con_id for account in floor.books.accounts.values() for con_id in account.positions}
    contracts = {one.con_id for one in floor.book.orders.values()} | held
    missing = sorted(con_id for con_id in contracts if not floor.catalog.has(con_id))
    if missing:
        raise StoreError(f"the state file {path} speaks of conId {missing[0]}: give the same --contracts as before")
    strange = sorted({one.form.account for one in floor.book.orders.values()} - set(floor.books.accounts))
    if strange:
        raise StoreError(f"the state file {path} speaks of account {strange[0]}: give the same --accounts as before")


def _rows(floor: Floor) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str]]]:
    book = floor.book
    changed: list[tuple[str, str, Any]] = [
        ("count", "perm", str(book.last_perm_id)), ("count", "exec", str(book.last_exec))]  # fmt: skip
    changed += [("account", one.name, _ACCOUNT.dump_json(one).decode()) for one in floor.books.accounts.values()]
    changed += [("mark", str(client), str(mark)) for client, mark in book.marks.items()]
    changed += [("quote", str(con_id), _QUOTE.dump_json(floor.market.quote(con_id)).decode())
                for con_id in floor.market.dirty]  # fmt: skip
    gone = []
    for kind, key in book.dirty:
        if kind == "order" and int(key) in book.orders:
            changed.append((kind, key, _ORDER.dump_json(book.orders[int(key)]).decode()))
        elif kind == "execution" and key in book.executions:
            changed.append((kind, key, _EXECUTION.dump_json(book.executions[key]).decode()))
        elif kind != "mark":
            gone.append((kind, key))
    return changed, gone


def _load_order(floor: Floor, key: str, body: str) -> None:
    order = _ORDER.validate_json(body)
    order.muted = False  # a new process knows of no lost acknowledgements, and of no change on its way
    order.flags -= {UNDER_WAY}
    book = floor.book
    book.orders[order.perm_id] = order
    book.touch(order)
    if order.order_id > 0:
        book.handles[order.client_id, order.order_id] = order.perm_id


def _load_execution(floor: Floor, key: str, body: str) -> None:
    floor.book.executions[key] = _EXECUTION.validate_json(body)


def _load_account(floor: Floor, key: str, body: str) -> None:
    if key in floor.books.accounts:
        floor.books.accounts[key] = _ACCOUNT.validate_json(body)


def _load_count(floor: Floor, key: str, body: str) -> None:
    setattr(floor.book, {"perm": "last_perm_id", "exec": "last_exec"}[key], int(body))


def _load_mark(floor: Floor, key: str, body: str) -> None:
    floor.book.marks[int(key)] = int(body)


def _load_quote(floor: Floor, key: str, body: str) -> None:
    if floor.catalog.has(int(key)):
        floor.market.restore(int(key), _QUOTE.validate_json(body))


_LOADERS = {"order": _load_order, "execution": _load_execution, "account": _load_account, "count": _load_count,
            "mark": _load_mark, "quote": _load_quote}  # fmt: skip
