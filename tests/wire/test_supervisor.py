"""The connection kept alive without a person, against a paper TWS that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from executor.core.accounts import AccountRules
from executor.core.policy import Policy
from executor.desk.desk import Desk
from executor.journal.journal import Journal
from executor.paper.server import PaperServer
from executor.tws import connection as module
from executor.tws.client import Tws
from executor.tws.connection import SleepWatch, Supervisor
from tests.wire.harness import ACCOUNT, HOST, SEEN, on_loop, paper, ticket, until, working

REAL = dict(vars(module))  # before `quick`


class House:
    """Journal, desk, Tws and supervisor, put together as the runtime does it."""

    def __init__(self, folder: Path, port: Callable[[], int], rules: AccountRules) -> None:
        clock = SystemClock()
        self.journal = Journal.open(folder / "j.db", clock)
        self.tws = Tws(clock, patience=0.5, quiet=0.2)
        self.desk = Desk(self.journal, self.tws, clock, Policy(), "", 1, lambda why: None)
        self.snapshots = 0
        self.tries: list[float] = []

        async def address() -> tuple[str, int]:
            self.tries.append(time.monotonic())
            return HOST, port()

        self.supervisor = Supervisor(self.tws, self.desk, clock, rules, 1, address)
        self.desk.gate.want_snapshot = self.supervisor.want_snapshot
        self._count()

    def _count(self) -> None:
        reconciled = self.desk.reconciled

        def counted(snapshot: Any) -> None:
            self.snapshots += 1
            reconciled(snapshot)

        self.desk.reconciled = counted  # type: ignore[method-assign]

    @property
    def status(self) -> str:
        return self.supervisor.connection.status

    @property
    def text(self) -> str:
        return self.supervisor.connection.text

    async def ready(self) -> None:
        await until(lambda: self.desk.ready_since and self.status == "connected")


@contextlib.asynccontextmanager
async def house(folder: Path, server: PaperServer | int, rules: AccountRules | None = None) -> AsyncIterator[House]:
    found = House(folder, lambda: server if isinstance(server, int) else server.port, rules or AccountRules())
    running = asyncio.ensure_future(found.supervisor.run())
    try:
        yield found
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        found.tws.disconnect()
        found.journal.close()
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not wait seconds: every pause is a twentieth, and their proportions stay."""
    monkeypatch.setattr(module, "_FIRST_PAUSES", tuple(pause / 20 for pause in module._FIRST_PAUSES))
    monkeypatch.setattr(module, "_LATER_PAUSES", tuple(pause / 20 for pause in module._LATER_PAUSES))
    monkeypatch.setattr(module, "_REFUSED_PAUSE", 0.1)
    monkeypatch.setattr(module, "PROBE_EVERY", 0.1)
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.2)
    monkeypatch.setattr(module, "_SNAPSHOT_GAP", 0.05)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """The fields of the log lines with a given event."""
    with caplog.at_level(logging.DEBUG):
        yield lambda event: [
            record.__dict__.get("fields", {}) for record in caplog.records if record.getMessage() == event
        ]


def test_pauses_are_as_promised() -> None:
    """Three tries 5 s apart, then at most 30 s; a frozen TWS is noticed within 5 s."""
    assert REAL["_FIRST_PAUSES"] == (5.0, 5.0, 5.0, 10.0, 20.0, 30.0) and max(REAL["_LATER_PAUSES"]) == 30.0
    assert REAL["PROBE_EVERY"] + REAL["PROBE_SECONDS"] < 5.0 and REAL["SETTLE_SECONDS"] >= 3.0


