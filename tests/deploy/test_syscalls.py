"""The service's system call filter, compared with what the relay really calls: too tight a one shows on a server only."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deploy.vps.__main__ import HERE
from tests.deploy.machine import unprivileged
from tests.relay.examples import AUTH, EXECUTOR
from tests.relay.process import ROOT, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("strace") and shutil.which("systemd-analyze")) or unprivileged()[1] == "root",
        reason="needs strace, systemd-analyze, and a user who is not root",
    ),
]


def members(name: str) -> set[str]:
    """Return the system calls of one of systemd's sets."""
    done = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    words = [line.strip() for line in done.stdout.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    sets = [members(word) for word in words if word.startswith("@")]
    return {word for word in words if not word.startswith("@")}.union(*sets)


def allowed() -> set[str]:
    """Return what the unit's lines allow, in their order."""
    found: set[str] = set()
    for line in (HERE / "signal-relay.service").read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.partition("=")[2]
            named = set().union(*map(members, words.lstrip("~").split()))
            found = found - named if words.startswith("~") else found | named
    return found


def test_the_filter_allows_all_that_the_relay_calls(
    free_port: Callable[[], int], eventually: Callable[..., object]
) -> None:
    python, user = unprivileged()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        trace = Path(folder, "trace")
        more = {"RELAY_ALARM_URLS": "json://127.0.0.1:1/x", "RELAY_EXECUTOR_SILENT_SECONDS": "15"}
        path = f"{ROOT}{os.pathsep}{sysconfig.get_path('purelib')}"
        command = [
            "strace",
            "-f",
            "-qq",
            "-e",
            "signal=none",
            "-o",
            str(trace),
            python,
            "-m",
            "relay",
            "--port",
            str(port),
        ]
        with open(Path(folder, "log"), "wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, env={**environment(**more), "PYTHONPATH": path}, stderr=log,
                **({"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}),
            )  # fmt: skip
        eventually(lambda: ready(url), seconds=30)
        for number in range(3):
            alert = {"action": "close", "symbol": "AAPL", "id": str(number)}
            assert requests.post(f"{url}/webhook", json=alert, headers=AUTH, timeout=60).status_code == 202
        assert requests.post(f"{url}/v1/lease", json={"wait_seconds": 1}, headers=EXECUTOR, timeout=60).ok
        assert requests.get(f"{url}/metrics", headers=EXECUTOR, timeout=60).ok
        eventually(lambda: "alarm_not_delivered" in Path(folder, "log").read_text(), seconds=30)
        [relay] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(relay), 15)
        assert process.wait(50) == 0
        called = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", trace.read_text(), re.MULTILINE))
    assert {"fdatasync", "accept4", "openat"} <= called
    assert called - allowed() == set()


def ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=30).status_code == 200
    except requests.RequestException:
        return False
