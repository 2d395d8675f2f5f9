"""The list of mutants cannot rot: each text stands once in the code, what it becomes is code, each test is there."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT
from tests.mutants.catalogue import MUTANTS, Mutant, sources

read_once = cache(sources)


def planted(mutant: Mutant) -> tuple[Path, str]:
    """Return the file that a mutant changes, and what stands there then."""
    texts = read_once(ROOT, mutant.part)
    path = mutant.place(ROOT, texts)
    return path, texts[path].replace(mutant.text, mutant.instead)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.breaks for mutant in MUTANTS])
def test_mutant_can_be_planted(mutant: Mutant) -> None:
    path, changed = planted(mutant)
    compile(changed, str(path), "exec")
    assert mutant.text != mutant.instead and mutant.tests
    assert all((ROOT / "tests" / each.partition("::")[0]).exists() for each in mutant.tests)


def test_no_rule_is_listed_twice() -> None:
    assert len({mutant.breaks for mutant in MUTANTS}) == len(MUTANTS) >= 30


def test_no_mutant_dies_of_a_name_that_is_not_there(tmp_path: Path) -> None:
    """That would be caught by any test, and so prove nothing of the rule."""
    for number, mutant in enumerate(MUTANTS):
        (tmp_path / f"mutant_{number}.py").write_text(planted(mutant)[1], "utf-8")
    words = ["-m", "ruff", "check", "--isolated", "--no-cache", "--quiet", "--select", "F821", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout
