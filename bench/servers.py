"""The servers that are measured, each a process of its own on loopback, as they are run in earnest."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from deploy.local import HOST, accepts, answers, child_environment, end_with_parent, free_port, fresh_secrets

SECRETS = fresh_secrets()
SECRET = SECRETS["RELAY_WEBHOOK_SECRETS"]


class Server:
    """One server process and the port it answers on."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def cpu(self) -> float:
        """Return the seconds of CPU that the process and its children have used."""
        whole = psutil.Process(self.process.pid)
        return float(sum(sum(one.cpu_times()[:2]) for one in [whole, *whole.children(recursive=True)]))

    def memory(self) -> float:
        """Return the proportional set size of the process and its children, in MiB."""
        whole = psutil.Process(self.process.pid)
        every = [whole, *whole.children(recursive=True)]
        return float(sum(one.memory_full_info().pss for one in every)) / 2**20


def spawn(arguments: list[str], folder: Path, log: str) -> subprocess.Popen[bytes]:
    """Start a module of ours in a folder, its output in a file there; on Linux it ends with the thread that starts it."""
    with open(folder / log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=child_environment(SECRETS),
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


@contextlib.contextmanager
def running(arguments: list[str], folder: Path, port: int, log: str = "server.log") -> Iterator[Server]:
    """Run a module that listens on the port, until the block ends."""
    process = spawn(arguments, folder, log)
    try:
        wait_until(lambda: accepts(port), process, folder / log)
        yield Server(process, port)
    finally:
        stop(process)


def wait_until(ready: object, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until `ready()` is true; a process that ends before that is an error with its output."""
    assert callable(ready)
    for _ in range(3000):
        if ready():
            return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise RuntimeError(f"the server did not start:\n{tail(log)}")


def tail(log: Path) -> str:
    """Return the last lines that a server wrote."""
    return log.read_text("utf-8", "replace")[-2000:]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def relay(folder: Path, queue_url: str = "sqlite:///pending.db") -> Iterator[Server]:
    """Run the relay over a queue, ready to accept."""
    port = free_port()
    arguments = ["relay", "--host", HOST, "--port", str(port), "--queue-url", queue_url]
    with running(arguments, folder, port, "relay.log") as server:
        wait_until(lambda: answers(f"http://{HOST}:{port}/readyz"), server.process, folder / "relay.log")
        yield server


@contextlib.contextmanager
def bare_echo(folder: Path) -> Iterator[Server]:
    """Run the bare Flask echo."""
    port = free_port()
    with running(["bench.bare_echo", str(port)], folder, port, "echo.log") as server:
        yield server


__all__ = ["HOST", "SECRET", "SECRETS", "Server", "bare_echo", "free_port", "relay", "running", "spawn", "stop", "tail"]
