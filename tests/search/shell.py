"""The real desk in one step of the search: built from a state, told one thing, and read back as the states that follow.

No rule is written here. `executor.desk.Desk` decides and acts; its journal is a `Ledger`, its broker notes what is sent,
its clock stands at the state's time. Each commit and each write is a state of its own: there the executor may die.

What a living executor has beside its book (`Memory`) is taken out of the desk attribute by attribute, whatever the
attributes are, and put into the next one. Not modelled of it: what was last read in full (`Sight.last`: only that something
was; evidence for the owner's eyes, and executions never vanish here), and therefore when account and journal last agreed.
Not modelled besides: a broker that is paced, contracts that it cannot name, commissions, the owner's buttons, a journal that fails.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from common.clock import FakeClock
from common.errors import BrokerUnavailable
from common.signals import Envelope, Signal
from executor.core.outcomes import StopCause
from executor.core.policy import Policy
from executor.core.ports import Contract, Fill, OrderReport, Position, Refusal, Snapshot, Ticket
from executor.desk.agenda import Agenda
from executor.desk.desk import Desk
from tests.search.broker import report_of
from tests.search.ledger import Ledger
from tests.search.world import (
    ACCOUNT,
    AWAY,
    CLIENT_ID,
    DAY,
    PAUSE,
    POLICY,
    START,
    STOCK,
    Fact,
    Kept,
    Letter,
    Memory,
    World,
)

Turn = Iterator[World]  # each thing yielded is committed or written; the last is the end of the turn

TICK = 0.5  # seconds, as the program has it
SETTLE = 3.0  # seconds between two readings that must agree, as the supervisor has it
_READ = Snapshot(START, DAY, (), (), (), ())  # stands for whatever was last read


class Wire:
    """The desk's broker (ports.Broker): what is sent is noted, in order with the commits."""

    is_paced, day = False, DAY

    def __init__(self, writes: int | None) -> None:
        self.letters: list[Letter] = []
        self._writes = writes
        self.asked: list[Fact] = []  # answers that are on their way
        self.written: Callable[[], None] = lambda: None

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()  # letter by letter: a connection that ends may have taken any part of them

    def send(self, ticket: Ticket) -> None:
        self._post(Letter(ticket.order_id, ticket))

    def cancel(self, order_id: int) -> None:
        self._post(Letter(order_id))

    def _post(self, letter: Letter) -> None:
        if len(self.letters) == self._writes:
            raise BrokerUnavailable("the connection is gone")
        self.letters.append(letter)
        self.written()

    def request_contract(self, symbol: str, con_id: int = 0) -> None:
        assert (symbol, con_id) == (STOCK.symbol, 0)
        self.asked.append(STOCK)

    def price(self, con_id: int) -> Decimal | None:
        return Decimal(10)

    def order_id_floor(self) -> int:
        return 1


