"""Everything that can go wrong, and everything that the owner does, as tables: name → (weight, act).

An act returns True where it did something at once. What it only prepares (a knob of the paper TWS, a death at a
boundary, a full disk) counts when it is met.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from executor.commands import Command, CommandKind, CommandRefused
from executor.paper.actions import ActionError, perform
from executor.paper.orders import MANUAL, Order
from tests.simulate.bot import Killed
from tests.simulate.posts import Troubles
from tests.simulate.records import ZERO
from tests.simulate.wires import QUICK, SLOW
from tests.simulate.world import PRICES, SIZES, World

Act = Callable[[World], object]
Draw = Callable[[random.Random], Any]
ROLES = ("entry", "take_profit", "stop_loss")
ENDS = ("openOrderEnd", "completedOrdersEnd", "execDetailsEnd", "positionEnd", "accountDownloadEnd")


def do(world: World, name: str, /, **given: Any) -> bool:
    """Have the paper TWS do something; False where it cannot be done now."""
    try:
        perform(world.server, name, **given)
        return True
    except ActionError:
        return False
    finally:
        world.server.gateway.pump()


def later(world: World, seconds: float, act: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


# ---- faults of TWS ----


def knob(name: str, **draws: Draw) -> Act:
    """Return the act of arming a knob, its parameters drawn anew each time."""

    def act(world: World) -> None:
        do(world, name, **{key: draw(world.chance) for key, draw in draws.items()})

    return act


def standing(name: str, low: float, high: float, **draws: Draw) -> Act:
    """Return the act of setting a standing knob for a while."""

    def act(world: World) -> None:
        do(world, name, **{key: draw(world.chance) for key, draw in draws.items()})
        later(world, world.chance.uniform(low, high), lambda: do(world, "clear", knob=name))

    return act


def among(*values: Any) -> Draw:
    return lambda chance: chance.choice(values)


def seconds(low: float, high: float) -> Draw:
    return lambda chance: round(chance.uniform(low, high), 3)


ROLE = among(*ROLES)


def restart_tws(world: World) -> bool:
    chance = world.chance
    return do(world, "restart", down_seconds=round(chance.uniform(0.5, 40), 2), lose_last_n=chance.choice((0, 0, 1, 2, 3)),
       rollback_ids=chance.choice((False, True, 2)))  # fmt: skip


def lose_ibkr(world: World) -> bool:
    done = do(world, "lose_connection", hold_events=world.chance.random() < 0.5)
    later(world, world.chance.uniform(0.5, 30), lambda: restore_ibkr(world))
    return done


def restore_ibkr(world: World) -> None:
    if not world.server.exchange.intake.connected:
        do(world, "restore_connection", code=world.chance.choice((1101, 1102)))


def freeze(world: World) -> bool:
    return do(world, "freeze", seconds=round(world.chance.uniform(0.5, 20), 2))


def partials(world: World) -> None:
    chance = world.chance
    symbol, role = chance.choice(sorted(PRICES)), chance.choice(ROLES)
    size = SIZES[symbol]
    sizes = [size // 4, size // 4] if chance.random() < 0.5 else [size // 2]
    do(world, "partials", symbol=symbol, role=role, sizes=sizes, gap=chance.choice((0, 0.5, 4)),
       then=chance.choice(("fill", "fill", "cancel")))  # fmt: skip


def fill_in_part(world: World) -> bool:
    """The market takes a part of an exit."""
    exits = [o for o in ours(world) if o.form.order_type != "MKT" and o.working and o.why_held != "child"]
    if not exits:
        return False
    order = world.chance.choice(exits)
    return do(world, "fill", perm_id=order.perm_id, quantity=str(max(int(order.remaining / 4), 1)))


def correct(world: World) -> bool:
    found = world.server.exchange.executions()
    if not found:
        return False
    one = world.chance.choice(found)
    return do(world, "correct_execution", exec_id=one.exec_id, price=str(one.price + PRICES["AAPL"] / 100000))


def ours(world: World) -> list[Order]:
    return [o for o in world.server.exchange.floor.book.live.values() if o.form.order_ref.startswith("sx1:")]


# ---- faults of network, relay, machine ----


def slow(world: World) -> bool:
    world.network.delay = SLOW
    later(world, world.chance.uniform(1, 15), lambda: setattr(world.network, "delay", QUICK))
    return bool(world.network.pipes)


def bad_way(world: World) -> None:
    """Requests to the relay, or its answers, get lost for a while."""
    world.relay.troubles = Troubles(
        world.chance.choice((0, 0.3, 1)), world.chance.choice((0, 0.3, 1)), met=world.meeting()
    )  # fmt: skip
    later(world, world.chance.uniform(1, 15), lambda: setattr(world.relay, "troubles", Troubles()))


def restart_relay(world: World) -> bool:
    if world.relay.down:
        return False
    world.relay.kill()
    later(world, world.chance.uniform(0.1, 20), lambda: revive_relay(world))
    return True


def revive_relay(world: World) -> None:
    if world.relay.down:
        world.relay.start()


def kill_now(world: World) -> bool:
    if not world.bot.alive:
        return False
    world.figures.kills["at rest"] += 1
    world.end_life("was killed")
    return True


def kill_at_boundary(world: World) -> None:
    """It dies at one of the next commits or writes."""
    if world.bot.alive:
        world.bot.life.left, world.bot.life.met = world.chance.randint(1, 25), world.meeting()


def sleep(world: World) -> bool:
    """The computer sleeps: its clock goes on, everything else stands still."""
    world.clock.skip(world.chance.uniform(7, 300))
    return world.bot.alive


def fill_disk(world: World) -> None:
    """The journal cannot be written for a while."""
    if world.bot.alive:
        journal = world.bot.journal
        journal.full = world.meeting()
        later(world, world.chance.uniform(0.2, 15), lambda: setattr(journal, "full", None))


TROUBLES: dict[str, tuple[int, Act]] = {
    "order rejected": (4, knob("reject", role=ROLE, code=among(201, 110), then=among("Inactive", "Cancelled", ""))),
    "change rejected": (1, knob("reject_modify", code=among(201))),
    "acknowledgement lost": (3, knob("lost_ack", role=ROLE)),
    "order lost in TWS": (2, knob("lose_order", role=ROLE, silent=among(True, False))),
    "warning 399": (1, knob("warn", code=among(399, 2109))),
    "preset makes it DAY": (1, knob("preset_tif")),
    "no shares to borrow": (1, knob("locate", symbol=among("AAPL"), action=among("SELL"), seconds=seconds(2, 40))),
    "partial fills": (4, partials),
    "slow fill": (2, knob("delay_fill", role=ROLE, seconds=seconds(0.5, 15))),
    "children held back": (2, knob("hold_children", seconds=among(2, 8, 20, None))),
    "orphaned children": (2, knob("orphan_children", role=among("entry"))),
    "children at full size": (2, knob("children_stay", role=among("take_profit", "stop_loss"))),
    "OCA ignored": (2, knob("oca_ignored", role=among("take_profit", "stop_loss"))),
    "both exits fill": (2, knob("oca_double_fill", role=among("take_profit", "stop_loss"))),
    "OCA of another type": (1, knob("oca_type", type=among(1, 2))),
    "fill meets cancel": (3, knob("cancel_race", role=ROLE, then=among("fill", "partial", "after"),
                                  quantity=among(None, 40), seconds=seconds(0.2, 4))),
    "cancel is slow": (2, knob("pending_cancel", seconds=seconds(0.2, 9))),
    "cancel rejected": (2, knob("reject_cancel", code=among(10147, 10148, 161))),
    "cancel spreads": (1, knob("oca_cancel_spreads")),
    "status before execution": (2, knob("status_first", seconds=seconds(0, 5))),
    "status left out": (2, knob("skip_status", kind=among("Filled", ""))),
    "status twice": (1, knob("duplicate_status", times=among(2, 3))),
    "late commission": (1, knob("commission_delay", seconds=seconds(1, 30))),
    "commission unset": (1, knob("commission_unset")),
    "no commission": (1, knob("no_commission")),
    "drop at a message": (5, knob("drop", direction=among("in", "out"), when=among("before", "after"),
                                  kind=among("", "placeOrder", "openOrder", "orderStatus", "execDetails", "cancelOrder"),
                                  n=among(1, 2, 3, 5))),
    "an End is missing": (2, knob("missing_end", kind=among(*ENDS))),
    "API read-only": (1, standing("read_only", 2, 15)),
    "market closed": (2, standing("closed_market", 3, 40)),
    "no market data": (1, standing("mktdata", 5, 40, mode=among("none", "delayed", 10197))),
    "other time format": (1, standing("exec_time_format", 20, 200, form=among("utc", "tws"))),
    "client id kept": (3, standing("hold_client_id", 20, 60, seconds=seconds(2, 20))),
    "held orders cannot be resent": (1, standing("held_resend_103", 10, 60)),
    "silent login": (1, standing("silent_login", 2, 20)),
    "connections refused": (2, standing("refuse_connections", 2, 30)),
    "TWS restarts": (3, restart_tws),
    "TWS freezes": (3, freeze),
    "TWS loses IBKR": (3, lose_ibkr),
    "clients cut": (2, lambda world: bool(world.server.gateway.sessions) and do(world, "disconnect")),
    "execution corrected": (1, correct),
    "exit fills in part": (2, fill_in_part),
    "connection cut": (4, lambda world: world.network.cut()),
    "half-open connection": (2, lambda world: world.network.go_silent()),
    "slow network": (2, slow),
    "bad way to the relay": (3, bad_way),
    "relay restarts": (2, restart_relay),
    "executor killed": (4, kill_now),
    "executor killed at a boundary": (10, kill_at_boundary),
    "computer sleeps": (2, sleep),
    "disk full": (3, fill_disk),
}  # fmt: skip


# ---- the owner's hands in TWS ----


def by_hand(world: World, order: Order) -> None:
    """Allow the checker that an order of the owner's changes: he does it himself."""
    if order.client_id == MANUAL:
        world.checker.allowed.add(order.perm_id)


