"""The systems under measurement, each on a paper TWS of its own: relay and executor, or the bare bot.

One clock judges all of them: the paper TWS stamps an order when it decodes it, and logs the entry of a bracket when
the last leg, the one that transmits, has arrived. About a millisecond of every figure is the paper TWS's own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from bench.load import post
from bench.servers import HOST, SECRET, Server, free_port, relay, running, tail, wait_until
from deploy.local import answers, is_connected
from executor.paper.control import ControlClient

Entry = dict[str, Any]

EURUSD: dict[str, object] = {"symbol": "EURUSD", "quantity": 20000, "tp": 1.30, "sl": 1.10}
JOURNAL = "journal.db"
KEPT_ALIVE = 1.0  # seconds for which a server surely keeps a connection open
REST = 0.3  # seconds after each round, so that the next does not wait for the end of this one
# What the journal answers when nothing is on its way: questions that cost little in a long one, too.
AT_REST = (
    "SELECT outcome IS NOT NULL FROM inbox ORDER BY seq DESC LIMIT 1",
    "SELECT NOT EXISTS (SELECT 1 FROM trades WHERE closed = 0 AND state <> 'open')",
)
NEWEST = "SELECT note, outcome IS NOT NULL FROM inbox ORDER BY seq DESC LIMIT 1"


def stock(number: int) -> str:
    """Return the symbol of a made-up stock, the same number always the same: ZAA, ZAB, …"""
    return f"Z{chr(65 + number // 26)}{chr(65 + number % 26)}"


def shares(number: int) -> dict[str, object]:
    """Return what an open signal says about a made-up stock, which stands at 100."""
    return {"symbol": stock(number), "quantity": 10, "tp": 150, "sl": 50}


def write_stocks(folder: Path, how_many: int) -> Path:
    """Write the made-up stocks into a file for the paper TWS's --contracts."""
    listed = {"sec_type": "STK", "exchange": "SMART", "primary": "NASDAQ", "price": "100"}
    path = folder / "stocks.json"
    path.write_text(json.dumps({"contract": [{"symbol": stock(n), **listed} for n in range(how_many)]}), "utf-8")
    return path


class TruthLog:
    """The paper TWS's log, read as it grows; what was passed over does not come again."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def next(self, seconds: float = 60, **wanted: object) -> Entry:
        """Return the next entry in which all of this stands, waiting for it. Raises RuntimeError if none comes."""
        return self.until(lambda entry: wanted.items() <= entry.items(), str(wanted), seconds)

    def until(self, is_last: Callable[[Entry], bool], what: str, seconds: float = 60) -> Entry:
        """Show every entry to `is_last`, and return the first that it accepts. Raises RuntimeError if none comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for entry in self._fresh():
                if is_last(entry):
                    return entry
            time.sleep(0.001)
        raise RuntimeError(f"the paper TWS did not log {what} within {seconds:.0f} s")

    def _fresh(self) -> Iterator[Entry]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


def moment(entry: Entry) -> float:
    """Return when the paper TWS logged an entry, in seconds since 1970."""
    return datetime.fromisoformat(entry["at"]).timestamp()


