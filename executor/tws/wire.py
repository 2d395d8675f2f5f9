"""TWS's messages on one connection: each one that the decoder passes on becomes a fact for the listener.

One `Wire` lives as long as one connection and keeps nothing beyond it. It believes the messages only: no order
state is ever inferred from an error, and a message that cannot be read is reported, not passed over.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, TypeVar

from common.clock import Clock
from common.errors import BridgeError, BrokerUnavailable
from executor.core.ports import Connectivity, Listener, Position, Refusal
from executor.tws import decode, reading
from executor.tws.prices import Prices
from executor.tws.reading import Gathering

# Ids of our requests start here, far above any order id, so that an error's id shows what it is about.
REQUEST_IDS = 2_000_000_000
_CONNECTIVITY = {
    1100: Connectivity.LOST, 2110: Connectivity.LOST,
    1101: Connectivity.RESTORED_DATA_LOST, 1102: Connectivity.RESTORED,
}  # fmt: skip
# Market data not subscribed, or held by another session; source: IBKR Message Codes.
_NO_LIVE_DATA = (354, 10089, 10090, 10168, 10186, 10197)
_LEDGER = "$LEDGER-"  # before the tags of the balances by currency. Source: TWS 10.47 and later
_TOO_MANY_TICKERS = 101
_GIVEN_UP_KNOWN = 1000  # an error about one comes at once, if at all
_CLIENT_ID_IN_USE = 326


class ClientIdInUse(BrokerUnavailable):
    """Another connection holds our client id. Wait: another id would not own our orders."""

    code = "client-id-in-use"


class RequestRefused(BridgeError):
    """TWS answered a request with an error; `number` is its code."""

    code = "request-refused"

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        super().__init__(text)


class _EpochReader:
    """Stands where the decoder looks for a time zone; times of executions are read by `facts` instead."""

    TimezoneTWS = ""


T = TypeVar("T")


async def within(seconds: float, answer: Awaitable[T]) -> T:
    """Return an answer, or raise TimeoutError after so many seconds.

    Not `asyncio.wait_for`, which on Python 3.11 loses a cancellation that comes with the answer.
    """
    async with asyncio.timeout(seconds):
        return await answer


class Wire:
    """Hears the decoder. Method names up to `error` are the library's own."""

    ib = _EpochReader()
    defaultTimezone = UTC

    def __init__(self, clock: Clock, prices: Prices, client_id: int) -> None:
        self._clock, self._prices, self._client_id = clock, prices, client_id
        self.listener: Listener | None = None
        self.gathering: Gathering | None = None
        self.link_lost = ""  # TWS's words while it has no connection to IBKR
        self.zone: tzinfo = UTC
        self.time_text = ""  # the time of the execution that is being read, as TWS wrote it
        self.accounts: tuple[str, ...] = ()
        self.id_floor = 0
        # tag → text; the total over all currencies if TWS reports one; Currency: the base currency
        self.values: dict[str, str] = {}
        self._totals: set[str] = set()  # tags whose value is such a total
        self.positions: dict[tuple[str, int], Position] = {}
        self._portfolio: dict[tuple[str, int], tuple[Decimal | None, Decimal | None]] = {}
        self._probes: deque[asyncio.Future[datetime]] = deque()
        self._replies: dict[object, asyncio.Future[list[Any]]] = {}
        self._collected: dict[object, list[Any]] = {}
        self._tickers: dict[int, int] = {}  # request id → con_id
        self._given_up: deque[int] = deque(
            maxlen=_GIVEN_UP_KNOWN
        )  # request ids of subscriptions that were ended lately
        self._request_id = REQUEST_IDS
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.refused: asyncio.Future[BrokerUnavailable] = asyncio.get_running_loop().create_future()
        self.on_tick: Callable[[int], None] = lambda con_id: None
        self.on_no_live_data: Callable[[int, str], None] = lambda con_id, text: None
        self.on_too_many: Callable[[int], None] = lambda con_id: None
        self.on_data_lost: Callable[[], None] = lambda: None
        self.on_notice: Callable[[int, str], None] = lambda code, text: None
        # error, text, whether the listener raised it (else the message could not be read)
        self.on_trouble: Callable[[BaseException | None, str, bool], None] = lambda exc, text, ours: None
        self._telling = False

    # --- asking ------------------------------------------------------------------------------------

    def expect_time(self) -> asyncio.Future[datetime]:
        """Return the future of TWS's answer to one reqCurrentTime; answers come in the order of asking."""
        future: asyncio.Future[datetime] = asyncio.get_running_loop().create_future()
        self._probes.append(future)
        return future

    def expect(self, key: object = None) -> tuple[Any, asyncio.Future[list[Any]]]:
        """Return a request's key (a new id when none is given) and the future of its answers.

        Asked again under the same key before it is answered, both have the one answer.
        """
        key = self.next_request_id() if key is None else key
        if key in self._replies and not self._replies[key].done():
            return key, self._replies[key]
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._replies[key], self._collected[key] = future, []
        return key, future

    def next_request_id(self) -> int:
        self._request_id += 1
        return self._request_id

    def ticker(self, con_id: int) -> int:
        """Return the request id for a new subscription to a contract's prices."""
        request_id = self.next_request_id()
        self._tickers[request_id] = con_id
        return request_id

    def forget_ticker(self, con_id: int) -> list[int]:
        """Return the request ids of a contract's subscriptions, whose ticks are heard no more."""
        found = [request_id for request_id, of in self._tickers.items() if of == con_id]
        for request_id in found:
            del self._tickers[request_id]
        self._given_up.extend(found)
        return found

    def trouble(self, error: BaseException | None, text: str) -> None:
        """Report that a message could not be read or processed: the snapshot in progress is incomplete."""
        if self.gathering:
            self.gathering.damage(text)
        ours, self._telling = self._telling, False
        self.on_trouble(error, text, ours)

    def _tell(self, fact: str, *said: Any) -> None:
        """Tell the listener. What it raises goes through the decoder, which hands it to `trouble`."""
        if self.listener:
            self._telling = True
            getattr(self.listener, fact)(*said)
            self._telling = False

    def close(self, text: str) -> None:
        """End everything that waits for this connection; idempotent."""
        if not self.closed.done():
            self.closed.set_result(text)
        gone = BrokerUnavailable(text)
        waiting: list[asyncio.Future[Any]] = [*self._probes, *self._replies.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(gone)
                future.exception()  # marked as seen: the waiter may be gone
        self._probes.clear()
        self._replies.clear()

    # --- connection --------------------------------------------------------------------------------

    def connectAck(self) -> None: ...

    def connectionClosed(self) -> None: ...

    def setEventsDone(self) -> None:
        self.close("TWS closed the connection")

    def managedAccounts(self, accounts: str) -> None:
        self.accounts = tuple(account.strip() for account in accounts.split(",") if account.strip())

    def nextValidId(self, order_id: int) -> None:
        self.id_floor = max(self.id_floor, order_id)

    def currentTime(self, seconds: int) -> None:
        if self._probes:
            future = self._probes.popleft()
            if not future.done():
                future.set_result(datetime.fromtimestamp(seconds, UTC))

    # --- orders ------------------------------------------------------------------------------------

    def openOrder(self, order_id: int, contract: Any, order: Any, state: Any) -> None:
        report = decode.from_open_order(order, contract, state)
        if report.client_id == self._client_id:
            self.id_floor = max(self.id_floor, report.order_id + 1)
        if self.gathering:
            self.gathering.order(report)
        self._tell("on_order", report)

    def orderStatus(
        self, order_id: int, status: str, filled: float, remaining: float, average: float, perm_id: int,
        parent_id: int, last: float, client_id: int, why_held: str, cap: float = 0.0,
    ) -> None:  # fmt: skip
        report = decode.from_order_status(order_id, status, filled, remaining, perm_id, client_id, why_held)
        if self.gathering:
            self.gathering.order(report)
        self._tell("on_order", report)

    def openOrderEnd(self) -> None:
        self._end(reading.OPEN_ORDERS)

    def completedOrder(self, contract: Any, order: Any, state: Any) -> None:
        report = decode.from_completed_order(order, contract, state)
        if self.gathering:
            at = decode.execution_time(state.completedTime, self.zone)
            today = self._clock.now().astimezone(self.zone).date()
            self.gathering.completed(report, today=at is None or at.astimezone(self.zone).date() == today)
        else:
            self._tell("on_order", report)

    def completedOrdersEnd(self) -> None:
        self._end(reading.COMPLETED)

    def execDetails(self, request_id: int, contract: Any, execution: Any) -> None:
        at = decode.execution_time(self.time_text, self.zone)
        if at is None:
            self.on_trouble(None, f"an execution's time {self.time_text!r} cannot be read; taken as now", False)
        fill = decode.from_execution(contract, execution, at or self._clock.now())
        live = request_id < REQUEST_IDS
        if self.gathering:
            self.gathering.fill(fill, reply=not live)
        if live:
            self._tell("on_fill", fill)

    def execDetailsEnd(self, request_id: int) -> None:
        self._end(reading.EXECUTIONS)

    def commissionReport(self, report: Any) -> None:
        commission = decode.exact(report.commission)
        if commission is None:
            return
        if self.gathering:
            self.gathering.commission(report.execId, commission)
        self._tell("on_commission", report.execId, commission)

    # --- account -----------------------------------------------------------------------------------

    def position(self, account: str, contract: Any, quantity: float, avg_cost: float) -> None:
        position = decode.from_position(account, contract, quantity, avg_cost)
        self.positions[account, position.con_id] = position
        if self.gathering:
            self.gathering.position(position)
        self._tell("on_position", position)

    def positionEnd(self) -> None:
        self._end(reading.POSITIONS)

    def updatePortfolio(
        self, contract: Any, quantity: float, price: float, value: float, cost: float, unrealized: float,
        realized: float, account: str,
    ) -> None:  # fmt: skip
        key = account, decode.whole(contract.conId)
        self._portfolio[key] = decode.exact(price), decode.exact(unrealized)

    def updateAccountValue(self, tag: str, value: str, currency: str, account: str) -> None:
        tag = tag.removeprefix(_LEDGER)
        if tag == "Currency":  # one for each balance, and BASE: it does not say which currency that is
            return
        if tag == "NetLiquidation":
            self.values["Currency"] = currency
        if currency == "BASE":
            self._totals.add(tag)
        if currency == "BASE" or tag not in self._totals:
            self.values[tag] = value

    def accountDownloadEnd(self, account: str) -> None:
        self._end(reading.ACCOUNT)

    def shown_positions(self) -> tuple[Position, ...]:
        """Return the open positions with their market price and unrealised result, if TWS reported them."""
        nothing = (None, None)
        return tuple(
            replace(position, market_price=price, unrealized=unrealized)
            for key, position in self.positions.items()
            if position.quantity
            for price, unrealized in [self._portfolio.get(key, nothing)]
        )

    # --- contracts and prices ----------------------------------------------------------------------

    def contractDetails(self, request_id: int, details: Any) -> None:
        self._collected.get(request_id, []).append(details)

    def contractDetailsEnd(self, request_id: int) -> None:
        self._reply(request_id)

    def symbolSamples(self, request_id: int, samples: list[Any]) -> None:
        self._reply(request_id, samples)

    def marketRule(self, rule_id: int, steps: list[Any]) -> None:
        self._reply(("market rule", rule_id), steps)

    def priceSizeTick(self, request_id: int, tick_type: int, price: float, size: float) -> None:
        con_id = self._tickers.get(request_id)
        if con_id is not None:
            self._prices.tick(con_id, tick_type, price)
            self.on_tick(con_id)

    def marketDataType(self, request_id: int, data_type: int) -> None: ...

    # --- errors ------------------------------------------------------------------------------------

    def error(self, request_id: int, code: int, text: str, advanced: str = "") -> None:
        """Route an error by what it is about: the connection, a request, a subscription, or an order."""
        if code in _CONNECTIVITY:
            self._connectivity(code, text)
        elif code == _CLIENT_ID_IN_USE:
            self._in_use(text)
        elif request_id in self._replies:
            self._fail(request_id, RequestRefused(code, text))
        elif request_id in self._tickers:
            self._no_quotes(request_id, code, text)
        elif request_id in self._given_up:
            self.on_notice(code, text)  # 300: it had ended by itself
        elif 0 < request_id < REQUEST_IDS:
            self._tell("on_refusal", Refusal(request_id, code, text))
        else:
            self._notice(code, text)

    def _no_quotes(self, request_id: int, code: int, text: str) -> None:
        """TWS refuses a subscription, or warns about it."""
        self.on_notice(code, text)
        if code in _NO_LIVE_DATA:
            self.on_no_live_data(self._tickers[request_id], text)
        elif code == _TOO_MANY_TICKERS:
            self._given_up.append(request_id)
            self.on_too_many(self._tickers.pop(request_id))
            self._tell("on_no_line", text)

    def _connectivity(self, code: int, text: str) -> None:
        self.link_lost = text if _CONNECTIVITY[code] is Connectivity.LOST else ""
        self.on_notice(code, text)
        if _CONNECTIVITY[code] is Connectivity.RESTORED_DATA_LOST:
            self.on_data_lost()
        self._tell("on_connectivity", _CONNECTIVITY[code], text)

    def _in_use(self, text: str) -> None:
        if not self.refused.done():
            self.refused.set_result(ClientIdInUse(text))

    def _notice(self, code: int, text: str) -> None:
        if self.gathering and not 2100 <= code < 2200:
            self.gathering.fail(code, text)
        self.on_notice(code, text)

    def _end(self, part: str) -> None:
        if self.gathering:
            self.gathering.end(part)

    def _reply(self, key: object, answers: list[Any] | None = None) -> None:
        future = self._replies.pop(key, None)
        collected = self._collected.pop(key, [])
        if future and not future.done():
            future.set_result(collected if answers is None else answers)

    def _fail(self, key: object, error: Exception) -> None:
        future = self._replies.pop(key)
        self._collected.pop(key, None)
        if not future.done():
            future.set_exception(error)


class Complaints:
    """Stands in for the decoder's logger, which is where the library leaves every exception of a handler."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def exception(self, text: str, *details: object) -> None:
        self._wire.trouble(sys.exc_info()[1], text[:200])
