"""Any sequence of calls, on both engines, against a model of a list of dicts.

The instants are drawn from the edges: the end of a lease or a retry, the end
of the 30 seconds, a microsecond before and after, and clocks that are set back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from common.errors import DuplicateConflict
from relay.pending import open_pending
from tests.pending.conftest import TABLES, Alternating
from tests.pending.examples import START, ids, put, signal, take
from tests.pending.pg import PostgresServer

MICROSECOND = timedelta(microseconds=1)
SYMBOLS = st.sampled_from(["EURUSD", "AAPL", "BRK.B"])
ARRIVALS = st.tuples(
    SYMBOLS, st.sampled_from(["open", "open", "close"]), st.sampled_from([None, None, None, "k1", "k2"]),
    st.integers(1, 2),
)  # fmt: skip
LEASE_SECONDS = st.sampled_from([1.0, 10.0])
TINY = st.sampled_from([-MICROSECOND, timedelta(0), MICROSECOND])


@dataclass
class Known:
    """One signal as the model has it."""

    id: str
    symbol: str
    action: str
    key: str | None
    what: int
    at: datetime
    state: str = "pending"
    attempts: int = 0
    lease: str | None = None
    until: datetime | None = None

    def is_held(self, now: datetime) -> bool:
        return self.until is not None and now < self.until <= now + timedelta(minutes=10)


class Machine(RuleBasedStateMachine):
    """The queue and its model, side by side."""

    open_queue: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.queue = type(self).open_queue()
        self.now, self.mode = START, "open"
        self.all: list[Known] = []
        self.leases: list[tuple[str, str]] = []  # every one ever given out

    def teardown(self) -> None:
        self.queue.close()

    def one(self, id: str) -> Known:
        return next(known for known in self.all if known.id == id)

    def unfinished(self) -> list[Known]:
        return [known for known in self.all if known.state in ("pending", "leased")]

    # rules

    @rule(arrivals=st.lists(ARRIVALS, min_size=1, max_size=4))
    def put(self, arrivals: list[tuple[str, str, str | None, int]]) -> None:
        for arrival in arrivals:
            self.put_one(*arrival)

    def put_one(self, symbol: str, action: str, key: str | None, what: int, sent_key: str | None = None) -> None:
        new = signal(symbol, action=action, key=sent_key or key, what=(symbol, action, what), now=self.now)
        known = self.repeated(symbol, action, key, what)
        if known and (known.symbol, known.action, known.what) != (symbol, action, what):
            if action != "open":  # an exit is taken as new, as if it had no key
                return self.put_one(symbol, action, None, what, sent_key=key)
            with pytest.raises(DuplicateConflict):
                put(self.queue, new, self.now)
            return
        accepted = put(self.queue, new, self.now)
        assert (accepted.id, accepted.duplicate) == ((known.id, True) if known else (new.id, False))
        if not known:
            self.all.append(Known(new.id, symbol, action, key, what, self.now))

    def repeated(self, symbol: str, action: str, key: str | None, what: int) -> Known | None:
        if key is not None:
            return next((known for known in self.all if known.key == key), None)
        newest = next((known for known in reversed(self.all) if known.symbol == symbol), None)
        is_same = newest and (newest.action, newest.what) == (action, what)
        return newest if newest and is_same and abs(self.now - newest.at) < timedelta(seconds=30) else None

    @rule(limit=st.integers(1, 5), seconds=LEASE_SECONDS, mode=st.sampled_from(["open", "close-only", "paused"]))
    def lease_in_a_mode(self, limit: int, seconds: float, mode: str) -> None:
        self.set_mode(mode)
        self.lease(limit, seconds)
        self.set_mode("open")

    def set_mode(self, mode: str) -> None:
        self.queue.set_mode(mode)
        self.mode = mode

    @rule(limit=st.integers(1, 5), seconds=LEASE_SECONDS, times=st.integers(1, 6), tiny=TINY)
    def lease_and_lose_the_answer(self, limit: int, seconds: float, times: int, tiny: timedelta) -> None:
        for _ in range(times):
            self.lease(limit, seconds)
            self.now += timedelta(seconds=seconds) + tiny

    @rule(limit=st.integers(1, 5), seconds=LEASE_SECONDS)
    def lease(self, limit: int, seconds: float) -> None:
        expected, spent = self.leasable()
        leased = take(self.queue, self.now, limit=limit, seconds=seconds)
        self.bury(spent)
        assert ids(leased) == expected[:limit]
        for one in leased:
            self.lend(one, seconds)

    def leasable(self) -> tuple[list[str], list[str]]:
        """Return which could be leased now, in order, and which have no lease left."""
        free, spent, blocked = [], [], set[str]()
        for known in self.unfinished() if self.mode != "paused" else []:
            if known.is_held(self.now):
                blocked.add(known.symbol)
            elif known.symbol not in blocked and (self.mode == "open" or known.action != "open"):
                (free if known.attempts < 5 else spent).append(known.id)
        return free, spent

    def bury(self, spent: list[str]) -> None:
        for letter in self.queue.dead(1_000):
            if letter.id in spent:
                self.one(letter.id).state = "dead"

    def lend(self, one: Any, seconds: float) -> None:
        known = self.one(one.id)
        known.state, known.lease, known.attempts = "leased", one.lease, known.attempts + 1
        known.until = self.now + timedelta(seconds=seconds)
        assert one.attempt == known.attempts
        self.leases.append((one.id, one.lease))
        if self.mode == "close-only":
            self.overtake(known)

    def overtake(self, by: Known) -> None:
        for known in self.unfinished()[: self.unfinished().index(by)]:
            if known.symbol == by.symbol and known.action == "open":
                known.state, known.lease = "dead", None

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        if not self.leases:
            return
        given = data.draw(st.lists(st.sampled_from(self.leases[-8:]), min_size=1, max_size=4))
        result = self.queue.ack(given, self.now)
        acked, stale = [], []
        for id, lease in given:
            known = self.one(id)
            counts = known.state == "acked" or (known.state in ("leased", "dead") and known.lease == lease)
            (acked if counts else stale).append(id)
            if counts:
                known.state = "acked"
        assert (result.acked, result.stale) == (acked, stale)

    @rule(data=st.data(), retry=st.sampled_from([0.0, 1.0, 60.0]))
    def nack(self, data: st.DataObject, retry: float) -> None:
        if not self.leases:
            return
        id, lease = data.draw(st.sampled_from(self.leases[-8:]))
        known = self.one(id)
        is_mine = (known.state, known.lease) == ("leased", lease)
        assert self.queue.nack(id, lease, "no", retry, self.now) is is_mine
        if is_mine:
            known.state, known.lease = "dead" if known.attempts == 5 else "pending", None
            known.until = self.now + timedelta(seconds=retry) if retry else None

    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        if not self.all:
            return
        known = data.draw(st.sampled_from([one for one in self.all if one.state == "dead"] or self.all))
        assert self.queue.requeue(known.id, self.now) is (known.state == "dead")
        if known.state == "dead":
            known.state, known.attempts, known.lease, known.until = "pending", 0, None, None

    @precondition(lambda self: len(self.unfinished()) > 5)
    @rule(state=st.sampled_from(["pending", "dead"]), before=st.integers(-60, 1))
    def purge(self, state: str, before: int) -> None:
        limit = self.now + timedelta(seconds=before)
        states = ("dead",) if state == "dead" else ("pending", "leased")
        gone = [
            known for known in self.all
            if known.state in states and known.at < limit
            and not (known.state == "leased" and known.is_held(self.now))
        ]  # fmt: skip
        assert self.queue.purge(state, limit, self.now) == len(gone)
        for known in gone:
            known.state, known.lease = "purged", None

    @rule(data=st.data(), tiny=TINY)
    def go_to_an_edge(self, data: st.DataObject, tiny: timedelta) -> None:
        edges = [known.until for known in self.unfinished() if known.until and known.is_held(self.now)]
        edges += [known.at + timedelta(seconds=30) for known in self.all[-3:]]
        self.now = data.draw(st.sampled_from(edges or [START])) + tiny

    @rule(seconds=st.sampled_from([-3_700.0, -5.0, 0.5, 5.0, 700.0]))
    def set_the_clock(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # what always holds

    @invariant()
    def counts_agree(self) -> None:
        stats = self.queue.stats(self.now)
        leased = [known for known in self.all if known.state == "leased" and known.is_held(self.now)]
        dead = [known for known in self.all if known.state == "dead"]
        assert (stats.depth, stats.leased, stats.dead) == (len(self.unfinished()), len(leased), len(dead))
        assert stats.accepted_total == len(self.all)
        assert stats.oldest_at == next((known.at for known in self.unfinished()), None)


class Both(Alternating):
    """Two instances in turn, closed together."""

    def __init__(self, *queues: Any) -> None:
        super().__init__(*queues)
        self._all = queues

    def close(self) -> None:
        for queue in self._all:
            queue.close()


def sqlite_queues(folder: Path) -> Iterator[Any]:
    number = 0
    while True:
        number += 1
        url = f"sqlite:///{folder / f'{number}.db'}"
        yield Both(open_pending(url), open_pending(url))


def postgres_queues(server: PostgresServer) -> Iterator[Any]:
    url = server.new_database()
    name = url.rpartition("/")[2].partition("?")[0]
    while True:
        queues = [open_pending(url), open_pending(url)]
        queues[0].stats(START)  # makes the tables
        server.run_sql(f"TRUNCATE {TABLES} RESTART IDENTITY", name)
        yield Both(*queues)


@pytest.fixture
def queues(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if engine == "sqlite":
        return sqlite_queues(tmp_path)
    return postgres_queues(request.getfixturevalue("postgres"))


def run_machine(queues: Iterator[Any], examples: int, steps: int, *phases: Phase) -> None:
    Machine.open_queue = staticmethod(lambda: next(queues))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate, *phases],
        ),
    )  # fmt: skip


# so many sequences on SQLite, so many on PostgreSQL
@pytest.mark.parametrize("examples", [(15, 6), pytest.param((40, 15), marks=pytest.mark.ci)], ids=["few", "more"])
def test_any_sequence_of_calls_agrees_with_the_model(
    queues: Iterator[Any], engine: str, examples: tuple[int, int]
) -> None:
    run_machine(queues, examples[engine == "postgres"], 40)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_long_sequences_of_calls_agree_with_the_model(queues: Iterator[Any]) -> None:
    run_machine(queues, 500, 60, Phase.shrink)