class Client:
    """One keep-alive connection that posts alerts, one at a time; a new one where the server may be tired of it."""

    def __init__(self, port: int) -> None:
        self._port, self._used_at = port, time.monotonic()
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        made = socket.create_connection((HOST, self._port), 30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def prepare(self) -> None:
        """Reconnect after a pause, before anything is timed."""
        if time.monotonic() - self._used_at > KEPT_ALIVE:
            self._socket.close()
            self._socket = self._connect()
        self._used_at = time.monotonic()

    def write(self, signal: dict[str, object]) -> float:
        """Write one alert; return when its first byte was sent, in seconds since 1970."""
        request = post("/webhook", json.dumps({"secret": SECRET, **signal}).encode())
        sent_at = time.time()
        self._socket.sendall(request)
        return sent_at

    def read(self) -> None:
        """Read one whole answer, which servers send in one packet or in two. Raises RuntimeError if it is not 202."""
        head, body = self._some(), b""
        while b"\r\n\r\n" not in head:
            head += self._some()
        head, _, body = head.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        size = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
        while len(body) < size:
            body += self._some()
        if head[9:12] != b"202":
            raise RuntimeError((head + body).decode())

    def _some(self) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise RuntimeError("the server closed the connection without an answer")
        return received

    def close(self) -> None:
        self._socket.close()


@dataclass
class System:
    """One thing that turns alerts into orders, and the log of its broker."""

    port: int  # takes the alerts
    truth: TruthLog
    control: int = 0  # of the paper TWS
    page: int = 0  # of the executor; the bare bot has none
    executor: Server | None = None
    journal: Path | None = None
    _clients: list[Client] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def send(self, **signal: object) -> float:
        """Post one alert and read the answer; return when its first byte was sent, in seconds since 1970."""
        return self.send_all([signal])

    def send_all(self, signals: list[dict[str, object]]) -> float:
        """Post alerts in one instant, each on a connection of its own; return when the first byte was sent."""
        while len(self._clients) < len(signals):
            self._clients.append(Client(self.port))
        pairs = list(zip(self._clients, signals, strict=False))
        for client, _ in pairs:
            client.prepare()
        began = [client.write({"id": f"bench-{next(self._numbers)}", **signal}) for client, signal in pairs]
        for client, _ in pairs:
            client.read()
        return began[0]

    def open(self, what: dict[str, object], side: str = "buy") -> float:
        """Open a trade with both exits, wait until it has filled; return the milliseconds from alert to bracket."""
        if side == "sell":
            what = {**what, "tp": what["sl"], "sl": what["tp"]}
        sent_at = self.send(action="open", side=side, **what)
        symbol, quantity = what["symbol"], str(what["quantity"])
        taken = self.truth.next(
            event="accepted", orderType="MKT", symbol=symbol, action=side.upper(), quantity=quantity
        )
        self.truth.next(event="filled", symbol=symbol, action=side.upper())
        return (moment(taken) - sent_at) * 1000

    def close_trade(self, symbol: object, action: str = "SELL") -> None:
        """Close a trade and wait until that has filled."""
        self.send(action="close", symbol=symbol)
        self.truth.next(event="filled", symbol=symbol, action=action)

    def round(self, what: dict[str, object] = EURUSD) -> float:
        """Open a trade, close it; return the milliseconds from alert to bracket."""
        took = self.open(what)
        self.close_trade(what["symbol"])
        self.rest()
        return took

    def reversal(self) -> float:
        """Open a trade, turn it round, close it; return the milliseconds from the second alert to its bracket."""
        self.open(EURUSD)
        self.rest()
        turned = {**EURUSD, "quantity": 30000}  # so that its entry is told from the close of the first trade
        sent_at = self.send(action="open", side="sell", **{**turned, "tp": EURUSD["sl"], "sl": EURUSD["tp"]})
        taken = self.truth.next(event="accepted", orderType="MKT", action="SELL", quantity="30000")
        self.truth.until(lambda entry: entry["event"] == "filled" and is_at(entry, 30000), "the fill of the reversal")
        self.close_trade("EURUSD", "BUY")
        self.rest()
        return (moment(taken) - sent_at) * 1000

    def open_all(self, numbers: Iterable[int], seconds: float = 95) -> float:
        """Open a trade in each of these made-up stocks in one instant, wait until all have filled.

        The seconds are returned from the first alert until the last bracket was decoded.
        """
        opens: list[dict[str, object]] = [{"action": "open", "side": "buy", **shares(number)} for number in numbers]
        missing, unfilled = ({one["symbol"] for one in opens} for _ in range(2))
        taken_at = 0.0
        sent_at = self.send_all(opens)
        while unfilled:
            entry = self.truth.until(lambda one: one["event"] in ("accepted", "filled"), f"all of {unfilled}", seconds)
            if entry["event"] == "filled":
                unfilled.discard(entry["symbol"])
            elif entry["orderType"] == "MKT" and entry["symbol"] in missing:
                missing.discard(entry["symbol"])
                taken_at = moment(entry)
        return taken_at - sent_at

    def rest(self, seconds: float = 20) -> None:
        """Wait until the last alert has its verdict and no trade is on its way, so far as can be seen; then a little.

        The next round must not wait for the end of this one. The bare bot shows nothing of itself.
        """
        deadline = time.monotonic() + seconds
        while self.journal and not self._is_at_rest(self.journal):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the executor did not come to rest within {seconds:.0f} s")
            time.sleep(0.02)
        time.sleep(REST)

    def wait_for_verdict(self, note: str, seconds: float = 60) -> None:
        """Wait until the newest signal in the journal has this note, and its verdict; then a little."""
        assert self.journal
        deadline = time.monotonic() + seconds
        with contextlib.closing(sqlite3.connect(f"{self.journal.as_uri()}?mode=ro", uri=True)) as db:
            while db.execute(NEWEST).fetchone() != (note, True):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the executor had no verdict within {seconds:.0f} s")
                time.sleep(0.02)
        time.sleep(REST)

    def _is_at_rest(self, journal: Path) -> bool:
        with contextlib.closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
            return all(db.execute(question).fetchone()[0] for question in AT_REST)

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()


def is_at(entry: Entry, quantity: int) -> bool:
    """True if an entry of the log is about this quantity."""
    return Decimal(entry["quantity"]) == quantity


@contextlib.contextmanager
def paper(folder: Path, stocks: int) -> Iterator[tuple[int, int, TruthLog]]:
    """Run a paper TWS that knows so many made-up stocks beside its own; yield its two ports and its log."""
    port, control = free_port(), free_port()
    options = ["--control-port", str(control), "--truth", "truth.jsonl"]
    options += ["--contracts", str(write_stocks(folder, stocks))] if stocks else []
    with running(["executor.paper", "--port", str(port), *options], folder, control, "paper.log"):
        yield port, control, TruthLog(folder / "truth.jsonl")


@contextlib.contextmanager
def bare_bot(folder: Path, stocks: int = 0) -> Iterator[System]:
    """Run the bare bot and its paper TWS, in a new folder."""
    folder.mkdir()
    with paper(folder, stocks) as (tws_port, control, truth):
        port = free_port()
        with running(["bench.bare_bot", str(port), str(tws_port), SECRET], folder, port, "bot.log"):
            system = System(port, truth, control)
            with contextlib.closing(system):
                yield system


@contextlib.contextmanager
def whole(folder: Path, stocks: int = 0, journal: Path | None = None) -> Iterator[System]:
    """Run relay, executor and paper TWS in a new folder, on a copy of a journal if one is given."""
    folder.mkdir()
    if journal:
        shutil.copyfile(journal, folder / JOURNAL)
    with paper(folder, stocks) as (tws_port, control, truth), relay(folder) as server:
        page = free_port()
        options = ["executor", "--ib-host", HOST, "--ib-port", str(tws_port), "--db", JOURNAL]
        options += ["--relay-url", f"http://{HOST}:{server.port}", "--flask-host", HOST, "--flask-port", str(page)]
        with running(options, folder, page, "executor.log") as executor:
            log = folder / "executor.log"
            wait_until(lambda: answers(f"http://{HOST}:{page}/api/status", is_connected), executor.process, log)
            system = System(server.port, truth, control, page, executor, folder / JOURNAL)
            try:
                yield system
            except RuntimeError as exc:
                raise RuntimeError(f"{exc}\n{tail(log)}") from exc
            finally:
                system.close()


def control_of(system: System) -> ControlClient:
    """Return a client of the control port of a system's paper TWS."""
    return ControlClient(system.control)
