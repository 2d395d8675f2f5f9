"""A copy of the checkout, and `make run` in it as a person would start it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import psutil
import pytest

ROOT = Path(__file__).parents[2]
# What Python made of our code comes along: else every start in a copy would compile it anew.
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "*.db*", ".env", ".run", "build", "dist")
open_url = build_opener(ProxyHandler({})).open


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def borrow_environment(folder: Path) -> None:
    """Give the copy a `.venv` that is set up already: ours, seen through links."""
    venv, ours = folder / ".venv", Path(sys.prefix)
    venv.mkdir()
    for name in ("bin", "lib"):
        (venv / name).symlink_to(ours / name)
    shutil.copy(ours / "pyvenv.cfg", venv)
    for stamp in (".made", ".installed", ".installed-dev"):
        (venv / stamp).touch()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project, set up, without secrets or databases."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, symlinks=True)
    borrow_environment(folder)
    return folder


class Run:
    """`make run`, and what it printed."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.relay_port, self.page_port = folder, free_port(), free_port()
        ports = {"RELAY_PORT": str(self.relay_port), "EXECUTOR_FLASK_PORT": str(self.page_port)}
        given = [f"{name}={value}" for name, value in {**ports, **variables}.items()]
        self.output = folder / "run.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        with self.output.open("wb") as output:
            self.make = subprocess.Popen(
                ["make", "--no-print-directory", "run", *given],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.seen: set[psutil.Process] = set()

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def note_processes(self) -> set[psutil.Process]:
        """Remember every process that belongs to the run, so that one left behind is found."""
        with contextlib.suppress(psutil.NoSuchProcess):
            whole = psutil.Process(self.make.pid)
            self.seen |= {whole, *whole.children(recursive=True)}
        return self.seen

    def command_lines(self) -> dict[psutil.Process, list[str]]:
        """Return the arguments of every process of the run."""
        found = {}
        for process in self.note_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process] = process.cmdline()
        return found

    def wait_ready(self, seconds: float = 40) -> Run:
        """Wait for the banner's last line."""
        self.wait_for(lambda: "Ctrl-C" in self.text, seconds)
        self.note_processes()
        return self

    def wait_for(self, condition: Callable[[], Any], seconds: float = 50) -> Any:
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            if time.monotonic() > deadline or (self.make.poll() is not None and not condition()):
                pytest.fail(f"not within {seconds} s; make run said:\n{self.text[-4000:]}")
            time.sleep(0.02)
        return answer

    def line(self, beginning: str) -> str:
        """Return the printed line to paste that begins like this."""
        return next(line for line in self.text.splitlines() if line.startswith(beginning))

    def paste(self, line: str) -> str:
        """Run a line as it is in a shell in the checkout, and return what it printed."""
        done = subprocess.run(["/bin/sh", "-c", line], cwd=self.folder, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        with open_url(f"http://127.0.0.1:{self.page_port}/api/status", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def ended(self, seconds: float = 50) -> int:
        """Wait for the end and return make's exit code; nothing may be left behind."""
        code = self.make.wait(seconds)
        _, alive = psutil.wait_procs(self.seen, timeout=50)
        assert not alive, f"left behind: {alive}\n{self.text[-3000:]}"
        return code

    def kill(self) -> None:
        """Whatever a test did, leave nothing."""
        for process in self.note_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.make.wait(50)


@pytest.fixture
def make_run(checkout: Path) -> Iterator[Callable[..., Run]]:
    """Return a function that starts `make run` in the copy."""
    runs: list[Run] = []

    def start(**variables: str) -> Run:
        runs.append(Run(checkout, **variables))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


def interrupt_terminal(run: Run) -> None:
    """Ctrl-C: the terminal sends SIGINT to the whole foreground group."""
    os.killpg(run.make.pid, signal.SIGINT)


def curl_body(line: str) -> dict[str, Any]:
    """Return the JSON in a curl line."""
    match = re.search(r"-d '(\{.*\})'", line)
    assert match
    body: dict[str, Any] = json.loads(match[1])
    return body
