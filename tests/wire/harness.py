"""The client library over a real socket: a paper TWS on this loop, and an ear that writes down every fact."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

from common.clock import SystemClock
from common.signals import Side
from executor.core.ports import Contract, Kind, Ticket
from executor.paper.exchange import Exchange
from executor.paper.server import PaperServer
from executor.tws.client import Tws

HOST = "127.0.0.1"
ACCOUNT = "DU1234567"
EURUSD = Contract(12087792, "EURUSD", "CASH", "EUR", "USD", "IDEALPRO")
AAPL = Contract(265598, "AAPL", "STK", "AAPL", "USD", "SMART")


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own, within 55 seconds, with no complaint of the loop left over."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            complaints: list[str] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
            async with asyncio.timeout(55):
                await test(*args, **kwargs)
            test_wants = getattr(test, "complaints", ())
            assert [each for each in complaints if not any(want in each for want in test_wants)] == []

        asyncio.run(main())

    return run


class Ear:
    """A listener that keeps every fact as (name, fact, …)."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *facts: self.heard.append((name[3:], *facts))

    def all(self, name: str) -> list[Any]:
        """Return the facts of one kind, in order."""
        return [fact[1] if len(fact) == 2 else fact[1:] for fact in self.heard if fact[0] == name]

    def statuses(self, order_id: int) -> list[str]:
        """Return the status words said of one order, repeats left out."""
        said = [report.status.value for report in self.all("order") if report.order_id == order_id]
        return [word for number, word in enumerate(said) if number == 0 or said[number - 1] != word]


@contextlib.asynccontextmanager
async def paper(**options: Any) -> AsyncIterator[PaperServer]:
    """A paper TWS on a free port; prices stand still."""
    server = PaperServer(Exchange(SystemClock(), volatility=0.0, **options))
    await server.start(HOST, 0)
    try:
        server.gateway.hooks.append(lambda direction, kind, number: SEEN.update([kind]))
        SEEN.clear()
        server.exchange.set_price("EURUSD", Decimal("1.19"))
        server.exchange.set_price("AAPL", Decimal("200"))
        yield server
    finally:
        await server.stop()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def client(server: PaperServer | int, client_id: int = 1, **options: Any) -> AsyncIterator[tuple[Tws, Ear]]:
    """A connected Tws that trades the first account, and its ear."""
    tws, ear = Tws(SystemClock(), **{"patience": 20.0, "quiet": 0.2, **options}), Ear()
    await tws.connect(HOST, server if isinstance(server, int) else server.port, client_id)
    tws.use_account(tws.accounts[0], ear)  # type: ignore[arg-type]
    try:
        yield tws, ear
    finally:
        tws.disconnect()
        await asyncio.sleep(0.01)


async def until(condition: Callable[[], Any], seconds: float = 50.0) -> Any:
    """Wait until a condition holds, and return what it returned."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    return found


def ticket(order_id: int, **changes: Any) -> Ticket:
    """A market order to buy 20000 EURUSD, with what a test changes."""
    fields: dict[str, Any] = {
        "order_ref": f"sx1:ABCDEFGHIJKLMNOPE{order_id}", "contract": EURUSD, "account": ACCOUNT, "side": Side.BUY,
        "kind": Kind.MARKET, "quantity": Decimal(20000), "tif": "DAY",
    }  # fmt: skip
    return Ticket(order_id=order_id, **{**fields, **changes})


def working(order_id: int, **changes: Any) -> Ticket:
    """A limit order far from the market, which stays working."""
    return ticket(order_id, kind=Kind.LIMIT, price=Decimal("1.10"), tif="GTC", **changes)


def bracket(first: int, tp: str = "1.20", sl: str = "1.18") -> list[Ticket]:
    """Entry, take-profit and stop-loss as the executor sends them."""
    exits: dict[str, Any] = {"side": Side.SELL, "tif": "GTC", "parent_id": first, "oca_group": "group"}
    return [
        ticket(first, transmit=False),
        ticket(first + 1, kind=Kind.LIMIT, price=Decimal(tp), transmit=False, **exits),
        ticket(first + 2, kind=Kind.STOP, price=Decimal(sl), **exits),
    ]


SEEN: Counter[str] = Counter()  # kind of message → how often, since the newest paper TWS was started
Frame = list[str]


@contextlib.asynccontextmanager
async def between(server: PaperServer, edit: Callable[[Frame], list[Frame]]) -> AsyncIterator[int]:
    """A port that passes everything on to the paper TWS, whose messages `edit` may change, drop or multiply."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: bool) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while change:
                size = struct.unpack(">I", await reader.readexactly(4))[0]
                fields = (await reader.readexactly(size)).decode().split("\0")[:-1]
                for frame in edit(fields):
                    data = "".join(field + "\0" for field in frame).encode()
                    writer.write(struct.pack(">I", len(data)) + data)
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, server.port)
        await asyncio.gather(pump(reader, back, False), pump(there, writer, True))

    listener = await asyncio.start_server(serve, HOST, 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await asyncio.sleep(0.01)
