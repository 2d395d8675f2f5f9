"""The trading core on its wire: desk, supervisor and TWS client at one end, the paper TWS at the other.

They exchange the bytes that a TCP connection would carry, on a clock that goes to the next timer when there is nothing
left to do: what takes seconds takes none, and no stall of the machine comes between two timers. The same over real
sockets is in tests/wire.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from common.signals import Action, Envelope, Side, Signal, alert_from, payload_text
from executor.core.accounts import AccountRules
from executor.core.commands import Command, CommandKind
from executor.core.policy import Policy
from executor.desk.desk import Desk
from executor.journal.journal import Journal
from executor.paper.actions import perform
from executor.paper.exchange import Exchange
from executor.paper.server import LOOPBACK, PaperServer
from executor.tws.client import Tws
from executor.tws.connection import Supervisor
from tests.simulate.virtual import Clock, VirtualLoop
from tests.simulate.wires import Network

START = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)  # New York trades
CLIENT_ID = 1
TICK_SECONDS = 0.05
QUICK = Policy(protect_seconds=2, inflight_seconds=2)


class House:
    """One executor and one paper TWS in this event loop; either may be stopped and started again."""

    def __init__(
        self, folder: Path, policy: Policy = QUICK, accounts: tuple[str, ...] = ("DU1234567",),
        account: str | None = None, live: str | None = None, connect: bool = True,
    ) -> None:  # fmt: skip
        self.policy, self.wanted, self.live, self.connect = policy, account, live, connect
        self.clock = Clock(START)
        self.path = folder / "trade_state.db"
        self.asked: list[str] = []  # the kinds of all messages that reached the paper TWS
        self.server = PaperServer(Exchange(self.clock, accounts=accounts), on_message=self._hear)
        self.network = Network(self.server, random.Random(1))
        self._count = 0
        self._tasks: list[asyncio.Task[None]] = []

    def loop(self) -> VirtualLoop:
        """Return a loop on the clock of this house, in which every connection leads to its paper TWS."""
        loop = VirtualLoop(self.clock)
        loop.network = self.network.open
        asyncio.set_event_loop(loop)  # asyncio.Runner does not, and the client library asks the policy for it
        return loop

    async def __aenter__(self) -> House:
        await self.server.start()
        self.start()
        if self.connect:
            await self.until(lambda: self.desk.can_send)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()
        await self.server.stop()
        await asyncio.sleep(0.01)  # transports close in the next turns of the loop

    def _hear(self, direction: str, kind: str, number: int) -> None:
        if direction == "in":
            self.asked.append(kind)

    # ---- the executor ----

    def start(self) -> None:
        """Start an executor over the journal file, as a new process would."""
        self.journal = Journal.open(self.path, self.clock)
        self.tws = Tws(self.clock)
        self.desk = Desk(
            self.journal, self.tws, self.clock, self.policy, self.wanted or self.journal.account() or "",
            CLIENT_ID, lambda why: self.supervisor.want_snapshot(why),
        )  # fmt: skip
        self.supervisor = Supervisor(
            self.tws, self.desk, self.clock, AccountRules(self.wanted, self.live), CLIENT_ID, self._address
        )
        self._tasks = [asyncio.create_task(self.supervisor.run()), asyncio.create_task(self._ticks())]

    async def _address(self) -> tuple[str, int]:
        return LOOPBACK, self.server.port

    async def stop(self) -> None:
        """Stop the executor where it stands; nothing is tidied up at the broker."""
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.tws.disconnect()
        self.journal.close()
        self._tasks = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Stop the executor, let something happen at the broker, start it again and wait until it trades."""
        await self.stop()
        meanwhile()
        await asyncio.sleep(0.1)
        self.start()
        await self.until(lambda: self.desk.can_send)

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.desk.tick()

    # ---- what the sender and the owner do ----

    def signal(
        self,
        action: str,
        symbol: str = "EURUSD",
        side: str | None = None,
        size: str | None = None,
        **prices: str,
    ) -> str:
        """Hand over one signal, as the intake does; its id."""
        self._count += 1
        signal = Signal(
            Action(action), symbol, Side(side) if side else None, Decimal(size) if size else None,
            **{name: Decimal(price) for name, price in prices.items()},
        )  # fmt: skip
        return self._hand_over(signal)

    def alert(self, action: str, symbol: str = "EURUSD", **fields: object) -> str:
        """Hand over an alert in the sender's own words; its id."""
        self._count += 1
        return self._hand_over(alert_from({"action": action, "symbol": symbol, **fields}).signal)

    def _hand_over(self, signal: Signal) -> str:
        envelope = Envelope(f"S{self._count}", self.clock.now(), None, signal)
        self.desk.receive([(envelope, payload_text(envelope))])
        return envelope.id

    def buy(self, size: str = "10000", symbol: str = "EURUSD", **prices: str) -> str:
        return self.signal("open", symbol, "buy", size, **prices)

    def sell(self, size: str = "10000", symbol: str = "EURUSD", **prices: str) -> str:
        return self.signal("open", symbol, "sell", size, **prices)

    async def button(self, kind: str, **about: Any) -> str:
        """Press a button of the page, as the program carries it out: on what is read after it was pressed."""
        await self.supervisor.read_anew(30)
        return self.desk.command(Command(CommandKind(kind), **about))

    def paper(self, action: str, /, **params: Any) -> Any:
        """Do something in the paper TWS by the name of its control port."""
        result = perform(self.server, action, **params)
        self.server.gateway.pump()
        return result

    def price(self, symbol: str, value: str) -> None:
        self.paper("set_price", symbol=symbol, price=value)

    # ---- what is to be seen ----

    async def until(self, predicate: Callable[[], Any], seconds: float = 30) -> Any:
        """Wait until it is true, and return that; fail with what stands in the journal."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (found := predicate()):
                    await self._nap(0.01)
                return found
        raise AssertionError(f"not within {seconds} s; {self.told()}")

    async def stays(self, predicate: Callable[[], Any], seconds: float) -> None:
        """Hold that something is true the whole time."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            assert predicate(), self.told()
            await self._nap(0.02)

    async def _nap(self, seconds: float) -> None:
        for task in self._tasks:
            if task.done():
                task.result()
        await asyncio.sleep(seconds)

    def told(self) -> str:
        """Return the trade log and the state of things, for a failed test."""
        lines = [f"{row['kind']}: {row['details']}" for row in self.rows("SELECT * FROM events ORDER BY id")]
        orders = [str(dict(row)) for row in self.rows("SELECT order_ref, state, said, reason FROM orders")]
        return "\n".join([str(self.desk.status()), *map(str, self.trades()), *orders, *lines])

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        return [dict(row) for row in self.journal._rows(sql, *values)]

    def trades(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM trades ORDER BY id")

    def trade(self) -> dict[str, Any]:
        """Return the newest trade, empty while there is none."""
        return (self.trades() or [{}])[-1]

    def outcome(self, signal_id: str) -> tuple[str | None, str]:
        row = self.rows("SELECT outcome, reason FROM inbox WHERE signal_id = ?", signal_id)[0]
        return row["outcome"], row["reason"] or ""

    def alarms(self) -> set[str]:
        return {alarm["kind"] for alarm in self.journal.standing_alarms()}

    def orders(self, symbol: str = "EURUSD") -> dict[str, dict[str, Any]]:
        """Return the live orders of ours at the broker: leg letter → order."""
        found = [o for o in self.paper("orders") if o["symbol"] == symbol and o["orderRef"]]
        return {leg_of(order): order for order in found}

    def position(self, symbol: str = "EURUSD") -> Decimal:
        """Return what the broker's books say."""
        return sum((Decimal(p["quantity"]) for p in self.paper("positions") if p["symbol"] == symbol), Decimal(0))

    def truth(self, *events: str) -> list[dict[str, Any]]:
        """Return the broker's own record of these events, oldest first."""
        return [entry for entry in self.paper("truth") if entry["event"] in events]

    def story(self) -> list[str]:
        """Return what happened to our orders at the broker, like `filled E`, repeats left out."""
        told = [f"{e['event']} {leg_of(e)}" for e in self.truth("accepted", "filled", "cancelled") if e["orderRef"]]
        return list(dict.fromkeys(told))

    # ---- waits that many tests need ----

    async def decided(self, signal_id: str, seconds: float = 30) -> tuple[str | None, str]:
        """Wait for a signal's outcome and return it with the reason."""
        await self.until(lambda: self.outcome(signal_id)[0], seconds)
        return self.outcome(signal_id)

    async def entered(self, signal_id: str, exits: str = "TS") -> dict[str, Any]:
        """Wait until the entry has filled and these exits work at the broker; the trade."""
        symbol = self.rows("SELECT symbol FROM inbox WHERE signal_id = ?", signal_id)[0]["symbol"]
        await self.until(
            lambda: (
                self.trade().get("signal_id") == signal_id
                and self.trade()["state"] == "open"
                and set(self.orders(symbol)) == set(exits)
            )
        )
        return self.trade()

    async def closed(self, seconds: float = 30) -> dict[str, Any]:
        """Wait until the newest trade is closed and no order of ours is left; the trade."""
        await self.until(lambda: self.trade().get("closed") and not self.orders(self.trade()["symbol"]), seconds)
        return self.trade()


def leg_of(entry: dict[str, Any]) -> str:
    """Return the leg that our order reference names: E, T, S, C or R."""
    return str(entry["orderRef"])[20]
