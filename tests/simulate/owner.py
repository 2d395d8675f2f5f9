"""What the owner does by hand in TWS, and which buttons of the page are pressed, as tables: name → (weight, act)."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from executor.core.commands import Command, CommandKind, CommandRefused
from executor.paper.actions import perform
from executor.paper.orders import MANUAL, Order
from tests.simulate.bot import Killed
from tests.simulate.records import ZERO
from tests.simulate.troubles import Act, do, ours
from tests.simulate.world import PRICES, SIZES, World

READ_SECONDS = 8.0  # as the program waits

# ---- in TWS ----


def by_hand(world: World, order: Order) -> None:
    """Allow the checker that an order of the owner's changes, by hand."""
    if order.client_id == MANUAL:
        world.checker.allowed.add(order.perm_id)


def held_symbol(world: World) -> str:
    """Return a symbol that the account holds, any where it holds none."""
    held = sorted(row["symbol"] for row in perform(world.server, "positions"))
    return world.chance.choice(held or sorted(PRICES))


def close_by_hand(world: World) -> bool:
    return do(world, "manual_close", symbol=held_symbol(world))


def reduce_by_hand(world: World) -> bool:
    symbol = held_symbol(world)
    return do(world, "manual_close", symbol=symbol, quantity=str(SIZES[symbol] // 4))


def add_by_hand(world: World) -> bool:
    symbol = world.chance.choice(sorted(PRICES))
    return do(
        world,
        "manual_order",
        symbol=symbol,
        action=world.chance.choice(("BUY", "SELL")),
        quantity=str(SIZES[symbol] // 4),
    )


def rest_by_hand(world: World) -> bool:
    """The owner places a limit order, far from the market or near."""
    symbol, chance = world.chance.choice(sorted(PRICES)), world.chance
    price = world.server.exchange.price(symbol) * chance.choice((Decimal("0.999"), Decimal("0.98")))
    step = Decimal("0.01") if symbol == "AAPL" else Decimal("0.0005")
    return do(world, "manual_order", symbol=symbol, action="BUY", quantity=str(SIZES[symbol] // 2), order_type="LMT",
       price=str(price.quantize(step) // step * step))  # fmt: skip


def copy_by_hand(world: World) -> bool:
    """The owner copies an order of ours in TWS, which takes its reference along, and lets it rest far from the market or near."""
    found, chance = [o for o in ours(world) if o.working], world.chance
    if not found:
        return False
    order = chance.choice(found)
    name = world.server.exchange.floor.instrument(order).name
    step = Decimal("0.01") if name == "AAPL" else Decimal("0.0005")
    far = world.server.exchange.price(name) * (1 - order.form.sign * chance.choice((Decimal("0.001"), Decimal("0.02"))))
    return do(world, "manual_order", symbol=name, action=order.form.action, quantity=str(SIZES[name] // 4), order_type="LMT",
       price=str(far // step * step), order_ref=order.form.order_ref)  # fmt: skip


def cancel_by_hand(world: World) -> bool:
    """The owner cancels any order: one placed by hand, or an exit of ours."""
    live = [o for o in world.server.exchange.floor.book.live.values() if o.working]
    if not live:
        return False
    order = world.chance.choice(live)
    by_hand(world, order)
    return do(world, "manual_cancel", perm_id=order.perm_id)


def cancel_stop_by_hand(world: World) -> bool:
    stops = [o for o in ours(world) if o.role == "stop_loss" and o.working]
    return bool(stops) and do(world, "manual_cancel", perm_id=world.chance.choice(stops).perm_id)


def move_by_hand(world: World) -> bool:
    """The owner moves the price of an exit of ours."""
    exits = [o for o in ours(world) if o.role != "entry" and o.working]
    if not exits:
        return False
    order = world.chance.choice(exits)
    level = order.form.aux_price or order.form.limit_price or ZERO
    name = world.server.exchange.floor.instrument(order).name
    step = Decimal(1) if name == "AAPL" else Decimal("0.0005")
    return do(world, "manual_modify", perm_id=order.perm_id, price=str(level + step * world.chance.choice((-1, 1))))


def shrink_by_hand(world: World) -> bool:
    """The owner makes a stop of ours smaller."""
    stops = [o for o in ours(world) if o.role == "stop_loss" and o.working and o.remaining > 10]
    if not stops:
        return False
    order = world.chance.choice(stops)
    return do(world, "manual_modify", perm_id=order.perm_id, quantity=str(int(order.quantity / 2)))


def transmit(world: World) -> bool:
    held = [o for o in ours(world) if o.held]
    return bool(held) and do(world, "manual_transmit", perm_id=held[0].perm_id)


def transmit_by_hand(world: World) -> bool:
    """The owner sends what TWS holds; where it holds nothing, the connection shall break within the next bracket."""
    if transmit(world):
        return True
    met, world.met = world.met, lambda: None  # that break is not what counts
    do(world, "drop", direction="in", when="after", kind="placeOrder", n=world.chance.choice((1, 2)))
    world.met = met
    return False


HANDS: dict[str, tuple[int, Act]] = {
    "owner closes by hand": (3, close_by_hand),
    "owner reduces by hand": (2, reduce_by_hand),
    "owner trades beside": (2, add_by_hand),
    "owner's own limit order": (1, rest_by_hand),
    "owner copies an order of ours": (1, copy_by_hand),
    "owner cancels an order": (2, cancel_by_hand),
    "owner cancels a stop": (2, cancel_stop_by_hand),
    "owner moves an exit": (2, move_by_hand),
    "owner shrinks a stop": (1, shrink_by_hand),
    "owner transmits a held order": (2, transmit_by_hand),
}


# ---- on the page ----


def press(world: World, *, decide: bool = False) -> bool:
    """Press one button that the page would show now; with `decide`, only those that end a hold or a doubt."""
    choices = list(_choices(world, decide))
    if not choices or not world.bot.alive:
        return False
    asyncio.ensure_future(_carry_out(world, world.chance.choice(choices)))
    return True


async def _carry_out(world: World, command: Command) -> None:
    """Do what the program does with a button: have everything read anew, then obey."""
    bot = world.bot
    desk = bot.desk
    if command.kind.acts_on_positions:
        await bot.supervisor.read_anew(READ_SECONDS)
    if not bot.alive or bot.desk is not desk:
        return  # it died meanwhile, and nobody answers
    try:
        said = world.bot.desk.command(command)
    except CommandRefused as refused:
        said = f"refused: {refused}"
    except Killed:
        return
    else:
        _note(world, command)
    world.say(f"button {command.kind} {command.trade_id or command.symbol}: {said}")


def _note(world: World, command: Command) -> None:
    checker = world.checker
    if command.trade_id is not None and command.kind is not CommandKind.CLOSE:
        checker.ends.doubtful.add(command.trade_id)
    if command.kind is CommandKind.RESET:
        row = checker.journal.one("SELECT con_id FROM contracts WHERE symbol = ?", command.symbol)
        checker.released[row["con_id"] if row else 0] = world.clock.now()


def _choices(world: World, decide: bool) -> list[Command]:
    journal = world.checker.journal
    held = journal.rows("SELECT id FROM trades WHERE state = 'hold' ORDER BY id")
    found = [Command(kind, trade_id=row["id"]) for row in held
             for kind in (CommandKind.ADOPT, CommandKind.FLATTEN, CommandKind.DISMISS)]  # fmt: skip
    if world.bot.alive:
        found += [Command(kind, symbol=row["symbol"]) for row in world.bot.desk.owner.unknown_positions()
                  for kind in (CommandKind.IGNORE_POSITION, CommandKind.ADOPT_POSITION)]  # fmt: skip
    if not decide:
        live = journal.rows("SELECT id FROM trades WHERE closed = 0 ORDER BY id")
        found += [Command(CommandKind.CLOSE, trade_id=row["id"]) for row in live]
        found += [Command(CommandKind.RESET, symbol=symbol) for symbol in sorted(PRICES)]
    return found


BUTTONS: dict[str, tuple[int, Act]] = {"owner presses a button": (4, press)}
