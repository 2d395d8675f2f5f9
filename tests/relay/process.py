"""The real relay as its own process, and raw sockets to talk to it."""

from __future__ import annotations

import json
import os
import re
import signal as signals
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.relay.examples import AUTH, ENVIRONMENT, EXECUTOR

ROOT = Path(__file__).parents[2]
_LISTENING = re.compile(r"relay_listening .*port=(\d+)")


def environment(**more: str) -> dict[str, str]:
    """Return an environment for a relay's process: nothing of ours but what is said here."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_") and name != "PORT"}
    return {**known, "PYTHONPATH": str(ROOT), **ENVIRONMENT, **more}


def run_command(directory: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one of the relay's commands to its end."""
    command = [sys.executable, "-m", "relay", *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )


_started: list[subprocess.Popen[str]] = []


def end_all() -> None:
    """End every relay that was started by this process and runs still."""
    for each in _started:
        if each.poll() is None:
            each.terminate()


# A program that takes limits upon itself and becomes another one; a function in the child would warn of threads.
_LIMITED = """
import os, resource, sys
for limit in sys.argv[1].split():
    name, soft, hard = map(int, limit.split(","))
    resource.setrlimit(name, (soft, hard))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def limited(limits: Mapping[int, tuple[int, int]], *arguments: str) -> list[str]:
    """Return the command of a Python program under limits of the system: resource.RLIMIT_… -> (soft, hard)."""
    told = " ".join(f"{name},{soft},{hard}" for name, (soft, hard) in limits.items())
    return [sys.executable, "-c", _LIMITED, told, *arguments]


# A relay with other times than its own. The ones that others are made of come first.
_TIMED = """
import importlib, sys
for place, _, seconds in (each.partition("=") for each in sys.argv[1].split()):
    module, _, name = place.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), (int, float)), place
    setattr(sys.modules[module], name, float(seconds))
del sys.argv[1]
from relay.__main__ import main
main(prog_name="python -m relay")
"""
FOREVER = 600.0  # no test waits so long
# Who waits for a client, for a lost wake-up or for its turn at the database waits for ever, so that a test tells
# waiting from working whatever else the machine does.
PATIENT = {
    "relay.pending.base.PUT_SECONDS": FOREVER,
    "relay.pending.bell.RECHECK_SECONDS": FOREVER,
    "relay.connections.ARRIVE_SECONDS": FOREVER,
    "relay.connections.SEND_SECONDS": FOREVER,
    "relay.server.PREPARE_SECONDS": FOREVER,  # Flask is imported when somebody asks for it, or not at all
}


def program(seconds: Mapping[str, float] | None) -> list[str]:
    """Return how Python is told to run a relay; `seconds`: a constant's full name -> its value in place of its own."""
    if not seconds:
        return ["-m", "relay"]
    return ["-c", _TIMED, " ".join(f"{place}={value}" for place, value in seconds.items())]


class RelayProcess:
    """`python -m relay` on a free port, in a directory of its own.

    `limits`: what the system lets it have, see `limited`. `listen_fd`: a listening socket in place of a port.
    `seconds`: see `program`.
    """

    def __init__(
        self,
        directory: Path,
        *flags: str,
        limits: Mapping[int, tuple[int, int]] | None = None,
        listen_fd: int | None = None,
        seconds: Mapping[str, float] | None = None,
        **more: str,
    ) -> None:
        if listen_fd is not None:
            flags = (*flags, "--listen-fd", str(listen_fd))
        self.directory = directory
        directory.mkdir(exist_ok=True)
        words = [*program(seconds), "--port", "0", *flags]
        self.process = subprocess.Popen(
            limited(limits, *words) if limits else [sys.executable, *words],
            cwd=directory,
            env=environment(**more),
            pass_fds=() if listen_fd is None else (listen_fd,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        _started.append(self.process)
        self.lines: list[str] = []
        self._kept = (directory / "relay.log").open("a", encoding="utf-8")  # searched for secrets: tests/canary.py
        self._ready = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(50) and self.port, "\n".join(self.lines)

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            self._kept.write(line)
            found = _LISTENING.search(line)
            if found:
                self.port = int(found[1])
                self._ready.set()
        self._ready.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def post(self, path: str, fields: Any, headers: dict[str, str] = AUTH, timeout: float = 30) -> requests.Response:
        data = fields if isinstance(fields, bytes) else json.dumps(fields)
        return requests.post(self.url + path, data=data, headers=headers, timeout=timeout)

    def call(self, name: str, timeout: float = 30, **fields: Any) -> Any:
        answer = self.post(f"/v1/{name}", fields, EXECUTOR, timeout)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def poll(self, **fields: Any) -> socket.socket:
        """Send a poll that waits; return its connection when the relay has read it: it has answered what came later."""
        client = self.connect()
        token = b"Authorization: " + EXECUTOR["Authorization"].encode()
        client.sendall(http(json.dumps(fields).encode(), "/v1/lease", (token,)))
        assert status(self.raw(http(b"", "/healthz", method=b"GET", length=False))) == 200
        return client

    def computed(self) -> float:
        """Return the CPU seconds that it has used up to now."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    @contextmanager
    def computes_at_most(self, seconds: float) -> Iterator[None]:
        """Hold that the relay computes at most so long meanwhile: a busy machine makes nobody compute longer."""
        before = self.computed()
        yield
        used = self.computed() - before
        assert used <= seconds, f"it computed for {used:.2f} s, where {seconds} s are allowed"

    def raw(self, data: bytes, timeout: float = 30) -> bytes:
        """Send bytes on a connection of their own; return all that comes back until it closes or is idle."""
        with self.connect() as client:
            client.settimeout(timeout)
            client.sendall(data)
            return read_answer(client)

    def stop(self, how: int = signals.SIGTERM) -> int:
        """Stop it and return its exit code; its log is complete afterwards."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(50)
        self._reader.join(50)
        self._kept.close()
        if self.process.stderr:
            self.process.stderr.close()
        return code


def read_answer(client: socket.socket) -> bytes:
    """Return one HTTP answer, or what came before the connection closed."""
    received = b""
    try:
        while True:
            head, found, rest = received.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            if found and length and len(rest) >= int(length[1]):
                return received
            data = client.recv(65536)
            if not data:
                return received
            received += data
    except ConnectionResetError:
        return received


def answered(client: socket.socket) -> Any:
    """Return what the answer to a call says, once it is here."""
    answer = read_answer(client)
    assert status(answer) == 200, answer
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def is_waiting(client: socket.socket) -> bool:
    """True if nothing has come back on this connection that was not read, not even its end."""
    before = client.gettimeout()
    client.setblocking(False)
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        client.settimeout(before)
    return False


def status(answer: bytes) -> int:
    """Return the status of a raw answer, 0 when there was none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def http(
    data: bytes, path: str = "/webhook", headers: tuple[bytes, ...] = (), method: bytes = b"POST", length: bool = True
) -> bytes:
    """Return the bytes of a request, authenticated unless `headers` say otherwise."""
    lines = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: relay"]
    if not any(line.lower().startswith(b"authorization") for line in headers):
        lines.append(b"Authorization: " + AUTH["Authorization"].encode())
    lines += headers
    if length:
        lines.append(b"Content-Length: %d" % len(data))
    return b"\r\n".join([*lines, b"", data])
