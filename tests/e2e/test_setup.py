"""Setting up on a machine with only git, make and Python: the virtual environment."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="make and sh: on Windows the README names commands")


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def make_venv(path: Path, *, target: Path) -> subprocess.CompletedProcess[str]:
    """Run deploy/venv.sh where only the commands in `path` are found."""
    script = ["/bin/sh", str(ROOT / "deploy" / "venv.sh"), str(target)]
    return subprocess.run(script, env={"PATH": str(path)}, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_newest_python_that_runs_is_taken_and_a_broken_shim_passed_over(tmp_path: Path) -> None:
    command(tmp_path, "python3.13", "echo 'shim: version not installed' >&2; exit 127")
    command(tmp_path, "python3.12", f'exec "{sys.executable}" "$@"')
    command(tmp_path, "python3.11", "echo wrong; exit 3")
    done = make_venv(tmp_path, target=tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", ""], check=False).returncode == 0


@pytest.mark.slow
def test_python_3_14_serves_where_it_is_alone_and_an_environment_that_works_is_kept(tmp_path: Path) -> None:
    command(tmp_path, "python3.14", f'exec "{sys.executable}" "$@"')
    assert make_venv(tmp_path, target=tmp_path / "venv").returncode == 0
    (tmp_path / "venv" / "mine").touch()
    assert make_venv(tmp_path, target=tmp_path / "venv").returncode == 0
    assert (tmp_path / "venv" / "mine").exists()


def test_no_python_that_serves_is_said_with_the_remedy(tmp_path: Path) -> None:
    command(tmp_path, "python3", 'test "$1" = --version && echo Python 3.9.2 || exit 1')
    done = make_venv(tmp_path, target=tmp_path / "venv")
    assert done.returncode == 1
    assert "Python 3.11, 3.12, 3.13 or 3.14" in done.stderr
    assert "found: Python 3.9.2" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_help_is_the_default_and_names_the_two_commands() -> None:
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "make run" in done.stdout
    assert "make demo" in done.stdout


def test_unknown_library_is_refused() -> None:
    done = subprocess.run(["make", "IB=ibapi", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "IB must be ib_insync or ib_async" in done.stderr


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a source imports."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names}


def distributions(names: set[str]) -> dict[str, set[str]]:
    """Return package name -> the distributions that install it, spelled as in a lock."""
    owners = importlib.metadata.packages_distributions()
    return {name: {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(name, [])} for name in names}


@pytest.fixture(scope="module")
def foreign() -> dict[str, set[str]]:
    """What the programs import of others' packages -> the distributions that install it."""
    ours = {"common", "relay", "executor", "deploy"}
    names = {name for part in ours for path in (ROOT / part).rglob("*.py") for name in imported(path)}
    names -= {*sys.stdlib_module_names, *ours, "_typeshed"}
    return distributions(names - {"ib_insync", "ib_async"})  # each lock has one of the two


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-ib_async.txt"])
def test_lock_holds_everything_that_the_programs_import(foreign: dict[str, set[str]], lock: str) -> None:
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / lock).read_text("utf-8"), re.MULTILINE))
    assert {name for name, found in foreign.items() if not found & locked} == set()
