"""All orders and executions of the login, the ids that were given out, and who may use which.

An order belongs to IB's servers by its permId. `handles` is what TWS remembers beside that: which order a
client means by its own order id.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from executor.paper.orders import Execution, Order, OrderForm

FIRST_PERM_ID = 1_426_086_000


class OrderBook:
    """Storage with the questions that the exchange asks of it; it decides nothing."""

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}  # permId -> order
        self.live: dict[int, Order] = {}  # permId -> order that is not done
        self.executions: dict[str, Execution] = {}  # execId -> execution
        self.handles: dict[tuple[int, int], int] = {}  # (clientId, orderId) -> permId
        self.marks: dict[int, int] = {}  # clientId -> next valid id
        self.last_perm_id = FIRST_PERM_ID
        self.last_exec = 0
        self.dirty: set[tuple[str, str]] = set()  # (table, key) changed since the last save

    def new_order(self, client_id: int, order_id: int, con_id: int, form: OrderForm, at: datetime) -> Order:
        self.last_perm_id += 1
        order = Order(self.last_perm_id, client_id, order_id, form, con_id, at, form.quantity or Decimal(0))
        self.orders[order.perm_id] = self.live[order.perm_id] = order
        if order_id > 0:
            self.handles[client_id, order_id] = order.perm_id
            self.marks[client_id] = max(self.mark(client_id), order_id + 1)
        self.touch(order)
        return order

    def touch(self, order: Order) -> None:
        """Note that an order changed, and keep `live` in step."""
        self.dirty.add(("order", str(order.perm_id)))
        if order.done:
            self.live.pop(order.perm_id, None)
        elif order.perm_id in self.orders:
            self.live[order.perm_id] = order

    def add_execution(self, one: Execution) -> None:
        self.executions[one.exec_id] = one
        self.dirty.add(("execution", one.exec_id))

    def new_exec_id(self, at: datetime) -> str:
        """Return an id in IB's form; the last part counts corrections."""
        self.last_exec += 1
        return f"0000e0d5.{int(at.timestamp()) & 0xFFFFFFFF:08x}.{self.last_exec:02d}.01"

    def mark(self, client_id: int) -> int:
        return self.marks.get(client_id, 1)

    def by_handle(self, client_id: int, order_id: int) -> Order | None:
        return self.orders.get(self.handles.get((client_id, order_id), 0))

    def of_others(self, client_id: int, order_id: int) -> Order | None:
        """Return the live order that another client means by this id, if only one does."""
        found = [one for one in self.live.values()
                 if one.order_id == order_id and one.client_id != client_id and not one.held]  # fmt: skip
        return found[0] if len(found) == 1 else None

    def forget(self, order: Order) -> None:
        """Remove an order altogether, as if it had never come."""
        self.orders.pop(order.perm_id, None)
        self.live.pop(order.perm_id, None)
        self.handles.pop((order.client_id, order.order_id), None)
        self.dirty.add(("order", str(order.perm_id)))

    def clear_away(self) -> None:
        """Drop what no request shows any more: orders without live family, and executions, of earlier days."""
        families = {one.parent for one in self.live.values()} - {0}
        for order in [one for one in self.orders.values() if one.forgotten]:
            if not families & {order.perm_id, order.parent}:
                self.forget(order)
        for one in [one for one in self.executions.values() if one.forgotten]:
            del self.executions[one.exec_id]
            self.dirty.add(("execution", one.exec_id))

    def children(self, order: Order) -> list[Order]:
        return [one for one in self.live.values() if one.parent == order.perm_id]

    def share(self, parent: Order, child: Order) -> Decimal:
        """Return how much a child may do in all: what its parent filled, less what its siblings did."""
        others = (one.filled for one in self.orders.values() if one.parent == parent.perm_id and one is not child)
        return max(parent.filled - sum(others, Decimal(0)), child.filled)

    def parent_of(self, order: Order) -> Order | None:
        return self.orders.get(order.parent)

    def family(self, order: Order) -> list[Order]:
        """Return the parent first, then its live children in the order of their ids."""
        head = self.parent_of(order) or order
        return [head, *(one for one in self.children(head) if one is not head)]

    def peers(self, order: Order) -> list[Order]:
        """Return the other working orders of its OCA group."""
        if not order.oca_group:
            return []
        return [one for one in self.live.values()
                if one is not order and one.working and one.oca_group == order.oca_group
                and one.form.account == order.form.account]  # fmt: skip

    def group_is_filled(self, order: Order) -> bool:
        """True if an order of its OCA group has filled wholly: nothing joins that group any more.

        Source: QuantConnect/Lean.Brokerages.InteractiveBrokers pull request 244, run on a Gateway in July 2026: 201, Inactive.
        """
        return order.oca_group != "" and any(
            one.status == "Filled" and one is not order and one.oca_group == order.oca_group
            and one.form.account == order.form.account for one in self.orders.values())  # fmt: skip

    def open_orders(self) -> Iterator[Order]:
        """Yield the live orders that are transmitted."""
        return (one for one in self.live.values() if not one.held)
