"""How the relay's process ends."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import server
from relay.context import Relay
from tests.relay.examples import settings

ENDING = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Leave the signals of this process as they were."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_comes_while_it_starts_ends_it(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn does not listen for signals yet; a relay that went on would be killed by its supervisor."""

    async def start(_: Relay, listener: socket.socket) -> None:
        listener.close()
        signal.raise_signal(number)

    monkeypatch.setattr(server, "_serve", start)
    monkeypatch.setattr(server, "write_in_background", lambda: None)
    with pytest.raises(SystemExit) as end:
        server.serve(settings(port=0, queue_url=f"sqlite:///{tmp_path}/pending.db"))
    assert end.value.code == 0
