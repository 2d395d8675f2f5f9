"""`make run`: relay, paper TWS and executor on this machine, on loopback, with secrets of their own.

It never connects to anything that it did not start itself: the three are started in a folder of their own
(`.run`) with an environment from which every setting of theirs was removed, so that nothing in a `.env` for
a real TWS, a public relay or an alarm channel has an effect here; the paper TWS gets a port that was free.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.request import ProxyHandler, build_opener

from common.clock import SystemClock
from common.env_file import read_env
from common.errors import ConfigError
from common.lockfile import AlreadyRunning, LockFile

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 8.0
SAMPLE = '{"secret":"%s","action":"open","symbol":"EURUSD","side":"buy","quantity":10000,"tp":1.20,"sl":1.18}'
open_url = build_opener(ProxyHandler({})).open  # loopback never goes through a proxy


class RunError(Exception):
    """Why the system cannot run, in one line with the fix."""


# --- secrets ----------------------------------------------------------------------------------------


def fresh_secrets() -> dict[str, str]:
    """Return new random secrets, by the names under which the two programs read them."""
    signing = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    token = secrets.token_urlsafe(32)
    return {
        "RELAY_WEBHOOK_SECRETS": secrets.token_urlsafe(24),
        "RELAY_SIGNING_SECRETS": signing,
        "RELAY_EXECUTOR_TOKENS": token,
        "EXECUTOR_SIGNING_SECRETS": signing,
        "EXECUTOR_RELAY_TOKEN": token,
    }


def secrets_of(env_file: Path) -> dict[str, str]:
    """Return the secrets in `.env`, which is written on first use with mode 0600, and never changed after.

    Raises:
        ConfigError: Some of its lines cannot be read; each is named.
        RunError: It lacks some of them; the text says which to add.
    """
    if not env_file.exists():
        lines = ["# Written by `make run` on first use. Keep it secret; it is never overwritten."]
        lines += [f"{name}={value}" for name, value in fresh_secrets().items()]
        with open(env_file, "x", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.write("\n".join([*lines, ""]))
    found = read_env(env_file)
    missing = [name for name in fresh_secrets() if not found.get(name)]
    if missing:
        remedy = "add them (.env.example explains how), or move the file away"
        raise RunError(f"{env_file} lacks {', '.join(missing)}; {remedy}")
    return {name: found[name] for name in fresh_secrets()}


def one_at_a_time(data: Path) -> LockFile:
    """Take the lock of a folder: two runs would share its databases, and the paper TWS's account.

    Raises:
        AlreadyRunning: Another run holds it; nothing was started or changed.
    """
    folder = data / ".run"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = LockFile(
        folder / "lock",
        taken="it is running in this folder already (Ctrl-C in its terminal ends it)",
        folder=f"{folder} must be writable",
    )
    lock.take(SystemClock())
    return lock


# --- ports ------------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def claim(port: int, user: str, name: str) -> int:
    """Return the port if it can be listened on.

    Raises:
        RunError: It is taken; the text says what to do.
    """
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            raise RunError(
                f"port {port}, for {user}, is already in use ({exc.strerror}): stop the program that uses it"
                f" (a `make run` in another terminal?), or name another: make run {name}={port + 1000}"
            ) from exc
    return port


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the parts listen, all on loopback."""

    relay: int
    page: int
    tws: int = field(default_factory=free_port)
    control: int = field(default_factory=free_port)


