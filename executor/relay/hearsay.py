"""Alarms that the relay reports, unsigned: a limited number, and one alarm that counts the rest.

A compromised relay could otherwise fill the journal, and page the owner as often as it likes.
"""

from __future__ import annotations

from collections import OrderedDict

from common.clock import Clock
from executor.core.conditions import AlarmKind
from executor.desk.alarms import Alarms

MOST_AT_ONCE, SECONDS_EACH = 20, 180.0  # this many alarms at once, then one every this many seconds
_IDS_KNOWN = 1000
_SEEN = (AlarmKind.RELAY, AlarmKind.CLOCK)  # found by the executor itself: the relay's reports must not crowd them out


class Allowance:
    """A number of alarms at once, then one at a fixed interval."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._left, self._counted_at = clock, float(MOST_AT_ONCE), clock.monotonic()

    def take(self) -> bool:
        """True if one more may be raised; it is counted."""
        now = self._clock.monotonic()
        self._left = min(MOST_AT_ONCE, self._left + (now - self._counted_at) / SECONDS_EACH)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Hearsay:
    """Raises what the relay reports. Its methods raise JournalError where an alarm cannot be written down."""

    def __init__(self, alarms: Alarms, clock: Clock) -> None:
        self._alarms, self._seen, self._said = alarms, Allowance(clock), Allowance(clock)
        self._withheld = self._told_withheld = 0
        self._forged: OrderedDict[str, None] = OrderedDict()  # the last ids; a signal comes again until it is given up
        self._forgeries = self._told_forgeries = 0

    def report(self, kind: AlarmKind, text: str, about: str = "", symbol: str = "") -> None:
        """Raise an alarm, or count it if there were too many; one that is open gets its new text."""
        allowance = self._seen if kind in _SEEN else self._said
        if self._alarms.is_open(kind, about) or allowance.take():
            self._alarms.state(kind, text, about, symbol=symbol)
        else:
            self._withheld += 1

    def forged(self, id: str) -> None:
        """Count a delivery that is not signed with our key; `id` is "" if it has no well-formed one."""
        if id and id in self._forged:
            self._forged.move_to_end(id)
            return
        if id:
            self._forged[id] = None
            if len(self._forged) > _IDS_KNOWN:
                self._forged.popitem(last=False)
        self._forgeries += 1

    def turn_over(self) -> None:
        """Bring the alarms that count up to date: each is written once for a whole answer."""
        if self._forgeries > self._told_forgeries:
            self._alarms.state(AlarmKind.FORGED_SIGNAL, self._of_forgeries())
            self._told_forgeries = self._forgeries
        if self._withheld > self._told_withheld:
            text = f"the relay is sending too many reports: {self._withheld} more are counted here and not shown one by one"
            self._alarms.state(AlarmKind.MANY_REPORTS, f"{text}; check the relay, and who has access to its machine")
            self._told_withheld = self._withheld

    def _of_forgeries(self) -> str:
        last = next(reversed(self._forged), "")
        signals = "a signal that is" if self._forgeries == 1 else f"{self._forgeries} signals that are"
        none = "it is" if self._forgeries == 1 else "none of them is"
        return (
            f"the relay delivered {signals} not signed with our key{f' (the last: {last})' if last else ''}; {none} acted on: "
            "either EXECUTOR_SIGNING_SECRETS and RELAY_SIGNING_SECRETS differ, or somebody wrote to the queue"
        )
