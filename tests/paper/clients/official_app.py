"""The official client, 9.81 or 10, for the scripts beside this one: what it heard, and waiting for it."""

import faulthandler
import json
import socket
import sys
import threading
import time

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.order import Order
from ibapi.wrapper import EWrapper

PORT, CONTROL = int(sys.argv[1]), int(sys.argv[2])
faulthandler.dump_traceback_later(80, exit=True)  # one that hangs says where, before its test loses patience


class App(EWrapper, EClient):
    """Connected under a client id. `heard`: (callback, facts …), in order."""

    def __init__(self, client_id=3):
        EClient.__init__(self, self)
        self.number = client_id
        self.heard, self.changed, self.seen = [], threading.Condition(), 0
        self.connect("127.0.0.1", PORT, client_id)
        threading.Thread(target=self.run, daemon=True).start()
        self.first = self.wait("nextValidId")[1]

    def leave(self):
        """Disconnect, and return once TWS has noticed."""
        self.disconnect()
        for _ in range(1000):
            if self.number not in say(do="status")["clients"]:
                return
            time.sleep(0.02)
        sys.exit("the paper TWS did not notice a disconnect within twenty seconds")

    def put(self, *what):
        with self.changed:
            self.heard.append(what)
            self.changed.notify_all()

    def wait(self, *what):
        """Return the first callback since `mark` that begins like this; end the script if none comes."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.since(*what), 30):
                self.disconnect()
                sys.exit(f"{what} was not heard: {self.heard}")
            return self.since(*what)[0]

    def since(self, *what):
        return [one for one in self.heard[self.seen :] if one[: len(what)] == what]

    def mark(self):
        """Let `wait` look at what is heard from now on."""
        self.seen = len(self.heard)

    def nextValidId(self, orderId):
        self.put("nextValidId", orderId)

    def openOrder(self, orderId, contract, order, orderState):
        price = {"TRAIL": order.trailStopPrice, "LMT": order.lmtPrice}.get(order.orderType, order.auxPrice)
        self.put("openOrder", orderId, price, float(order.totalQuantity), order.orderType, order.auxPrice)

    def openOrderEnd(self):
        self.put("openOrderEnd")

    def orderStatus(self, orderId, status, filled, *rest):
        self.put("status", orderId, status, float(filled))

    def completedOrder(self, contract, order, orderState):
        self.put("completed", order.orderRef, order.trailStopPrice, orderState.status)

    def completedOrdersEnd(self):
        self.put("completedEnd")

    def error(self, reqId, *told):  # 10.30 and later: the time comes before the code
        self.put("error", reqId, next(one for one in told if isinstance(one, int) and 0 < one < 100_000))


def say(**message):
    """Ask the control port."""
    with socket.create_connection(("127.0.0.1", CONTROL), timeout=30) as connection:
        connection.sendall(json.dumps(message).encode() + b"\n")
        answer = json.loads(connection.makefile().readline())
    if not answer["ok"]:
        sys.exit(answer["error"])
    return answer["result"]


def order(action, kind, **fields):
    """Return an order for ten, good till cancelled."""
    one = Order()
    one.action, one.orderType, one.totalQuantity, one.tif = action, kind, 10, "GTC"
    one.eTradeOnly, one.firmQuoteOnly = "", ""
    for name, value in fields.items():
        setattr(one, name, value)
    return one


APPLE = Contract()
APPLE.symbol, APPLE.secType, APPLE.exchange, APPLE.currency = "AAPL", "STK", "SMART", "USD"