@on_loop
async def test_ready_after_one_connection(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        assert found.desk.book.account == ACCOUNT == found.journal.account()
        assert found.text == f"TWS, paper account {ACCOUNT}" and found.desk.can_send


@on_loop
async def test_first_three_tries_are_said_and_it_goes_on(
    tmp_path: Path, free_port: Callable[[], int], lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    async with house(tmp_path, free_port()) as found:
        await until(lambda: len(found.tries) >= 5)
        said = lines("tws_not_connected")
        assert [line["attempt"] for line in said] == ["1 of 3", "2 of 3", "3 of 3"]
        assert [line["then"] for line in said] == ["next try in 5 s"] * 2 + ["retrying in the background"]
        gaps = [later - earlier for earlier, later in zip(found.tries, found.tries[1:], strict=False)]
        assert [gap >= pause / 20 for gap, pause in zip(gaps, REAL["_FIRST_PAUSES"], strict=False)] == [True] * 4
        assert found.status == "disconnected" and "nothing listens" in found.text
        assert lines("tws_disconnected") == []  # the same reason is not said again


@on_loop
async def test_restart_of_tws_needs_no_person(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        server.restart(0.3)
        await until(lambda: found.status == "disconnected")
        assert not found.desk.can_send and "closed" in found.text
        await found.ready()


@on_loop
async def test_frozen_tws_is_given_up_and_found_again(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        server.gateway.freeze()
        await until(lambda: not found.desk.can_send)
        assert "frozen" in found.text
        server.gateway.thaw()
        await found.ready()


@on_loop
async def test_client_id_in_use_is_waited_for_under_the_same_id(tmp_path: Path) -> None:
    async with paper() as server:
        holder = Tws(SystemClock())
        await holder.connect(HOST, server.port, 1)
        async with house(tmp_path, server) as found:
            await until(lambda: len(found.tries) >= 3)
            assert "client id 1 is in use at TWS" in found.text
            holder.disconnect()
            await found.ready()
            assert [session.client_id for session in server.gateway.sessions] == [1]


@pytest.mark.parametrize("kind", ["openOrderEnd", "completedOrdersEnd", "positionEnd", "accountDownloadEnd"])
@on_loop
async def test_nothing_is_sent_on_a_snapshot_that_is_not_whole(tmp_path: Path, kind: str) -> None:
    async with paper() as server:
        server.fault("missing_end", kind=kind)
        async with house(tmp_path, server) as found:
            await until(lambda: "did not finish sending" in found.text)
            assert found.snapshots == 0 and not found.desk.can_send
            await found.ready()


@on_loop
async def test_link_of_tws_to_ibkr(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        for _ in range(3):
            server.exchange.lose_connection()
        await until(lambda: not found.desk.can_send)
        assert found.status == "connected"
        before = found.snapshots
        server.exchange.restore_connection(1102)
        await until(lambda: found.desk.can_send and found.snapshots > before)


@on_loop
async def test_lost_link_without_an_end_is_asked_about_anew(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_LINK_LOST_SECONDS", 0.2)
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        server.exchange.notice(2110, "Connectivity between Trader Workstation and server is broken.")
        await until(lambda: not found.desk.can_send)
        await until(lambda: len(found.tries) == 2)
        await until(lambda: found.desk.can_send)


@on_loop
async def test_wanted_snapshots_are_read_one_at_a_time(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        for _ in range(20):
            found.supervisor.want_snapshot("test")
        await until(lambda: found.snapshots >= 2)
        await asyncio.sleep(0.2)
        assert found.snapshots <= 3


@on_loop
async def test_orders_in_doubt_want_two_equal_snapshots(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        found.desk.needs_settling = lambda: True  # type: ignore[method-assign]
        began = time.monotonic()
        await found.ready()
        assert time.monotonic() - began >= 0.2 and SEEN["reqAllOpenOrders"] == 2


@on_loop
async def test_unequal_snapshots_do_not_settle(tmp_path: Path) -> None:
    async with paper() as server:
        other = Tws(SystemClock())
        await other.connect(HOST, server.port, 9)
        async with house(tmp_path, server) as found:
            found.desk.needs_settling = lambda: True  # type: ignore[method-assign]
            await until(lambda: SEEN["reqPositions"] == 1)
            await asyncio.sleep(0.05)
            other.send(working(1))
            await found.ready()
            assert SEEN["reqAllOpenOrders"] == 3
        other.disconnect()


@on_loop
async def test_sleep_of_the_computer_gives_the_connection_up(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        found.supervisor.drop("this computer was suspended for 600 s; reconnecting")
        assert not found.desk.can_send
        await until(lambda: len(found.tries) == 2)
        await found.ready()


def test_sleep_watch_compares_two_clocks() -> None:
    class TwoClocks(SystemClock):
        wall, run = SystemClock().now(), 0.0

        def now(self) -> Any:
            return self.wall

        def monotonic(self) -> float:
            return self.run

    clock = TwoClocks()
    watch = SleepWatch(clock)

    def after(wall: float, run: float) -> str | None:
        clock.wall, clock.run = clock.wall + timedelta(seconds=wall), clock.run + run
        return watch.look()

    assert after(0.5, 0.5) is None
    assert "was suspended for 600 s" in str(after(600, 0.5))  # Linux: the monotonic clock stands while asleep
    assert "was suspended for 600 s" in str(after(600, 600))  # Windows, macOS, or a stopped process
    assert "set back by 3600 s" in str(after(-3600, 0.5))
    assert after(0.5, 0.5) is None


# --- whose account ----------------------------------------------------------------------------------------------


@on_loop
async def test_login_with_two_accounts_needs_a_choice(tmp_path: Path) -> None:
    async with paper(accounts=["DU1", "DU2"]) as server, house(tmp_path, server) as found:
        await until(lambda: found.supervisor.refused)
        assert "several accounts (DU1, DU2); name one with --account" in found.text
        assert not found.desk.can_send and found.journal.standing_alarms()[0]["kind"] == "account"
        await until(lambda: len(found.tries) >= 3)
        assert found.snapshots == 0


@on_loop
async def test_chosen_account_is_traded(tmp_path: Path) -> None:
    rules = AccountRules(account="DU2")
    async with paper(accounts=["DU1", "DU2"]) as server, house(tmp_path, server, rules) as found:
        await found.ready()
        assert found.desk.book.account == "DU2" == found.journal.account()


@on_loop
async def test_live_account_needs_the_word(tmp_path: Path) -> None:
    async with paper(accounts=["U777"]) as server:
        async with house(tmp_path, server) as found:
            await until(lambda: found.supervisor.refused)
            assert "U777 is a live account with real money; to trade it, start with --live U777" in found.text
            assert found.journal.account() is None
        async with house(tmp_path, server, AccountRules(live="U777")) as found:
            await found.ready()
            assert found.supervisor.connection.mode == "live"
            assert found.journal.standing_alarms() == []  # the refusal before is over


@on_loop
async def test_journal_of_another_account_stops_and_its_facts_are_not_heard(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
    async with paper(accounts=["DU9"]) as server:
        other = Tws(SystemClock())
        await other.connect(HOST, server.port, 1)
        other.send(ticket(1, account="DU9"))
        await other.probe()
        other.disconnect()
        async with house(tmp_path, server) as found:
            heard: list[Any] = []
            found.desk.on_order = heard.append  # type: ignore[method-assign]
            await until(lambda: found.supervisor.refused)
            assert f"this journal belongs to account {ACCOUNT}, but TWS is logged in to DU9" in found.text
            assert heard == [] and found.desk.book.account != "DU9"


@on_loop
async def test_everything_is_read_after_the_owner_asked(tmp_path: Path) -> None:
    """His word is carried out on what was read after it was given, not on what stood there before."""
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        asked_at = found.desk._clock.now()
        await found.supervisor.read_anew(10)
        assert found.desk.sight.was_read_since(asked_at)


@on_loop
async def test_reading_anew_does_not_wait_for_a_tws_that_is_away(tmp_path: Path) -> None:
    async with paper() as server, house(tmp_path, server) as found:
        await found.ready()
        found.desk.disconnected("TWS is away")
        await asyncio.wait_for(found.supervisor.read_anew(60), 5)
