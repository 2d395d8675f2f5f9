"""The program itself in trouble: bugs of its own, a full disk, a clock that was set, a line that flaps, a second executor."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http.server import HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine

from common.clock import SystemClock
from common.errors import IllegalTransition, JournalError
from executor import app
from executor.core.accounts import AccountRefused, AccountRules, refuse_other_client
from executor.core.conditions import AlarmKind
from executor.core.outcomes import StopCause
from executor.core.ports import Snapshot
from executor.core.trades import Trade
from executor.journal.lock import AlreadyRunning, JournalLock
from executor.notify import Notifier
from executor.relay.client import RelayUnavailable
from executor.tws.connection import Supervisor
from tests.wire.harness import until

from .fakes import ACCOUNT, House
from .test_desk import entered
from .test_relay_client import Signalless, client


@pytest.fixture
def house() -> House:
    house = House.build().connect()
    house.clock.advance(1)
    return house


def disk(house: House, *, full: bool) -> None:
    house.journal._db.execute(f"PRAGMA query_only = {'ON' if full else 'OFF'}")


# ---- bugs of ours ----


def two_trades(house: House) -> None:
    entered(house)
    house.signal("open", "AAPL", "buy", "10", tp="2", sl="1")


def test_bug_in_one_symbol_does_not_stop_the_other(house: House) -> None:
    """One trade's bug stopped every symbol until a restart: no close went out, no stop was put back."""
    two_trades(house)
    work = house.desk.orders.work

    def broken(trade_id: int) -> None:
        if trade_id == 1 and house.trades()[0]["state"] != "hold":
            raise IllegalTransition("planted", trade_id)
        work(trade_id)

    house.desk.orders.work = broken  # type: ignore[method-assign]
    house.desk.agenda.touch(house.desk.book.trade(1))
    house.pass_time(1)
    assert house.trades()[0]["state"] == "hold" and "planted" in house.trades()[0]["hold_reason"]
    assert house.outcome(house.signal("close", "AAPL"))[0] == "closed"


def test_after_a_bug_in_one_trade_during_a_reading_everything_is_read_again(house: House) -> None:
    """The reading was rolled back and none was wanted: the executor stayed blind for good."""
    two_trades(house)
    house.desk.disconnected("TWS is away")
    settle = house.desk.life.settle

    def broken(trade: Trade) -> Any:
        if trade.id == 1 and house.trades()[0]["state"] != "hold":
            raise IllegalTransition("planted", trade.id)
        return settle(trade)

    house.desk.life.settle = broken  # type: ignore[method-assign]
    house.connect()
    assert house.trades()[0]["state"] == "hold" and not house.desk.can_send
    house.pass_time(3)
    assert house.desk.can_send


class OneTws:
    """A TWS of one account, as far as the supervisor speaks to it."""

    accounts = (ACCOUNT,)

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self.wire, self._snapshot = SimpleNamespace(link_lost=""), snapshot

    async def connect(self, host: str, port: int, client_id: int) -> None: ...

    async def snapshot(self) -> Snapshot:
        return self._snapshot()

    async def probe(self, seconds: float) -> None: ...

    async def lost(self) -> str:
        return await asyncio.get_running_loop().create_future()

    def use_account(self, account: str, listener: object) -> None: ...

    def disconnect(self) -> None: ...


async def address() -> tuple[str, int]:
    return "127.0.0.1", 0


def supervised(house: House, client_id: int, enough: Callable[[Supervisor], object]) -> Supervisor:
    """Keep a connection until it is enough."""

    async def main() -> Supervisor:
        tws: Any = OneTws(house.broker.snapshot)
        rules = AccountRules()
        made = Supervisor(tws, house.desk, house.clock, rules, client_id, address)
        running = asyncio.ensure_future(made.run())
        await until(lambda: enough(made), 50)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return made

    return asyncio.run(main())


def test_unexpected_error_in_a_reading_is_said_and_stops_the_sending(house: House) -> None:
    """A KeyError came again every five seconds, and page, log and channel said "connected" and "all is well"."""
    entered(house)

    def broken(snapshot: Snapshot) -> None:
        raise KeyError("planted")

    house.desk.snapshots.apply = broken  # type: ignore[method-assign, assignment]
    found = supervised(house, 1, lambda made: house.alarms())
    assert house.alarms() == ["program"] and not house.desk.can_send
    assert found.connection.status == "disconnected" and "planted" in found.connection.text


# ---- one executor, one client ----


