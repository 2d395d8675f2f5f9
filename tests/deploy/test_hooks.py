"""The git hooks: what they refuse, and where `make` lets git run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="make and sh: on Windows nothing installs the hooks")
NOBODYS = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}  # fmt: skip


def run(folder: Path, *command: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = NOBODYS if path is None else {**NOBODYS, "PATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def git(folder: Path, *arguments: str) -> str:
    done = run(folder, "git", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def hooks_path(folder: Path) -> str:
    return run(folder, "git", "config", "core.hooksPath").stdout.strip()


def install(folder: Path, **how: str) -> str:
    """Run what `make` runs; it must not fail, and must not complain."""
    done = run(folder, "/bin/sh", "deploy/hooks.sh", **how)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def lay_out(folder: Path) -> Path:
    """Return a folder with the parts of this project that hooks need."""
    (folder / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "hooks.sh", folder / "deploy")
    shutil.copytree(ROOT / ".githooks", folder / ".githooks")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = lay_out(tmp_path / "clone")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Begin")
    return folder


def test_a_fresh_clone_gets_the_hooks_and_is_told_once(clone: Path) -> None:
    assert ".githooks" in install(clone)
    assert hooks_path(clone) == ".githooks"
    assert install(clone) == ""


def test_hooks_of_the_owner_stay(clone: Path) -> None:
    git(clone, "config", "core.hooksPath", "/mine")
    assert install(clone) == ""
    assert hooks_path(clone) == "/mine"


def test_a_hook_in_the_usual_place_stays_in_force(clone: Path) -> None:
    hooks = clone / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "pre-push").write_text("#!/bin/sh\n", "utf-8")
    assert install(clone) == ""
    assert hooks_path(clone) == ""


def test_a_tarball_is_left_alone_also_inside_another_repository(tmp_path: Path) -> None:
    assert install(lay_out(tmp_path / "alone")) == ""
    git(tmp_path, "init", "-q")
    assert install(lay_out(tmp_path / "vendor" / "ours")) == ""
    assert hooks_path(tmp_path) == ""


def test_a_checkout_that_cannot_be_written_and_a_machine_without_git_are_no_failure(
    clone: Path, tmp_path: Path
) -> None:
    assert install(clone, path=str(tmp_path / "nothing")) == ""
    (clone / ".git" / "config.lock").touch()  # as good as read-only, for root too
    assert install(clone) == ""
    assert hooks_path(clone) == ""


def test_they_work_in_a_worktree(clone: Path, tmp_path: Path) -> None:
    git(clone, "worktree", "add", "-q", str(tmp_path / "tree"))
    install(tmp_path / "tree")
    refused = run(tmp_path / "tree", "git", "commit", "--allow-empty", "-m", "Added a thing")
    assert refused.returncode == 1
    assert "imperative" in refused.stderr
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "Add a thing")


SUBJECTS = {
    "Add a thing": "",
    "Größe: " + "ü" * 65: "",
    "Merge branch 'x' into y, whatever its length may be, since git itself has written it so.": "",
    'Revert "Added a thing."': "",
    "# a comment\n\nAdd a thing\n\nA body. Of sentences.": "",
    "A" * 73: "has 73 characters",
    "Add a thing.": "full stop",
    "Fixes a thing": "imperative",
    "Add a thing\nand another": "blank",
}


@pytest.mark.parametrize("message", SUBJECTS, ids=lambda message: message[:30])
def test_subjects(message: str, tmp_path: Path) -> None:
    (tmp_path / "message").write_text(f"{message}\n# Please enter the commit message\n", "utf-8")
    done = run(tmp_path, str(ROOT / ".githooks" / "commit-msg"), "message")
    assert done.returncode == bool(SUBJECTS[message]), done.stderr
    assert SUBJECTS[message] in done.stderr


def test_what_is_committed_is_formatted_whatever_lies_in_the_folder(clone: Path) -> None:
    install(clone)
    (clone / "näme with blank.py").write_text("x=1\n", "utf-8")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "Add it where no environment is set up yet")
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "ruff").symlink_to(Path(sys.executable).with_name("ruff"))
    (clone / "näme with blank.py").write_text("x=2\n", "utf-8")
    refused = run(clone, "git", "commit", "-qam", "Change it")
    assert refused.returncode == 1
    assert "not formatted: näme with blank.py" in refused.stderr and "make fmt" in refused.stderr
    (clone / "näme with blank.py").write_text("x = 2\n", "utf-8")
    git(clone, "add", "näme with blank.py")
    (clone / "näme with blank.py").write_text("x  =  3\n", "utf-8")
    git(clone, "commit", "-q", "-m", "Change it")
