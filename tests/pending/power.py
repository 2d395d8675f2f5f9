"""A disk that can lose power: an SQLite VFS that keeps what was not synced apart.

Reads see everything that was written, as with a real page cache. The platter
holds what was synced; at a cut some of the rest has reached it, some has not,
and one write may be torn.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from relay.pending.sqlite import prepare

Write = tuple[int, bytes | None]  # offset and bytes; None: cut off at this length


@dataclass
class Platter:
    """One file as the disk has it, and the writes that the disk may or may not have."""

    synced: bytearray = field(default_factory=bytearray)
    loose: list[Write] = field(default_factory=list)

    def sync(self) -> None:
        for write in self.loose:
            apply(self.synced, write)
        self.loose.clear()

    def after_cut(self, dice: random.Random) -> bytes:
        """Return what is found when the power is back."""
        found = bytearray(self.synced)
        for offset, data in self.loose:
            if dice.random() < 0.5:
                torn = data is not None and dice.random() < 0.1
                apply(found, (offset, data[: dice.randrange(len(data))] if torn and data else data))
        return bytes(found)


def apply(content: bytearray, write: Write) -> None:
    offset, data = write
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class Disk(apsw.VFS):
    """The file system; `at_step` is called before every write and sync."""

    def __init__(self, name: str, at_step: Callable[[], None] = lambda: None) -> None:
        super().__init__(name, "")
        self.name, self.at_step = name, at_step
        self.platters: dict[str, Platter] = {}
        self.is_full = False

    def xOpen(self, name: Any, flags: list[int]) -> File:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return File(path, flags, self)

    def xDelete(self, path: str, sync: bool) -> None:
        super().xDelete(path, sync)
        self.platters.pop(path, None)

    def image(self, dice: random.Random) -> dict[str, bytes]:
        """Return file name -> content as found after a cut at this instant."""
        return {Path(path).name: platter.after_cut(dice) for path, platter in self.platters.items()}


class File(apsw.VFSFile):
    """One open file."""

    def __init__(self, path: str, flags: list[int], disk: Disk) -> None:
        super().__init__("", path, flags)
        self.disk = disk
        self.platter = disk.platters.setdefault(path, Platter())

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.at_step()
        if self.disk.is_full:
            raise apsw.FullError("no space left")
        super().xWrite(data, offset)
        self.platter.loose.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self.platter.loose.append((size, None))

    def xSync(self, flags: int) -> None:
        self.disk.at_step()
        super().xSync(flags)
        self.platter.sync()


class Cursor:
    """An apsw cursor with the part of sqlite3's that the queue uses."""

    def __init__(self, connection: apsw.Connection, cursor: apsw.Cursor) -> None:
        self.lastrowid, self.rowcount = connection.last_insert_rowid(), connection.changes()
        self._cursor = cursor

    def fetchone(self) -> Any:
        return next(self._cursor, None)

    def fetchall(self) -> list[Any]:
        return list(self._cursor)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)


class Connection:
    """An apsw connection on such a disk with the part of sqlite3's that the queue uses."""

    def __init__(self, path: str, disk: Disk) -> None:
        self._connection = apsw.Connection(path, vfs=disk.name)
        self.execute("PRAGMA locking_mode = EXCLUSIVE")  # a VFS in Python has no shared memory

    def execute(self, sql: str, values: Any = None) -> Cursor:
        try:
            return Cursor(self._connection, self._connection.execute(sql, values))
        except apsw.Error as exc:
            raise sqlite3.OperationalError(str(exc)) from exc

    def close(self) -> None:
        try:
            self._connection.close()
        except apsw.Error as exc:
            raise sqlite3.OperationalError(str(exc)) from exc


_names = iter(range(1_000_000))


def new_disk(at_step: Callable[[], None] = lambda: None) -> Disk:
    return Disk(f"disk-{next(_names)}", at_step)


def open_on(disk: Disk, *pragmas: str) -> Callable[[str], Any]:
    """Return an opener for SqlitePending on this disk; pragmas are applied last."""

    def open_it(path: str) -> Any:
        connection = prepare(Connection(path, disk))  # type: ignore[arg-type]
        for pragma in pragmas:
            connection.execute(pragma)
        return connection

    return open_it


class Steps:
    """Calls `cut` at some of the disk's steps, chosen by the dice."""

    def __init__(self, dice: random.Random, every: int, cut: Callable[[], None]) -> None:
        self._dice, self._every, self._cut = dice, every, cut
        self._left, self._guard = dice.randint(1, every), threading.Lock()

    def __call__(self) -> None:
        with self._guard:
            self._left -= 1
            if self._left > 0:
                return
            self._left = self._dice.randint(1, 2 * self._every)
        self._cut()
