"""The paper TWS as a server: sockets and a timer around the gateway; nothing here decides anything about orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from executor.paper.exchange import Exchange
from executor.paper.gateway import Gateway, OnMessage
from executor.paper.orders import Order
from executor.paper.session import Session

TICK_SECONDS = 0.05
LOOPBACK = "127.0.0.1"
MOST_UNREAD = 16 << 20  # bytes that a client may leave unread


class PaperServer:
    """A paper TWS, with sockets (`start`) or without (`attach`, then call `tick` yourself).

    `on_message` is called with direction (in, out), kind (placeOrder, openOrder …) and the running number of
    that direction, after each message was handled or written.
    """

    def __init__(self, exchange: Exchange, *, on_message: OnMessage | None = None) -> None:
        self.exchange = exchange
        self.gateway = Gateway(exchange)
        self.owner = self.gateway.owner
        self.port = 0
        self.stopping: Callable[[], None] = lambda: None  # what the control port's `stop` does
        self.failure = ""  # why it had to end
        self._host = LOOPBACK
        self._listener: asyncio.Server | None = None
        self._timer: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        if on_message:
            self.gateway.hooks.append(on_message)

    # -- without sockets --------------------------------------------------------------------------------------

    def attach(self, write: Callable[[bytes], None], on_close: Callable[[], None] = lambda: None) -> Session:
        """Connect a client by functions: what is for it goes to `write`, `.receive(bytes)` and `.close()` are its side.

        Raises:
            ConnectionRefusedError: TWS is down, as it is while it restarts.
        """
        return self.gateway.attach(write, on_close)

    def tick(self) -> None:
        """Do what is due by the clock."""
        self.gateway.tick()

    def fault(self, name: str, /, **params: Any) -> None:
        """Arm a knob; see `faults` for their names. Raises KnobError for an unknown one."""
        self.exchange.floor.faults.arm(name, **params)

    # -- sockets ----------------------------------------------------------------------------------------------

    async def start(self, host: str = LOOPBACK, port: int = 0) -> None:
        """Listen (port 0: a free one, then in `.port`) and keep time by a timer.

        Raises:
            OSError: The port is taken.
        """
        self._host, self.port = host, port
        await self._listen()
        self._timer = asyncio.create_task(self._keep_time())

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), self._host, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        self.gateway.accepting = True

    async def _keep_time(self) -> None:
        while not self.failure:
            await asyncio.sleep(TICK_SECONDS)
            self.attempt(self.tick)

    def attempt(self, act: Callable[[], None]) -> None:
        """Do something; if that is impossible, as with a full disk, cut all clients and end, for nothing may be told.

        Every exception ends the server, also one that nobody thought of: half a turn is no state to go on from.
        """
        try:
            act()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            self.gateway.accepting = False
            for session in list(self.gateway.sessions):
                session.abandon()
            self.stopping()

    async def stop(self) -> None:
        """Close everything; the state is saved already."""
        for task in (self._timer, self._opening):
            if task:
                task.cancel()
        self.gateway.close_all()
        if self._listener:
            self._listener.close()
        await asyncio.sleep(0)
        self.exchange.close()

    # -- restarts ---------------------------------------------------------------------------------------------

    def restart(
        self, down_seconds: float = 0.0, *, lose_last_n: int = 0, rollback_ids: bool | int = False
    ) -> list[Order]:
        """Restart TWS: all clients cut, the port shut for a while, what lived in TWS only forgotten."""
        self.gateway.accepting = False
        self.gateway.close_all()
        self.gateway.forget_events()
        if self._listener:
            self._listener.close()
        lost = self.exchange.restart(lose_last_n=lose_last_n, rollback_ids=rollback_ids)
        self.exchange.floor.after(down_seconds, self._reopen)
        return lost

    def _reopen(self) -> None:
        if self._timer:
            self._opening = asyncio.get_running_loop().create_task(self._listen())
        else:
            self.gateway.accepting = True


class _Connection(asyncio.Protocol):
    """One TCP connection, handed to the gateway."""

    def __init__(self, server: PaperServer) -> None:
        self._server = server
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=MOST_UNREAD)
        try:
            self._session = self._server.attach(transport.write, transport.close)
        except ConnectionRefusedError:
            transport.abort()

    def pause_writing(self) -> None:
        """Cut a client that does not read what it asked for."""
        self._server.gateway.note(f"closed a connection: {MOST_UNREAD} bytes wait unread")
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        session = self._session
        if session:
            self._server.attempt(lambda: session.receive(data))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._session:
            self._server.attempt(self._session.close)
