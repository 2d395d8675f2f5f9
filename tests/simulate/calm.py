"""What must not be on days that are easy: without a fault no page, and no alert not traded without its reason; and after
troubles that leave everything to be read, no hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from tests.simulate.records import JournalSide, Row
from tests.simulate.world import SIZES


def quiet(journal: JournalSide) -> Iterator[str]:
    """Return every page that was raised."""
    for alarm in journal.rows("SELECT key, text FROM alarms WHERE level = 'page'"):
        yield f"without any fault an alarm was raised: {alarm['key']}: {alarm['text']}"


def unfounded(journal: JournalSide) -> Iterator[str]:
    """Return every verdict that the trades of its moment do not explain: else doing nothing would break no rule."""
    for row in journal.rows("SELECT * FROM inbox WHERE state = 'done'"):
        explained = REASONS.get(row["outcome"], lambda *_: True)
        if not explained(journal, row):
            yield f"{row['action']} {row['side'] or ''} {row['symbol']} is {row['outcome']}: {row['reason']}"


def knowable(journal: JournalSide) -> Iterator[str]:
    """Return every hold: nobody may be asked for what the broker tells."""
    for alarm in journal.rows("SELECT text FROM alarms WHERE kind = 'hold'"):
        yield alarm["text"]


def _ignored(journal: JournalSide, row: Row) -> bool:
    """One trade per symbol: one on its side was there."""
    sql = """SELECT 1 FROM trades WHERE symbol = ? AND signal = ? AND timestamp <= ?
             AND (closed_at IS NULL OR closed_at >= ?)"""
    return bool(journal.rows(sql, row["symbol"], row["side"], row["decided_at"], row["received_at"]))


def _refused(journal: JournalSide, row: Row) -> bool:
    """It cannot be ordered, the market had passed one of its exits, or the last trade of its side took profit."""
    if SIZES.get(row["symbol"]) != float(row["quantity"]) or _has_passed(journal, row):
        return True
    sql = "SELECT tp_hit FROM trades WHERE symbol = ? AND signal = ? AND closed_at <= ? ORDER BY closed_at DESC LIMIT 1"
    last = journal.one(sql, row["symbol"], row["side"], row["decided_at"])
    return last is not None and bool(last["tp_hit"])


def _has_passed(journal: JournalSide, row: Row) -> bool:
    """Whether the market stood on or beyond an exit of this entry before it was decided."""
    sign = 1 if row["side"] == "buy" else -1
    for at, symbol, price in journal.prices:
        if symbol == row["symbol"] and at <= row["decided_at"]:
            stop, target = ((Decimal(row[name]) - price) * sign if row[name] else None for name in ("sl", "tp"))
            if (stop is not None and stop >= 0) or (target is not None and target <= 0):
                return True
    return False


def _nothing_to_do(journal: JournalSide, row: Row) -> bool:
    """No trade was open; or a strategy had on its side what it holds."""
    if row["market_position"] in ("long", "short"):
        held = "SELECT 1 FROM trades WHERE symbol = ? AND signal = ? AND position_size = ? AND timestamp <= ?"
        return bool(journal.rows(held, row["symbol"], row["side"], float(row["quantity"]), row["decided_at"]))
    sql = "SELECT 1 FROM trades WHERE symbol = ? AND timestamp < ? AND (closed_at IS NULL OR closed_at > ?)"
    return not journal.rows(sql, row["symbol"], row["received_at"], row["decided_at"])


REASONS: dict[str, Callable[[JournalSide, Row], bool]] = {
    "ignored": _ignored, "refused": _refused, "nothing to do": _nothing_to_do, "expired": lambda *_: False,
}  # fmt: skip
