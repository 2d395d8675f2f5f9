"""What the exchange reports, in order. Each event is a finished fact and holds copies, never live objects."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from executor.paper.orders import Execution, Order


@dataclass(frozen=True, slots=True)
class OrderShown:
    """openOrder followed by orderStatus, unless it stands alone. `to`: a second client that asked for the change, if any."""

    order: Order
    to: int | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class StatusShown:
    """orderStatus alone."""

    order: Order
    to: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An error or warning that carries an order id."""

    client_id: int
    order_id: int
    code: int
    words: str
    muted: bool = False


@dataclass(frozen=True, slots=True)
class Executed:
    execution: Execution
    muted: bool = False


@dataclass(frozen=True, slots=True)
class Commissioned:
    """commissionReport; `amount` None stands for the unset number."""

    execution: Execution
    amount: Decimal | None
    muted: bool = False


@dataclass(frozen=True, slots=True)
class PositionMoved:
    account: str
    con_id: int


@dataclass(frozen=True, slots=True)
class PricesMoved:
    con_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """A system message to every client, such as 1100."""

    code: int
    words: str


Event = OrderShown | StatusShown | Refused | Executed | Commissioned | PositionMoved | PricesMoved | Notice
