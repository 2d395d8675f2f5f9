"""What the senders post, and what the market does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.simulate.world import PRICES, SIZES, World

UNIT = {"EURUSD": Decimal("0.0005"), "GBPUSD": Decimal("0.0005"), "AAPL": Decimal("0.5")}
RUBBISH: tuple[Any, ...] = (
    b"not json", b'{"secret": "wrong", "action": "close", "symbol": "EURUSD"}', {"action": "open", "symbol": "EURUSD"},
    {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": 20000, "tp": "1.0", "sl": "1.5"},
    {"action": "open", "symbol": "AAPL", "side": "buy", "quantity": "0.5"}, {"action": "close", "symbol": "NOSUCHTHING"},
    {"action": "open", "symbol": "NOSUCH", "side": "sell", "quantity": 5}, {"action": "buy", "symbol": "AAPL"},
)  # fmt: skip
Act = Callable[[World], object]


def entry(world: World) -> dict[str, Any]:
    """Return an open signal near the market; its exits are often wrong by the time it arrives."""
    chance, symbol = world.chance, world.chance.choice(sorted(PRICES))
    side = chance.choice(("buy", "sell"))
    price, up = world.server.exchange.price(symbol), 1 if side == "buy" else -1
    fields: dict[str, Any] = {"action": "open", "symbol": symbol, "side": side, "quantity": SIZES[symbol]}
    if chance.random() < 0.75:
        fields["tp"] = str(price + up * UNIT[symbol] * chance.randint(1, 5))
    if chance.random() < 0.8:
        fields["sl"] = str(price - up * UNIT[symbol] * chance.randint(1, 5))
    return fields


def strategy(world: World) -> dict[str, Any]:
    symbol = world.chance.choice(sorted(PRICES))
    where = world.chance.choice(("long", "short", "flat"))
    size = 0 if where == "flat" else SIZES[symbol]
    return {"action": "strategy", "symbol": symbol, "market_position": where, "market_position_size": size}


def simple(action: str) -> Callable[[World], dict[str, Any]]:
    return lambda world: {"action": action, "symbol": world.chance.choice(sorted(PRICES))}


def send(make: Callable[[World], Any]) -> Act:
    """Return the act of a sender: post, sometimes twice, and again where no answer came."""

    def act(world: World) -> None:
        world.figures.signals += 1
        fields = make(world)
        if isinstance(fields, dict) and world.chance.random() < 0.9:
            fields = {**fields, "id": f"{world.seed}-{world.figures.signals}"}
        asyncio.ensure_future(_post(world, fields))

    return act


async def _post(world: World, fields: Any) -> None:
    again = world.chance.random() < 0.15
    for _ in range(4):
        status = world.relay.post(fields)
        world.say(f"sender {fields if isinstance(fields, dict) else fields[:20]!r} -> {status}")
        if status is not None and status < 500 and not again:
            return
        again = False
        await asyncio.sleep(world.chance.uniform(0.1, 3))


def reach(world: World) -> None:
    """Move a market to where an exit of ours fills."""
    exits = [o for o in world.server.exchange.floor.book.live.values() if o.working and o.role != "entry"]
    if exits:
        order = world.chance.choice(exits)
        name = world.server.exchange.floor.instrument(order).name
        beyond = order.form.sign * UNIT[name] / 2
        limit, stop = order.form.limit_price, order.form.aux_price
        price = limit - beyond if limit else (stop or PRICES[name]) + beyond
        world.move_market(name, price)


def move(world: World) -> None:
    """Move one market by a step or a jump."""
    symbol = world.chance.choice(sorted(PRICES))
    steps = world.chance.choice((-6, -3, -2, -1, -1, 1, 1, 2, 3, 6))
    price = world.server.exchange.price(symbol) + steps * UNIT[symbol] / 2
    if abs(price / PRICES[symbol] - 1) < Decimal("0.05"):
        world.move_market(symbol, price)


SENDING: list[tuple[int, Act]] = [
    (12, send(entry)), (4, send(simple("close"))), (2, send(simple("reset"))), (3, send(strategy)),
    (2, send(lambda world: world.chance.choice(RUBBISH))), (12, move), (5, reach),
]  # fmt: skip