def test_orders_of_another_client_id_refuse_the_account(house: House) -> None:
    """TWS counts ids for each client: the cancel of AAPL's stop would have hit EURUSD's, which then stood naked."""
    entered(house)
    found = supervised(house, 2, lambda made: made.refused)
    assert "--ib-client-id 1" in (found.refused or "") and house.alarms() == ["account"] and not house.desk.can_send


def test_client_whose_orders_they_are_is_not_refused(house: House) -> None:
    entered(house)
    refuse_other_client(1, house.desk.book.other_clients(1))
    with pytest.raises(AccountRefused, match="live under client id 1"):
        refuse_other_client(2, house.desk.book.other_clients(2))
    house.broker.hit("S")
    refuse_other_client(2, house.desk.book.other_clients(2))  # nothing of the old client's is live


def test_journal_under_two_names_is_one_journal(tmp_path: Path) -> None:
    """Two executors traded with one journal, each with its lock: every signal twice."""
    real, other = tmp_path / "trade_state.db", tmp_path / "link.db"
    real.touch()
    other.symlink_to(real)
    one = JournalLock(real)
    one.take(SystemClock())
    with pytest.raises(AlreadyRunning):
        JournalLock(other).take(SystemClock())
    one.release()


class Slow(Signalless):
    """A relay that answers when the test lets it."""

    asked, gate = threading.Event(), threading.Event()

    def do_POST(self) -> None:
        self.asked.set()
        self.gate.wait(50)
        super().do_POST()


def test_second_request_is_refused_while_one_is_under_way() -> None:
    """A poll given up for its time still ran in its thread: what it leased was thrown away, on a shared session."""
    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
        relay = client(f"http://127.0.0.1:{server.server_port}")
        first = threading.Thread(target=relay.lease, args=(0,))
        first.start()
        assert Slow.asked.wait(50)
        with pytest.raises(RelayUnavailable, match="has not ended yet"):
            relay.lease(0)
        Slow.gate.set()
        first.join(50)
        assert relay.lease(0).deliveries == ()
        relay.close()
        server.shutdown()


# ---- the disk ----


class Channel:
    """Somebody who is told."""

    def __init__(self, during: Callable[[], object] = bool) -> None:
        self.told: list[str] = []
        self._during = during

    def send(self, title: str, text: str, *, failure: bool) -> bool:
        self.told.append(title)
        self._during()
        return True


def test_owner_is_told_by_his_channel_that_the_journal_cannot_be_written(house: House) -> None:
    """Alarms live in the journal: on a full disk nothing was sent any more, stops included, and nobody was told."""
    entered(house)
    channel: Any = Channel()
    notifier = Notifier(house.journal, channel, house.clock, lambda: house.desk.watch.unwritten)
    disk(house, full=True)
    house.broker.hit("S", siblings=False)
    house.pass_time(1, look=False)
    for _ in range(2):
        asyncio.run(notifier.turn())
    assert channel.told == ["storage"] and not house.desk.can_send
    disk(house, full=False)
    house.pass_time(2)
    assert house.desk.can_send and house.desk.watch.unwritten is None


