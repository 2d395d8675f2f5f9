"""Private files: readable and writable by their owner only."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_BESIDE = ("", "-wal", "-shm", "-journal")  # SQLite's own files; new ones inherit the database's mode


def make_database_private(path: str | os.PathLike[str]) -> None:
    """Make a database file, if there is none, that only its owner can read; close one that is open to others.

    Call it before SQLite opens the file, which would create it as the umask allows. On Windows the folder's access
    list decides, and an owner of the file who is somebody else keeps it as it is.

    Raises:
        OSError: It cannot be created.
    """
    with contextlib.suppress(FileExistsError):  # as nearly always
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    if os.name == "posix":
        for suffix in _BESIDE:
            _close_to_others(Path(f"{os.fspath(path)}{suffix}"))


def _close_to_others(path: Path) -> None:
    """An earlier version created it, or a crash left it."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & _OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
