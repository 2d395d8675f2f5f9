"""A copy of a SQLite database that is in use: whole, checked, readable by its owner only."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path


class BackupFailed(Exception):
    """No copy was made; the text says why and what to do."""


def copy_database(source: Path, target: Path) -> int:
    """Copy a database as it is now, even while others write to it; return the copy's size in bytes.

    The copy is one file, complete without any `-wal` beside it, mode 0600, and was read through once.

    Raises:
        BackupFailed: There is no such database, the target exists already, or the disk refuses.
    """
    if not source.is_file():
        raise BackupFailed(f"{source} is no file; name the database that is in use")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise BackupFailed(f"{target} is there already and is not overwritten; name another") from None
    except OSError as exc:
        raise BackupFailed(f"{target} cannot be made ({exc.strerror})") from exc
    try:
        with contextlib.closing(sqlite3.connect(source, timeout=10, isolation_level=None)) as db:
            db.execute("VACUUM INTO ?", (str(target),))
        with contextlib.closing(sqlite3.connect(f"{target.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            damage = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    except (OSError, sqlite3.Error) as exc:
        target.unlink(missing_ok=True)
        raise BackupFailed(f"{source} could not be copied to {target}: {exc}") from exc
    if damage != "ok":
        raise BackupFailed(f"{target} was written but is damaged ({damage}): the database itself may be")
    return target.stat().st_size
