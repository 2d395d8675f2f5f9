"""PostgreSQL when things go wrong: away, restarted, cut off, behind a transaction pooler, busy elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from common.errors import QueueUnavailable
from relay.pending import postgres as postgres_module
from relay.pending import queries
from relay.pending.base import MaybeStored, Wish
from relay.pending.postgres import PostgresPending
from tests.pending.examples import START, acks, fill, ids, put, signal, take
from tests.pending.patience import FOREVER, look_again_after
from tests.pending.pg import PostgresServer, free_port, running_postgres
from tests.pending.pooler import TransactionPooler
from tests.pending.test_sqlite import in_a_hurry, refuses, run_all


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture
def queue(queue_url: str) -> Iterator[PostgresPending]:
    queue = PostgresPending(queue_url)
    yield queue
    queue.close()


@pytest.fixture
def never_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that nobody wakes is lost."""
    look_again_after(monkeypatch, FOREVER)


@pytest.fixture(scope="module")
def fragile() -> Iterator[PostgresServer]:
    """Return a server that tests may stop."""
    with running_postgres() as server:
        yield server


def test_a_commit_is_on_the_disk_before_the_answer(queue: PostgresPending, postgres: PostgresServer) -> None:
    name = queue._database.pool.conninfo.rpartition("/")[2].partition("?")[0]
    postgres.run_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        setting = queue._do(lambda ledger: ledger._connection.execute("SHOW synchronous_commit").fetchone())
        assert setting == ("on",)
    finally:
        postgres.run_sql(f"ALTER DATABASE {name} RESET synchronous_commit")


@in_a_hurry
def test_a_database_that_is_away_is_said_in_time_and_used_when_it_comes(fragile: PostgresServer) -> None:
    queue = PostgresPending(fragile.new_database())
    fragile.stop()
    error = refuses(lambda: fill(queue, "EURUSD"))
    assert not isinstance(error, MaybeStored)
    assert "nothing was stored" in str(error)
    refuses(queue.ready)
    fragile.start()
    assert refusals_before_a_put(queue) <= 2
    queue.close()


def refusals_before_a_put(queue: PostgresPending) -> int:
    """Return how often a put is refused until one is accepted."""
    for refusals in range(20):
        with contextlib.suppress(QueueUnavailable):
            fill(queue, "AAPL")
            return refusals
    pytest.fail("no put is accepted any more")


def test_a_message_about_the_database_holds_no_password(queue_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "TRY_SECONDS", 0.0)
    monkeypatch.setattr(postgres_module, "CONNECT_SECONDS", 3.0)  # of the pool, which tries meanwhile
    queue = PostgresPending(f"postgresql://someone:hunter2@127.0.0.1:{free_port()}/x")
    message = str(refuses(lambda: fill(queue, "EURUSD")))
    assert "refused" in message
    assert "hunter2" not in message
    queue.close()


