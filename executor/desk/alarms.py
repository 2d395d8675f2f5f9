"""The one place that raises alarms: a row in the journal first; `notify` delivers it afterwards.

An alarm stands until what it says is over. It is keyed by its condition and its object, so that it is raised once.
"""

from __future__ import annotations

from common.logs import get_logger
from executor.journal.journal import Journal

log = get_logger(__name__)

# kind → how loud: "page" wants a person now, "warn" wants one today
LEVELS = {
    "unprotected": "page", "hold": "page", "orphan": "page", "position mismatch": "warn",
    "broker blind": "page", "stuck signal": "page", "expired signal": "warn", "dead letter": "page", "forged signal": "page",
    "clock": "warn", "storage": "page", "account": "page", "relay": "warn", "missed alert": "warn", "take-profit lost": "warn",
    "close waits": "warn", "unknown exit": "page", "program": "page", "contract": "page", "exit too large": "page",
    "day order": "warn",
}  # fmt: skip


class Alarms:
    """Raise and clear alarms in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def raise_(self, kind: str, about: str, text: str, *, symbol: str = "", trade_id: int | None = None) -> None:
        """Raise an alarm of a kind about an object, in words that say what to do; once until it is cleared."""
        with self._journal.transaction():
            if not self._journal.raise_alarm(f"{kind}:{about}", kind, LEVELS[kind], symbol, text):
                return
            self._journal.log("alarm", text, symbol=symbol, trade_id=trade_id)
        log.warning("alarm_raised", kind=kind, symbol=symbol or None, text=text)

    def standing(self, kind: str) -> set[str]:
        """Return what alarms of a kind are standing about."""
        return {
            about
            for row in self._journal.standing_alarms()
            for of, _, about in [row["key"].partition(":")]
            if of == kind
        }

    def clear(self, kind: str, about: str, text: str, *, symbol: str = "", trade_id: int | None = None) -> None:
        """End an alarm, if it stands, with a closing word."""
        with self._journal.transaction():
            if not self._journal.clear_alarm(f"{kind}:{about}", text):
                return
            self._journal.log("alarm over", text, symbol=symbol, trade_id=trade_id)
        log.info("alarm_cleared", kind=kind, symbol=symbol or None, text=text)
