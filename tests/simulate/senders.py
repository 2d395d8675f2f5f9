"""What the senders post, and what the market does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.simulate import prices
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
    """Return an alert of a strategy that says what it holds, and not what it held."""
    symbol = world.chance.choice(sorted(PRICES))
    where = world.chance.choice(("long", "short", "flat"))
    size = 0 if where == "flat" else SIZES[symbol]
    return {"action": "strategy", "symbol": symbol, "market_position": where, "market_position_size": size}


def scaling(world: World) -> dict[str, Any]:
    """Return the next alert of a strategy that enters, scales out in steps, at times in again, turns over and leaves.

    It knows nothing of the account. At times it is one that the account follows: then it holds what the trade does.
    """
    chance, symbol = world.chance, world.chance.choice(_traded(world) or sorted(PRICES))
    before = world.strategies.get(symbol, 0)
    told = chance.random() < 0.85
    if chance.random() < 0.4 and (held := _held(world, symbol)) is not None:
        told, before = told and held == before, held
    after = world.strategies[symbol] = chance.choice(_steps(symbol, before))
    fields = {"action": "strategy", "symbol": symbol, **_position(after, "")}
    if told:
        fields |= _position(before, "prev_")
    return fields | (_exits(world, symbol, after) if after * before <= 0 and after else {})


def _steps(symbol: str, held: int) -> list[int]:
    """Return what a strategy may hold next, below zero when it is short."""
    size, sign = SIZES[symbol], 1 if held > 0 else -1
    if not held:
        return [size, -size, size // 2]
    smaller = [sign * part for part in (size * 3 // 4, size // 2, size // 3, size // 4) if part < abs(held)]
    return [*smaller, *smaller, *smaller, 0, 0, -sign * size, held, held * 2]


def _position(held: int, prefix: str) -> dict[str, Any]:
    where = "long" if held > 0 else "short" if held < 0 else "flat"
    return {f"{prefix}market_position": where, f"{prefix}market_position_size": abs(held)}


def _traded(world: World) -> list[str]:
    """Return the symbols with an open trade."""
    return sorted(
        {row["symbol"] for row in world.checker.journal.rows("SELECT symbol FROM trades WHERE state = 'open'")}
    )


def _held(world: World, symbol: str) -> int | None:
    """Return what the open trade in a symbol holds, None where there is none."""
    row = world.checker.journal.one("SELECT signal, held FROM trades WHERE state = 'open' AND symbol = ?", symbol)
    return None if row is None else int(row["held"]) * (1 if row["signal"] == "buy" else -1)


def scale_out(world: World) -> dict[str, Any]:
    """Return an alert of a strategy that holds less than the open trade, so that the trade comes down to it."""
    symbol = world.chance.choice(_traded(world) or sorted(PRICES))
    held = _held(world, symbol) or world.strategies.get(symbol) or SIZES[symbol]
    after = world.strategies[symbol] = int(held * world.chance.choice((0.75, 0.5, 0.4, 0.1)))
    before = _position(held, "prev_") if world.chance.random() < 0.7 else {}
    return {"action": "strategy", "symbol": symbol, **_position(after, ""), **before}


def part(world: World) -> dict[str, Any]:
    """Return a close of a part of an open trade, by quantity or percent; at times of more than is there."""
    symbol = world.chance.choice(_traded(world) or sorted(PRICES))
    share = world.chance.choice((0.1, 0.25, 0.5, 0.5, 0.9, 1.5))
    much = (
        {"percent": str(min(share * 100, 99))}
        if world.chance.random() < 0.5
        else {"quantity": int(SIZES[symbol] * share)}
    )
    return {"action": "close", "symbol": symbol, **much}


def _exits(world: World, symbol: str, held: int) -> dict[str, str]:
    """Return a take-profit and a stop-loss near the market."""
    price, step = world.server.exchange.price(symbol), UNIT[symbol] * (1 if held > 0 else -1)
    tp, sl = world.chance.randint(2, 6), world.chance.randint(2, 6)
    return {"tp": str(price + step * tp), "sl": str(price - step * sl)}


def protect(world: World) -> dict[str, Any]:
    """Return a protect, most often of an open trade."""
    symbol = world.chance.choice(_traded(world) or sorted(PRICES))
    return prices.protecting(world, symbol, UNIT[symbol])


def from_fill(world: World) -> dict[str, Any]:
    """Return an entry whose exits follow from the fill, or that trails."""
    fields = entry(world)
    return prices.from_fill(world, fields, UNIT[fields["symbol"]])


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
        limit, stop = order.form.limit_price, order.stop_price
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
    (12, send(entry)), (4, send(simple("close"))), (2, send(simple("reset"))), (2, send(strategy)),
    (6, send(protect)), (5, send(from_fill)), (8, send(scaling)), (4, send(scale_out)), (3, send(part)),
    (2, send(lambda world: world.chance.choice(RUBBISH))), (12, move), (5, reach),
]  # fmt: skip
