"""Fills and what follows from them: stops that trigger, children that wake, OCA peers that shrink or die.

Order of the messages of a fill, as recorded: execDetails, openOrder, orderStatus, commissionReport; then the
children of a bracket; then the OCA peers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from executor.paper import precautions
from executor.paper.books import Position
from executor.paper.events import Commissioned, Executed, PositionMoved
from executor.paper.floor import Floor
from executor.paper.hours import opens_at
from executor.paper.market import Quote
from executor.paper.orders import DEFAULT_OCA_TYPE, LIMITS, STOPS, ZERO, Execution, Order
from executor.paper.trailing import Trailing
from executor.paper.validation import words


class Matcher:
    """Match working orders against the market of a floor."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self.trailing = Trailing(floor)
        # the knobs that close a market, at the last run; at the first one every order is tried
        self._closed: object = self
        self._hours: object = self

    def run(self) -> None:
        """Fill whatever can be filled now, until nothing more moves.

        Only what something happened to is tried: a turn takes no longer because many other orders rest.
        """
        closed, hours = map(self._floor.faults.standing, ("closed_market", "regular_hours"))
        others = closed is not self._closed or hours is not self._hours or bool(hours)  # hours end by themselves
        self._closed, self._hours = closed, hours
        while any([self._try(order) for order in self._stirred(others)]):
            pass

    def _stirred(self, others: bool) -> list[Order]:
        """Return the live orders that may have become marketable in this turn, or all of them.

        These are in a contract whose price or one of whose orders changed, have a parent that changed, or wait for a time.
        """
        book = self._floor.book
        perm_ids = {int(key) for table, key in book.dirty if table == "order"}
        con_ids = self._floor.market.dirty | {book.orders[each].con_id for each in perm_ids if each in book.orders}
        return [order for order in book.live.values()
                if others or order.con_id in con_ids or order.parent in perm_ids or order.waits_until]  # fmt: skip

    def is_open(self, order: Order) -> bool:
        """True if the order's market trades now."""
        return self.closed_until(order) is None

    def closed_until(self, order: Order) -> str | None:
        """Return until when the knobs `closed_market` and `regular_hours` close an order's market, None if it trades."""
        one, fault = self._floor.instrument(order), self._floor.faults.standing("closed_market")
        symbols = fault.params["symbols"] if fault else []
        if fault and (not symbols or one.name in symbols or one.sec_type in symbols):
            return fault.word("until")
        if self._floor.faults.standing("regular_hours") and self.opens_at(order) > self._floor.now:
            return f"{self.opens_at(order):%Y-%m-%d %H:%M:%S} US/Eastern."
        return None

    def opens_at(self, order: Order) -> datetime:
        """Return when the market of an order next trades by its hours; outside the regular ones if it may."""
        return opens_at(self._floor.instrument(order), self._floor.now, liquid=not order.form.outside_rth)

    def _try(self, order: Order) -> bool:
        if not order.at_market:
            return False
        if order.waits_until and order.waits_until > self._floor.now:
            return False
        if not self.is_open(order):
            return False
        changed = self.trailing.adjust(order) | self.trailing.follow(order) | self._wake(order)
        if self._protect(order):
            return True
        price = self._price(order, self._floor.market.quote(order.con_id))
        if price is not None and (quantity := self._size(order)) > 0:
            self.fill(order, quantity, price)
            return True
        order.rested = True
        self._end_immediate(order)
        return changed

    def _wake(self, order: Order) -> bool:
        """Show that a hold is over, or that a stop has been triggered."""
        triggered = (
            order.form.order_type in STOPS and not order.triggered and _triggers(order, self.trailing.seen(order))
        )
        held = order.waits_until is not None or order.status == "PendingSubmit"
        if not triggered and not held:
            return False
        order.triggered |= triggered
        order.waits_until = None
        before = order.status, order.why_held
        rest(order)
        if before != (order.status, order.why_held):
            self._floor.show(order)
        return True

    def _protect(self, order: Order) -> bool:
        """Cancel a limit that is too far through the market, or cap it, as the knob has it; True if it was cancelled."""
        fault = self._floor.faults.standing("price_protection")
        if fault is None or order.cap is not None or (order.form.order_type in STOPS and not order.triggered):
            return False
        quote = self._floor.market.quote(order.con_id)
        worst = precautions.cap(fault, order.form, self._floor.instrument(order), quote)
        if worst is None:
            return False
        if fault.word("then") == "cap":
            order.cap = worst
            self._floor.show_status(order)
            return False
        order.status = "PendingCancel"
        self._floor.show_status(order)
        self.end(order, "Cancelled", "Cancelled by System", reason=precautions.too_far(order.form, quote))
        return True

    def _price(self, order: Order, quote: Quote) -> Decimal | None:
        if order.form.order_type in STOPS and not order.triggered:
            return None
        touch = quote.ask if order.form.action == "BUY" else quote.bid
        limit = order.form.limit_price if order.cap is None else order.cap
        if order.form.order_type not in LIMITS or limit is None:
            return touch
        if (touch - limit) * order.form.sign > 0:
            return None
        return limit if order.rested else touch

    def _size(self, order: Order) -> Decimal:
        size = order.remaining
        parent = self._floor.book.parent_of(order)
        if parent and not parent.done and "children_stay" not in order.flags:
            size = min(size, self._floor.book.share(parent, order) - order.filled)
        return min(size, order.pieces[0]) if order.pieces else size

    def _end_immediate(self, order: Order) -> None:
        if order.form.tif == "IOC":
            order.status = "PendingCancel"  # source: recorded IOC orders, which get no error 202
            self._floor.show_status(order)
            self.end(order, "Cancelled", "Cancelled by System", tell=False)
        elif order.form.tif == "FOK":
            self.end(order, "Inactive", "Cancelled by System", tell=False)

    # -- fills ------------------------------------------------------------------------------------------------

    def fill(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        """Execute a quantity at a price, report it, and do what follows from it."""
        floor, slow = self._floor, self._slow_position(order)
        execution = self._execute(order, quantity, price)
        if order.remaining == 0:
            order.status, order.why_held = "Filled", ""
            order.done_at, order.done_text = floor.now, "Filled Size: " + str(order.filled)
        elif order.status not in ("PendingCancel", "Cancelled"):
            order.status, order.why_held = "Submitted", ""
        floor.book.touch(order)
        self._report(order, execution)
        floor.log_execution("filled", execution)
        self._log_position(execution)
        floor.after(slow, lambda: self._move_position(execution))
        self._next_piece(order, quantity)
        self._wake_children(order)
        self._oca(order, quantity)

    def _slow_position(self, order: Order) -> float:
        """Return after how many seconds TWS shows the position that a fill leaves; until then it shows the old one."""
        floor = self._floor
        late = floor.faults.take("position_delay", order, floor.instrument(order).name)
        if late:
            held = floor.books.accounts[order.form.account].positions.get(order.con_id, Position())
            floor.lagging.setdefault((order.form.account, order.con_id), replace(held))
        return (late.seconds() or 0.0) if late else 0.0

    def _move_position(self, execution: Execution) -> None:
        self._floor.lagging.pop((execution.account, execution.con_id), None)
        self._floor.emit(PositionMoved(execution.account, execution.con_id))

    def _execute(self, order: Order, quantity: Decimal, price: Decimal) -> Execution:
        floor, one = self._floor, self._floor.instrument(order)
        order.filled += quantity
        order.cost += quantity * price
        order.last_price = price
        total, currency = floor.books.commission(one, order.filled, order.cost)
        due = total - order.commission
        order.commission = total
        account, signed = order.form.account, quantity * order.form.sign
        realized = floor.books.apply(account, order.con_id, signed, price, due)
        execution = Execution(
            floor.book.new_exec_id(floor.now), order.perm_id, order.client_id, order.order_id, account,
            order.con_id, order.form.action, quantity, price, floor.now, order.filled, order.average,
            order.form.order_ref, one.primary or one.exchange, due, currency, realized)  # fmt: skip
        floor.book.add_execution(execution)
        return execution

    def _report(self, order: Order, execution: Execution) -> None:
        """Emit the messages of a fill in the recorded order, or as an armed fault has it."""
        floor, symbol = self._floor, self._floor.instrument(order).name
        late = floor.faults.take("status_first", order, symbol)
        if late:
            floor.show(order)
        seconds = (late.seconds() or 0.0) if late else 0.0
        floor.after(seconds, lambda: floor.emit(Executed(execution, order.muted)))
        if not late:
            floor.show(order)
        floor.after(seconds, lambda: self._report_commission(order, execution))

    def _report_commission(self, order: Order, execution: Execution) -> None:
        floor, symbol = self._floor, self._floor.instrument(order).name
        if floor.faults.take("no_commission", order, symbol):
            return
        unset = floor.faults.take("commission_unset", order, symbol)
        late = floor.faults.take("commission_delay", order, symbol)
        event = Commissioned(execution, None if unset else execution.commission, order.muted)
        floor.after((late.seconds() or 0.0) if late else 0.0, lambda: floor.emit(event))

    def _log_position(self, execution: Execution) -> None:
        floor = self._floor
        position = floor.books.accounts[execution.account].positions[execution.con_id]
        floor.truth.add(floor.now, "position", account=execution.account, conId=execution.con_id,
                        symbol=floor.instrument(execution).name, quantity=position.quantity,
                        average=position.average)  # fmt: skip

    def _next_piece(self, order: Order, quantity: Decimal) -> None:
        if not order.pieces:
            return
        order.pieces.pop(0)
        order.waits_until = self._floor.now + timedelta(seconds=order.piece_gap)
        if order.pieces or order.done or order.pieces_then == "fill":
            return
        if order.pieces_then == "cancel":
            self.end(order, "Cancelled", "Cancelled by System")
        else:
            order.waits_until = self._floor.now + timedelta(days=3650)

    # -- brackets and OCA groups ------------------------------------------------------------------------------

    def _wake_children(self, parent: Order) -> None:
        floor = self._floor
        for child in floor.book.children(parent):
            if child.why_held != "child" or child.held:
                continue
            held = floor.faults.take("hold_children", child, floor.instrument(child).name)
            if held is None:
                self.wake_child(child)
            elif held.seconds() is not None:
                floor.after(held.seconds() or 0.0, lambda one=child: self.wake_child(one))  # type: ignore[misc]

    def wake_child(self, child: Order) -> None:
        """Let a child work: a limit becomes Submitted, a stop waits for its trigger."""
        if child.done:
            return
        regroup(child)
        self.trailing.wake(child)
        rest(child)
        self._floor.show(child)

    def _oca(self, order: Order, quantity: Decimal) -> None:
        """Let a fill end the others of the group, or make them smaller.

        Source: IBKR, One-Cancels-All Orders: completion of one cancels the rest, whatever their sizes; TWS Users' Guide, One
        Cancels Other: a part reduces each other order by the filled quantity. The API's page says "proportionately", which
        is the same for equal sizes.
        """
        if "oca_ignored" in order.flags:
            return
        double = "oca_double_fill" in order.flags
        for peer in self._floor.book.peers(order):
            if double and not peer.done and peer.remaining:
                peer.flags = peer.flags - {"oca_double_fill"}
                self.fill(peer, peer.remaining, self._touch(peer))
            elif order.oca_type == 1 or order.remaining == 0 or peer.remaining <= quantity:
                self.end(peer, "Cancelled", "Cancelled by System")
            else:
                self._fit(peer, peer.quantity - quantity)

    def _touch(self, order: Order) -> Decimal:
        quote = self._floor.market.quote(order.con_id)
        return quote.ask if order.form.action == "BUY" else quote.bid

    # -- the end of an order ----------------------------------------------------------------------------------

    def end(self, order: Order, status: str, why: str, *, tell: bool = True, to: int | None = None,
            reason: str = "") -> None:  # fmt: skip
        """End an order that is not wholly filled: status, then error 202; its children follow it."""
        floor = self._floor
        order.status, order.why_held, order.held = status, "", False
        order.done_at, order.done_text = floor.now, why
        floor.show_status(order, to)
        if tell:
            floor.refuse(order, 202, words(202) + reason)
        floor.log("cancelled" if status == "Cancelled" else "inactive", order, why=why)
        self.end_children(order)

    def end_children(self, parent: Order) -> None:
        """Cancel the children of a parent that filled nothing; shrink them to what it did fill."""
        for child in self._floor.book.children(parent):
            if parent.filled == 0:
                if "orphan_children" not in parent.flags:
                    self.end(child, "Cancelled", "Parent order was cancelled")
                elif not child.held:
                    self.wake_child(child)
            elif "children_stay" not in child.flags:
                self._shrink(child, self._floor.book.share(parent, child))

    def _shrink(self, child: Order, size: Decimal) -> None:
        if size <= child.filled:
            self.end(child, "Cancelled", "Cancelled by System")
        elif child.quantity > size:
            self._fit(child, size)

    def _fit(self, order: Order, quantity: Decimal) -> None:
        """Give an order the size that its bracket or its group leaves it."""
        order.quantity = quantity
        self._floor.log("modified", order, by="TWS")
        self._floor.show(order)

    def correct(self, old: Execution, quantity: Decimal, price: Decimal) -> Execution:
        """Report an execution again, its id's last part raised; the books follow the correction."""
        floor, order = self._floor, self._floor.book.orders[old.perm_id]
        root, _, revision = old.exec_id.rpartition(".")
        floor.books.apply(old.account, old.con_id, -old.sign * old.quantity, old.price, ZERO)
        floor.books.apply(old.account, old.con_id, old.sign * quantity, price, ZERO)
        order.filled += quantity - old.quantity
        order.cost += quantity * price - old.quantity * old.price
        new = replace(old, exec_id=f"{root}.{int(revision) + 1:02d}", quantity=quantity, price=price,
                      cumulative=order.filled, average=order.average)  # fmt: skip
        floor.book.add_execution(new)
        floor.book.touch(order)
        floor.emit(Executed(new, order.muted))
        self._move_position(new)
        floor.log_execution("correction", new, corrects=old.exec_id)
        self._log_position(new)
        return new


def resting_status(order: Order) -> tuple[str, str]:
    """Return status and whyHeld of an order that works and waits for its price.

    Source: recorded orders: a limit is Submitted, a stop PreSubmitted with `trigger`, a market order that buys
    PreSubmitted and one that sells Submitted.
    """
    if order.form.order_type in STOPS and not order.triggered:
        return "PreSubmitted", "trigger"
    if order.form.order_type == "MKT" and order.form.action == "BUY" and not order.filled:
        return "PreSubmitted", ""
    return "Submitted", ""


def regroup(child: Order) -> None:
    """Put a child whose parent has filled into the group that was asked for; until then it shared its parent's.

    Source: ib_insync issue 606 (TWS 10.22): a group of one's own is shown again once the parent has filled.
    """
    if child.form.oca_group and "oca_family" not in child.flags:
        child.oca_group, child.oca_type = child.form.oca_group, child.form.oca_type or DEFAULT_OCA_TYPE


def rest(order: Order) -> None:
    """Have an order work and wait for its price; while it is being cancelled its status goes on saying so."""
    status, order.why_held = resting_status(order)
    if order.status != "PendingCancel":
        order.status = status


def _triggers(order: Order, seen: Decimal) -> bool:
    """True if a stop's price is reached."""
    stop = order.stop_price
    return stop is not None and (seen - stop) * order.form.sign >= 0
