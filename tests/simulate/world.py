"""One run: relay, executor, paper TWS, senders and the owner in one process, all driven by one seed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import tempfile
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from common.clock import utc_text
from executor.core.policy import Policy
from executor.paper.exchange import Exchange
from executor.paper.faults import Fault, Faults
from executor.paper.server import PaperServer
from executor.relay import polling
from relay import intake as relay_intake
from tests.executor.books import check_at_rest, check_restart
from tests.simulate.bot import Bot, Killed, Life
from tests.simulate.checker import Checker, Sight
from tests.simulate.posts import LongPoll, RelayHouse
from tests.simulate.records import BY_HAND, JournalSide, LiveOrder, Row
from tests.simulate.virtual import Clock, VirtualLoop
from tests.simulate.wires import Network

START = datetime(2026, 4, 13, 13, 30, tzinfo=UTC)  # a Monday, 9:30 in New York
NEW_YORK = ZoneInfo("America/New_York")
PRICES = {"EURUSD": Decimal("1.19"), "GBPUSD": Decimal("1.30"), "AAPL": Decimal("263.5")}
SIZES = {"EURUSD": 20000, "GBPUSD": 25000, "AAPL": 100}
TOLD = ("clientId", "orderId", "orderRef", "action", "quantity", "price", "auxPrice", "lmtPrice", "why", "code")
STEP = 0.5  # seconds between two looks of the checker
KEPT_LINES = 60
REST_SECONDS = 240.0


class Broken(Exception):
    """A rule was broken, or the run could not go on; the text says what."""


@dataclass
class Figures:
    """What one run, or many, amounted to."""

    days: int = 0
    calm_days: int = 0  # of seeds without a fault and without the owner
    gentle_days: int = 0  # of seeds with none but troubles after which everything can be known
    signals: int = 0
    orders: int = 0
    fills: int = 0
    looks: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # how often each was drawn
    met: Counter[str] = field(default_factory=Counter)  # how often it did something: to an order, a message, a moment
    holds: Counter[str] = field(default_factory=Counter)
    hold_days: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)

    def add(self, other: Figures) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Counter):
                value.update(getattr(other, name))
            else:
                setattr(self, name, value + getattr(other, name))


class CountedFaults(Faults):
    """The paper TWS's knobs; each that is armed tells when it is met, once."""

    def __init__(self, current: Callable[[], Callable[[], object]]) -> None:
        super().__init__()
        self._current, self._waiting = current, dict[int, Callable[[], object]]()

    def arm(self, name: str, /, *, count: int = 1, skip: int = 0, **given: Any) -> Fault:
        fault = super().arm(name, count=count, skip=skip, **given)
        self._waiting[id(fault)] = self._current()
        return fault

    def _told(self, fault: Fault | None) -> Fault | None:
        self._waiting.pop(id(fault), lambda: None)()
        return fault

    def standing(self, name: str) -> Fault | None:
        return self._told(super().standing(name))

    def take_message(self, name: str, when: str, direction: str, kind: str) -> Fault | None:
        return self._told(super().take_message(name, when, direction, kind))

    def _use(self, name: str, fits: Any) -> Fault | None:
        return self._told(super()._use(name, fits))


