"""What fails on the page now: logged with its traceback, reported to the trading loop, over when it works again."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flask import current_app, request
from jinja2 import TemplateSyntaxError

from common.clock import Clock
from common.logs import get_logger

log = get_logger(__name__)

LOG_AGAIN_SECONDS = 300.0  # how often a fault that lasts is logged
PRESS_SECONDS = 900.0  # how long a failed button is reported: nobody presses it again to check
_LONGEST = 300


@dataclass(slots=True)
class _Fault:
    since: float
    logged_at: float
    count: int
    is_press: bool


class Faults:
    """Keeps track of what fails now; safe to use from several threads.

    `tell(what, words)` is called once when something begins to fail, and with None when it works again, or works
    for the first time since the start: an alarm of an earlier run ends so. It must not block or raise.
    """

    def __init__(self, tell: Callable[[str, str | None], None], clock: Clock, templates: str | None) -> None:
        self._tell = tell
        self._clock = clock
        self._templates = templates
        self._lock = threading.Lock()
        self._standing: dict[str, _Fault] = {}
        self._working: set[str] = set()

    @property
    def standing(self) -> tuple[str, ...]:
        """What fails now, such as "/" or "/api/status"."""
        with self._lock:
            self._end_presses()
            return tuple(self._standing)

    def failed(self, what: str, error: Exception, *, is_press: bool = False) -> str:
        """Note the exception being handled, log it at most every five minutes, and return it in words."""
        words, now = in_words(error, self._templates), self._clock.monotonic()
        with self._lock:
            known = self._standing.get(what)
            fault = known or _Fault(now, now - LOG_AGAIN_SECONDS, 0, is_press)
            fault.count += 1
            fault.since = now if is_press else fault.since
            self._standing[what] = fault
            self._working.discard(what)
            if is_due := now - fault.logged_at >= LOG_AGAIN_SECONDS:
                fault.logged_at = now
            if known is None:
                self._tell(what, words)
        if is_due:
            log.exception("page_failed", what=what, times=fault.count, text=words)
        return words

    def fine(self, what: str) -> None:
        """Note that something works; reported if it failed before."""
        with self._lock:
            self._end_presses()
            if what not in self._working:
                self._working.add(what)
                self._standing.pop(what, None)
                self._tell(what, None)

    def _end_presses(self) -> None:
        now = self._clock.monotonic()
        for what, fault in list(self._standing.items()):
            if fault.is_press and now - fault.since >= PRESS_SECONDS:
                del self._standing[what]
                self._tell(what, None)


def current_faults() -> Faults:
    return cast(Faults, current_app.extensions["faults"])


def asked_for() -> str:
    """Return what a request asks for, without what varies in it, such as "/trades"."""
    rule = request.url_rule.rule if request.url_rule else "an unknown address"
    return rule.partition("<")[0].rstrip("/") or "/"


def in_words(error: Exception, templates: str | None = None) -> str:
    """Return an error and, where a template was rendered, whose it is and which line."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
    places = _places(error)
    own = [place for place in places if templates and Path(place[0]).is_relative_to(Path(templates).absolute())]
    if own:
        file, line = own[-1]
        return f"your own template {Path(file).name}, line {line}: {said}"
    if places:
        file, line = places[-1]
        return f"a bug in this program, {Path(file).name} line {line}: {said}"
    return f"a bug in this program: {said}"


def _places(error: Exception) -> list[tuple[str, int]]:
    """Return file and line of every template that an error came through, the innermost last."""
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    found = [(file, line) for file, line in frames if file.endswith(".html")]
    if isinstance(error, TemplateSyntaxError) and error.filename:
        found.append((error.filename, error.lineno))
    return [(str(Path(file).absolute()), line) for file, line in found]
