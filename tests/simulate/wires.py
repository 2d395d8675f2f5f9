"""The wire between executor and paper TWS: ordered bytes with a delay, both ways; it can be cut, or go dead silently."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from executor.paper.server import PaperServer

QUICK, SLOW = (0.0005, 0.02), (0.05, 1.5)  # seconds that a packet takes


class Network:
    """Opens connections to a paper TWS, and does to them what networks do."""

    def __init__(self, server: PaperServer, chance: random.Random) -> None:
        self._server, self._chance = server, chance
        self.delay = QUICK
        self.pipes: list[Pipe] = []
        self.opened: Callable[[Pipe], None] = lambda pipe: None

    async def open(
        self, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect a client. Raises ConnectionRefusedError while TWS is down."""
        await asyncio.sleep(self.latency())
        pipe = Pipe(self, protocol_factory())
        pipe.session = self._server.attach(pipe.deliver, pipe.end)
        self.pipes.append(pipe)
        self.opened(pipe)
        pipe.protocol.connection_made(pipe)
        return pipe, pipe.protocol

    def latency(self) -> float:
        return self._chance.uniform(*self.delay)

    def cut(self) -> bool:
        """Break every connection: either side hears of it; what was under way to TWS may still arrive."""
        pipes = list(self.pipes)
        for pipe in pipes:
            pipe.cut(lost=self._chance.random() < 0.5)
        return bool(pipes)

    def go_silent(self) -> bool:
        """Half-open: nothing arrives any more on either side, and nobody is told."""
        for pipe in self.pipes:
            pipe.silent = True
        return bool(self.pipes)


class Lane:
    """One direction: what is written arrives later, whole and in order."""

    def __init__(self, pipe: Pipe, arrive: Callable[[bytes], None]) -> None:
        self._pipe, self._arrive = pipe, arrive
        self._waiting: list[bytes] = []
        self._free_at = 0.0

    def put(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:  # what is written in one go travels together
            self._free_at = max(self._free_at, loop.time() + self._pipe.network.latency())
            loop.call_at(self._free_at, self._flush)
        self._waiting.append(data)

    def after(self, act: Callable[[], None]) -> None:
        """Do something behind everything that is under way."""
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time() + self._pipe.network.latency())
        loop.call_at(self._free_at, act)

    def _flush(self) -> None:
        data, self._waiting = b"".join(self._waiting), []
        if not self._pipe.silent:
            self._arrive(data)


class Pipe(asyncio.Transport):
    """The client's transport, with the server's session at its other end."""

    def __init__(self, network: Network, protocol: Any) -> None:
        super().__init__()
        self.network, self.protocol = network, protocol
        self.session: Any = None
        self.silent = False
        self.before_write: Callable[[], None] = lambda: None
        self.after_write: Callable[[], None] = lambda: None
        self._closed = False
        self._to_server = Lane(self, self._to_session)
        self._to_client = Lane(self, self._to_protocol)

    # ---- asyncio.Transport ----

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self._closed:
            return
        self.before_write()
        self._to_server.put(data)
        self.after_write()

    def write_eof(self) -> None: ...

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """The client's end: the server hears of it behind what was written before."""
        if not self._closed:
            self._leave()
            self._to_server.after(self._hang_up)

    abort = close

    # ---- the server's side ----

    def deliver(self, data: bytes) -> None:
        if not self._closed:
            self._to_client.put(data)

    def end(self) -> None:
        """The server's end."""
        if not self._closed and not self.silent:
            self._to_client.after(self._leave)

    def cut(self, lost: bool) -> None:
        """Break it for the client at once; the server hears of it at once, or behind what was under way."""
        self.silent = lost
        self._leave()
        self._to_server.after(self.session.close)

    def _to_session(self, data: bytes) -> None:
        self.session.receive(data)

    def _to_protocol(self, data: bytes) -> None:
        if not self._closed:
            self.protocol.data_received(data)

    def _hang_up(self) -> None:
        if not self.silent:
            self.session.close()
        else:  # a silent line: TWS notices by itself, later
            asyncio.get_running_loop().call_later(20, self.session.close)

    def _leave(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.network.pipes.remove(self)
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
