"""What happens in a run: trading days of a few busy spells, drawn from the seed; hours in which nothing happens are left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.simulate.troubles import BUTTONS, HANDS, TROUBLES, heal, press
from tests.simulate.world import PRICES, REST_SECONDS, SIZES, Result, World, run

UNIT = {"EURUSD": Decimal("0.0005"), "GBPUSD": Decimal("0.0005"), "AAPL": Decimal("0.5")}
CALM_EVERY = 8  # one seed in so many has no fault and no owner: it must end without a hold
RUBBISH: tuple[Any, ...] = (
    b"not json", b'{"secret": "wrong", "action": "close", "symbol": "EURUSD"}', {"action": "open", "symbol": "EURUSD"},
    {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": 20000, "tp": "1.0", "sl": "1.5"},
    {"action": "open", "symbol": "AAPL", "side": "buy", "quantity": "0.5"}, {"action": "close", "symbol": "NOSUCHTHING"},
    {"action": "open", "symbol": "NOSUCH", "side": "sell", "quantity": 5}, {"action": "buy", "symbol": "AAPL"},
)  # fmt: skip
Act = Callable[[World], object]


# ---- senders and market ----


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
        world.say(f"market {name} {price}")
        world.server.exchange.set_price(name, price)


def move(world: World) -> None:
    """Move one market by a step or a jump."""
    symbol = world.chance.choice(sorted(PRICES))
    steps = world.chance.choice((-6, -3, -2, -1, -1, 1, 1, 2, 3, 6))
    price = world.server.exchange.price(symbol) + steps * UNIT[symbol] / 2
    if abs(price / PRICES[symbol] - 1) < Decimal("0.05"):
        world.say(f"market {symbol} {price}")
        world.server.exchange.set_price(symbol, price)


SENDING: list[tuple[int, Act]] = [
    (12, send(entry)), (4, send(simple("close"))), (2, send(simple("reset"))), (3, send(strategy)),
    (2, send(lambda world: world.chance.choice(RUBBISH))), (12, move), (5, reach),
]  # fmt: skip


# ---- days ----


def play_seed(days: int, seed: int) -> Result:
    """Play one seed; for a worker's process."""
    return run(seed, days, play)


async def play(world: World, days: int) -> None:
    """Play so many trading days."""
    acts = menu(world)
    world.begin()
    for number in range(days):
        world.say(f"day {number + 1}")
        held = sum(world.figures.holds.values())
        await day(world, acts)
        world.figures.days += 1
        world.figures.calm_days += is_calm(world.seed)
        world.figures.hold_days += sum(world.figures.holds.values()) > held
        world.skip_to(9, 30, days=1)
    await rest(world)


def is_calm(seed: int) -> bool:
    return seed % CALM_EVERY == 0


def menu(world: World) -> list[tuple[int, str, Act]]:
    """Return what may happen in this run, with weights: each seed has its own half of all troubles."""
    acts = [(weight, "", act) for weight, act in SENDING]
    if is_calm(world.seed):
        return acts
    for table in (TROUBLES, HANDS, BUTTONS):
        for name in sorted(table):
            if world.chance.random() < 0.5:
                weight, act = table[name]
                acts.append((weight, name, act))
    return acts


async def day(world: World, acts: list[tuple[int, str, Act]]) -> None:
    """One trading day: busy spells, and the rest between them; now and then one of them goes on over midnight."""
    chance = world.chance
    for _ in range(chance.randint(2, 3)):
        await spell(world, acts)
        await rest(world)
        world.skip(chance.uniform(60, 7000))
    if chance.random() < 0.3:
        world.skip_to(23, 59, 60 - chance.randint(3, 25))
        await spell(world, acts)
        await rest(world)


async def spell(world: World, acts: list[tuple[int, str, Act]]) -> None:
    """A busy spell: a dozen things, close together."""
    weights = [weight for weight, _, _ in acts]
    for _ in range(world.chance.randint(6, 16)):
        _, name, act = world.chance.choices(acts, weights)[0]
        if name:
            world.say(f"happens: {name}")
            world.figures.faults[name] += 1
        world.doing = name
        if act(world) is True:
            world.figures.met[name] += 1
        await world.wait(min(world.chance.expovariate(1.2), 6.0))


async def rest(world: World) -> None:
    """End all troubles, wait until nothing is under way, let the owner decide what he must; then judge."""
    heal(world)
    until = world.clock.monotonic() + REST_SECONDS
    calm_since = None
    while (why := unrest(world)) or calm_since is None or world.clock.monotonic() - calm_since < 3:
        if why and world.clock.monotonic() > until:
            world.checker.say("rest", why)
            world.look()
        now = world.clock.monotonic()
        calm_since = None if why else now if calm_since is None else calm_since
        if world.bot.alive and not is_calm(world.seed) and world.chance.random() < 0.1:
            press(world, decide=True)
        await world.wait(1.0)
    world.checker.rest(world.relay.accepted)
    if is_calm(world.seed):
        _quiet(world)
    world.look()


def _quiet(world: World) -> None:
    """Without a fault there is no hold, and no page."""
    loud = world.checker.journal.rows("SELECT key, text FROM alarms WHERE level = 'page'")
    for alarm in loud:
        world.checker.say("quiet", f"without any fault an alarm was raised: {alarm['key']}: {alarm['text']}")


def unrest(world: World) -> str:
    """Say what is still under way, "" where nothing is."""
    journal = world.checker.journal
    if not world.bot.alive:
        return "the executor is down"
    if world.bot.desk.ready_since is None or not world.bot.desk.can_send:
        return f"the executor is not ready: {world.bot.desk.mode_text} {sorted(world.bot.desk.causes)}"
    if waiting := world.relay.waiting():
        return f"{waiting} signals wait at the relay"
    held = [row["symbol"] for row in journal.rows("SELECT symbol FROM trades WHERE state = 'hold'")]
    for row in journal.rows("SELECT symbol, action, state, reason FROM inbox WHERE state <> 'done'"):
        if row["symbol"] not in held:
            return f"{row['action']} {row['symbol']} is {row['state']}: {row['reason']}"
    for row in journal.rows("SELECT id, symbol, state FROM trades WHERE closed = 0 AND state NOT IN ('open', 'hold')"):
        return f"trade {row['id']} in {row['symbol']} is {row['state']}"
    return world.checker.pending
