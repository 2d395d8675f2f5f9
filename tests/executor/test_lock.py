"""One executor per journal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.clock import SystemClock
from executor.journal.lock import AlreadyRunning, JournalLock

HOLD = """
import sys
from pathlib import Path
from common.clock import SystemClock
from executor.journal.lock import JournalLock
lock = JournalLock(Path(sys.argv[1]))
lock.take(SystemClock())
print("held", flush=True)
sys.stdin.read()
"""


def test_second_is_refused_while_the_first_holds_it_and_the_holder_named(tmp_path: Path) -> None:
    journal = tmp_path / "trade_state.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(journal)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=f"process {holder.pid} on .*trade_state.db.lock; stop it first"):
            JournalLock(journal).take(SystemClock())
    finally:
        holder.kill()
        holder.communicate()
    after = JournalLock(journal)
    after.take(SystemClock())  # the system gave the dead holder's lock back
    after.release()


def test_released_lock_is_free_and_the_file_stays(tmp_path: Path) -> None:
    first, second = JournalLock(tmp_path / "j.db"), JournalLock(tmp_path / "j.db")
    first.take(SystemClock())
    with pytest.raises(AlreadyRunning):
        second.take(SystemClock())
    first.release()
    first.release()
    second.take(SystemClock())
    second.release()
    assert first.path.exists()


def test_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AlreadyRunning, match=r"the journal's folder must exist"):
        JournalLock(tmp_path / "none" / "j.db").take(SystemClock())
