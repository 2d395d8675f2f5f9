"""A trailing stop as the official client sees it, 9.81 or 10: `official_exits.py PORT CONTROL`; prints what happened as JSON.

A limit order with a TRAIL as its child fills; the stop follows the market; it is changed with the last stop and without;
what TWS does not take is refused; a market order has a stop that becomes one; the stops are reached.
"""

import json

from official_app import APPLE, App, order, say

app = App()
entry, stop = app.first, app.first + 1
say(do="set_price", symbol="AAPL", price="263.5")
app.placeOrder(entry, APPLE, order("BUY", "LMT", lmtPrice=264, transmit=False, orderRef="E"))
app.placeOrder(stop, APPLE, order("SELL", "TRAIL", auxPrice=2, trailStopPrice=260, parentId=entry, orderRef="S"))
app.wait("status", entry, "Filled")
app.wait("openOrder", stop, 260.0)
app.wait("openOrder", stop, 261.5)  # drawn up by the market as it wakes
say(do="set_price", symbol="AAPL", price="266")
app.wait("openOrder", stop, 264.0)
say(do="set_price", symbol="AAPL", price="265")
app.placeOrder(stop, APPLE, order("SELL", "TRAIL", auxPrice=2, trailStopPrice=264, totalQuantity=7, orderRef="S"))
app.wait("openOrder", stop, 264.0, 7.0)
app.placeOrder(stop, APPLE, order("SELL", "TRAIL", auxPrice=2, totalQuantity=6, orderRef="S"))
app.wait("openOrder", stop, 263.0, 6.0)  # begun anew
app.placeOrder(stop, APPLE, order("SELL", "STP", auxPrice=262, totalQuantity=6, orderRef="S"))
app.wait("error", stop, 329)
app.placeOrder(stop, APPLE, order("SELL", "TRAIL", auxPrice=2, trailingPercent=1, totalQuantity=6, orderRef="S"))
app.wait("error", stop, 320)
app.placeOrder(stop + 1, APPLE, order("BUY", "MKT", transmit=False))
app.placeOrder(stop + 2, APPLE, order("SELL", "TRAIL", auxPrice=2, parentId=stop + 1))
app.wait("error", stop + 2, 328)
becomes = {"adjustedOrderType": "TRAIL", "triggerPrice": 266, "adjustedStopPrice": 264, "adjustedTrailingAmount": 2}
app.placeOrder(stop + 3, APPLE, order("BUY", "MKT", transmit=False))
app.placeOrder(stop + 4, APPLE, order("SELL", "STP", auxPrice=262, parentId=stop + 3, **becomes))
app.wait("openOrder", stop + 4, 262.0, 10.0, "STP")
say(do="set_price", symbol="AAPL", price="267")
app.wait("openOrder", stop + 4, 265.0, 10.0, "TRAIL")
say(do="set_price", symbol="AAPL", price="263")
app.wait("status", stop + 4, "Filled")
app.wait("status", stop, "Filled")
app.reqCompletedOrders(False)
app.wait("completedEnd")
print(json.dumps({
    "version": app.serverVersion(), "position": say(do="positions")[0]["quantity"],
    "shown": app.since("openOrder", stop)[0][2:], "completed": [one[1:] for one in app.since("completed", "S")],
}))  # fmt: skip
app.disconnect()
