"""`make deploy-vps` into a folder, for real: install, start as an unprivileged user, upgrade under load, go back."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from deploy.vps import install
from deploy.vps.__main__ import HERE, ROOT, make_bundle
from tests.deploy.machine import NAME, Machine, Senders, machine, unprivileged
from tests.once import once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd's machines are Linux")
Eventually = Callable[..., object]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of this checkout, its wheel built by the real build backend."""
    return once(tmp_path_factory, "bundle", make_bundle)


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[Machine]:
    with machine(free_port()) as found:
        yield found


@pytest.fixture
def borrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries of our own environment in place of downloaded ones; `test_from_nothing` takes real ones."""

    python = unprivileged()[0]

    def lend(venv: Path, bundle: Path) -> None:
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
        [packages] = venv.glob("lib/python3.*/site-packages")
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))

    monkeypatch.setattr(install, "make_environment", lend)


def deploy(server: Machine, bundle: Path, seconds: float = 20) -> int:
    """Run the installer as it lies in a bundle, in this process; return its exit code."""
    arguments = ["--root", str(server.root), "--user", server.user, "--restart", server.restart_command]
    options = install.parse([*arguments, "--health-seconds", str(seconds), "--domain", "relay.trader.example"])
    return install.install(replace(options, bundle=bundle))


def changed(bundle: Path, target: Path, module: str, line: str) -> Path:
    """Return a bundle whose wheel has one more line at the end of a module."""
    shutil.copytree(bundle, target)
    [wheel] = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts[module] += line.encode()
    with zipfile.ZipFile(wheel, "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)
    return target


@pytest.mark.usefixtures("borrowed")
def test_install_and_start_as_an_unprivileged_user(server: Machine, bundle: Path) -> None:
    assert deploy(server, bundle) == 0
    assert server.process
    if unprivileged()[1] == "nobody":
        assert os.stat(f"/proc/{server.process.pid}").st_uid != 0
    check_files(server)
    assert requests.get(f"http://127.0.0.1:{server.port}/readyz", timeout=30).json()["status"] == "ready"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the command becomes the relay's user, which only root may")
@pytest.mark.usefixtures("borrowed")
def test_the_owners_command_has_the_services_settings(server: Machine, bundle: Path, eventually: Eventually) -> None:
    assert deploy(server, bundle) == 0
    command = server.path(f"/usr/local/bin/{NAME}")
    text = server.here(command.read_text()).replace(
        f"--reuid {NAME} --regid {NAME}", f"--reuid nobody --regid {pwd.getpwnam('nobody').pw_gid}"
    )
    here = {"RELAY_ALARM_URLS": "json://127.0.0.1:1/a?b=$c&d=e", **server.settings(server.unit("service"))}
    server.path(f"/etc/{NAME}/relay.env").write_text("".join(f"{name}={value}\n" for name, value in here.items()))
    script = server.path("/owner")
    script.write_text(text)

    def owner(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", script, *words], capture_output=True, text=True, timeout=30, check=False)

    doctor = owner("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "answers, and signs with" in doctor.stdout
    assert "Paused" in owner("pause").stdout
    ready = f"http://127.0.0.1:{server.port}/readyz"
    eventually(lambda: requests.get(ready, timeout=30).json()["mode"] == "paused")
    backup = server.path(f"/var/lib/{NAME}/backups/today.db")
    assert "checked and intact" in owner("backup", str(backup)).stdout
    assert backup.stat().st_uid == pwd.getpwnam("nobody").pw_uid


@pytest.mark.slow
@pytest.mark.usefixtures("borrowed")
def test_upgrade_under_load(server: Machine, bundle: Path, eventually: Eventually) -> None:
    """Nobody who sends during an upgrade is refused, and nothing that was accepted is lost."""
    assert deploy(server, bundle) == 0
    with Senders(server) as senders:
        senders.wait_for(20, eventually)
        assert deploy(server, bundle) == 0
        senders.wait_for(20, eventually)
    assert len(set(server.starts)) == 2
    assert senders.others == []
    assert sorted(server.lease_all()) == sorted(senders.accepted)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("borrowed")
def test_failing_releases_under_load(
    server: Machine, bundle: Path, tmp_path: Path, eventually: Eventually, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(server, bundle) == 0
    good = server.starts[-1]
    with Senders(server) as senders:
        # one that does not even start is never switched to
        broken = changed(bundle, tmp_path / "broken", "relay/server.py", "\nraise RuntimeError('a bad day')\n")
        assert deploy(server, broken) == 1
        assert server.starts == [good]
        assert "a bad day" in capsys.readouterr().out
        senders.wait_for(20, eventually)

        # one that starts beside the old one, and fails in its place, is switched back
        fails = "\ndef _inherited(number):\n    raise SystemExit('a worse day')\n"
        failing = changed(bundle, tmp_path / "failing", "relay/server.py", fails)
        assert deploy(server, failing, seconds=5) == 1
        assert (server.starts[0], server.starts[-1], len(server.starts)) == (good, good, 3)
        assert f"the previous {good} runs again" in capsys.readouterr().out
        senders.wait_for(20, eventually)
    assert senders.others == []
    assert sorted(server.lease_all()) == sorted(senders.accepted)


def check_files(server: Machine) -> None:
    """What an installation leaves: modes, secrets of its own, and nothing of the sources' place."""
    for name in ("webhook_secrets", "signing_secrets", "executor_tokens"):
        assert server.mode(f"/etc/{NAME}/secrets/{name}") == 0o600
    assert server.mode(f"/etc/{NAME}/secrets") == server.mode(f"/var/lib/{NAME}") == 0o700
    assert server.mode(f"/var/lib/{NAME}/pending.db") == 0o600
    assert server.path(f"/opt/{NAME}/current").is_symlink()
    assert "relay.trader.example {" in server.path(f"/etc/{NAME}/Caddyfile").read_text()
    assert os.access(server.path(f"/usr/local/bin/{NAME}"), os.X_OK)
    log = server.log.read_text()
    for name in ("webhook_secrets", "signing_secrets", "executor_tokens"):
        assert server.secret(name) not in log


