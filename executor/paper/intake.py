"""Orders coming in: validate, hold, transmit. A known id is a change, which `changes` takes.

An order with transmit=False is held by TWS in silence. A transmitting message sends its whole family: the
parent is acknowledged first, then its children, and only then is anything matched.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from executor.paper.changes import Changes
from executor.paper.contracts import Instrument
from executor.paper.faults import Fault
from executor.paper.floor import Floor
from executor.paper.link import Link
from executor.paper.matcher import Matcher, regroup, resting_status
from executor.paper.orders import DEFAULT_OCA_TYPE, Order, OrderForm
from executor.paper.precautions import precaution
from executor.paper.validation import PARENTS_OF_TRAILS, READ_ONLY, odd_lot, order_line, refusal, said, words

MAX_ID = 2**31 - 1
KEPT_FLAGS = ("orphan_children", "children_stay", "oca_ignored", "oca_double_fill", "oca_family")


class Intake:
    """Take the orders of clients and of the owner."""

    def __init__(self, floor: Floor, matcher: Matcher, link: Link) -> None:
        self._floor, self._matcher, self._link = floor, matcher, link
        self._changes = Changes(floor, matcher, link, self.transmit)

    @property
    def connected(self) -> bool:
        """True if TWS has IB's servers."""
        return self._link.up

    # -- placing ----------------------------------------------------------------------------------------------

    def place(self, client_id: int, order_id: int, found: list[Instrument], form: OrderForm) -> Order | None:
        """Take a placeOrder; return the order, or None if it was refused without a trace."""
        code_words = self._refusal(client_id, order_id, found, form)
        if code_words is not None:
            self._floor.deny(client_id, order_id, *code_words)
            return None
        form = replace(form, account=form.account or next(iter(self._floor.books.accounts)))
        known = self._floor.book.by_handle(client_id, order_id) if order_id else None
        if known is not None:
            return self._changes.take(known, found[0], form)
        return self._new(client_id, order_id, found[0], form)

    def _refusal(self, client_id: int, order_id: int, found: list[Instrument],
                 form: OrderForm) -> tuple[int, str] | None:  # fmt: skip
        if order_id and self._floor.faults.standing("read_only"):  # the owner's own hands are no API
            return READ_ONLY
        if order_id > MAX_ID:
            return 320, words(320)
        if len(found) != 1:
            return 200, words(200)
        return (refusal(form, found[0], list(self._floor.books.accounts)) or self._id_refusal(client_id, order_id, form)
                or self._precaution(order_id, found[0], form))  # fmt: skip

    def _precaution(self, order_id: int, one: Instrument, form: OrderForm) -> tuple[int, str] | None:
        fault = self._floor.faults.standing("precautions") if order_id else None  # the owner was asked, and said yes
        return precaution(fault, order_id, form, one, self._floor.market.quote(one.con_id)) if fault else None

    def _id_refusal(self, client_id: int, order_id: int, form: OrderForm) -> tuple[int, str] | None:
        book = self._floor.book
        if not order_id or book.by_handle(client_id, order_id):
            return None
        if order_id < book.mark(client_id) and not self._floor.faults.standing("lax_ids"):
            return 103, words(103)
        return self._parent_refusal(client_id, form)

    def _parent_refusal(self, client_id: int, form: OrderForm) -> tuple[int, str] | None:
        if not form.parent_id:
            return None
        parent = self._floor.book.by_handle(client_id, form.parent_id)
        if parent is None:
            return 10006, words(10006)
        if form.trails and parent.form.order_type not in PARENTS_OF_TRAILS:
            # source: ibkr-go, recorded api_bracket_trailing_stop_aapl (Gateway of August 2026, market order as parent)
            return 328, words(328)
        if parent.status == "Filled":
            return 135, words(135, id=form.parent_id)
        if parent.done:
            return 201, "Order rejected - reason:Parent order is being cancelled."
        return None

    def _new(self, client_id: int, order_id: int, one: Instrument, form: OrderForm) -> Order | None:
        floor = self._floor
        mark = floor.book.mark(client_id)
        order = floor.book.new_order(client_id, order_id, one.con_id, form, floor.now)
        self._group(order)
        fault = floor.faults.take("reject", order, one.name)
        if fault and not fault.word("then"):
            floor.book.forget(order)
            floor.book.marks[client_id] = mark  # TWS itself refused: the id is free as before
            self._floor.deny(client_id, order_id, *said(fault))
            return None
        if fault:
            self._plan_rejection(order, fault)
        order.muted = floor.fault("lost_ack", order)
        order.flags = frozenset(name for name in KEPT_FLAGS if floor.fault(name, order))
        self._prepare(order, one)
        if form.transmit:
            self.transmit(order)
        return order

    def _plan_rejection(self, order: Order, fault: Fault) -> None:
        """Have IB reject an order: at once, or some time after it was taken, unless it is filled by then."""
        answer = *said(fault), fault.word("then")
        if not fault.seconds():
            order.rejection = answer
        else:
            self._floor.after(fault.seconds() or 0.0, lambda: self._reject_late(order, *answer))

    def _reject_late(self, order: Order, code: int, text: str, then: str) -> None:
        if order.working and not order.filled:
            self._reject(order, code, text, then)

    def _group(self, order: Order) -> None:
        floor, form = self._floor, order.form
        order.oca_group, order.oca_type = form.oca_group, form.oca_type or (DEFAULT_OCA_TYPE if form.oca_group else 0)
        parent = floor.book.by_handle(order.client_id, form.parent_id) if form.parent_id else None
        if parent:  # source: recorded brackets, and ib_insync issue 606, whatever was asked for
            order.parent, order.oca_group, order.oca_type = parent.perm_id, str(parent.perm_id), DEFAULT_OCA_TYPE
        forced = floor.faults.take("oca_type", order, floor.instrument(order).name)
        if forced:
            order.oca_type = forced.whole("type")
            order.form = replace(form, oca_type=order.oca_type)

    def _prepare(self, order: Order, one: Instrument) -> None:
        """Let the armed faults of partial and late fills settle on the order."""
        partials = self._floor.faults.take("partials", order, one.name)
        if partials:
            order.pieces = list(partials.params["sizes"])
            order.piece_gap, order.pieces_then = partials.seconds("gap") or 0.0, partials.word("then")
        delay = self._floor.faults.take("delay_fill", order, one.name)
        if delay:
            seconds = delay.seconds()
            order.waits_until = self._floor.now + timedelta(seconds=3e8 if seconds is None else seconds)

    def transmit(self, order: Order) -> None:
        """Send an order to IB, with every held order of its bracket."""
        for one in self._floor.book.family(order):
            if one.held and not one.done:
                one.held = False
                self._accept(one)

    def _accept(self, order: Order) -> None:
        """Let IB's servers take an order: reject it, or acknowledge it with its warnings."""
        floor = self._floor
        order.flags = order.flags - {"queued"}
        if order.done:
            return
        if not self._link.up:
            self._queue(order)
            return
        if self._lose(order):
            return
        order.lost = False
        reason = self._rejection(order)
        if reason:
            self._reject(order, *reason)
            return
        if floor.fault("preset_tif", order):
            order.form = replace(order.form, tif="DAY")
            floor.refuse(order, 10349, words(10349))
        parent = floor.book.parent_of(order)
        asleep = parent is not None and not parent.done and not parent.filled
        self._matcher.trailing.begin(order, asleep=asleep)
        if asleep:
            order.status, order.why_held = "PreSubmitted", "child"
        else:
            regroup(order)
            order.status, order.why_held = resting_status(order)
            self._hold_back(order)
        floor.log("accepted", order)
        floor.show(order)
        self._warn(order)

    def _queue(self, order: Order) -> None:
        """Keep an order in TWS until IB's servers are back; a restart of TWS forgets it."""
        order.status, order.flags = "PendingSubmit", order.flags | {"queued"}
        self._link.wait(lambda: self._accept(order))
        self._floor.show(order)

    def _lose(self, order: Order) -> bool:
        fault = self._floor.faults.take("lose_order", order, self._floor.instrument(order).name)
        if fault is None:
            return False
        order.lost, order.status = True, "PendingSubmit"
        order.muted = order.muted or fault.params["silent"]
        self._floor.log("lost", order, why="never reached IB")
        self._floor.show(order)
        return True

    def _rejection(self, order: Order) -> tuple[int, str, str] | None:
        """Return code, words and following status of IB's rejection, or None."""
        if order.rejection:
            answer, order.rejection = order.rejection, None
            return answer
        parent = self._floor.book.parent_of(order)
        if parent and parent.done and not parent.filled and "orphan_children" not in parent.flags:
            return 201, "Order rejected - reason:Parent order is being cancelled.", "Cancelled"
        if self._floor.book.group_is_filled(order):
            return 201, "Order rejected - reason:OCA group is already filled", "Inactive"
        books, one = self._floor.books, self._floor.instrument(order)
        needed = books.margin_needed(order.form.account, one, order.form.sign * order.quantity)
        if not order.parent and 0 < needed > books.totals(order.form.account)["AvailableFunds"]:
            return 201, ("Order rejected - reason:We are unable to accept your order. Your Available Funds "
                         "are insufficient to cover the initial margin."), "Inactive"  # fmt: skip
        return None

    def _reject(self, order: Order, code: int, text: str, then: str) -> None:
        """Report a rejection: the error, then openOrder and orderStatus (source: ib_insync issue 554)."""
        floor = self._floor
        floor.refuse(order, code, text)
        order.status, order.why_held, order.done_at, order.done_text = then, "", floor.now, text
        floor.log("rejected", order, code=code, words=text)
        floor.show(order)
        self._matcher.end_children(order)

    def _hold_back(self, order: Order) -> None:
        floor, one = self._floor, self._floor.instrument(order)
        locate = floor.faults.take("locate", order, one.name)
        if locate:
            seconds = locate.seconds()
            order.status, order.why_held = locate.word("status"), "locate"
            order.waits_until = floor.now + timedelta(seconds=seconds if seconds is not None else 3e8)
            floor.refuse(order, 404, words(404))
        elif not self._matcher.is_open(order):
            order.status, order.why_held = "PreSubmitted", ""

    def _warn(self, order: Order) -> None:
        """Report the warnings that are no rejection: closed market, odd lot, and armed ones."""
        floor, one, form = self._floor, self._floor.instrument(order), order.form
        causes: list[tuple[int, str]] = []
        until = self._matcher.closed_until(order)
        if until:
            causes.append((399, f"Your order will not be placed at the exchange until {until}"))
        small = odd_lot(form, one, order.quantity)
        causes += [(399, small)] if small and not order.parent else []
        for code, cause in causes:
            floor.refuse(order, code, words(code, order=order_line(form, one, order.quantity), cause=cause))
        armed = floor.faults.take("warn", order, one.name)
        if armed:
            floor.refuse(order, *said(armed))
