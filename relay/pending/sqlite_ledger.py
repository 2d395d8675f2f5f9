"""What the SQLite queue does inside one write transaction.

Everything here runs in the writer's thread between BEGIN IMMEDIATE and
COMMIT, so what is read cannot change before it is written. A method that
raises one of our errors has written nothing.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

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

QUERIES = load_queries("sqlite_queries.sql")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """One signal to be stored, at an instant."""

    new: NewSignal
    now: datetime


class Ledger:
    """The queue's tables behind one connection that is inside a write transaction."""

    def __init__(self, connection: sqlite3.Connection, max_depth: int) -> None:
        self._connection, self._max_depth = connection, max_depth
        self._settings: dict[str, str] | None = None  # read once: nobody else writes meanwhile

    # accepting

    def put_all(self, puts: list[Put]) -> list[Accepted | BridgeError]:
        """Decide and store a batch; return one outcome per put, our own errors as values.

        A handful of statements for the whole batch: each statement makes this thread wait for all others
        that run Python, which costs more than what it does.
        """
        admission = self._read([put.new for put in puts])
        outcomes = [_admit(admission, put) for put in puts]
        if admission.forgotten:
            self._run("forget_keys", keys=json.dumps(admission.forgotten))
        if admission.fresh:
            rows = json.dumps([_columns(new) for new in admission.fresh])
            self._run("insert", rows=rows)
            self._run("append", rows=rows)
        for _, notice in admission.notices:
            self.note(notice)
        return outcomes

    def _read(self, news: list[NewSignal]) -> Admission:
        admission = Admission(self._one("depth")[0], self._max_depth)
        keys = [new.dedupe_key for new in news if new.dedupe_key is not None]
        ids, symbols = [new.id for new in news], sorted({new.symbol for new in news})
        for id, key, fingerprint, at in self._run("known", ids=json.dumps(ids), keys=json.dumps(keys)):
            admission.know(Known(id, key, fingerprint, parse_utc(at)))
        for symbol, id, fingerprint, at, position in self._run("newest", symbols=json.dumps(symbols)):
            admission.newest[symbol] = Known(id, None, fingerprint, parse_utc(at))
            if position is not None:
                admission.positions[symbol] = position
        return admission

    # delivering

    def lease(
        self, limit: int, seconds: float, now: datetime, consumer: Consumer | None = None
    ) -> tuple[Lent, datetime | None]:
        """Return what is leased, and when something held falls due if nothing is.

        Raises:
            AnotherConsumer: The queue is another consumer's.
        """
        mode = self.mode()
        found, due = self._lease_as(rules.delivered_as(mode, consumer), limit, seconds, now, consumer)
        return Lent.of(mode, found), due

    def _lease_as(
        self, mode: Mode, limit: int, seconds: float, now: datetime, consumer: Consumer | None
    ) -> tuple[list[Leased], datetime | None]:
        if consumer is not None:
            self._claim(consumer, now)
            if again := self._again(consumer.id, mode, limit, now):
                return again, None
        if mode == "paused":
            return [], None
        while not (picked := self._pick(mode, limit, now)).is_final:
            self._clear_heads(picked, now)
        leased = self._lend(picked.leased, seconds, now, consumer.id if consumer else None)
        last = {row.symbol: row.seq for row in picked.leased}
        for symbol, seq in last.items():
            overtaken = self._overtake(symbol, seq, now) if mode == "close-only" else 0
            self._run("head", symbol=symbol, finished=overtaken)
        return leased, None if leased else _instant(self._one("next_due")[0])

    def _pick(self, mode: Mode, limit: int, now: datetime) -> Picked:
        self._run("release", **_span(now))
        if mode == "close-only":
            return rules.pick(self._waiting("closing", **_span(now)), limit, now)
        heads = self._run("ready", limit=limit).fetchall()
        lines = [self._waiting("line", symbol=symbol, head_seq=seq) for symbol, seq in heads]
        return rules.pick(heapq.merge(*lines, key=lambda row: row.seq), limit, now)

    def _waiting(self, query: str, **values: Any) -> Iterator[Waiting]:
        for row in self._run(query, **values):
            seq, id, symbol, attempts, lease, until, reason, at, headers, payload = row
            yield Waiting(seq, id, symbol, attempts, lease, _instant(until), reason, parse_utc(at), headers, payload)

    def _claim(self, consumer: Consumer, now: datetime) -> None:
        claim = rules.claim(self.get("consumer"), consumer, now)
        if claim is not None:
            self.set("consumer", claim)

    def _again(self, consumer: str, mode: Mode, limit: int, now: datetime) -> list[Leased]:
        """Return what the consumer holds: it asks again, so the answer that gave it has not arrived.

        What waits for an earlier signal of its symbol is not given again before that one.
        """
        if mode == "paused":
            return []
        rows = self._waiting("lent", consumer=consumer, mode=mode, limit=limit, **_span(now))
        return [
            Leased(row.id, row.lease or "", row.attempts, row.received_at, json.loads(row.headers), row.payload)
            for row in rows
        ]

    def _lend(self, rows: list[Waiting], seconds: float, now: datetime, consumer: str | None) -> list[Leased]:
        lease, until = new_id(), utc_text(rules.lease_end(now, seconds))
        for row in rows:
            self._run("lease", seq=row.seq, lease=lease, until=until, consumer=consumer)
        return [
            Leased(row.id, lease, row.attempts + 1, row.received_at, json.loads(row.headers), row.payload)
            for row in rows
        ]

    def _clear_heads(self, picked: Picked, now: datetime) -> None:
        # The lease stays: a late ack of the last holder still counts.
        self._bury([(row.seq, row.lease, rules.exhausted_reason(row)) for row in picked.exhausted], now)
        for symbol, finished in picked.heads_to_move().items():
            self._run("head", symbol=symbol, finished=finished)

    def _overtake(self, symbol: str, seq: int, now: datetime) -> int:
        """Set the opens aside that a delivery leaves behind; return how many."""
        rows = self._run("overtaken", symbol=symbol, seq=seq).fetchall()
        self._bury([(row[0], None, rules.OVERTAKEN) for row in rows], now)
        return len(rows)

    def ack(self, acks: Sequence[tuple[str, str]], now: datetime) -> AckResult:
        result, finished = AckResult([], []), Counter[str]()
        for id, lease in acks:
            row = self._find(id)
            if row is None or not rules.may_ack(row[2], row[3], lease):
                result.stale.append(id)
                continue
            result.acked.append(id)
            seq, symbol, state, *_ = row
            if state != "acked":
                self._finish(seq, "acked", lease, None, now)
                finished[symbol] += state == "leased"
        for symbol, count in finished.items():
            self._run("head", symbol=symbol, finished=count)
        return result

    def nack(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime) -> bool:
        row = self._find(id)
        if row is None or row[2:4] != ("leased", lease):
            return False
        seq, symbol, _, _, attempts = row
        exhausted = attempts >= MAX_ATTEMPTS
        if exhausted:
            self._bury([(seq, None, storable(reason))], now)
        else:
            until = _text(rules.retry_at(now, retry_seconds))
            self._run("give_back", seq=seq, until=until, reason=storable(reason))
        self._run("head", symbol=symbol, finished=int(exhausted))
        return True

    def _find(self, id: str) -> Row | None:
        """Return (seq, symbol, state, lease, attempts), None for an id that nobody has."""
        row: Row | None = self._run("by_id", id=id).fetchone() if is_storable(id) else None
        return row

    def _bury(self, done: list[tuple[int, str | None, str]], now: datetime) -> None:
        """Make signals dead letters, by (seq, lease, reason), and keep a notice of each for their owner."""
        for seq, lease, reason in done:
            self._finish(seq, "dead", lease, reason, now)
        seqs = [seq for seq, *_ in done[-NOTICES_KEPT:]]
        for letter in _letters(self._run("letters", seqs=json.dumps(seqs)).fetchall()):
            self.note(dead_letter(letter))

    def _finish(self, seq: int, state: str, lease: str | None, reason: str | None, now: datetime) -> None:
        self._run("finish", seq=seq, state=state, lease=lease, reason=reason, now=utc_text(now))

    # the owner's side

    def mode(self) -> Mode:
        return rules.as_mode(self.get("mode") or "open")

    def dead(self, limit: int, since: datetime) -> list[DeadLetter]:
        return _letters(self._run("dead", limit=limit, since=utc_text(since)).fetchall())

    def requeue(self, id: str) -> bool:
        row = self._find(id)
        if row is None or row[2] != "dead":
            return False
        self._run("revive", seq=row[0])
        self._run("revive_symbol", seq=row[0], symbol=row[1])
        return True

    def purge(self, state: Literal["pending", "dead"], before: datetime, now: datetime) -> int:
        """Discard up to rules.PURGE_CHUNK signals; return how many."""
        limits = {"before": utc_text(before), "limit": rules.PURGE_CHUNK, **_span(now)}
        rows = self._run(f"purgeable_{state}", **limits).fetchall()
        for seq, _ in rows:
            self._finish(seq, "purged", None, None, now)
        for symbol, count in Counter(symbol for _, symbol in rows).items():
            self._run("head", symbol=symbol, finished=count if state == "pending" else 0)
        return len(rows)

    def housekeep(self, now: datetime) -> int:
        last = _instant(self.get("housekept_at"))
        until = rules.housekeep_until(now, last)
        before = utc_text(until - KEY_WINDOW)
        count = sum(self._run("forget", state=state, before=before).rowcount for state in ("acked", "purged"))
        self.set("housekept_at", utc_text(until))
        return count

    def refuse(self, refused: Refused) -> None:
        at, reason, body = utc_text(refused.at), storable(refused.reason), storable(refused.body)
        self._run("refuse", at=at, code=storable(refused.code), reason=reason, body=body)
        self._run("trim_refused", kept=REFUSED_KEPT)
        if refused.notice is not None:
            self.note(refused.notice)

    def note(self, notice: Notice) -> None:
        text, at = storable(notice.text), utc_text(notice.at)
        self._run("note", kind=notice.kind, symbol=storable(notice.symbol), text=text, at=at)
        self._run("trim_notices", kind=notice.kind, kept=NOTICES_KEPT)

    def notices(self, now: datetime) -> list[Notice]:
        before = utc_text(now - NOTICE_REPEATED)
        if self._run("notices", most=1).fetchone():
            self._run("told_enough", before=before)
        if found := self._run("notices", most=NOTICES_AT_ONCE).fetchall():
            self._run("tell", before=before, now=utc_text(now), last=found[-1][-1])
        return [Notice(kind, symbol, text, parse_utc(at), seq) for kind, symbol, text, at, seq in found]

    def heard(self, ids: Sequence[int]) -> None:
        self._run("heard", seqs=json.dumps(list(ids)))

    def refused(self, limit: int) -> list[Refused]:
        rows = self._run("refused", limit=limit).fetchall()
        return [Refused(parse_utc(at), code, reason, body) for at, code, reason, body in rows]

    def stats(self, now: datetime) -> Stats:
        depth, leased, dead, oldest, accepted = self._one("numbers", **_span(now))
        rows = self._run("latencies").fetchall()
        latencies = sorted((parse_utc(done) - parse_utc(at)).total_seconds() for at, done in rows)
        return Stats(
            depth, leased, dead, _instant(oldest), accepted, _instant(self.get("last_poll_at")),
            rules.percentile(latencies, 0.5), rules.percentile(latencies, 0.99), self.mode(),
        )  # fmt: skip

    def get(self, name: str) -> str | None:
        if self._settings is None:
            self._settings = dict(self._run("settings").fetchall())
        return self._settings.get(name)

    def set(self, name: str, value: str) -> None:
        self._run("set", name=name, value=value)
        self._settings = None

    def _run(self, query: str, **values: Any) -> sqlite3.Cursor:
        return self._connection.execute(QUERIES[query], values)

    def _one(self, query: str, **values: Any) -> Row:
        row: Row = self._run(query, **values).fetchone()
        return row


def _admit(admission: Admission, put: Put) -> Accepted | BridgeError:
    try:
        return admission.admit(put.new, put.now)
    except BridgeError as exc:
        return exc


def _columns(new: NewSignal) -> list[str | None]:
    """Return what the queries insert and append read, by place."""
    return [
        new.id, new.symbol, new.action, new.dedupe_key, new.fingerprint, utc_text(new.received_at),
        _text(new.expires_at), json.dumps(new.headers), new.payload, new.position,
    ]  # fmt: skip


def _letters(rows: list[Row]) -> list[DeadLetter]:
    return [
        DeadLetter(id, symbol, action, parse_utc(at), parse_utc(dead_at), attempts, reason or "", payload)
        for id, symbol, action, at, dead_at, attempts, reason, payload in rows
    ]


def _span(now: datetime) -> dict[str, str]:
    """Return the span in which the end of a hold is believed (see rules.is_held)."""
    return {"now": utc_text(now), "horizon": utc_text(now + MAX_HOLD)}


def _text(at: datetime | None) -> str | None:
    return None if at is None else utc_text(at)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_utc(text)
