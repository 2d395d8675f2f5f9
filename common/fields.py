"""The fields of an alert, one by one: the closed list, and what each may hold.

How single values are read is in `common.values`, and where a trade is to be left in `common.exits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common import strict_json
from common.errors import Problem
from common.exits import distance, price_distance_or_entry, price_or_distance, targets
from common.symbols import canonical
from common.values import if_told, instant, number, one_line, one_of, percent, positive, printable, text, truth

NOTE_LIMIT, ID_LIMIT, SECRET_LIMIT, WARNING_LIMIT, STRATEGY_NAME_LIMIT = 200, 128, 512, 300, 64
MOST_UNKNOWN = 20  # fields that an answer names; what more there are is a number
MOST_WARNINGS = 20  # in one answer
Actions = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]  # action -> (required fields, optional fields)
Reader = Callable[[object], object]


def _symbol(value: object) -> str:
    return canonical(text(value))


def _secret(value: object) -> str:
    if isinstance(value, strict_json.Number) or not isinstance(value, str) or len(value) > SECRET_LIMIT:
        raise ValueError(f"must be text in quotes, at most {SECRET_LIMIT} characters")
    return value


_POSITIONS = ("long", "short", "flat")
# field -> how it is read
_FIELDS: dict[str, Reader] = {
    "symbol": _symbol,
    "side": one_of("buy", "sell"),
    "quantity": positive,
    "percent": percent,
    "tp": price_or_distance,
    "sl": price_or_distance,
    "trail": distance,
    "targets": targets,
    "breakeven_after_target": truth,
    "loosen": truth,
    "market_position": one_of(*_POSITIONS),
    "market_position_size": number,
    "prev_market_position": one_of(*_POSITIONS),
    "prev_market_position_size": number,
    "id": printable(ID_LIMIT),
    "note": one_line(NOTE_LIMIT),
    "strategy_name": one_line(STRATEGY_NAME_LIMIT),
    "price": if_told(positive),
    "time": if_told(instant),
    "secret": _secret,
    "warning": printable(WARNING_LIMIT),
}
_OF_PROTECT: dict[str, Reader] = {"tp": price_distance_or_entry, "sl": price_distance_or_entry}
_PREVIOUS = ("prev_market_position", "prev_market_position_size")
STRATEGY_FIELDS = ("market_position", "market_position_size", *_PREVIOUS)
TOLD_FIELDS = ("price", "time")  # what the sender saw, and when: kept, and never a reason to refuse
EXIT_FIELDS = ("tp", "sl", "trail", "targets", "breakeven_after_target")  # how an entry's trade is to be left
PART_FIELDS = ("quantity", "percent")  # how much of a trade is closed
_PROTECT = ("tp", "sl", "loosen")
# action -> (required fields, optional fields), beside those that any may have
ALERT_ACTIONS: Actions = {
    "open": (("symbol", "side", "quantity"), (*EXIT_FIELDS, "secret")),
    "close": (("symbol",), (*PART_FIELDS, "secret")),
    "protect": (("symbol",), (*_PROTECT, "secret")),
    "reset": (("symbol",), ("secret",)),
    "strategy": (("symbol", "market_position", "market_position_size"), (*_PREVIOUS, *EXIT_FIELDS, "secret")),
}
# The same of a signal, which is what the relay signs: what its strategy held before and after stays with it.
SIGNAL_ACTIONS: Actions = {
    "open": (("symbol", "side", "quantity"), (*EXIT_FIELDS, "market_position", *_PREVIOUS, "warning")),
    "reduce": (("symbol", "side", "quantity"), ("market_position", *_PREVIOUS, "warning")),
    "close": (("symbol",), (*PART_FIELDS, "market_position", *_PREVIOUS, "warning")),
    "protect": (("symbol",), (*_PROTECT, "warning")),
    "reset": (("symbol",), ("warning",)),
}
_ANY = ("id", "note", "strategy_name", *TOLD_FIELDS)


def checked(fields: Mapping[str, object], actions: Actions) -> tuple[dict[str, Any], list[Problem]]:
    """Return the canonical values of all fields that have one, and every problem."""
    try:
        action = one_of(*actions)(fields["action"])
    except (KeyError, ValueError) as exc:
        missing = isinstance(exc, KeyError)
        problem = f"is missing; one of {', '.join(actions)}" if missing else str(exc)
        return {}, [Problem("action", problem), *_unknown(fields, {*_FIELDS})]
    required, optional = actions[action]
    allowed = (*required, *optional, *_ANY)
    readers = _FIELDS | _OF_PROTECT if action == "protect" else _FIELDS
    values: dict[str, Any] = {"action": action}
    problems = _unknown(fields, {*allowed}, f" of the action {action}")
    for name in allowed:
        if name in fields:
            try:
                values[name] = readers[name](fields[name])
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
