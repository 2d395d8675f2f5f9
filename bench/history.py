"""A journal with a long past: a real executor trades a short story, which is then multiplied by SQL.

So the rows are those that this version writes, whatever its words and columns are. Each copy lies further in the
past, with ids, references and instants of its own; what describes the present (contracts, account, blocks) stays.

    python -m bench.history FILE [EVENTS]
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from bench.systems import JOURNAL, System, control_of, whole
from executor.paper.control import ControlClient

EVENTS = 1_000_000
SPAN = timedelta(days=730)
SYMBOLS = (
    "EURUSD", "GBPUSD", "AUDUSD", "AAPL", "MSFT", "AMZN", "META", "NVDA", "TSLA", "NFLX", "AMD", "INTC", "QCOM", "ADBE",
    "IBM", "JPM", "KO", "DIS", "WMT", "F",
)  # fmt: skip
ENDINGS = ("close", "take-profit", "stop-loss", "reversal")
ALARMS = 5_000
# Tables that say how things are, or are bookkeeping: they keep the story's rows.
PRESENT = {
    "meta", "live", "contracts", "order_ids", "blocks", "ignored_holdings", "alarms", "sqlite_sequence",
    "signal_tallies", "delay_tallies",
}  # fmt: skip

given: list[Path] = []  # the journal that --journal names, if it was used


@functools.cache
def ready_made(events: int = EVENTS) -> Path:
    """Return a journal with so many events, made once in the life of this process and removed at its end.

    One that was made before (`--journal`) is taken as it is.
    """
    if given:
        return given[0]
    folder = Path(tempfile.mkdtemp(prefix="history-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    story = record(folder / "story")
    path = folder / f"{events}.db"
    multiply(story, path, events)
    return path


# --- the story --------------------------------------------------------------------------------------


def record(folder: Path, symbols: tuple[str, ...] = SYMBOLS) -> Path:
    """Trade the story on a system of its own; return its journal, in which every trade is closed."""
    with whole(folder) as system, control_of(system) as market:
        for number, symbol in enumerate(symbols):
            _trade(system, market, symbol, ENDINGS[number % len(ENDINGS)])
        _wait_until(system, "SELECT NOT EXISTS (SELECT 1 FROM trades WHERE closed = 0)")
        time.sleep(0.5)  # commissions, and the signals' last words
    return folder / JOURNAL


def _trade(system: System, market: ControlClient, symbol: str, ending: str) -> None:
    """Open a trade, be told the same again, and end it in this way."""
    price = market.price(symbol)
    low, high = (_near(price * share, price) for share in (Decimal("0.9"), Decimal("1.1")))
    what: dict[str, object] = {"symbol": symbol, "quantity": 20000 if len(symbol) == 6 else 10, "tp": high, "sl": low}
    system.open(what)
    system.send(action="open", side="buy", **what, note="again")  # ignored: a trade in it is open
    _wait_until(system, f"SELECT outcome FROM inbox WHERE symbol = '{symbol}' AND note = 'again'")
    if ending == "close":
        system.close_trade(symbol)
    elif ending == "reversal":
        system.open(what, "sell")
        system.close_trade(symbol, "BUY")
    else:
        beyond = Decimal("1.12") if ending == "take-profit" else Decimal("0.88")
        market.set_price(symbol, _near(price * beyond, price))
        system.truth.next(event="filled", symbol=symbol, action="SELL")
        market.set_price(symbol, price)


def _near(price: Decimal, example: Decimal) -> str:
    """Return a price with as many decimals as a round one of its size has."""
    return str(round(price, 2 if example > 10 else 3))


def _wait_until(system: System, question: str) -> None:
    """Ask the journal until the answer is a true value. Raises RuntimeError if that takes too long."""
    assert system.journal
    deadline = time.monotonic() + 20
    with contextlib.closing(sqlite3.connect(f"{system.journal.as_uri()}?mode=ro", uri=True)) as db:
        while not (row := db.execute(question).fetchone()) or not row[0]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the journal still says no: {question}")
            time.sleep(0.02)


# --- many copies of it ------------------------------------------------------------------------------


def multiply(story: Path, path: Path, events: int) -> None:
    """Write a journal with so many events or a few more: copies of a story, the oldest first."""
    shutil.copyfile(story, path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -200000")
        db.execute("ATTACH ? AS story", (str(story),))
        copies = -(-events // _number(db, "SELECT count(*) FROM story.events"))
        db.execute("CREATE TEMP TABLE copies AS WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n "
                   "WHERE n + 1 < ?) SELECT n FROM n", (copies,))  # fmt: skip
        tables = [row[0] for row in db.execute("SELECT name FROM story.sqlite_master WHERE type = 'table'")]
        db.execute("BEGIN")
        db.execute("DELETE FROM main.signal_tallies")  # the rows are counted as they are copied
        db.execute("UPDATE main.delay_tallies SET trades = 0, seconds = 0")
        for table in tables:
            if table not in PRESENT:
                _copy(db, table, copies)
        _settle(db, copies)
        db.execute("COMMIT")


def _number(db: sqlite3.Connection, sql: str) -> int:
    return int(db.execute(sql).fetchone()[0] or 0)


def _copy(db: sqlite3.Connection, table: str, copies: int) -> None:
    """Replace a table's rows by copies of the story's, each with keys and instants of its own."""
    columns = [(row["name"], row["pk"]) for row in _columns(db, table)]
    minutes = max(1, int(SPAN.total_seconds() / 60 / copies))
    values = [_value(db, table, name, bool(key), minutes, copies) for name, key in columns]
    names = ", ".join(name for name, _ in columns)
    db.execute(f"DELETE FROM main.{table}")
    db.execute(f"INSERT INTO main.{table} ({names}) SELECT {', '.join(values)} FROM copies, story.{table} "
               f"ORDER BY copies.n, {table}.rowid")  # fmt: skip


def _columns(db: sqlite3.Connection, table: str) -> list[sqlite3.Row]:
    cursor = db.cursor()
    cursor.row_factory = sqlite3.Row
    return cursor.execute(f"PRAGMA story.table_info({table})").fetchall()


def _value(db: sqlite3.Connection, table: str, name: str, is_key: bool, minutes: int, copies: int) -> str:
    """Return the SQL of a column's value in copy `n`."""
    column = f"{table}.{name}"
    if name in _KEYS:
        return _KEYS[name](column)
    if name in ("order_id", "entry_order_id", "tp_order_id", "sl_order_id"):
        return f"{column} + n * {_number(db, 'SELECT max(order_id) FROM story.orders')}"
    if name == "perm_id":
        return f"iif({column} = 0, 0, {column} + n * {_number(db, 'SELECT count(*) FROM story.orders')})"
    if name == "trade_id" or (table, name) == ("trades", "id"):
        return f"{column} + n * {_number(db, 'SELECT max(id) FROM story.trades')}"
    if is_key and isinstance(_sample(db, table, name), int):
        return f"{column} + n * {_number(db, f'SELECT max({name}) FROM story.{table}')}"
    ago = f"printf('-%d minutes', ({copies} - n) * {minutes})"
    if name == "sent_day":
        return f"date({column}, {ago})"
    if _is_instant(_sample(db, table, name)):
        return f"strftime('%Y-%m-%dT%H:%M', substr({column}, 1, 16), {ago}) || substr({column}, 17)"
    return column