class World:
    """Everything of one run, and its trace."""

    def __init__(self, seed: int, folder: Path, loop: VirtualLoop, clock: Clock) -> None:
        self.seed, self.clock, self.chance = seed, clock, random.Random(seed)
        self.figures = Figures()
        self.strategies: dict[str, int] = {}  # symbol → what the strategy in it holds, below zero when it is short
        self.met: Callable[[], object] = lambda: None  # to be called when the trouble that is prepared now is met
        self.server = PaperServer(Exchange(clock, seed=seed))
        self.server.exchange.floor.faults = CountedFaults(lambda: self.met)
        self.network = Network(self.server, self.chance)
        loop.network = self.network.open
        self.relay = RelayHouse(folder, clock, self.chance)
        self.bot = Bot(folder / "trade_state.db", clock, self.network, self.relay, Policy(scale_in=bool(seed % 2)))
        self.checker = Checker(JournalSide(folder / "trade_state.db"), self.live_orders)
        self.bot.leaving = lambda ticket: self.checker.sizes.leaving(ticket, clock.now())
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.digest = hashlib.sha256()
        self.tell: Callable[[str], None] | None = None  # hears every line of the trace
        self.trouble: list[str] = []  # what the loop complained of
        self._told = 0  # the last journal event in the trace
        self._changes = -1  # of the journal, when the book was last checked
        self._connected_since: float | None = None
        self._ready: datetime | None = None
        self.server.exchange.floor.truth.listeners.append(self._hear)
        for symbol, price in PRICES.items():
            self.server.exchange.set_price(symbol, price)

    def move_market(self, symbol: str, price: Decimal) -> None:
        """Set a price, and keep it for whoever judges a refusal by it."""
        self.say(f"market {symbol} {price}")
        self.server.exchange.set_price(symbol, price)
        self.checker.journal.prices.append((utc_text(self.clock.now()), symbol, price))

    # ---- the trace ----

    def say(self, text: str) -> None:
        """Add a line to the trace."""
        line = f"{self.clock.now():%d %H:%M:%S.%f} {text}"
        self.digest.update(line.encode() + b"\n")
        self.last_lines.append(line)
        if self.tell:
            self.tell(line)

    def _hear(self, entry: Row) -> None:
        self.figures.orders += entry["event"] == "accepted"
        self.figures.fills += entry["event"] == "filled"
        facts = " ".join(f"{name}={entry[name]}" for name in TOLD if entry.get(name) not in (None, "", "0"))
        self.say(f"TWS {entry['event']} {entry.get('symbol', '')} {facts}")
        self.checker.hear(entry)

    def _tell_journal(self) -> None:
        rows = self.checker.journal.rows("SELECT * FROM events WHERE id > ? ORDER BY id", self._told)
        for row in rows:
            self._told = row["id"]
            self.say(f"bot {row['kind']} {row['symbol']} {row['details']}")
            if row["kind"] == "hold":
                self.figures.holds[_gist(row["details"])] += 1

    def count(self) -> None:
        """Count verdicts and alarms, at the end."""
        journal, figures = self.checker.journal, self.figures
        for row in journal.rows("SELECT outcome, count(*) AS times FROM inbox WHERE state = 'done' GROUP BY outcome"):
            figures.outcomes[row["outcome"]] += row["times"]
        for row in journal.rows("SELECT kind, count(*) AS times FROM alarms GROUP BY kind"):
            figures.alarms[row["kind"]] += row["times"]

    def prepare(self, name: str) -> None:
        """Count the trouble of this name as met at the first call of `met`, whatever it prepares now; "" counts nothing."""
        heard: list[str] = []

        def met() -> None:
            if name and not heard:
                heard.append(name)
                self.figures.met[name] += 1

        self.met = met

    # ---- what the checker may see of the broker ----

    def live_orders(self) -> list[LiveOrder]:
        book = self.server.exchange.floor.book
        return [
            LiveOrder(
                o.form.order_ref if o.client_id != BY_HAND else "",
                o.perm_id,
                o.client_id,
                o.con_id,
                o.form.sign,
                o.remaining,
                o.held,
                o.status,
                o.muted,
                o.form.limit_price if o.form.limit_price is not None else o.stop_price,
            )  # fmt: skip
            for o in book.live.values()
            if not o.lost and "queued" not in o.flags
        ]

    def sight(self) -> Sight:
        """Return since when the executor sees the broker, by what it said itself and by the state of the wires."""
        exchange, gateway = self.server.exchange, self.server.gateway
        whole = bool(self.network.pipes) and not any(pipe.silent for pipe in self.network.pipes)
        seen = self.bot.alive and whole and not gateway.frozen and exchange.intake.connected
        ready = self.bot.desk.ready_since if seen and self.bot.desk.can_send else None
        if ready is None or ready != self._ready:
            self._connected_since = None if ready is None else self.clock.monotonic()
        self._ready = ready
        return Sight(self._connected_since, self.clock.monotonic())

    # ---- time ----

    def look(self) -> None:
        """One step of the checker; raises Broken for the first rule that does not hold."""
        self._tell_journal()
        self.figures.looks += 1
        self.checker.look(self.sight())
        self._check_book()
        if self.trouble or self.checker.found:
            raise Broken((self.checker.found or [f"program: {self.trouble[0]}"])[0])

    def _check_book(self) -> None:
        """The bot's book equals the one that a restart would build, and nobody who has something to do is left asleep."""
        bot = self.bot
        if not bot.alive or bot.journal.full or bot.journal._db.total_changes == self._changes:
            return
        life, bot.journal.life = bot.journal.life, Life()  # nobody dies of being looked at
        try:
            check_restart(bot.desk)
            check_at_rest(bot.desk)
        except AssertionError as exc:
            raise Broken(f"book: {exc}") from exc
        finally:
            bot.journal.life = life
            self._changes = bot.journal._db.total_changes

    async def wait(self, seconds: float) -> None:
        """Let time pass, in steps."""
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 1e-6:
            await asyncio.sleep(min(left, STEP))
            self.server.tick()
            self.look()

    async def until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Let time pass until something is so. Raises Broken if it does not come about."""
        until = self.clock.monotonic() + seconds
        while not done():
            if self.clock.monotonic() > until:
                raise Broken(f"rest: {what()}" if callable(what) else f"rest: {what}")
            await self.wait(STEP)

    def skip(self, seconds: float) -> None:
        """Leave out a quiet time: it is later, and nothing happened but the broker's midnight."""
        self.clock.skip(seconds)
        self.server.tick()
        if self.bot.alive:
            self.bot.sleep_watch.look()

    def skip_to(self, hour: int, minute: int, second: int = 0, days: int = 0) -> None:
        """Leave out what is left until a time in New York; weekends too, if days are to go by."""
        here = self.clock.now().astimezone(NEW_YORK)
        day = here.date() + timedelta(days=days)
        while days and day.weekday() >= 5:
            day += timedelta(days=1)
        there = datetime.combine(day, time(hour, minute, second), NEW_YORK)
        if there > here:
            self.skip((there - here).total_seconds())

    # ---- the executor's life ----

    def begin(self) -> None:
        """Start the executor."""
        self.bot.start()
        self.bot.life.mourn = self._bury
        self.say("executor started")

    def _bury(self) -> None:
        self.figures.kills[self.bot.life.died_at] += 1
        self.end_life(f"died {self.bot.life.died_at}")

    def end_life(self, how: str) -> None:
        """The executor's process is gone; its owner, or the system, starts it again."""
        self.say(f"executor {how}")
        self.bot.kill()
        pause = self.chance.choice((0.05, 1.0, 10.0, 60.0)) * self.chance.random()
        asyncio.get_running_loop().call_later(pause, self.begin)


