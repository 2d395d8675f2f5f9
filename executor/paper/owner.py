"""What the owner does by hand in TWS: orders of client 0 without an order id, and changes to any order."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from executor.paper.contracts import Instrument
from executor.paper.events import OrderShown
from executor.paper.exchange import Exchange
from executor.paper.orders import LIMITS, MANUAL, STOPS, Execution, Order, OrderForm
from executor.paper.validation import refusal

Number = Decimal | str | int | float


class OwnerError(Exception):
    """What was asked for cannot be done; the text says why."""


class Owner:
    """The owner's hands."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._floor = exchange.floor

    def place(
        self, symbol: str, action: str, quantity: Number, order_type: str = "MKT", *,
        price: Number | None = None, tif: str = "DAY", account: str = "", order_ref: str = "",
    ) -> Order:  # fmt: skip
        """Place an order by hand: `price` is the limit of a LMT, the stop of a STP, the amount that a TRAIL trails by.

        Raises OwnerError if it is refused.
        """
        level = None if price is None else Decimal(str(price))
        form = OrderForm(
            action.upper(), Decimal(str(quantity)), order_type, level if order_type in LIMITS else None,
            level if order_type in STOPS else None, tif, account=account or next(iter(self._floor.books.accounts)),
            order_ref=order_ref,
        )  # fmt: skip
        one = self._floor.catalog.named(symbol)
        self._refuse(form, one)
        order = self._exchange.place(MANUAL, 0, [one], form)
        if order is None:
            raise OwnerError(f"refused: {action} {quantity} {symbol} {order_type} {price or ''}")
        return order

    def _refuse(self, form: OrderForm, one: Instrument) -> None:
        """Raise OwnerError with TWS's own words if it would not take such an order."""
        refused = refusal(form, one, list(self._floor.books.accounts))
        if refused:
            raise OwnerError(f"{refused[0]}: {refused[1]}")

    def find(
        self, perm_id: int | None = None, *, order_ref: str = "", symbol: str = "", role: str = ""
    ) -> Order:  # fmt: skip
        """Return the live order that this describes (`order_ref`: a part of it). Raises OwnerError if not just one."""
        found = [
            one
            for one in self._floor.book.live.values()
            if (perm_id in (None, one.perm_id) and order_ref in one.form.order_ref and role in ("", one.role))
            and symbol.upper() in ("", self._floor.instrument(one).name)
        ]
        if len(found) != 1:
            raise OwnerError(f"{len(found)} live orders fit permId={perm_id} ref={order_ref!r} {symbol} {role}")
        return found[0]

    def cancel(self, order: Order) -> None:
        with self._exchange.turn():
            self._exchange.cancels.cancel(order, order.client_id)

    def modify(self, order: Order, *, price: Number | None = None, quantity: Number | None = None) -> None:
        """Move the price of a stop or limit, the stop of a TRAIL, or change the size.

        Raises OwnerError if TWS would refuse it.
        """
        level = None if price is None else Decimal(str(price))
        form = order.form
        if level is not None:
            form = _priced(form, level)
        size = order.quantity if quantity is None else Decimal(str(quantity))
        if size <= order.filled:
            raise OwnerError(f"its size cannot be {size}: {order.filled} are filled")
        self._refuse(replace(form, quantity=size), self._floor.instrument(order))
        with self._exchange.turn():
            order.form, order.rested, order.triggered, order.cap = form, False, False, None
            order.quantity = size
            if form.trails and level is not None:
                order.trail_stop = level
            self._floor.log("modified", order, by="owner")
            self._floor.show(order)

    def transmit(self, order: Order) -> None:
        """Send a held order, with the held rest of its bracket, as the Transmit button does."""
        with self._exchange.turn():
            self._exchange.intake.transmit(order)

    def fill(self, order: Order, quantity: Number | None = None, price: Number | None = None) -> None:
        """Have the market fill an order, whatever its price says; all of it if no quantity is given.

        Raises:
            OwnerError: The market does not have it: it is held, sleeps, or never reached IB.
        """
        if not order.at_market:
            raise OwnerError("it is not at the market")
        touch = self._floor.market.quote(order.con_id).middle
        size = order.remaining if quantity is None else min(Decimal(str(quantity)), order.remaining)
        with self._exchange.turn():
            self._exchange.matcher.fill(order, size, touch if price is None else Decimal(str(price)))

    def release(self, order: Order) -> None:
        """Let a child work that a fault holds back."""
        with self._exchange.turn():
            self._exchange.matcher.wake_child(order)

    def close(self, symbol: str, quantity: Number | None = None, account: str = "") -> Order:
        """Close a position at the market, all of it or a part."""
        one, owner = self._position(symbol, account)
        held = self._floor.books.accounts[owner].positions[one.con_id].quantity
        size = abs(held) if quantity is None else Decimal(str(quantity))
        return self.place(symbol, "SELL" if held > 0 else "BUY", size, account=owner)

    def _position(self, symbol: str, account: str) -> tuple[Instrument, str]:
        one, owner = self._floor.catalog.named(symbol), account or next(iter(self._floor.books.accounts))
        position = self._floor.books.accounts[owner].positions.get(one.con_id)
        if position is None or not position.quantity:
            raise OwnerError(f"{owner} holds no {symbol}")
        return one, owner

    def correct(self, exec_id: str, *, quantity: Number | None = None, price: Number | None = None) -> Execution:
        """Have the exchange correct an execution; an empty id means the newest. Raises OwnerError if there is none."""
        executions = self._exchange.executions()
        found = [one for one in executions if exec_id in ("", one.exec_id)]
        if not found:
            raise OwnerError(f"no execution has the id {exec_id!r}")
        old = found[-1]
        size = old.quantity if quantity is None else Decimal(str(quantity))
        with self._exchange.turn():
            return self._exchange.matcher.correct(old, size, old.price if price is None else Decimal(str(price)))

    def bind(self) -> None:
        """Give the manual orders negative ids, so that client 0 can change them."""
        book = self._floor.book
        with self._exchange.turn():
            for order in book.live.values():
                if order.client_id == MANUAL and order.order_id == 0:
                    order.order_id = -1 - sum(1 for one in book.handles if one[0] == MANUAL and one[1] < 0)
                    book.handles[MANUAL, order.order_id] = order.perm_id
                    self._floor.emit(OrderShown(order.copy()))


def _priced(form: OrderForm, level: Decimal) -> OrderForm:
    """Return a form with another price: the stop of a TRAIL or of a stop order, else the limit."""
    if form.trails:
        return replace(form, trail_stop=level)
    return replace(form, aux_price=level) if form.order_type in STOPS else replace(form, limit_price=level)
