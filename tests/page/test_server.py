"""The page on its real server: buttons and readers do not block each other, and it starts and ends cleanly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from common.errors import ConfigError
from executor.status import PageServer, serve
from executor.status.server import MOST_CONNECTIONS


@pytest.fixture
def server(busy) -> Iterator[PageServer]:
    server = serve(busy.app(), "127.0.0.1", 0)
    yield server
    server.close()


def ask(server: PageServer, path: str = "/", **more: object) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{server.port}{path}", timeout=30, **more)


def test_a_taken_port_is_one_clear_mistake(busy, server):
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{server.port} .*--flask-port"):
        serve(busy.app(), "127.0.0.1", server.port)


def test_closing_ends_the_threads_and_frees_the_port(busy):
    before = set(threading.enumerate())
    server = serve(busy.app(), "127.0.0.1", 0)
    with requests.Session() as session:
        session.get(f"http://127.0.0.1:{server.port}/", timeout=30)
        server.close()
    assert [thread for thread in set(threading.enumerate()) - before if thread.is_alive()] == []
    serve(busy.app(), "127.0.0.1", server.port).close()


def test_a_name_will_do_as_well_as_an_address(busy):
    server = serve(busy.app(), "localhost", 0)
    assert ask(server, "/healthz").status_code == 200
    server.close()


def test_readers_are_served_while_a_button_waits(busy, server, csrf):
    answered = threading.Event()
    busy.desk.submit = lambda command: answered.wait(50) and "done"
    server._app.extensions["page"].submit = busy.desk.submit
    token = csrf(server._app.test_client())
    with ThreadPoolExecutor() as pool:
        url = f"http://127.0.0.1:{server.port}/trades/4/close"
        waiting = pool.submit(
            requests.post, url, data={"csrf_token": token, "confirm": "yes", "step": "do"}, timeout=50
        )
        for _ in range(20):
            assert ask(server).status_code == 200
        assert not waiting.done()
        answered.set()
        assert waiting.result().status_code == 200


def test_a_button_gets_through_a_crowd_of_readers(busy, server, csrf, eventually):
    """It takes its turn: no reader is answered much more often than once while it waits."""
    token, stop, answered = csrf(server._app.test_client()), threading.Event(), [0] * 12

    def read(reader: int) -> None:
        with requests.Session() as session:
            while not stop.is_set():
                session.get(f"http://127.0.0.1:{server.port}/", timeout=30)
                answered[reader] += 1

    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(read, reader) for reader in range(12)]
        eventually(lambda: all(answered))
        before = sum(answered)
        url = f"http://127.0.0.1:{server.port}/trades/4/close"
        answer = requests.post(url, data={"csrf_token": token, "confirm": "yes", "step": "do"}, timeout=30)
        meanwhile = sum(answered) - before
        stop.set()
    assert answer.status_code == 200 and len(busy.desk.commands) == 1
    assert meanwhile < 12 * 10
    assert [reader.exception() for reader in readers] == [None] * 12


def test_silent_connections_keep_nobody_out(server):
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for connection in silent:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: lo")
    assert ask(server).status_code == 200
    for connection in silent:
        connection.close()


STRANGERS = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: lo",
    "half a body": b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\ntoken=",
    "an answer that nobody reads": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", STRANGERS.values(), ids=STRANGERS.keys())
def test_no_number_of_strangers_keeps_the_owner_out(server, data):
    """More than may be open at once; each new one, and the owner, takes the place of the one silent for longest."""
    strangers = []
    for _ in range(MOST_CONNECTIONS + 100):
        strangers.append(socket.create_connection(("127.0.0.1", server.port)))
        strangers[-1].sendall(data)
    for _ in range(5):
        assert ask(server).status_code == 200
    assert len(server._server.active_channels) <= MOST_CONNECTIONS + 1
    for connection in strangers:
        connection.close()


def test_connection_that_is_being_answered_is_not_dropped(busy, server, csrf):
    """A button waits for the trading loop, and says nothing meanwhile."""
    pressed, answered = threading.Event(), threading.Event()

    def submit(command):
        pressed.set()
        return answered.wait(20) and "done"

    server._app.extensions["page"].submit = submit
    token, url = csrf(server._app.test_client()), f"http://127.0.0.1:{server.port}/trades/4/close"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(
            requests.post, url, data={"csrf_token": token, "confirm": "yes", "step": "do"}, timeout=30
        )
        assert pressed.wait(10)
        strangers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MOST_CONNECTIONS + 20)]
        assert ask(server).status_code == 200
        answered.set()
        assert waiting.result().status_code == 200
    for connection in strangers:
        connection.close()


@pytest.mark.parametrize("raw", [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /trades/4/close HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n",
])  # fmt: skip
def test_odd_requests_get_no_page(server, raw):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert b"DU1234567" not in answer
    assert b"Traceback" not in answer


def test_forwarding_headers_of_strangers_count_for_nothing(server):
    answer = ask(
        server, headers={"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1", "Forwarded": "host=localhost"}
    )
    assert answer.status_code == 421
