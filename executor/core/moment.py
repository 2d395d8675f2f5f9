"""What the steps of a trade depend on besides the trade: the clock, and what the broker shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from common.signals import Side
from executor.core.orders import ZERO
from executor.core.ports import Contract
from executor.core.trades import Trade

# How long the account must have shown less of a trade before the rest counts as gone: where TWS has shown a position in
# the contract on this connection, and where it may not have loaded it yet.
GONE, GONE_UNTOLD = timedelta(seconds=2), timedelta(seconds=10)


@dataclass(slots=True)
class Moment:
    """What a trade's steps depend on besides the trade itself, and a note of when to ask for them again."""

    now: datetime
    shown: Decimal  # the account's net position in this contract, as the broker last showed it
    beside: Decimal = ZERO  # the part known to be the owner's own
    ready_since: datetime | None = None  # since when the broker has been completely visible
    counted: bool = True  # whether the position was shown after our last execution in this contract
    lacking_since: datetime | None = None  # since when executions of live orders are missing
    amiss_since: datetime | None = None  # since when exits and position have not matched, or the stop has been missing
    less_since: datetime | None = None  # since when the account has shown as little of the trade as now
    behind: Decimal = ZERO  # our executions that the position shown does not count yet, all others being known
    waiting_since: datetime | None = None  # since when a close has waited though no order of its trade is in its way
    opens_at: datetime | None = None  # when the market opens, where it is known to be closed now
    awaits_hours: bool = False  # whether the contract, or its hours, are not known yet
    size_step: Decimal = Decimal(1)  # in which the contract can be traded, as far as it is known
    contract: Contract | None = None  # the trade's, where it is known
    told: bool = True  # whether TWS has shown a position in this contract on this connection
    due: datetime | None = None  # the first instant at which an answer given here becomes another

    def shown_for(self, trade: Trade) -> Decimal:
        """Return the account's position in the direction of a trade."""
        return self.shown if trade.side is Side.BUY else -self.shown

    def beside_for(self, trade: Trade) -> Decimal:
        """Return the owner's own part of it, in the direction of a trade."""
        return self.beside if trade.side is Side.BUY else -self.beside

    def left_for(self, trade: Trade) -> Decimal:
        """Return what the account shows of a trade, in its direction: all but what is the owner's own."""
        return self.shown_for(trade) - self.beside_for(trade)

    def shows_less(self, trade: Trade) -> bool:
        """True if the account shows less of a trade than its executions say."""
        return self.left_for(trade) < trade.held

    def is_behind(self, trade: Trade) -> bool:
        """True if the account shows less of a trade only because it does not include our last executions yet."""
        behind = self.behind if trade.side is Side.BUY else -self.behind
        return behind > 0 and self.left_for(trade) + behind == trade.held

    def has_lost(self, trade: Trade) -> bool:
        """True if the account shows less of a trade than it holds, and not merely because the report is late."""
        patience = GONE if self.told else GONE_UNTOLD
        if self.is_behind(trade):
            return False
        return self.shows_less(trade) and self.counted and self.lasted(self.less_since, patience.total_seconds())

    def lasted(self, since: datetime | None, seconds: float) -> bool:
        """True if something has lasted so long while the broker was seen; if it has not, when it will have is noted.

        A clock that was set back loses the time before. What is None has not begun.
        """
        if since is None or self.ready_since is None:
            return False
        return self.reached(seen_from(since, self.ready_since, self.now) + timedelta(seconds=seconds))

    def reached(self, at: datetime) -> bool:
        """True if an instant has come; if it has not, it is noted."""
        if self.now >= at:
            return True
        self.due = at if self.due is None else min(self.due, at)
        return False

    def passed(self, at: datetime) -> bool:
        """True if an instant is over; if it is not, the one after it is noted."""
        return self.reached(at + timedelta(microseconds=1))


def seen_from(since: datetime, ready_since: datetime, now: datetime) -> datetime:
    """Return from when on something counts that began at `since`: from when the broker was seen; never from the future."""
    return max(since, ready_since) if since <= now else ready_since