def close_by_hand(world: World) -> bool:
    return do(world, "manual_close", symbol=world.chance.choice(sorted(PRICES)))


def reduce_by_hand(world: World) -> bool:
    symbol = world.chance.choice(sorted(PRICES))
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
    """The owner places a limit order of his own, far from the market or near."""
    symbol, chance = world.chance.choice(sorted(PRICES)), world.chance
    price = world.server.exchange.price(symbol) * chance.choice((Decimal("0.999"), Decimal("0.98")))
    step = Decimal("0.01") if symbol == "AAPL" else Decimal("0.0005")
    return do(world, "manual_order", symbol=symbol, action="BUY", quantity=str(SIZES[symbol] // 2), order_type="LMT",
       price=str(price.quantize(step) // step * step))  # fmt: skip


def cancel_by_hand(world: World) -> bool:
    """He cancels any order: one of his, or an exit of ours."""
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
    """He moves the price of an exit of ours."""
    exits = [o for o in ours(world) if o.role != "entry" and o.working]
    if not exits:
        return False
    order = world.chance.choice(exits)
    level = order.form.aux_price or order.form.limit_price or ZERO
    name = world.server.exchange.floor.instrument(order).name
    step = Decimal(1) if name == "AAPL" else Decimal("0.0005")
    return do(world, "manual_modify", perm_id=order.perm_id, price=str(level + step * world.chance.choice((-1, 1))))


def shrink_by_hand(world: World) -> bool:
    """He makes a stop of ours smaller."""
    stops = [o for o in ours(world) if o.role == "stop_loss" and o.working and o.remaining > 10]
    if not stops:
        return False
    order = world.chance.choice(stops)
    return do(world, "manual_modify", perm_id=order.perm_id, quantity=str(int(order.quantity / 2)))


def transmit_by_hand(world: World) -> bool:
    held = [o for o in ours(world) if o.held]
    return bool(held) and do(world, "manual_transmit", perm_id=held[0].perm_id)


HANDS: dict[str, tuple[int, Act]] = {
    "owner closes by hand": (3, close_by_hand),
    "owner reduces by hand": (2, reduce_by_hand),
    "owner trades beside": (2, add_by_hand),
    "owner's own limit order": (1, rest_by_hand),
    "owner cancels an order": (2, cancel_by_hand),
    "owner cancels a stop": (2, cancel_stop_by_hand),
    "owner moves an exit": (2, move_by_hand),
    "owner shrinks a stop": (1, shrink_by_hand),
    "owner transmits a held order": (2, transmit_by_hand),
}


# ---- the owner's buttons on the page ----


def press(world: World, *, decide: bool = False) -> bool:
    """Press one button that the page would show now; with `decide`, only those that end a hold or a doubt."""
    choices = list(_choices(world, decide))
    if not choices or not world.bot.alive:
        return False
    command = world.chance.choice(choices)
    try:
        said = world.bot.desk.command(command)
    except CommandRefused as refused:
        said = f"refused: {refused}"
    except Killed:
        return True
    else:
        _note(world, command)
    world.say(f"button {command.kind} {command.trade_id or command.symbol}: {said}")
    return True


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


# ---- the end of all troubles ----


def heal(world: World) -> None:
    """End every fault, and have everything up again."""
    do(world, "clear")
    do(world, "thaw")
    restore_ibkr(world)
    world.network.delay, world.relay.troubles = QUICK, Troubles()
    revive_relay(world)
    world.relay.requeue_dead()
    if any(order.muted for order in world.server.exchange.floor.book.live.values()):
        do(world, "disconnect")  # only the next connection hears of it again
    for order in list(world.server.exchange.floor.book.live.values()):
        if order.waits_until or order.why_held == "child":
            do(world, "release_child", perm_id=order.perm_id)
    if any(order.lost for order in world.server.exchange.floor.book.live.values()):
        do(world, "restart", down_seconds=1)  # only a restart of TWS shows that an order never reached IBKR
    if world.bot.alive:
        world.bot.life.left, world.bot.journal.full = None, None
