"""Real ib_insync in memory under a virtual clock."""

from __future__ import annotations

import asyncio

import pytest
from ib_insync import Forex, MarketOrder

from executor.paper.actions import perform
from tests.paper.harness import Tws
from tests.paper.memory import in_memory


def test_ib_insync_trades_and_reconnects_in_memory(tws: Tws) -> None:
    async def check() -> None:
        ib = in_memory(tws.server)
        await ib.connectAsync("", 0, clientId=1, timeout=30)
        contract = (await ib.qualifyContractsAsync(Forex("EURUSD")))[0]
        trade = ib.placeOrder(contract, MarketOrder("BUY", 20000, tif="DAY"))
        await ib.reqCurrentTimeAsync()
        assert trade.orderStatus.status == "Filled" and trade.fills[0].execution.time == tws.clock.now()
        perform(tws.server, "restart", down_seconds=30)
        await asyncio.sleep(0)
        assert not ib.isConnected()
        with pytest.raises(ConnectionRefusedError):
            await ib.connectAsync("", 0, clientId=1, timeout=30)
        tws.advance(31)
        await ib.connectAsync("", 0, clientId=1, timeout=30)
        assert [one.position for one in ib.positions()] == [20000.0] and len(ib.fills()) == 1
        ib.disconnect()

    asyncio.run(check())
