"""docs/security.md: each line of its tables names a test that is there, or says that there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.relay.process import ROOT

PAGE = (ROOT / "docs/security.md").read_text("utf-8")


def claims() -> list[str]:
    """Return the rows of the tables that end in "shown by"."""
    found, shown = [], False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            shown = False
        elif line.endswith("| shown by |"):
            shown = True
        elif shown and not line.startswith("|---"):
            found.append(line)
    return found


def test_there_are_as_many_claims_as_the_page_needs() -> None:
    assert len(claims()) > 45


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.split("|")[1].strip()[:60])
def test_the_claim_names_a_test_or_says_that_there_is_none(claim: str) -> None:
    shown = claim.split("|")[3].strip()
    if shown == "not tested":
        return
    file, name = re.fullmatch(r"(\S+) `(\w+)`", shown).groups()  # type: ignore[union-attr]
    assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text("utf-8")


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.txt")), ids=lambda lock: lock.name)
def test_every_library_is_locked_by_version_and_hash(lock: Path) -> None:
    logical = lock.read_text("utf-8").replace("\\\n", " ").splitlines()
    libraries = [line for line in logical if line and not line.lstrip().startswith(("#", "-"))]
    assert len(libraries) > 15 and all("==" in line and "--hash=sha256:" in line for line in libraries)
