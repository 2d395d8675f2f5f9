"""Two systems that do the same in turn, so that a slow minute of the machine hits both sides of each pair."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

from bench.load import percentile

LEAST = 5


@dataclass(slots=True)
class Pairs:
    """What both took, round by round, in one unit; and what went wrong, where the rounds ended early."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    trouble: str = ""

    @property
    def ratio(self) -> float:
        """Return the median of the pairs' ratios."""
        return median(mine / other for mine, other in zip(self.ours, self.theirs, strict=True))

    def __str__(self) -> str:
        """Return ratio, medians and 99th percentiles in words, of milliseconds."""
        trouble = f"; ended early: {self.trouble}" if self.trouble else ""
        if not self.ours:
            return f"not measured{trouble}"
        worst = f"p99 {percentile(self.ours, 0.99):.1f} beside {percentile(self.theirs, 0.99):.1f}"
        medians = f"{median(self.ours):.1f} ms beside {median(self.theirs):.1f}"
        return f"{self.ratio:.2f} ({medians}; {worst}; {len(self.ours)} pairs{trouble})"


def take(
    one: Callable[[int], float], other: Callable[[int], float], most: int, *, seconds: float, warm_up: int
) -> Pairs:
    """Call both in turn with the number of the round; what they return is kept after the first `warm_up` rounds.

    A round that raises RuntimeError (an order that never came) ends it: what was measured until then is returned.
    """
    found = Pairs()
    for number in turns(most + warm_up, seconds, LEAST + warm_up):
        try:
            mine, other_one = one(number), other(number)
        except RuntimeError as exc:
            found.trouble = str(exc).partition("\n")[0]
            break
        if number >= warm_up:
            found.ours.append(mine)
            found.theirs.append(other_one)
    return found


def turns(most: int, seconds: float, least: int = LEAST) -> Iterator[int]:
    """Yield 0, 1, 2, … below `most`, fewer where that takes longer than `seconds`, but never fewer than `least`.

    >>> list(turns(3, 0, least=2))
    [0, 1]
    """
    deadline = time.monotonic() + seconds
    for number in range(most):
        if number >= least and time.monotonic() >= deadline:
            return
        yield number