class Life:
    """One executor that lives through one step."""

    def __init__(self, kept: Kept, memory: Memory | None, now: float, writes: int | None = None) -> None:
        self.clock, self.wire, self.wanted = FakeClock(START + timedelta(seconds=now)), Wire(writes), False
        self.points: list[tuple[Kept, int, float]] = []  # kept, letters written, at this time
        self.now = now
        self.ledger = Ledger(kept, lambda kept: self._point())
        self.wire.written = self._point
        self.desk = Desk(
            self.ledger, self.wire, self.clock, POLICY, ACCOUNT, CLIENT_ID, self._want  # type: ignore[arg-type]
        )  # fmt: skip
        self.desk.stopped_by = self._failed  # type: ignore[method-assign]  # a bug would hold its trade
        if memory is not None:
            remember(self.desk, memory)

    def _failed(self, exc: Exception) -> None:
        self.desk.gate.forbid(StopCause.PROGRAM, f"a bug: {exc}")

    def _want(self, why: str) -> None:
        self.wanted = True

    def _point(self) -> None:
        point = self.ledger.kept, len(self.wire.letters), self.now
        if not self.points or self.points[-1] != point:
            self.points.append(point)

    def tick(self) -> None:
        self.now += TICK
        self.clock.advance(TICK)
        self.desk.tick()

    def pass_by(self, seconds: float) -> None:
        for _ in range(int(seconds / TICK)):
            self.tick()

    def wait(self, seconds: float) -> None:
        """Let time pass, until something is wanted, sent or asked."""
        for _ in range(int(seconds / TICK)):
            self.tick()
            if self.wanted or self.wire.letters or self.wire.asked:
                return

    def look(self, world: World) -> None:
        """Read everything and hand it over, as the supervisor does; nothing is under way."""
        if self.desk.ready_since is None and self.desk.needs_settling():
            self.pass_by(SETTLE)
        self.desk.reconciled(snapshot(world, self.clock.now()))

    def hear(self, fact: Fact) -> None:
        match fact:
            case OrderReport():
                self.desk.on_order(fact)
            case Fill():
                self.desk.on_fill(fact)
            case Decimal():
                self.desk.on_position(Position(ACCOUNT, STOCK.con_id, STOCK.symbol, fact, Decimal(10)))
            case Contract():
                self.desk.on_contract(fact.symbol, fact)
            case order_id, code:
                self.desk.on_refusal(Refusal(order_id, code, "refused"))

    def receive(self, signal: Signal) -> None:
        number = self.ledger.kept.received + 1
        self.desk.receive([(Envelope(f"signal-{number}", self.clock.now(), None, signal), "")])

    def result(self) -> Lived:
        """Return what came of it; the book that lives on must be the one that a restart would load."""
        book, kept = self.desk.book, self.ledger.kept
        shelves = (book._trades, book._foreign, book._signals, book._blocks, book._meanings, book._alarms)
        rows = (kept.trades, kept.foreign, kept.signals, kept.blocks, kept.meanings, kept.alarms)
        for shelf, row in zip(shelves, rows, strict=True):
            found = shelf.values()
            assert tuple(found) == row or set(found) == set(row), f"in the book {found}, in the journal {row}"
        assert not self.desk._outbox._waiting, "bytes that nobody writes"
        points = tuple((_one(kept), count, now) for kept, count, now in self.points)
        return Lived(
            points, tuple(self.wire.letters), tuple(self.wire.asked), _one(kept), _one(memory_of(self.desk)), self.now,
            self.wanted,
        )  # fmt: skip


# ---- what a living executor remembers ----

_APART = ("book", "_outbox", "owner")  # loaded; empty; not modelled
_VALUES = (dict, set, list, datetime, str, bool, Decimal, Snapshot, type(None))
_SKIPPED = {("agenda", "_heap")}  # follows from `_due`
_ITSELF = ""  # the desk among its parts


def _attributes() -> tuple[tuple[str, str], ...]:
    """Return (part, attribute) for all that a desk remembers; what is neither a value nor a part is a new kind of memory."""
    desk = Life(Kept(), None, 0).desk
    parts = [_ITSELF, *(name for name, part in vars(desk).items() if _is_part(part) and name not in _APART)]
    found = [(part, name) for part in parts for name in _names(_part(desk, part)) if (part, name) not in _SKIPPED]
    values = []
    for part, name in found:
        value = getattr(_part(desk, part), name)
        if isinstance(value, _VALUES):
            values.append((part, name))
        else:
            known = _is_part(value) or callable(value) or isinstance(value, Ledger | Wire | FakeClock | Policy | int)
            assert known, f"{part}.{name} is not understood"
    return tuple(values)


def _part(desk: Desk, name: str) -> object:
    return getattr(desk, name) if name else desk


def _is_part(thing: object) -> bool:
    return type(thing).__module__.startswith("executor.desk.")


def _names(part: object) -> list[str]:
    return [f.name for f in fields(part)] if isinstance(part, Agenda) else list(vars(part))


class _Items(tuple[Any, ...]):
    """A dict as a value."""

    __slots__ = ()


class _List(tuple[Any, ...]):
    """A list as a value."""

    __slots__ = ()


def memory_of(desk: Desk) -> Memory:
    """Take out of a desk what it remembers."""
    desk.sight.last = desk.sight.last and _READ
    desk.snapshots._agreed = {con_id: (day, START) for con_id, (day, _) in desk.snapshots._agreed.items()}
    values = tuple(_frozen(getattr(_part(desk, part), name)) for part, name in ATTRIBUTES)
    bugs = [desk.gate.why(cause) for cause in (StopCause.PROGRAM, StopCause.STORAGE)]
    stopped = tuple(text for text in bugs if text)
    restless = desk.snapshots.recheck_at is not None or bool(desk._ahead and desk.can_send)
    return Memory(values, desk.ready_since is not None, restless, stopped)


