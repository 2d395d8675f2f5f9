"""Install one release of the relay on the machine this runs on, and go back to the one before if it is not healthy.

It lies in the bundle that `make deploy-vps` makes, and runs with the Python of the server: standard library only.
Everything that can fail for long is done beside the release that runs; then one symlink is switched and the relay
restarted, while its port stays open. What an interrupted run leaves behind is a folder that nobody uses.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

NAME = "signal-relay"
UNITS = (f"{NAME}.service", f"{NAME}.socket")
KEPT_RELEASES, KEPT_BACKUPS = 3, 5
REHEARSAL_SECONDS = 30.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class InstallError(Exception):
    """The release was not installed; the text says why, what runs now, and what to do."""


@dataclass(frozen=True)
class Options:
    """What is to be done."""

    bundle: Path
    root: Path
    user: str
    restart: str
    health_seconds: float
    domain: str

    @property
    def is_machine(self) -> bool:  # and not a folder
        return self.root == Path("/")


class Places:
    """Where everything lies, below the root."""

    def __init__(self, root: Path) -> None:
        self.app, self.config, self.data = root / "opt" / NAME, root / "etc" / NAME, root / "var/lib" / NAME
        self.units, self.command = root / "etc/systemd/system", root / "usr/local/bin" / NAME
        self.releases, self.current = self.app / "releases", self.app / "current"
        self.secrets, self.settings = self.config / "secrets", self.config / "relay.env"
        self.backups = self.data / "backups"


class Installer:
    """One installation; `run` is all of it."""

    def __init__(self, options: Options) -> None:
        self.options, self.at = options, Places(options.root)

    def run(self) -> None:
        """Install, switch, check; go back where the check fails, and raise InstallError with what runs now."""
        self._prepare()
        with self._alone():
            before = self._release_in_use()
            release = self._build()
            self._back_up(before)
            self._activate(release)
            if not self._restarted_well():
                self._go_back(release, before)
            self._forget_old(release, before)
        self._say_done(release, before)

    # --- once ---------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Make user, folders, settings and secrets where they are missing; what is there stays as it is."""
        if self.options.is_machine:
            self._be_root()
        for folder in (self.at.releases, self.at.units, self.at.command.parent, self.at.config):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.at.data, self.at.backups, self.at.secrets):
            if not folder.is_symlink():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own_folder(folder)
        _write_new(self.at.settings, (self.options.bundle / "relay.env").read_text("utf-8"), 0o644)
        for name, text in fresh_secrets().items():
            _write_new(self.at.secrets / name, text + "\n", 0o600, self._account)
        caddy = (self.options.bundle / "Caddyfile").read_text("utf-8")
        _write_new(self.at.config / "Caddyfile", caddy.replace("relay.example.com", self.options.domain), 0o644)

    def _be_root(self) -> None:
        if os.geteuid() != 0:
            raise InstallError("installing on this machine needs root: log in as root, or as a user with sudo")
        try:
            pwd.getpwnam(self.options.user)
        except KeyError:
            home = str(self.at.data)
            _run("useradd", "--system", "--user-group", "--home-dir", home, "--no-create-home",
                 "--shell", "/usr/sbin/nologin", self.options.user)  # fmt: skip

    @property
    def _account(self) -> pwd.struct_passwd | None:
        """The relay's user, where we are root and may act for it; None where we are it ourselves."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(self.options.user)
        except KeyError:  # a folder may be filled on a machine that has no such user
            return None

    def _own_folder(self, path: Path) -> None:
        """Give a folder to the relay's user, who may have put a link in its place: then nothing is given away."""
        with _opened_folder(path) as folder:
            if self._account:
                os.fchown(folder, self._account.pw_uid, self._account.pw_gid)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse to run at the same time as another installation."""
        with open(self.at.app / ".installing", "w", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InstallError(
                    f"another installation into {self.options.root} is in progress; wait for it"
                ) from None
            yield

    # --- the new release, beside the old -------------------------------------------------------------

    def _release_in_use(self) -> Path | None:
        return self.at.current.resolve() if self.at.current.exists() else None

    def _build(self) -> Path:
        """Return a release's folder: its own virtual environment, the units that belong to it; seen to run."""
        [wheel] = self.options.bundle.glob("*.whl")
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")[:-3]  # noqa: UP017 - not yet in an old Python
        release = self.at.releases / f"{stamp}-{wheel.name.split('-')[1]}"
        release.mkdir()
        try:
            _say(f"building {release.name}")
            make_environment(release / "venv", self.options.bundle)
            _pip(release / "venv", "--no-index", "--no-deps", str(wheel))
            for unit in UNITS:
                shutil.copyfile(self.options.bundle / unit, release / unit)
            shutil.copyfile(self.options.bundle / NAME, release / NAME)
            self._rehearse(release)
        except BaseException:
            shutil.rmtree(release, ignore_errors=True)
            raise
        return release

    def _rehearse(self, release: Path) -> None:
        """Start the release next to the old one, with our settings, a free port and its own empty queue.

        InstallError if it does not run: nothing was changed, and nobody who sends noticed anything.
        """
        with tempfile.TemporaryDirectory(dir=self.at.data) as folder:
            self._own_folder(Path(folder))
            environment = {**self._settings(), "RELAY_PORT": "0", "RELAY_QUEUE_URL": f"sqlite:///{folder}/queue.db"}
            process = self._start(release, environment, folder)
            stop = threading.Timer(REHEARSAL_SECONDS, process.kill)
            stop.start()
            words: list[str] = []
            try:
                if _takes_alerts(process, words):
                    return
            finally:
                process.terminate()
                process.communicate()
                stop.cancel()
        last = " / ".join(words[-3:]).strip() or f"it was not ready within {REHEARSAL_SECONDS:g} s"
        raise InstallError(f"{release.name} does not start with the settings in {self.at.settings}: {last}")

    def _start(self, release: Path, environment: dict[str, str], folder: str) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                [_python(release), "-m", "relay"], env=environment, cwd=folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **_as(self._account),
            )  # fmt: skip
        except PermissionError as exc:
            base = os.path.realpath(_python(release))
            remedy = "install the system Python (apt install python3-venv), or name one: PYTHON=/usr/bin/python3.11"
            raise InstallError(f"the user {self.options.user} cannot run {base}; {remedy}") from exc

    def _settings(self) -> dict[str, str]:
        """Return the relay's environment; paths of the machine are those below our root."""
        found = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        for line in self.at.settings.read_text("utf-8").splitlines():
            name, equal, value = line.partition("=")
            if equal and not name.startswith("#"):
                found[name.strip()] = value.strip().replace(f"/etc/{NAME}/", f"{self.at.config}/")
        return found

    def _back_up(self, release: Path | None) -> None:
        """Copy the queue with the release in use. An alert that comes after this is not in the copy."""
        queue = self.at.data / "pending.db"
        if release is None or not queue.is_file():
            return
        target = self.at.backups / f"pending-{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}.db"  # noqa: UP017 - as above
        command = [_python(release), "-m", "relay", "backup", str(target), "--queue-url", f"sqlite:///{queue}"]
        _run(*command, account=self._account, cwd=self.at.data)
        with _opened_folder(self.at.backups) as folder:
            backups = sorted(name for name in os.listdir(folder) if re.fullmatch(r"pending-.*\.db", name))
            for name in backups[:-KEPT_BACKUPS]:
                os.unlink(name, dir_fd=folder)

    # --- the switch ----------------------------------------------------------------------------------

    def _activate(self, release: Path) -> None:
        """Let `current`, the units and the command be those of a release; `current` changes in one step."""
        for unit in UNITS:
            shutil.copyfile(release / unit, self.at.units / unit)
        shutil.copyfile(release / NAME, self.at.command)
        self.at.command.chmod(0o755)
        new = self.at.app / ".current"
        new.unlink(missing_ok=True)
        new.symlink_to(Path("releases") / release.name)
        new.replace(self.at.current)

    def _restarted_well(self) -> bool:
        """Restart the relay, and wait until it takes alerts; True also where nothing is to be started."""
        try:
            if self.options.restart:
                _run(*shlex.split(self.options.restart))
            elif self.options.is_machine:
                _run("systemctl", "daemon-reload")
                _run("systemctl", "enable", "--quiet", *UNITS)
                _run("systemctl", "start", f"{NAME}.socket")
                _run("systemctl", "restart", f"{NAME}.service")
            else:
                return True
        except InstallError as exc:
            _say(str(exc))
            return False
        return self._is_healthy()

    def _is_healthy(self) -> bool:
        """Ask /readyz until it answers 200. The old process is gone by now, so the new one answers."""
        url = f"http://127.0.0.1:{self._settings().get('RELAY_PORT', '8080')}/readyz"
        deadline = time.monotonic() + self.options.health_seconds
        reason = ""
        while time.monotonic() < deadline:
            try:
                with _DIRECT(url, timeout=2) as answer:
                    if answer.status == 200:
                        return True
            except (OSError, ValueError) as exc:
                reason = str(exc)
            time.sleep(0.1)
        _say(f"{url} did not answer 200 within {self.options.health_seconds:g} s: {reason}")
        return False

    def _go_back(self, release: Path, before: Path | None) -> None:
        """Run the release before again, and raise what happened."""
        look = f"check its log: journalctl -u {NAME} -n 50"
        if before is None:
            if self.options.is_machine:
                _run("systemctl", "disable", "--quiet", "--now", *UNITS)
            raise InstallError(f"{release.name} does not run, and there is no earlier release to roll back to; {look}")
        _say(f"rolling back to {before.name}")
        self._activate(before)
        if not self._restarted_well():
            raise InstallError(f"neither {release.name} nor the previous {before.name} runs; {look}")
        raise InstallError(
            f"{release.name} does not run; the previous {before.name} runs again, with all alerts. {look}"
        )

    def _forget_old(self, *used: Path | None) -> None:
        for release in sorted(self.at.releases.iterdir())[:-KEPT_RELEASES]:
            if release not in used:
                shutil.rmtree(release, ignore_errors=True)

    def _say_done(self, release: Path, before: Path | None) -> None:
        started = self.options.restart or self.options.is_machine
        _say(f"{release.name} {'is running' if started else 'is installed; nothing is started in a folder'}")
        if before is None and self.options.is_machine:
            _say(FIRST_STEPS % {"secrets": self.at.secrets, "config": self.at.config, "domain": self.options.domain})


