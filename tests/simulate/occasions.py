"""What brings a trouble about: a knob waits for an order, a cancel or a connection, and alone would seldom be met in time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from decimal import Decimal

from tests.simulate.owner import transmit
from tests.simulate.records import ZERO
from tests.simulate.senders import UNIT, reach, scale_out, send
from tests.simulate.world import PRICES, SIZES, World

Act = Callable[[World], object]


def enterable(world: World, symbols: Iterable[str]) -> list[tuple[str, str]]:
    """Return the (symbol, side) that an entry is not refused for: no trade, no block, nothing unknown in the account."""
    journal, shown = world.checker.journal, world.checker.broker.positions
    busy = {row["symbol"] for row in journal.rows("SELECT symbol FROM trades WHERE closed = 0")}
    blocked = {(row["symbol"], row["side"]) for row in journal.rows("SELECT symbol, side FROM blocks")}
    con_ids = {row["symbol"]: row["con_id"] for row in journal.rows("SELECT symbol, con_id FROM contracts")}
    beside = {row["con_id"]: Decimal(row["quantity"]) for row in journal.rows("SELECT * FROM ignored_holdings")}
    free = [name for name in sorted(symbols) if name not in busy
            and shown.get(con_ids.get(name, 0), ZERO) == beside.get(con_ids.get(name, 0), ZERO)]  # fmt: skip
    return [(name, side) for name in free for side in ("buy", "sell") if (name, side) not in blocked]


def bracket(world: World, wanted: Collection[tuple[str, str]] = ()) -> dict[str, object]:
    """Return an open signal with both exits: one of those that are wanted, or one that can enter, or any."""
    every = [(name, side) for name in sorted(PRICES) for side in ("buy", "sell")]
    able = enterable(world, PRICES)
    symbol, side = world.chance.choice([pair for pair in able if pair in wanted] or list(wanted) or able or every)
    price, step = world.server.exchange.price(symbol), UNIT[symbol] * (1 if side == "buy" else -1)
    far = world.chance.randint(3, 6)
    return {"action": "open", "symbol": symbol, "side": side, "quantity": SIZES[symbol],
            "tp": str(price + step * far), "sl": str(price - step * far)}  # fmt: skip


def leaving(world: World) -> dict[str, object]:
    """Return a signal that ends an open trade: a close, or an entry on the other side."""
    found = world.checker.journal.rows("SELECT symbol, signal FROM trades WHERE state = 'open' ORDER BY id")
    if not found:
        return bracket(world)
    trade = world.chance.choice(found)
    if world.chance.random() < 0.5:
        return {"action": "close", "symbol": trade["symbol"]}
    return bracket(world, [(trade["symbol"], "sell" if trade["signal"] == "buy" else "buy")])


def cut(world: World) -> None:
    """The executor has to connect anew."""
    world.network.cut()


enter, leave, shrink = send(bracket), send(leaving), send(scale_out)
end, short = (
    send(lambda world: {"action": "close", "symbol": "AAPL"}),
    send(lambda world: bracket(world, [("AAPL", "sell")])),
)
WAITS_FOR: dict[tuple[Act, ...], tuple[str, ...]] = {
    (enter,): (
        "order rejected", "acknowledgement lost", "order lost in TWS", "warning 399", "preset makes it DAY",
        "children held back", "orphaned children", "status before execution", "status left out", "status twice",
        "late commission", "commission unset", "no commission", "other time format", "market closed", "no market data",
        "held orders cannot be resent",
    ),
    (enter, enter, enter): ("children at full size",),
    (enter, enter, enter, reach): ("partial fills",),
    (enter, reach, reach): ("slow fill", "OCA ignored", "both exits fill", "OCA of another type"),
    (enter, leave): (
        "fill meets cancel", "cancel is slow", "cancel rejected", "cancel spreads", "drop at a message", "API read-only",
    ),
    (enter, shrink): ("change rejected", "change unanswered"),
    (enter, shrink, shrink): ("reduction refused", "reduction not filled", "reduction unanswered"),
    (shrink,): ("reduction cut off",),
    (enter, transmit, transmit): ("owner transmits a held order",),
    (end, short): ("no shares to borrow",),
    (cut,): ("an End is missing", "client id kept", "silent login", "connections refused"),
}  # fmt: skip
OCCASIONS = {name: acts for acts, names in WAITS_FOR.items() for name in names}
