"""TWS's first message on a connection, and in words why a connection failed."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

_READ_ONLY = 321  # source: IBKR, Message Codes; what TWS answers while its API is read-only


class Greeting:
    """The first message on a connection: server version and TWS's local time, which the library throws away."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._data = connection, b""
        connection.hasData += self._hear

    def _hear(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 64:
            self._connection.hasData -= self._hear

    @property
    def text(self) -> str:
        """TWS's local time, like `20261123 10:15:00 CET`; "" while unknown."""
        size = int.from_bytes(self._data[:4], "big")
        fields = self._data[4 : 4 + min(size, 64)].decode("latin-1").split("\0")
        return fields[1] if len(fields) > 1 else ""


def why_not(outcome: object, host: str, port: int, timeout: float) -> str:
    """Return why a connect failed, and what to do."""
    where = f"{host}:{port}"
    if isinstance(outcome, ConnectionRefusedError):
        return (
            f"nothing listens on {where}; start TWS or IB Gateway and log in, switch its API on "
            "(Configuration, API, Settings: Enable ActiveX and Socket Clients, a box that 10.41 and later may not have), "
            "or correct --ib-host and --ib-port"
        )
    if isinstance(outcome, TimeoutError):
        return f"{where} did not answer as TWS within {timeout:g} s; a dialog may be waiting there to be accepted"
    if isinstance(outcome, OSError):
        return f"{where} cannot be reached ({outcome.strerror or outcome}): correct --ib-host, or start the machine of that name"
    return f"{where} closed the connection at once; TWS may not trust this address (API, Settings, Trusted IPs)"


def incomplete(missing: list[str], problems: list[str], codes: Container[int], seconds: float) -> str:
    """Return which parts of a snapshot did not end, and what may be the cause."""
    text = f"TWS did not finish sending its {', '.join(missing)} within {seconds:g} s"
    if _READ_ONLY in codes:
        text += "; its API may be set to Read-Only (Configuration, API, Settings: untick Read-Only API)"
    return "; ".join([text, *problems[-3:]])