@pytest.mark.slow
@pytest.mark.timeout(180)  # four installations, on a busy machine too
@pytest.mark.usefixtures("borrowed")
def test_backups_old_releases_and_what_is_yours(server: Machine, bundle: Path) -> None:
    settings = server.path(f"/etc/{NAME}/relay.env")
    settings.write_text(settings.read_text() + "RELAY_LOG_JSON=true\n")
    deploy(server, bundle)
    secret = server.secret("webhook_secrets")
    requests.post(
        f"http://127.0.0.1:{server.port}/webhook",
        json={"action": "close", "symbol": "AAPL", "secret": secret},
        timeout=50,
    ).raise_for_status()
    server.path(f"/etc/{NAME}/Caddyfile").write_text("mine")
    for _ in range(install.KEPT_RELEASES):
        assert deploy(server, bundle) == 0
    assert server.secret("webhook_secrets") == secret
    assert server.path(f"/etc/{NAME}/Caddyfile").read_text() == "mine"
    assert len(list(server.path(f"/opt/{NAME}/releases").iterdir())) == install.KEPT_RELEASES
    backups = sorted(server.path(f"/var/lib/{NAME}/backups").iterdir())
    assert len(backups) == install.KEPT_RELEASES

    # restore, as the page says: stop, put the copy in place, start
    server.stop()
    for old in server.path(f"/var/lib/{NAME}").glob("pending.db*"):
        old.unlink()
    shutil.copy(backups[-1], server.path(f"/var/lib/{NAME}/pending.db"))
    if os.geteuid() == 0:
        shutil.chown(server.path(f"/var/lib/{NAME}/pending.db"), server.user)
    server.restart()
    assert len(server.lease_all()) == 1


