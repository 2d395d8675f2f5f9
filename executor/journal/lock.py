"""One executor per journal: a lock file next to it."""

from __future__ import annotations

from pathlib import Path

from common.lockfile import AlreadyRunning, LockFile

__all__ = ["AlreadyRunning", "JournalLock"]


class JournalLock(LockFile):
    """The lock of one journal."""

    def __init__(self, journal: Path) -> None:
        journal = journal.resolve()  # one journal under two names is one journal
        super().__init__(
            journal.with_name(journal.name + ".lock"),
            taken="another executor trades with this journal",
            folder="the journal's folder must exist and be writable (--db)",
        )
