"""What is dear to make and is only read: made once in a run, by whichever worker needs it first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.clock import SystemClock
from executor.journal.lock import AlreadyRunning, JournalLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled once in this run. Who changes something in it changes it for all."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
    complete = folder.with_name(f"{folder.name}-complete")
    with alone(folder):
        if not complete.exists():
            folder.mkdir()  # fails for all where it failed for the first: nobody takes half of it
            make(folder)
            complete.touch()
    return folder


@contextmanager
def alone(path: Path, seconds: float = 100) -> Iterator[None]:
    """Let no other test in here meanwhile, whichever process it runs in."""
    lock, deadline = JournalLock(path.with_name(f"{path.name}.db")), time.monotonic() + seconds
    while True:
        try:
            lock.take(SystemClock())
            break
        except AlreadyRunning:
            assert time.monotonic() < deadline, f"{path.name} is being made for {seconds} s"
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()
