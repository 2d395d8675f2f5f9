"""Secrets: values that nothing shows, and files of them that may be replaced while a program runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from common.errors import ConfigError
from common.texts import read_text


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """A secret value that no print, log or traceback shows. A list is comma-separated, newest first."""

    _text: str = dataclasses.field(repr=False)
    file: Path | None = None  # where it was read from, when it was a file; see Rotating

    def reveal(self) -> str:
        return self._text

    def items(self) -> tuple[str, ...]:
        """Return the parts of a comma- or line-separated list, without blanks around them."""
        return tuple(part.strip() for part in self._text.replace("\n", ",").split(",") if part.strip())

    def __bool__(self) -> bool:
        return bool(self.items())

    def __str__(self) -> str:
        return "[secret]"


class Rotating:
    """A secret that may lie in a file and be replaced there while the program runs.

    `current()` looks at the file's size and time of change, at most once each `every` seconds (a sender
    spraying requests costs no system calls), and reads it when they differ. A file that is gone, empty or
    refused by `check` leaves the last good value in force: a rotation never opens a gap.
    """

    def __init__(
        self,
        secret: Secret,
        monotonic: Callable[[], float],
        check: Callable[[Secret], object] | None = None,
        every: float = 1.0,
    ) -> None:
        self._secret, self._monotonic, self._check, self._every = secret, monotonic, check, every
        self._stamp: object = "never looked"  # the file may have changed since the start
        self._next = monotonic()
        self.problem: str | None = None  # why the file's present content is not in force

    def current(self) -> Secret:
        """Return the secret in force now."""
        if self._secret.file is not None and self._monotonic() >= self._next:
            self._next = self._monotonic() + self._every
            self._refresh(self._secret.file)
        return self._secret

    def _refresh(self, file: Path) -> None:
        stamp = _stamp(file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = Secret(read_text(file).strip(), file)
            if not fresh:
                raise ValueError("is empty")
            if self._check:
                self._check(fresh)
        except (OSError, ValueError, ConfigError) as exc:
            self.problem = f"{file}: {exc}; the previous secret stays in force"
        else:
            self._secret, self.problem = fresh, None


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    try:
        found = file and file.stat()
    except OSError:  # gone, or not readable: what was read before stays in force
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None
