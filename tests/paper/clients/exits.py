"""Exits that move as ib_insync or ib_async sees them: `exits.py MODULE PORT CONTROL`; prints what happened as JSON.

The library decodes trailStopPrice and copies it into no Trade that it knows: the wrapper's openOrder is listened to.
"""

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


def pair(ids, parent, number, size, target):
    link = {"parentId": parent, "tif": "GTC", "transmit": False, "ocaGroup": f"pair{number}", "ocaType": 2}
    return [api.LimitOrder("SELL", size, target, orderId=next(ids), orderRef=f"T{number}", **link),
            api.StopOrder("SELL", size, 250, orderId=next(ids), orderRef=f"S{number}", **link)]  # fmt: skip


async def main():  # noqa: PLR0915 - one story, told in order
    ib, codes, stops, groups = api.IB(), [], [], {}
    ib.errorEvent += lambda number, code, *_: codes.append(code)
    heard = ib.wrapper.openOrder

    def open_order(order_id, contract, order, state):
        groups[order.orderRef] = order.ocaGroup, order.ocaType
        if order.orderType == "TRAIL":
            stops.append(order.trailStopPrice)
        heard(order_id, contract, order, state)

    ib.wrapper.openOrder = open_order
    await ib.connectAsync("127.0.0.1", port, clientId=7, timeout=30)
    (contract,) = await ib.qualifyContractsAsync(api.Stock("AAPL", "SMART", "USD"))
    await say(do="set_price", symbol="AAPL", price="263.5")
    ids = iter([ib.client.getReqId() for _ in range(7)])
    entry = api.MarketOrder("BUY", 100, orderId=next(ids), transmit=False, orderRef="E", tif="GTC")
    orders = [entry, *pair(ids, entry.orderId, 1, 25, 270), *pair(ids, entry.orderId, 2, 75, 280)]
    orders[-1].transmit = True
    trades = {order.orderRef: ib.placeOrder(contract, order) for order in orders}
    await until(
        lambda: trades["S2"].orderStatus.status == "PreSubmitted" and trades["S2"].orderStatus.whyHeld != "child"
    )
    await until(lambda: groups["S2"] == ("pair2", 2))
    await say(do="set_price", symbol="AAPL", price="271")
    await until(lambda: trades["S1"].orderStatus.status == "Cancelled")
    stop = orders[-1]
    stop.auxPrice, stop.totalQuantity, stop.parentId = 263, 70, 0
    ib.placeOrder(contract, stop)
    await until(lambda: trades["S2"].log[-1].message.startswith("Modif"))
    changed = next(one for one in await ib.reqAllOpenOrdersAsync() if one.order.orderRef == "S2").order
    trail = api.Order(
        action="SELL", orderType="TRAIL", totalQuantity=5, auxPrice=2, tif="GTC", orderId=next(ids), orderRef="R"
    )
    rest = ib.placeOrder(contract, trail)
    await until(lambda: stops == [269])
    await say(do="set_price", symbol="AAPL", price="275")
    await until(lambda: stops == [269, 273])
    stale = rest.order.trailStopPrice
    await say(do="set_price", symbol="AAPL", price="272")
    await until(lambda: rest.orderStatus.status == "Filled")
    positions = [one.position for one in await ib.reqPositionsAsync()]
    ib.disconnect()
    print(json.dumps({
        "positions": positions, "stop": [changed.auxPrice, changed.totalQuantity], "stops": stops[:2], "last": stops[-1],
        "stale": stale != 273, "filled": rest.orderStatus.avgFillPrice,
        "codes": sorted({code for code in codes if code < 2000}),
    }))  # fmt: skip


asyncio.run(main())
