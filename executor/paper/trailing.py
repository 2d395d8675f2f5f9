"""Stops that move by themselves: TRAIL orders, and stops that are adjusted once; where they are, and that it is told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from executor.paper import precautions, trails
from executor.paper.floor import Floor
from executor.paper.orders import TRAIL, Order


class Trailing:
    """Move the stops of TRAIL and adjustable orders; every other order is left alone."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    def seen(self, order: Order) -> Decimal:
        """Return the price that a stop goes by: the last one, in forex that of the side it would trade at."""
        quote = self._floor.market.quote(order.con_id)
        forex = self._floor.instrument(order).sec_type == "CASH"
        return precautions.touch(order.form, quote) if forex else quote.last

    def begin(self, order: Order, *, asleep: bool) -> None:
        """Put the stop where the client wants it, else a distance away from the market.

        So it is when an order is sent, and at every change: one that does not say where the stop is begins anew. Asleep,
        it waits for the parent. Source: TWS Users' Guide, Trailing Stop: the first stop is worked out when it is sent.
        """
        if not order.form.trails:
            return
        order.trail_stop = order.form.trail_stop
        if order.trail_stop is None and not asleep:
            order.trail_stop = trails.level(order.form, self._floor.instrument(order), self.seen(order))

    def wake(self, child: Order) -> None:
        """Put the stop of a woken child a distance away from its parent's limit, unless it has one.

        Source: TWS Users' Guide, Attach an Auto Trailing Stop Order. A parent's limit far through the market therefore
        gives a stop that triggers at once; who sends the first stop along is spared that.
        """
        parent = self._floor.book.parent_of(child)
        if child.form.trails and child.trail_stop is None and parent and parent.form.limit_price:
            child.trail_stop = trails.level(child.form, self._floor.instrument(child), parent.form.limit_price)

    def adjust(self, order: Order) -> bool:
        """Make a stop what it was to become, once the market has reached the price that was named; True if it did.

        Source: TWS API, Adjustable Stops: once, at the trigger price, with the adjusted stop price. openOrder then shows
        the order that it became; what a real TWS shows of the adjustment afterwards is not known.
        """
        to, form = order.form.adjust, order.form
        if to is None or to.trigger_price is None or order.triggered:
            return False
        if (self.seen(order) - to.trigger_price) * form.sign > 0:
            return False
        percent = to.trailing if to.unit else None
        if to.order_type == TRAIL:
            amount = None if percent else to.trailing
            order.form = replace(form, order_type=TRAIL, aux_price=amount, trail_percent=percent, adjust=None)
            order.trail_stop = to.stop_price
        else:
            order.form = replace(form, aux_price=to.stop_price, adjust=None)
        self._floor.log("modified", order, by="adjustment")
        self._floor.show(order)
        return True

    def follow(self, order: Order) -> bool:
        """Have the stop follow the market, and tell it; True if it moved.

        Source: QuantConnect/Lean.Brokerages.InteractiveBrokers pull request 70, run live, which learns of each move by an
        openOrder that nobody asked for. How often TWS sends one is not known; here at every move.
        """
        if not order.form.trails or order.triggered:
            return False
        stop = trails.follow(order.form, self._floor.instrument(order), order.trail_stop, self.seen(order))
        if stop == order.trail_stop:
            return False
        order.trail_stop = stop
        self._floor.log("trailed", order)
        if self._floor.faults.standing("quiet_trails"):
            self._floor.book.touch(order)
        else:
            self._floor.show(order)
        return True
