"""What all parts of the exchange share: clock, prices, books, faults, truth log, the queue of events.

Events are collected during a turn and delivered at its end, after the state is saved: a client never hears of
something that a restart could forget.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from common.clock import Clock
from executor.paper.books import Books
from executor.paper.contracts import Catalog, Instrument
from executor.paper.events import Event, OrderShown, Refused, StatusShown
from executor.paper.faults import Faults
from executor.paper.market import Market
from executor.paper.orderbook import OrderBook
from executor.paper.orders import Execution, Order
from executor.paper.truth import Truth, execution_facts, order_facts

Action = Callable[[], None]


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

    @property
    def now(self) -> datetime:
        return self.clock.now()

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
        self.book.touch(order)
        self.emit(OrderShown(order.copy(), to))

    def show_status(self, order: Order, to: int | None = None) -> None:
        self.book.touch(order)
        self.emit(StatusShown(order.copy(), to))

    def refuse(self, order: Order, code: int, words: str) -> None:
        """Report an error or a warning about an order."""
        self.emit(Refused(order.client_id, order.order_id, code, words, order.muted))

    def fault(self, name: str, order: Order) -> bool:
        return self.faults.take(name, order, self.instrument(order).name) is not None

    def log(self, event: str, order: Order, **more: object) -> None:
        self.truth.add(self.now, event, **order_facts(order, self.instrument(order).name), **more)

    def log_execution(self, event: str, one: Execution, **more: object) -> None:
        self.truth.add(self.now, event, **execution_facts(one, self.instrument(one).name), **more)
