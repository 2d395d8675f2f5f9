"""Where a trade is to be left, as a sender says it: a price, or a distance from one.

A reader returns the value, or raises ValueError with the fix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from common import strict_json
from common.floats import decimal_text
from common.values import NUMBER_PATTERN, percent, positive, shown

MOST_TARGETS = 4
UNITS = '"1.5%", "25 ticks" or "2.5 points"'
DISTANCE_PATTERN = rf" *({NUMBER_PATTERN} *(%|percent|points?)|[0-9]{{1,12}} *ticks?) *"
_AMOUNT = re.compile(r" *(-?[0-9.,]+) *(%|[A-Za-z]+) *", re.ASCII)


class Unit(StrEnum):
    PERCENT = "%"
    TICKS = "ticks"
    POINTS = "points"


_UNITS = {
    "%": Unit.PERCENT, "percent": Unit.PERCENT, "tick": Unit.TICKS, "ticks": Unit.TICKS, "point": Unit.POINTS,
    "points": Unit.POINTS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Distance:
    """How far away from a price: in percent of it, in the contract's ticks, or in price. Greater than zero."""

    amount: Decimal
    unit: Unit

    def __str__(self) -> str:
        """Return it as it is read again.

        >>> [str(Distance(Decimal(amount), unit)) for amount, unit in (("1.50", Unit.PERCENT), ("25", Unit.TICKS))]
        ['1.5%', '25 ticks']
        """
        amount = decimal_text(self.amount)
        return f"{amount}%" if self.unit is Unit.PERCENT else f"{amount} {self.unit.value}"


class AtEntry(StrEnum):
    """The price at which a trade was entered."""

    ENTRY = "entry"


@dataclass(frozen=True, slots=True)
class Target:
    """One of several take-profits, and the share of the filled size that it takes out, in percent."""

    tp: Decimal | Distance
    percent: Decimal

    def data(self) -> dict[str, str]:
        """Return its canonical JSON mapping."""
        return {"tp": exit_text(self.tp), "percent": decimal_text(self.percent)}


Exit = Decimal | Distance | AtEntry


def exit_text(value: Exit) -> str:
    """Return an exit as the one text that is read as it again.

    >>> exit_text(Decimal("1.20")), exit_text(Distance(Decimal(2), Unit.POINTS)), exit_text(AtEntry.ENTRY)
    ('1.2', '2 points', 'entry')
    """
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


def distance(value: object) -> Distance:
    """Return a distance with its unit.

    >>> str(distance("1.5 %")), str(distance("1 tick"))
    ('1.5%', '1 ticks')
    """
    found = _distance(value)
    if found is None:
        raise ValueError(f"must be a distance with its unit, such as {UNITS}, was {shown(value)}")
    return found


def price_or_distance(value: object) -> Decimal | Distance:
    """Return a price, or where it has a unit a distance from the fill."""
    return _distance(value) or positive(value)


def price_distance_or_entry(value: object) -> Exit:
    """Return a price, a distance from the entry price, or the entry price itself."""
    if isinstance(value, str) and value.strip().lower() == AtEntry.ENTRY:
        return AtEntry.ENTRY
    return price_or_distance(value)


def _distance(value: object) -> Distance | None:
    """Return what has a unit; None where it is a bare number, or no number at all."""
    parts = _AMOUNT.fullmatch(value) if isinstance(value, str) and not isinstance(value, strict_json.Number) else None
    if parts is None:
        return None
    unit = _UNITS.get(parts[2].lower())
    if unit is None:
        raise ValueError(f"has an unknown unit, {parts[2][:20]!r}; write it like {UNITS}, was {shown(value)}")
    amount = positive(parts[1])
    if unit is Unit.TICKS and amount != amount.to_integral_value():
        raise ValueError(f"must be a whole number of ticks, was {shown(value)}")
    return Distance(amount, unit)


def targets(value: object) -> tuple[Target, ...]:
    """Return one to four targets, each with a price of its own, that together take out 100 % at most."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_TARGETS:
        was = f"{len(value)} of them" if isinstance(value, list) else shown(value)
        raise ValueError(
            f'must be a list of 1 to {MOST_TARGETS} targets, like [{{"tp": 1.25, "percent": 50}}], was {was}'
        )
    found = tuple(_target(number, each) for number, each in enumerate(value, 1))
    total = sum((each.percent for each in found), Decimal(0))
    if total > 100:
        raise ValueError(
            f"take out {decimal_text(total)} % together; their percents must add up to 100 at most, what remains runs on"
        )
    for number, each in enumerate(found):
        if each.tp in [earlier.tp for earlier in found[:number]]:
            raise ValueError(f"has two targets at {exit_text(each.tp)}; write one there, with both percents added up")
    return found


def _target(number: int, value: object) -> Target:
    if not isinstance(value, dict):
        raise ValueError(f'target {number} must be like {{"tp": 1.25, "percent": 50}}, was {shown(value)}')
    if unknown := [name for name in value if name not in ("tp", "percent")]:
        raise ValueError(f"target {number} has an unknown field, {unknown[0][:40]!r}; a target has a tp and a percent")
    if missing := [name for name in ("tp", "percent") if name not in value]:
        raise ValueError(f"target {number} needs a {missing[0]}; a target has a tp and a percent")
    try:
        return Target(price_or_distance(value["tp"]), percent(value["percent"]))
    except ValueError as exc:
        raise ValueError(f"target {number}: {_which(value)} {exc}") from None


def _which(value: dict[str, object]) -> str:
    try:
        price_or_distance(value["tp"])
    except ValueError:
        return "tp"
    return "percent"
