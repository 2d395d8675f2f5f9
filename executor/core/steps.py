"""The steps that an unfinished trade may need, as values, and how long an answer to each may take. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from executor.core.moment import Moment
from executor.core.orders import (
    Aim,
    Order,
)

CANCEL_WITH_BLOCK = 1  # the group in which the first fill cancels the others. Source: IBKR, TWS API, One-Cancels-All
OCA_GRACE = timedelta(seconds=2)  # how long the broker may take to cancel the other exit on its own
ASKED_ON_HOLD = timedelta(seconds=60)
CANCEL_AGAIN = timedelta(seconds=10)  # an unanswered cancel is sent again
NOTHING_LEFT = "nothing of the trade is left in the account"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the broker to cancel one order."""

    order: Order
    why: str


@dataclass(frozen=True, slots=True)
class Amend:
    """Send a working exit again under its own id with the quantity and the price that it shall have."""

    order: Order
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Place:
    """Plan and send one more order of the trade (a close, a reduction, or a stop put back)."""

    order: Order


@dataclass(frozen=True, slots=True)
class TakeAim:
    """Write down the price that the stop or the take-profit shall have, now that it can be moved there."""

    aim: Aim
    stop: bool


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """Write down the price that one of several targets shall have, at its distance from the fill."""

    order: Order


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask for a snapshot: only complete evidence can settle something about this trade."""

    why: str


@dataclass(frozen=True, slots=True)
class Unprotected:
    """The wanted stop has been missing for too long."""

    why: str
    then_hold: bool = False
    then_flatten: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The reduction that was asked for cannot be carried out: the trade keeps its size, and its owner hears of it."""

    why: str


@dataclass(frozen=True, slots=True)
class CloseRest:
    """A reduction has become a close: its exits took what was to stay, so all that is left goes."""


@dataclass(frozen=True, slots=True)
class Hold:
    """No step can be right: the owner decides."""

    why: str


Step = Cancel | Amend | Place | TakeAim | MoveTarget | LookUp | Unprotected | GiveUp | CloseRest | Hold


def may_ask(order: Order, moment: Moment) -> bool:
    """True if the cancel of an order may be asked for: it was not, or the answer has had its time."""
    return not was_asked(order.cancel_asked_at, moment)


def was_asked(at: datetime | None, moment: Moment) -> bool:
    """True if something was requested a moment ago, so that the answer may be on its way."""
    return at is not None and not moment.lasted(at, CANCEL_AGAIN.total_seconds())
