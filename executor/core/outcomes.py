"""The words that decisions are made of: fixed lists, stored as they read, never parsed. Pure."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a signal."""

    ENTERED = "entered"
    ADDED = "added"
    REDUCED = "reduced"
    PROTECTED = "protected"
    IGNORED = "ignored"
    REFUSED = "refused"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"  # a later signal came while nothing could be sent
    CLOSED = "closed"
    RESET = "reset"
    NOTHING = "nothing to do"


class SignalState(StrEnum):
    """A signal's progress in the inbox."""

    WAITING = "waiting"
    CLOSING = "closing"  # the close that it needs was asked for; it is decided again when that is done
    DONE = "done"


class Link(StrEnum):
    """Whether the executor is connected to TWS, as published for the page."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


class CloseCause(StrEnum):
    """Why a close was asked for."""

    SIGNAL = "close signal"
    REVERSAL = "reversal"
    OWNER = "owner"
    UNPROTECTED = "no stop-loss could be placed"


class ExitReason(StrEnum):
    """How a trade ended."""

    TAKE_PROFIT = "take-profit"
    STOP_LOSS = "stop-loss"
    SIGNAL = "close signal"
    REVERSAL = "reversal"
    OWNER = "owner"
    UNPROTECTED = "no stop-loss could be placed"
    BY_HAND = "by hand"
    SETTLED = "settled by you"
    LIQUIDATED = "liquidated"
    NETTED = "late fill of an earlier trade"
    UNKNOWN = "unknown"
    NEVER_FILLED = "never filled"


class StopCause(StrEnum):
    """Why nothing is sent, or why nothing is entered."""

    ACCOUNT = "account"  # this account may not be traded
    LINK = "link"  # TWS is without IBKR
    STORAGE = "storage"  # the journal cannot be written
    PROGRAM = "program"  # a bug of ours
    CLOCK = "clock"  # this computer's clock is wrong: no entry; closing and protecting go on
    RELAY = "relay"  # the relay is paused or in close-only mode

    @property
    def entries_only(self) -> bool:
        return self in (StopCause.CLOCK, StopCause.RELAY)
