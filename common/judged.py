"""What the fields of an alert mean together: what is needed, what plays no part, what contradicts what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from common.errors import MalformedSignal, Problem
from common.exits import Distance, Unit, exit_text
from common.fields import EXIT_FIELDS, PART_FIELDS, STRATEGY_FIELDS, TOLD_FIELDS, Actions, checked

Values = dict[str, Any]
_NOT_FILLED_IN = "was not filled in (inside Pine's alert() none is)"


def without_literal_id(fields: dict[str, object]) -> tuple[dict[str, object], list[Problem]]:
    """Take out an id that is a placeholder: a literal text would swallow every later alert as a duplicate."""
    if not _has_placeholder(fields.get("id")):
        return fields, []
    text = f"is no id, since a placeholder in it {_NOT_FILLED_IN}; this alert is taken without one"
    return {name: value for name, value in fields.items() if name != "id"}, [Problem("id", text)]


def judged(
    fields: dict[str, object], actions: Actions, flaw: MalformedSignal | None, placeholders: bool = False
) -> tuple[Values, list[Problem]]:
    """Return the canonical values, and as warnings what was left out since it plays no part.

    What the sender saw, and when, plays no part in any action; in an exit nothing does but what it says to take out or to
    protect. A strategy's alert has become the open, reduction or close that it means.

    Raises:
        MalformedSignal: Something is wrong that this action needs.
    """
    values, problems = checked(fields, actions)
    if placeholders:
        problems = [_as_placeholder(problem, fields) for problem in problems] + _placeholders(values)
    needed = _needed_by_an_exit(values, fields)
    if needed is None and flaw is not None:
        raise flaw
    spared = [each for each in problems if each.field in TOLD_FIELDS or (needed and each.field not in needed)]
    problems = [each for each in problems if each not in spared]
    warnings = [*_read_anyway(flaw), *_left_out(spared, values, fields)]
    for name in {each.field for each in warnings}:
        values.pop(name, None)
    problems = problems or list(_meant(values, is_exit=needed is not None))
    if problems:
        raise MalformedSignal(problems)
    return values, warnings


def _has_placeholder(value: object) -> bool:
    if isinstance(value, str):
        return "{{" in value
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and any(map(_has_placeholder, value))


def _as_placeholder(problem: Problem, fields: dict[str, object]) -> Problem:
    return _placeholder(problem.field) if _has_placeholder(fields.get(problem.field)) else problem


def _placeholders(values: Values) -> list[Problem]:
    return [_placeholder(name) for name, value in values.items() if name != "secret" and _has_placeholder(value)]


def _placeholder(name: str) -> Problem:
    return Problem(name, f"a placeholder in it {_NOT_FILLED_IN}; write the value itself")


def _read_anyway(flaw: MalformedSignal | None) -> list[Problem]:
    return [Problem("", f"{flaw.message}; read as far as an exit needs")] if flaw else []


def _left_out(problems: list[Problem], values: Values, fields: Mapping[str, object]) -> list[Problem]:
    """Return what was left out, of what was sent at all, and why that does no harm."""
    sent = {name[:40] for name in fields}
    return [
        Problem(each.field, f"{each.message}; {_why(each.field, values)}") for each in problems if each.field in sent
    ]


def _why(field: str, values: Values) -> str:
    action = values.get("action")
    if field in TOLD_FIELDS:
        return "left out, nothing is decided by it"
    if action == "close" and field in PART_FIELDS and not any(part in values for part in PART_FIELDS):
        return "left out, so all of the trade is closed: being flat is the safer error"
    if action == "protect" and field == "tp":
        return "left out, the stop is moved all the same"
    return "left out, an exit needs none"


def _needed_by_an_exit(values: Values, fields: Mapping[str, object]) -> frozenset[str] | None:
    """Return the fields that decide what an exit does; None where it is an entry, which needs all that it has.

    The size of a close is none of them: one that nobody can read must not keep the position open. The stop of a `protect`
    is one: its owner must hear that it was not moved.
    """
    action = values.get("action")
    if action in ("close", "reset"):
        return frozenset(("action", "symbol"))
    if action == "protect":
        return frozenset(("action", "symbol", "sl" if "sl" in fields else "tp"))
    if action == "strategy" and values.get("market_position") == "flat":
        return frozenset(("action", "symbol", "market_position"))
    if action == "strategy" and _reduces(values):
        return frozenset(("action", "symbol", *STRATEGY_FIELDS))
    return frozenset(("action", "symbol", "side", "quantity")) if action == "reduce" else None


def _reduces(values: Values) -> bool:
    """True if a strategy holds less than before, on the same side."""
    size, before = values.get("market_position_size"), values.get("prev_market_position_size")
    same = values.get("market_position") == values.get("prev_market_position")
    return bool(same and size and before and size < before)


def _meant(values: Values, is_exit: bool) -> Iterator[Problem]:
    """Make of a strategy's alert what it means; yield what is wrong between fields that are each right."""
    if not is_exit:
        yield from _of_entry(values)
    elif values["action"] == "close":
        yield from _of_close(values)
    elif values["action"] == "protect":
        yield from _of_protect(values)
    else:
        _as_exit(values)


