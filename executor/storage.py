"""Opens the journal's file: created, checked, and migrated to this version's tables."""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from pathlib import Path

from common.errors import JournalError

# Version n is reached by the n-th file; a new version adds a file, an old one never changes.
MIGRATIONS = ("schema.sql",)


def open_file(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Return a connection in autocommit mode, to a file that is whole and has this version's tables.

    Commits are durable (WAL, synchronous=FULL). A reader's connection changes nothing, its tables included.

    Raises:
        JournalError: It cannot be opened, is damaged, or was made by a newer version. The text says the mend.
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
    for number, name in enumerate(MIGRATIONS[version:], version + 1):
        script = files(__package__).joinpath(name).read_text("utf-8")
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
