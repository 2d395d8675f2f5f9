"""The broker over a TWS socket. The only module that imports the client library: ib_insync, or ib_async in its place.

Of the library it takes the socket client and the decoder; its book of trades is left out, since that book marks
orders cancelled on errors that cancel nothing, loses fills over a reconnect, and connects although a part of the
first snapshot never ended. Facts come from the messages themselves, by `wire`.

Sending is paced by the library, below the 50 messages a second at which IBKR disconnects; what is paced waits in
order, the probe behind the orders, so that an answered probe proves that everything before it has left.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import ModuleType
from typing import Any

from common.clock import Clock
from common.errors import BrokerUnavailable
from common.exits import Unit
from common.signals import decimal_text
from executor.core.ports import (
    AccountView,
    Connectivity,
    Contract,
    ContractSpec,
    Kind,
    Listener,
    Position,
    Snapshot,
    Ticket,
)
from executor.tws import decode, reading
from executor.tws.handshake import Greeting, incomplete, why_not
from executor.tws.lookup import Lookup
from executor.tws.prices import Prices
from executor.tws.reading import Gathering
from executor.tws.wire import ClientIdInUse, Complaints, RequestRefused, Wire, within


@contextmanager
def _current_loop() -> Iterator[None]:
    """Have a current event loop for the block, and none afterwards but one that runs already.

    eventkit asks for the current loop while it is imported and keeps it for `emit_threadsafe`, which we do not use.
    Up to Python 3.13 one was made for it then; since 3.14 there is a RuntimeError.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        try:
            asyncio.set_event_loop(asyncio.get_running_loop())
        except RuntimeError:  # none runs
            asyncio.set_event_loop(None)
        loop.close()


