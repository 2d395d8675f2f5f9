"""What is sent to the broker after the commit: orders and cancels, in sequence."""

from __future__ import annotations

from collections.abc import Callable

from common.errors import BrokerUnavailable
from common.logs import get_logger
from executor.core.ports import Broker
from executor.desk.gate import Gate

log = get_logger(__name__)


class Outbox:
    """Bytes that wait for a commit. If TWS is gone the rest stays unsent: evidence settles what became of it."""

    def __init__(self, gate: Gate, broker: Broker) -> None:
        self._gate, self._broker = gate, broker
        self._waiting: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def add(self, write: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
        """Write something after the commit, and do something `then`, when the bytes have left."""
        self._waiting.append((write, then))

    def drop(self) -> None:
        """Nothing was committed: nothing is written."""
        self._waiting.clear()

    def flush(self) -> None:
        """Write what waits, in one piece. A write may bring facts at once, and with them more to write."""
        if not self._waiting:
            return
        written: list[Callable[[], None]] = []
        with self._broker.together():
            while self._waiting:
                write, then = self._waiting.pop(0)
                try:
                    write()
                    written.append(then)
                except BrokerUnavailable as exc:
                    self._waiting.clear()
                    log.warning("tws_gone", reason=str(exc))
                    self._gate.disconnected(f"the connection to TWS is gone: {exc}")
                    self._gate.want_snapshot("an order could not be sent to TWS")
        for then in written:
            then()
