"""The current values that the page shows, written to the journal when they change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.clock import Clock
from common.signals import decimal_text
from executor.core.outcomes import Link
from executor.core.ports import Contract, Position
from executor.desk.desk import Desk
from executor.journal.journal import Journal
from executor.tws.client import Tws
from executor.tws.connection import Connection

_HEARTBEAT_SECONDS = 5.0  # so often the connection is written though unchanged: the page sees that we live


class Publisher:
    """Writes connection, account, positions and contracts of the moment; unchanged ones are not written again."""

    def __init__(self, journal: Journal, tws: Tws, desk: Desk, connection: Connection, clock: Clock) -> None:
        self._journal, self._tws, self._desk = journal, tws, desk
        self._connection, self._clock = connection, clock
        self._known: list[Contract] = []
        self._contracts: dict[str, object] = {}  # of those
        self._written: dict[str, object] = {}
        self._written_at = -_HEARTBEAT_SECONDS

    def publish(self) -> None:
        """Write what changed, in one commit.

        Raises:
            JournalError: It cannot be written.
        """
        now, moment = self._clock.monotonic(), self._moment()
        changed = {key: value for key, value in moment.items() if self._written.get(key) != value}
        if now - self._written_at >= _HEARTBEAT_SECONDS:
            changed["connection"] = moment["connection"]
        if not changed:
            return
        with self._journal.transaction():
            for key, value in changed.items():
                self._journal.publish(key, value)
        self._written |= changed
        self._written_at = now

    def say_stopped(self) -> None:
        """Write that the executor was stopped, for anyone who reads the journal later."""
        self._journal.publish("connection", {"status": Link.DISCONNECTED, "text": "the executor was stopped"})

    def _moment(self) -> Mapping[str, object]:
        moment: dict[str, object] = {"connection": self._shown_connection()}
        if self._tws.connected:  # else the last known stay, and the page says since when they are old
            moment["account"] = dict(self._tws.account_view().values)
            moment["positions"] = [_position(each) for each in self._tws.positions()]
            moment["contracts"] = self._shown_contracts()
        return moment

    def _shown_contracts(self) -> dict[str, object]:
        """Return what the page needs of each contract; made again only when one was looked up."""
        known = self._tws.lookup.known()
        if known != self._known:  # the same values in the same order are compared by identity
            self._known = known
            self._contracts = {
                each.symbol: {"multiplier": decimal_text(each.multiplier), "currency": each.currency} for each in known
            }
        return self._contracts

    def _shown_connection(self) -> dict[str, Any]:
        desk = self._desk.status()
        return {**self._connection.shown(), "stops": desk["stops"], "unknown": desk["unknown"]}


def _position(position: Position) -> dict[str, object]:
    return {
        "symbol": position.symbol,
        "position": decimal_text(position.quantity),
        "avgCost": decimal_text(position.avg_cost),
        "account": position.account,
        "con_id": position.con_id,
        "market_price": None if position.market_price is None else decimal_text(position.market_price),
        "unrealized": None if position.unrealized is None else decimal_text(position.unrealized),
        "currency": position.currency,
    }
