"""The executor in this process: its own modules, composed as `executor.app` does, with a death at any boundary.

What is not here: the page, the notifier and APScheduler, which plans by the machine's clock; a task ticks in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.clock import Clock
from common.errors import JournalError
from common.secret import Secret
from executor.core.accounts import AccountRules
from executor.core.policy import Policy
from executor.core.ports import Ticket
from executor.desk.desk import Desk
from executor.journal.journal import Journal
from executor.relay.client import RelayClient
from executor.relay.polling import Poller
from executor.tws.client import Tws
from executor.tws.connection import SleepWatch, Supervisor
from tests.simulate.posts import SIGNING, TOKEN, URL, InProcess, RelayHouse
from tests.simulate.wires import Network, Pipe

CLIENT_ID = 1
TICK_SECONDS = 0.5


class Killed(BaseException):
    """The executor's process is gone at this very point. No `except Exception` may see it."""


class Life:
    """One life of the executor. It ends at once, at the next boundary, or after so many of them."""

    def __init__(self) -> None:
        self.left: int | None = None  # boundaries until it dies
        self.over = False
        self.died_at = ""
        self.mourn: Callable[[], object] = lambda: None  # called once, when it died at a boundary
        self.met: Callable[[], object] = lambda: None  # so is this, by whoever had it die there

    def boundary(self, name: str) -> None:
        """Pass one point at which a process can die. Raises Killed if it does, or did."""
        if self.over:
            raise Killed(name)
        if self.left is None:
            return
        self.left -= 1
        if self.left <= 0:
            self.over, self.died_at = True, name
            self.met()
            asyncio.get_running_loop().call_soon(self.mourn)
            raise Killed(name)


class MortalJournal(Journal):
    """The journal, with a boundary before each transaction, before its commit, and after it."""

    life = Life()
    full: Callable[[], object] | None = None  # the disk is full: nothing can be written; called when that is met

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._depth:
            yield
            return
        if self.full:
            self.full()
            raise JournalError("the journal cannot be written: database or disk is full")
        self.life.boundary("before a transaction")
        with super().transaction():
            yield
            self.life.boundary("before a commit")
        self.life.boundary("after a commit")


class HeardTws(Tws):
    """TWS's client; somebody hears of each order that leaves, just before its bytes do."""

    def __init__(self, clock: Clock, heard: Callable[[Ticket], object]) -> None:
        super().__init__(clock)
        self._heard = heard

    def send(self, ticket: Ticket) -> None:
        self._heard(ticket)
        super().send(ticket)


class Bot:
    """One executor over one journal file. `start` begins a life, `kill` ends it, wherever it is."""

    def __init__(self, path: Path, clock: Clock, network: Network, relay: RelayHouse, policy: Policy) -> None:
        self.path, self._clock, self._network, self._relay, self._policy = path, clock, network, relay, policy
        self.life = Life()
        self.life.over = True
        self._tasks: list[asyncio.Task[None]] = []
        self.leaving: Callable[[Ticket], object] = lambda ticket: None  # hears of each order that leaves

    @property
    def alive(self) -> bool:
        return not self.life.over

    def start(self) -> None:
        """Begin a life: open the journal, connect, poll, tick."""
        clock, self.life = self._clock, Life()
        self._network.opened = self._mind
        self.journal: MortalJournal = MortalJournal.open(self.path, clock)
        self.journal.life = self.life
        self.journal._db.execute("PRAGMA synchronous = OFF")
        self.tws = HeardTws(clock, self.leaving)
        account = self.journal.account() or ""
        self.desk = Desk(self.journal, self.tws, clock, self._policy, account, CLIENT_ID, lambda why: None)
        self.supervisor = Supervisor(self.tws, self.desk, clock, AccountRules(), CLIENT_ID, self._address)
        self.desk.gate.want_snapshot = self.supervisor.want_snapshot
        client = RelayClient(URL, Secret(TOKEN), Secret(SIGNING), clock, consumer="simulated")
        client._session.mount(URL, InProcess(self._relay))
        self.intake = Poller(client, self.desk, clock, lambda: self.supervisor.refused)
        self.sleep_watch = SleepWatch(clock)
        works: list[Callable[[], object]] = [self.supervisor.run, self._poll, self._tick]
        self._tasks = [asyncio.ensure_future(self._guard(work)) for work in works]

    async def _guard(self, work: Callable[[], object]) -> None:
        try:
            await work()  # type: ignore[misc]
        except Killed:
            return

    async def _address(self) -> tuple[str, int]:
        return "tws.test", 7497

    async def _poll(self) -> None:
        while True:
            pause = await self.intake.turn()
            if pause > 0:
                await asyncio.sleep(pause)

    async def _tick(self) -> None:
        while True:
            if slept := self.sleep_watch.look():
                self.desk.clock_doubted(slept)
                self.supervisor.drop(f"{slept}; reconnecting")
            self.desk.tick()
            await asyncio.sleep(TICK_SECONDS)

    def _mind(self, pipe: Pipe) -> None:
        """Put a boundary before and after each write to TWS."""
        life = self.life
        pipe.before_write = lambda: life.boundary("before a write to TWS")
        pipe.after_write = lambda: life.boundary("after a write to TWS")

    def kill(self) -> None:
        """End this life: what was written to the network still arrives, nothing else is done."""
        self.life.over = True
        for task in self._tasks:
            task.cancel()
        for pipe in list(self._network.pipes):
            pipe.close()
        self.journal._db.close()
