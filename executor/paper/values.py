"""What people may write for a parameter of a knob or an action, and how it is read. Pure.

Every reader returns the value or raises ValueError with what was expected and what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

Reader = Callable[[Any], Any]
LONGEST = 100 * 365 * 86400.0  # seconds
LARGEST = Decimal(10) ** 15


def _refuse(expected: str, found: object) -> NoReturn:
    raise ValueError(f"expected {expected}, found {repr(found)[:60]}")


def whole(low: int, high: int) -> Reader:
    """Return the reader of a whole number in these bounds, both included."""

    def read(value: Any) -> int:
        exact = number_or_none(value)
        if exact is None or exact % 1 or not low <= exact <= high:
            _refuse(f"a whole number from {low} to {high}", value)
        return int(exact)

    return read


def number_or_none(value: Any) -> Decimal | None:
    """Return a finite number of a sane size, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        found = Decimal(str(value))
    except (InvalidOperation, ValueError):
        return None
    sane = found.is_finite() and abs(found) <= LARGEST and int(found.as_tuple().exponent) >= -20
    return found if sane else None


def number(value: Any) -> Decimal:
    """Read a number, also a negative one."""
    found = number_or_none(value)
    return _refuse("a number", value) if found is None else found


def positive(value: Any) -> Decimal:
    """Read a price or a size."""
    found = number_or_none(value)
    return _refuse("a number above 0", value) if found is None or found <= 0 else found


def seconds(value: Any) -> float:
    """Read a duration in seconds, 0 and fractions included."""
    found = number_or_none(value)
    if found is None or not 0 <= found <= LONGEST or math.isnan(float(found)):
        _refuse("a number of seconds, not negative", value)
    return float(found)


def sizes(value: Any) -> list[Decimal]:
    """Read a list of sizes, at least one."""
    if not isinstance(value, (list, tuple)) or not value:
        _refuse("a list of sizes such as [3, 2]", value)
    return [positive(one) for one in value]


def path(value: Any) -> list[tuple[float, Decimal]]:
    """Read a list of pairs: seconds from now, price."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in value):
        _refuse("a list of [seconds, price]", value)
    return [(seconds(after), positive(price)) for after, price in value]


def texts(value: Any) -> list[str]:
    """Read a list of words; one alone may stand without the list."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) for one in found):
        _refuse("a list of words", value)
    return list(found)


def text(value: Any) -> str:
    """Read a text; a number is taken as it is written."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        _refuse("a text", value)
    return str(value)


def flag(value: Any) -> bool:
    """Read true or false."""
    return value if isinstance(value, bool) else _refuse("true or false", value)


def one_of(*words: str) -> Reader:
    """Return the reader of one of these words."""

    def read(value: Any) -> str:
        if str(value) not in words:
            _refuse("one of " + ", ".join(word or '""' for word in words), value)
        return str(value)

    return read


def maybe(reader: Reader) -> Reader:
    """Return the same reader, which lets None pass."""
    return lambda value: None if value is None else reader(value)
