"""The fields of an alert, one by one: the closed list, and what each may hold.

A reader returns a field's canonical value, or raises ValueError with the fix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from common import strict_json
from common.errors import Problem
from common.floats import without_noise
from common.pasted import number_cause
from common.symbols import canonical

NUMBER_PATTERN = r"[0-9]{1,12}(\.[0-9]{1,20})?"
_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)
_TOO_LARGE = Decimal(10**12)
NOTE_LIMIT, ID_LIMIT, SECRET_LIMIT, WARNING_LIMIT = 200, 128, 512, 300
MOST_UNKNOWN = 20  # fields that an answer names; what more there are is a number
MOST_WARNINGS = 20  # in one answer
Actions = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]  # action -> (required fields, optional fields)


def _text(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, strict_json.Number):
        return value
    raise ValueError(f"must be text in quotes, was {_shown(value)}")


def _number(value: object) -> Decimal:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError(
            "must be a number, at most 12 digits before and 20 after the point, without sign or exponent, "
            f"was {_shown(value)}{number_cause(value) if isinstance(value, str) else ''}"
        )
    number = Decimal(value)
    meant = without_noise(number)
    return meant if meant < _TOO_LARGE else number


def _positive(value: object) -> Decimal:
    if isinstance(value, str) and re.fullmatch(rf"-{NUMBER_PATTERN}", value, re.ASCII):
        raise ValueError(f"must be greater than 0, was {_shown(value)}")
    number = _number(value)
    if not number:
        raise ValueError("must be greater than 0, was 0")
    return number


def _symbol(value: object) -> str:
    return canonical(_text(value))


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else None
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}, was {_shown(value)}")
        return word

    return read


def _printable(limit: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = _text(value)
        if not 1 <= len(text) <= limit or not text.isprintable():
            raise ValueError(f"must be 1 to {limit} printable characters, was {_shown(value)}")
        return text

    return read


def _note(value: object) -> str:
    text = " ".join(_text(value).split())
    if len(text) > NOTE_LIMIT or not text.isprintable():
        raise ValueError(f"must be at most {NOTE_LIMIT} printable characters, had {len(text)}")
    return text


def _secret(value: object) -> str:
    if isinstance(value, strict_json.Number) or not isinstance(value, str) or len(value) > SECRET_LIMIT:
        raise ValueError(f"must be text in quotes, at most {SECRET_LIMIT} characters")
    return value


def _shown(value: object) -> str:
    if isinstance(value, strict_json.Flaw):
        return f"unreadable: it {value.reason}"
    if isinstance(value, strict_json.Number):
        return value[:40]
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return kinds.get(type(value)) or repr(value if len(str(value)) <= 40 else str(value)[:40] + "…")


_POSITIONS = ("long", "short", "flat")
# field -> how it is read
_FIELDS: dict[str, Callable[[object], object]] = {
    "symbol": _symbol,
    "side": _one_of("buy", "sell"),
    "quantity": _positive,
    "tp": _positive,
    "sl": _positive,
    "market_position": _one_of(*_POSITIONS),
    "market_position_size": _number,
    "prev_market_position": _one_of(*_POSITIONS),
    "prev_market_position_size": _number,
    "id": _printable(ID_LIMIT),
    "note": _note,
    "secret": _secret,
    "warning": _printable(WARNING_LIMIT),
}
_PREVIOUS = ("prev_market_position", "prev_market_position_size")
STRATEGY_FIELDS = ("market_position", "market_position_size", *_PREVIOUS)
# action -> (required fields, optional fields), beside id and note that any may have
ALERT_ACTIONS: Actions = {
    "open": (("symbol", "side", "quantity"), ("tp", "sl", "secret")),
    "close": (("symbol",), ("secret",)),
    "reset": (("symbol",), ("secret",)),
    "strategy": (("symbol", "market_position", "market_position_size"), (*_PREVIOUS, "tp", "sl", "secret")),
}
# The same of a signal, which is what the relay signs: what its strategy held before and after stays with it.
SIGNAL_ACTIONS: Actions = {
    "open": (("symbol", "side", "quantity"), ("tp", "sl", "market_position", *_PREVIOUS, "warning")),
    "reduce": (("symbol", "side", "quantity"), ("market_position", *_PREVIOUS, "warning")),
    "close": (("symbol",), ("market_position", *_PREVIOUS, "warning")),
    "reset": (("symbol",), ("warning",)),
}
_ANY = ("id", "note")


def checked(fields: Mapping[str, object], actions: Actions) -> tuple[dict[str, Any], list[Problem]]:
    """Return the canonical values of all fields that have one, and every problem."""
    try:
        action = _one_of(*actions)(fields["action"])
    except (KeyError, ValueError) as exc:
        missing = isinstance(exc, KeyError)
        problem = f"is missing; one of {', '.join(actions)}" if missing else str(exc)
        return {}, [Problem("action", problem), *_unknown(fields, {*_FIELDS})]
    required, optional = actions[action]
    allowed = (*required, *optional, *_ANY)
    values: dict[str, Any] = {"action": action}
    problems = _unknown(fields, {*allowed}, f" of the action {action}")
    for name in allowed:
        if name in fields:
            try:
                values[name] = _FIELDS[name](fields[name])
            except ValueError as exc:
                problems.append(Problem(name, str(exc)))
        elif name in required:
            problems.append(Problem(name, f"is missing; the action {action} needs {', '.join(required)}"))
    return values, problems


def _unknown(fields: Mapping[str, object], allowed: set[str], where: str = "") -> list[Problem]:
    """Return a problem for each unknown field, for the first of them at least: a body has room for thousands."""
    unknown = [name for name in fields if name not in allowed and name != "action"]
    known = f"; allowed: action, {', '.join(sorted(allowed - {'secret'}))}"  # said once, with the first
    problems = [
        Problem(name[:40], f"is not a field{where}{'' if n else known}")
        for n, name in enumerate(unknown[:MOST_UNKNOWN])
    ]
    if len(unknown) > MOST_UNKNOWN:
        problems.append(Problem("", f"{len(unknown) - MOST_UNKNOWN} more names are not fields either"))
    return problems
