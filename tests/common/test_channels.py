"""One channel that hangs keeps the owner from hearing nothing."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from common import channels
from common.channels import Channels
from common.secret import Secret

# One of the channels that Apprise knows imports it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def hanging() -> Iterator[str]:
    """Return a channel that takes the connection and does not answer; it is given up after a minute."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"json://127.0.0.1:{listener.getsockname()[1]}/?rto=60"


@pytest.fixture
def working() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_the_others_are_told_while_one_hangs(hanging: str, working: str) -> None:
    began = time.monotonic()
    assert Channels(Secret(f"{hanging}, {working}"), "X").send("title", "text", failure=True)
    assert time.monotonic() - began < 30


def test_hanging_channels_are_not_waited_for(hanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SEND_SECONDS", 0.1)
    began = time.monotonic()
    assert not Channels(Secret(f"{hanging}, {hanging}"), "X").send("title", "text", failure=True)
    assert time.monotonic() - began < 30
