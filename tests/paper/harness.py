"""A client for the tests: ib_insync's own encoder and decoder on a paper TWS without sockets, under a virtual clock.

What the server says is written down as the decoder understood it; a message that the decoder cannot read fails
the test.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ib_insync import Contract, Forex, LimitOrder, MarketOrder, Order, Stock, StopOrder
from ib_insync.client import Client

from common.clock import FakeClock
from executor.paper.exchange import Exchange
from executor.paper.server import PaperServer

START = datetime(2026, 4, 13, 14, 30, tzinfo=UTC)  # a Monday, 10:30 in New York
AAPL = Stock("AAPL", "SMART", "USD")
EURUSD = Forex("EURUSD")


class Decoded:
    """What the decoder calls: every callback is kept as (name, arguments)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("tcpData"):
            return None
        return lambda *args: self.heard.append((name, args))


class _Strict(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(f"ib_insync cannot read this: {record.getMessage()} {record.exc_info}")


class _NoSocket:
    numBytesSent = numMsgSent = 0

    def isConnected(self) -> bool:
        return True

    def disconnect(self) -> None: ...


class Api(Client):
    """One API client: ib_insync's request methods, and `take` for what was answered."""

    def __init__(self, server: PaperServer, client_id: int, version: bytes = b"v157..176") -> None:
        self.decoded = Decoded()
        super().__init__(self.decoded)
        self.conn, self.clientId, self.cut = _NoSocket(), client_id, False
        self.connState = Client.CONNECTING
        self.decoder.logger = logging.Logger("strict")
        self.decoder.logger.addHandler(_Strict())
        self.session = server.attach(self._onSocketHasData, self._on_cut)
        self.session.receive(b"API\0" + self._prefix(version))

    def _on_cut(self) -> None:
        self.cut = True

    def sendMsg(self, msg: str) -> None:
        self.session.receive(self._prefix(msg.encode()))

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Return what was heard since the last call."""
        heard, self.decoded.heard = self.decoded.heard, []
        return heard

    def kinds(self, *, but: tuple[str, ...] = ()) -> list[str]:
        """Return the names of the callbacks heard since the last call."""
        return [name for name, _ in self.take() if name not in but]

    def story(self) -> list[str]:
        """Return the orders' messages since the last call, one word each: `Submitted`, `error 202`, `fill 5` …"""
        return [line for name, args in self.take() if (line := _line(name, args))]

    def errors(self) -> list[int]:
        """Return the codes of the errors about orders and requests since the last call."""
        return [args[1] for name, args in self.take() if name == "error" and args[0] != -1]

    def place(self, contract: Contract, order: Order, **fields: Any) -> Order:
        """Send an order as it is; `orderId` must be set."""
        for name, value in fields.items():
            setattr(order, name, value)
        self.placeOrder(order.orderId, contract, order)
        return order

    def bracket(
        self,
        contract: Contract = EURUSD,
        first: int = 1,
        quantity: float = 20000,
        tp: float = 1.20,
        sl: float = 1.18,
        **more: Any,
    ) -> None:
        """Send a long bracket of market entry, limit and stop under the ids first, first+1, first+2."""
        ref = f"sx1:{first}:"
        common = {"tif": "GTC", **more}
        entry = MarketOrder("BUY", quantity, orderId=first, transmit=False, orderRef=ref + "E", **common)
        take = LimitOrder(
            "SELL", quantity, tp, orderId=first + 1, parentId=first, transmit=False, orderRef=ref + "T", **common
        )
        stop = StopOrder("SELL", quantity, sl, orderId=first + 2, parentId=first, orderRef=ref + "S", **common)
        for order in (entry, take, stop):
            self.place(contract, order)


def _line(name: str, args: tuple[Any, ...]) -> str:
    if name == "openOrder":
        return f"openOrder {args[0]}"
    if name == "orderStatus":
        held = f" {args[9]}" if args[9] else ""
        return f"{args[0]} {args[1]}{held}"
    if name == "execDetails":
        return f"{args[2].orderId} fill {args[2].shares:g} @ {args[2].price:g}"
    if name == "commissionReport":
        return "commission"
    if name == "error" and args[0] != -1:
        return f"{args[0]} error {args[1]}"
    return ""


class Tws:
    """A paper TWS under a virtual clock, with helpers to read its books."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock(START)
        self.exchange = Exchange(self.clock, **options)
        self.server = PaperServer(self.exchange)
        self.owner = self.server.owner
        self.price("EURUSD", "1.19")
        self.price("AAPL", "263.5")

    def connect(self, client_id: int = 1, *, quiet: bool = True) -> Api:
        """Connect a client; what it hears at the start is dropped unless `quiet` is False."""
        api = Api(self.server, client_id)
        if quiet:
            api.take()
        return api

    def price(self, symbol: str, price: str) -> None:
        self.exchange.set_price(symbol, Decimal(price))

    def fault(self, name: str, **params: Any) -> None:
        self.server.fault(name, **params)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.server.tick()

    def position(self, symbol: str = "EURUSD") -> Decimal:
        books, one = self.exchange.floor.books, self.exchange.floor.catalog.named(symbol)
        held = next(iter(books.accounts.values())).positions.get(one.con_id)
        return held.quantity if held else Decimal(0)

    def total(self, tag: str) -> Decimal:
        return self.exchange.floor.books.totals(next(iter(self.exchange.floor.books.accounts)))[tag]

    def truth(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.exchange.floor.truth.entries if entry["event"] == event]

    def live(self) -> list[str]:
        """Return the refs' last letters of what works, sorted."""
        return sorted(one.form.order_ref[-1:] for one in self.exchange.floor.book.open_orders())
