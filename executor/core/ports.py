"""The port to the broker: what the executor may ask of a broker, and the facts that it hears back; no library here.

Everything that arrives is a *fact*: an immutable value that says what the broker said, nothing more.
A fact leaves a field None when the message did not carry it. Nothing here is ever guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Protocol

from common.exits import Distance
from common.signals import Side


class Kind(StrEnum):
    """The order types that we send, by IBKR's words."""

    MARKET = "MKT"
    LIMIT = "LMT"
    STOP = "STP"
    TRAIL = "TRAIL"


class Status(StrEnum):
    """The broker's status of an order; TWS's nine status words are mapped to these in one table."""

    PENDING = "pending"  # not confirmed by IBKR yet, or asleep as the child of an order that has not filled
    WORKING = "working"  # live at the broker, or held there (stops, children, closed market, locate)
    CANCELLING = "cancelling"  # a cancel was asked; it may still fill
    CANCELLED = "cancelled"
    FILLED = "filled"
    INACTIVE = "inactive"  # refused, or deactivated; not live

    @property
    def is_live(self) -> bool:
        """True if an order in this status may still fill."""
        return self in (Status.PENDING, Status.WORKING, Status.CANCELLING)


@dataclass(frozen=True, slots=True)
class ContractSpec:
    """Which contract a symbol means, as far as the symbol and the configuration say; `tws` qualifies it."""

    symbol: str  # canonical
    sec_type: str  # CASH, STK, FUT, CFD, ...
    local: str  # IBKR's symbol: EUR, AAPL, BRK B, ES
    currency: str
    exchange: str
    primary_exchange: str = ""
    expiry: str = ""  # YYYYMM or YYYYMMDD, futures
    multiplier: str = ""
    con_id: int = 0


@dataclass(frozen=True, slots=True)
class PriceStep:
    """One row of a market rule: from `low` upward, prices move in steps of `increment`."""

    low: Decimal
    increment: Decimal


@dataclass(frozen=True, slots=True)
class Session:
    """A time in which a market trades, from `opens` up to `closes`; aware UTC."""

    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class Contract:
    """A qualified contract: exactly one thing at the broker."""

    con_id: int
    symbol: str  # canonical
    sec_type: str
    local: str
    currency: str
    exchange: str
    multiplier: Decimal = Decimal(1)
    price_steps: tuple[PriceStep, ...] = (PriceStep(Decimal(0), Decimal("0.01")),)
    size_step: Decimal = Decimal(1)
    description: str = ""
    sessions: tuple[
        Session, ...
    ] = ()  # when a close can fill, for the next days; () where the broker does not report it

    def opens_at(self, now: datetime) -> datetime | None:
        """Return when the market opens; None where it is open now, or where its hours are not known for now."""
        if any(session.opens <= now < session.closes for session in self.sessions):
            return None
        return min((session.opens for session in self.sessions if session.opens > now), default=None)

    def seems_closed(self, now: datetime) -> bool:
        """True if now is in none of the reported hours; they may be those of another day."""
        return bool(self.sessions) and not any(session.opens <= now < session.closes for session in self.sessions)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One order as it goes out, complete; the same order id sent again modifies, never duplicates."""

    order_id: int
    order_ref: str
    contract: Contract
    account: str
    side: Side
    kind: Kind
    quantity: Decimal
    price: Decimal | None = None  # limit or stop price, of a trailing stop where it is now; None for a market order
    trail: Distance | None = None  # of a trailing stop: how far it follows, in percent or points
    tif: str = "GTC"
    parent_id: int = 0
    transmit: bool = True
    oca_group: str = ""
    oca_type: int = 2  # reduce with block (source: IBKR, TWS API, One-Cancels-All)
    outside_rth: bool = False


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What one message (openOrder, orderStatus, completedOrder) reports about an order."""

    order_id: int  # 0 where TWS does not tell (completed orders, other clients)
    status: Status
    client_id: int | None = None
    perm_id: int = 0
    order_ref: str | None = None
    con_id: int | None = None
    account: str | None = None
    side: Side | None = None
    kind: str | None = None
    quantity: Decimal | None = None
    filled: Decimal | None = None
    remaining: Decimal | None = None
    price: Decimal | None = None
    trail: Distance | None = None
    parent_id: int | None = None
    tif: str | None = None
    oca_group: str | None = None
    oca_type: int | None = None
    why_held: str = ""
    completed: bool = False  # from completedOrder: it will not change any more
    note: str = ""  # the broker's own text, if any


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. A correction carries the same `exec_root` and a later `exec_id`."""

    exec_id: str
    order_ref: str  # "" for an order that is not ours
    order_id: int
    perm_id: int
    client_id: int
    con_id: int
    account: str
    side: Side
    quantity: Decimal
    price: Decimal
    at: datetime  # aware UTC
    commission: Decimal | None = None  # None until its report came
    liquidation: bool = False
    symbol: str = ""

    @property
    def exec_root(self) -> str:
        """The execution without its revision (source: IBKR, Execution.ExecId: a correction increments the last part)."""
        return self.exec_id.rpartition(".")[0] or self.exec_id

    @property
    def is_first(self) -> bool:
        """True if this is the execution itself, and no correction of it."""
        return self.exec_id.rpartition(".")[2].lstrip("0") in ("", "1")

    @property
    def signed(self) -> Decimal:
        return self.quantity if self.side is Side.BUY else -self.quantity


@dataclass(frozen=True, slots=True)
class Position:
    """The net signed quantity that the broker shows for one account and contract."""

    account: str
    con_id: int
    symbol: str  # canonical where it can be known, else IBKR's local symbol
    quantity: Decimal
    avg_cost: Decimal
    market_price: Decimal | None = None
    unrealized: Decimal | None = None
    multiplier: Decimal = Decimal(1)
    currency: str = ""  # of the contract and of `unrealized`

    @property
    def entry_price(self) -> Decimal:
        """Return the average price paid for one unit of price; IBKR's average cost counts a future's multiplier in.

        Commissions are in it too, but for forex (recorded: 315114.75 for an ES bought at 6302.25).
        """
        return self.avg_cost / self.multiplier


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error message addressed to one order id. What it means for the order is judged by `trades`, not by its arrival."""

    order_id: int
    code: int
    text: str


