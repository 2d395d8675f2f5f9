"""`make deploy-executor`: what it writes for each system, read back; on Linux also run."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest
import requests
from click.testing import CliRunner, Result

from deploy import executor_service
from deploy.executor_service import KINDS, NAME, Job
from tests.relay.examples import SIGNING, TOKEN

TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
AWKWARD = (
    "--relay-url",
    "https://relay.example.com/100%",
    "--db",
    'C:\\my "folder"\\a$HOME b.db',
    "--live",
    "U7654321",
)
JOB = Job((sys.executable, "-m", "executor", *AWKWARD), Path("/srv/a folder"), "DESK\\trader")
HOME = Path("/srv/home")


def run(home: Path, *arguments: str, **more: str) -> Result:
    return CliRunner().invoke(executor_service.main, arguments, env={"HOME": str(home), **more})


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the secrets of an executor, in the checkout's place."""
    monkeypatch.setattr(executor_service, "ROOT", tmp_path)
    lines = [f"EXECUTOR_RELAY_TOKEN={TOKEN}", f"EXECUTOR_SIGNING_SECRETS={SIGNING}"]
    (tmp_path / ".env").write_text("\n".join(lines))
    return tmp_path


def unit_words(unit: str, key: str) -> list[str]:
    """Return a unit's command line as systemd reads it: quotes and escapes, then specifiers and variables."""
    [line] = [line for line in unit.splitlines() if line.startswith(f"{key}=")]
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.partition("=")[2])]


# --- Linux ------------------------------------------------------------------------------------------


def test_the_unit_holds_the_command_as_it_was_given() -> None:
    unit = KINDS["systemd"].make(JOB, HOME).decode()
    assert unit_words(unit, "ExecStart") == list(JOB.command)
    assert "WorkingDirectory=/srv/a folder\n" in unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    file = tmp_path / f"{NAME}.service"
    file.write_bytes(KINDS["systemd"].make(Job(JOB.command, tmp_path), tmp_path))

    def verdict() -> list[str]:
        command = ["systemd-analyze", "--user", "verify", "--man=no", str(file)]
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return [line for line in done.stderr.splitlines() if NAME in line]

    assert verdict() == []
    file.write_text(file.read_text().replace("Restart=always", "Restart=perhaps"))
    assert len(verdict()) == 1, "it can fail"


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_it_is_started_where_a_user_systemd_exists(tmp_path: Path, checkout: Path) -> None:
    calls = tmp_path / "calls"
    (tmp_path / "bin").mkdir()
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(calls))}\n')
    systemctl.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = run(tmp_path, "--ib-port", "4002", PATH=path, XDG_RUNTIME_DIR=str(tmp_path))
    assert done.exit_code == 0, done.output
    wanted = ["--user daemon-reload", f"--user enable --quiet {NAME}", f"--user restart {NAME}"]
    assert calls.read_text().splitlines() == wanted
    assert "It is running." in done.output
    unit = (tmp_path / f".config/systemd/user/{NAME}.service").read_text()
    assert unit_words(unit, "ExecStart")[1:] == ["-m", "executor", "--ib-port", "4002"]
    systemctl.write_text("#!/bin/sh\nexit 1\n")
    assert "To start it:  systemctl --user" in run(tmp_path, PATH=path, XDG_RUNTIME_DIR=str(tmp_path)).output


