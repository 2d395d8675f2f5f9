"""Prices: quotes with a spread, a quiet random walk from a seed, and paths that a test or a demo prescribes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from executor.paper.contracts import Catalog, Instrument

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Quote:
    """What the market shows of one instrument; forex has no last price."""

    bid: Decimal
    ask: Decimal
    last: Decimal
    size: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal

    @property
    def middle(self) -> Decimal:
        return (self.bid + self.ask) / 2


class Market:
    """The quotes of every instrument.

    `volatility` is the chance that an instrument moves by one tick in one second; 0 stands still, so that
    only `set_price`, `set_quote` and `follow` move it.
    """

    def __init__(self, catalog: Catalog, now: datetime, seed: int = 0, volatility: float = 0.0) -> None:
        self._catalog = catalog
        self._random = random.Random(seed)  # noqa: S311 - prices, not secrets
        self._walked_at = now
        self._paths: dict[int, list[tuple[datetime, Decimal]]] = {}  # conId -> (when, price), soonest first
        self._quotes: dict[int, Quote] = {}
        self.volatility = volatility
        self.dirty: set[int] = set()  # conIds whose quote changed since the last save

    def quote(self, con_id: int) -> Quote:
        if con_id not in self._quotes:
            one = self._catalog[con_id]
            self._quotes[con_id] = _first_quote(one)
        return self._quotes[con_id]

    def set_price(self, con_id: int, price: Decimal) -> None:
        """Put the middle of the market at this price, one tick of spread on either side."""
        tick = self._catalog[con_id].tick(price)
        self.set_quote(con_id, price - tick, price + tick, price)

    def set_quote(self, con_id: int, bid: Decimal, ask: Decimal, last: Decimal | None = None) -> None:
        old = self.quote(con_id)
        last = (bid + ask) / 2 if last is None else last
        self.dirty.add(con_id)
        self._quotes[con_id] = replace(old, bid=bid, ask=ask, last=last,
                                       high=max(old.high, last), low=min(old.low, last))  # fmt: skip

    def restore(self, con_id: int, quote: Quote) -> None:
        """Bring back a quote that was saved."""
        self._quotes[con_id] = quote

    def follow(self, con_id: int, path: Sequence[tuple[float, Decimal]], now: datetime) -> None:
        """Move the price along (seconds from now, price); the random walk rests until the path is done."""
        self._paths[con_id] = sorted((now + timedelta(seconds=after), price) for after, price in path)

    def next_move(self) -> datetime | None:
        """Return when the next price of a path is due; the random walk does not count."""
        return min((path[0][0] for path in self._paths.values() if path), default=None)

    def advance(self, now: datetime) -> list[int]:
        """Move the prices to `now` and return the conIds that moved."""
        moved = self._advance_paths(now)
        seconds = int((now - self._walked_at).total_seconds())
        if seconds > 0:
            self._walked_at += timedelta(seconds=seconds)
            moved += self._walk(min(seconds, 60))
        return moved

    def _advance_paths(self, now: datetime) -> list[int]:
        moved = []
        for con_id, path in self._paths.items():
            if path and path[0][0] <= now:  # one step at a time, so that no level is jumped over
                self.set_price(con_id, path.pop(0)[1])
                moved.append(con_id)
        self._paths = {con_id: path for con_id, path in self._paths.items() if path}
        return moved

    def _walk(self, seconds: int) -> list[int]:
        if not self.volatility:
            return []
        moved = []
        for con_id in sorted(self._quotes):
            steps = sum(self._step() for _ in range(seconds))
            if steps and con_id not in self._paths:
                middle = self._quotes[con_id].last
                self.set_price(con_id, middle + steps * self._catalog[con_id].tick(middle))
                moved.append(con_id)
        return moved

    def _step(self) -> int:
        return self._random.choice((-1, 1)) if self._random.random() < self.volatility else 0


def _first_quote(one: Instrument) -> Quote:
    tick, price = one.tick(one.price), one.price
    size = Decimal(1_000_000) if one.sec_type == "CASH" else HUNDRED
    return Quote(price - tick, price + tick, price, size, price, price, price, price)