def _as_exit(values: Values) -> None:
    """Turn a strategy's exit into what it means, without what has no place in it."""
    for name in EXIT_FIELDS:
        values.pop(name, None)
    if values["action"] == "strategy" and values["market_position"] == "flat":
        values["action"] = "close"
    elif values["action"] == "strategy":
        _sided(values, "reduce")


def _sided(values: Values, action: str) -> None:
    side = "buy" if values["market_position"] == "long" else "sell"
    values.update(action=action, side=side, quantity=values["market_position_size"])


def _of_close(values: Values) -> Iterator[Problem]:
    percent = values.get("percent")
    if percent is not None and "quantity" in values:
        yield Problem("percent", "cannot be there together with quantity; send one of the two, or none to close all")
    if percent is not None and percent > 100:
        yield Problem("percent", f"must be at most 100, was {percent}; leave it out to close all")
    if percent == 100:
        del values["percent"]  # that is a close


def _of_protect(values: Values) -> Iterator[Problem]:
    tp, sl = values.get("tp"), values.get("sl")
    if tp is None and sl is None:
        yield Problem("sl", 'is missing; the action protect needs sl, tp or both, each like 1.18, "1.5%" or "entry"')
    elif (
        tp is not None and tp == sl and not isinstance(tp, Distance)
    ):  # distances lead away from the entry on either side
        yield Problem("tp", f"is where sl is, at {exit_text(tp)}; they must stand apart")


def _of_entry(values: Values) -> Iterator[Problem]:
    """Yield what is wrong with an entry; a strategy alert becomes an open.

    Long is an open buy of the whole position's size, short an open sell. The order's own contracts play no part: in a
    reversal they are the doubled size.
    Source: TradingView, "Strategy alerts", placeholders.
    """
    if values["action"] == "strategy":
        position = values["market_position"]
        if not values["market_position_size"]:
            yield Problem("market_position_size", f"must be greater than 0 when market_position is {position}")
            return
        _sided(values, "open")
    yield from _sides(values)
    if "tp" in values and "targets" in values:
        yield Problem(
            "targets", "cannot be there together with tp; write the tp as one of the targets, with its percent"
        )
    yield from _breakeven(values)


def _sides(values: Values) -> Iterator[Problem]:
    """Yield which exits are on the wrong side: of each other where both are prices, or of zero."""
    side, sl = values["side"], values.get("sl")
    profits = [("tp", "tp", values["tp"])] if "tp" in values else []
    profits += [("targets", f"target {n}", each.tp) for n, each in enumerate(values.get("targets", ()), 1)]
    for field, name, tp in profits:
        if isinstance(tp, Decimal) and isinstance(sl, Decimal) and (tp <= sl if side == "buy" else tp >= sl):
            words = "above" if side == "buy" else "below"
            yield Problem(field, f"a {side} needs {name} {words} sl, was {name} {exit_text(tp)} and sl {exit_text(sl)}")
    stops = [(name, name, values[name]) for name in ("sl", "trail") if name in values]
    for field, name, exit in stops if side == "buy" else profits:
        if isinstance(exit, Distance) and exit.unit is Unit.PERCENT and exit.amount >= 100:
            yield Problem(field, f"{name} of a {side} must be less than 100 % away, was {exit}: no price is below zero")


def _breakeven(values: Values) -> Iterator[Problem]:
    if not values.get("breakeven_after_target"):
        return
    found = values.get("targets", ())
    if not found or found[0].percent >= 100:
        why = "the first target leaves nothing" if found else "it needs targets: a tp leaves nothing"
        yield Problem("breakeven_after_target", f"{why} whose stop could move; write targets of less than 100 percent")
    if "sl" not in values and "trail" not in values:
        yield Problem("breakeven_after_target", "needs a stop that it can move; write sl or trail")
