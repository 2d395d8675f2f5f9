"""What can happen next, in every state: a message arrives or is lost, a fill, a crash at any commit or write, the owner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from common.signals import Side
from executor.core.ports import Fill, Kind
from executor.core.trades import STOPS, ZERO
from tests.search.broker import arrives, dies, filled, tell
from tests.search.shell import Turn, heard, later, looked, turn
from tests.search.world import ACCOUNT, World


def ends(steps: Turn, crash: bool) -> Iterator[World]:
    """The end of a turn; and, where it may crash, every point of it, each followed by the death of the executor."""
    last: World | None = None
    for last in steps:
        if crash and last.budget.crashes:
            yield from parted(replace(last, alive=False, budget=last.budget.spend("crashes")))
    if last is not None:
        yield last


def parted(world: World) -> Iterator[World]:
    """The connection is gone: what was under way to the broker arrives as far as it may; the rest is lost."""
    for count in range(len(world.to_broker) + 1):
        yield replace(world, ready=False, wanted=True, to_bot=(), to_broker=world.to_broker[:count])


def successors(world: World) -> Iterator[World]:
    """Every state that one step leads to."""
    yield from _letters(world)
    if world.alive:
        yield from _facts(world)
        yield from _alerts(world)
        yield from _time(world)
    else:
        yield replace(world, alive=True)
    yield from _market(world)
    yield from _mishaps(world)


def _letters(world: World) -> Iterator[World]:
    if not world.to_broker:
        return
    letter, world = world.to_broker[0], replace(world, to_broker=world.to_broker[1:])
    yield arrives(world, letter, reject=False)
    if world.budget.rejects and not letter.cancel:
        yield arrives(replace(world, budget=world.budget.spend("rejects")), letter, reject=True)


def _facts(world: World) -> Iterator[World]:
    if world.to_bot:
        fact, rest = world.to_bot[0], replace(world, to_bot=world.to_bot[1:])
        if world.ready:
            yield from ends(turn(heard(rest, fact)), crash=True)
        else:
            yield rest  # the snapshot that comes will tell
        if world.budget.losses:
            yield replace(rest, budget=world.budget.spend("losses"))
        if world.budget.doubles:
            yield replace(world, to_bot=(fact, *world.to_bot), budget=world.budget.spend("doubles"))
    elif world.wanted and not world.to_broker:
        yield from ends(looked(world), crash=True)


def _alerts(world: World) -> Iterator[World]:
    if world.signals:
        number = 1 + len(world.inbox) + len(world.outcomes)
        arrived = replace(
            world, signals=world.signals[1:], inbox=(*world.inbox, (number, world.signals[0], world.now))
        )  # fmt: skip
        yield from ends(turn(arrived), crash=True)


def _time(world: World) -> Iterator[World]:
    if world.budget.waits and not world.to_bot and not world.to_broker and not world.wanted:
        yield from ends(later(world), crash=True)


def _market(world: World) -> Iterator[World]:
    for order in world.orders:
        if order.status == "working" and not (order.ticket.kind is not Kind.MARKET and world.to_bot):
            rest = order.size - order.filled
            parent = next((o for o in world.orders if o.ticket.order_id == order.parent_id), None)
            if parent is not None:  # the exits of a bracket sell no more than their entry bought
                sold = sum((o.filled for o in world.orders if o.parent_id == order.parent_id), ZERO)
                rest = min(rest, parent.filled - sold)
            if rest <= 0:
                continue
            yield filled(world, order, rest)
            if rest > 1 and world.budget.partials:
                yield filled(replace(world, budget=world.budget.spend("partials")), order, Decimal(1))


def _mishaps(world: World) -> Iterator[World]:
    budget = world.budget
    if budget.losses and world.alive and world.ready:
        yield from parted(replace(world, budget=budget.spend("losses")))
    if budget.restarts:
        kept = tuple(o for o in world.orders if o.status != "held")
        gone = replace(world, orders=kept, budget=budget.spend("restarts"), to_broker=())
        yield from parted(gone)
    if budget.hands:
        yield from _hands(replace(world, budget=budget.spend("hands")))


def _hands(world: World) -> Iterator[World]:
    for order in world.orders:
        if order.status == "working" and order.ticket.leg in STOPS:
            yield dies(world, replace(order, status="cancelled"))
    if world.position:
        side = Side.SELL if world.position > 0 else Side.BUY
        fill = Fill(
            f"x{len(world.fills)}.01", "", 0, 0, 0, 5, ACCOUNT, side, abs(world.position), Decimal(10), world.at
        )  # fmt: skip
        yield tell(replace(world, fills=(*world.fills, fill), position=ZERO), ZERO)