@in_a_hurry
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_under_load_loses_nothing_that_was_answered(fragile: PostgresServer, mode: str) -> None:
    queue = PostgresPending(fragile.new_database())
    accepted: list[str] = []
    stop, slowest = threading.Event(), [0.0]

    def send(symbol: str) -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                accepted.extend(fill(queue, symbol))
            except QueueUnavailable:
                stop.wait(0.01)
            slowest[0] = max(slowest[0], time.monotonic() - began)

    threads = [threading.Thread(target=send, args=(f"S{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_for_growth(accepted)
    fragile.restart(mode)
    wait_for_growth(accepted)
    stop.set()
    for thread in threads:
        thread.join()
    assert slowest[0] < 20, "a pool of connections by itself waits for 30 s, and then for minutes"
    assert set(accepted) <= set(drain(queue))
    queue.close()


def wait_for_growth(accepted: list[str], by: int = 50) -> None:
    goal, deadline = len(accepted) + by, time.monotonic() + 50
    while len(accepted) < goal:
        assert time.monotonic() < deadline, "nothing is accepted any more"
        time.sleep(0.005)


def drain(queue: Any) -> list[str]:
    """Lease and ack everything; return the ids in the order of their delivery."""
    delivered: list[str] = []
    while leased := take(queue, limit=200):
        delivered += queue.ack(acks(leased), START).acked
    return delivered


def test_a_terminated_listener_comes_back_by_itself(
    queue: PostgresPending, queue_url: str, postgres: PostgresServer, eventually: Any, never_again: None
) -> None:
    other = PostgresPending(queue_url)
    eventually(lambda: queue.ready().wakeups == "notify")
    postgres.run_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    eventually(lambda: queue.ready().wakeups == "polling")
    fill(other, "EURUSD")
    while not queue.take(Wish(10, 10, lambda: START, FOREVER, lambda: True)):
        pass
    eventually(lambda: queue.ready().wakeups == "notify")
    other.close()


def test_terminated_backends_cost_no_put(queue: PostgresPending, postgres: PostgresServer) -> None:
    for number in range(3):
        fill(queue, f"S{number}")
        postgres.run_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COMMIT%'")
    assert queue.stats(START).depth == 3


@in_a_hurry
def test_a_hanging_database_is_answered_in_time(queue: PostgresPending, postgres: PostgresServer) -> None:
    fill(queue, "EURUSD")
    with psycopg.connect(queue._database.pool.conninfo) as elsewhere:
        elsewhere.execute("LOCK TABLE pending_symbols")
        refuses(lambda: fill(queue, "EURUSD"))
        refuses(lambda: take(queue))
        elsewhere.rollback()
    assert refusals_before_a_put(queue) <= 1


# behind a transaction pooler


@pytest.fixture
def pooled(queue_url: str, postgres: PostgresServer) -> Iterator[str]:
    with TransactionPooler(postgres.port) as pooler:
        yield queue_url.replace(f":{postgres.port}/", f":{pooler.port}/")


def test_behind_a_transaction_pooler_it_works_polls_and_says_so(
    pooled: str, queue: PostgresPending, never_again: None
) -> None:
    behind = PostgresPending(pooled)
    put = fill(behind, "EURUSD", "GBPUSD", "EURUSD")
    assert ids(take(behind)) == put
    ready = behind.ready()
    assert (ready.wakeups, "pooler" in ready.detail) == ("polling", True)
    (late,) = fill(queue, "AAPL")
    while late not in ids(behind.take(Wish(10, 10, lambda: START, FOREVER, lambda: True))):
        pass
    behind.close()


def test_behind_a_pooler_many_threads_share_few_server_connections(pooled: str) -> None:
    behind = PostgresPending(pooled)
    run_all([threading.Thread(target=lambda: [fill(behind, "EURUSD") for _ in range(10)]) for _ in range(8)])
    assert len(drain(behind)) == 80
    behind.close()


# several relays over one database


def test_relays_side_by_side_accept_each_key_once(queue_url: str) -> None:
    relays = [PostgresPending(queue_url) for _ in range(3)]
    answers: list[tuple[int, str]] = []

    def send(relay: PostgresPending) -> None:
        for number in range(40):
            new = signal(f"S{number % 3}", key=f"k{number}", what=number)
            answers.append((number, put(relay, new, START).id))

    run_all([threading.Thread(target=send, args=(relay,)) for relay in relays for _ in range(2)])
    assert len(answers) == 240
    assert len(set(answers)) == 40
    assert len(drain(relays[0])) == 40
    for relay in relays:
        relay.close()


def test_relays_side_by_side_accept_each_keyless_resend_once(queue_url: str) -> None:
    relays = [PostgresPending(queue_url) for _ in range(3)]
    answers: list[str] = []
    for number in range(20):
        same = [
            threading.Thread(target=lambda one, n=number: answers.append(put_one(one, n)), args=(relay,))
            for relay in relays
        ]
        run_all(same)
    assert len(set(answers)) == 20
    for relay in relays:
        relay.close()


def put_one(relay: PostgresPending, what: int) -> str:
    return put(relay, signal(what=what), START).id


def test_relays_side_by_side_refuse_the_same_key_for_two_symbols(queue_url: str) -> None:
    from common.errors import DuplicateConflict

    relays = [PostgresPending(queue_url) for _ in range(2)]
    outcomes: list[str] = []

    def send(relay: PostgresPending, symbol: str) -> None:
        for number in range(20):
            try:
                put(relay, signal(symbol, key=f"k{number}", what=(symbol, number)), START)
                outcomes.append("accepted")
            except DuplicateConflict:
                outcomes.append("conflict")

    run_all([threading.Thread(target=send, args=pair) for pair in zip(relays, ("A", "B"), strict=True)])
    assert sorted(outcomes) == ["accepted"] * 20 + ["conflict"] * 20
    for relay in relays:
        relay.close()


def test_executors_side_by_side_get_each_signal_once_and_every_symbol_in_order(queue_url: str) -> None:
    relays = [PostgresPending(queue_url) for _ in range(3)]
    put = [fill(relays[n % 3], f"S{n % 7}")[0] for n in range(140)]
    delivered: list[str] = []

    def execute(relay: PostgresPending) -> None:
        while len(delivered) < len(put):
            if leased := take(relay, limit=3):
                delivered.extend(ids(leased))
                relay.ack(acks(leased), START)

    run_all([threading.Thread(target=execute, args=(relay,)) for relay in relays])
    assert take(relays[0]) == []
    assert sorted(delivered) == sorted(put)
    for n in range(7):
        line = [id for number, id in enumerate(put) if number % 7 == n]
        assert [id for id in delivered if id in line] == line
    for relay in relays:
        relay.close()


def test_relays_that_start_at_once_agree_on_the_schema(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    relays = [PostgresPending(url) for _ in range(4)]
    run_all([threading.Thread(target=fill, args=(relay, f"S{n}")) for n, relay in enumerate(relays)])
    assert relays[0].stats(START).depth == 4
    for relay in relays:
        relay.close()


def test_a_newer_schema_is_refused_with_the_mend_and_an_older_one_brought_up_to_date(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    old = PostgresPending(url)
    put = fill(old, "EURUSD")
    newer = [*queries.migrations("postgres"), "ALTER TABLE pending_signals ADD COLUMN extra text"]
    with monkeypatch.context() as patch:
        patch.setattr("relay.pending.postgres.migrations", lambda engine: newer)
        later = PostgresPending(url)
        assert ids(take(later)) == put
    too_old = PostgresPending(url)
    assert "install the newer release" in str(refuses(lambda: fill(too_old, "EURUSD")))
    for queue in (old, later, too_old):
        queue.close()
