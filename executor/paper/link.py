"""The line from TWS to IB's servers: while it is down, what clients send waits in TWS."""

from __future__ import annotations

from collections.abc import Callable

from executor.paper.matcher import resting_status
from executor.paper.orders import Order

Send = Callable[[], object]


class Link:
    """True if IB's servers are there, and what waits for them."""

    def __init__(self) -> None:
        self.up = True
        self._waiting: list[Send] = []
        self._cancelling: list[Order] = []  # whose cancel is among that

    def reaches(self, order: Order) -> bool:
        """True if a change takes effect now: IB's servers are there, or the order lives in TWS only."""
        return self.up or order.held or "queued" in order.flags

    def wait(self, send: Send, *, cancels: Order | None = None) -> None:
        """Keep something until the line is up again."""
        self._waiting.append(send)
        self._cancelling += [cancels] if cancels else []

    def restore(self) -> None:
        """Send IB what waited for it."""
        self.up = True
        waiting, self._waiting, self._cancelling = self._waiting, [], []
        for send in waiting:
            send()

    def forget(self) -> None:
        """Lose what waited, as a restart of TWS does."""
        for order in self._cancelling:  # IB never heard of it
            if not order.done:
                order.status = "PreSubmitted" if order.why_held == "child" else resting_status(order)[0]
        self.up, self._waiting, self._cancelling = True, [], []