@dataclass(frozen=True)
class Snapshot:
    """Everything the broker knows, each part read to its end. A part that did not end is no snapshot: it raises.

    What is asked about each trade is looked up, not searched for: a snapshot costs what it holds, not its square.
    """

    taken_at: datetime
    day: str  # the broker's trading day, YYYY-MM-DD in TWS's time zone: executions reach back to its start
    open_orders: tuple[OrderReport, ...]
    completed_orders: tuple[OrderReport, ...]
    fills: tuple[Fill, ...]
    positions: tuple[Position, ...]
    begun_at: datetime | None = None  # when it was asked for

    def may_lack(self, sent_at: datetime | None) -> bool:
        """True if an order sent at that time may be missing here though it is alive: its part may have been read before."""
        return sent_at is not None and sent_at > (self.begun_at or self.taken_at)

    def position(self, account: str, con_id: int) -> Decimal:
        """Return the net quantity of one contract, 0 where the broker shows none."""
        return self._net.get((account, con_id), Decimal(0))

    def open_under(self, order_ref: str) -> tuple[OrderReport, ...]:
        """Return the open orders that bear a reference."""
        return tuple(self._open_by_ref.get(order_ref, ()))

    @cached_property
    def _net(self) -> Mapping[tuple[str, int], Decimal]:
        net: dict[tuple[str, int], Decimal] = {}
        for each in self.positions:
            net[each.account, each.con_id] = net.get((each.account, each.con_id), Decimal(0)) + each.quantity
        return net

    @cached_property
    def _open_by_ref(self) -> Mapping[str | None, list[OrderReport]]:
        found: dict[str | None, list[OrderReport]] = {}
        for report in self.open_orders:
            found.setdefault(report.order_ref, []).append(report)
        return found


class Connectivity(StrEnum):
    """TWS's own link to IBKR (source: IBKR Message Codes 1100, 1101, 1102, 2110)."""

    LOST = "lost"
    RESTORED = "restored"
    RESTORED_DATA_LOST = "restored, data lost"


class Listener(Protocol):
    """Who hears the facts; each call is synchronous, on the event loop, in the order of the wire."""

    def on_order(self, report: OrderReport) -> None: ...
    def on_fill(self, fill: Fill) -> None: ...
    def on_commission(self, exec_id: str, commission: Decimal) -> None: ...
    def on_position(self, position: Position) -> None: ...
    def on_refusal(self, refusal: Refusal) -> None: ...
    def on_connectivity(self, state: Connectivity, text: str) -> None: ...
    def on_contract(self, symbol: str, answer: Contract | str, con_id: int = 0) -> None:
        """The answer to `request_contract`: the contract, or in words why there is none, with the choices."""
        ...

    def on_unpaced(self) -> None:
        """Messages leave at once again; `Broker.is_paced` is False by now."""
        ...

    def on_no_line(self, text: str) -> None:
        """The broker has no market data line left for a subscription; `text` is its message."""
        ...


class Broker(Protocol):
    """What the trading core asks of a broker. All calls run on the event loop that owns the connection."""

    @property
    def is_paced(self) -> bool:
        """True if messages wait to be sent, so that what is sent now would leave seconds later."""
        ...

    @property
    def day(self) -> str:
        """The broker's trading day now, YYYY-MM-DD in its time zone; see `Snapshot.day`."""
        ...

    def send(self, ticket: Ticket) -> None:
        """Write one order to the connection. Returning proves nothing about its fate.

        Raises:
            BrokerUnavailable: The transport is known to be gone. Earlier tickets may have left; find out by a snapshot.
        """
        ...

    def together(self) -> AbstractContextManager[None]:
        """Write what is sent within the block in one piece at its end, also if it ends by an exception."""
        ...

    def cancel(self, order_id: int) -> None:
        """Ask to cancel one of our orders. Only a report or a snapshot shows whether it was.

        Raises:
            BrokerUnavailable: As for `send`.
        """
        ...

    def request_contract(self, symbol: str, con_id: int = 0) -> None:
        """Ask for the contract a symbol means; the answer is `on_contract`, once, with the first price where one is to be had.

        If it is requested again, so is the price where none is known, or none that is recent.

        With a `con_id` it is asked for this very contract, whatever the symbol means by now (a future that has rolled on).
        """
        ...

    def price(self, con_id: int) -> Decimal | None:
        """Return the last known market price (mid, else last, else close), or None where it is not known or too old."""
        ...

    def order_id_floor(self) -> int:
        """Return the lowest order id that the broker would accept for our client id now."""
        ...


@dataclass(frozen=True, slots=True)
class AccountView:
    """Account values for the page: key → text, as the broker named them; `Currency` is the base currency."""

    account: str
    values: Mapping[str, str] = field(default_factory=dict)
