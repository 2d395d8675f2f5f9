"""The alerts of one strategy form a chain: what each held before is what the one before it left. Pure.

The alerts of one second may arrive in any order, and some never do. An alert that does not follow from the last leaves
a gap; the one that belongs into the gap is late when it comes, and changes nothing: the strategy has moved on. Where both
say when they were sent, that decides.

A chain belongs to a contract and the name of a strategy, "" where it tells none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum

from common.clock import parse_utc, utc_text
from common.signals import PrevPosition

LAPSES = timedelta(minutes=5)  # so long a gap may be filled
AHEAD = timedelta(minutes=1)  # a sender's time further in the future is of a wrong clock: it would make all others late
MOST_STRATEGIES = 100  # in one contract; beyond that the one that was silent longest is forgotten


@dataclass(frozen=True, slots=True)
class Gap:
    """From where to where an alert is missing; positions as in "long 5", or "long" where no size was given."""

    start: str
    end: str
    at: datetime  # when the alert after it came
    filled: bool = False  # whether the missing alert has come, late


@dataclass(frozen=True, slots=True)
class Chain:
    """What a strategy held after its last alert, the last gap before that, if there was one, and when it was sent."""

    position: str
    gap: Gap | None = None
    sent_at: datetime | None = None  # the last alert, by its sender's clock

    def __str__(self) -> str:
        """Return it as the text that is stored; `read` returns it again."""
        gap = [self.gap.start, self.gap.end, utc_text(self.gap.at)] if self.gap else []
        filled = ["filled"] if self.gap and self.gap.filled else []
        sent = f"@{utc_text(self.sent_at)}" if self.sent_at else ""
        return "|".join([self.position + sent, *gap, *filled])

    @property
    def holds(self) -> PrevPosition:
        """What the strategy holds: "long", "short" or "flat", and its size."""
        return _position(self.position)

    @classmethod
    def read(cls, text: str) -> Chain:
        """Return what was stored.

        >>> str(Chain.read("short 10|long 10|flat|2026-11-23T09:15:00.000000Z"))
        'short 10|long 10|flat|2026-11-23T09:15:00.000000Z'
        """
        last, *gap = text.split("|")
        position, _, sent = last.partition("@")
        found = Gap(gap[0], gap[1], parse_utc(gap[2]), len(gap) > 3) if gap else None
        return cls(position, found, parse_utc(sent) if sent else None)


def chains_of(text: str | None) -> dict[str, Chain]:
    """Return the chains of a contract by the names of their strategies, from the text that `chains_text` wrote.

    A text of one chain alone is that of a strategy without a name: so it was stored before names were told apart.
    """
    if not text:
        return {}
    texts: dict[str, str] = json.loads(text) if text.startswith("{") else {"": text}
    return {name: Chain.read(chain) for name, chain in texts.items()}


def chains_text(chains: Mapping[str, Chain]) -> str:
    """Return the chains of a contract as the text that is stored; the last ones, if they are too many.

    >>> chains_text({"": Chain("flat"), "Turtle": Chain("long 5")})
    '{"":"flat","Turtle":"long 5"}'
    """
    kept = list(chains.items())[-MOST_STRATEGIES:]
    return json.dumps({name: str(chain) for name, chain in kept}, separators=(",", ":"))


class Link(Enum):
    """How an alert connects to those before it."""

    FOLLOWS = "follows"  # or nothing is known that it could not follow from
    MISSED = "missed"  # an alert between the last and this one has not arrived
    LATE = "late"  # it belongs before the last


def hang(
    chain: Chain | None, position: str, prev: PrevPosition | None, now: datetime, sent_at: datetime | None = None
) -> tuple[Chain, Link]:
    """Return the chain after an alert that says what the strategy holds, and held before; and how it connects.

    1. Where both it and the last say when they were sent, the older is late and the newer is not, whatever they held.
    2. Without a previous position nothing can be compared: it counts as the latest.
    3. What follows from the last is never late.
    4. What leads from a gap's start to its end is late: once, and within five minutes.
    5. Anything else is the latest, and leaves a gap, or another one.

    >>> start = Chain("long 10")
    >>> now = datetime.fromisoformat("2026-11-23T09:15:00+00:00")
    >>> chain, link = hang(start, "short 10", PrevPosition("flat", Decimal(0)), now)
    >>> link.value, hang(chain, "flat", PrevPosition("long", Decimal(10)), now)[1].value
    ('missed', 'late')
    """
    sent_at = sent_at if sent_at is not None and sent_at <= now + AHEAD else None
    newest = Chain(position, sent_at=sent_at)
    if chain is None:
        return newest, Link.FOLLOWS
    follows = prev is not None and prev.follows(chain.position)
    filled = _filled(chain.gap, position, prev)
    if chain.sent_at is not None and sent_at is not None and chain.sent_at != sent_at:
        is_late = sent_at < chain.sent_at
    else:
        is_late = filled is not None and not follows and abs(now - filled.at) <= LAPSES
    if is_late:
        return replace(chain, gap=filled or chain.gap), Link.LATE
    if prev is None:
        return newest, Link.FOLLOWS
    if follows:
        return replace(newest, gap=chain.gap), Link.FOLLOWS
    return replace(newest, gap=Gap(chain.position, str(prev), now)), Link.MISSED


def _filled(gap: Gap | None, position: str, prev: PrevPosition | None) -> Gap | None:
    """Return a gap as it is once an alert fills it, the first that leads from its start to its end; None if it does not."""
    if gap is None or gap.filled or prev is None:
        return None
    return replace(gap, filled=True) if prev.follows(gap.start) and _position(gap.end).follows(position) else None


def _position(text: str) -> PrevPosition:
    word, _, size = text.partition(" ")
    return PrevPosition(word, Decimal(size) if size else None)
