"""Which seeds a random proof plays unless it is told."""

from __future__ import annotations

import subprocess

import pytest

from tests import seeds


def test_seeds_follow_from_the_commit_and_are_as_many_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for commit in ("3c38ae2f" + "0" * 32, "3c38ae30" + "0" * 32):
        answer = subprocess.CompletedProcess([], 0, stdout=f"{commit}\n")
        monkeypatch.setattr(seeds.subprocess, "run", lambda *_, answer=answer, **__: answer)
        found[commit] = seeds.fresh(3)
    first, second = found.values()
    assert len({*first, *second}) == 6 and first == seeds.seeds(f"{first[0]}-{first[-1]}")