def test_error_of_ours_in_sql_is_no_full_disk(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was raised and cleared twice a second as "storage", each time with a page and a reading of everything."""

    def broken(symbol: str) -> None:
        raise sqlite3.IntegrityError("UNIQUE constraint failed: trades.con_id")

    monkeypatch.setattr(house.desk.signals, "work", broken)
    house.signal("close")
    house.pass_time(5)
    assert house.alarms() == ["program"]
    assert len(house.journal._rows("SELECT 1 FROM alarms")) == 1


def test_alarm_that_stands_costs_no_write(house: House) -> None:
    """A stop that was taken away wrote to the disk twice a second, for as long as it was away."""
    entered(house)
    house.broker.cancel_by_hand("S")
    house.pass_time(12)
    assert house.alarms() == ["unprotected"]
    before = house.journal._db.total_changes
    house.pass_time(5)
    assert house.journal._db.total_changes == before


def test_closing_word_is_not_late_because_its_alarm_was_just_being_told(house: House) -> None:
    """The alarm ended while the channel was spoken to: that it is over came a quarter of an hour later."""
    speaking, heard = threading.Event(), threading.Event()

    def speak() -> None:
        speaking.set()
        heard.wait(50)

    channel: Any = Channel(speak)
    notifier = Notifier(house.journal, channel, house.clock)
    house.desk.alarms.state(AlarmKind.RELAY, "signals cannot be fetched")

    async def main() -> None:
        telling = asyncio.ensure_future(notifier.turn())
        await until(speaking.is_set, 50)
        house.desk.alarms.state(AlarmKind.RELAY, None)
        heard.set()
        await telling
        house.clock.advance(2)
        await notifier.turn()

    asyncio.run(main())
    assert channel.told == ["relay", "relay (over)"]


# ---- clock and line ----


def test_missing_stop_is_said_though_the_clock_was_set_back(house: House) -> None:
    """Every timer had its beginning in the future: for an hour nothing was put back, and nothing said."""
    entered(house)
    house.broker.cancel_by_hand("S")
    house.pass_time(1)
    house.clock.advance(-3600)
    house.desk.disconnected("the clock was set back; reconnecting")
    house.connect()
    house.pass_time(12)
    assert "unprotected" in house.alarms()


def test_missing_stop_is_said_though_the_connection_flaps(house: House) -> None:
    """Four seconds up, two down: each time everything was counted from the beginning, and no alarm ever came."""
    entered(house)
    house.broker.cancel_by_hand("S")
    for _ in range(12):
        house.clock.advance(3)
        house.pass_time(1)
        house.desk.disconnected("TWS is away")
        house.pass_time(2, look=False)
        house.connect()
    assert house.alarms() == ["broker blind"]


async def nothing(*_: object) -> None: ...


async def long_poll() -> float:
    return await asyncio.get_running_loop().create_future()


def running(desk: Any, check: Callable[[SimpleNamespace, SimpleNamespace], Awaitable[None]]) -> None:
    """Let the jobs run about a desk; `check` gets the parts and what was counted of them."""
    seen = SimpleNamespace(beats=0, dropped=[])

    async def beat(last_poll: object) -> None:
        seen.beats += 1

    parts: Any = SimpleNamespace(
        desk=desk,
        supervisor=SimpleNamespace(drop=seen.dropped.append),
        publisher=SimpleNamespace(publish=bool),
        notifier=SimpleNamespace(turn=nothing),
        heartbeat=SimpleNamespace(turn=beat),
        poller=SimpleNamespace(turn=long_poll, last_poll=None),
    )

    async def main() -> None:
        clock = SystemClock()
        scheduler = app._schedule(parts, clock)
        watching = asyncio.ensure_future(app._watch_clock(parts, scheduler, clock))
        try:
            await check(parts, seen)
        finally:
            watching.cancel()
            scheduler.shutdown(wait=False)
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(main())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TICK_SECONDS", "PUBLISH_SECONDS", "TIDY_SECONDS"):
        monkeypatch.setattr(app, name, 0.02)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("minutes", [-10, 10])
def test_ticks_go_on_when_the_clock_is_set(minutes: int) -> None:
    """The scheduler waits by that clock: set back by an hour, for an hour no tick came and no stop was put back."""
    tidied: list[int] = []

    async def check(parts: SimpleNamespace, seen: SimpleNamespace) -> None:
        await until(lambda: len(tidied) >= 2, 50)
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
            before = len(tidied)
            await until(lambda: len(tidied) > before + 3, 50)
            assert seen.dropped

    def tidy() -> None:
        tidied.append(1)

    doubts: list[str] = []
    gate = SimpleNamespace(is_well=True)
    running(SimpleNamespace(tick=bool, tidy=tidy, gate=gate, clock_doubted=doubts.append), check)
    assert doubts, "entries must wait until the clock is compared"


@pytest.mark.usefixtures("quick")
def test_heartbeat_is_silent_while_nothing_can_be_sent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No order could leave for want of a journal, and the outside watcher was told that all is well."""
    tidied: list[int] = []

    async def check(parts: SimpleNamespace, seen: SimpleNamespace) -> None:
        await until(lambda: seen.beats, 50)
        house.desk.gate.forbid(StopCause.PROGRAM, "stopped: planted")
        seen.beats, tidied[:] = 0, []
        await until(lambda: len(tidied) >= 3, 50)
        assert seen.beats == 0

    monkeypatch.setattr(house.desk, "tidy", lambda: tidied.append(1))
    running(house.desk, check)


def test_journal_that_cannot_be_written_is_not_well(house: House) -> None:
    house.desk.stopped_by(JournalError("database or disk is full"))
    assert not house.desk.gate.is_well
    house.pass_time(2)
    assert house.desk.gate.is_well
