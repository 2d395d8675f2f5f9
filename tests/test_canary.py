"""The search for secrets finds a planted one, wherever it is planted, and the fixtures use the secrets it knows."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import canary
from tests.canary import SECRETS, forms, known_secrets, search
from tests.page import test_guard
from tests.relay import examples
from tests.simulate import posts

ROOT = Path(__file__).parents[1]
SECRET, KEY = SECRETS["sender's secret"], SECRETS["signing key"]


@pytest.fixture
def aside() -> Iterator[Path]:
    """A directory that the search after this run does not see."""
    with tempfile.TemporaryDirectory(prefix="canary-") as found:
        yield Path(found)


def database(path: Path, text: bytes | str) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE kept (text)")
    db.execute("INSERT INTO kept VALUES (?)", [text])
    db.commit()
    db.close()


# where a secret is planted -> file and content
PLANTED = {
    "a database": ("queue.db", lambda path: database(path, f"x{SECRET}y")),
    "a database by another name": ("state", lambda path: database(path, SECRET)),
    "the key in a database": ("queue.db", lambda path: database(path, forms(KEY)["decoded"])),
    "the log of a database": ("queue.db-wal", lambda path: path.write_text(f"..{SECRET}..")),
    "a log": ("relay.log", lambda path: path.write_text(f"one\ntoken={SECRET}\nthree\n")),
    "a log, in base64": ("relay.log", lambda path: path.write_bytes(forms(SECRET)["in base64"])),
    "an answer": ("answers.http", lambda path: path.write_text(f'{{"detail":"{SECRET}"}}')),
}


@pytest.mark.parametrize("name, plant", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_secret_is_found_and_not_repeated(aside: Path, name, plant) -> None:
    (aside / "deep" / "er").mkdir(parents=True)
    assert search(aside, known_secrets()) == []
    plant(aside / "deep" / "er" / name)
    (found,) = {each.partition(":")[0] for each in search(aside, known_secrets())}
    assert found == str(aside / "deep" / "er" / name)
    assert SECRET not in repr(search(aside, known_secrets()))


def test_a_secret_that_make_run_wrote_may_stand_in_the_line_to_paste_only(aside: Path) -> None:
    run = aside / "run"
    run.mkdir()
    (run / ".env").write_text("RELAY_WEBHOOK_SECRETS=made-up-by-make-run-1\n")
    (run / "run.log").write_text('curl -d \'{"secret":"made-up-by-make-run-1"}\' http://127.0.0.1:1/webhook\n')
    assert search(aside, {}) == []
    (run / "relay.log").write_text("told=made-up-by-make-run-1\n")
    assert len(search(aside, {})) == 1


def test_the_fixtures_use_the_secrets_that_are_searched_for() -> None:
    used = {*examples.ENVIRONMENT.values(), posts.SECRET, posts.TOKEN, posts.SIGNING, test_guard.TOKEN}
    assert used <= {*SECRETS.values()}


INNER = """
import sqlite3, pytest
from tests.canary import *
from tests.canary import _answers_are_kept
SECRET = {secret!r}

def test_it(tmp_path, request):
    {leak}
"""
LEAKS = {
    "database": "db = sqlite3.connect(tmp_path / 'x.db'); db.execute(f'CREATE TABLE t (x DEFAULT {SECRET!r})'); db.close()",
    "console": "print('secret', SECRET)",
    "nowhere": "assert SECRET",
}


@pytest.mark.parametrize(
    "leak, workers",
    [
        ("database", 0),
        *(pytest.param(leak, workers, marks=pytest.mark.slow) for leak in LEAKS for workers in (0, 1)),
    ],
)
def test_a_whole_run_fails_where_a_secret_was_left(aside: Path, leak: str, workers: int) -> None:
    """The run's tests all pass, and the run fails; with workers as without."""
    (aside / "test_inner.py").write_text("from tests.canary import SECRETS\n" + INNER.format(
        secret=SECRET, leak=LEAKS[leak]))  # fmt: skip
    (aside / "conftest.py").write_text("from tests.canary import *\nfrom tests.canary import _answers_are_kept\n")
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), f"--rootdir={aside}",
         f"--basetemp={aside / 'base'}", str(aside / "test_inner.py")],
        cwd=aside, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "1 passed" in found.stdout, found.stdout + found.stderr
    assert found.returncode == (0 if leak == "nowhere" else 1), found.stdout
    assert ("secrets were found" in found.stdout) is (leak != "nowhere") and SECRET not in found.stdout


def test_the_hooks_are_in_force_here() -> None:
    from tests import conftest

    assert conftest.pytest_sessionfinish is canary.pytest_sessionfinish
