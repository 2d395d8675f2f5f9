"""The alerts of one strategy form a chain: what each held before is what the one before it left. Pure.

The alerts of one second may arrive in any order, and some never do. An alert that does not follow from the last leaves
a gap; the one that belongs into the gap is late when it comes, and changes nothing: the strategy has moved on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum

from common.clock import parse_utc, utc_text
from common.signals import PrevPosition

LAPSES = timedelta(minutes=5)  # so long a gap may be filled


@dataclass(frozen=True, slots=True)
class Gap:
    """From where to where an alert is missing; positions as in "long 5", or "long" where no size was given."""

    start: str
    end: str
    at: datetime  # when the alert after it came
    filled: bool = False  # whether the missing alert has come, late


@dataclass(frozen=True, slots=True)
class Chain:
    """What a strategy held after its last alert, and the last gap before that, if there was one."""

    position: str
    gap: Gap | None = None

    def __str__(self) -> str:
        """Return it as the text that is stored; `read` returns it again."""
        gap = [self.gap.start, self.gap.end, utc_text(self.gap.at)] if self.gap else []
        filled = ["filled"] if self.gap and self.gap.filled else []
        return "|".join([self.position, *gap, *filled])

    @classmethod
    def read(cls, text: str) -> Chain:
        """Return what was stored.

        >>> str(Chain.read("short 10|long 10|flat|2026-11-23T09:15:00.000000Z"))
        'short 10|long 10|flat|2026-11-23T09:15:00.000000Z'
        """
        position, *gap = text.split("|")
        return cls(position, Gap(gap[0], gap[1], parse_utc(gap[2]), len(gap) > 3) if gap else None)


class Link(Enum):
    """How an alert connects to those before it."""

    FOLLOWS = "follows"  # or nothing is known that it could not follow from
    MISSED = "missed"  # an alert between the last and this one has not arrived
    LATE = "late"  # it belongs before the last


def hang(chain: Chain | None, position: str, prev: PrevPosition | None, now: datetime) -> tuple[Chain, Link]:
    """Return the chain after an alert that says what the strategy holds, and held before; and how it connects.

    1. Without a previous position nothing can be compared: it counts as the latest.
    2. What follows from the last is never late.
    3. What leads from a gap's start to its end is late: once, and within five minutes.
    4. Anything else is the latest, and leaves a gap, or another one.

    >>> start = Chain("long 10")
    >>> now = datetime.fromisoformat("2026-11-23T09:15:00+00:00")
    >>> chain, link = hang(start, "short 10", PrevPosition("flat", Decimal(0)), now)
    >>> link.value, hang(chain, "flat", PrevPosition("long", Decimal(10)), now)[1].value
    ('missed', 'late')
    """
    if chain is None or prev is None:
        return Chain(position), Link.FOLLOWS
    if prev.follows(chain.position):
        return replace(chain, position=position), Link.FOLLOWS
    if chain.gap and _fills(chain.gap, position, prev, now):
        return replace(chain, gap=replace(chain.gap, filled=True)), Link.LATE
    return Chain(position, Gap(chain.position, str(prev), now)), Link.MISSED


def _fills(gap: Gap, position: str, prev: PrevPosition, now: datetime) -> bool:
    """True if an alert leads from a gap's start to its end, the first to do so and in time."""
    is_open = not gap.filled and abs(now - gap.at) <= LAPSES
    return is_open and prev.follows(gap.start) and _position(gap.end).follows(position)


def _position(text: str) -> PrevPosition:
    word, _, size = text.partition(" ")
    return PrevPosition(word, Decimal(size) if size else None)
