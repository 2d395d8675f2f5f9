"""Everything that can go wrong, as a table: name → (weight, act).

An act returns True where it did something at once. What it only prepares (a knob of the paper TWS, a death at a
boundary, a full disk) counts when it is met.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from executor.paper.actions import ActionError, perform
from executor.paper.orders import Order
from tests.simulate.posts import Troubles
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


def drop(world: World) -> None:
    """The connection breaks at a message that is to come."""
    chance = world.chance
    kinds = {
        "in": ("", "placeOrder", "placeOrder", "cancelOrder"),
        "out": ("", "openOrder", "orderStatus", "execDetails"),
    }
    direction = chance.choice(sorted(kinds))
    do(world, "drop", direction=direction, when=chance.choice(("before", "after")), kind=chance.choice(kinds[direction]),
       n=chance.choice((1, 1, 2, 3)))  # fmt: skip


def orphan(world: World) -> None:
    """An entry is rejected, and its children live on."""
    do(world, "orphan_children", role="entry")
    do(world, "reject", role="entry", code=201, then=world.chance.choice(("Inactive", "Cancelled")))


def full_size(world: World) -> None:
    """An entry fills in part and no more, and an exit keeps its size."""
    do(world, "children_stay", role=world.chance.choice(("take_profit", "stop_loss")))
    symbol = world.chance.choice(sorted(PRICES))
    do(world, "partials", role="entry", symbol=symbol, sizes=[SIZES[symbol] // 4], gap=0, then="cancel")


def refuse_held(world: World) -> None:
    """The connection breaks within a bracket, and what TWS holds of it cannot be sent again."""
    do(world, "held_resend_103")
    later(world, world.chance.uniform(10, 60), lambda: do(world, "clear", knob="held_resend_103"))
    do(world, "drop", direction="in", when="after", kind="placeOrder", n=world.chance.choice((1, 2)))


REDUCTION = "X1"  # no other part of a reference has a 1


def fill_reduction_badly(world: World) -> None:
    """A reduction fills late, in part, or not at all; its cancel may cross with a fill."""
    chance = world.chance
    if chance.random() < 0.5:
        then, gap = chance.choice(("fill", "cancel", "rest")), chance.choice((0, 4, 15))
        symbol = chance.choice(sorted(PRICES))
        do(world, "partials", order_ref=REDUCTION, symbol=symbol, sizes=[SIZES[symbol] // 20], gap=gap, then=then)
    else:
        do(world, "delay_fill", order_ref=REDUCTION, seconds=round(chance.uniform(1, 60), 2))
    if chance.random() < 0.3:
        then = chance.choice(("fill", "partial", "after"))
        do(world, "cancel_race", order_ref=REDUCTION, then=then, quantity=5, seconds=round(chance.uniform(0.2, 4), 2))


def cut_reduction_off(world: World) -> None:
    """The connection breaks at a change of an exit, or at the reduction behind it."""
    when, n = world.chance.choice(("before", "after")), world.chance.randint(1, 4)
    do(world, "drop", direction="in", when=when, kind="placeOrder", n=n)


def leave_changes_unanswered(world: World) -> None:
    """TWS changes the size of an exit, and says nothing of it."""
    do(
        world,
        "skip_status",
        role=world.chance.choice(("take_profit", "stop_loss")),
        kind="",
        count=world.chance.randint(1, 4),
    )


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
    chances = world.chance.choice(((0.3, 0), (0, 0.3), (0.3, 0.3), (1, 0), (0, 1)))
    world.relay.troubles = Troubles(*chances, met=world.met)
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
        world.bot.life.left, world.bot.life.met = world.chance.randint(1, 25), world.met


def sleep(world: World) -> bool:
    """The computer sleeps: its clock goes on, everything else stands still."""
    world.clock.skip(world.chance.uniform(7, 300))
    return world.bot.alive


def fill_disk(world: World) -> None:
    """The journal cannot be written for a while."""
    if world.bot.alive:
        journal = world.bot.journal
        journal.full = world.met
        later(world, world.chance.uniform(0.2, 15), lambda: setattr(journal, "full", None))


TROUBLES: dict[str, tuple[int, Act]] = {
    "order rejected": (4, knob("reject", role=ROLE, code=among(201, 110), then=among("Inactive", "Cancelled", ""))),
    "change rejected": (1, knob("reject_modify", code=among(201))),
    "change unanswered": (2, leave_changes_unanswered),
    "reduction refused": (2, knob("reject", order_ref=among(REDUCTION), code=among(201, 110), seconds=among(0, 0, 3),
                                  then=among("Inactive", "Cancelled", ""))),
    "reduction not filled": (3, fill_reduction_badly),
    "reduction cut off": (2, cut_reduction_off),
    "reduction unanswered": (1, knob("lost_ack", order_ref=among(REDUCTION))),
    "acknowledgement lost": (3, knob("lost_ack", role=ROLE)),
    "order lost in TWS": (2, knob("lose_order", role=ROLE, silent=among(True, False))),
    "warning 399": (1, knob("warn", code=among(399, 2109))),
    "preset makes it DAY": (1, knob("preset_tif")),
    "no shares to borrow": (1, knob("locate", symbol=among("AAPL"), action=among("SELL"), seconds=seconds(2, 40))),
    "partial fills": (4, partials),
    "slow fill": (2, knob("delay_fill", role=ROLE, seconds=seconds(0.5, 15))),
    "children held back": (2, knob("hold_children", seconds=among(2, 8, 20, None))),
    "orphaned children": (2, orphan),
    "children at full size": (2, full_size),
    "OCA ignored": (2, knob("oca_ignored", role=among("take_profit", "stop_loss"))),
    "both exits fill": (2, knob("oca_double_fill", role=among("take_profit", "stop_loss"))),
    "OCA of another type": (1, knob("oca_type", role=among("take_profit", "stop_loss"), type=among(1, 3))),
    "fill meets cancel": (3, knob("cancel_race", role=ROLE, then=among("fill", "partial", "after"),
                                  quantity=among(None, 40), seconds=seconds(0.2, 4))),
    "cancel is slow": (2, knob("pending_cancel", seconds=seconds(0.2, 9))),
    "cancel rejected": (2, knob("reject_cancel", code=among(10147, 10148, 161))),
    "cancel spreads": (1, knob("oca_cancel_spreads")),
    "status before execution": (2, knob("status_first", seconds=seconds(0, 5))),
    "status left out": (2, knob("skip_status", kind=among("", "Filled", "Cancelled", "Submitted"))),
    "position told late": (4, knob("position_delay", seconds=seconds(0.5, 6))),
    "rejected later": (3, knob("reject", role=ROLE, seconds=seconds(0.1, 6))),
    "status twice": (1, knob("duplicate_status", times=among(2, 3))),
    "late commission": (1, knob("commission_delay", seconds=seconds(1, 30))),
    "commission unset": (1, knob("commission_unset")),
    "no commission": (1, knob("no_commission")),
    "drop at a message": (5, drop),
    "an End is missing": (2, knob("missing_end", kind=among(*ENDS))),
    "API read-only": (1, standing("read_only", 2, 15)),
    "market closed": (2, standing("closed_market", 3, 40)),
    "no market data": (1, standing("mktdata", 5, 40, mode=among("none", "delayed", 10197))),
    "other time format": (1, standing("exec_time_format", 20, 200, form=among("utc", "tws"))),
    "client id kept": (3, standing("hold_client_id", 20, 60, seconds=seconds(2, 20))),
    "held orders cannot be resent": (1, refuse_held),
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


# After these everything can be known: what the broker did can be read from it, and nothing that it took is gone.
KNOWABLE = {
    name: TROUBLES[name] for name in (
        "acknowledgement lost", "warning 399", "slow fill", "status before execution", "status left out", "status twice",
        "late commission", "commission unset", "no commission", "drop at a message", "reduction cut off", "an End is missing",
        "no market data", "other time format", "client id kept", "silent login", "connections refused", "TWS freezes",
        "TWS loses IBKR", "clients cut", "connection cut", "half-open connection", "slow network", "bad way to the relay",
        "relay restarts", "executor killed", "executor killed at a boundary", "computer sleeps", "disk full",
    )
}  # fmt: skip


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