@pytest.mark.usefixtures("borrowed")
def test_two_installations_at_once_and_a_mistake_in_the_settings(
    server: Machine, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    settings = server.path(f"/etc/{NAME}/relay.env")
    right = settings.read_text()
    settings.write_text(right + "RELAY_MAX_DEPTH=many\n")
    assert deploy(server, bundle) == 1
    assert "RELAY_MAX_DEPTH must be a whole number" in capsys.readouterr().out
    assert server.starts == []
    with open(server.path(f"/opt/{NAME}/.installing"), "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert deploy(server, bundle) == 1
    assert "another installation" in capsys.readouterr().out


@pytest.mark.parametrize("place", [f"/var/lib/{NAME}", f"/var/lib/{NAME}/backups", f"/etc/{NAME}/secrets"])
@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
@pytest.mark.usefixtures("borrowed")
def test_no_link_is_followed_that_the_relays_user_could_place(
    server: Machine, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, target: str
) -> None:
    victim = tmp_path / "victim"
    if target == "folder":
        victim.mkdir(mode=0o750)
    elif target == "file":
        victim.write_text("precious")
    before = os.lstat(victim) if target != "nothing" else None
    link = server.path(place)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir():
        shutil.rmtree(link)
    link.symlink_to(victim)
    assert deploy(server, bundle) == 1
    assert f"NOT INSTALLED: {link} is a link, and none is followed" in capsys.readouterr().out
    if before is None:
        assert not victim.exists()
    else:
        after = os.lstat(victim)
        assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert target != "folder" or list(victim.iterdir()) == []
    assert server.starts == []


@pytest.mark.usefixtures("borrowed")
def test_a_link_in_the_place_of_a_secret_is_neither_written_to_nor_given_away(
    server: Machine, bundle: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    secrets = server.path(f"/etc/{NAME}/secrets")
    secrets.mkdir(parents=True, exist_ok=True)
    link = secrets / "webhook_secrets"
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    deploy(server, bundle)
    assert not victim.exists() and link.is_symlink()
    victim.write_text("precious")
    before = os.lstat(victim)
    deploy(server, bundle)
    after = os.lstat(victim)
    assert (after.st_uid, after.st_mode, victim.read_text()) == (before.st_uid, before.st_mode, "precious")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_nothing_over_ssh(server: Machine, tmp_path: Path) -> None:
    """The whole command with the real lock; ssh and scp are programs of ours that stay on this machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(
        '#!/bin/sh\n[ "$1" = -t ] && shift\n[ "$1" = owner@server ] || exit 9\nshift\nexec sh -c "$*"\n'
    )
    (programs / "scp").write_text(
        '#!/bin/sh\nshift 2\nfor each in "$@"; do last=$each; done\nset -- "$@"\n'
        'while [ $# -gt 1 ]; do cp -r "$1" "${last#owner@server:}"; shift; done\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    python, user = unprivileged()
    command = [sys.executable, "-m", "deploy.vps", "--host", "owner@server", "--destdir", str(server.root)]
    command += ["--user", user, "--restart", server.restart_command]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": python, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if "pip install" in done.stdout:
        pytest.skip(f"the libraries cannot be downloaded: {done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert requests.get(f"http://127.0.0.1:{server.port}/readyz", timeout=30).json()["status"] == "ready"
    assert len(server.starts) == 1
    left = [path for path in tmp_path.iterdir() if path != programs]
    assert left == []


# --- the unit, as systemd itself judges it ------------------------------------------------------------


@pytest.fixture
def judge() -> str:
    found = shutil.which("systemd-analyze")
    return found or pytest.skip("systemd-analyze is not on this machine; the units are read by machine.py only")


def test_systemd_accepts_the_units(judge: str, tmp_path: Path) -> None:
    for kind in ("service", "socket"):
        text = (HERE / f"{NAME}.{kind}").read_text().replace(f"/opt/{NAME}/current/venv/bin/python", sys.executable)
        (tmp_path / f"{NAME}.{kind}").write_text(text)
    units = [str(tmp_path / f"{NAME}.{kind}") for kind in ("service", "socket")]
    done = subprocess.run([judge, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or NAME in line]
    assert ours == []


def test_systemd_calls_the_service_confined(judge: str) -> None:
    """0 is confined, 10 is open to the world; systemd's own word for up to 2 is OK."""
    command = [judge, "security", "--no-pager", "--offline=yes", "--threshold=20", str(HERE / f"{NAME}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert done.returncode == 0, done.stdout
