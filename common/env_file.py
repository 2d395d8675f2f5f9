"""`.env` as people write it: every line is understood, or named with its number.

No value is ever shown, nor a line as a whole: most of them are secrets.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError
from common.names import PREFIXES
from common.texts import read_text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_NEXT_LINE = re.compile(rf"^\s*(export\s+)?({'|'.join(PREFIXES)})\w+\s*=", re.MULTILINE | re.ASCII)
_STRANGE = re.compile("[\x00-\x08\x0b-\x1f\x7f‘’‚“”„«»′″\u00a0\u2000-\u200f\u202f\u2060\ufeff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting in the file."""

    name: str
    value: str
    line: int


def read_env(path: Path) -> dict[str, str]:
    """Return what a file sets, by name; `$` in it means itself.

    Raises:
        ConfigError: It cannot be read, or some of its lines cannot: each is named with the fix.
    """
    entries, problems = _entries(path)
    seen: dict[str, Entry] = {}
    for entry in entries:
        before = seen.get(entry.name)
        if before and before.value and entry.value and before.value != entry.value:
            problems.append(f"line {entry.line} sets {entry.name} again, unlike line {before.line}: keep one of them")
        if entry.value or not before:
            seen[entry.name] = entry
    if problems:
        raise ConfigError([f"{path} {problem}" for problem in problems])
    return {name: entry.value for name, entry in seen.items()}


def _entries(path: Path) -> tuple[list[Entry], list[str]]:
    from dotenv.parser import parse_stream  # here: most deployments have no such file, and it costs time

    entries, problems = [], []
    for found in parse_stream(io.StringIO(_text(path))):
        text = found.original.string
        number = found.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if found.error or (found.key is not None and (found.value is None or not _NAME.fullmatch(found.key))):
            problems.append(_unreadable(text.strip(), number))
        elif found.key is not None:
            entries.append(Entry(found.key, found.value or "", number))
            problems += _doubts(entries[-1], text)
    return entries, problems


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read ({exc.strerror}): give it to the user who runs this") from exc
    except ValueError as exc:
        raise ConfigError(f"{path} {exc}") from exc


def _unreadable(text: str, number: int) -> str:
    """Say what is wrong with lines that are no setting, by the name before the `=` at most."""
    last = number + text.count("\n")
    where = f"lines {number} to {last}" if last > number else f"line {number}"
    name, equals, value = text.partition("=")
    name = name.strip().removeprefix("export ").strip()
    if equals and _NAME.fullmatch(name) and value.strip()[:1] in ("'", '"'):
        return f"{where} ({name}) cannot be read: close its quotation mark at the end of the value, or take both out"
    return f"{where} cannot be read: write NAME=value, or begin the line with # if it is a comment"


def _doubts(entry: Entry, text: str) -> Iterator[str]:
    """Yield what a value cannot have been meant to hold, though it can be read."""
    where, raw = f"line {entry.line} ({entry.name})", text.partition("=")[2].strip()
    if _NEXT_LINE.search(entry.value):
        yield f"{where} opens a quotation mark and does not close it: the next setting became part of its value"
    elif raw[:1] not in ("'", '"') and entry.value.endswith(("'", '"')):
        yield f"{where} ends with a quotation mark that was never opened: take it out"
    if strange := _STRANGE.search(entry.value):
        yield (
            f"{where} holds the character U+{ord(strange[0]):04X}, as word processors and web pages put in the "
            "place of a plain quotation mark or space: type the value again"
        )
