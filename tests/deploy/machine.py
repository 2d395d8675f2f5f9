"""A machine in a folder: what systemd would do with the units that were installed there, and senders who never rest."""

from __future__ import annotations

import ctypes
import os
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import requests

NAME = "signal-relay"
PATHS = (f"/opt/{NAME}", f"/etc/{NAME}", f"/var/lib/{NAME}")
_NO_NEW_PRIVS, _MDWE = 38, 65  # source: prctl(2)


@cache
def unprivileged() -> tuple[str, str]:
    """Return a Python, and a user who is not root and may run it; as root where there is none such: our own."""
    if os.geteuid() != 0:
        return sys.executable, pwd.getpwuid(os.geteuid()).pw_name
    version = f"python3.{sys.version_info.minor}"
    candidates = [os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"]
    for python in candidates:
        probe = [python, "-c", "import ensurepip, sqlite3, venv"]
        try:
            if subprocess.run(probe, user="nobody", cwd="/", capture_output=True, check=False).returncode == 0:
                return python, "nobody"
        except OSError:
            continue
    return sys.executable, "root"


class Machine:
    """A root folder, and in it the service and the socket as their units describe them."""

    def __init__(self, port: int, user: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        self.root.chmod(0o755)
        self.port, self.user = port, user
        self.process: subprocess.Popen[bytes] | None = None
        self.socket = socket.create_server(("127.0.0.1", port), backlog=2048)
        self.log = self.root / "journal"
        self.starts: list[str] = []  # the release of each start
        self._control = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._obey, daemon=True).start()

    @property
    def restart_command(self) -> str:
        """A command that has this machine restart the service, and ends when that is done."""
        ask = f"import socket; s = socket.create_connection(('127.0.0.1', {self._control.getsockname()[1]})); s.recv(9)"
        return shlex.join([sys.executable, "-c", ask])

    def _obey(self) -> None:
        while True:
            try:
                asking, _ = self._control.accept()
            except OSError:
                return
            with asking:
                self.restart()
                asking.sendall(b"restarted")

    def here(self, text: str) -> str:
        """Return a text with the machine's paths as they are in our folder."""
        for path in PATHS:
            text = text.replace(path, f"{self.root}{path}")
        return text

    def unit(self, kind: str) -> dict[str, list[str]]:
        """Return what a unit says: key → its values."""
        found: dict[str, list[str]] = {}
        for line in (self.root / "etc/systemd/system" / f"{NAME}.{kind}").read_text().splitlines():
            key, equal, value = line.partition("=")
            if equal and not line.startswith("#"):
                found.setdefault(key, []).append(self.here(value))
        return found

    def settings(self, unit: dict[str, list[str]]) -> dict[str, str]:
        lines = Path(unit["EnvironmentFile"][0]).read_text().splitlines()
        pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
        return {name: self.here(value) for name, _, value in pairs}

    def restart(self) -> None:
        """Do as `systemctl restart`: end the old process and wait for that, then start the new one."""
        self.stop()
        unit = self.unit("service")
        self.starts.append((self.root / "opt" / NAME / "current").resolve().name)
        [command] = unit["ExecStart"]
        number, denies_writable_code = self.socket.fileno(), unit.get("MemoryDenyWriteExecute") == ["yes"]
        assert unit["NoNewPrivileges"] == ["yes"]

        def confine() -> None:
            os.dup2(number, 3)
            os.set_inheritable(3, True)
            libc = ctypes.CDLL(None)
            libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
            if denies_writable_code:
                libc.prctl(_MDWE, 1, 0, 0, 0)  # on kernels that know it

        account = pwd.getpwnam(self.user)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                shlex.split(command), cwd=unit["WorkingDirectory"][0], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", **self.settings(unit)},
                umask=int(unit["UMask"][0], 8), close_fds=False, preexec_fn=confine,
                **({"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}),
            )  # fmt: skip

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(int(self.unit("service")["TimeoutStopSec"][0]))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        self.stop()
        self.socket.close()
        self._control.close()
        shutil.rmtree(self.root, ignore_errors=True)

    # --- what a test looks at -----------------------------------------------------------------------

    def path(self, text: str) -> Path:
        return self.root / text.lstrip("/")

    def secret(self, name: str) -> str:
        return self.path(f"/etc/{NAME}/secrets/{name}").read_text().strip()

    def mode(self, text: str) -> int:
        return stat.S_IMODE(self.path(text).stat().st_mode)

    def lease_all(self) -> list[str]:
        """Return the ids of all signals that wait, finishing each."""
        found: list[str] = []
        headers = {"Authorization": f"Bearer {self.secret('executor_tokens')}"}
        while True:
            body = {"limit": 100, "wait_seconds": 0, "lease_seconds": 30}
            url = f"http://127.0.0.1:{self.port}/v1/"
            signals = requests.post(url + "lease", json=body, headers=headers, timeout=30).json()["signals"]
            if not signals:
                return found
            acks = [{"id": each["id"], "lease": each["lease"]} for each in signals]
            requests.post(url + "ack", json={"acks": acks}, headers=headers, timeout=30)
            found += [each["id"] for each in signals]


class Senders:
    """Threads that post alerts one after the other, each on a connection of its own as TradingView does."""

    def __init__(self, machine: Machine, threads: int = 4) -> None:
        self._url = f"http://127.0.0.1:{machine.port}/webhook"
        self._headers = {"Authorization": f"Bearer {machine.secret('webhook_secrets')}"}
        self._over = threading.Event()
        self.accepted: list[str] = []
        self.others: list[str] = []  # every answer that was no 202, and every broken connection
        self._threads = [threading.Thread(target=self._send, args=(each,), daemon=True) for each in range(threads)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(40)

    def _send(self, place: int) -> None:
        count = 0
        while not self._over.wait(0.005):
            count += 1
            alert = {"action": "close", "symbol": f"SYM{place}", "id": f"{place}-{count}"}
            try:
                answer = requests.post(self._url, json=alert, headers=self._headers, timeout=30)
            except requests.RequestException as exc:
                self.others.append(type(exc).__name__)
                continue
            if answer.status_code == 202:
                self.accepted.append(answer.json()["id"])
            else:
                self.others.append(f"{answer.status_code} {answer.text[:200]}")

    def wait_for(self, more: int, eventually: Callable[..., object]) -> None:
        """Wait until so many more alerts were accepted."""
        target = len(self.accepted) + more
        eventually(lambda: len(self.accepted) >= target, seconds=50)


@contextmanager
def machine(port: int) -> Iterator[Machine]:
    """A machine whose relay will listen on this port; nothing is installed yet."""
    _, user = unprivileged()
    found = Machine(port, user)
    settings = found.path(f"/etc/{NAME}/relay.env")
    settings.parent.mkdir(parents=True)
    template = Path(__file__).parents[2] / "deploy" / "vps" / "relay.env"
    settings.write_text(template.read_text().replace("RELAY_PORT=8080", f"RELAY_PORT={port}"))
    try:
        yield found
    finally:
        found.close()
