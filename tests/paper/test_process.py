"""The program: its ready line, control port, scenario, and what survives a kill."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from ib_insync import IB, Forex, LimitOrder, MarketOrder, StopOrder

from common.clock import FakeClock, SystemClock
from executor.paper.control import ControlClient, ControlError, ControlServer, parse_words
from executor.paper.exchange import Exchange
from executor.paper.scenario import load, play
from executor.paper.server import PaperServer
from executor.paper.store import FileStore
from executor.paper.truth import Truth
from tests.paper.harness import AAPL, START, Api, Tws
from tests.paper.processes import ROOT, Paper


def test_state_and_truth_survive_a_kill(tmp_path: Path) -> None:
    state, truth = tmp_path / "state.db", tmp_path / "truth.jsonl"
    first = Paper("--state", state, "--truth", truth, "--quiet")
    assert len(first.lines) == 1
    first.control.do("manual_order", symbol="EURUSD", action="BUY", quantity=20000)
    first.control.do(
        "manual_order", symbol="EURUSD", action="SELL", quantity=20000, order_type="STP", price="1.18", tif="GTC"
    )
    first.control.set_price("EURUSD", "1.195")
    before = [first.control.do(name) for name in ("positions", "orders", "executions", "cash", "account")]
    first.kill()
    second = Paper("--state", state, "--truth", truth, "--quiet")
    assert [second.control.do(name) for name in ("positions", "orders", "executions", "cash", "account")] == before
    assert second.control.price("EURUSD") == Decimal("1.195")
    second.control.set_price("EURUSD", "1.179")
    assert second.control.positions() == [] and second.end() == 0
    entries = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [entry["n"] for entry in entries] == list(range(1, len(entries) + 1))
    filled = [entry for entry in entries if entry["event"] == "filled"]
    assert len(filled) == 2 and len({entry["execId"] for entry in filled}) == 2


def test_ids_of_clients_survive(tmp_path: Path) -> None:
    def fresh() -> Tws:
        return Tws(store=FileStore(tmp_path / "state.db"))

    before = fresh()
    before.connect().place(AAPL, LimitOrder("BUY", 1, 100, orderId=41, tif="GTC"))
    before.exchange.close()
    after = fresh()
    api = after.connect(quiet=False)
    assert ("nextValidId", (42,)) in api.take()
    api.place(AAPL, LimitOrder("BUY", 2, 100, orderId=41, tif="GTC"))
    assert [one.quantity for one in after.exchange.floor.book.live.values()] == [2]
    after.exchange.close()


def test_truth_that_was_saved_but_not_written_is_written_later(tmp_path: Path) -> None:
    """A kill between the saved state and the log's file loses no entry."""
    path = tmp_path / "truth.jsonl"
    first = Tws(store=FileStore(tmp_path / "state.db"), truth=Truth(path))
    first.connect().place(AAPL, MarketOrder("BUY", 1, orderId=1))
    first.exchange.close()
    whole = path.read_text()
    path.write_text(whole[: whole.index('"event": "filled"') + 30])  # the file ends in the middle of a line
    Tws(store=FileStore(tmp_path / "state.db"), truth=Truth(path)).exchange.close()
    words = [json.loads(line)["event"] for line in path.read_text().splitlines() if line.endswith("}")]
    assert words == ["connected", "accepted", "filled", "position"]


