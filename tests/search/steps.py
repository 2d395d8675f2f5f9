"""What can happen next, in every state: a message arrives or is lost, a fill, a crash at any commit or write, the owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial

from common.signals import Side
from executor.core.orders import STOPS, ZERO
from executor.core.ports import Contract, Fill, Kind
from tests.search.broker import arrives, dies, filled, moment, tell
from tests.search.shell import Turn, away, heard, later, looked, parted, received
from tests.search.world import ACCOUNT, World


def ends(step: Callable[..., Turn]) -> Iterator[World]:
    """The end of a step; where it may crash, every point of it, each followed by the death of the executor.

    And where the connection may be lost, the same step with the connection breaking before each of its writes.
    """
    begun: World | None = None
    for last in step():
        begun = begun or last
        if last.budget.crashes:
            yield from lost(replace(last, alive=False, budget=last.budget.spend("crashes")))
    yield last
    if last.budget.losses and begun is not None:
        for writes in range(len(last.to_broker) - len(begun.to_broker)):
            *_, broken = step(writes=writes)
            yield from lost(replace(broken, budget=broken.budget.spend("losses")))


def lost(world: World) -> Iterator[World]:
    """The connection is gone: what was under way to the broker arrives as far as it may; the rest is lost."""
    world = replace(parted(world), linked=False, wanted=True, to_bot=())
    for count in range(len(world.to_broker) + 1):
        yield replace(world, to_broker=world.to_broker[:count])


def successors(world: World) -> Iterator[World]:
    """Every state that one step leads to."""
    yield from _letters(world)
    if world.alive:
        yield from _facts(world)
        yield from _alerts(world)
        yield from _time(world)
    if not world.linked:
        yield replace(world, alive=True, linked=True)
        if world.budget.waits:
            yield away(replace(world, budget=world.budget.spend("waits")))
    yield from _market(world)
    yield from _mishaps(world)


def _letters(world: World) -> Iterator[World]:
    if not world.to_broker:
        return
    letter, world = world.to_broker[0], replace(world, to_broker=world.to_broker[1:])
    yield arrives(world, letter, reject=False)
    if world.budget.rejects and letter.ticket:
        yield arrives(replace(world, budget=world.budget.spend("rejects")), letter, reject=True)


def _facts(world: World) -> Iterator[World]:
    if world.to_bot:
        fact, rest = world.to_bot[0], replace(world, to_bot=world.to_bot[1:])
        yield from ends(partial(heard, rest, fact))
        if isinstance(fact, Contract):
            return  # an answer to a question comes once, as long as the connection stands
        if world.budget.losses:
            yield replace(rest, budget=world.budget.spend("losses"))
        if world.budget.doubles:
            yield replace(world, to_bot=(fact, *world.to_bot), budget=world.budget.spend("doubles"))
    elif world.linked and world.wanted and not world.to_broker:
        yield from ends(partial(looked, world))


def _alerts(world: World) -> Iterator[World]:
    if world.signals:
        yield from ends(partial(received, replace(world, signals=world.signals[1:]), world.signals[0]))


def _time(world: World) -> Iterator[World]:
    """A pause; one that only leads to what the executor does next by itself costs nothing."""
    if world.memory is None or world.to_bot or world.to_broker or world.wanted:
        return
    if world.memory.restless:
        yield from ends(partial(later, world))
    elif world.budget.waits:
        yield from ends(partial(later, replace(world, budget=world.budget.spend("waits"))))


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
    if budget.losses and world.alive and world.linked:
        yield from lost(replace(world, budget=budget.spend("losses")))
    if budget.restarts:
        kept = tuple(o for o in world.orders if o.status != "held")
        gone = replace(world, orders=kept, budget=budget.spend("restarts"), to_broker=())
        yield from lost(gone)
    if budget.hands:
        yield from _hands(replace(world, budget=budget.spend("hands")))


def _hands(world: World) -> Iterator[World]:
    for order in world.orders:
        if order.status == "working" and order.leg in STOPS:
            yield dies(world, replace(order, status="cancelled"))
    if world.position:
        side = Side.SELL if world.position > 0 else Side.BUY
        fill = Fill(
            f"x{len(world.fills)}.01", "", 0, 0, 0, 5, ACCOUNT, side, abs(world.position), Decimal(10), moment(world)
        )  # fmt: skip
        yield tell(replace(world, fills=(*world.fills, fill), position=ZERO), ZERO)
