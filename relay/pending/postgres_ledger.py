"""What the PostgreSQL queue does inside one transaction (READ COMMITTED).

Other relays work on the same tables at the same time. The order of the steps
is what makes that safe: lock the rows of the symbols, in the order of their
names; then read (a later statement sees everything committed before the
lock); then write. Statements that do not need each other's answer travel
together (pipeline), which matters when the database is far away.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from common.clock import parse_utc, utc_text
from common.errors import BridgeError
from common.ids import new_id
from relay.pending import rules
from relay.pending.admission import Admission, Known
from relay.pending.base import (
    KEY_WINDOW,
    MAX_ATTEMPTS,
    MAX_HOLD,
    NOTICE_REPEATED,
    NOTICES_AT_ONCE,
    NOTICES_KEPT,
    REFUSED_KEPT,
    Accepted,
    AckResult,
    Consumer,
    DeadLetter,
    Leased,
    Lent,
    Mode,
    NewSignal,
    Notice,
    Refused,
    Stats,
    is_storable,
    storable,
)
from relay.pending.notices import dead_letter
from relay.pending.queries import load_queries
from relay.pending.rules import Picked, Waiting

QUERIES = load_queries("postgres_queries.sql")
Put = tuple[NewSignal, datetime]
Row = tuple[Any, ...]
NOBODY: Row = (0, "", "", None, 0)  # in the place of a signal that there is not
INSERTED = ("id", "symbol", "action", "dedupe_key", "fingerprint", "received_at", "expires_at", "payload")


class Connection(Protocol):
    """The part of psycopg's connection that is used here."""

    def execute(self, query: Any, params: Any = None) -> Any: ...
    def pipeline(self) -> AbstractContextManager[Any]: ...


class UnknownSymbols(Exception):
    """Symbols came for the first time and have no row to lock yet."""

    def __init__(self, symbols: list[str]) -> None:
        super().__init__(", ".join(symbols))
        self.symbols = symbols


