"""A snapshot is whole or it is none."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from common.clock import SystemClock
from common.errors import BrokerUnavailable
from common.signals import Side
from executor.core.ports import Status
from executor.tws.client import SnapshotIncomplete
from executor.tws.prices import Prices
from executor.tws.reading import same_picture
from executor.tws.wire import Wire
from tests.wire.harness import ACCOUNT, EURUSD, between, bracket, client, on_loop, paper, ticket, until, working

ENDS = {
    "openOrderEnd": "open orders",
    "completedOrdersEnd": "completed orders",
    "positionEnd": "positions",
    "accountDownloadEnd": "account values",
}


@on_loop
async def test_empty_account_is_a_snapshot() -> None:
    async with paper() as server, client(server) as (tws, _):
        seen = await tws.snapshot()
        assert (seen.open_orders, seen.completed_orders, seen.fills, seen.positions) == ((), (), (), ())
        assert seen.day == datetime.now(UTC).date().isoformat()


@pytest.mark.parametrize("kind", ENDS)
@on_loop
async def test_missing_end_is_no_snapshot_and_names_the_part(kind: str) -> None:
    async with paper() as server, client(server, patience=0.2) as (tws, _):
        server.fault("missing_end", kind=kind)
        with pytest.raises(SnapshotIncomplete, match=f"finish sending its {ENDS[kind]} within"):
            await tws.snapshot()
        await tws.snapshot()  # the next one is whole


@on_loop
async def test_missing_end_of_no_executions_is_proven_by_a_round_trip() -> None:
    async with paper() as server, client(server) as (tws, _):
        server.fault("missing_end", kind="execDetailsEnd")
        assert (await tws.snapshot()).fills == ()


@on_loop
async def test_missing_end_after_executions_is_no_snapshot() -> None:
    async with paper() as server, client(server, patience=0.3) as (tws, ear):
        tws.send(ticket(1))
        await until(lambda: ear.all("fill"))
        server.fault("missing_end", kind="execDetailsEnd")
        with pytest.raises(SnapshotIncomplete, match="executions"):
            await tws.snapshot()


@on_loop
async def test_executions_left_out_are_noticed_by_the_completed_orders() -> None:
    """Neither executions nor their end come, but an order of today has filled: they are late, not absent."""

    def lose(frame: list[str]) -> list[list[str]]:
        replayed = frame[0] == "11" and int(frame[1]) > 0
        return [] if replayed or frame[0] == "55" else [frame]

    async with paper() as server, between(server, lose) as port, client(port, patience=0.3) as (tws, ear):
        tws.send(ticket(1))
        await until(lambda: ear.all("fill"))
        with pytest.raises(SnapshotIncomplete, match="executions"):
            await tws.snapshot()


@on_loop
async def test_unreadable_message_is_no_snapshot() -> None:
    def damage(frame: list[str]) -> list[list[str]]:
        return [frame[:20]] if frame[0] == "5" else [frame]

    async with paper() as server:
        async with client(server) as (tws, ear):
            tws.send(working(1))
            await until(lambda: ear.statuses(1))
        async with between(server, damage) as port, client(port) as (tws, _):
            with pytest.raises(SnapshotIncomplete):
                await tws.snapshot()


@on_loop
async def test_read_only_api_is_said() -> None:
    async with paper() as server, client(server, patience=0.3) as (tws, ear):
        server.fault("read_only")
        tws.send(ticket(1))
        await until(lambda: ear.all("refusal"))
        assert ear.all("refusal")[0].code == 321


@on_loop
async def test_error_321_while_reading_names_the_setting() -> None:
    def refuse(frame: list[str]) -> list[list[str]]:
        return [["4", "2", "-1", "321", "Error validating request", ""]] if frame[0] == "53" else [frame]

    async with paper() as server, between(server, refuse) as port, client(port, patience=0.3) as (tws, _):
        with pytest.raises(SnapshotIncomplete, match="untick Read-Only API"):
            await tws.snapshot()


@on_loop
async def test_orders_of_others_and_of_the_owner_are_seen() -> None:
    async with paper() as server, client(server) as (tws, _), client(server, 7) as (other, ear):
        other.send(working(3))
        other.send(ticket(4))
        server.owner.place(symbol="AAPL", action="BUY", quantity="5", order_type="LMT", price="100")
        server.owner.place(symbol="AAPL", action="BUY", quantity="2", order_type="MKT")
        await until(lambda: ear.all("fill"))
        seen = await tws.snapshot()
        assert {(report.client_id, report.order_id) for report in seen.open_orders} == {(7, 3), (0, 0)}
        assert len({report.perm_id for report in seen.open_orders}) == 2
        assert {(fill.client_id, fill.symbol) for fill in seen.fills} == {(7, "EURUSD"), (0, "AAPL")}
        assert {position.symbol: position.quantity for position in seen.positions} == {
            "EURUSD": Decimal(20000),
            "AAPL": Decimal(2),
        }


@on_loop
async def test_what_filled_while_away_is_found_with_its_commission() -> None:
    """The library's own book fires no event for it and shows it with nothing filled."""
    async with paper() as server:
        async with client(server) as (tws, ear):
            for each in bracket(1):
                tws.send(each)
            await until(lambda: ear.all("fill"))
        server.exchange.set_price("EURUSD", Decimal("1.2005"))
        async with client(server) as (tws, ear):
            seen = await tws.snapshot()
        by_ref = {fill.order_ref[-2:]: fill for fill in seen.fills}
        assert by_ref["E2"].side is Side.SELL and by_ref["E2"].commission == Decimal(2)
        assert by_ref["E2"].price == Decimal("1.2") and by_ref["E2"].at.tzinfo is UTC
        assert {report.order_ref[-2:]: report.status for report in seen.completed_orders} == {
            "E1": Status.FILLED, "E2": Status.FILLED, "E3": Status.CANCELLED,
        }  # fmt: skip
        assert seen.open_orders == () and seen.positions == ()
        assert ear.all("fill") == []  # said in the snapshot, not as news


