"""The README's commands, taken from the README and run as they stand there; only ports change."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local import secrets_of
from tests.e2e.conftest import ROOT, Run, free_port
from tests.paper.processes import Paper

pytestmark = pytest.mark.skipif(os.name != "posix", reason="on Windows the README names other commands")
README = (ROOT / "README.md").read_text("utf-8")


def commands(language: str) -> list[str]:
    """Return the lines of the README's blocks in a language."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def command(beginning: str) -> str:
    (line,) = [line for line in commands("sh") if line.startswith(beginning)]
    return line


SEND_OPEN = command(".venv/bin/python -m relay send open")
SEND_CLOSE = command(".venv/bin/python -m relay send close")
RELAY = ".venv/bin/python -m relay"
EXECUTOR = command(".venv/bin/python -m executor")


def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    """`make run` and `make demo` by test_make_run and test_demo, the others below."""
    assert commands("sh") == ["make run", "make demo", SEND_OPEN, SEND_CLOSE, RELAY, EXECUTOR]


def test_windows_commands_are_what_make_does() -> None:
    lines = [line.removeprefix(".venv\\Scripts\\python ") for line in commands("bat")]
    assert lines[1:] == ["-m pip install --require-hashes -r requirements.txt", "-m deploy.local", "-m deploy.demo"]
    make = (ROOT / "Makefile").read_text("utf-8")
    assert all(words in make for words in ("-m pip install", "--require-hashes", "-m deploy.local", "-m deploy.demo"))


def test_send_lines_open_and_close_a_trade(make_run: Callable[..., Run]) -> None:
    run = make_run().wait_ready()
    run.paste(f"RELAY_PORT={run.relay_port} {SEND_OPEN}")
    run.wait_for(lambda: [t for t in run.status()["open_trades"] if t["state"] == "open"])
    run.paste(f"RELAY_PORT={run.relay_port} {SEND_CLOSE}")
    run.wait_for(lambda: run.status()["open_trades"] == [])
    assert [s["outcome"] for s in run.status()["signals"]] == ["closed", "entered"]


@pytest.fixture
def tws() -> Iterator[Paper]:
    """A TWS that was there before us."""
    running = Paper()
    yield running
    running.end()


def test_own_tws_is_two_terminals(
    checkout: Path, tws: Paper, eventually: Callable[..., object], tmp_path: Path
) -> None:
    secrets_of(checkout / ".env")
    relay_port = str(free_port())
    ports = {"RELAY_PORT": relay_port, "EXECUTOR_IB_PORT": str(tws.port), "EXECUTOR_FLASK_PORT": str(free_port())}
    environment = {**os.environ, **ports}
    with ExitStack() as terminals, (tmp_path / "terminals.log").open("wb") as log:
        for line in (RELAY, EXECUTOR.replace("8080", relay_port)):
            terminal = subprocess.Popen(shlex.split(line), cwd=checkout, env=environment, stdout=log, stderr=log)
            terminals.callback(terminal.wait, 10)
            terminals.callback(terminal.terminate)
        eventually(lambda: _sent(SEND_OPEN, checkout, environment), 50)
        eventually(lambda: {row["orderRef"][20] for row in tws.control.orders()} == {"T", "S"}, 50)
    assert b"Traceback" not in (tmp_path / "terminals.log").read_bytes()


def _sent(line: str, folder: Path, environment: dict[str, str]) -> bool:
    """Whether the relay took it; it may still be starting."""
    return subprocess.run(shlex.split(line), cwd=folder, env=environment, capture_output=True).returncode == 0
