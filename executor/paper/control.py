"""The control port: one JSON object a line, `{"do": "set_price", "symbol": "EURUSD", "price": "1.2005"}`.

The answer is `{"ok": true, "result": …}` or `{"ok": false, "error": "…"}`. It listens on loopback only: anyone who
reaches it owns the market. A web page in a browser on this machine reaches it too, but must begin with a line of HTTP:
the first line that is no command is answered and ends the connection, so that no command behind it is ever read.
For people: `python -m executor.paper.control PORT set-price EURUSD 1.2005`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from decimal import Decimal
from typing import Any

from executor.paper.actions import ActionError, perform
from executor.paper.server import LOOPBACK, PaperServer

LINE_LIMIT = 1 << 20
# how words on the command line become parameters, where there are any without a name
POSITIONAL = {
    "set_price": ("symbol", "price"), "move_price": ("symbol", "by"), "price": ("symbol",),
    "set_quote": ("symbol", "bid", "ask", "last"),
    "manual_order": ("symbol", "action", "quantity", "order_type", "price"),
    "manual_close": ("symbol", "quantity"), "manual_cancel": ("perm_id",), "fault": ("knob",), "clear": ("knob",),
    "truth": ("since",), "restart": ("down_seconds",), "farm": ("code", "name"), "advance": ("seconds",),
}  # fmt: skip


class ControlServer:
    """Serve the control port of a paper TWS."""

    def __init__(self, server: PaperServer) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, port: int = 0) -> None:
        """Listen on loopback. Raises OSError if the port is taken."""
        self._listener = await asyncio.start_server(self._serve, LOOPBACK, port, limit=LINE_LIMIT)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._listener:
            self._listener.close()
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        going_on = True
        try:
            while going_on and (line := await self._line(reader)):
                writer.write(self._attempt(line))
                await writer.drain()
                going_on = _object(line) is not None
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the server is stopping
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next line; of one that is too long nothing but its end, which is no JSON."""
        try:
            return await reader.readline()
        except ValueError:  # source: asyncio, StreamReader.readline: what was read of it is thrown away
            return b"\n"

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what one line asks for, and return what is answered."""
        asked = _object(line)
        if asked is None:
            return {"ok": False, "error": 'expected one JSON object a line, such as {"do": "status"}'}
        try:
            return {"ok": True, "result": perform(self._server, asked.pop("do"), **asked)}
        except ActionError as error:
            return {"ok": False, "error": str(error)}
        finally:
            self._server.gateway.pump()

    def _attempt(self, line: bytes) -> bytes:
        """Return the answer to one line, empty if the server could not go on."""
        answers: list[dict[str, Any]] = []
        self._server.attempt(lambda: answers.append(self.answer(line)))
        return b"".join(json.dumps(one).encode() + b"\n" for one in answers)


def _object(line: bytes) -> dict[str, Any] | None:
    """Return a line's JSON object if it says what to do, else None."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("do"), str) else None


class ControlError(Exception):
    """The paper TWS refused what was asked, or cannot be reached; the text says why."""


class ControlClient:
    """Talk to the control port; usable from any thread, one at a time.

    Every action is a method call: `client.do("manual_close", symbol="EURUSD")`.
    """

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self._port, self._timeout = port, timeout
        self._file: Any = None
        self._socket: socket.socket | None = None

    def do(self, name: str, /, **params: Any) -> Any:
        """Do one action and return its result. Raises ControlError with the reason if it was refused."""
        try:
            answer = self._ask({"do": name} | params)
        except (OSError, ValueError, OverflowError) as error:  # OverflowError: no port has that number
            self.close()
            raise ControlError(f"no answer from the control port {self._port}: {error}") from error
        if not answer["ok"]:
            raise ControlError(answer["error"])
        return answer["result"]

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._file is None:
            self._socket = socket.create_connection((LOOPBACK, self._port), self._timeout)
            self._file = self._socket.makefile("rwb")
        self._file.write(json.dumps(message, default=str).encode() + b"\n")
        self._file.flush()
        answer: dict[str, Any] = json.loads(self._file.readline() or b"")
        return answer

    def close(self) -> None:
        for one in (self._file, self._socket):
            if one is not None:
                one.close()
        self._file = self._socket = None

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- the most used actions --------------------------------------------------------------------------------

    def price(self, symbol: str) -> Decimal:
        """Return the middle of a market."""
        return Decimal(self.do("price", symbol=symbol))

    def set_price(self, symbol: str, price: Decimal | str) -> None:
        """Move a market; what the price reaches has filled when this returns."""
        self.do("set_price", symbol=symbol, price=str(price))

    def fault(self, knob: str, /, **params: Any) -> None:
        """Arm a knob."""
        self.do("fault", knob=knob, **params)

    def positions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.do("positions")
        return found

    def orders(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.do("orders")
        return found

    def executions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.do("executions")
        return found

    def truth(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the truth log's entries with a number above `since`."""
        found: list[dict[str, Any]] = self.do("truth", since=since)
        return found


def parse_words(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Return action and parameters of a command line such as `set-price EURUSD 1.2005` or `fault reject code=201`.

    >>> parse_words(["fault", "reject", "code=201"])
    ('fault', {'knob': 'reject', 'code': 201})

    Raises:
        ControlError: A value has no name, and the action takes none without.
    """
    name = words[0].replace("-", "_")
    plain, places = [word for word in words[1:] if "=" not in word], POSITIONAL.get(name, ())
    if len(plain) > len(places):
        raise ControlError(f"{name}: write {plain[len(places)]} as name=value")
    params: dict[str, Any] = dict(zip(places, plain, strict=False))
    for key, _, value in (word.partition("=") for word in words[1:] if "=" in word):
        try:
            params[key.replace("-", "_")] = json.loads(value)
        except ValueError:
            params[key.replace("-", "_")] = value
    return name, params


def main(arguments: list[str]) -> int:
    """Do one action from a command line; print its result. Returns the exit code."""
    if len(arguments) < 2 or not arguments[0].isdigit():
        sys.stderr.write("usage: python -m executor.paper.control PORT ACTION [VALUE…] [name=value…]\n")
        return 2
    with ControlClient(int(arguments[0])) as client:
        try:
            name, params = parse_words(arguments[1:])
            result = client.do(name, **params)
        except ControlError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if result is not None else "done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