@on_loop
async def test_order_that_ends_while_the_snapshot_is_read_is_shown_ended() -> None:
    async with paper() as server, client(server) as (tws, ear):
        tws.send(working(1))
        await until(lambda: ear.statuses(1))
        reading = asyncio.ensure_future(tws.snapshot())
        await asyncio.sleep(0)
        tws.cancel(1)
        seen = await reading
        statuses = [report.status for report in (*seen.open_orders, *seen.completed_orders)]
        assert statuses == [Status.CANCELLED] and not seen.open_orders


@on_loop
async def test_two_snapshots_at_once_are_refused() -> None:
    async with paper() as server, client(server) as (tws, _):
        first = asyncio.ensure_future(tws.snapshot())
        await asyncio.sleep(0)
        with pytest.raises(SnapshotIncomplete, match="another"):
            await tws.snapshot()
        await first


@on_loop
async def test_connection_that_ends_meanwhile_is_no_snapshot() -> None:
    async with paper() as server, client(server) as (tws, _):
        server.fault("missing_end", kind="openOrderEnd")
        reading = asyncio.ensure_future(tws.snapshot())
        await asyncio.sleep(0.05)
        server.gateway.close_all()
        with pytest.raises(BrokerUnavailable):
            await reading


@on_loop
async def test_several_accounts_are_told_apart() -> None:
    async with paper(accounts=["DU1", "DU2"]) as server, client(server) as (tws, ear):
        assert tws.accounts == ("DU1", "DU2")
        tws.send(ticket(1, account="DU2"))
        await until(lambda: ear.all("fill"))
        seen = await tws.snapshot()
        assert (seen.position("DU1", 12087792), seen.position("DU2", 12087792)) == (0, Decimal(20000))
        assert tws.positions() == () and tws.account_view().account == "DU1"


@on_loop
async def test_same_picture_is_blind_to_prices_only() -> None:
    async with paper() as server, client(server) as (tws, ear):
        for each in bracket(1, tp="1.30", sl="1.10"):
            tws.send(each)
        await until(lambda: ear.all("fill"))
        first = await tws.snapshot()
        server.exchange.set_price("EURUSD", Decimal("1.195"))
        second = await tws.snapshot()
        assert same_picture(first, second, {EURUSD.con_id})
        tws.cancel(2)
        await until(lambda: "cancelled" in ear.statuses(2))
        assert not same_picture(second, await tws.snapshot(), {EURUSD.con_id})


@on_loop
async def test_account_and_positions_for_the_page() -> None:
    async with paper() as server, client(server) as (tws, ear):
        await tws.snapshot()
        tws.send(ticket(1))
        await until(lambda: tws.positions() and tws.positions()[0].market_price)
        values = tws.account_view().values
        assert {"NetLiquidation", "TotalCashValue", "BuyingPower", "UnrealizedPnL", "RealizedPnL"} <= set(values)
        assert values["Currency"] == "USD"
        shown = tws.positions()[0]
        assert (shown.account, shown.symbol, shown.quantity) == (ACCOUNT, "EURUSD", Decimal(20000))
        assert shown.currency == "USD"


@on_loop
async def test_subscriptions_that_ended_are_not_remembered_for_good() -> None:
    """One was kept for each alert without a price."""
    wire, heard = Wire(SystemClock(), Prices(SystemClock()), 1), []
    wire.on_notice = lambda code, text: heard.append(code)
    for _ in range(5000):
        last = wire.ticker(7)
        assert wire.forget_ticker(7) == [last]
    wire.error(last, 300, "Can't find EId with tickerId")
    assert len(wire._given_up) <= 1000 and heard == [300]


@on_loop
async def test_balances_whose_tags_bear_a_prefix_are_read() -> None:
    """TWS 10.47 and later: Unrealised and Realised were not found under `$LEDGER-UnrealizedPnL`."""
    wire = Wire(SystemClock(), Prices(SystemClock()), 1)
    wire.updateAccountValue("NetLiquidation", "100000", "USD", "DU1")
    for tag, value, currency in (
        ("$LEDGER-Currency", "EUR", "EUR"),
        ("$LEDGER-UnrealizedPnL", "1", "EUR"),
        ("$LEDGER-UnrealizedPnL", "12.5", "BASE"),
        ("$LEDGER-RealizedPnL", "-3", "BASE"),
        ("$LEDGER-RealizedPnL", "7", "EUR"),
    ):
        wire.updateAccountValue(tag, value, currency, "DU1")
    assert (wire.values["UnrealizedPnL"], wire.values["RealizedPnL"]) == ("12.5", "-3")
    assert wire.values["Currency"] == "USD"