def _gist(text: str) -> str:
    """Return a hold's reason without symbol and numbers, to count it by.

    >>> _gist("EURUSD is on hold: entry: no trace of the order, yet the position differs by 20000. Choose on the page: a")
    'entry: no trace of the order, yet the position differs by #'
    """
    reason = text.partition(" is on hold: ")[2].rpartition(". Choose on the page")[0]
    words = ("#" if any(c.isdigit() for c in word) else word for word in reason.split())
    return " ".join("SYMBOL" if word in PRICES else word for word in words)[:120]


@dataclass
class Result:
    """How one seed ended."""

    seed: int
    figures: Figures
    trace: str  # the hash of the whole trace
    broken: str = ""
    lines: list[str] = field(default_factory=list)


Play = Callable[[World, int], Awaitable[None]]


def run(seed: int, days: int, play: Play, tell: Callable[[str], None] | None = None) -> Result:
    """Play one seed to its end, or to the first broken rule."""
    clock = Clock(START)
    loop = VirtualLoop(clock)
    asyncio.set_event_loop(loop)
    with tempfile.TemporaryDirectory(prefix="simulate-", dir=_memory()) as folder, _seams():
        try:
            return loop.run_until_complete(_run(seed, days, play, Path(folder), loop, clock, tell))
        except RuntimeError as exc:
            return Result(seed, Figures(), "", f"simulation: {exc}")
        finally:
            _close(loop)


async def _run(
    seed: int, days: int, play: Play, folder: Path, loop: VirtualLoop, clock: Clock, tell: Callable[[str], None] | None
) -> Result:
    world = World(seed, folder, loop, clock)
    world.tell = tell
    polling.in_thread = LongPoll(world.relay, world.chance)  # type: ignore[assignment]
    numbers = iter(range(1, 1_000_000))
    relay_intake.new_id = lambda: f"{seed:013d}{next(numbers):013d}"
    loop.set_exception_handler(lambda _, context: _complain(world, context))
    broken = ""
    try:
        await play(world, days)
        world.count()
    except Broken as exc:
        broken = str(exc)
    except Exception as exc:  # whatever it is, the seed must be told
        broken = f"simulation: {type(exc).__name__}: {exc}"
    finally:
        if world.bot.alive:
            world.bot.kill()
        world.relay.kill()
        world.checker.journal.close()
    return Result(seed, world.figures, world.digest.hexdigest(), broken, list(world.last_lines))


def _complain(world: World, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if not isinstance(error, Killed):
        world.trouble.append(f"{context.get('message')}: {error!r}")


@contextmanager
def _seams() -> Any:
    """Keep the few names that a run replaces, and put them back; no log meanwhile."""
    kept = polling.in_thread, relay_intake.new_id, logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        polling.in_thread, relay_intake.new_id = kept[:2]
        logging.disable(kept[2])


def _close(loop: VirtualLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    with suppress(RuntimeError):
        loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    asyncio.set_event_loop(None)


def _memory() -> str | None:
    """Return a folder in memory, where the system has one: nothing here is about disks."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
