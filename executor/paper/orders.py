"""Orders and executions as the broker keeps them: data and small questions, no behaviour.

The words of `status` are TWS's own (TWS API, orderStatus).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

ZERO = Decimal(0)
STATUSES = ("PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel", "Cancelled", "Filled", "Inactive")
DONE = frozenset({"Cancelled", "Filled", "Inactive"})
TRAIL = "TRAIL"
STOPS = frozenset({"STP", "STP LMT", TRAIL})
LIMITS = frozenset({"LMT", "STP LMT"})
DEFAULT_OCA_TYPE = 3  # what none, and one that does not exist, is read as
UNDER_WAY = "changing"  # the flag of an order whose change IB has yet to answer
MANUAL = 0  # the client id of orders that the owner makes in TWS itself


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a stop becomes once the market has reached a price: a stop elsewhere, or a TRAIL. Unset numbers are None."""

    order_type: str
    trigger_price: Decimal | None = None
    stop_price: Decimal | None = None
    trailing: Decimal | None = None
    unit: int = 0  # of `trailing`: 0 an amount, 100 per cent


@dataclass(frozen=True, slots=True)
class OrderForm:
    """What was asked for: the fields of placeOrder that have an effect here. Unset numbers are None."""

    action: str
    quantity: Decimal | None
    order_type: str
    limit_price: Decimal | None = None
    aux_price: Decimal | None = None
    tif: str = "DAY"
    oca_group: str = ""
    oca_type: int = 0
    account: str = ""
    order_ref: str = ""
    transmit: bool = True
    parent_id: int = 0
    outside_rth: bool = False
    what_if: bool = False
    trail_stop: Decimal | None = None  # of a TRAIL: where its stop shall begin (the API's trailStopPrice)
    trail_percent: Decimal | None = None  # by how many per cent it trails; else aux_price is the amount
    adjust: Adjustment | None = None
    extras: dict[str, str] = field(default_factory=dict)  # the API's name of any other field that is set -> its text

    @property
    def sign(self) -> int:
        return 1 if self.action == "BUY" else -1

    @property
    def trails(self) -> bool:
        return self.order_type == TRAIL


@dataclass(slots=True)
class Order:
    """One order. `held` means: not transmitted, so known to TWS only and not to IB's servers."""

    perm_id: int
    client_id: int
    order_id: int
    form: OrderForm
    con_id: int
    placed_at: datetime
    quantity: Decimal
    status: str = "PendingSubmit"
    why_held: str = ""
    held: bool = True
    parent: int = 0  # permId of the parent order
    oca_group: str = ""
    oca_type: int = 0
    filled: Decimal = ZERO
    cost: Decimal = ZERO  # sum of price * quantity over the executions
    last_price: Decimal = ZERO
    commission: Decimal = ZERO
    triggered: bool = False
    trail_stop: Decimal | None = None  # where the stop of a TRAIL is now; None: it does not follow the market yet
    cap: Decimal | None = None  # the worst price that price protection leaves it
    rested: bool = False  # was looked at and not marketable: later fills are at its own limit
    lost: bool = False  # never reached IB's servers; a restart of TWS forgets it
    waits_until: datetime | None = None  # not matched before (market closed, locate, delayed fill)
    done_at: datetime | None = None
    done_text: str = ""
    forgotten: bool = False  # completed on an earlier day: no request shows it any more
    muted: bool = False  # its owner hears nothing of it until the next connection
    pieces: list[Decimal] = field(default_factory=list)  # sizes of the next partial fills
    piece_gap: float = 0.0  # seconds between them
    pieces_then: str = "fill"  # what becomes of the rest: fill, cancel, rest
    rejection: tuple[int, str, str] | None = None  # code, words, following status: what IB will say to it
    flags: frozenset[str] = frozenset()  # armed faults that stay with the order

    @property
    def remaining(self) -> Decimal:
        return max(self.quantity - self.filled, ZERO)

    @property
    def average(self) -> Decimal:
        return self.cost / self.filled if self.filled else ZERO

    @property
    def stop_price(self) -> Decimal | None:
        """Return the price that triggers it."""
        return self.trail_stop if self.form.trails else self.form.aux_price

    @property
    def done(self) -> bool:
        """True if it is at its end. An Inactive order that waits for shares to borrow is not."""
        return self.status in DONE and self.why_held != "locate"

    @property
    def working(self) -> bool:
        return not self.done and not self.held and not self.lost

    @property
    def at_market(self) -> bool:
        """True if IB has it and could fill it, were the price right."""
        return self.working and self.why_held != "child" and "queued" not in self.flags

    @property
    def role(self) -> str:
        """Return entry, take_profit or stop_loss, as far as the form of the order shows it."""
        if self.form.order_type in STOPS:
            return "stop_loss"
        return "take_profit" if self.form.parent_id and self.form.order_type == "LMT" else "entry"

    def copy(self) -> Order:
        return replace(self)


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill. A correction has the same id but for its last part (`.01` becomes `.02`)."""

    exec_id: str
    perm_id: int
    client_id: int
    order_id: int
    account: str
    con_id: int
    action: str
    quantity: Decimal
    price: Decimal
    at: datetime
    cumulative: Decimal
    average: Decimal
    order_ref: str = ""
    exchange: str = ""
    commission: Decimal = ZERO
    currency: str = "USD"
    realized: Decimal | None = None  # None: the fill opened a position
    forgotten: bool = False

    @property
    def sign(self) -> int:
        return 1 if self.action == "BUY" else -1

    @property
    def root(self) -> str:
        return self.exec_id.rpartition(".")[0]
