"""Connecting, and every way in which a connection is not what it seems."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from common.clock import SystemClock
from common.errors import BrokerUnavailable
from executor.core.ports import Contract
from executor.tws.client import ClientIdInUse, Tws
from tests.wire.harness import ACCOUNT, HOST, Ear, between, client, on_loop, paper, ticket, until


@contextlib.asynccontextmanager
async def server_that(does: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[int]:
    """Something on a port that is no TWS; what it does with a connection is given."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        does(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, HOST, 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


async def refused_by(port: int, timeout: float = 0.4) -> str:
    tws = Tws(SystemClock())
    with pytest.raises(BrokerUnavailable) as caught:
        await tws.connect(HOST, port, 1, timeout)
    assert not tws.connected
    return str(caught.value)


@on_loop
async def test_connect_tells_account_floor_and_zone() -> None:
    async with paper() as server:
        server.exchange.floor.book.marks[1] = 41
        async with client(server) as (tws, _):
            assert tws.connected and tws.accounts == (ACCOUNT,) and tws.order_id_floor() == 41
            assert tws.wire.zone.utcoffset(None) is not None


@on_loop
async def test_nobody_listens_is_said_with_the_remedy(free_port: Callable[[], int]) -> None:
    """And not after the hour that TWS is given here to answer."""
    assert "start TWS or IB Gateway and log in, switch its API on" in await refused_by(free_port(), timeout=3600)


@on_loop
async def test_silent_login_is_given_up() -> None:
    async with paper() as server:
        server.fault("silent_login")
        assert "did not answer as TWS within 0.4 s" in await refused_by(server.port)


@on_loop
async def test_connection_closed_at_once_is_said() -> None:
    async with server_that(lambda writer: writer.close()) as port:
        assert "closed the connection at once" in await refused_by(port, timeout=3600)


@pytest.mark.parametrize(
    "bytes_", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\5abcd\0", b"\0\0\0\4x\0y\0", b"\xff" * 400]
)
@on_loop
async def test_what_is_no_tws_is_no_connection(bytes_: bytes) -> None:
    async with server_that(lambda writer: writer.write(bytes_)) as port:
        assert str(port) in await refused_by(port)


test_what_is_no_tws_is_no_connection.__wrapped__.complaints = ("protocol.data_received",)  # type: ignore[attr-defined]


@on_loop
async def test_326_is_client_id_in_use_and_frees_itself() -> None:
    async with paper() as server:
        async with client(server):
            second = Tws(SystemClock())
            with pytest.raises(ClientIdInUse, match="already in use"):
                await second.connect(HOST, server.port, 1, timeout=3600)
        await second.connect(HOST, server.port, 1)
        second.disconnect()


@on_loop
async def test_frozen_tws_does_not_answer_the_probe() -> None:
    async with paper() as server, client(server) as (tws, _):
        await tws.probe(50)
        server.gateway.freeze()
        with pytest.raises(BrokerUnavailable, match="may be frozen"):
            await tws.probe(0.2)
        assert tws.connected  # the socket is up all the same


@on_loop
async def test_cut_is_noticed_and_nothing_is_sent_into_the_void() -> None:
    async with paper() as server, client(server) as (tws, _):
        lost = asyncio.ensure_future(tws.lost())
        server.gateway.close_all()
        assert "closed" in await lost
        assert tws.price(1) is None and tws.order_id_floor() == 1
        for send in (lambda: tws.send(ticket(1)), lambda: tws.cancel(1)):
            with pytest.raises(BrokerUnavailable):
                send()
        with pytest.raises(BrokerUnavailable):
            await tws.snapshot()
        assert server.exchange.floor.book.orders == {}


@on_loop
async def test_transport_that_is_gone_raises_at_once() -> None:
    """The library's own sendMsg does nothing when its transport is gone."""
    async with paper() as server, client(server) as (tws, _):
        tws._client.conn.transport.abort()
        with pytest.raises(BrokerUnavailable):
            tws.send(ticket(1))


def writes(tws: Tws) -> list[bytes]:
    """Return what is written to the connection from now on, one entry for each write."""
    written, transport = [], tws._client.conn.transport
    tws._client.conn.transport = Recording(transport, written)
    return written


class Recording:
    def __init__(self, transport: asyncio.Transport, written: list[bytes]) -> None:
        self._transport, self._written = transport, written

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


