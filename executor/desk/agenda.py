"""What to work on: whatever a fact touched, now; and what only time will change, when it is due."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import datetime

from executor.core.trades import Trade

Subject = int | str  # a trade by its id, or the waiting signals of a symbol


@dataclass(slots=True)
class Agenda:
    """Trades and symbols to be worked on. Idle ones cost nothing: only what is touched is checked."""

    trades: set[int] = field(default_factory=set)
    symbols: set[str] = field(default_factory=set)
    _due: dict[Subject, datetime] = field(default_factory=dict)
    _heap: list[tuple[datetime, str, Subject]] = field(default_factory=list)

    def touch(self, trade: Trade) -> None:
        """A trade is to be worked on, and the signals that wait in its symbol."""
        self.trades.add(trade.id)
        self.symbols.add(trade.symbol)

    def at(self, subject: Subject, due: datetime | None) -> None:
        """Wake a subject at an instant, in place of the one that was set before; None: not by time."""
        if due is None:
            self._due.pop(subject, None)
        elif self._due.get(subject) != due:
            self._due[subject] = due
            heapq.heappush(self._heap, (due, str(subject), subject))

    def wake(self, now: datetime) -> None:
        """Touch every subject whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            due, _, subject = heapq.heappop(self._heap)
            if self._due.get(subject) != due:
                continue  # another instant was set since
            del self._due[subject]
            if isinstance(subject, int):
                self.trades.add(subject)
            else:
                self.symbols.add(subject)

    def take(self) -> tuple[list[int], list[str]]:
        """Return what is to be worked on, oldest trade first; it is taken off."""
        found = sorted(self.trades), list(self.symbols)
        self.trades, self.symbols = set(), set()
        return found

    @property
    def has_work(self) -> bool:
        return bool(self.trades or self.symbols)
