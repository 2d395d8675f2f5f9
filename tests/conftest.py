"""What every test may use: free ports, and waiting for a condition with a deadline."""

from __future__ import annotations

import gc
import os
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import pytest

# No plugin of these is used; looking for them takes every worker and every program of ours time.
os.environ |= {"HYPOTHESIS_NO_PLUGINS": "1", "PYDANTIC_DISABLE_PLUGINS": "1"}
from hypothesis import settings

from tests.canary import (  # noqa: F401 what pytest looks for in this file
    _answers_are_kept,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

T = TypeVar("T")

# An example that takes long says something about the machine, and nothing about the law.
settings.register_profile("whatever the machine does", deadline=None)
settings.load_profile("whatever the machine does")


LONG = {
    "test_crash.py",
    "test_ib_async.py",
    "test_sessions.py",
}  # tests of ten seconds: none is to be waited for at the end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is there before the tests out of every later search for garbage: it is much, and it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _no_relay_is_left() -> Iterator[None]:
    """End the relays of tests that failed before they could."""
    yield
    if process := sys.modules.get("tests.relay.process"):
        process.end_all()


@pytest.fixture(scope="session", autouse=True)
def _rules_are_compiled_once() -> Iterator[None]:
    """Compile what builds the addresses of a URL rule once: hundreds of tests make an application of the same rules."""
    from werkzeug.routing import Rule

    compiled: dict[object, Callable[..., object]] = {}
    compile_builder = Rule._compile_builder

    def once(rule: Rule, append_unknown: bool = True) -> Callable[..., object]:
        if rule.defaults:  # they become part of it
            return compile_builder(rule, append_unknown)
        key = (rule.rule, tuple(rule._trace), append_unknown)
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", once)
        yield


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that names a loopback port nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture
def eventually() -> Callable[..., object]:
    """Return a function that asks until the answer is true, and returns it; it fails after `seconds`."""

    def ask(condition: Callable[[], T], seconds: float = 30, every: float = 0.02) -> T:
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"not true within {seconds} s: {getattr(condition, '__name__', condition)}")
            time.sleep(every)
        return answer

    return ask