# columns that are a key in other tables' eyes too -> the SQL of it in copy `n`, in the form that such keys have
_KEYS: dict[str, Callable[[str], str]] = {
    "signal_id": lambda column: f"substr({column}, 1, 19) || printf('%07d', n)",
    "order_ref": lambda column: f"substr({column}, 1, 13) || printf('%07d', n) || substr({column}, 21)",
    "parent_ref": lambda column: f"substr({column}, 1, 13) || printf('%07d', n) || substr({column}, 21)",
    "exec_root": lambda column: f"substr({column}, 1, 9) || printf('%08x', n) || substr({column}, 18)",
    "exec_id": lambda column: f"substr({column}, 1, 9) || printf('%08x', n) || substr({column}, 18)",
}


def _sample(db: sqlite3.Connection, table: str, name: str) -> object:
    row = db.execute(f"SELECT {name} FROM story.{table} WHERE {name} IS NOT NULL LIMIT 1").fetchone()
    return row[0] if row else None


def _is_instant(value: object) -> bool:
    return isinstance(value, str) and value[4:5] == value[7:8] == "-" and value[10:11] == "T" and value.endswith("Z")


def _settle(db: sqlite3.Connection, copies: int) -> None:
    """Have the present speak of the last copy, and put alarms that are over into the past."""
    trades = _number(db, "SELECT max(id) FROM story.trades")
    db.execute("UPDATE main.blocks SET trade_id = trade_id + ?", ((copies - 1) * trades,))
    db.execute("UPDATE main.order_ids SET next = 1 + (SELECT max(order_id) FROM main.orders)")
    db.execute("DELETE FROM main.alarms")
    every = 1 + _number(db, "SELECT count(*) FROM main.events") // ALARMS
    db.execute(_PAST_ALARMS, (every,))


_PAST_ALARMS = """
INSERT INTO main.alarms (key, kind, level, symbol, text, raised_at, cleared_at, cleared_text, told_at, clear_told)
SELECT 'clock:', 'clock', 'warn', '', 'this machine''s clock is 3 s behind', at, at, 'it is right again', at, 1
FROM main.events WHERE id % ? = 0
"""


if __name__ == "__main__":
    multiply(record(Path(tempfile.mkdtemp()) / "story"), Path(sys.argv[1]), int((*sys.argv, str(EVENTS))[2]))
