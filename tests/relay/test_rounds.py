"""Work that comes together is begun together, and no work of one request takes another's outcome with it."""

from __future__ import annotations

import asyncio
from typing import Any

from relay.asgi import Rounds
from relay.pending.base import Told


def fails(told: Told) -> None:
    raise RuntimeError("can't start new thread")


def tells(told: Told) -> None:
    told("stored")


def test_work_that_cannot_begin_tells_its_error_and_the_others_go_on() -> None:
    async def scenario() -> list[Any]:
        rounds = Rounds()
        gone = asyncio.create_task(rounds.wait(fails))
        others = [asyncio.create_task(rounds.wait(call)) for call in (fails, tells)]
        asyncio.get_running_loop().call_soon(gone.cancel)  # before the round's work begins
        return await asyncio.wait_for(asyncio.gather(gone, *others, return_exceptions=True), 5)

    cancelled, error, outcome = asyncio.run(scenario())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(error, RuntimeError) and outcome == "stored"
