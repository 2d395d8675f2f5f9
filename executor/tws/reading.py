"""One snapshot while it is being read: what TWS has reported so far, and which parts have ended.

Whatever arrives until the snapshot is taken, as a reply or of its own accord, goes in, the newest word winning:
so the snapshot describes one moment, its last, and not a mixture of moments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from executor.core.brackets import is_ours
from executor.core.ports import Fill, OrderReport, Position, Snapshot, Status

POSITIONS, OPEN_ORDERS, COMPLETED, EXECUTIONS, ACCOUNT = PARTS = (
    "positions", "open orders", "completed orders", "executions", "account values",
)  # fmt: skip
_OVER = (Status.FILLED, Status.CANCELLED)


class Gathering:
    """What one snapshot has heard so far."""

    def __init__(self, parts: Iterable[str]) -> None:
        self._waiting = set(parts)
        self._changed = asyncio.Event()
        self.problems: list[str] = []  # what TWS complained of meanwhile, in its own words
        self.codes: set[int] = set()  # and by its codes
        self.damaged = False
        self.replied_fills = 0
        self.filled_today = 0  # completed orders of today with a filled quantity
        self._orders: dict[tuple[object, int], OrderReport] = {}
        self._completed: list[OrderReport] = []
        self._fills: dict[str, Fill] = {}  # exec_root → its newest revision
        self._commissions: dict[str, Decimal] = {}
        self._positions: dict[tuple[str, int], Position] = {}

    def order(self, report: OrderReport) -> None:
        """Record an openOrder or an orderStatus; what the newer one leaves out is kept from the older one."""
        key = (report.client_id, report.order_id) if report.order_id > 0 else ("perm", report.perm_id)
        known = self._orders.get(key)
        if known is None:
            self._orders[key] = report
            return
        said = {name: value for name in report.__slots__ if (value := getattr(report, name)) not in (None, "", 0)}
        said |= {"status": report.status, "why_held": report.why_held}
        if report.filled is not None:
            said["filled"] = report.filled
        if report.remaining is not None:
            said["remaining"] = report.remaining
        self._orders[key] = replace(known, **said)

    def completed(self, report: OrderReport, *, today: bool) -> None:
        self._completed.append(report)
        self.filled_today += bool(today and report.filled)

    def fill(self, fill: Fill, *, reply: bool) -> None:
        self.replied_fills += reply
        known = self._fills.get(fill.exec_root)
        if known is None or fill.exec_id >= known.exec_id:
            self._fills[fill.exec_root] = fill

    def commission(self, exec_id: str, commission: Decimal) -> None:
        self._commissions[exec_id] = commission

    def position(self, position: Position) -> None:
        self._positions[position.account, position.con_id] = position

    def end(self, part: str) -> None:
        self._waiting.discard(part)
        self._changed.set()

    def fail(self, code: int, text: str) -> None:
        """Note an error from TWS; it is reported if a part does not end."""
        self.codes.add(code)
        self.problems.append(f"TWS reported {code}: {text}")

    def damage(self, text: str) -> None:
        """Note a message that could not be read: without it the snapshot cannot be whole."""
        self.damaged = True
        self.problems.append(text)

    def missing(self, parts: Iterable[str]) -> list[str]:
        """Return which of these parts have not ended, in a fixed order."""
        wanted = set(parts)
        return [part for part in PARTS if part in wanted and part in self._waiting]

    async def ended(self, parts: Iterable[str], seconds: float) -> bool:
        """Wait until all these parts have ended; False when they have not after so many seconds."""
        wanted = tuple(parts)
        try:
            async with asyncio.timeout(seconds):
                while self.missing(wanted):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return not self.missing(wanted)
        return True

    def snapshot(self, taken_at: datetime, day: str) -> Snapshot:
        """Return the snapshot as read so far."""
        known = {report.perm_id for report in self._completed if report.perm_id}
        over = [
            replace(report, completed=True)
            for report in self._orders.values()
            if report.status in _OVER and report.perm_id not in known
        ]
        return Snapshot(
            taken_at=taken_at,
            day=day,
            open_orders=tuple(
                report for report in self._orders.values() if report.status not in _OVER and report.perm_id not in known
            ),
            completed_orders=(*self._completed, *over),
            fills=tuple(replace(fill, commission=self._commissions.get(fill.exec_id)) for fill in self._fills.values()),
            positions=tuple(position for position in self._positions.values() if position.quantity),
        )


def same_picture(one: Snapshot, other: Snapshot, contracts: Container[int]) -> bool:
    """True if two snapshots show the same orders and executions of ours, and positions in these contracts."""
    return _picture(one, contracts) == _picture(other, contracts)


def _picture(snapshot: Snapshot, contracts: Container[int]) -> tuple[object, ...]:
    """What others do meanwhile elsewhere is no part of it: on a busy account no two snapshots would ever agree."""
    orders, over = snapshot.open_orders, snapshot.completed_orders
    return (
        snapshot.day,
        frozenset((r.order_ref, r.order_id, r.status, r.quantity, r.filled) for r in orders if is_ours(r.order_ref)),
        frozenset((r.order_ref, r.perm_id, r.status, r.filled) for r in over if is_ours(r.order_ref)),
        frozenset(fill.exec_id for fill in snapshot.fills if is_ours(fill.order_ref)),
        frozenset((p.account, p.con_id, p.quantity) for p in snapshot.positions if p.con_id in contracts),
    )
