"""Runs `async def` tests in a fresh event loop on virtual time, with a connected house where they ask for one."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

from executor.tws import connection

from .harness import House


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "house(**options): how the house of this test is built")


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Return a house that is not started yet; its loop starts it. Only the pauses of connecting are shortened."""
    monkeypatch.setattr(connection, "_FIRST_PAUSES", (0.2,) * 6)
    monkeypatch.setattr(connection, "_LATER_PAUSES", (0.1,) * 6)
    monkeypatch.setattr(connection, "_SNAPSHOT_GAP", 0.2)
    monkeypatch.setattr(connection, "SETTLE_SECONDS", 0.2)
    marker = request.node.get_closest_marker("house")
    return House(tmp_path, **(marker.kwargs if marker else {}))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    with asyncio.Runner(loop_factory=arguments["house"].loop) as runner:
        runner.run(_in_its_house(pyfuncitem.obj, arguments))
    asyncio.set_event_loop(None)
    return True


async def _in_its_house(test: Any, arguments: dict[str, Any]) -> None:
    async with arguments["house"]:
        await test(**arguments)
