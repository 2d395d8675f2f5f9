"""What the owner decided beforehand: the limits and choices of `executor.toml`, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

_BEAT = 0.6  # the desk looks twice a second


@dataclass(frozen=True, slots=True)
class Policy:
    """Choices of the owner. The defaults are the safe ones."""

    validity_seconds: int = 90  # an entry older than this (by the relay's receipt) is not sent
    outside_rth: bool = False  # whether exits may fill outside regular trading hours
    unprotected: str = "hold"  # a stop that cannot be put back: "hold", or "flatten" at market
    unknown_exit: str = "block"  # an unknown exit: "block" re-entry on that side, or "allow"
    protect_seconds: int = 10  # a wanted stop may be missing this long before it is an alarm
    inflight_seconds: int = 10  # an order may go unanswered this long before it is looked up
    scale_in: bool = False  # whether a trade follows its strategy to a larger size
    scale_in_of: Mapping[str, bool] = field(default_factory=dict)  # the same by canonical symbol
    max_open_trades: int | None = None
    max_quantity: Mapping[str, Decimal] = field(default_factory=dict)  # canonical symbol → largest size of one entry

    @property
    def alarm_seconds(self) -> float:
        """After how long something missing is an alarm: early enough for the alarm to be out within `protect_seconds`."""
        return self.protect_seconds - _BEAT

    def scales_in(self, symbol: str) -> bool:
        """True if a trade in this symbol follows its strategy to a larger size."""
        return self.scale_in_of.get(symbol, self.scale_in)

    @property
    def validity(self) -> timedelta:
        return timedelta(seconds=self.validity_seconds)