class Ledger:
    """The queue's tables behind one connection, for one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # accepting

    def put_all(self, puts: list[Put], depth: int | None, max_depth: int) -> tuple[list[Any], int]:
        """Decide and store a batch; `depth` None asks the database for it.

        Returns one outcome a put, and the depth afterwards. An outcome is
        Accepted, one of our errors, or None: another relay stores a signal
        with this key right now, so it must be decided again.

        Raises:
            UnknownSymbols: Add them, commit, start again.
        """
        admission = self._read([new for new, _ in puts], depth, max_depth)
        outcomes: list[Any] = [_admit(admission, new, now) for new, now in puts]
        stored = self._store(admission)
        for id, notice in admission.notices:
            if id is None or id in stored:
                self.note(notice)
        if len(stored) < len(admission.fresh):  # what was decided beside it may have been decided by it
            outcomes = [one if isinstance(one, Accepted) and one.id in stored else None for one in outcomes]
        return outcomes, admission.depth + len(stored)

    def _read(self, news: list[NewSignal], depth: int | None, max_depth: int) -> Admission:
        symbols = sorted({new.symbol for new in news})
        keys = [new.dedupe_key for new in news if new.dedupe_key is not None]
        with self._connection.pipeline():
            heads = self._run("lock_symbols", symbols=symbols)
            known = self._run("known", ids=[new.id for new in news], keys=keys)
            counted = self._run("depth") if depth is None else None
        found = heads.fetchall()
        if len(found) < len(symbols):
            raise UnknownSymbols(sorted(set(symbols) - {row[0] for row in found}))
        admission = Admission(counted.fetchone()[0] if counted else depth or 0, max_depth)
        for id, key, fingerprint, at in known.fetchall():
            admission.know(Known(id, key, fingerprint, at))
        for symbol, id, fingerprint, at, position in found:
            if id is not None:
                admission.newest[symbol] = Known(id, None, fingerprint, at)
            if position is not None:
                admission.positions[symbol] = position
        return admission

    def add_symbols(self, symbols: list[str]) -> None:
        self._run("add_symbols", symbols=symbols)

    def _store(self, admission: Admission) -> set[str]:
        """Insert what is fresh and put it at the end of its symbol's line; return the ids stored."""
        if not admission.fresh:
            return set()
        if admission.forgotten:
            self._run("forget_keys", keys=admission.forgotten)
        columns = {name: [getattr(new, name) for new in admission.fresh] for name in INSERTED}
        columns["headers"] = [json.dumps(new.headers) for new in admission.fresh]
        seqs = dict(self._run("insert", **columns).fetchall())
        ends = [_end_of_line(news, seqs) for news in _by_symbol(admission.fresh, seqs)]
        if ends:
            self._run("append", **{name: [end[name] for end in ends] for name in ends[0]})
        return set(seqs)

    # delivering

    def lease(
        self, limit: int, seconds: float, now: datetime, consumer: Consumer | None = None
    ) -> tuple[Lent, datetime | None]:
        """Return what is leased, and when something held falls due if nothing is.

        Raises:
            AnotherConsumer: The queue is another consumer's.
        """
        if consumer is not None:
            self._claim(consumer, now)
            actual = self.mode()
            if again := self._again(consumer.id, rules.delivered_as(actual, consumer), limit, now):
                return Lent.of(actual, again), None
        actual, picked = self._pick(limit, now, consumer)
        while not picked.is_final:
            self._clear_heads(picked, now)
            actual, picked = self._pick(limit, now, consumer)
        if not picked.leased:
            return Lent.of(actual), self._run("next_due").fetchone()[0]
        mode = rules.delivered_as(actual, consumer)
        leased = self._lend(picked.leased, seconds, now, consumer.id if consumer else None)
        last = {row.symbol: row.seq for row in picked.leased}
        self._move_heads(self._overtake(last, now) if mode == "close-only" else dict.fromkeys(last, 0))
        return Lent.of(actual, leased), None

    def _pick(self, limit: int, now: datetime, consumer: Consumer | None) -> tuple[Mode, Picked]:
        """Return the queue's mode, and what is next for this consumer."""
        actual, lines = self._lock_next(limit, now, consumer)
        return actual, rules.pick(lines, limit, now)

    def _lock_next(self, limit: int, now: datetime, consumer: Consumer | None) -> tuple[Mode, list[Waiting]]:
        """Lock the symbols that are next, then read their lines, which nobody changes now."""
        with self._connection.pipeline():
            stored = self._run("get", name="mode")
            self._run("release", **_span(now))
            ready = self._run("lock_ready", limit=limit)
        row = stored.fetchone()
        actual = rules.as_mode(row[0] if row else "open")
        mode = rules.delivered_as(actual, consumer)
        if mode == "paused":
            return "paused", []
        if mode == "close-only":
            return mode, self._closing(limit, now)
        heads = ready.fetchall()
        symbols, seqs = [row[0] for row in heads], [row[1] for row in heads]
        return actual, _waiting(self._run("lines", symbols=symbols, heads=seqs, limit=limit)) if heads else []

    def _closing(self, limit: int, now: datetime) -> list[Waiting]:
        locked = self._run("lock_closing", limit=limit, **_span(now)).fetchall()
        symbols = [row[0] for row in locked]
        return _waiting(self._run("closing", symbols=symbols, limit=limit, **_span(now))) if symbols else []

    def _claim(self, consumer: Consumer, now: datetime) -> None:
        """Claim the queue; who claims it at the same instant is seen."""
        while True:
            before = self.get("consumer")
            claim = rules.claim(before, consumer, now)
            if claim is None or self._run("claim", claim=claim, before=before).fetchone():
                return

    def _again(self, consumer: str, mode: Mode, limit: int, now: datetime) -> list[Leased]:
        """Return what the consumer holds: it asks again, so the answer that gave it has not arrived.

        What waits for an earlier signal of its symbol is not given again before that one.
        """
        if mode == "paused":
            return []
        rows = _waiting(self._run("lent", consumer=consumer, mode=mode, limit=limit, **_span(now)))
        return [
            Leased(row.id, row.lease or "", row.attempts, row.received_at, json.loads(row.headers), row.payload)
            for row in rows
        ]

    def _lend(self, rows: list[Waiting], seconds: float, now: datetime, consumer: str | None) -> list[Leased]:
        lease, until = new_id(), rules.lease_end(now, seconds)
        self._run("lease", seqs=[row.seq for row in rows], lease=lease, until=until, consumer=consumer)
        return [
            Leased(row.id, lease, row.attempts + 1, row.received_at, json.loads(row.headers), row.payload)
            for row in rows
        ]

    def _clear_heads(self, picked: Picked, now: datetime) -> None:
        # The lease stays: a late ack of the last holder still counts.
        self._bury([(row.seq, row.lease, rules.exhausted_reason(row)) for row in picked.exhausted], now)
        self._move_heads(picked.heads_to_move())

    def _overtake(self, last: dict[str, int], now: datetime) -> dict[str, int]:
        """Set the opens aside that a delivery leaves behind; return symbol -> how many."""
        symbols, seqs = list(last), list(last.values())
        rows = self._run("overtaken", symbols=symbols, seqs=seqs).fetchall()
        self._bury([(seq, None, rules.OVERTAKEN) for seq, _ in rows], now)
        overtaken = Counter(symbol for _, symbol in rows)
        return {symbol: overtaken[symbol] for symbol in last}

    def ack(self, acks: Sequence[tuple[str, str]], now: datetime) -> AckResult:
        rows = self._lock_rows([id for id, _ in acks])
        result, finished, done = AckResult([], []), Counter[str](), dict[str, tuple[int, str, None]]()
        for id, lease in acks:
            seq, symbol, state, holder, _ = rows.get(id, NOBODY)
            if id not in done and not rules.may_ack(state, holder, lease):
                result.stale.append(id)
                continue
            result.acked.append(id)
            if state != "acked" and id not in done:
                done[id] = (seq, lease, None)
                finished[symbol] += state == "leased"
        self._finish(done.values(), "acked", now)
        self._move_heads(finished)
        return result

    def nack(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime) -> bool:
        seq, symbol, state, holder, attempts = self._lock_rows([id]).get(id, NOBODY)
        if (state, holder) != ("leased", lease):
            return False
        exhausted = attempts >= MAX_ATTEMPTS
        if exhausted:
            self._bury([(seq, None, storable(reason))], now)
        else:
            until = rules.retry_at(now, retry_seconds)
            self._run("give_back", seq=seq, until=until, reason=storable(reason))
        self._move_heads({symbol: int(exhausted)})
        return True

    def _lock_rows(self, ids: list[str]) -> dict[str, Row]:
        """Lock the symbols of these signals and return id -> (seq, symbol, state, lease, attempts)."""
        ids = [id for id in ids if is_storable(id)]  # nobody has another
        with self._connection.pipeline():
            self._run("lock_symbols_of", ids=ids)
            rows = self._run("by_ids", ids=ids)
        return {row[0]: row[1:] for row in rows.fetchall()}

    def _bury(self, done: list[tuple[int, str | None, str]], now: datetime) -> None:
        """Make signals dead letters, by (seq, lease, reason), and keep a notice of each for their owner."""
        if done:
            self._finish(done, "dead", now)
            seqs = [seq for seq, *_ in done[-NOTICES_KEPT:]]
            for letter in _letters(self._run("letters", seqs=seqs).fetchall()):
                self.note(dead_letter(letter))

    def _finish(self, done: Iterable[tuple[int, str | None, str | None]], state: str, now: datetime) -> None:
        seqs, leases, reasons = [list(column) for column in zip(*done, strict=True)] or ([], [], [])
        if seqs:
            self._run("finish", seqs=seqs, leases=leases, reasons=reasons, state=state, now=now)

    def _move_heads(self, finished: dict[str, int]) -> None:
        if finished:
            self._run("head", symbols=list(finished), finished=list(finished.values()))

    # the owner's side

    def mode(self) -> Mode:
        return rules.as_mode(self.get("mode") or "open")

    def dead(self, limit: int, since: datetime) -> list[DeadLetter]:
        return _letters(self._run("dead", limit=limit, since=since))

    def requeue(self, id: str) -> bool:
        seq, symbol, state, *_ = self._lock_rows([id]).get(id, NOBODY)
        if state != "dead":
            return False
        self._run("revive", seq=seq)
        self._run("revive_symbol", seq=seq, symbol=symbol)
        return True

    def purge(self, state: Literal["pending", "dead"], before: datetime, now: datetime) -> int:
        """Discard up to rules.PURGE_CHUNK signals; return how many."""
        query, span = f"purgeable_{state}", {"before": before, "limit": rules.PURGE_CHUNK, **_span(now)}
        ids = [row[0] for row in self._run(query, **span)]
        rows = self._lock_rows(ids)
        still = [rows[row[0]] for row in self._run(query, **span) if row[0] in rows]
        self._finish([(row[0], None, None) for row in still], "purged", now)
        waiting = Counter(row[1] for row in still if row[2] != "dead")
        self._move_heads(waiting)
        return len(still)

    def housekeep(self, now: datetime) -> int:
        last = self.get("housekept_at")
        until = rules.housekeep_until(now, parse_utc(last) if last else None)
        forgotten = self._run("forget", before=until - KEY_WINDOW).fetchall()
        self.set("housekept_at", utc_text(until))
        return len(forgotten)

    def refuse(self, refused: Refused) -> None:
        reason, body = storable(refused.reason), storable(refused.body)
        self._run("refuse", at=refused.at, code=storable(refused.code), reason=reason, body=body)
        self._run("trim_refused", kept=REFUSED_KEPT)
        if refused.notice is not None:
            self.note(refused.notice)

    def note(self, notice: Notice) -> None:
        text = storable(notice.text)
        self._run("note", kind=notice.kind, symbol=storable(notice.symbol), text=text, at=notice.at)
        self._run("trim_notices", kind=notice.kind, kept=NOTICES_KEPT)

    def notices(self, now: datetime) -> list[Notice]:
        before = now - NOTICE_REPEATED
        if self._run("notices", most=1).fetchone():
            self._run("told_enough", before=before)
        if found := self._run("notices", most=NOTICES_AT_ONCE).fetchall():
            self._run("tell", before=before, now=now, last=found[-1][-1])
        return [Notice(kind, symbol, text, _utc(at), seq) for kind, symbol, text, at, seq in found]

    def heard(self, ids: Sequence[int]) -> None:
        self._run("heard", seqs=list(ids))

    def refused(self, limit: int) -> list[Refused]:
        rows = self._run("refused", limit=limit)
        return [Refused(_utc(at), code, reason, body) for at, code, reason, body in rows]

    def stats(self, now: datetime) -> Stats:
        depth, leased, dead, oldest, accepted = self._run("numbers", **_span(now)).fetchone()
        latencies = sorted(row[0] for row in self._run("latencies"))
        polled = self.get("last_poll_at")
        return Stats(
            depth, leased, dead, oldest and _utc(oldest), accepted, parse_utc(polled) if polled else None,
            rules.percentile(latencies, 0.5), rules.percentile(latencies, 0.99), self.mode(),
        )  # fmt: skip

    def get(self, name: str) -> str | None:
        row = self._run("get", name=name).fetchone()
        return str(row[0]) if row else None

    def set(self, name: str, value: str) -> None:
        self._run("set", name=name, value=value)

    def _run(self, query: str, **values: Any) -> Any:
        return self._connection.execute(QUERIES[query], values)


