"""What one order of a trade is, and one execution; pure. What they make of their trade is in `trades`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from common.exits import Distance, Exit
from common.signals import Side
from executor.core.ports import Kind, Status

ZERO = Decimal(0)
OWN = "own"  # instead of an order's reference: the owner traded what he holds beside the trades
DUPLICATE_ID = 103  # source: IBKR, Message Codes


class Leg(StrEnum):
    """What an order is for; the letter stands in its `order_ref`."""

    ENTRY = "E"
    TAKE_PROFIT = "T"
    STOP_LOSS = "S"
    PUT_BACK = "R"  # a stop-loss that replaces a lost one
    TRAIL = "L"  # a trailing stop, which takes the place of the fixed one when the entry has filled
    CLOSE = "C"
    REDUCE = "X"  # takes part of the trade out
    ADD = "A"  # makes the trade larger
    ADD_STOP = "K"  # the stop-loss of what an addition brings, until the trade's own stop covers that too

    @property
    def word(self) -> str:
        return _WORDS[self]


_WORDS = {
    Leg.ENTRY: "entry", Leg.TAKE_PROFIT: "take-profit", Leg.STOP_LOSS: "stop-loss", Leg.PUT_BACK: "stop-loss",
    Leg.CLOSE: "close order", Leg.REDUCE: "reduction", Leg.ADD: "addition", Leg.ADD_STOP: "stop-loss of the addition",
    Leg.TRAIL: "trailing stop",
}  # fmt: skip
ENTRIES = (Leg.ENTRY, Leg.ADD)
STOPS = (Leg.STOP_LOSS, Leg.PUT_BACK, Leg.ADD_STOP, Leg.TRAIL)
EXITS = (Leg.TAKE_PROFIT, *STOPS)
TAKE_OUT = (Leg.CLOSE, Leg.REDUCE)  # what takes the trade out, in whole or in part, when it is asked for
_PRICES_KEPT = 8  # of the changes of one order that are unanswered
REDUCE_SECONDS = 10  # a reduction that is not filled by then is taken back


class OrderState(StrEnum):
    """How far one of our orders got, by the broker's evidence alone."""

    SENDING = "sending"  # written down; may or may not exist at the broker
    WORKING = "working"  # the broker showed it alive
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Order:
    """One leg and attempt of a trade, as the journal knows it."""

    order_ref: str
    leg: Leg
    attempt: int
    side: Side
    kind: Kind
    quantity: Decimal
    price: Decimal | None = None  # as the broker holds it
    trail: Distance | None = None  # of a trailing stop: how far it follows, in percent or points
    wish: Decimal | None = None  # the price that it shall have, where that is another
    state: OrderState = OrderState.SENDING
    filled: Decimal = ZERO  # the sum of its executions
    order_id: int | None = None
    perm_id: int = 0
    parent_ref: str | None = None
    said: Status | None = None  # the last status that the broker reported
    said_filled: Decimal | None = None
    refusal_code: int | None = None
    reason: str | None = None
    held: str | None = None
    sent_at: datetime | None = None
    sent_day: str | None = None
    resends: int = 0
    tif: str | None = None  # how long the broker keeps it, as reported
    oca_group: str | None = None  # the group that cancels it, as the broker reported; None: not reported yet
    oca_type: int | None = None
    cancel_asked_at: datetime | None = None  # when its cancel was last asked for
    cancelling_since: datetime | None = None  # and when it was asked for first
    resize_asked_at: datetime | None = None
    wish_for: str | None = None  # the signal that asked for that price; None: this program
    wish_sent_at: datetime | None = None  # when it was first sent
    sent_prices: tuple[Decimal, ...] = ()  # what it was sent since the broker last reported its price, in that order
    client_id: int | None = None  # whose order id it is
    done_at: datetime | None = None  # when it was known to be over
    signal_id: str | None = None  # the signal that asked for a reduction, an addition, or an exit that was added
    pair: int = 0  # which target and stop cancel each other; 0: those of what no target takes
    percent: Decimal | None = None  # of the first entry's size that its pair takes; None: what the others leave
    distance: Distance | None = None  # from the fill to one of several targets, until it is moved there

    def is_meant(self, client_id: int | None, order_id: int, perm_id: int) -> bool:
        """True if a message under this order's reference is about it: another client may use the reference for its own.

        permId decides, or clientId with orderId; a completed order has permId only.
        """
        if perm_id and perm_id == self.perm_id:
            return True
        if client_id is None or self.client_id is None:
            return not (perm_id and self.perm_id)
        return client_id == self.client_id and order_id in (0, self.order_id)

    def with_cancel(self, now: datetime | None) -> Order:
        """Return it with its cancel asked for now; None: it is not asked for any more."""
        return replace(self, cancel_asked_at=now, cancelling_since=now and (self.cancelling_since or now))

    @property
    def is_live(self) -> bool:
        """True if it may still fill, as far as we know."""
        return self.state in (OrderState.SENDING, OrderState.WORKING)

    @property
    def is_done(self) -> bool:
        return self.state in (OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED)

    @property
    def was_overtaken(self) -> bool:
        """True if TWS refused it, sent again, since a higher order id had been used meanwhile (code 103)."""
        return self.refusal_code == DUPLICATE_ID and self.resends > 0

    @property
    def filled_at_broker(self) -> Decimal:
        """What of it has filled: its executions, or the broker's word where that is ahead of them."""
        return max(self.filled, self.said_filled or ZERO)

    @property
    def shall_price(self) -> Decimal | None:
        """The price that it shall have: what is sent, and sent again."""
        return self.price if self.wish is None else self.wish

    def with_wish(self, price: Decimal, signal_id: str | None) -> Order:
        """Return it with the price that it shall have; it is sent at once, also where an older change is unanswered."""
        wish = None if price == self.price and not self.sent_prices else price
        return replace(self, wish=wish, wish_for=signal_id, wish_sent_at=None, resize_asked_at=None, distance=None)

    def without_wish(self) -> Order:
        """Return it with the price that the broker holds: no other is wanted any more."""
        return replace(self, wish=None, wish_for=None, wish_sent_at=None)

    def with_change_sent(self, now: datetime) -> Order:
        """Return it as one whose change of size or price leaves now."""
        moves = self.wish is not None or bool(self.sent_prices)
        price = self.shall_price
        sent = self.sent_prices
        if moves and price is not None and sent[-1:] != (price,):
            sent = (*sent, price)[-_PRICES_KEPT:]
        first = now if self.wish is not None else None
        return replace(self, resize_asked_at=now, wish_sent_at=self.wish_sent_at or first, sent_prices=sent)

    @property
    def may_be_moved(self) -> bool:
        """True if it is live, and not on its way out."""
        return self.is_live and self.cancel_asked_at is None

    @property
    def ends_today(self) -> bool:
        """True if the broker keeps it for the day only (TWS's presets can make it so)."""
        return self.tif not in (None, "GTC")

    @property
    def remaining(self) -> Decimal:
        """What of it may still fill at the broker."""
        return self.quantity - self.filled_at_broker

    @property
    def summary(self) -> str:
        """One line for the owner's eyes."""
        return f"{self.leg.word} {self.order_ref}: {self.state.value}, {self.filled} of {self.quantity} filled"


