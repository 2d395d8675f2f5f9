"""Cancels coming in: what TWS answers, and what may happen to the order meanwhile."""

from __future__ import annotations

from executor.paper.events import Refused
from executor.paper.faults import Fault
from executor.paper.floor import Floor
from executor.paper.link import Link
from executor.paper.matcher import Matcher
from executor.paper.orders import LIMITS, Order
from executor.paper.validation import said, words


class Cancels:
    """Take the cancels of clients and of the owner."""

    def __init__(self, floor: Floor, matcher: Matcher, link: Link) -> None:
        self._floor, self._matcher, self._link = floor, matcher, link

    def take(self, client_id: int, order_id: int, *, sees_all: bool = False) -> None:
        """Take a cancelOrder. Another client's order can be cancelled by one that has asked for all orders
        (source: recorded cross-client cancels), unless the knob `cross_client_cancel` refuses it."""
        book, faults = self._floor.book, self._floor.faults
        order = book.by_handle(client_id, order_id)
        if order is None and sees_all and not faults.standing("cross_client_cancel"):
            order = book.of_others(client_id, order_id)
        if order is None or order.forgotten:
            self._floor.deny(client_id, order_id, 10147, words(10147, id=order_id))
        elif order.done and order.status != "Inactive":
            self._floor.deny(client_id, order_id, 10148, words(10148, id=order_id, cause=order.status))
        elif order.status == "PendingCancel":
            self._floor.deny(client_id, order_id, 161, words(161, id=order.perm_id))
        else:
            self.cancel(order, client_id)

    def cancel(self, order: Order, by: int) -> None:
        """Cancel an order that can be cancelled, or do what an armed fault has it do."""
        floor, name = self._floor, self._floor.instrument(order).name
        to = by if by != order.client_id else None
        if not self._link.reaches(order):
            self._cancel_later(order, to)
            return
        refused = (
            None if order.held else floor.faults.take("reject_cancel", order, name)
        )  # only IB refuses; TWS holds it
        if refused:
            floor.emit(Refused(by, order.order_id, *said(refused, id=order.order_id, cause="Filled")))
            return
        race = floor.faults.take("cancel_race", order, name) if order.at_market else None
        if race:
            self._race(order, race, to)
            return
        slow = floor.faults.take("pending_cancel", order, name)
        if slow is None:
            self._finish_cancel(order, to)
            return
        order.status = "PendingCancel"
        floor.book.touch(order)
        if not slow.params["silent"]:
            floor.show_status(order, to)
        seconds = slow.seconds()
        if seconds is not None:
            floor.after(seconds, lambda: self._finish_cancel(order, to))

    def _cancel_later(self, order: Order, to: int | None) -> None:
        """Keep a cancel in TWS until IB's servers are back; until then IB goes on filling the order."""
        order.status = self._floor.shown(order).status = "PendingCancel"
        self._floor.show_status(order, to)
        self._link.wait(lambda: self._finish_cancel(order, to), cancels=order)

    def _finish_cancel(self, order: Order, to: int | None) -> None:
        if order.done and order.status != "Inactive":
            return
        floor = self._floor
        peers = floor.book.peers(order) if floor.fault("oca_cancel_spreads", order) else []
        self._matcher.end(order, "Cancelled", "Cancelled by Trader", to=to)
        for peer in peers:
            self._matcher.end(peer, "Cancelled", "Cancelled by System")

    def _race(self, order: Order, race: Fault, to: int | None) -> None:
        """Let fills win against a cancellation: `fill`, `partial`, or `after` (a fill behind the Cancelled)."""
        floor, then = self._floor, race.word("then")
        quote = floor.market.quote(order.con_id)
        limit = order.form.limit_price if order.form.order_type in LIMITS else None
        price = limit or (quote.ask if order.form.action == "BUY" else quote.bid)
        quantity = min(race.size("quantity") or order.remaining, order.remaining)
        if then == "after":
            self._matcher.end(order, "Cancelled", "Cancelled by Trader", to=to)
            floor.after(race.seconds() or 0.0, lambda: self._matcher.fill(order, quantity, price))
            return
        order.status = "PendingCancel"
        floor.show_status(order, to)
        self._matcher.fill(order, quantity, price)
        if not order.done:
            self._matcher.end(order, "Cancelled", "Cancelled by Trader", to=to)

    def take_global(self) -> None:
        """Take a global cancel: every open order of every client and of the owner."""
        for order in list(self._floor.book.live.values()):
            if not order.done and self._link.reaches(order):
                self._matcher.end(order, "Cancelled", "Cancelled by Trader")
            elif not order.done:
                self._cancel_later(order, None)
