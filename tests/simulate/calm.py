"""What must not be on days that are easy: without a fault no page, and no alert not traded without its reason; and after
troubles that leave everything to be read, no hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from tests.simulate.records import JournalSide, Row
from tests.simulate.sizes import named
from tests.simulate.world import SIZES

SENDERS_DOING = "size differs"  # a page about what a strategy does, not about what went wrong


def quiet(journal: JournalSide) -> Iterator[str]:
    """Return every page that was raised."""
    for alarm in journal.rows("SELECT key, text FROM alarms WHERE level = 'page' AND kind <> ?", SENDERS_DOING):
        yield f"without any fault an alarm was raised: {alarm['key']}: {alarm['text']}"


def unfounded(journal: JournalSide) -> Iterator[str]:
    """Return every verdict that the trades of its moment do not explain: else doing nothing would break no rule."""
    for row in journal.rows("SELECT * FROM inbox WHERE state = 'done'"):
        explained = REASONS.get(row["outcome"], lambda *_: True)
        if row["action"] == "protect":
            explained = _protect_explained
        if not explained(journal, row):
            yield f"{row['action']} {row['side'] or ''} {row['symbol']} is {row['outcome']}: {row['reason']}"


def knowable(journal: JournalSide) -> Iterator[str]:
    """Return every hold: nobody may be asked for what the broker tells."""
    for alarm in journal.rows("SELECT text FROM alarms WHERE kind = 'hold'"):
        yield alarm["text"]


def _ignored(journal: JournalSide, row: Row) -> bool:
    """One trade per symbol: one on its side was there, and was not to become smaller. Or the strategy's position was gone."""
    sql = """SELECT * FROM trades WHERE symbol = ? AND signal = ? AND timestamp <= ?
             AND (closed_at IS NULL OR closed_at >= ?)"""
    trades = journal.rows(sql, row["symbol"], row["side"], row["decided_at"], row["received_at"])
    if not trades:
        held = ("long" if row["side"] == "buy" else "short") if row["side"] else None
        return bool(row["late"]) or (held is not None and row["prev_market_position"] == held)
    return row["market_position"] is None or any(_size(row) > _size_before(journal, trade, row) for trade in trades)


def _size(row: Row) -> Decimal:
    return Decimal(row["quantity"])


def _size_before(journal: JournalSide, trade: Row, row: Row) -> Decimal:
    """Return the size that a trade had, or was to have, when a signal was decided."""
    sql = "SELECT * FROM inbox WHERE trade_id = ? AND outcome = 'reduced' AND seq < ? ORDER BY seq"
    size = Decimal(str(trade["position_size"]))
    for before in filter(None, map(named, journal.rows(sql, trade["id"], row["seq"]))):
        size = before.left(size)
    return size


def _protect_explained(journal: JournalSide, row: Row) -> bool:
    """It is never too old, and never refused where nothing is wrong."""
    return row["outcome"] not in ("refused", "expired")


def _refused(journal: JournalSide, row: Row) -> bool:
    """It cannot be ordered, the market had passed one of its exits, or the last trade of its side took profit."""
    if row["action"] == "close":  # of a part that is smaller than can be traded
        return "less than can be traded" in row["reason"]
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
            exits = (row[name] if (row[name] or "").replace(".", "").isdigit() else None for name in ("sl", "tp"))
            stop, target = ((Decimal(each) - price) * sign if each else None for each in exits)
            if (stop is not None and stop >= 0) or (target is not None and target <= 0):
                return True
    return False


def _nothing_to_do(journal: JournalSide, row: Row) -> bool:
    """No trade was open; or a strategy had on its side what it holds."""
    if row["market_position"] in ("long", "short"):
        sql = "SELECT * FROM trades WHERE symbol = ? AND signal = ? AND timestamp <= ?"
        trades = journal.rows(sql, row["symbol"], row["side"], row["decided_at"])
        return any(_size(row) == _size_before(journal, trade, row) for trade in trades)
    sql = "SELECT 1 FROM trades WHERE symbol = ? AND timestamp < ? AND (closed_at IS NULL OR closed_at > ?)"
    return not journal.rows(sql, row["symbol"], row["received_at"], row["decided_at"])


REASONS: dict[str, Callable[[JournalSide, Row], bool]] = {
    "ignored": _ignored, "refused": _refused, "nothing to do": _nothing_to_do, "expired": lambda *_: False,
}  # fmt: skip