def _admit(admission: Admission, new: NewSignal, now: datetime) -> Accepted | BridgeError:
    try:
        return admission.admit(new, now)
    except BridgeError as exc:  # concerns this one, not the batch
        return exc


def _by_symbol(news: list[NewSignal], seqs: dict[str, int]) -> Iterable[list[NewSignal]]:
    lines: dict[str, list[NewSignal]] = {}
    for new in news:
        if new.id in seqs:
            lines.setdefault(new.symbol, []).append(new)
    return lines.values()


def _end_of_line(news: list[NewSignal], seqs: dict[str, int]) -> dict[str, Any]:
    """Return the values with which one symbol's row goes on."""
    newest = news[-1]
    told = next((new for new in reversed(news) if new.position is not None), None)
    return {
        "symbol": newest.symbol, "first": min(seqs[new.id] for new in news), "count": len(news),
        "id": newest.id, "fingerprint": newest.fingerprint, "at": newest.received_at,
        "position": told and told.position, "position_at": told and told.received_at,
    }  # fmt: skip


def _waiting(rows: Iterable[Row]) -> list[Waiting]:
    return [
        Waiting(seq, id, symbol, attempts, lease, until, reason, _utc(at), headers, payload)
        for seq, id, symbol, attempts, lease, until, reason, at, headers, payload in rows
    ]


def _letters(rows: Iterable[Row]) -> list[DeadLetter]:
    return [
        DeadLetter(id, symbol, action, _utc(at), _utc(dead_at), attempts, reason or "", payload)
        for id, symbol, action, at, dead_at, attempts, reason, payload in rows
    ]


def _span(now: datetime) -> dict[str, datetime]:
    """Return the span in which the end of a hold is believed (see rules.is_held)."""
    return {"now": now, "horizon": now + MAX_HOLD}


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
