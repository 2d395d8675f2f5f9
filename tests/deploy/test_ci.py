"""What .ci/run runs, and on which Pythons; make and the Pythons are stand-ins that write down what is asked of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="a bash script")


class Machine:
    """A folder of commands, in place of all others."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        folder.mkdir()
        for name in ("bash", "dirname", "id"):
            (folder / name).symlink_to(shutil.which(name) or "")
        for name in ("git", "curl", "chromium", "chromedriver"):
            self.has(name, "exit 0")
        self.has("make", f'echo "$*" >> {self.log}; echo "1 passed in 0.1s"')

    def has(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        (self.folder / name).chmod(0o755)

    def ci(self, *versions: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.folder / "bash"), str(ROOT / ".ci" / "run"), *versions]
        return subprocess.run(command, env={"PATH": str(self.folder)}, capture_output=True, text=True, timeout=60)

    @property
    def made(self) -> list[str]:
        return self.log.read_text("utf-8").splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "bin")


def test_lint_once_then_the_tests_on_each_python_that_runs(machine: Machine) -> None:
    machine.has("python3.11", "echo Python 3.11.9")
    machine.has("python3.12", "echo 'shim: not installed' >&2; exit 127")
    machine.has("python3.14", "echo Python 3.14.1")
    done = machine.ci()
    assert done.returncode == 0, done.stderr
    assert machine.made == [
        "check PYTHON=python3.11",
        "test-ci PYTHON=python3.11 VENV=.venv",
        "test PYTHON=python3.11 VENV=.venv",
        "test-ci PYTHON=python3.14 VENV=.venv-3.14",
        "test PYTHON=python3.14 VENV=.venv-3.14",
    ]
    assert done.stdout.splitlines()[-1] == "1 passed in 0.1s"


def test_only_those_that_are_named(machine: Machine) -> None:
    for version in ("3.11", "3.12", "3.13"):
        machine.has(f"python{version}", f"echo Python {version}.1")
    assert machine.ci("3.12").returncode == 0
    assert machine.made == [
        "check PYTHON=python3.12",
        "test-ci PYTHON=python3.12 VENV=.venv",
        "test PYTHON=python3.12 VENV=.venv",
    ]


def test_one_that_is_named_and_missing_is_a_failure(machine: Machine) -> None:
    machine.has("python3.11", "echo Python 3.11.9")
    done = machine.ci("3.13")
    assert (done.returncode, machine.made) == (1, [])
    assert "Python 3.13 was asked for" in done.stderr


def test_a_python_without_a_version_in_its_name_serves(machine: Machine) -> None:
    machine.has("python3", "echo Python 3.12.3")
    assert machine.ci().returncode == 0
    assert machine.made == [
        "check PYTHON=python3",
        "test-ci PYTHON=python3 VENV=.venv",
        "test PYTHON=python3 VENV=.venv",
    ]


def test_tests_that_fail_end_it(machine: Machine) -> None:
    machine.has("python3.11", "echo Python 3.11.9")
    machine.has("python3.12", "echo Python 3.12.3")
    machine.has("make", f'echo "$*" >> {machine.log}; [ $1 != test ] || exit 2')
    assert machine.ci().returncode == 2
    assert machine.made == [
        "check PYTHON=python3.12", "test-ci PYTHON=python3.12 VENV=.venv", "test PYTHON=python3.12 VENV=.venv"]  # fmt: skip
