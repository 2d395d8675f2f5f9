"""Changes of orders: the same id again. What TWS takes, what it says, and what may happen on the way to IB.

IBKR (TWS API, Modifying Orders): the same fields as the open order but for the one to change; price, size, and the time
in force from DAY to IOC are what may be changed. What else is asked for is refused as below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from executor.paper.contracts import Instrument
from executor.paper.faults import Fault
from executor.paper.floor import Floor
from executor.paper.link import Link
from executor.paper.matcher import Matcher, rest
from executor.paper.order_fields import Refusal
from executor.paper.orders import DEFAULT_OCA_TYPE, LIMITS, UNDER_WAY, Order, OrderForm
from executor.paper.validation import said, words

# source: ibkr-go, recorded place_order_modify_to_market_late_execution. For any other change of the type IBKR's API guide
# (Order IDs) says to cancel and send a new order; one reader of a Gateway finds that it takes more of them.
TYPE_CHANGES = frozenset({("LMT", "MKT")})
# source: orders changed on a paper account in October 2026 (the notes of one trading client, tifChangeAllowed), and the
# log of a 462 in another: no other time in force may follow
TIF_CHANGES = frozenset({("DAY", "GTC"), ("GTC", "DAY"), ("DAY", "IOC"), ("GTC", "IOC")})
REJECTED = 201  # IB's own refusal; the others are TWS's


def refusal(order: Order, one: Instrument, form: OrderForm) -> Refusal | None:
    """Return how TWS refuses a change because of what the order is, or None. Pure."""
    if order.status == "Filled":
        return 104, words(104)
    if order.status == "Cancelled":
        return 103, words(103)
    if (one.con_id, form.action, form.account) != (order.con_id, order.form.action, order.form.account):
        return 105, words(105)
    if again(order):
        return None
    if order.status == "PendingCancel" or UNDER_WAY in order.flags:
        return 2102, words(2102)
    return _kind(order.form, form) or _links(order, form) or _size(order, form)


def again(order: Order) -> bool:
    """True if TWS has the order to itself, so that a change is a new order to IB: held, lost, or inactive."""
    return order.held or order.lost or order.status == "Inactive"


def _kind(was: OrderForm, form: OrderForm) -> Refusal | None:
    if form.order_type != was.order_type and (was.order_type, form.order_type) not in TYPE_CHANGES:
        return 329, words(329, cause=form.order_type)
    if form.tif != was.tif and (was.tif, form.tif) not in TIF_CHANGES:
        return 462, words(462, cause=form.tif)
    return None


def _links(order: Order, form: OrderForm) -> Refusal | None:
    """Refuse another group, or another type of it; a type that is not given counts as 3, given group or not.

    Source: users' logs of changed brackets; userFRM/ibkr-dx (docs, Limits), which reads how a Gateway compares them; the
    notes of a trading client that asked a paper account: an order cannot join a group later either.
    """
    if form.oca_group not in ("", order.oca_group):
        return 10326, words(10326)
    if (form.oca_type or DEFAULT_OCA_TYPE) != (order.oca_type or DEFAULT_OCA_TYPE):
        return 10327, words(10327)
    return None


def _size(order: Order, form: OrderForm) -> Refusal | None:
    # what IBKR says of a size below what is filled is not known
    too_small = form.quantity is not None and form.quantity < order.filled
    return (REJECTED, "Order rejected - reason:The order size is below what is filled.") if too_small else None


class Changes:
    """Take the changes of clients. `transmit`: send an order that TWS holds, with its bracket."""

    def __init__(self, floor: Floor, matcher: Matcher, link: Link, transmit: Callable[[Order], None]) -> None:
        self._floor, self._matcher, self._link, self._transmit = floor, matcher, link, transmit

    def take(self, order: Order, one: Instrument, form: OrderForm) -> Order | None:
        """Take a change; return the order, or None if it was refused."""
        if self._refuse(order, one, form):
            return None
        if not self._link.reaches(order):
            self._link.wait(lambda: self._arrive(order, one, form))
            return order
        slow = self._floor.faults.take("modify_delay", order, one.name) if order.working else None
        if slow:
            self._send_slowly(order, one, form, slow)
            return order
        self._race(order, one)
        return self._arrive(order, one, form)

    def _refuse(self, order: Order, one: Instrument, form: OrderForm) -> bool:
        found = self._refusal(order, one, form)
        if found:
            self._floor.deny(order.client_id, order.order_id, *found)
        return found is not None

    def _refusal(self, order: Order, one: Instrument, form: OrderForm) -> Refusal | None:
        floor = self._floor
        if order.held and floor.faults.standing("held_resend_103"):
            return 103, words(103)
        parent = floor.book.parent_of(order)
        if form.parent_id and parent and parent.done and not order.held and not order.done:
            return 135, words(135, id=form.parent_id)  # source: ib_insync issue 647; 0 is what TWS wants here
        return refusal(order, one, form)

    # -- on the way -------------------------------------------------------------------------------------------

    def _race(self, order: Order, one: Instrument) -> None:
        """Let the market fill an order just before its change arrives, as an armed fault has it."""
        race = self._floor.faults.take("modify_race", order, one.name) if order.at_market else None
        if race:
            quote = self._floor.market.quote(order.con_id)
            touch = quote.ask if order.form.action == "BUY" else quote.bid
            limit = order.form.limit_price if order.form.order_type in LIMITS else None
            self._matcher.fill(order, min(race.size("quantity") or order.remaining, order.remaining), limit or touch)

    def _send_slowly(self, order: Order, one: Instrument, form: OrderForm, slow: Fault) -> None:
        """Have IB answer late or never: it takes the change at once (`taken`) or when it answers."""
        seconds, floor = slow.seconds(), self._floor
        taken: bool = slow.params["taken"]
        if taken:
            self._carry_out(order, form, tell=False)
        if seconds is not None:
            order.flags |= {UNDER_WAY}
            floor.after(seconds, lambda: self._answer(order, one, form, taken=taken))

    def _answer(self, order: Order, one: Instrument, form: OrderForm, *, taken: bool) -> None:
        order.flags -= {UNDER_WAY}
        if not taken:
            self._arrive(order, one, form)
        elif not order.done:
            self._tell(order)

    def _arrive(self, order: Order, one: Instrument, form: OrderForm) -> Order | None:
        """Bring IB a change; the order may have filled on its way."""
        if self._refuse(order, one, form):
            return None
        fault = self._floor.faults.take("reject_modify", order, one.name)
        if fault is None:
            self._carry_out(order, form)
            return order
        code, text = said(fault)
        self._floor.deny(order.client_id, order.order_id, code, text)
        if code == REJECTED and order.working:
            self._floor.show(order)  # source: userFRM/ibkr-dx (docs, Venue behaviour): with the terms that stand
        return None

    # -- carried out ------------------------------------------------------------------------------------------

    def _carry_out(self, order: Order, form: OrderForm, *, tell: bool = True) -> None:
        was = order.form
        order.form = replace(form, parent_id=was.parent_id, order_ref=form.order_ref or was.order_ref)
        order.quantity = form.quantity or order.quantity
        order.rested = order.triggered = False
        order.cap = None
        if again(order):
            order.held, order.status = True, "PendingSubmit"
            self._floor.book.touch(order)
            if form.transmit:
                self._transmit(order)
            return
        order.form = replace(order.form, oca_group=was.oca_group, oca_type=was.oca_type)  # the links stay as they were
        self._matcher.trailing.begin(order, asleep=order.why_held == "child")
        if "queued" not in order.flags and order.why_held != "child":
            rest(order)
        self._floor.log("modified", order)
        if tell:
            self._tell(order)
        self._floor.book.touch(order)
        if order.remaining == 0:
            self._matcher.end(order, "Cancelled", "Size reduced to what is filled", tell=False)

    def _tell(self, order: Order) -> None:
        """Acknowledge a change, or the half of it that an armed fault leaves."""
        half = self._floor.faults.take("modify_ack", order, self._floor.instrument(order).name)
        if half is None:
            self._show_change(order)
        elif half.word("kind") == "orderStatus":
            self._floor.show_status(order)
        else:
            self._floor.show_order(order)

    def _show_change(self, order: Order) -> None:
        """Report a change as IB acknowledges it, PreSubmitted, and then as it carries it out.

        Source: ib_insync issue 509 (a limit); ibkr-go, recorded api_stop_loss_management_aapl (a stop: the same twice).
        """
        if order.why_held != "child" and "queued" not in order.flags:
            status, order.status = order.status, "PreSubmitted"
            self._floor.show(order)
            order.status = status
        self._floor.show(order)
