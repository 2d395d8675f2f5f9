"""What all parts of the exchange share: clock, prices, books, faults, truth log, the queue of events.

Events are collected during a turn and delivered at its end, after the state is saved: a client never hears of
something that a restart could forget.

What TWS shows may lag behind what IB knows: while it hears nothing of IB's servers (`stale`), and where a position
comes late (`lagging`). The `shown_…` members are TWS's view, which every answer to a client is made from.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from common.clock import Clock
from executor.paper.books import Books, Position
from executor.paper.contracts import Catalog, Instrument
from executor.paper.events import Event, OrderShown, Refused, StatusShown
from executor.paper.faults import Faults
from executor.paper.market import Market
from executor.paper.orderbook import OrderBook
from executor.paper.orders import Execution, Order
from executor.paper.truth import Truth, execution_facts, order_facts

Action = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Stale:
    """What TWS knew when it lost IB's servers. `orders`: permId -> order; `executions`: execIds."""

    orders: dict[int, Order]
    executions: frozenset[str]
    books: Books


@dataclass(slots=True)
class Floor:
    clock: Clock
    catalog: Catalog
    market: Market
    books: Books
    book: OrderBook
    faults: Faults
    truth: Truth
    events: list[Event] = field(default_factory=list)
    due: list[tuple[datetime, int, Action]] = field(default_factory=list)  # a heap: when, tie-break, what
    numbers: count[int] = field(default_factory=count)
    stale: Stale | None = None
    lagging: dict[tuple[str, int], Position] = field(default_factory=dict)  # (account, conId) -> as TWS shows it

    @property
    def now(self) -> datetime:
        return self.clock.now()

    # -- what TWS shows ---------------------------------------------------------------------------------------

    def look_away(self) -> None:
        """Keep what TWS knows now: of what happens at IB from here on it hears nothing."""
        orders = {perm_id: order.copy() for perm_id, order in self.book.orders.items() if not order.forgotten}
        self.stale = Stale(orders, frozenset(self.book.executions), self.shown_books.copy())

    def shown(self, order: Order) -> Order:
        """Return an order as TWS shows it; one that was placed meanwhile lives in TWS only, and is itself."""
        return self.stale.orders.get(order.perm_id, order) if self.stale else order

    def shown_open(self) -> Iterator[Order]:
        """Yield what reqOpenOrders may show: held orders are invisible until they are transmitted."""
        dead = self.faults.standing("inactive_listed") is not None  # a rejected order is dead, and still in the list
        every = self.stale or dead
        among = map(self.shown, self.book.orders.values()) if every else self.book.open_orders()
        return (one for one in among
                if not one.held and (not one.done or (dead and one.status == "Inactive" and not one.forgotten)))  # fmt: skip

    def shown_completed(self) -> Iterator[Order]:
        return (one for one in map(self.shown, self.book.orders.values()) if one.done and not one.forgotten)

    def shown_executions(self) -> Iterator[Execution]:
        """Yield the executions of the day."""
        return (one for one in self.book.executions.values()
                if not one.forgotten and (self.stale is None or one.exec_id in self.stale.executions))  # fmt: skip

    @property
    def shown_books(self) -> Books:
        books = self.stale.books if self.stale else self.books
        if not self.lagging:
            return books
        books = books.copy()
        for (account, con_id), position in self.lagging.items():
            books.accounts[account].positions[con_id] = position
        return books

    # -- acting -----------------------------------------------------------------------------------------------

    def instrument(self, order: Order | Execution) -> Instrument:
        return self.catalog[order.con_id]

    def after(self, seconds: float, action: Action) -> None:
        """Do something at a later tick; at once, within this turn, for 0 seconds."""
        if seconds <= 0:
            action()
            return
        heapq.heappush(self.due, (self.now + timedelta(seconds=seconds), next(self.numbers), action))

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def show(self, order: Order, to: int | None = None) -> None:
        """Report openOrder and orderStatus."""
        self._tell(order, OrderShown(order.copy(), to))

    def show_status(self, order: Order, to: int | None = None) -> None:
        self._tell(order, StatusShown(order.copy(), to))

    def show_order(self, order: Order) -> None:
        """Report openOrder without the orderStatus that follows it."""
        self._tell(order, OrderShown(order.copy(), alone=True))

    def _tell(self, order: Order, event: OrderShown | StatusShown) -> None:
        self.book.touch(order)
        if self.fault("skip_status", order):
            return
        self.emit(event)
        doubled = self.faults.take("duplicate_status", order, self.instrument(order).name)
        for _ in range(doubled.whole("times") if doubled else 0):
            self.emit(StatusShown(event.order, event.to))

    def refuse(self, order: Order, code: int, words: str) -> None:
        """Report an error or a warning about an order."""
        self.emit(Refused(order.client_id, order.order_id, code, words, order.muted))

    def deny(self, client_id: int, order_id: int, code: int, words: str) -> None:
        """Refuse a request before it is an order, or because of the order's state."""
        self.truth.add(self.now, "refused", clientId=client_id, orderId=order_id, code=code, words=words)
        self.emit(Refused(client_id, order_id, code, words))

    def fault(self, name: str, order: Order) -> bool:
        return self.faults.take(name, order, self.instrument(order).name) is not None

    def log(self, event: str, order: Order, **more: object) -> None:
        self.truth.add(self.now, event, **order_facts(order, self.instrument(order).name), **more)

    def log_execution(self, event: str, one: Execution, **more: object) -> None:
        self.truth.add(self.now, event, **execution_facts(one, self.instrument(one).name), **more)
