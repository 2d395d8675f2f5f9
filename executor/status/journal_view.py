"""The page's one window on the journal: read-only, and cheap to ask whether anything is new.

Asking costs one PRAGMA while nothing was written: SQLite's `data_version` changes exactly when another
connection commits (source: SQLite, PRAGMA data_version). So any number of open pages cost the trading loop,
which lives in the same process, next to nothing. The lock is held for one read at a time; buttons do not take it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import queries
from .kept import Kept

_BUSY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """What was found; `number` grows whenever anything in it changed."""

    number: int
    content: queries.Content
    problem: str = ""  # in words, with the fix; "" when the journal could be read


class JournalView:
    """Reads one journal file; safe to use from several threads."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._seen: object = None
        self._look = Look(0, queries.EMPTY)
        self._kept = Kept()

    def look(self) -> Look:
        """Return the journal's current content, or the last readable one together with the problem."""
        with self._lock:
            try:
                self._read_if_new()
            except (sqlite3.Error, OSError, ValueError, LookupError) as error:
                self._close()
                self._remember(self._look.content, _in_words(error, self._path))
            return self._look

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold one read transaction on a connection of the caller's own.

        Raises:
            sqlite3.Error, OSError: The journal cannot be read now.
        """
        db = _connect(self._path)
        try:
            db.execute("BEGIN")
            yield db
        finally:
            db.close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _read_if_new(self) -> None:
        file = os.stat(self._path)
        if self._db is None:
            self._db = _connect(self._path)
        seen = (file.st_dev, file.st_ino, self._db.execute("PRAGMA data_version").fetchone()[0])
        if seen == self._seen:
            return
        if isinstance(self._seen, tuple) and seen[:2] != self._seen[:2]:
            self._reopen()
        self._remember(_read(self._db, self._kept), "")
        self._seen = seen

    def _reopen(self) -> None:
        """Follow the path to a file that was put in the old one's place."""
        self._close()
        self._db = _connect(self._path)

    def _remember(self, content: queries.Content, problem: str) -> None:
        is_news = content != self._look.content or problem != self._look.problem
        self._look = Look(self._look.number + is_news, content, problem)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db, self._seen = None, None


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db


def _read(db: sqlite3.Connection, kept: Kept) -> queries.Content:
    db.execute("BEGIN")
    try:
        return queries.read_content(db, kept)
    finally:
        db.execute("ROLLBACK")


# What SQLite's message begins with → what the owner reads.
_PROBLEMS = {
    "unable to open": "the journal {path} cannot be opened: is the executor running, and is --db right?",
    "no such table": "the journal {path} has different tables than this version expects: start its executor",
    "no such column": "the journal {path} has different columns than this version expects: start its executor",
    "database is locked": "the journal {path} is locked by another program: close that program (this is its last state)",
    "file is not a database": "the journal {path} is damaged or not a journal: stop the executor and restore a backup",
    "database disk image": "the journal {path} is damaged: stop the executor and restore a backup",
    "attempt to write a readonly": "the journal {path} cannot be read without its executor: start the executor",
}


def _in_words(error: Exception, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no journal {path.name} yet: the executor creates it when it starts"
    text = str(error)
    for beginning, words in _PROBLEMS.items():
        if text.startswith(beginning):
            return words.format(path=path.name)
    return f"the journal {path.name} cannot be read ({text}): stop the executor and check the file"
