"""One program at a time: a lock file, which the system releases when its holder dies."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from common.clock import Clock, utc_text
from common.errors import BridgeError

# The locked byte lies far behind the text, so that Windows lets others read who holds the lock.
_LOCKED_BYTE = 1 << 30

if sys.platform == "win32":
    import msvcrt

    def _take(file: IO[bytes]) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


class AlreadyRunning(BridgeError):
    """Somebody else holds the lock; the text names it. End with a code other than 0."""

    code = "already-running"


class LockFile:
    """A lock, held until `release` or the end of the process.

    Args:
        taken: Begins the error when another process holds it; the holder follows.
        folder: Ends the error when the file cannot be opened: what to do about its folder.
    """

    def __init__(self, path: Path, *, taken: str, folder: str) -> None:
        self.path, self._taken, self._folder = path, taken, folder
        self._file: IO[bytes] | None = None

    def take(self, clock: Clock, wait: Callable[[float], object] | None = None, tries: int = 1) -> None:
        """Take the lock, and write into it who holds it.

        Raises:
            AlreadyRunning: Somebody else holds it, also after `tries` tries a second apart.
        """
        file = self._open()
        for left in range(tries - 1, -1, -1):
            try:
                _take(file)
                break
            except OSError:
                if not left or wait is None:
                    file.close()
                    raise AlreadyRunning(self._held()) from None
                wait(1.0)
        self._file = file
        file.seek(0)
        file.truncate()
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_text(clock.now())}
        file.write(json.dumps(holder).encode())
        file.flush()

    def release(self) -> None:
        """Give the lock back. The file stays: to delete it would let two processes lock two files."""
        if self._file:
            self._file.close()
            self._file = None

    def _open(self) -> IO[bytes]:
        try:
            return open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        except OSError as exc:
            raise AlreadyRunning(
                f"the lock file {self.path} cannot be opened: {exc.strerror or exc}; {self._folder}"
            ) from exc

    def _held(self) -> str:
        try:
            holder = json.loads(self.path.read_bytes())
            who = f"process {holder['pid']} on {holder['host']}, started {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "an unnamed process"
        return f"{self._taken}: {who} holds {self.path}; stop it first"