FIRST_STEPS = """
The relay listens on this machine only. What is left:
  TLS       apt install caddy; echo 'import %(config)s/Caddyfile' >> /etc/caddy/Caddyfile; systemctl reload caddy
  check     sudo signal-relay doctor --public-url https://%(domain)s
  senders   sudo cat %(secrets)s/webhook_secrets
  executor  sudo cat %(secrets)s/signing_secrets   is its EXECUTOR_SIGNING_SECRETS
            sudo cat %(secrets)s/executor_tokens   is its EXECUTOR_RELAY_TOKEN"""


def fresh_secrets() -> dict[str, str]:
    """Return new random secrets by the names of their files."""
    return {
        "webhook_secrets": secrets.token_urlsafe(24),
        "signing_secrets": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "executor_tokens": secrets.token_urlsafe(32),
    }


def make_environment(venv: Path, bundle: Path) -> None:
    """Make a virtual environment that holds exactly what the lock names, each file known by its hash."""
    _run("sh", str(bundle / "venv.sh"), str(venv))
    _pip(venv, "--require-hashes", "-r", str(bundle / "requirements.txt"))


def _pip(venv: Path, *arguments: str) -> None:
    quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _run(str(venv / "bin/python"), *quiet, *arguments)


def _python(release: Path) -> str:
    return str(release / "venv/bin/python")


