"""`make deploy-vps`: make a bundle from this checkout, and run its installer here or on a server.

A server needs Python 3.11, 3.12, 3.13 or 3.14, systemd, and an ssh login that may become root. The installer that runs
there is the one that installs into a folder here (DESTDIR=): only the copying differs.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
# What a wheel is built from; copied, so that nothing left over from another build gets in.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "common", "relay", "executor")
FILES = ("install.py", "signal-relay.service", "signal-relay.socket", "signal-relay", "relay.env", "Caddyfile")


def make_bundle(folder: Path) -> None:
    """Put everything into a folder that an installation needs: wheel, lock, units, installer."""
    for name in FILES:
        shutil.copyfile(HERE / name, folder / name)
    shutil.copyfile(ROOT / "requirements.txt", folder / "requirements.txt")
    shutil.copyfile(ROOT / "deploy" / "venv.sh", folder / "venv.sh")
    build_wheel(folder)


def build_wheel(folder: Path) -> None:
    """Build the wheel of this checkout, offline, with the build backend of the development environment."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, Path(scratch, name))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), scratch]
        subprocess.run(command, check=True)


def install_here(bundle: Path, arguments: list[str]) -> int:
    """Run the installer on this machine; return its exit code."""
    return subprocess.run([sys.executable, str(bundle / "install.py"), *arguments], check=False).returncode


def install_there(bundle: Path, host: str, arguments: list[str]) -> int:
    """Copy the bundle to a server, run the installer there as root, remove the bundle; return the exit code."""
    made = subprocess.run(["ssh", host, "mktemp -d"], check=True, stdout=subprocess.PIPE, text=True)
    there = shlex.quote(made.stdout.strip())
    subprocess.run(["scp", "-q", "-r", *map(str, bundle.iterdir()), f"{host}:{there}/"], check=True)
    become_root = 'if [ "$(id -u)" = 0 ]; then S=; else S=sudo; fi'
    install = f"$S python3 {there}/install.py {shlex.join(arguments)}"
    command = f"{become_root}; {install}; code=$?; rm -rf {there}; exit $code"
    terminal = ["-t"] if sys.stdin.isatty() else []  # so that sudo can ask for a password
    return subprocess.run(["ssh", *terminal, host, command], check=False).returncode


@click.command()
@click.option("--host", default="", help="user@server: install there, over ssh.")
@click.option("--destdir", default="", help="Install into this folder instead of the whole machine.")
@click.option("--domain", default="relay.example.com", show_default=True, help="The relay's public name, for Caddy.")
@click.option(
    "--user", default="signal-relay", show_default=True, help="The user that runs the relay and owns its data."
)
@click.option("--restart", default="", help="A command that restarts the relay if systemd does not.")
@click.option("--health-seconds", default=30.0, show_default=True, help="How long it may take to become ready.")
def main(host: str, destdir: str, domain: str, user: str, restart: str, health_seconds: float) -> None:
    """Install this checkout's relay, or upgrade to it; it rolls back by itself if the new one does not run."""
    if not host and not destdir:
        sys.exit("make deploy-vps needs HOST=user@server, or DESTDIR=folder to try it")
    arguments = ["--domain", domain, "--user", user, "--restart", restart, "--health-seconds", str(health_seconds)]
    arguments += ["--root", destdir] if destdir else []
    with tempfile.TemporaryDirectory() as bundle:
        try:
            make_bundle(Path(bundle))
            code = install_there(Path(bundle), host, arguments) if host else install_here(Path(bundle), arguments)
        except subprocess.CalledProcessError as exc:
            sys.exit(f"make deploy-vps: {exc.cmd[0]} failed ({exc.returncode}): see above")
        except OSError as exc:
            sys.exit(f"make deploy-vps: {exc}")
    sys.exit(code)


if __name__ == "__main__":
    main()
