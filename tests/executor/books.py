"""What must hold of a book at any time, whatever happened: used by unit tests, the state machine and the simulation."""

from __future__ import annotations

from typing import Any

from executor.desk.book import KEPT, Book
from executor.desk.desk import Desk


def contents(book: Book) -> dict[str, Any]:
    """Return everything that a book holds and a restart would load."""
    since = book._clock.now() - KEPT
    trades = {t.id: t for t in book._trades.values() if not t.closed or (t.closed_at and t.closed_at >= since)}
    return {
        "trades": trades,
        "foreign": {e.exec_root: e for e in book._foreign.values() if e.at >= since},
        "signals": {r.seq: r for r in book.undone()},
        "blocks": set(book._blocks.values()),
        "holdings": set(book._holdings.values()),
        "meanings": set(book._meanings.values()),
        "chains": set(book._chains.values()),
        "alarms": {a.key: a for a in book._alarms.values()},
        "numbers": set(book._numbers.values()),
        "traded": set(book.traded),
        "orders": {ref for t in trades.values() for ref in (o.order_ref for o in t.orders)},
        "open": {con_id: ids for con_id, ids in book._open.items() if ids},
        "ended": {symbol: kept for symbol, ids in book._ended.items() if (kept := ids & trades.keys())},
    }


def check_restart(desk: Desk) -> None:
    """The book in memory equals the one that a restart would build from the journal."""
    lost, built = contents(desk.book), contents(Book(desk._journal, desk._clock))
    for kind, found in lost.items():
        assert found == built[kind], f"the book and the journal differ in their {kind}: {found} != {built[kind]}"


def check_at_rest(desk: Desk) -> None:
    """Nothing is left to do that nobody woke: worked on again, every trade and every signal stays as it is."""
    if not desk.can_send or desk.agenda.has_work or desk._broker.is_paced or desk.gate.resends:
        return  # what TWS is sent in its own time is looked at twice a second
    db, want, sent = desk._journal._db, desk.gate.want_snapshot, []
    before, flush = db.total_changes, desk._outbox.flush
    desk.gate.want_snapshot = lambda why: None
    desk._outbox.flush = lambda: sent.append(len(desk._outbox._waiting)) or desk._outbox.drop()  # type: ignore[method-assign,func-returns-value]
    due = dict(desk.agenda._due)
    try:
        desk.agenda.wake(desk._clock.now())  # what is due is no omission; the next tick would do it
        if desk.agenda.has_work:
            return
        desk._touch_all()
        desk.advance()
    finally:
        desk.gate.want_snapshot = want
        desk._outbox.flush = flush  # type: ignore[method-assign]
    assert db.total_changes == before and not any(sent), f"something was left undone; due was {due}"
