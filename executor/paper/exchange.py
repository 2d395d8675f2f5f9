"""The exchange: orders in, events out; synchronous, deterministic, driven by a clock from outside.

A turn is one call from outside. At its end everything that can fill is filled, the state is saved, and only
then are the events delivered: this order is what a restart relies on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from common.clock import Clock
from executor.paper.books import Books
from executor.paper.cancels import Cancels
from executor.paper.contracts import BUILT_IN, Catalog, Instrument
from executor.paper.events import Event, Notice, PricesMoved
from executor.paper.faults import Faults
from executor.paper.floor import Floor
from executor.paper.hours import EXCHANGE_ZONE, hours, opens_at
from executor.paper.intake import Intake
from executor.paper.link import Link
from executor.paper.market import Market
from executor.paper.matcher import Matcher
from executor.paper.orderbook import OrderBook
from executor.paper.orders import Execution, Order, OrderForm
from executor.paper.store import NoStore, Store
from executor.paper.truth import Truth

START_CASH = Decimal(1_000_000)


class Exchange:
    """The broker behind the socket. Every public method is one turn."""

    def __init__(self, clock: Clock, *, accounts: Sequence[str] = ("DU1234567",), seed: int = 0,
                 volatility: float = 0.0, instruments: Iterable[Instrument] = BUILT_IN,
                 truth: Truth | None = None, store: Store | None = None,
                 cash: Decimal = START_CASH) -> None:  # fmt: skip
        catalog = Catalog(instruments)
        market = Market(catalog, clock.now(), seed, volatility)
        books = Books(catalog, market, list(accounts), cash)
        self.floor = Floor(clock, catalog, market, books, OrderBook(), Faults(), truth or Truth())
        self.matcher = Matcher(self.floor)
        self.link = Link()
        self.intake = Intake(self.floor, self.matcher, self.link)
        self.cancels = Cancels(self.floor, self.matcher, self.link)
        self.on_event: Callable[[Event], None] = lambda event: None
        self._store = store or NoStore()
        self._store.load(self.floor)
        self._depth = 0
        self._day = self._today()

    # -- what clients and the owner do ------------------------------------------------------------------------

    def place(self, client_id: int, order_id: int, found: list[Instrument], form: OrderForm) -> Order | None:
        """Take an order or a modification; refusals and acknowledgements come as events."""
        with self.turn():
            return self.intake.place(client_id, order_id, found, form)

    def cancel(self, client_id: int, order_id: int, *, sees_all: bool = False) -> None:
        with self.turn():
            self.cancels.take(client_id, order_id, sees_all=sees_all)

    def cancel_all(self) -> None:
        with self.turn():
            self.cancels.take_global()

    # -- what the market does ---------------------------------------------------------------------------------

    def set_price(self, symbol: str, price: Decimal) -> None:
        """Put the middle of a market at a price; what it reaches fills in this turn."""
        one = self.floor.catalog.named(symbol)
        with self.turn():
            self.floor.market.set_price(one.con_id, price)
            self.floor.emit(PricesMoved((one.con_id,)))

    def set_quote(self, symbol: str, bid: Decimal, ask: Decimal, last: Decimal | None = None) -> None:
        one = self.floor.catalog.named(symbol)
        with self.turn():
            self.floor.market.set_quote(one.con_id, bid, ask, last)
            self.floor.emit(PricesMoved((one.con_id,)))

    def follow(self, symbol: str, path: Sequence[tuple[float, Decimal]]) -> None:
        """Move a price along (seconds from now, price) as the ticks come."""
        self.floor.market.follow(self.floor.catalog.named(symbol).con_id, path, self.floor.now)

    def price(self, symbol: str) -> Decimal:
        return self.floor.market.quote(self.floor.catalog.named(symbol).con_id).middle

    def tick(self, now: datetime | None = None) -> None:
        """Do what is due at `now` (the clock's, if not given): prices, delayed actions, midnight, fills."""
        at = now or self.floor.now
        with self.turn():
            while self.floor.due and self.floor.due[0][0] <= at:
                heapq.heappop(self.floor.due)[2]()
            if self._today() != self._day:
                self.midnight()
        while True:
            with self.turn():
                moved = self.floor.market.advance(at)
                if moved:
                    self.floor.emit(PricesMoved(tuple(moved)))
            following = self.floor.market.next_move()
            if following is None or following > at:
                return

    def next_due(self) -> datetime | None:
        """Return when a tick is next needed, the random walk apart; for a virtual clock."""
        times = [self.floor.due[0][0]] if self.floor.due else []
        times += [order.waits_until for order in self.floor.book.live.values() if order.waits_until]
        if self.floor.faults.standing("regular_hours"):
            opens = (self.matcher.opens_at(order) for order in self.floor.book.live.values() if order.at_market)
            times += [at for at in opens if at > self.floor.now]
        path = self.floor.market.next_move()
        return min(times + ([path] if path else []), default=None)

    # -- what TWS and its servers do --------------------------------------------------------------------------

    def midnight(self) -> None:
        """Begin a new trading day: DAY orders expire, executions and completed orders are shown no more."""
        floor = self.floor
        with self.turn():
            floor.book.clear_away()
            for order in list(floor.book.live.values()):
                if order.form.tif == "DAY" and not order.done:
                    self.matcher.end(order, "Cancelled", "Expired")
            for order in floor.book.orders.values():
                if order.done and not order.forgotten:
                    order.forgotten = True
                    floor.book.dirty.add(("order", str(order.perm_id)))
            for one in list(floor.book.executions.values()):
                if not one.forgotten:
                    floor.book.add_execution(replace(one, forgotten=True))
            floor.books.new_day()
            floor.truth.add(floor.now, "midnight")
            self._day = self._today()

    def lose_connection(self) -> None:
        """Lose IB's servers (1100): what clients send waits in TWS; IB itself goes on trading."""
        with self.turn():
            self.link.up = False
            self.floor.emit(Notice(1100, "Connectivity between IB and Trader Workstation has been lost."))

    def restore_connection(self, code: int = 1102) -> None:
        """Have IB's servers back: 1102 with the data kept, 1101 with the subscriptions lost."""
        kept = {1101: "data lost.", 1102: "data maintained."}[code]
        with self.turn():
            self.floor.emit(Notice(code, f"Connectivity between IB and Trader Workstation has been restored - {kept}"))
            self.link.restore()

    def notice(self, code: int, words: str) -> None:
        with self.turn():
            self.floor.emit(Notice(code, words))

    def restart(self, *, lose_last_n: int = 0, rollback_ids: bool | int = False) -> list[Order]:
        """Forget what a restart of TWS forgets and return the orders that were lost.

        Held orders live in TWS only; so do the last `lose_last_n` unfilled ones, which never reached IB. With
        `rollback_ids` the ids of lost orders are given out again (source: LEAN issue 242), or, for a number,
        that many ids of every client.
        """
        book, lost = self.floor.book, []
        with self.turn():
            idle = [order for order in book.live.values() if not order.filled and order.client_id]
            for order in idle:
                if order.held or order.lost or "queued" in order.flags or order in idle[len(idle) - lose_last_n :]:
                    lost.append(order)
                    book.forget(order)
                    self.floor.log("lost", order, why="restart of TWS")
            self.link.forget()
            self.floor.lagging.clear()
            self._roll_back(lost, rollback_ids)
            self.floor.truth.add(self.floor.now, "restart", lost=len(lost))
        return lost

    def lose_at_login(self, client_id: int) -> None:
        """Forget the orders of a client that an armed fault makes vanish without a word when it connects."""
        with self.turn():
            for order in [one for one in self.floor.book.live.values() if one.client_id == client_id and not one.held]:
                if self.floor.fault("lose_at_reconnect", order):
                    self.floor.log("lost", order, why="gone when its client came back")
                    self.floor.book.forget(order)

    def _roll_back(self, lost: list[Order], rollback: bool | int) -> None:
        book = self.floor.book
        for client_id, mark in list(book.marks.items()):
            gone = [order.order_id for order in lost if order.client_id == client_id]
            back = mark - int(rollback) if rollback is not True else min([*gone, mark])
            book.marks[client_id] = max(1, back if rollback else mark)
            book.dirty.add(("mark", str(client_id)))
        for (client_id, order_id), perm_id in list(book.handles.items()):
            if order_id >= book.mark(client_id) and book.orders[perm_id].done:
                del book.handles[client_id, order_id]

    def hours(self, one: Instrument) -> tuple[str, str, str]:
        """Return time zone, trading hours and liquid hours of an instrument.

        Where it trades outside its hours, since the knob that keeps them is not armed, these are all hours: a client
        that goes by them need not wait.
        """
        trades = self.floor.now >= opens_at(one, self.floor.now, liquid=True)
        return hours(one, self._today(), kept=trades or self.floor.faults.standing("regular_hours") is not None)

    # -- answers ----------------------------------------------------------------------------------------------

    def executions(self) -> list[Execution]:
        """Return the executions of the day."""
        return [one for one in self.floor.book.executions.values() if not one.forgotten]

    # -- turns ------------------------------------------------------------------------------------------------

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Run one turn: match, save, deliver. A turn within a turn ends with the outer one."""
        self._depth += 1
        self.floor.truth.holding = True
        try:
            yield
        finally:
            if self._depth == 1:
                self._settle()
            self._depth -= 1

    def _settle(self) -> None:
        self.matcher.run()
        self._store.save(self.floor)
        self.floor.truth.flush()
        events, self.floor.events = self.floor.events, []
        for event in events:
            self.on_event(event)

    def _today(self) -> date:
        return self.floor.now.astimezone(EXCHANGE_ZONE).date()

    def close(self) -> None:
        self._store.close()
        self.floor.truth.close()
