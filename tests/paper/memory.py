"""Real ib_insync on a paper TWS without a socket: the same loop, no ports, the clock of the test."""

from __future__ import annotations

import asyncio
from typing import Any

from ib_insync import IB
from ib_insync.connection import Connection

from executor.paper.server import PaperServer


class MemoryConnection(Connection):  # type: ignore[misc]
    """ib_insync's connection, with the loop's next turn in place of the network."""

    def __init__(self, server: PaperServer) -> None:
        self._server = server
        super().__init__()

    async def connectAsync(self, host: str, port: int) -> None:
        """Attach to the server. Raises ConnectionRefusedError while it is down."""
        self.reset()
        loop = asyncio.get_running_loop()
        session = self._server.attach(
            lambda data: loop.call_soon(self._arrive, data) and None,
            lambda: loop.call_soon(self._gone, session) and None,
        )
        self.transport = _Transport(session)

    def _arrive(self, data: bytes) -> None:
        if self.transport:
            self.hasData.emit(data)

    def _gone(self, session: Any) -> None:
        if self.transport and self.transport.session is session:
            self.connection_lost(None)


class _Transport:
    def __init__(self, session: Any) -> None:
        self.session = session

    def write(self, data: bytes) -> None:
        self.session.receive(data)

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.session.close()


def in_memory(server: PaperServer, ib: IB | None = None) -> IB:
    """Return an IB whose `connectAsync` reaches this server, whatever host and port are given."""
    ib = ib or IB()
    connection = MemoryConnection(server)
    connection.hasData += ib.client._onSocketHasData
    connection.disconnected += ib.client._onSocketDisconnected
    ib.client.conn = connection
    return ib