def test_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    paper = Paper()
    ended = subprocess.run(
        [sys.executable, "-m", "executor.paper", "--port", str(paper.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1 and str(paper.port) in ended.stderr
    assert paper.end() == 0


def test_contracts_and_two_accounts(tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text(
        '[[contract]]\nsymbol="MES"\nsec_type="FUT"\nexchange="CME"\nprice="7000"\ntick="0.25"\nmultiplier=5\n'
    )
    paper = Paper("--contracts", file, "--accounts", "DU1, DU2")
    paper.control.do("manual_order", symbol="MES", action="BUY", quantity=2, account="DU2")
    (held,) = paper.control.positions()
    assert (held["account"], held["symbol"], held["quantity"]) == ("DU2", "MES", "2")
    assert paper.control.do("account", account="DU1")["NetLiquidation"] == "1000000.00" and paper.end() == 0


def test_scenario_acts_on_entries_messages_and_time(tws: Tws, tmp_path: Path) -> None:
    file = tmp_path / "story.toml"
    file.write_text(
        '[[step]]\non = {event = "filled", action = "BUY"}\n'
        'do = "set_price"\nwith = {symbol = "EURUSD", price = "1.2005"}\n'
        '[[step]]\non = {message = "reqCurrentTime", n = 2}\ndo = "disconnect"\n'
        '[[step]]\nat = 5\ndo = "set_price"\nwith = {symbol = "EURUSD", price = "1.15"}\n'
    )
    play(tws.server, load(file))
    api = tws.connect()
    api.bracket()
    assert tws.position() == 0 and "2 Filled" in api.story()
    api.reqCurrentTime()
    assert not api.cut
    api.reqCurrentTime()
    assert api.cut
    tws.advance(6)
    assert tws.exchange.price("EURUSD") == Decimal("1.15")


def test_path_passes_every_level(tws: Tws, api: Api) -> None:
    """A late tick plays all points of a path: a stop in between is not jumped over."""
    api.bracket()
    tws.exchange.follow("EURUSD", [(1, Decimal("1.179")), (2, Decimal("1.21"))])
    tws.advance(10)
    assert tws.position() == 0 and tws.truth("filled")[-1]["orderRef"] == "sx1:1:S"


def test_walk_is_the_same_for_a_seed() -> None:
    def walk(seed: int) -> list[Decimal]:
        tws = Tws(seed=seed, volatility=0.5)
        prices = []
        for _ in range(50):
            tws.advance(1)
            prices.append(tws.exchange.price("EURUSD"))
        return prices

    assert walk(1) == walk(1) != walk(2) and max(walk(1)) - min(walk(1)) < Decimal("0.01")


def test_control_port_says_what_was_wrong(eventually: Callable[..., object]) -> None:
    paper = Paper()
    with pytest.raises(ControlError, match="nothing is called 'dance'"):
        paper.control.do("dance")
    with pytest.raises(ControlError, match="set_price"):
        paper.control.do("set_price", symbol="EURUSD")
    with pytest.raises(ControlError, match="no instrument is called"):
        paper.control.set_price("NOSUCH", "1")
    line = [sys.executable, "-m", "executor.paper.control", str(paper.control._port)]
    shown = subprocess.run([*line, "set-price", "EURUSD", "1.2"], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (shown.returncode, shown.stdout) == (0, "done\n") and paper.control.price("EURUSD") == Decimal("1.2")
    wrong = subprocess.run([*line, "dance"], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
    port = paper.control._port
    assert paper.end() == 0
    with pytest.raises(ControlError, match="no answer"):
        ControlClient(port).do("status")


def test_words_of_the_command_line() -> None:
    assert parse_words(["fault", "partials", "sizes=[3,2]", "role=entry"]) == (
        "fault", {"knob": "partials", "sizes": [3, 2], "role": "entry"})  # fmt: skip


def test_clock_of_a_test_is_moved_by_the_control_port() -> None:
    async def check() -> None:
        server = PaperServer(Exchange(FakeClock(START)))
        control = ControlServer(server)
        await control.start()
        client = ControlClient(control.port)
        await asyncio.to_thread(client.do, "advance", seconds=60)
        assert (server.exchange.floor.now - START).total_seconds() == 60
        client.close()
        await control.stop()

    asyncio.run(check())


def test_restart_over_sockets_shuts_the_port_and_opens_it_again() -> None:
    async def check() -> None:
        server = PaperServer(Exchange(SystemClock()))
        await server.start()
        ib = IB()
        await ib.connectAsync("127.0.0.1", server.port, clientId=1, timeout=30)
        contract = (await ib.qualifyContractsAsync(Forex("EURUSD")))[0]
        ib.placeOrder(contract, StopOrder("SELL", 20000, 1.1, tif="GTC", orderRef="kept"))
        await ib.reqCurrentTimeAsync()
        port = server.port
        server.restart(0.2)
        await asyncio.sleep(0.05)
        assert not ib.isConnected()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        for _ in range(100):
            await asyncio.sleep(0.05)
            try:
                await ib.connectAsync("127.0.0.1", port, clientId=1, timeout=30)
                break
            except OSError:
                continue
        assert [one.order.orderRef for one in ib.openTrades()] == ["kept"]
        ib.disconnect()
        await server.stop()

    asyncio.run(check())
