"""What a death leaves on the disk, judged before the next life begins: the journal's file, and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from common.clock import SystemClock
from executor.desk.book import Book
from executor.journal.journal import Journal
from tests.executor.books import contents

# What no commit may leave, in words; a death shows it to the next life.
HALF_DONE = """
    SELECT 'signal ' || signal_id || ' has entered, and its orders are not written down' FROM inbox
    WHERE outcome = 'entered' AND signal_id NOT IN (
        SELECT trades.signal_id FROM trades JOIN orders ON trade_id = trades.id WHERE leg = 'E' AND order_id IS NOT NULL)
    UNION ALL
    SELECT 'trade ' || id || ' is there, and its signal is not decided' FROM trades
    WHERE signal_id IN (SELECT signal_id FROM inbox WHERE state <> 'done')
    UNION ALL
    SELECT 'trade ' || id || ' is to come down to ' || shrink_to || ', and its signal is not decided' FROM trades
    WHERE shrink_to IS NOT NULL AND shrink_for NOT IN (SELECT signal_id FROM inbox WHERE state = 'done')
    UNION ALL
    SELECT 'order ' || order_ref || ' reduces, and no signal is decided that asked for it' FROM orders
    WHERE leg = 'X' AND signal_id NOT IN (SELECT signal_id FROM inbox WHERE state = 'done' AND trade_id = orders.trade_id)
    UNION ALL
    SELECT 'trade ' || id || ' is on hold, and its alarm is not open' FROM trades
    WHERE state = 'hold' AND 'hold:' || id NOT IN (SELECT key FROM alarms WHERE cleared_at IS NULL)
    UNION ALL
    SELECT 'order ' || order_ref || ' has filled ' || filled || ', and its fills are something else' FROM orders
    WHERE CAST(filled AS REAL) <> (
        SELECT total(CAST(quantity AS REAL)) FROM fills WHERE fills.order_ref = orders.order_ref)
"""


def wrong(journal: Path) -> list[str]:
    """Return what a dead executor may not have left; a copy is read, so that the next life finds the file as it was."""
    with tempfile.TemporaryDirectory(prefix="crash-remains-") as folder:
        copy = Path(folder) / journal.name
        for found in journal.parent.glob(f"{journal.name}*"):
            if found.name in (journal.name, f"{journal.name}-wal"):
                shutil.copyfile(found, copy.with_name(found.name))
        return list(_judged(copy))


def _judged(path: Path) -> Iterator[str]:
    clock, books = SystemClock(), []
    for _ in range(2):
        with closing(Journal.open(path, clock)) as journal:
            books.append(contents(Book(journal, clock)))
            rows = journal._rows(HALF_DONE)
    yield from (str(text) for (text,) in rows)
    yield from (
        f"the {kind} differ when they are loaded again" for kind in books[0] if books[0][kind] != books[1][kind]
    )
