"""A trailing stop as the official client sees it, 9.81 or 10: `official_exits.py PORT CONTROL`; prints what happened as JSON.

A limit order with a TRAIL as its child fills; the stop follows the market; it is changed with the last stop and without;
what TWS does not take is refused; the stop is reached.
"""

import json
import socket
import sys
import threading

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.order import Order
from ibapi.wrapper import EWrapper

port, control = int(sys.argv[1]), int(sys.argv[2])


class App(EWrapper, EClient):
    def __init__(self):
        EClient.__init__(self, self)
        self.heard, self.changed = [], threading.Condition()

    def put(self, *what):
        with self.changed:
            self.heard.append(what)
            self.changed.notify_all()

    def wait(self, *what):
        with self.changed:
            if not self.changed.wait_for(lambda: any(one[: len(what)] == what for one in self.heard), 30):
                self.disconnect()
                sys.exit(f"{what} was not heard: {self.heard}")
            return next(one for one in self.heard if one[: len(what)] == what)

    def nextValidId(self, orderId):
        self.put("nextValidId", orderId)

    def openOrder(self, orderId, contract, order, orderState):
        self.put(
            "openOrder", orderId, order.trailStopPrice, float(order.totalQuantity), order.orderType, order.auxPrice
        )

    def orderStatus(self, orderId, status, *rest):
        self.put("status", orderId, status)

    def completedOrder(self, contract, order, orderState):
        self.put("completed", order.orderRef, order.trailStopPrice, orderState.status)

    def completedOrdersEnd(self):
        self.put("completedEnd")

    def error(self, reqId, *told):  # 10.30 and later: the time comes before the code
        self.put("error", reqId, next(one for one in told if isinstance(one, int) and 0 < one < 100_000))


def say(**message):
    with socket.create_connection(("127.0.0.1", control)) as connection:
        connection.sendall(json.dumps(message).encode() + b"\n")
        return json.loads(connection.makefile().readline())["result"]


def order(action, kind, **fields):
    one = Order()
    one.action, one.orderType, one.totalQuantity, one.tif = action, kind, 10, "GTC"
    one.eTradeOnly, one.firmQuoteOnly = "", ""
    for name, value in fields.items():
        setattr(one, name, value)
    return one


app = App()
app.connect("127.0.0.1", port, 3)
threading.Thread(target=app.run, daemon=True).start()
first = app.wait("nextValidId")[1]
stop = first + 1
apple = Contract()
apple.symbol, apple.secType, apple.exchange, apple.currency = "AAPL", "STK", "SMART", "USD"
say(do="set_price", symbol="AAPL", price="263.5")
app.placeOrder(first, apple, order("BUY", "LMT", lmtPrice=264, transmit=False, orderRef="E"))
app.placeOrder(stop, apple, order("SELL", "TRAIL", auxPrice=2, trailStopPrice=260, parentId=first, orderRef="S"))
app.wait("status", first, "Filled")
app.wait("openOrder", stop, 260.0)
app.wait("openOrder", stop, 261.5)  # drawn up by the market as it wakes
say(do="set_price", symbol="AAPL", price="266")
app.wait("openOrder", stop, 264.0)
say(do="set_price", symbol="AAPL", price="265")
app.placeOrder(stop, apple, order("SELL", "TRAIL", auxPrice=2, trailStopPrice=264, totalQuantity=7, orderRef="S"))
app.wait("openOrder", stop, 264.0, 7.0)
app.placeOrder(stop, apple, order("SELL", "TRAIL", auxPrice=2, totalQuantity=6, orderRef="S"))
app.wait("openOrder", stop, 263.0, 6.0)  # begun anew
app.placeOrder(stop, apple, order("SELL", "STP", auxPrice=262, totalQuantity=6, orderRef="S"))
app.wait("error", stop, 329)
app.placeOrder(stop, apple, order("SELL", "TRAIL", auxPrice=2, trailingPercent=1, totalQuantity=6, orderRef="S"))
app.wait("error", stop, 320)
app.placeOrder(first + 2, apple, order("BUY", "MKT", transmit=False))
app.placeOrder(first + 3, apple, order("SELL", "TRAIL", auxPrice=2, parentId=first + 2))
app.wait("error", first + 3, 328)
say(do="set_price", symbol="AAPL", price="263")
app.wait("status", stop, "Filled")
app.reqCompletedOrders(False)
app.wait("completedEnd")
print(json.dumps({
    "version": app.serverVersion(), "position": say(do="positions")[0]["quantity"],
    "shown": next(one[2:] for one in app.heard if one[:2] == ("openOrder", stop)),
    "completed": sorted(one[1:] for one in app.heard if one[0] == "completed" and one[1] == "S"),
}))  # fmt: skip
app.disconnect()