@on_loop
async def test_what_is_sent_together_leaves_in_one_write() -> None:
    """Each write wakes TWS: on a busy computer it took the core before the next order was written."""
    async with paper() as server, client(server) as (tws, _):
        written, book = writes(tws), server.exchange.floor.book
        with tws.together(), tws.together():
            for order_id in (1, 2, 3):
                tws.send(ticket(order_id))
            assert not written
        assert len(written) == 1
        await until(lambda: [one.order_id for one in book.orders.values()] == [1, 2, 3])
        tws.send(ticket(4))
        assert len(written) == 2


@on_loop
async def test_what_was_sent_together_leaves_whatever_ends_it() -> None:
    async with paper() as server, client(server) as (tws, _):
        written = writes(tws)
        with pytest.raises(ValueError, match="a bug"), tws.together():
            tws.send(ticket(1))
            raise ValueError("a bug")
        assert len(written) == 1
        with tws.together():
            tws.send(ticket(2))
            tws.disconnect()
        assert not tws.connected and 2 not in [one.order_id for one in server.exchange.floor.book.orders.values()]
        with tws.together():
            pass


@on_loop
async def test_waiting_request_ends_with_the_connection() -> None:
    async with paper() as server, client(server) as (tws, _):
        server.gateway.freeze()
        waiting = asyncio.ensure_future(tws.probe(50))
        await asyncio.sleep(0.05)
        tws.disconnect()
        with pytest.raises(BrokerUnavailable):
            await waiting


@on_loop
async def test_asking_without_a_connection_is_broker_unavailable() -> None:
    """A lookup goes on after its connection ended: anything else than this would end it for ever."""
    tws = Tws(SystemClock())
    with pytest.raises(BrokerUnavailable):
        tws.watch(Contract(5, "AAPL", "STK", "AAPL", "USD", "SMART"))
    with pytest.raises(BrokerUnavailable):
        await tws.market_rule(26)


@on_loop
async def test_reconnect_starts_with_nothing_of_before() -> None:
    async with paper() as server:
        tws, ear = Tws(SystemClock()), Ear()
        for _ in range(3):
            await tws.connect(HOST, server.port, 1)
            tws.use_account(ACCOUNT, ear)  # type: ignore[arg-type]
            await tws.snapshot()
        assert len(server.gateway.sessions) == 1
        tws.disconnect()
        await until(lambda: not server.gateway.sessions)


@on_loop
async def test_link_lost_before_anybody_listened_is_told() -> None:
    async with paper() as server:
        tws, ear = Tws(SystemClock()), Ear()
        await tws.connect(HOST, server.port, 1)
        server.exchange.lose_connection()
        await tws.probe()
        assert ear.heard == []
        tws.use_account(ACCOUNT, ear)  # type: ignore[arg-type]
        assert [state for state, _ in ear.all("connectivity")] == ["lost"]
        server.exchange.restore_connection(1102)
        await until(lambda: len(ear.all("connectivity")) == 2)
        assert ear.all("connectivity")[1][0] == "restored" and tws.wire.link_lost == ""
        tws.disconnect()


@on_loop
async def test_message_that_cannot_be_read_is_told_and_the_next_is_heard() -> None:
    def damage(frame: list[str]) -> list[list[str]]:
        return [["49", "1", "not a number"], ["9999", "what"], ["x"], frame] if frame[0] == "49" else [frame]

    async with paper() as server, between(server, damage) as port, client(port) as (tws, _):
        troubles: list[bool] = []
        tws.wire.on_trouble = lambda error, text, ours: troubles.append(ours)
        await tws.probe()
        assert troubles == [False]


@on_loop
async def test_error_of_the_listener_is_told_as_ours_and_the_next_fact_is_heard() -> None:
    """The library's decoder writes a traceback into the log and goes on."""
    async with paper() as server, client(server) as (tws, ear):
        troubles: list[tuple[str, bool]] = []
        tws.wire.on_trouble = lambda error, text, ours: troubles.append((repr(error), ours))

        def fail(report: object) -> None:
            raise KeyError("a bug")

        ear.on_order = fail  # type: ignore[attr-defined]
        tws.send(ticket(1))
        await until(lambda: ear.all("fill"))
        assert set(troubles) == {("KeyError('a bug')", True)}
