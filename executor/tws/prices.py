"""The last known market price of each contract: mid, else last, else close; None where it is too old."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from common.clock import Clock
from executor.tws.decode import exact

STALE_SECONDS = 60.0
# Tick types; 66 and up are the same, delayed. Source: IBKR, "Available Tick Types".
_TICKS = {1: "bid", 2: "ask", 4: "last", 9: "close", 66: "bid", 67: "ask", 68: "last", 75: "close"}


@dataclass(slots=True)
class _Quote:
    said: dict[str, Decimal] = field(default_factory=dict)  # bid, ask, last, close → price
    heard_at: float = 0.0


class Prices:
    """Quotes by contract. TWS's own "no price" (-1, 0, NaN) is no price."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._quotes: dict[int, _Quote] = {}

    def tick(self, con_id: int, tick_type: int, price: float) -> None:
        """Take in one tick; types that carry no price are passed over."""
        name = _TICKS.get(tick_type)
        if name is None:
            return
        quote = self._quotes.setdefault(con_id, _Quote())
        value = exact(price)
        if value is None or value <= 0:
            quote.said.pop(name, None)
        else:
            quote.said[name] = value
            quote.heard_at = self._clock.monotonic()

    def price(self, con_id: int) -> Decimal | None:
        """Return the price of a contract, None where there is none younger than a minute."""
        quote = self._quotes.get(con_id)
        if quote is None or self._clock.monotonic() - quote.heard_at > STALE_SECONDS:
            return None
        said = quote.said
        if "bid" in said and "ask" in said:
            return (said["bid"] + said["ask"]) / 2
        return said.get("last", said.get("close"))

    def forget(self, con_id: int | None = None) -> None:
        """Drop a contract's quote, or everything: the subscription is a new one, and earlier quotes no longer count."""
        if con_id is None:
            self._quotes.clear()
        else:
            self._quotes.pop(con_id, None)
