"""The journal's file: opened, checked, migrated to this version's tables, and written in transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from common.errors import JournalError, JournalMisuse
from common.private import make_database_private

# Version n is reached by the n-th file; a new version adds a file, an old one never changes.
MIGRATIONS = ("schema.sql",)


def open_file(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Return a connection in autocommit mode, to a file that is whole and has this version's tables.

    Commits are durable (WAL, synchronous=FULL). A reader's connection changes nothing, its tables included. Only the
    file's owner can read it.

    Raises:
        JournalError: It cannot be opened, is damaged, or was made by a newer version. The text says how to fix it.
    """
    try:
        db = _connect(path, readonly)
        if not readonly:
            _prepare(db, path)
    except (sqlite3.Error, OSError) as exc:
        text = f"the journal {path} cannot be opened ({exc}): restore it from a backup, or move it away"
        raise JournalError(text) from exc
    return db


def _connect(path: Path, readonly: bool) -> sqlite3.Connection:
    if not readonly and str(path) != ":memory:":
        make_database_private(path)
    name = f"{path.absolute().as_uri()}?mode=ro" if readonly else str(path)
    db = sqlite3.connect(name, uri=readonly, isolation_level=None, timeout=2)
    db.row_factory = sqlite3.Row
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        _check(db, path)
        _migrate(db, path)
    except BaseException:
        db.close()  # and with it, what a failed migration began
        raise


def _check(db: sqlite3.Connection, path: Path) -> None:
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise JournalError(f"the journal {path} is damaged ({found}): restore it from a backup before trading on")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        text = f"the journal {path} was written by a newer version of this program (schema {version}): update it"
        raise JournalError(text)
    if not version and db.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise JournalError(f"the database {path} belongs to another program: name another file with --db")
    for number, name in enumerate(MIGRATIONS[version:], version + 1):
        script = files(__package__).joinpath(name).read_text("utf-8")
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


class Storage:
    """One connection: reads, and writes that are committed when their transaction ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._depth = 0

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes within together, or none. A transaction inside another joins it; an empty one costs nothing.

        Raises:
            JournalError: Nothing of it was written. Stop: without a journal there is no trading.
            JournalMisuse: Nor was this, and it never will be: a bug of ours.
        """
        if self._depth:
            yield
            return
        self._rollback()  # what a failure may have left open is no part of this one
        self._depth += 1
        try:
            yield
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        except BaseException as exc:
            self._rollback()
            if isinstance(exc, sqlite3.Error):
                raise _error(exc) from exc
            raise
        finally:
            self._depth -= 1

    def _rollback(self) -> None:
        with suppress(sqlite3.Error):  # the original error is reported
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _write(self, sql: str, *values: object) -> sqlite3.Cursor:
        if self._depth:
            return self._begun().execute(sql, values)
        with self.transaction():
            return self._begun().execute(sql, values)

    def _write_all(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Write several rows by one statement: each statement costs as much as what it writes."""
        if rows:
            with self.transaction():
                self._begun().executemany(sql, rows)

    def _begun(self) -> sqlite3.Connection:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise JournalError(f"the journal cannot be read: {exc}") from exc


def _error(exc: sqlite3.Error) -> JournalError:
    """A file that cannot be written may be written later; a rule that was broken is a bug of ours."""
    if isinstance(exc, sqlite3.OperationalError) or type(exc) is sqlite3.DatabaseError:
        return JournalError(f"the journal cannot be written: {exc}")
    return JournalMisuse(f"the journal rejects this write: {exc}")