class _Unloaded(ModuleType):
    """Stands for a module, which is loaded when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _loaded_at_first_use(name: str) -> Iterator[None]:
    """Let the block import a module that is loaded at its first use only, if ever."""
    stand_in = sys.modules.setdefault(name, _Unloaded(name))
    try:
        yield
    finally:
        if isinstance(stand_in, _Unloaded):
            sys.modules.pop(name)


library: Any
# eventkit makes arrays with numpy, for which nobody here asks: a fifth of the executor's start and of its memory.
with _loaded_at_first_use("numpy"), _current_loop():
    try:
        import ib_insync

        library = ib_insync
    except ImportError:
        import ib_async

        library = ib_async

LIBRARY = f"{library.__name__} {library.__version__}"  # for people: the log says it
_WANTED = frozenset((1, 3, 4, 5, 6, 7, 9, 10, 11, 15, 49, 52, 53, 54, 55, 58, 59, 61, 62, 79, 93, 101, 102))
_EXECUTION, _EXECUTION_TIME = 11, 15  # message id; its field that holds the time
_DELAYED = 3
# Messages per seconds. IBKR counts 50 in any second as they arrive, so a burst and the next must stand well apart.
_PACE = 45, 1.25


class SnapshotIncomplete(BrokerUnavailable):
    """A part of a snapshot did not end, so there is none. Nothing may be concluded; try again."""

    code = "snapshot-incomplete"


class Tws:
    """One connection at a time to TWS or IB Gateway; see `broker.Broker` for what the trading core may ask."""

    def __init__(
        self,
        clock: Clock,
        configured: Mapping[str, ContractSpec] | None = None,
        *,
        patience: float = 15.0,
        quiet: float = 2.0,
    ) -> None:
        """Args:
        patience: seconds that each part of a snapshot may take.
        quiet: seconds without `execDetailsEnd` after which a round trip decides that there are no executions.
        """
        self._clock, self._patience, self._quiet = clock, patience, quiet
        self._prices = Prices(clock)
        self.lookup = Lookup(self, self._prices, configured or {})
        self._client: Any = None
        self._wire: Wire | None = None
        self._account = ""
        self._account_known = False
        self._throttled = self._paced = False  # what the library does, and what the listener knows of it
        self.listener: Listener | None = None
        _quiet_library()

    # --- the connection -----------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """True if orders can be written to the connection now; TWS's own link to IBKR is another matter."""
        return self._transport() is not None

    @property
    def accounts(self) -> tuple[str, ...]:
        return self._wire.accounts if self._wire else ()

    @property
    def wire(self) -> Wire:
        """The present connection.

        Raises:
            BrokerUnavailable: There is none.
        """
        if self._wire is None or self._transport() is None:
            raise BrokerUnavailable("TWS is not connected")
        return self._wire

    async def connect(self, host: str, port: int, client_id: int, timeout: float = 4.0) -> None:
        """Connect; afterwards accounts, order id floor and TWS's time zone are known, and nobody listens yet.

        Raises:
            ClientIdInUse: TWS says 326. Wait and try again with the same id.
            BrokerUnavailable: Nobody listens, or TWS does not answer in time; the text says what to do.
        """
        self.disconnect()
        self._wire = wire = Wire(self._clock, self._prices, client_id)
        self._client = client = library.client.Client(wire)
        client.decoder = _Decoder(wire)
        client.MaxRequests, client.RequestsInterval = _PACE
        self._throttled = self._paced = False
        client.throttleStart += lambda: self._set_paced(client, True)
        client.throttleEnd += lambda: self._set_paced(client, False)
        greeting = Greeting(client.conn)
        self._account_known = False
        try:
            await self._handshake(client, wire, host, port, client_id, timeout)
            wire.zone = decode.tws_zone(greeting.text, await self.probe(timeout)) or wire.zone
        except BaseException:
            self.disconnect()
            raise

    async def _handshake(self, client: Any, wire: Wire, host: str, port: int, client_id: int, timeout: float) -> None:
        task = asyncio.ensure_future(client.connectAsync(host, port, client_id, timeout))
        try:
            await asyncio.wait({task, wire.refused, wire.closed}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not wire.refused.done():
                await asyncio.wait({wire.refused}, timeout=0.05)  # 326 and the end may come in one packet
        finally:
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if wire.refused.done():
            raise wire.refused.result()
        if outcome is not None or not client.isReady():
            raise BrokerUnavailable(why_not(outcome, host, port, timeout))

    def disconnect(self) -> None:
        """Drop the connection at once, whatever waits in it; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            transport = client.conn.transport
            if transport is not None:
                transport.abort()
            client.reset()
        if self._wire:
            self._wire.close("disconnected")
        self._prices.forget()

    async def lost(self) -> str:
        """Return why the connection ended, once it has."""
        return await asyncio.shield(self.wire.closed) if self.connected else "TWS is not connected"

    async def probe(self, timeout: float = 2.0) -> datetime:
        """Return TWS's own time: the proof that it has processed everything that was sent before.

        Raises:
            BrokerUnavailable: No answer in time: TWS is frozen, or the network is.
        """
        future = self.wire.expect_time()
        self._client.reqCurrentTime()
        try:
            return await within(timeout, future)
        except TimeoutError:
            raise BrokerUnavailable(f"TWS did not answer within {timeout:g} s; it may be frozen") from None

    # --- the snapshot -------------------------------------------------------------------------------

    def use_account(self, account: str, listener: Listener) -> None:
        """Set which account is traded, and which listener gets the facts from now on.

        Not before the account is known to be the right one: another account's order ids may be the same.
        """
        self._account = account
        self.listener = self.wire.listener = listener
        if self.wire.link_lost:
            listener.on_connectivity(Connectivity.LOST, self.wire.link_lost)
        self.lookup.resume()

    async def snapshot(self) -> Snapshot:
        """Read everything the broker knows, of all clients and of the owner's own hand, to the end of every part.

        A live TWS may send no `execDetailsEnd` when there are no executions (seen in recordings). So when only
        that end is missing, no execution came, TWS answered a round trip sent after the request, and no order
        of today is completed with a filled quantity, there are none; in every other case the part is missing.

        Raises:
            SnapshotIncomplete: Some parts did not end; they are named.
            BrokerUnavailable: The connection ended.
        """
        wire, client, begun_at = self.wire, self._client, self._clock.now()
        if wire.gathering:
            raise SnapshotIncomplete("another snapshot is being read")
        parts = [part for part in reading.PARTS if part != reading.ACCOUNT or not self._account_known]
        wire.gathering = found = Gathering(parts)
        try:
            client.reqPositions()
            client.reqAllOpenOrders()
            client.reqCompletedOrders(False)
            if reading.ACCOUNT in parts:
                client.reqAccountUpdates(True, self._account)
            first = [part for part in parts if part != reading.EXECUTIONS]
            await self._ended(found, first, self._patience)
            client.reqExecutions(wire.next_request_id(), library.ExecutionFilter())
            await self._executions_ended(found)
            now = await self.probe(self._patience)
        finally:
            wire.gathering = None
        if found.damaged:
            raise SnapshotIncomplete("; ".join(found.problems))
        self._account_known = True
        whole = found.snapshot(self._clock.now(), now.astimezone(wire.zone).date().isoformat())
        return replace(whole, begun_at=begun_at)

    async def _executions_ended(self, found: Gathering) -> None:
        if await found.ended([reading.EXECUTIONS], self._quiet):
            return
        await self.probe(self._patience)
        if found.replied_fills or found.filled_today or found.problems:
            await self._ended(found, [reading.EXECUTIONS], self._patience)

    async def _ended(self, found: Gathering, parts: list[str], seconds: float) -> None:
        wire, waiting = self.wire, asyncio.ensure_future(found.ended(parts, seconds))
        try:
            anything: set[asyncio.Future[Any]] = {waiting, wire.closed}
            await asyncio.wait(anything, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        missing = found.missing(parts)
        if not self.connected:
            raise BrokerUnavailable("the connection to TWS ended while its orders were being read")
        if missing:
            raise SnapshotIncomplete(incomplete(missing, found.problems, found.codes, seconds))

    def account_view(self) -> AccountView:
        return AccountView(self._account, dict(self._wire.values) if self._wire else {})

    def positions(self) -> tuple[Position, ...]:
        """Return the account's open positions as last reported, for the page."""
        shown = self._wire.shown_positions() if self._wire else ()
        return tuple(position for position in shown if position.account == self._account)

    # --- broker.Broker ------------------------------------------------------------------------------

    @property
    def is_paced(self) -> bool:
        """True if messages wait to be sent; see `broker.Broker.is_paced`."""
        return self._paced

    @property
    def day(self) -> str:
        """TWS's date now, by this computer's clock; see `broker.Broker.day`."""
        return self._clock.now().astimezone(self._wire.zone).date().isoformat() if self._wire else ""

    def _set_paced(self, client: Any, paced: bool) -> None:
        if client is not self._client:
            return
        self._throttled = paced
        if paced:
            self._paced = True
        else:  # the library reports this while it is sending: the listener, which may send more, hears of it afterwards
            asyncio.get_running_loop().call_soon(self._tell_unpaced, client)

    def _tell_unpaced(self, client: Any) -> None:
        if client is not self._client or self._throttled or not self._paced:
            return
        self._paced = False
        if self.connected and self._wire and self._wire.listener:
            self._wire.listener.on_unpaced()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have what is written within leave in one piece; see `broker.Broker.together`.

        Each write wakes TWS, which on a busy computer takes the core before the next write is made.
        """
        connection = self._client.conn if self._client else None
        if connection is None or "sendMsg" in vars(connection):  # inside another one
            yield
            return
        messages: list[bytes] = []
        connection.sendMsg = messages.append
        try:
            yield
        finally:
            del connection.sendMsg
            if messages:
                connection.sendMsg(b"".join(messages))

    def send(self, ticket: Ticket) -> None:
        """Write one order; see `broker.Broker.send`."""
        client = self._ready_client()
        try:
            client.placeOrder(ticket.order_id, _contract(ticket.contract), _order(ticket))
        except ConnectionError as exc:
            raise BrokerUnavailable(f"TWS is not connected: {exc}") from exc

    def ask_margin(self, ticket: Ticket) -> None:
        """Ask what an order would need, placing none (IBKR's what-if); the answer is `on_order` or `on_refusal`."""
        order = _order(ticket)
        order.whatIf = True
        self._ready_client().placeOrder(ticket.order_id, _contract(ticket.contract), order)

    def cancel(self, order_id: int) -> None:
        """Ask to cancel one of our orders; see `broker.Broker.cancel`."""
        client = self._ready_client()
        try:
            client.cancelOrder(order_id)
        except ConnectionError as exc:
            raise BrokerUnavailable(f"TWS is not connected: {exc}") from exc

    def request_contract(self, symbol: str, con_id: int = 0) -> None:
        self.lookup.ask(symbol, con_id)

    def price(self, con_id: int) -> Any:
        return self._prices.price(con_id) if self.connected else None

    def order_id_floor(self) -> int:
        return self._wire.id_floor if self._wire else 0

    # --- what `lookup` asks -------------------------------------------------------------------------

    async def details(self, spec: ContractSpec) -> list[Any]:
        """Return TWS's details of every contract that fits; RequestRefused if TWS reports none."""
        wanted = library.Contract(
            conId=spec.con_id, symbol="" if spec.con_id else spec.local, secType=spec.sec_type,
            exchange=spec.exchange, currency=spec.currency, primaryExchange=spec.primary_exchange,
            lastTradeDateOrContractMonth=spec.expiry, multiplier=spec.multiplier,
        )  # fmt: skip
        key, future = self.wire.expect()
        self._ready_client().reqContractDetails(key, wanted)
        return await within(self._patience, future)

    async def samples(self, text: str) -> list[Any]:
        """Return what TWS knows that resembles a text."""
        key, future = self.wire.expect()
        self._ready_client().reqMatchingSymbols(key, text)
        return await within(4, future)

    async def market_rule(self, rule_id: int) -> list[Any]:
        """Return the rows of a market rule: price from which, step."""
        _, future = self.wire.expect(("market rule", rule_id))
        self._ready_client().reqMarketRule(rule_id)
        return await within(2, future)

    def watch(self, contract: Contract, *, delayed: bool = False) -> None:
        """Subscribe to a contract's prices, in place of an earlier subscription to them."""
        self.unwatch(contract)
        if delayed:
            self._ready_client().reqMarketDataType(_DELAYED)
        self._ready_client().reqMktData(self.wire.ticker(contract.con_id), _contract(contract), "", False, False, [])

    def unwatch(self, contract: Contract) -> None:
        """End the subscription to a contract's prices; what is not needed keeps no market data line."""
        client = self._ready_client()
        for request_id in self.wire.forget_ticker(contract.con_id):
            client.cancelMktData(request_id)

    def _transport(self) -> Any:
        client = self._client
        if client is None or not client.isReady():
            return None
        transport = client.conn.transport
        return None if transport is None or transport.is_closing() else transport

    def _ready_client(self) -> Any:
        if self._transport() is None:
            raise BrokerUnavailable("TWS is not connected")
        return self._client


class _Decoder(library.decoder.Decoder):  # type: ignore[misc]
    """The library's decoder for the messages we use; what it cannot read is reported, not just logged."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire, 0)
        self.logger = Complaints(wire)
        self._execution = self.execDetails
        self.handlers[_EXECUTION] = self._execution_with_time

    def interpret(self, fields: list[str]) -> None:
        if fields and fields[0].isdigit() and int(fields[0]) in _WANTED:
            super().interpret(fields)

    def _execution_with_time(self, fields: list[str]) -> None:
        """Hand the time over as text: the library reads the UTC form as local time, and stumbles over others."""
        self.wrapper.time_text = fields[_EXECUTION_TIME]
        self._execution([*fields[:_EXECUTION_TIME], "0", *fields[_EXECUTION_TIME + 1 :]])


def _quiet_library() -> None:
    """Silence the library's own loggers: the executor reports each line itself, in words, once."""
    logging.getLogger(library.__name__).setLevel(logging.CRITICAL + 1)


def _contract(contract: Contract) -> Any:
    return library.Contract(
        conId=contract.con_id, symbol=contract.local, secType=contract.sec_type,
        exchange=contract.exchange, currency=contract.currency,
    )  # fmt: skip


def _order(ticket: Ticket) -> Any:
    """Return the library's order, every field that TWS might fill in by itself set; numbers are exact text."""
    price = "" if ticket.price is None else decimal_text(ticket.price)
    return library.Order(
        action=ticket.side.value.upper(),
        totalQuantity=decimal_text(ticket.quantity),
        orderType=ticket.kind.value,
        lmtPrice=price if ticket.kind is Kind.LIMIT else "",
        auxPrice=price if ticket.kind is Kind.STOP else _trailing(ticket, Unit.POINTS),
        trailingPercent=_trailing(ticket, Unit.PERCENT),
        trailStopPrice=price if ticket.kind is Kind.TRAIL else "",
        tif=ticket.tif,
        ocaGroup=ticket.oca_group,
        ocaType=ticket.oca_type if ticket.oca_group else 0,
        account=ticket.account,
        orderRef=ticket.order_ref,
        transmit=ticket.transmit,
        parentId=ticket.parent_id,
        outsideRth=ticket.outside_rth,
        eTradeOnly=False,
        firmQuoteOnly=False,
    )


def _trailing(ticket: Ticket, unit: Unit) -> str:
    """Return how far an order trails where that is in this unit, else "": TWS takes one of the two (320)."""
    return decimal_text(ticket.trail.amount) if ticket.trail is not None and ticket.trail.unit is unit else ""


__all__ = ["ClientIdInUse", "RequestRefused", "SnapshotIncomplete", "Tws"]
