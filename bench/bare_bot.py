"""The floor for (a): the simplest single process that turns a webhook into orders, written fairly.

One Flask application on waitress, one `ib_insync` connection on a loop of its own, EURUSD qualified once at the
start and any other contract at its first alert. No queue, no journal, no signature, no rules: an alert whose secret
is right becomes a bracket at once.

    python -m bench.bare_bot PORT TWS_PORT SECRET
"""

from __future__ import annotations

import asyncio
import sys
import threading
from hmac import compare_digest
from typing import Any

import waitress
from flask import Flask, request

asyncio.set_event_loop(asyncio.new_event_loop())  # the library asks for one at import, and Python 3.14 makes none
from ib_insync import IB, Forex, LimitOrder, MarketOrder, Stock, StopOrder  # noqa: E402 - see above


def bracket(ib: IB, signal: dict[str, Any]) -> list[Any]:
    """Return market entry, take-profit and stop-loss, to be sent in this order."""
    side, size = signal["side"].upper(), signal["quantity"]
    other = "SELL" if side == "BUY" else "BUY"
    entry = MarketOrder(side, size, orderId=ib.client.getReqId(), tif="GTC", transmit=False)
    parent = {"parentId": entry.orderId, "tif": "GTC"}
    take_profit = LimitOrder(other, size, signal["tp"], orderId=ib.client.getReqId(), transmit=False, **parent)
    stop_loss = StopOrder(other, size, signal["sl"], orderId=ib.client.getReqId(), transmit=True, **parent)
    return [entry, take_profit, stop_loss]


class Contracts:
    """The contracts that were qualified, by symbol."""

    def __init__(self, ib: IB) -> None:
        self._ib, self._known = ib, dict[str, Any]()

    async def get(self, symbol: str) -> Any:
        """Return the contract of a symbol: a pair of currencies, or a US share."""
        if symbol not in self._known:
            wanted = Forex(symbol) if len(symbol) == 6 else Stock(symbol, "SMART", "USD")
            (self._known[symbol],) = await self._ib.qualifyContractsAsync(wanted)
        return self._known[symbol]


def held(ib: IB, contract: Any) -> float:
    """Return the position in a contract, as far as TWS has told of it."""
    return float(sum(one.position for one in ib.positions() if one.contract.conId == contract.conId))


async def flatten(ib: IB, contract: Any) -> None:
    """Cancel what works and close what is held, once TWS has told of it: a bot that does not wait closes nothing."""
    while not (size := held(ib, contract)):
        await asyncio.sleep(0.005)
    for trade in ib.openTrades():
        if trade.contract.conId == contract.conId:
            ib.cancelOrder(trade.order)
    ib.placeOrder(contract, MarketOrder("SELL" if size > 0 else "BUY", abs(size), tif="GTC"))


def create_app(ib: IB, loop: asyncio.AbstractEventLoop, contracts: Contracts, secret: str) -> Flask:
    """Return the whole bot."""
    app = Flask(__name__)

    async def place(signal: dict[str, Any]) -> None:
        contract = await contracts.get(signal["symbol"])
        if signal["action"] == "close":
            await flatten(ib, contract)
            return
        for order in bracket(ib, signal):
            ib.placeOrder(contract, order)

    @app.post("/webhook")
    def webhook() -> tuple[dict[str, str], int]:
        signal = request.get_json(force=True)
        if not compare_digest(signal.pop("secret", ""), secret):
            return {"status": "unauthorized"}, 401
        asyncio.run_coroutine_threadsafe(place(signal), loop).result(5)
        return {"status": "placed"}, 202

    return app


async def connect(tws_port: int) -> tuple[IB, Contracts]:
    """Return a connection and its contracts, EURUSD among them."""
    ib = IB()
    await ib.connectAsync("127.0.0.1", tws_port, clientId=7)
    contracts = Contracts(ib)
    await contracts.get("EURUSD")
    return ib, contracts


def run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop forever in this thread; the library asks for the thread's own."""
    asyncio.set_event_loop(loop)
    loop.run_forever()


def main() -> None:
    """Serve until killed."""
    port, tws_port, secret = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    ib, contracts = loop.run_until_complete(connect(tws_port))
    threading.Thread(target=run, args=(loop,), daemon=True).start()
    waitress.serve(create_app(ib, loop, contracts, secret), host="127.0.0.1", port=port, threads=4, _quiet=True)


if __name__ == "__main__":
    main()
