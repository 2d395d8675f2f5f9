"""A broker of a few lines for unit tests of the desk: it does what it is told, and answers at once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from common.clock import FakeClock
from common.errors import BrokerUnavailable
from common.signals import Action, Envelope, Side, Signal, alert_from, payload_text
from executor.core.commands import Command
from executor.core.orders import Order
from executor.core.policy import Policy
from executor.core.ports import (
    Contract,
    Fill,
    Kind,
    OrderReport,
    Position,
    PriceStep,
    Refusal,
    Snapshot,
    Status,
    Ticket,
)
from executor.desk.desk import Desk
from executor.journal.journal import Journal

START = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
ACCOUNT = "DU1234567"
EURUSD = Contract(
    12087792, "EURUSD", "CASH", "EUR", "USD", "IDEALPRO", price_steps=(PriceStep(Decimal(0), Decimal("0.00005")),)
)
AAPL = Contract(265598, "AAPL", "STK", "AAPL", "USD", "SMART")
CONTRACTS = {c.symbol: c for c in (EURUSD, AAPL)}


@dataclass
class FakeBroker:
    """Entries and closes fill at once at `market`; exits work until `hit`. Every knob is off by default."""

    clock: FakeClock
    market: Decimal | None = Decimal("1.19")
    tick: Decimal | None = None  # the price that TWS tells when it is asked anew
    sent: list[Ticket] = field(default_factory=list)
    orders: dict[int, OrderReport] = field(default_factory=dict)
    tickets: dict[int, Ticket] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    quantity: dict[int, Decimal] = field(default_factory=dict)
    symbols: dict[int, str] = field(default_factory=dict)
    is_paced: bool = False  # see `unpace`
    silent: bool = False  # accept and say nothing
    deaf: bool = False  # orders never arrive
    gone: bool = False  # the transport is gone
    takes_cancels: bool = True  # off: a cancel gets no answer
    looked_up: list[str] = field(default_factory=list)  # what was looked up
    cancels: list[int] = field(default_factory=list)  # what was asked to be cancelled
    hidden: frozenset[str] = frozenset()  # what a snapshot does not show: orders, executions, positions
    unheard: frozenset[str] = frozenset()  # facts that nobody is told, such as on_fill
    fill_entries: bool = True
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)  # leg letter → (code, text)
    refuse_changes: dict[str, tuple[int, str]] = field(default_factory=dict)  # the order keeps working as it was
    day: str = "2026-11-23"
    floor: int = 1
    desk: Desk | None = None
    contracts: dict[str, Contract] = field(default_factory=lambda: dict(CONTRACTS))
    by_number: dict[int, Contract] = field(default_factory=dict)
    executions: int = 0  # so far, those that midnight hid included

    def order_id_floor(self) -> int:
        return self.floor

    def price(self, con_id: int) -> Decimal | None:
        return self.market

    def request_contract(self, symbol: str, con_id: int = 0) -> None:
        assert self.desk is not None
        self.looked_up.append(symbol)
        self.market = self.market or self.tick
        known = self.contracts.get(symbol) if not con_id else self.by_number.get(con_id)
        self.desk.on_contract(symbol, known or f"{symbol} is not known to IBKR", con_id)

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def send(self, ticket: Ticket) -> None:
        if self.gone:
            raise BrokerUnavailable("the connection is gone")
        self.sent.append(ticket)
        if self.deaf:
            return
        known = self.tickets.get(ticket.order_id)
        if known and ticket.order_ref[20] in self.refuse_changes:
            self._tell("on_refusal", Refusal(ticket.order_id, *self.refuse_changes[ticket.order_ref[20]]))
            return
        self.tickets[ticket.order_id] = ticket
        leg = ticket.order_ref[20]
        if leg in self.refuse:
            code, text = self.refuse[leg]
            self._tell("on_refusal", Refusal(ticket.order_id, code, text))
            self._report(ticket.order_id, Status.INACTIVE)
        else:
            self._report(ticket.order_id, Status.WORKING, self.orders[ticket.order_id].filled if known else Decimal(0))
        if ticket.transmit and not known:
            self._release(ticket)

    def _release(self, last: Ticket) -> None:
        family = [t for t in self.tickets.values() if t.order_id == last.parent_id or t is last]
        for ticket in family:
            if ticket.kind is Kind.MARKET and self.fill_entries and self.orders[ticket.order_id].status.is_live:
                self.execute(ticket.order_id, ticket.quantity, self.market or Decimal(1))

    def cancel(self, order_id: int) -> None:
        self.cancels.append(order_id)
        if not self.takes_cancels:
            return
        if order_id in self.orders and self.orders[order_id].status.is_live:
            self._report(order_id, Status.CANCELLED, self.orders[order_id].filled)
        else:
            self._tell(
                "on_refusal", Refusal(order_id, 10147, f"OrderId {order_id} that needs to be cancelled is not found.")
            )

    # ---- what the test makes happen ----

    def execute(self, order_id: int, quantity: Decimal, price: Decimal) -> None:
        """Fill part or all of an order."""
        ticket, before = self.tickets[order_id], self.orders[order_id]
        fill = Fill(
            f"0000e0d5.{self._next_execution():08x}.01.01", ticket.order_ref, order_id, order_id + 1000, 1, ticket.contract.con_id,
            ACCOUNT, ticket.side, quantity, price, self.clock.now(),
        )  # fmt: skip
        self.fills.append(fill)
        self._move(ticket.contract, fill.signed)
        filled = (before.filled or Decimal(0)) + quantity
        done = filled == ticket.quantity
        self._tell("on_fill", fill)
        self._report(order_id, Status.FILLED if done else Status.WORKING, filled)

    def hit(self, leg: str, quantity: Decimal | None = None, siblings: bool = True) -> None:
        """Fill an exit at its price; the other exits are cancelled (OCA) where it filled wholly."""
        ticket = next(
            t for t in self.tickets.values() if t.order_ref[20] == leg and self.orders[t.order_id].status.is_live
        )
        left = ticket.quantity - (self.orders[ticket.order_id].filled or Decimal(0))
        self.execute(ticket.order_id, quantity or left, ticket.price or Decimal(1))
        for other in list(self.tickets.values()):
            same = (
                other.oca_group == ticket.oca_group
                and other is not ticket
                and self.orders[other.order_id].status.is_live
            )
            if siblings and same and quantity is None:
                self._report(other.order_id, Status.CANCELLED, self.orders[other.order_id].filled)

    def _next_execution(self) -> int:
        self.executions += 1
        return self.executions

    def by_hand(self, contract: Contract, signed: Decimal, price: Decimal) -> None:
        """The owner trades in TWS: an execution that only a snapshot shows, and a position report."""
        side = Side.BUY if signed > 0 else Side.SELL
        ref = f"0000aaaa.{self._next_execution():08x}.01.01"
        at = self.clock.now()
        self.fills.append(Fill(ref, "", 0, 77, 0, contract.con_id, ACCOUNT, side, abs(signed), price, at))
        self._move(contract, signed)

    def id_of(self, leg: str) -> int:
        """The id of the newest order of a leg, such as S1."""
        return next(t.order_id for t in reversed(self.sent) if t.order_ref[20:] == leg)

    def unpace(self) -> None:
        """The messages that waited have left."""
        self.is_paced = False
        self._tell("on_unpaced")

    def cancel_by_hand(self, leg: str) -> None:
        order_id = next(t.order_id for t in self.tickets.values() if t.order_ref[20] == leg)
        self._report(order_id, Status.CANCELLED)

    def snapshot(self) -> Snapshot:
        """What a complete reading of the broker shows now."""
        live = tuple(r for r in self.orders.values() if r.status.is_live)
        done = tuple(replace(r, order_id=0, completed=True) for r in self.orders.values() if not r.status.is_live)
        positions = tuple(
            Position(ACCOUNT, con_id, self.symbols[con_id], quantity, Decimal(1))
            for con_id, quantity in self.quantity.items()
            if quantity
        )
        shows = lambda part, found: () if part in self.hidden else found  # noqa: E731
        orders, over = shows("orders", live), shows("orders", done)
        executions, held = shows("executions", tuple(self.fills)), shows("positions", positions)
        return Snapshot(self.clock.now(), self.day, orders, over, executions, held)

    def _move(self, contract: Contract, signed: Decimal) -> None:
        self.quantity[contract.con_id] = self.quantity.get(contract.con_id, Decimal(0)) + signed
        self.symbols[contract.con_id] = contract.symbol
        position = Position(ACCOUNT, contract.con_id, contract.symbol, self.quantity[contract.con_id], Decimal(1))
        self._tell("on_position", position)

    def _report(self, order_id: int, status: Status, filled: Decimal = Decimal(0)) -> None:
        t = self.tickets[order_id]
        report = OrderReport(
            order_id, status, 1, order_id + 1000, t.order_ref, t.contract.con_id, ACCOUNT, t.side, t.kind.value, t.quantity,
            filled, t.quantity - filled, t.price, t.trail,
        )  # fmt: skip
        self.orders[order_id] = report
        self._tell("on_order", report)

    def _tell(self, what: str, *fact: object) -> None:
        if not self.silent and what not in self.unheard and self.desk is not None:
            getattr(self.desk, what)(*fact)


def _position(prefix: str, position: str) -> dict[str, str]:
    word, _, size = position.partition(" ")
    return {f"{prefix}market_position": word, f"{prefix}market_position_size": size or "0"}


@dataclass
class House:
    """A desk with its journal, its fake broker and a clock that is moved by hand."""

    clock: FakeClock
    journal: Journal
    broker: FakeBroker
    desk: Desk
    wanted: list[str]

    @classmethod
    def build(cls, path: str = ":memory:", policy: Policy | None = None, broker: FakeBroker | None = None) -> House:
        clock = broker.clock if broker else FakeClock(START)
        journal, wanted = Journal.open(path, clock), []
        broker = broker or FakeBroker(clock)
        desk = Desk(journal, broker, clock, policy or Policy(), ACCOUNT, 1, wanted.append)
        broker.desk = desk
        return cls(clock, journal, broker, desk, wanted)

    def connect(self) -> House:
        self.desk.reconciled(self.broker.snapshot())
        return self

    def restart(self, path: str = ":memory:") -> House:
        """Another executor over the same journal file and broker."""
        self.journal.close()
        return House.build(path, self.desk.policy, self.broker)

    def signal(
        self, action: str, symbol: str = "EURUSD", side: str | None = None, size: str | None = None, **prices: str
    ) -> str:
        """Post one signal as the relay would deliver it, and let the desk act."""
        count = len(self.journal._rows("SELECT 1 FROM inbox"))
        now = self.clock.now()
        signal = Signal(
            Action(action), symbol, Side(side) if side else None, Decimal(size) if size else None,
            **{k: Decimal(v) for k, v in prices.items()},
        )  # fmt: skip
        envelope = Envelope(f"S{count}", now, None, signal)
        self.desk.receive([(envelope, payload_text(envelope))])
        self.clock.advance(0.01)
        return envelope.id

    def alert(self, action: str, symbol: str = "AAPL", **fields: object) -> str:
        """Post an alert in the sender's own words, as the relay would deliver it."""
        signal = alert_from({"action": action, "symbol": symbol, **fields}).signal
        envelope = Envelope(f"S{len(self.journal._rows('SELECT 1 FROM inbox'))}", self.clock.now(), None, signal)
        self.desk.receive([(envelope, payload_text(envelope))])
        self.clock.advance(0.01)
        return envelope.id

    def strategy(self, position: str, was: str | None = None, symbol: str = "EURUSD", **more: str) -> str:
        """Post a strategy's alert, as TradingView does: what it holds now ("long 20", "flat"), and what it held before."""
        fields = {"action": "strategy", "symbol": symbol, **_position("", position), **more}
        alert = alert_from({**fields, **_position("prev_", was)} if was else fields)
        envelope = Envelope(f"S{len(self.journal._rows('SELECT 1 FROM inbox'))}", self.clock.now(), None, alert.signal)
        self.desk.receive([(envelope, payload_text(envelope))])
        self.clock.advance(0.01)
        return envelope.id

    def command(self, command: Command) -> str:
        """Press a button of the page as the program does: everything is read anew first."""
        if self.desk.ready_since is not None:
            self.desk.reconciled(self.broker.snapshot())
        return self.desk.command(command)

    def beside(self, contract: Contract, quantity: Decimal) -> None:
        """The owner holds this much beside the trades, and told us to leave it alone."""
        with self.desk.book.change():
            self.desk.book.set_beside(contract.con_id, contract.symbol, quantity)

    def change_order(self, order: Order, **values: object) -> None:
        """Plant something in an order of the book, as a crash might leave it."""
        trade, found = self.desk.book.find_order(order.order_ref) or (None, None)
        assert trade and found
        with self.desk.book.change():
            self.desk.book.put(trade.with_order(replace(found, **values)))

    def pass_time(self, seconds: float, look: bool = True) -> None:
        """Let the clock run with the desk's ticks; snapshots that it wants are taken, unless `look` is off."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.desk.tick()
            if self.wanted and look:
                self.wanted.clear()
                self.desk.reconciled(self.broker.snapshot())

    def outcome(self, signal_id: str) -> tuple[str | None, str | None]:
        row = self.journal._rows("SELECT outcome, reason FROM inbox WHERE signal_id = ?", signal_id)[0]
        return row["outcome"], row["reason"]

    @property
    def state(self) -> str:
        """The state of the newest trade."""
        return str(self.trades()[-1]["state"])

    def legs(self) -> list[str]:
        """What was sent, one after the other, such as E1."""
        return [t.order_ref[20:] for t in self.broker.sent]

    def working(self) -> dict[str, Decimal]:
        """What is live at the broker: leg → what is left of it."""
        live = (r for r in self.broker.orders.values() if r.status.is_live)
        return {r.order_ref[20:]: r.remaining or Decimal(0) for r in live}

    def trades(self) -> list[dict]:
        return [dict(r) for r in self.journal._rows("SELECT * FROM trades ORDER BY id")]

    def alarms(self) -> list[str]:
        return [a["kind"] for a in self.journal.standing_alarms()]
