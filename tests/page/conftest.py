"""The seed under the name `page_seed` (importable whatever else is called `tests`), and a page over it."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache

from common.clock import FakeClock
from executor.core.commands import Command
from executor.status import PageSettings, create_app

_SPEC = importlib.util.spec_from_file_location("page_seed", Path(__file__).with_name("seed.py"))
page_seed = importlib.util.module_from_spec(_SPEC)
sys.modules["page_seed"] = page_seed
_SPEC.loader.exec_module(page_seed)


class Compiled(BytecodeCache):
    """Templates that were compiled already: every test makes an app of its own, from the same files."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._known:
            bucket.bytecode_from_string(self._known[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._known[bucket.key] = bucket.bytecode_to_string()


_COMPILED = Compiled()


@dataclass
class Desk:
    """Stands where the trading loop is: keeps what it was asked, answers or raises what the test says."""

    commands: list[Command] = field(default_factory=list)
    answer: str | Exception = "the close of trade 4 is under way"

    def submit(self, command: Command) -> str:
        self.commands.append(command)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class Bench:
    """A page over a journal of its own, with everything a test may turn."""

    path: Path
    clock: FakeClock
    desk: Desk
    settings: PageSettings = PageSettings(relay_url="https://relay.example.net")
    told: list[tuple[str, str | None]] = field(default_factory=list)  # what failed, and when it was over

    def app(self, **changes: object) -> Flask:
        app = create_app(self.path, self.desk.submit, replace(self.settings, **changes), self.clock, self.tell)
        app.jinja_env.bytecode_cache = _COMPILED
        app.extensions["built_in"].bytecode_cache = _COMPILED
        return app

    def tell(self, what: str, words: str | None) -> None:
        self.told.append((what, words))

    def client(self, **changes: object) -> FlaskClient:
        return self.app(**changes).test_client()

    def seed(self) -> object:
        return page_seed.Seed(self.path, self.clock.now())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A page whose journal does not exist yet."""
    return Bench(tmp_path / "trade_state.db", FakeClock(page_seed.NOW), Desk())


@pytest.fixture(scope="session")
def morning(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a busy morning, made once."""
    path = tmp_path_factory.mktemp("seed") / "trade_state.db"
    page_seed.morning(path)
    return path.read_bytes()


@pytest.fixture
def busy(bench: Bench, morning: bytes) -> Bench:
    """A page over a busy morning."""
    bench.path.write_bytes(morning)
    return bench


@pytest.fixture
def csrf():
    """Return a function that finds the CSRF token in a page."""

    def find(client: FlaskClient) -> str:
        return re.search(r'name="csrf_token" value="([0-9a-f]+)"', client.get("/").text)[1]

    return find
