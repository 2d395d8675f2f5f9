"""Single values as strangers send them: text, numbers, words, instants.

A reader returns the value, or raises ValueError with the fix. A number is never read as a float.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from common import strict_json
from common.floats import without_noise
from common.pasted import number_cause

_T = TypeVar("_T")
NUMBER_PATTERN = r"[0-9]{1,12}(\.[0-9]{1,20})?"
_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)
_TOO_LARGE = Decimal(10**12)
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d{1,9})?\s?(?:(Z)|([+-]\d\d):?(\d\d))", re.ASCII | re.IGNORECASE
)
_EPOCH = re.compile(r"\d{9,13}(\.\d{1,20})?", re.ASCII)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 10**11  # in seconds this would be the year 5138
_PLAUSIBLE = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def text(value: object) -> str:
    """Return a text; a number without quotation marks is none."""
    if isinstance(value, str) and not isinstance(value, strict_json.Number):
        return value
    raise ValueError(f"must be text in quotes, was {shown(value)}")


def number(value: object) -> Decimal:
    """Return a number that is not negative, without a float's noise."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError(
            "must be a number, at most 12 digits before and 20 after the point, without sign or exponent, "
            f"was {shown(value)}{number_cause(value) if isinstance(value, str) else ''}"
        )
    found = Decimal(value)
    meant = without_noise(found)
    return meant if meant < _TOO_LARGE else found


def positive(value: object) -> Decimal:
    """Return a number greater than zero."""
    if isinstance(value, str) and re.fullmatch(rf"-{NUMBER_PATTERN}", value, re.ASCII):
        raise ValueError(f"must be greater than 0, was {shown(value)}")
    found = number(value)
    if not found:
        raise ValueError("must be greater than 0, was 0")
    return found


def percent(value: object) -> Decimal:
    """Return a share in percent, greater than zero: 50, "50", "50%" and "50 percent" are one.

    >>> percent("50 %"), percent("50 Percent"), percent(strict_json.Number("12.5"))
    (Decimal('50'), Decimal('50'), Decimal('12.5'))
    """
    words = value.strip(" ") if isinstance(value, str) else ""
    for unit in ("%", "percent"):
        if words.lower().endswith(unit):
            return positive(words[: -len(unit)].rstrip(" "))
    return positive(value)


def truth(value: object) -> bool:
    """Return true or false, in quotation marks or without."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in ("true", "false"):
        raise ValueError(f"must be true or false, was {shown(value)}")
    return word == "true"


def one_of(*words: str) -> Callable[[object], str]:
    """Return a reader of one of some words, in any case."""

    def read(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else None
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}, was {shown(value)}")
        return word

    return read


def printable(limit: int) -> Callable[[object], str]:
    """Return a reader of a text without control characters."""

    def read(value: object) -> str:
        found = text(value)
        if not 1 <= len(found) <= limit or not found.isprintable():
            raise ValueError(f"must be 1 to {limit} printable characters, was {shown(value)}")
        return found

    return read


def one_line(limit: int) -> Callable[[object], str]:
    """Return a reader of a text whose blanks and line breaks are single spaces; it may be empty."""

    def read(value: object) -> str:
        found = " ".join(text(value).split())
        if len(found) > limit or not found.isprintable():
            raise ValueError(f"must be at most {limit} printable characters, had {len(found)}")
        return found

    return read


def if_told(read: Callable[[object], _T]) -> Callable[[object], _T | None]:
    """Return a reader that takes NaN, nothing and a placeholder that was not filled in for "not told": None."""

    def read_if_told(value: object) -> _T | None:
        is_word = isinstance(value, str) and (value.strip().lower() in ("", "nan") or "{{" in value)
        if value is None or is_word or (isinstance(value, strict_json.Flaw) and value.is_constant):
            return None
        return read(value)

    return read_if_told


def instant(value: object) -> datetime:
    """Return an instant in UTC: as TradingView writes {{timenow}}, or in seconds or milliseconds since 1970.

    Source: TradingView, "How to use a variable value in alert": {{timenow}} is UTC as yyyy-MM-ddTHH:mm:ssZ, in whole
    seconds; Pine Script's own `timenow` is in milliseconds.

    >>> [str(instant(told)) for told in ("2026-11-23T09:15:00Z", "1795425300000")]
    ['2026-11-23 09:15:00+00:00', '2026-11-23 09:15:00+00:00']
    """
    found = _instant(value.strip()) if isinstance(value, str) else None
    if found is None or not _PLAUSIBLE[0] <= found < _PLAUSIBLE[1]:
        raise ValueError(f"must be a UTC instant like 2026-11-23T09:15:00Z, or seconds since 1970, was {shown(value)}")
    return found


def _instant(told: str) -> datetime | None:
    if _EPOCH.fullmatch(told):
        count = Decimal(told)
        seconds = count / 1000 if count >= _MILLISECONDS_FROM else count
        return _BEGINNING + timedelta(microseconds=int(seconds * 10**6))
    parts = _INSTANT.fullmatch(told)
    if parts is None:
        return None
    zone = "+00:00" if parts[4] else f"{parts[5]}:{parts[6]}"
    try:
        return datetime.fromisoformat(f"{parts[1]}T{parts[2]}{(parts[3] or '')[:7]}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):  # no such day, no such zone
        return None


def shown(value: object) -> str:
    """Return a value as an answer quotes it: short, and never what is inside of it."""
    if isinstance(value, strict_json.Flaw):
        return f"unreadable: it {value.reason}"
    if isinstance(value, strict_json.Number):
        return value[:40]
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return kinds.get(type(value)) or repr(value if len(str(value)) <= 40 else str(value)[:40] + "…")