@dataclass(frozen=True, slots=True)
class Aim:
    """Where an exit shall be that cannot be moved there yet: its price follows from the fill, or it is still to be added."""

    at: Exit
    signal_id: str | None = None  # the signal that asked to move or add it; None: it came with the entry
    free: bool = False  # whether a stop may move away from the market


@dataclass(frozen=True, slots=True, order=True)
class Execution:
    """One fill as the journal knows it, in the order of time, and of arrival within the same second."""

    at: datetime
    seq: int  # in the order of arrival, over the whole journal
    exec_root: str
    exec_id: str
    order_ref: str  # "" for an order that is not ours, OWN where it took out what the owner holds beside
    side: Side
    quantity: Decimal
    price: Decimal
    account: str
    con_id: int
    commission: Decimal | None = None  # None until the broker said it
    liquidation: bool = False


@dataclass(frozen=True, slots=True)
class Reduction:
    """The wish to make a trade smaller: the size it shall have, never what is to be sold, so that nothing is sold twice.

    What the exits fill after it was asked for comes out of that size.
    """

    to: Decimal
    signal_id: str  # of the signal that asked for it
    since: datetime
    taken: Decimal = ZERO  # what the exits had filled by then


# What an order's last report and its executions make of it: the broker's terminal words → our states.
_TERMINAL = {
    Status.CANCELLED: OrderState.CANCELLED,
    Status.INACTIVE: OrderState.REJECTED,
    Status.FILLED: OrderState.FILLED,
}


def order_state(order: Order) -> OrderState:
    """Return the state that the broker's evidence gives an order.

    Its filled quantity is taken to be the sum of its executions. A terminal word counts only when every execution
    that it speaks of has arrived: until then the order stays live, so that nothing is decided on a quantity that is
    not known. A cancelled order that filled wholly in the meantime is filled.
    """
    if order.filled >= order.quantity > 0:
        return OrderState.FILLED
    if order.said is None:
        return OrderState.WORKING if order.filled > 0 and order.state is OrderState.SENDING else order.state
    if order.said.is_live:
        return OrderState.WORKING
    due = order.said_filled or (order.quantity if order.said is Status.FILLED else ZERO)
    if order.filled < due:
        return OrderState.WORKING
    return _TERMINAL[order.said]


def awaits_executions(order: Order) -> bool:
    """True if the broker called an order finished while executions that it speaks of are still missing."""
    return order.is_live and order.said is not None and not order.said.is_live


def average(executions: Iterable[Execution]) -> Decimal | None:
    """Return the average price over executions, to ten decimals; None where there are none."""
    pairs = [(e.quantity, e.price) for e in executions]
    quantity = sum((q for q, _ in pairs), ZERO)
    return round(sum((q * p for q, p in pairs), ZERO) / quantity, 10) if quantity else None
