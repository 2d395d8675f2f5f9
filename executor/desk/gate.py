"""The gate: whether orders may go out at all, and if not, why not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from common.clock import Clock
from executor.core.outcomes import StopCause

RESENT = timedelta(seconds=5)  # how long others wait for an order that is to be sent again


class Gate:
    """Open between a complete snapshot and the first sign of trouble, while nothing forbids it."""

    def __init__(self, clock: Clock, want_snapshot: Callable[[str], None]) -> None:
        """Args:
        want_snapshot: has a complete snapshot read soon, with the reason; asked for often, it may be read once.
        """
        self._clock = clock
        self.want_snapshot = want_snapshot
        self.ready_since: datetime | None = None  # since when the broker is seen completely; None: it is not
        self.unseen_at = clock.now()  # when it was last not to be seen
        self.mode_text = "starting"
        self.clock_doubt: str | None = None  # why this computer's clock must be compared before anything is entered
        self._stops: dict[StopCause, str] = {}
        self._resends: dict[int, datetime] = {}  # trade id → since when an order of it is to be sent again

    @property
    def can_send(self) -> bool:
        """True if orders may go out: the broker is completely visible, and nothing forbids it."""
        return self.ready_since is not None and all(cause.entries_only for cause in self._stops)

    @property
    def no_entries(self) -> str | None:
        """Why entries are refused though closing and protecting go on, None while they are not."""
        return next((text for cause, text in self._stops.items() if cause.entries_only), None)

    @property
    def is_well(self) -> bool:
        """True if nothing on our side keeps orders from going out: journal, program, account."""
        return not self._stops.keys() & {StopCause.STORAGE, StopCause.PROGRAM, StopCause.ACCOUNT}

    @property
    def causes(self) -> frozenset[StopCause]:
        """What forbids sending now."""
        return frozenset(self._stops)

    @property
    def reasons(self) -> list[str]:
        """Why sending is forbidden now, in words."""
        return sorted(self._stops.values())

    @property
    def why_not(self) -> str:
        """Why nothing is sent now, in words; what stops entries only is no reason for that."""
        return next((text for cause, text in self._stops.items() if not cause.entries_only), self.mode_text)

    def why(self, cause: StopCause) -> str | None:
        """Return why sending is forbidden for one cause, None where it is not."""
        return self._stops.get(cause)

    def forbid(self, cause: StopCause, reason: str | None) -> None:
        """Stop sending (or entries only, depending on the cause) while a reason holds; None lifts it."""
        if reason is None:
            self._stops.pop(cause, None)
        else:
            self._stops[cause] = reason

    def connecting(self, text: str) -> None:
        self.mode_text = text

    def opened(self) -> None:
        """A complete snapshot has been processed: the broker is visible from now on."""
        self.ready_since, self.mode_text = self._clock.now(), "ready"

    def disconnected(self, text: str) -> None:
        """The broker is not visible: nothing is sent until a snapshot that begins after now has been processed."""
        self.ready_since, self.unseen_at, self.mode_text = None, self._clock.now(), text

    # ---- orders that are to be sent again ----

    @property
    def resends(self) -> bool:
        """True if an order is about to be resent: if a higher id went first, TWS would refuse this one (code 103)."""
        now = self._clock.now()
        return any(now - since < RESENT for since in self._resends.values())

    def begin_looking(self) -> dict[int, datetime]:
        """Take from a new snapshot which orders to resend; the previous snapshot's list is returned."""
        before, self._resends = self._resends, {}
        return before

    def must_resend(self, trade_id: int, since: datetime) -> None:
        """An order of a trade is to be sent again, before any other."""
        self._resends[trade_id] = since

    def resent(self, trade_id: int) -> None:
        """It goes out now."""
        self._resends.pop(trade_id, None)