def _run(*command: str, account: pwd.struct_passwd | None = None, cwd: Path | None = None) -> None:
    """Run a command to its end; InstallError with its last words if it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            cwd=cwd, **_as(account),
        )  # fmt: skip
    except OSError as exc:
        raise InstallError(f"{command[0]} cannot be run: {exc.strerror}") from exc
    if done.returncode:
        words = " / ".join(done.stdout.strip().splitlines()[-5:])
        raise InstallError(f"{' '.join(command[:4])} … failed ({done.returncode}): {words}")


def _write_new(path: Path, text: str, mode: int, owner: pwd.struct_passwd | None = None) -> bool:
    """Write a file where there is none, for its owner; return whether it was written. No link is followed."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        return False
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(handle, mode)
        if owner:
            os.fchown(handle, owner.pw_uid, owner.pw_gid)
    return True


@contextlib.contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    """Open a folder that somebody else may change; InstallError where a link lies in its place."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as exc:
        if path.is_symlink():
            raise InstallError(
                f"{path} is a link, and none is followed here: look who made it, then remove it"
            ) from exc
        raise
    try:
        yield folder
    finally:
        os.close(folder)


def _takes_alerts(process: subprocess.Popen[str], words: list[str]) -> bool:
    """True if a relay that was just started becomes ready; `words` gets its output."""
    assert process.stderr is not None  # noqa: S101 - asked for at its start
    for line in process.stderr:
        words.append(line.strip())
        found = re.search(r"relay_listening\b.*\bport\W+(\d+)", line)
        if found:
            with contextlib.suppress(OSError, ValueError):  # any answer but 200 is none: its own words say why
                return bool(_DIRECT(f"http://127.0.0.1:{found[1]}/readyz", timeout=5).status == 200)
            return False
    return False


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return how to start a process as somebody else; {} for ourselves."""
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more: the line to the server broke
        print(f"{NAME}: {text}", flush=True)


def parse(arguments: list[str] | None = None) -> Options:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(description="Install a release of the relay from the bundle this file lies in.")
    parser.add_argument("--root", type=Path, default=Path("/"), help="install below this folder (default: /)")
    parser.add_argument(
        "--user", default=NAME, help="in a folder: the user that runs the relay and owns its data and secrets"
    )
    parser.add_argument("--restart", default="", help="a command that restarts the relay instead of systemd")
    parser.add_argument("--health-seconds", type=float, default=30.0, help="how long it may take to become ready")
    parser.add_argument("--domain", default="relay.example.com", help="the relay's public name, for Caddy")
    given = parser.parse_args(arguments)
    root = given.root.absolute()
    user = NAME if root == Path("/") else given.user  # the unit's
    return Options(Path(__file__).parent, root, user, given.restart, given.health_seconds, given.domain)


def install(options: Options) -> int:
    """Install; 0 when the release runs, else 1 with the reason in one line."""
    try:
        Installer(options).run()
    except (InstallError, OSError, ValueError) as exc:
        _say(f"NOT INSTALLED: {exc}")
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a broken line to the server ends no installation half-way
    sys.exit(install(parse()))
