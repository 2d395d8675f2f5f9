"""A long day of real signals: the journal of a real desk over the fake broker, with every way in which a trade can end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import chain, cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common.signals import Action, Envelope, Side, Signal, payload_text
from executor.core.commands import Command, CommandKind
from executor.core.outcomes import Link
from executor.core.ports import AccountView, Contract, Position
from executor.publisher import Publisher
from executor.tws.connection import Connection
from tests.executor.fakes import ACCOUNT, EURUSD, House

BUY = {"side": "buy", "size": "100", "tp": "1.20", "sl": "1.18"}


class Day:
    """Works through one ending after the other, each in a symbol of its own."""

    def __init__(self, path: Path) -> None:
        self.house = House.build(str(path))
        self.house.journal._db.execute("PRAGMA synchronous = OFF")  # nothing here is about the disk
        self.house.connect()
        self.count = 0

    def run(self, trades: int) -> None:
        """Trade until the journal holds so many trades: each ending twice, then those that need no waiting."""
        for ending in chain(2 * ENDINGS, cycle(QUICK)):
            if self.house.journal._rows("SELECT count(*) FROM trades")[0][0] >= trades:
                break
            self.count += 1
            contract = Contract(1000 + self.count, f"SYM{self.count}", "STK", f"SYM{self.count}", "USD", "SMART")
            self.house.broker.contracts[contract.symbol] = contract
            ending(self.house, contract)
        self.publish()

    def publish(self) -> None:
        """Write what the page shows of the moment, as the executor does."""
        house = self.house
        held = [Position(ACCOUNT, c, house.broker.symbols[c], q, Decimal(1)) for c, q in house.broker.quantity.items()]
        shown: Any = SimpleNamespace(
            connected=True,
            account_view=lambda: AccountView(ACCOUNT, {"NetLiquidation": "1000000.00"}),
            positions=lambda: tuple(held),
            lookup=SimpleNamespace(known=lambda: list(house.broker.contracts.values())),
        )
        connection = Connection(Link.CONNECTED, "TWS")
        Publisher(house.journal, shown, house.desk, connection, house.clock).publish()


def hit(house: House, contract: Contract, leg: str, quantity: Decimal | None = None) -> None:
    """Fill an exit in one contract, wholly or in part; the other is cancelled where it filled wholly."""
    tickets = house.broker.tickets
    house.broker.tickets = dict(sorted(tickets.items(), key=lambda one: one[1].contract.con_id != contract.con_id))
    house.broker.hit(leg, quantity)


def take_profit(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, **BUY)
    hit(house, contract, "T")
    house.signal("open", contract.symbol, **BUY)  # refused: blocked


def stop_loss(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, side="sell", size="100", tp="1.18", sl="1.20")
    hit(house, contract, "S")


def close_signal(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, **BUY)
    house.signal("open", contract.symbol, **BUY)  # ignored
    house.signal("close", contract.symbol)
    house.signal("close", contract.symbol)  # nothing to do


def reversal(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, **BUY)
    house.signal("open", contract.symbol, side="sell", size="100", tp="1.18", sl="1.20")
    house.signal("open", contract.symbol, **BUY)
    house.signal("close", contract.symbol)


def by_hand(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, **BUY)
    house.broker.by_hand(contract, Decimal(-100), Decimal("1.195"))
    house.pass_time(12)


def by_button(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, size="100", side="buy")
    house.desk.command(Command(CommandKind.CLOSE, trade_id=house.trades()[-1]["id"]))


def in_parts(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, **BUY)
    hit(house, contract, "T", Decimal(40))
    house.pass_time(2)
    house.signal("close", contract.symbol)
    house.pass_time(2)


def unknown(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, **BUY)
    broker = house.broker
    broker.silent = True
    hit(house, contract, "T")
    broker.silent = False
    broker.fills = [fill for fill in broker.fills if fill.con_id != contract.con_id]
    broker.orders = {number: order for number, order in broker.orders.items() if order.status.is_live}
    broker.tickets = {number: ticket for number, ticket in broker.tickets.items() if number in broker.orders}
    broker.day = f"2026-11-{int(broker.day[-2:]) % 28 + 1:02d}"
    house.desk.disconnected("midnight")
    house.connect()
    house.pass_time(8)


def never_filled(house: House, contract: Contract) -> None:
    house.broker.fill_entries = False
    house.signal("open", contract.symbol, **BUY)
    house.signal("close", contract.symbol)
    house.broker.fill_entries = True
    house.pass_time(2)


def refused_by_the_broker(house: House, contract: Contract) -> None:
    house.broker.refuse = {"E": (201, "Order rejected - reason: no margin")}
    house.signal("open", contract.symbol, **BUY)
    house.broker.refuse = {}
    house.pass_time(2)


def on_hold(house: House, contract: Contract) -> None:
    """It stays so, with a close that waits for the owner."""
    house.signal("open", contract.symbol, **BUY)
    house.desk.life.hold(house.desk.book.trade(house.trades()[-1]["id"]), "a doubt")
    house.signal("close", contract.symbol)


def flattened(house: House, contract: Contract) -> None:
    on_hold(house, contract)
    house.connect()
    house.desk.command(Command(CommandKind.FLATTEN, trade_id=house.trades()[-1]["id"]))
    house.pass_time(2)


def stays_open(house: House, contract: Contract) -> None:
    house.signal("open", contract.symbol, **BUY)
    house.broker.by_hand(EURUSD, Decimal(1), Decimal("1.19"))  # beside it, what the journal does not know


def without_entry(house: House, contract: Contract) -> None:
    """Signals that trade nothing: expired, unknown symbol, odd size, a reset with and without a block."""
    house.signal("open", "NOSUCH", **BUY)
    house.signal("open", contract.symbol, side="buy", size="0.5")
    house.signal("reset", contract.symbol)
    receive_late(house, contract.symbol)
    take_profit(house, contract)
    house.signal("reset", contract.symbol)


def receive_late(house: House, symbol: str) -> None:
    """An entry that lay at the relay for two minutes."""
    signal = Signal(Action.OPEN, symbol, Side.BUY, Decimal(100))
    envelope = Envelope(f"LATE{symbol}", house.clock.now(), None, signal)
    house.clock.advance(120)
    house.desk.receive([(envelope, payload_text(envelope))])


ENDINGS: tuple[Callable[[House, Contract], None], ...] = (
    take_profit, stop_loss, close_signal, reversal, by_hand, by_button, in_parts, unknown, never_filled,
    refused_by_the_broker, on_hold, flattened, stays_open, without_entry,
)  # fmt: skip
QUICK = (take_profit, stop_loss, close_signal, reversal, by_button)