def remember(desk: Desk, memory: Memory) -> None:
    """Put into a new desk what one before it remembered."""
    for (part, name), value in zip(ATTRIBUTES, memory.values, strict=True):
        setattr(_part(desk, part), name, _thawed(value))
    agenda = desk.agenda
    agenda._heap = [(due, str(subject), subject) for subject, due in agenda._due.items()]
    heapq.heapify(agenda._heap)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return _Items(value.items())
    if isinstance(value, list):
        return _List(value)
    return frozenset(value) if isinstance(value, set) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, _Items):
        return dict(value)
    if isinstance(value, _List):
        return list(value)
    return set(value) if isinstance(value, frozenset) else value


ATTRIBUTES = _attributes()


# ---- the steps ----


@dataclass(frozen=True)
class Lived:
    """What came of one step."""

    points: tuple[tuple[Kept, int, float], ...]  # what was kept, and how much was written, at which time
    letters: tuple[Letter, ...]
    answers: tuple[Fact, ...]  # on their way
    kept: Kept
    memory: Memory
    now: float
    wanted: bool


_lived: dict[Any, Lived] = {}  # what was lived through before: the broker's side of a state is often all that differs
_same: dict[Any, Any] = {}  # equal values are one object, so that they are soon found equal


def forget() -> None:
    """Begin anew: the rules may have changed."""
    _lived.clear()
    _same.clear()


def _live(world: World, what: object, act: Callable[[Life], None], writes: int | None = None) -> Turn:
    """Live through one step, and return every state on its way."""
    key = world.kept, world.memory, world.now, what, writes
    lived = _lived.get(key)
    if lived is None:
        life = Life(world.kept, world.memory, world.now, writes)
        act(life)
        lived = _lived[key] = life.result()
    for kept, count, now in lived.points:
        yield replace(world, kept=kept, now=now, to_broker=(*world.to_broker, *lived.letters[:count]))
    yield replace(
        world, kept=lived.kept, memory=lived.memory, now=lived.now, wanted=world.wanted or lived.wanted,
        to_broker=(*world.to_broker, *lived.letters), to_bot=(*world.to_bot, *lived.answers),
    )  # fmt: skip


def _one(value: Any) -> Any:
    return _same.setdefault(value, value)


# Each takes `writes`: the connection breaks when so many letters are written, and the executor lives on.


def heard(world: World, fact: Fact, writes: int | None = None) -> Turn:
    """A fact arrives."""
    return _live(world, fact, lambda life: life.hear(fact), writes)


def received(world: World, signal: Signal, writes: int | None = None) -> Turn:
    """A signal arrives."""
    return _live(world, signal, lambda life: life.receive(signal), writes)


def later(world: World, writes: int | None = None) -> Turn:
    """A while passes, in ticks, until something is wanted, sent or asked."""
    return _live(world, "time", lambda life: life.wait(PAUSE), writes)


def away(world: World) -> World:
    """A longer while passes without the broker, for a living executor or a dead one."""
    if not world.alive:
        return replace(world, now=world.now + AWAY)
    return list(_live(world, "away", lambda life: life.pass_by(AWAY)))[-1]


def looked(world: World, writes: int | None = None) -> Turn:
    """Everything is read; nothing is under way."""
    world = replace(world, wanted=False)
    return _live(world, (world.orders, world.fills, world.position), lambda life: life.look(world), writes)


def parted(world: World) -> World:
    """The connection is gone; the executor lives on, if it does."""
    if not world.alive or world.memory is None:
        return replace(world, memory=None)
    return list(_live(world, "parted", lambda life: life.desk.disconnected("the connection is gone")))[-1]


def snapshot(world: World, now: datetime) -> Snapshot:
    """Everything that the broker shows; what TWS only holds is not among it."""
    reports = [(o, report_of(o)) for o in world.orders if o.status != "held"]
    position = Position(ACCOUNT, STOCK.con_id, STOCK.symbol, world.position, Decimal(10))
    return Snapshot(
        now, DAY,
        tuple(r for o, r in reports if o.lives), tuple(replace(r, completed=True) for o, r in reports if not o.lives),
        world.fills, (position,) if world.position else (), begun_at=now,
    )  # fmt: skip