# --- processes --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Part:
    """One process: how it is started, and how one sees that it is ready."""

    name: str
    arguments: list[str]
    is_ready: Callable[[], bool]
    output: IO[bytes] | None = None
    process: subprocess.Popen[Any] | None = None

    def start(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start it in a process group of its own, so that Ctrl-C reaches only us and we end them in order."""
        command = [sys.executable, "-m", *self.arguments]
        start = partial(subprocess.Popen, command, cwd=folder, env=environment, stdout=self.output, stderr=self.output)
        if sys.platform == "win32":
            self.process = start(creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)
        else:
            self.process = start(process_group=0, preexec_fn=end_with_parent)

    def check_alive(self) -> None:
        """Raise RunError if the process has ended by itself."""
        if self.process is not None and (code := self.process.poll()) is not None:
            raise RunError(f"the {self.name} exited with code {code}: see its last lines above. Everything is stopped")

    def ask_to_end(self) -> None:
        """Ask the process to end, if it runs."""
        if self.process is not None and self.process.poll() is None:
            polite = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
            with contextlib.suppress(OSError):  # it ended by itself meanwhile
                self.process.send_signal(polite)

    def end(self, deadline: float) -> None:
        """Wait for the end until the deadline (monotonic seconds), then end it by force."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"the {self.name} did not stop in time and was killed", file=sys.stderr)
            self.process.kill()
            self.process.wait()


def end_with_parent() -> None:
    """On Linux, have the kernel end this child should we be killed (source: prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def child_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return this environment without anybody's settings for our programs, plus `own`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "EXECUTOR_"))}
    kept.pop("PORT", None)
    path = os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, **own, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def answers(url: str, says: Callable[[bytes], bool] = bool) -> bool:
    """True if the address answers 200 with a body that `says` accepts."""
    try:
        with open_url(url, timeout=2) as answer:
            return answer.status == 200 and says(answer.read())
    except (OSError, HTTPException, ValueError):  # nobody there yet, or somebody who answers something else
        return False


def accepts(port: int) -> bool:
    """True if somebody listens on the loopback port."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:  # nobody does
        return False
    return True


def is_connected(body: bytes) -> bool:
    """True if the page's status says that the executor is connected to its TWS."""
    return json.loads(body).get("connected") is True


def parts(ports: Ports, folder: Path, paper_options: Sequence[str], output: IO[bytes] | None) -> list[Part]:
    """Return the three in the order of starting."""
    data = folder.parent
    relay = ["relay", "--host", HOST, "--port", str(ports.relay)]
    relay += ["--queue-url", f"sqlite:///{(data / 'pending.paper.db').as_posix()}"]
    executor = ["executor", "--ib-host", HOST, "--ib-port", str(ports.tws)]
    executor += ["--flask-host", HOST, "--flask-port", str(ports.page)]
    executor += ["--relay-url", f"http://{HOST}:{ports.relay}", "--db", str(data / "trade_state.paper.db")]
    if (data / "executor.toml").exists():
        executor += ["--config", str(data / "executor.toml")]
    paper = ["executor.paper", "--port", str(ports.tws), "--control-port", str(ports.control)]
    paper += ["--state", str(folder / "paper_tws.json"), *paper_options]  # a later run finds the same broker
    page = f"http://{HOST}:{ports.page}"
    return [
        Part("paper TWS", paper, lambda: accepts(ports.control), output),
        Part("relay", relay, lambda: answers(f"http://{HOST}:{ports.relay}/readyz"), output),
        Part("executor", executor, lambda: answers(f"{page}/api/status", is_connected), output),
    ]


# --- the run ----------------------------------------------------------------------------------------


class Run:
    """The three processes, from start to end. Their databases are in `data`; they write to `output`, or here."""

    def __init__(
        self,
        ports: Ports,
        own: Mapping[str, str],
        data: Path,
        paper_options: Sequence[str] = (),
        output: IO[bytes] | None = None,
    ) -> None:
        self.ports, self.own, self.folder = ports, own, data / ".run"
        self.stopping = threading.Event()
        self.parts = parts(ports, self.folder, paper_options, output)
        self._parent = os.getppid()
        self._heeds_interrupt = under_make() and catches_interrupt(self._parent)

    def stop(self, *_: object) -> None:
        """End soon; called by signals."""
        self.stopping.set()

    def whole(self) -> None:
        """Start all, say where, watch until asked to stop or one ends; whatever happens, leave none behind.

        Raises:
            RunError: A part ended by itself or was not ready in time.
        """
        try:
            if self.start():
                self._announce()
            while not self._over():
                self._check()
        finally:
            self.end()

    def start(self) -> bool:
        """Start part after part, each when the one before is ready; False if asked to stop meanwhile."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        environment = child_environment(self.own)
        for part in self.parts:
            deadline = time.monotonic() + START_SECONDS
            part.start(self.folder, environment)
            while not part.is_ready():
                self._check()
                if time.monotonic() > deadline:
                    raise RunError(f"the {part.name} was not ready after {START_SECONDS:.0f} s: see above")
                if self._over(0.05):
                    return False
        return True

    def _check(self) -> None:
        for part in self.parts:
            part.check_alive()

    def _over(self, seconds: float = 0.2) -> bool:
        """Wait a little; whether it is time to end."""
        if self.stopping.wait(seconds):
            return True
        if not under_make():
            return False
        return os.getppid() != self._parent or (self._heeds_interrupt and not catches_interrupt(self._parent))

    def _announce(self) -> None:
        state: dict[str, Any] = {"pid": os.getpid(), "relay": self.ports.relay, "page": self.ports.page}
        state["control"] = self.ports.control
        state["journal"] = str(self.folder.parent / "trade_state.paper.db")
        new = self.folder / "state.json.new"
        new.write_text(json.dumps(state), "utf-8")
        new.replace(self.folder / "state.json")
        print(banner(self.ports, self.own["RELAY_WEBHOOK_SECRETS"].split(",")[0].strip()), flush=True)

    def end(self) -> None:
        """End all parts, in the reverse order of starting, by force where it takes too long."""
        (self.folder / "state.json").unlink(missing_ok=True)
        deadline = time.monotonic() + STOP_SECONDS
        for part in reversed(self.parts):
            part.ask_to_end()
            part.end(deadline)


def under_make() -> bool:
    """True if make started us (it says so to every recipe)."""
    return "MAKELEVEL" in os.environ and os.name == "posix"


def catches_interrupt(make: int) -> bool:
    """True if make catches SIGINT. Where it did and no longer does, it was interrupted alone and waits for us; in the
    background of a shell it never did. Where that cannot be read (not on Linux), it counts as caught.

    GNU make passes SIGTERM on to its recipes but takes for granted that SIGINT came from the terminal, which
    reaches everybody (source: GNU make, commands.c, fatal_error_signal).
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        status = Path(f"/proc/{make}/status").read_text("ascii", "replace")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if fields["Name"] in ("make", "gmake"):
            return bool(int(fields["SigCgt"], 16) >> (signal.SIGINT - 1) & 1)
    return True


def banner(ports: Ports, secret: str) -> str:
    """Return the message shown when everything is ready: where to look, and two commands to paste."""
    python = Path(sys.executable)
    shown = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
    relay = f"http://{HOST}:{ports.relay}"
    send = f"{shown} -m relay send open EURUSD buy 10000 --tp 1.20 --sl 1.18"
    send += "" if ports.relay == 8080 else f" --url {relay}"
    return "\n".join(
        [
            "",
            "  Ready: relay, paper TWS and executor run on this machine, with play money.",
            "",
            f"  The page    http://{HOST}:{ports.page}/",
            "  A trade     paste this command into another terminal:",
            "",
            f"curl -sS {relay}/webhook -d '{SAMPLE % secret}'",
            "",
            "  or, if quoting gets in the way:",
            "",
            send,
            "",
            "  A demo      make demo, in another terminal: prices move, and it tells you what to watch",
            "  Stop        Ctrl-C",
            "",
        ]
    )


def handle_signals(stop: Callable[..., None]) -> None:
    """Let every signal that means "stop" call stop."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


def port_setting(name: str, default: int) -> int:
    """Return a port from the environment (make run NAME=…), else the default.

    Raises:
        RunError: It is no port.
    """
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise RunError(f"{name} must be a port from 1 to 65535, was {text!r}")
    return int(text)


def main() -> None:
    """Run until Ctrl-C; exit 0 when stopped, 1 with one line if something is wrong."""
    try:
        lock = one_at_a_time(ROOT)
        relay = claim(port_setting("RELAY_PORT", 8080), "the relay", "RELAY_PORT")
        page = claim(port_setting("EXECUTOR_FLASK_PORT", 5001), "the page", "EXECUTOR_FLASK_PORT")
        run = Run(Ports(relay, page), secrets_of(ROOT / ".env"), ROOT)
        handle_signals(run.stop)
        run.whole()
        lock.release()
    except ConfigError as exc:
        sys.exit("\n".join(f"make run: {problem}" for problem in exc.problems))
    except (RunError, AlreadyRunning, OSError) as exc:
        sys.exit(f"make run: {exc}")
    print("Everything is stopped.")


if __name__ == "__main__":
    main()
