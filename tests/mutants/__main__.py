"""`make mutants`: plant each sabotage in a copy of the tree, and see which test catches it.

python -m tests.mutants [--only WORDS] [--jobs N]
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
KEPT = ("common", "executor", "relay", "deploy", "bench", "docs", "tests")
SECONDS = 300.0  # for the tests of one mutant; to run out of time is no catch
FAILED = re.compile(r"^FAILED tests/(.*?)(?: - .*)?$", re.MULTILINE)
WHY = re.compile(r"^E   +(.*)$", re.MULTILINE)
PYTEST = ("-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one mutant. `caught` names the test that failed, "" where none did; `why` is its first word."""

    mutant: Mutant
    caught: str
    why: str
    seconds: float


class Trouble(Exception):
    """Nothing can be judged; the text says why."""


def copy_tree(to: Path) -> Path:
    """Copy what the tests need; the checkout itself is never changed."""
    for name in KEPT:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
    shutil.copy2(ROOT / "pyproject.toml", to)
    return to


def run_tests(tree: Path, tests: Iterable[str], seconds: float = SECONDS) -> tuple[int, str]:
    """Run tests of a tree until the first failure; pytest's exit code and output."""
    words = [sys.executable, *PYTEST, f"--basetemp={tree}/.tests", *(f"tests/{each}" for each in tests)]
    settings = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(words, cwd=tree, env=settings, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return -1, f"they took longer than {seconds:.0f} s"
    return done.returncode, done.stdout + done.stderr


def judge(tree: Path, mutant: Mutant) -> Outcome:
    """Plant the mutant in this tree, run its tests, and take it out again.

    Raises:
        Trouble: The tests could not be run, which is no catch.
    """
    path, began = mutant.place(tree), time.monotonic()
    whole = path.read_text("utf-8")
    path.write_text(whole.replace(mutant.text, mutant.instead), "utf-8")
    try:
        code, output = run_tests(tree, mutant.tests)
    finally:
        path.write_text(whole, "utf-8")
    failed, why = FAILED.search(output), WHY.search(output)
    if code not in (0, 1) or (code == 1 and (failed is None or "Timeout (" in output)):
        raise Trouble(f"{mutant.breaks}: its tests did not run to their end (exit code {code}):\n{output[-2000:]}")
    caught = failed[1] if failed and code else ""
    return Outcome(mutant, caught, why[1] if why and code else "", time.monotonic() - began)


def judge_all(mutants: list[Mutant], jobs: int) -> Iterator[Outcome]:
    """Judge every mutant, in copies of the tree that each hold one at a time; first see that all tests pass."""
    with ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        free: queue.Queue[Path] = queue.Queue()
        for _ in range(jobs):
            free.put(copy_tree(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))))
        code, output = run_tests(
            free.queue[0], sorted({each for mutant in mutants for each in mutant.tests}), 4 * SECONDS
        )
        if code:
            raise Trouble(f"these tests fail without any mutant, so they can catch none:\n{output[-3000:]}")

        def one(mutant: Mutant) -> Outcome:
            tree = free.get()
            try:
                return judge(tree, mutant)
            finally:
                free.put(tree)

        yield from pool.map(one, mutants)


def tell(outcomes: Iterator[Outcome]) -> int:
    """Print one line a mutant, then the figures; how many nothing caught."""
    survivors, count, began = [], 0, time.monotonic()
    print(f"{'the rule that the mutant breaks':76}{'seconds':>7}  caught by")
    for outcome in outcomes:
        count += 1
        print(
            f"{outcome.mutant.breaks:76}{outcome.seconds:7.1f}  {outcome.caught or 'NOTHING'}: {outcome.why[:80]}",
            flush=True,
        )
        survivors += [] if outcome.caught else [outcome.mutant]
    print(f"{count} mutants, {count - len(survivors)} caught, {len(survivors)} survived", end="; ")
    print(f"{time.monotonic() - began:.0f} s")
    return len(survivors)


@click.command()
@click.option("--only", default="", help="Mutants whose rule contains this.")
@click.option("--jobs", default=2, help="Mutants at the same time.")
def main(only: str, jobs: int) -> None:
    """Exit code 1 when a mutant survives, 2 when one cannot be judged."""
    try:
        survived = tell(judge_all([mutant for mutant in MUTANTS if only in mutant.breaks], jobs))
    except (Trouble, LookupError) as trouble:
        print(trouble, file=sys.stderr)
        sys.exit(2)
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.mutants")
