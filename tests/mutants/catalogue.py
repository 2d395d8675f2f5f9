"""Reads `mutants.txt`, the list of sabotages: one line of the real code changed, one rule of the protocol broken.

A mutant that nothing catches is a missing test; one whose text is gone from the code is an error, so the list
cannot rot. Each entry of the list:

    ## what the mutant breaks, as the rule that the code keeps
    package  tests that must fail, as files or test ids under tests/
    -the code's own text; it stands exactly once in the package, in whatever file
    +what stands there instead (nothing, where the text is only taken out)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("mutants.txt")


@dataclass(frozen=True)
class Mutant:
    """One sabotage of the package `part`."""

    breaks: str
    part: str
    tests: tuple[str, ...]
    text: str
    instead: str

    def place(self, root: Path, texts: Mapping[Path, str] | None = None) -> Path:
        """Return the one file in which the text stands; `texts`: the package's files, where they were read before.

        Raises:
            LookupError: It stands nowhere, or more than once; the text says where.
        """
        texts = texts or sources(root, self.part)
        found = [path for path, text in texts.items() for _ in range(text.count(self.text))]
        if len(found) != 1:
            where = ", ".join(str(path.relative_to(root)) for path in found) or "nowhere"
            raise LookupError(f"{self.breaks}: {self.text!r} must stand once in {self.part}/, but stands: {where}")
        return found[0]


def sources(root: Path, part: str) -> dict[Path, str]:
    """Return what stands in each file of a package."""
    return {path: path.read_text("utf-8") for path in sorted((root / part).rglob("*.py"))}


def read(path: Path = LIST) -> tuple[Mutant, ...]:
    """Return the list's mutants in its order."""
    entries = path.read_text("utf-8").split("\n## ")[1:]
    return tuple(_mutant(entry.splitlines()) for entry in entries)


def _mutant(lines: list[str]) -> Mutant:
    breaks, (part, *tests), *rest = lines[0], lines[1].split(), *lines[2:]
    text, instead = ("\n".join(line[1:] for line in rest if line.startswith(sign)) for sign in "-+")
    return Mutant(breaks, part, tuple(tests), text, instead)


MUTANTS = read()
