"""A bracket's life as ib_insync or ib_async sees it: `life.py MODULE PORT CONTROL`; prints what happened as JSON."""

import asyncio
import importlib
import json
import sys

name, port, control = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
asyncio.set_event_loop(asyncio.new_event_loop())  # ib_insync asks for one at import, and Python 3.14 makes none
api = importlib.import_module(name)


async def say(**message):
    reader, writer = await asyncio.open_connection("127.0.0.1", control)
    writer.write(json.dumps(message).encode() + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    return answer["result"]


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise SystemExit("it did not happen within five seconds")


async def main():  # noqa: PLR0915 - one story, told in order
    ib = api.IB()
    codes = []
    ib.errorEvent += lambda number, code, *_: codes.append(code)
    await ib.connectAsync("127.0.0.1", port, clientId=7, timeout=30)
    (contract,) = await ib.qualifyContractsAsync(api.Forex("EURUSD"))
    details = (await ib.reqContractDetailsAsync(contract))[0]
    rule = await ib.reqMarketRuleAsync(int(details.marketRuleIds.split(",")[0]))
    preview = await ib.whatIfOrderAsync(contract, api.MarketOrder("BUY", 20000))
    ids = [ib.client.getReqId() for _ in range(3)]
    entry = api.MarketOrder("BUY", 20000, orderId=ids[0], transmit=False, orderRef="sx1:x:E", tif="GTC")
    take = api.LimitOrder(
        "SELL", 20000, 1.20, orderId=ids[1], parentId=ids[0], transmit=False, orderRef="sx1:x:T", tif="GTC"
    )
    stop = api.StopOrder("SELL", 20000, 1.18, orderId=ids[2], parentId=ids[0], orderRef="sx1:x:S", tif="GTC")
    trades = [ib.placeOrder(contract, order) for order in (entry, take, stop)]
    await until(lambda: [one.orderStatus.status for one in trades] == ["Filled", "Submitted", "PreSubmitted"])
    await until(lambda: [one.position for one in ib.positions()] == [20000])
    await until(lambda: [one.position for one in ib.portfolio()] == [20000])
    held = ib.positions()[0].avgCost
    stop.auxPrice, stop.parentId = 1.185, 0
    ib.placeOrder(contract, stop)
    await until(lambda: trades[2].log[-1].message.startswith("Modif"))
    await say(do="set_price", symbol="EURUSD", price="1.2005")
    await until(lambda: [one.orderStatus.status for one in trades] == ["Filled", "Filled", "Cancelled"])
    await until(lambda: not ib.positions())
    values = {one.tag: one.value for one in ib.accountValues() if one.currency == "USD"}
    summary = {one.tag for one in await ib.accountSummaryAsync()}
    ib.disconnect()
    again = api.IB()
    await again.connectAsync("127.0.0.1", port, clientId=7, timeout=30)
    refs = sorted(one.order.orderRef for one in again.trades())
    fills = sorted((one.execution.orderRef, one.execution.price) for one in again.fills())
    next_id = again.client.getReqId()
    again.disconnect()
    print(json.dumps({
        "fills": fills, "refs": refs, "avg": held, "next": next_id > ids[2], "codes": sorted(set(codes)),
        "commission": trades[0].fills[0].commissionReport.commission, "tick": rule[0].increment,
        "margin": float(preview.initMarginChange), "net": values["NetLiquidation"],
        "summary": {"NetLiquidation", "BuyingPower"} <= summary,
    }))  # fmt: skip


asyncio.run(main())
