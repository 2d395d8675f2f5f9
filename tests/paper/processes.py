"""The paper TWS as a process of its own, and environments with other client libraries."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from executor.paper.control import ControlClient
from tests.once import alone

ROOT = Path(__file__).parents[2]


class Paper:
    """A running `python -m executor.paper` on free ports."""

    said = ""  # what it wrote to its standard error, once it has ended, if that was asked for

    def __init__(self, *options: object, stderr: int | None = None) -> None:
        command = [sys.executable, "-m", "executor.paper", "--port", "0", "--control-port", "0", "--volatility", "0"]
        self.process = subprocess.Popen(
            [*command, *map(str, options)], cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        assert self.process.stdout
        self.lines = [self.process.stdout.readline()]
        while not (ready := re.match(r"paper TWS ready port=(\d+) control=(\d+)", self.lines[-1])):
            self.lines.append(self.process.stdout.readline())
        self.port = int(ready[1])
        self.control = ControlClient(int(ready[2]))

    def kill(self) -> None:
        """End it as a power cut ends a process."""
        self.control.close()
        self.process.kill()
        self.process.communicate(timeout=50)

    def end(self) -> int:
        """End it politely and return its exit code."""
        if self.process.poll() is None:
            self.control.do("stop")
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        self.control.close()
        _, self.said = self.process.communicate(timeout=50)
        return self.process.returncode


def environment(requirement: str, seconds: float = 120) -> Path:
    """Return the Python of an environment with this one library, made on first use; skip the test if that fails."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = ROOT / f".venv-{re.split(r'[=[]', requirement)[0]}-{version}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    with alone(folder, seconds):
        if not (folder / "complete").exists():
            _make(folder, python, requirement, seconds)
    return python


def node_packages(requirement: str) -> tuple[Path, Path]:
    """Return Node.js and a folder with this one package, made on first use; skip the test if there is no such thing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("there is no Node.js")
    folder = ROOT / ".venv-node"
    with alone(folder):
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            install = [
                npm,
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
                str(folder),
                requirement,
            ]
            _install(install, requirement, folder, 120)
    return Path(node), folder


def _make(folder: Path, python: Path, requirement: str, seconds: float) -> None:
    uv = Path(sys.executable).with_name("uv")
    try:
        venv.create(folder, clear=True)
    except OSError as error:
        pytest.skip(f"{folder.name} could not be made: {error}")
    # Our own pip installs into it: a pip of its own would take longer to install than the library.
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--no-compile"]
    install = [uv, "pip", "install", "--python", python] if uv.exists() else pip
    _install([*map(str, install), "-q", requirement], requirement, folder, seconds)


def _install(command: list[str], requirement: str, folder: Path, seconds: float) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=seconds)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{requirement} could not be installed into {folder.name}: {error}")
    (folder / "complete").write_text(requirement, "utf-8")