def test_a_mistake_is_told_before_anything_is_written(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only this terminal knows counts for nothing: the service would start without it."""
    (checkout / ".env").write_text(f"EXECUTOR_SIGNING_SECRETS={SIGNING}")
    monkeypatch.setenv("EXECUTOR_RELAY_TOKEN", TOKEN)
    for flags, words in ((["--ib-port", "none"], "EXECUTOR_RELAY_TOKEN"), (["--ib-prt", "1"], "No such option")):
        done = run(tmp_path, "--to", str(tmp_path / "unit"), *flags)
        assert (done.exit_code, words in done.output, "Nothing was written" in done.output) == (2, True, True)
    assert not (tmp_path / "unit").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_what_the_unit_says_does_run(
    tmp_path: Path, free_port: Callable[[], int], eventually: Callable[..., object]
) -> None:
    port = free_port()
    flags = ["--paper", "--db", str(tmp_path / "journal.db"), "--flask-host", "127.0.0.1", "--flask-port", str(port)]
    run(tmp_path, "--for", "systemd", "--to", str(tmp_path / "unit"), *flags)
    command = unit_words((tmp_path / "unit").read_text(), "ExecStart")
    environment = {**os.environ, "EXECUTOR_RELAY_TOKEN": TOKEN, "EXECUTOR_SIGNING_SECRETS": SIGNING}
    process = subprocess.Popen(
        command, cwd=unit_words((tmp_path / "unit").read_text(), "WorkingDirectory")[0], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def connected() -> bool:
        try:
            url = f"http://127.0.0.1:{port}/api/status"
            return requests.get(url, timeout=20).json()["connected"] is True
        except requests.RequestException:
            return False

    try:
        eventually(connected, seconds=50)
        process.send_signal(signal.SIGTERM)
        assert process.wait(50) == 0
    finally:
        process.kill()
        process.wait()


# --- macOS ------------------------------------------------------------------------------------------


def test_launchd_gets_the_command_and_keeps_it_alive() -> None:
    agent = plistlib.loads(KINDS["launchd"].make(JOB, HOME))
    assert agent["ProgramArguments"] == list(JOB.command)
    assert agent["WorkingDirectory"] == "/srv/a folder"
    assert (agent["Label"], agent["RunAtLoad"], agent["KeepAlive"]) == (NAME, True, True)
    assert agent["StandardErrorPath"] == f"{HOME}/Library/Logs/{NAME}.log"
    assert agent["Umask"] == 0o077


# --- Windows ----------------------------------------------------------------------------------------


def windows_words(line: str) -> list[str]:
    """Return a Windows command line's words (source: Microsoft, parsing C command-line arguments)."""
    words, word, quoted, slashes, begun = [], "", False, 0, False
    for letter in line + " ":
        if letter == "\\":
            slashes, begun = slashes + 1, True
            continue
        word += "\\" * (slashes // 2 if letter == '"' else slashes)
        odd, slashes = slashes % 2 == 1, 0
        if letter == '"' and odd:
            word += letter
        elif letter == '"':
            quoted, begun = not quoted, True
        elif letter == " " and not quoted:
            words, word, begun = [*words, word] if begun or word else words, "", False
        else:
            word, begun = word + letter, True
    return words


def test_task_scheduler_gets_the_command_and_no_time_limit() -> None:
    raw = KINDS["windows"].make(JOB, HOME)
    assert raw[:2] in (b"\xff\xfe", b"\xfe\xff"), "schtasks reads UTF-16 with its mark"
    task = xml.fromstring(raw)
    assert (task.tag, task.get("version")) == (f"{TASK}Task", "1.2")

    def text(path: str) -> str:
        found = task.findtext("/".join(TASK + part for part in path.split("/")))
        assert found is not None, path
        return found

    assert text("Actions/Exec/Command") == JOB.command[0]
    assert windows_words(text("Actions/Exec/Arguments")) == list(JOB.command[1:])
    assert text("Actions/Exec/WorkingDirectory") == str(JOB.directory)
    assert text("Settings/ExecutionTimeLimit") == "PT0S", "without it Windows ends it after three days"
    assert text("Settings/DisallowStartIfOnBatteries") == text("Settings/StopIfGoingOnBatteries") == "false"
    assert text("Settings/MultipleInstancesPolicy") == "IgnoreNew"
    assert 4 <= int(text("Settings/Priority")) <= 6, "7, the default, is for what may wait"
    actions, principal = task.find(f"{TASK}Actions"), task.find(f".//{TASK}Principal")
    assert actions is not None and principal is not None
    assert actions.get("Context") == principal.get("id")
    assert text("Principals/Principal/RunLevel") == "LeastPrivilege"


def test_task_scheduler_starts_it_for_its_owner_and_again_every_minute() -> None:
    triggers = xml.fromstring(KINDS["windows"].make(JOB, HOME)).find(f"{TASK}Triggers")
    assert triggers is not None
    parts = {each.tag.removeprefix(TASK): [part.tag.removeprefix(TASK) for part in each] for each in triggers}
    assert parts == {
        "LogonTrigger": ["Enabled", "Repetition", "UserId"],  # in the schema's order
        "RegistrationTrigger": ["Enabled", "Repetition"],
    }
    assert [each.text for each in triggers.iter(f"{TASK}UserId")] == ["DESK\\trader"], "else only an administrator may"
    repetitions = list(triggers.iter(f"{TASK}Repetition"))
    assert [each.findtext(f"{TASK}Interval") for each in repetitions] == ["PT1M", "PT1M"]
    assert all(each.find(f"{TASK}Duration") is None for each in repetitions), "without one it never ends"


def test_another_systems_file_is_written_with_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "--for", "windows", "--to", str(tmp_path / "task.xml"), "--live", "U7654321")
    assert f'/XML "{tmp_path / "task.xml"}"' in done.output
    assert "&&" not in done.output, "not every shell of Windows knows it"
    assert "doctor --live U7654321" in done.output
    assert xml.parse(tmp_path / "task.xml").getroot().tag == f"{TASK}Task"
