"""One version, said by every program, by the package, and in what they serve and send."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.version import VERSION, user_agent
from deploy.vps.__main__ import make_bundle
from relay import openapi
from tests.once import once

ROOT = Path(__file__).parents[2]
# console script -> the module that `python -m` runs
PROGRAMS = {"signal-relay": "relay", "signal-executor": "executor", "paper-tws": "executor.paper"}


def says(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", PROGRAMS)
def test_each_program_says_its_version_without_any_setting(script: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", PROGRAMS[script], "--version"]
    assert says(command, tmp_path, PYTHONPATH=str(ROOT)) == f"{script} {VERSION}\n"


def test_the_package_has_the_same_version_and_the_three_commands(tmp_path_factory: pytest.TempPathFactory) -> None:
    [wheel] = once(tmp_path_factory, "bundle", make_bundle).glob("*.whl")
    assert wheel.name.split("-")[1] == VERSION
    with zipfile.ZipFile(wheel) as file:
        [listed] = [name for name in file.namelist() if name.endswith(".dist-info/entry_points.txt")]
        found = configparser.ConfigParser(delimiters="=")
        found.read_string(file.read(listed).decode())
    assert set(found["console_scripts"]) == set(PROGRAMS)
    for script, target in found["console_scripts"].items():
        command = EntryPoint(script, target, "console_scripts").load()
        assert CliRunner().invoke(command, ["--version"]).output == f"{script} {VERSION}\n"


def test_it_is_written_in_one_place_only() -> None:
    sources = [path for part in ("common", "relay", "executor", "deploy") for path in (ROOT / part).rglob("*.py")]
    written = re.compile(rf"""["']{re.escape(VERSION)}["']""")
    found = [
        path.relative_to(ROOT)
        for path in [*sources, ROOT / "pyproject.toml"]
        if written.search(path.read_text("utf-8"))
    ]
    assert found == [Path("common/version.py")]


def test_what_is_served_and_sent_carries_it() -> None:
    assert openapi.DOCUMENT["info"]["version"] == VERSION
    assert user_agent("signal-executor") == f"signal-executor/{VERSION}"


def test_the_changelog_begins_with_it() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest and newest[1] == VERSION
