"""A bracket's life as the official client sees it, 9.81 or 10: `official.py PORT CONTROL`; prints what happened as JSON."""

import json
import socket
import sys
import threading

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.execution import ExecutionFilter
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
                sys.exit(f"{what} was not heard: {self.heard}")
            return next(one for one in self.heard if one[: len(what)] == what)

    def nextValidId(self, orderId):
        self.put("nextValidId", orderId)

    def contractDetails(self, reqId, contractDetails):
        self.put("details", contractDetails.contract.conId, contractDetails.minTick, contractDetails.longName)

    def contractDetailsEnd(self, reqId):
        self.put("detailsEnd")

    def openOrder(self, orderId, contract, order, orderState):
        self.put(
            "openOrder", orderId, order.orderRef, order.orderType, order.auxPrice, order.ocaType, orderState.status
        )

    def orderStatus(self, orderId, status, filled, remaining, *rest):
        self.put("status", orderId, status, filled)

    def execDetails(self, reqId, contract, execution):
        self.put("exec", execution.orderRef, execution.price, reqId)

    def execDetailsEnd(self, reqId):
        self.put("execEnd")

    def commissionReport(self, report):
        self.put("commission", report.commission)

    def commissionAndFeesReport(self, report):  # its name in 10.30 and later
        self.put("commission", report.commissionAndFees)

    def completedOrder(self, contract, order, orderState):
        self.put("completed", order.orderRef, orderState.status)

    def completedOrdersEnd(self):
        self.put("completedEnd")

    def position(self, account, contract, position, avgCost):
        self.put("position", contract.symbol, float(position), avgCost)

    def positionEnd(self):
        self.put("positionEnd")

    def updateAccountValue(self, key, val, currency, accountName):
        self.put("value", key, val)

    def accountDownloadEnd(self, accountName):
        self.put("download")

    def tickPrice(self, reqId, tickType, price, attrib):
        self.put("tick", tickType, price)

    def error(self, reqId, *told):  # 10.30 and later: the time comes before the code
        self.put("error", next(one for one in told if isinstance(one, int) and one < 100_000), reqId)


def say(**message):
    with socket.create_connection(("127.0.0.1", control)) as connection:
        connection.sendall(json.dumps(message).encode() + b"\n")
        return json.loads(connection.makefile().readline())["result"]


def order(action, kind, **fields):
    one = Order()
    one.action, one.orderType, one.totalQuantity, one.tif, one.eTradeOnly, one.firmQuoteOnly = (
        action,
        kind,
        20000,
        "GTC",
        "",
        "",
    )
    for name, value in fields.items():
        setattr(one, name, value)
    return one


app = App()
app.connect("127.0.0.1", port, 3)
threading.Thread(target=app.run, daemon=True).start()
first = app.wait("nextValidId")[1]
eurusd = Contract()
eurusd.symbol, eurusd.secType, eurusd.exchange, eurusd.currency = "EUR", "CASH", "IDEALPRO", "USD"
app.reqContractDetails(1, eurusd)
app.wait("detailsEnd")
app.reqAccountUpdates(True, "")
app.wait("download")
app.reqMktData(2, eurusd, "", False, False, [])
app.wait("tick", 1)
app.placeOrder(first, eurusd, order("BUY", "MKT", transmit=False, orderRef="E"))
app.placeOrder(first + 1, eurusd, order("SELL", "LMT", lmtPrice=1.20, parentId=first, transmit=False, orderRef="T"))
app.placeOrder(first + 2, eurusd, order("SELL", "STP", auxPrice=1.18, parentId=first, orderRef="S"))
app.wait("status", first, "Filled")
app.wait("status", first + 2, "PreSubmitted")
app.reqPositions()
app.wait("positionEnd")
say(do="set_price", symbol="EURUSD", price="1.1795")
app.wait("status", first + 2, "Filled")
app.wait("status", first + 1, "Cancelled")
app.reqExecutions(9, ExecutionFilter())
app.wait("execEnd")
app.reqCompletedOrders(False)
app.wait("completedEnd")
print(json.dumps({
    "version": app.serverVersion(), "details": app.wait("details")[1:], "position": app.wait("position")[1:],
    "stop": next(one[2:] for one in app.heard if one[:2] == ("openOrder", first + 2)),
    "fills": [one[1:3] for one in app.heard if one[0] == "exec" and one[3] == 9],
    "completed": sorted(one[1:] for one in app.heard if one[0] == "completed"),
    "commission": app.wait("commission")[1],
}))  # fmt: skip
app.disconnect()
