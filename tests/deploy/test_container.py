"""The Dockerfile without Docker: its command and its health check run as processes, its user and its files are looked at."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import requests

from common.checkup import answers
from tests.deploy.machine import unprivileged
from tests.relay.process import environment

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the image is Linux")


@dataclass(frozen=True)
class Step:
    word: str
    rest: str


def stages() -> list[list[Step]]:
    """Return the Dockerfile's stages, each as its steps."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    steps = [Step(*line.split(None, 1)) for line in text.splitlines() if line.strip()]
    starts = [place for place, step in enumerate(steps) if step.word == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


BUILD, FINAL = stages()


def values(stage: list[Step], word: str) -> list[str]:
    return [step.rest for step in stage if step.word == word]


COMMAND: list[str] = json.loads(values(FINAL, "CMD")[0])
CHECK: list[str] = json.loads(values(FINAL, "HEALTHCHECK")[0].partition("CMD")[2])
VARIABLES = dict(pair.split("=", 1) for line in values(FINAL, "ENV") for pair in shlex.split(line))


class Container:
    """The image's command as a process, as the image's user where we are root, in a place it cannot write to."""

    def __init__(self, app: Path, disk: Path, python: str = "", **settings: str) -> None:
        own, user = unprivileged()
        self.python = python or own
        known = {**environment(**settings), **VARIABLES, "PATH": os.environ["PATH"]}
        self._environment = {**known, "PYTHONPATH": "" if python else sysconfig.get_path("purelib")}
        number = int(values(FINAL, "USER")[0].partition(":")[0])
        self._user = {"user": number, "group": number, "extra_groups": []} if user == "nobody" else {}
        if self._user:
            os.chown(disk, number, number)
        self.process = subprocess.Popen(
            [self.python, *COMMAND[1:]], cwd=app, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self._user,
        )  # fmt: skip

    def check(self) -> int:
        """Run the health check; return its exit code."""
        command = [self.python, *CHECK[1:]]
        return subprocess.run(command, env=self._environment, capture_output=True, check=False, **self._user).returncode

    def end(self) -> str:
        self.process.send_signal(getattr(signal, values(FINAL, "STOPSIGNAL")[0]))
        output = self.process.communicate(timeout=50)[0]
        assert self.process.returncode == 0, output
        return output


@pytest.fixture
def app() -> Iterator[Path]:
    """The image's working directory: what the build stage copies there, and nobody may write to."""
    with tempfile.TemporaryDirectory(prefix="app-") as folder:
        for name in ("common", "relay"):
            shutil.copytree(ROOT / name, Path(folder, name))
        os.chmod(folder, 0o555)
        yield Path(folder)
        os.chmod(folder, 0o755)


@pytest.fixture
def disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        yield Path(folder)


def test_the_command_listens_on_port_and_keeps_its_queue_on_the_disk(
    app: Path, disk: Path, free_port: Callable[[], int], eventually: Callable[..., object]
) -> None:
    port = free_port()
    container = Container(app, disk, PORT=str(port), RELAY_QUEUE_URL=f"sqlite:///{disk}/pending.db")
    eventually(lambda: answers("127.0.0.1", port))
    assert container.check() == 0
    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30).json()["status"] == "ready"
    output = container.end()
    assert (disk / "pending.db").is_file()
    assert container.check() != 0
    assert all(line.startswith("{") for line in output.splitlines()), output


@pytest.mark.slow
@pytest.mark.skipif(unprivileged()[1] == "root", reason="we may write everywhere")
def test_without_a_disk_it_says_so_and_takes_nothing(
    app: Path, disk: Path, free_port: Callable[[], int], eventually: Callable[..., object]
) -> None:
    port = free_port()
    container = Container(app, disk, PORT="1", RELAY_PORT=str(port))
    eventually(lambda: answers("127.0.0.1", port))
    assert container.check() == 0
    answer = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue-unavailable")
    container.end()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_build_stage_makes_what_the_command_needs(
    disk: Path, free_port: Callable[[], int], eventually: Callable[..., object]
) -> None:
    """Its steps, one after the other, with /opt, /app and /data in a folder of ours."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        image = Path(folder)
        image.chmod(0o755)
        (image / "opt").mkdir()
        (image / "app").mkdir()
        for step in BUILD:
            if step.word == "COPY":
                name = step.rest.split()[0]
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
                copy(ROOT / name, image / "app" / name)
            elif step.word == "RUN":
                script = re.sub(r"(?<![\w.])/(opt|data)\b", rf"{image}/\1", step.rest)
                script = re.sub(r"^python ", f"{unprivileged()[0]} ", script)
                done = subprocess.run(
                    ["sh", "-c", script], cwd=image / "app", capture_output=True, text=True, check=False
                )
                if "pip install" in script and done.returncode:
                    pytest.skip(f"the libraries cannot be downloaded: {done.stderr[-500:]}")
                assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in (image / "app").iterdir()) == ["common", "relay"]
        assert not list((image / "opt/relay").glob("lib/python3*/site-packages/pip"))
        port = free_port()
        python = str(image / "opt/relay/bin/python")
        settings = {"PORT": str(port), "RELAY_QUEUE_URL": f"sqlite:///{disk}/pending.db"}
        container = Container(image / "app", disk, python, **settings)
        eventually(lambda: answers("127.0.0.1", port))
        assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30).json()["status"] == "ready"
        assert container.check() == 0
        container.end()


def test_the_image_is_small_and_confined() -> None:
    user = values(FINAL, "USER")[0]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that every host can see that it is not root"
    assert not values(FINAL, "RUN")
    assert values(FINAL, "WORKDIR") == values(BUILD, "WORKDIR")
    assert all(rest.startswith("--from=build") for rest in values(FINAL, "COPY"))
    installs = [rest for rest in values(BUILD, "RUN") if "pip install" in rest]
    assert installs and all("--require-hashes" in rest for rest in installs)
    assert "requirements-dev" not in (ROOT / "Dockerfile").read_text()
    assert COMMAND[0] == CHECK[0] == "python"


def test_what_is_copied_exists_and_nothing_else_is_sent() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for rest in values(BUILD, "COPY") for word in rest.split()[:-1]}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    kept_out = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    for secret in (".env", ".env.local", "pending.db", "trade_state.db-wal"):
        assert any(fnmatch(secret, rule) for rule in kept_out)


def test_fly_gives_it_one_machine_with_a_disk_that_never_sleeps() -> None:
    fly = tomllib.loads((ROOT / "deploy" / "fly.toml").read_text())
    service = fly["http_service"]
    assert str(service["internal_port"]) == fly["env"]["PORT"]
    assert fly["env"]["RELAY_QUEUE_URL"].startswith(f"sqlite:///{fly['mounts']['destination']}/")
    assert (service["auto_stop_machines"], service["min_machines_running"], service["force_https"]) == ("off", 1, True)
    assert service["checks"][0]["path"] == "/readyz"
