"""Seeds of random proofs: those that are named, or others for each commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click


def seeds(text: str) -> list[int]:
    """Return the seeds that a list of numbers and ranges names.

    >>> seeds("3,7-9")
    [3, 7, 8, 9]
    """
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def fresh(count: int) -> list[int]:
    """Return seeds that follow from the commit: of each commit others, since a seed that was run before proves nothing.

    Raises:
        click.UsageError: There is no commit to draw them from.
    """
    git = shutil.which("git")
    words = [git or "git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True) if git else None
    if done is None or done.returncode:
        raise click.UsageError("no commit is found to draw seeds from: name some, like --seeds 1-400")
    first = 1000 * int(done.stdout[:8], 16)  # so that those of two commits hardly overlap
    return list(range(first, first + count))
