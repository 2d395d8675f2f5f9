"""One state of everything: what the journal holds, what the executor remembers, what is under way, what the broker has.

Not modelled: several contracts, prices, several days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from common.signals import Action, Side, Signal
from executor.core.orders import ZERO, Execution, Leg
from executor.core.policy import Policy
from executor.core.ports import Contract, Fill, OrderReport, Ticket
from executor.core.trades import Trade
from executor.journal.rows import Alarm, Block, InboxRow, Meaning

C = TypeVar("C")

START = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
ACCOUNT, DAY, CLIENT_ID = "DU1", "2026-11-23", 1
STOCK = Contract(5, "AAPL", "STK", "AAPL", "USD", "SMART")
POLICY = Policy(validity_seconds=30)
PAUSE, AWAY = 15, 40  # seconds that one wait takes at most; without the broker: longer than an entry is good for
SIZE = Decimal(2)  # shares of each entry
BUY = Signal(Action.OPEN, "AAPL", Side.BUY, SIZE, tp=Decimal(12), sl=Decimal(8))
SELL = Signal(Action.OPEN, "AAPL", Side.SELL, SIZE, tp=Decimal(8), sl=Decimal(12))
CLOSE = Signal(Action.CLOSE, "AAPL")
BUY_3, PART = replace(BUY, quantity=Decimal(3)), replace(CLOSE, quantity=Decimal(1))


def hashed_once(cls: type[C]) -> type[C]:
    """Let each value of a frozen class work out its hash once: states are looked up far more often than made."""
    whole = cls.__hash__

    def once(self: C) -> int:
        known: int | None = self.__dict__.get("_hash")
        if known is None:
            known = self.__dict__["_hash"] = whole(self)
        return known

    cls.__hash__ = once  # type: ignore[method-assign,assignment]
    return cls


@hashed_once
@dataclass(frozen=True)
class Held:
    """One order at the broker. `asleep`: a child that waits for its parent; `held`: in TWS only, not transmitted."""

    ticket: Ticket
    status: str = "held"  # held, asleep, working, filled, cancelled, rejected
    size: Decimal = SIZE
    filled: Decimal = ZERO

    @property
    def lives(self) -> bool:
        return self.status in ("held", "asleep", "working")

    @property
    def parent_id(self) -> int:
        return self.ticket.parent_id

    @property
    def leg(self) -> Leg:
        return Leg(self.ticket.order_ref[20])


@hashed_once
@dataclass(frozen=True)
class Letter:
    """What travels to the broker: an order, or the wish to cancel one."""

    order_id: int
    ticket: Ticket | None = None  # None: cancel it


# A report, an execution, (order id, code of a refusal), a position, the contract that was asked for.
Fact = OrderReport | Fill | tuple[int, int] | Decimal | Contract


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


@hashed_once
@dataclass(frozen=True)
class Kept:
    """What the journal holds: all that a restart finds."""

    trades: tuple[Trade, ...] = ()
    foreign: tuple[Execution, ...] = ()  # executions that no trade accounts for
    signals: tuple[InboxRow, ...] = ()  # not done
    received: int = 0  # signals so far
    blocks: tuple[Block, ...] = ()
    meanings: tuple[Meaning, ...] = ()
    alarms: tuple[Alarm, ...] = ()  # standing
    next_id: int = 1
    parts: Decimal = ZERO  # of a trade that closes of a part asked to take out
    told: bool = False  # the owner was ever asked: an alarm that does more than tell was raised


@hashed_once
@dataclass(frozen=True)
class Memory:
    """What a living executor has in memory beside its book."""

    values: tuple[object, ...]
    ready: bool
    restless: bool  # it goes on by itself at one of the next ticks: it reads again what it saw, or asks for a contract
    stopped: tuple[str, ...] = ()  # why it sends nothing: a bug of ours


@hashed_once
@dataclass(frozen=True)
class World:
    """One state of everything."""

    signals: tuple[Signal, ...]  # that are still to come
    budget: Budget
    now: float = 0
    kept: Kept = Kept()
    memory: Memory | None = None  # None: it is not started, or just now
    alive: bool = True
    linked: bool = True  # it has a connection to the broker
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
    def ready(self) -> bool:
        """Whether the executor sees the broker."""
        return self.memory is not None and self.memory.ready

    @property
    def told(self) -> bool:
        return self.kept.told

    @property
    def trades(self) -> tuple[Trade, ...]:
        return self.kept.trades

    @property
    def trade(self) -> Trade | None:
        """The unfinished trade."""
        last = self.trades[-1] if self.trades else None
        return None if last is None or last.state.is_finished else last
