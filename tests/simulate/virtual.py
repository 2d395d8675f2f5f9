"""Virtual time: an event loop that never waits. When nothing is left to do now, its clock goes to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

SPINS = 20_000  # turns of the loop in one instant that are no accident
BUSY = 50  # so many turns take a microsecond
Opener = Callable[[Callable[[], asyncio.Protocol]], Awaitable[tuple[asyncio.Transport, asyncio.Protocol]]]


class Clock:
    """The one clock of a run, for relay, executor and paper TWS alike (common.clock.Clock)."""

    def __init__(self, start: datetime) -> None:
        self._start, self._elapsed, self._skipped = start, 0.0, 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed + self._skipped)

    def monotonic(self) -> float:
        return self._elapsed

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed += seconds

    def skip(self, seconds: float) -> None:
        """Leave out hours in which nothing happens: what waits by the loop's timers waits no longer for that."""
        self._skipped += seconds


class _NoWaiting(selectors.DefaultSelector):
    """A selector that moves the clock instead of waiting; there are no sockets to wait for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock, self._turns = clock, 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never comes")
        self._turns += 1
        if timeout > 0:
            self._clock.run(timeout)
            self._turns = 0
        elif self._turns % BUSY == 0:
            self._clock.run(1e-6)  # work takes time: a timer that is due "now" until the clock has gone on must end
        if self._turns > SPINS:
            raise RuntimeError("the loop spins: work goes on without end, and no time passes")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio on a virtual clock. Connections are opened by `network`, whatever host and port are asked for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(_NoWaiting(clock))
        self._virtual = clock
        self.network: Opener | None = None

    def time(self) -> float:
        return self._virtual.monotonic()

    async def create_connection(self, protocol_factory: Any, *args: Any, **named: Any) -> Any:
        if self.network is None:
            raise ConnectionRefusedError("nothing listens in this simulation")
        return await self.network(protocol_factory)
