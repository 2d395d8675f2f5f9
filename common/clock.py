"""Time: the only place that asks the machine what time it is.

Everything else takes a `Clock`, or `now` as an argument, so that a test can move time by hand.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_UTC_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)


class Clock(Protocol):
    """What time it is, for people (`now`) and for measuring how long something took (`monotonic`)."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime) -> None:
        self._now = require_aware(start).astimezone(UTC)
        self._elapsed = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move both readings forward; a negative number moves only `now`, as a corrected clock does."""
        self._now += timedelta(seconds=seconds)
        self._elapsed += max(0.0, seconds)


def require_aware(at: datetime) -> datetime:
    """Return `at` unchanged.

    Raises:
        ValueError: It has no time zone, so nobody knows which instant is meant.
    """
    if at.tzinfo is None:
        raise ValueError(f"an instant needs a time zone, got {at.isoformat()} without one")
    return at


def utc_text(at: datetime) -> str:
    """Return an instant as UTC text whose alphabetical order is the order in time.

    >>> utc_text(datetime(2026, 11, 23, 9, 15, tzinfo=UTC))
    '2026-11-23T09:15:00.000000Z'

    Raises:
        ValueError: The instant has no time zone.
    """
    utc = at if at.tzinfo is UTC else require_aware(at).astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:26] + "Z"


def parse_utc(text: str) -> datetime:
    """Return the instant that `utc_text` wrote.

    >>> parse_utc("2026-11-23T09:15:00.250000Z").microsecond
    250000

    Raises:
        ValueError: It is no UTC instant in this form (another zone, no zone, no such day).
    """
    if not _UTC_TEXT.fullmatch(text):
        raise ValueError(f"expected a UTC instant like 2026-11-23T09:15:00.000000Z, got {text[:40]!r}")
    return datetime.fromisoformat(text)
