"""One state of everything: what the journal holds, what is under way, and what the broker has.

Not modelled: several contracts, prices, several days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from common.signals import Action, Side, Signal
from executor.core.policy import Policy
from executor.core.ports import Contract, Fill, OrderReport
from executor.core.trades import ZERO, Order, Trade

START = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
ACCOUNT, DAY, LOOK_UP = "DU1", "2026-11-23", frozenset({103, 104, 135, 161, 10147, 10148})
STOCK = Contract(5, "AAPL", "STK", "AAPL", "USD", "SMART")
POLICY = Policy(validity_seconds=30)
PAUSE, SIZE = 15, Decimal(2)  # seconds that one wait takes; shares of each entry
BUY = Signal(Action.OPEN, "AAPL", Side.BUY, SIZE, tp=Decimal(12), sl=Decimal(8))
SELL = Signal(Action.OPEN, "AAPL", Side.SELL, SIZE, tp=Decimal(8), sl=Decimal(12))
CLOSE = Signal(Action.CLOSE, "AAPL")


@dataclass(frozen=True)
class Held:
    """One order at the broker. `asleep`: a child that waits for its parent; `held`: in TWS only, not transmitted."""

    ticket: Order
    parent_id: int
    status: str = "held"  # held, asleep, working, filled, cancelled, rejected
    size: Decimal = SIZE
    filled: Decimal = ZERO

    @property
    def lives(self) -> bool:
        return self.status in ("held", "asleep", "working")


@dataclass(frozen=True)
class Letter:
    """What travels to the broker: an order, or the wish to cancel one."""

    order: Order
    parent_id: int = 0
    transmit: bool = True
    cancel: bool = False


Fact = (
    OrderReport | Fill | tuple[int, int] | Decimal
)  # a report, an execution, (order id, code of a refusal), a position


@dataclass(frozen=True)
class Budget:
    """How often each of these may still happen."""

    crashes: int = 1
    losses: int = 1  # a fact that is lost, or a connection
    doubles: int = 0  # a fact that comes twice
    rejects: int = 0
    partials: int = 0
    restarts: int = 0  # of TWS, which forgets what it holds
    hands: int = 0  # what the owner does: cancel a stop, close the position
    waits: int = 3

    def spend(self, name: str) -> Budget:
        return replace(self, **{name: getattr(self, name) - 1})


@dataclass(frozen=True)
class World:
    """One state of everything."""

    signals: tuple[Signal, ...]  # that are still to come
    budget: Budget
    now: int = 0
    inbox: tuple[tuple[int, Signal, int], ...] = ()  # (number, signal, received at)
    closing: int = 0  # the number of the signal that had its close asked for
    outcomes: tuple[tuple[int, str], ...] = ()
    trades: tuple[Trade, ...] = ()
    next_id: int = 1
    block: Side | None = None
    told: bool = False  # an alarm was raised
    shown: Decimal = ZERO  # the position, as last told
    known: tuple[Fill, ...] = ()  # executions in the journal
    alive: bool = True
    ready: bool = False
    wanted: bool = True  # a snapshot is wanted
    to_broker: tuple[Letter, ...] = ()
    to_bot: tuple[Fact, ...] = ()
    orders: tuple[Held, ...] = ()
    fills: tuple[Fill, ...] = ()
    position: Decimal = ZERO

    @property
    def at(self) -> datetime:
        return START + timedelta(seconds=self.now)

    @property
    def trade(self) -> Trade | None:
        """The unfinished trade."""
        last = self.trades[-1] if self.trades else None
        return None if last is None or last.state.is_finished else last

    def with_trade(self, trade: Trade) -> World:
        return replace(self, trades=(*self.trades[:-1], trade))
