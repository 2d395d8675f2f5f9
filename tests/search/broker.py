"""A broker in a few lines: it keeps what is held, takes orders and cancels, fills, and tells."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache

from common.signals import Side
from executor.core.ports import Fill, OrderReport, Status, Ticket
from tests.search.world import ACCOUNT, Fact, Held, Letter, World


@cache
def _word(status: str) -> Status:
    words = {"filled": Status.FILLED, "cancelled": Status.CANCELLED, "rejected": Status.INACTIVE}
    return words.get(status, Status.WORKING)


def report_of(order: Held) -> OrderReport:
    ticket = order.ticket
    return OrderReport(
        ticket.order_id, _word(order.status), 1, 1000 + ticket.order_id, ticket.order_ref, 5, ACCOUNT, ticket.side,
        ticket.kind.value, order.size, order.filled, order.size - order.filled, ticket.price,
    )  # fmt: skip


def tell(world: World, *facts: Fact) -> World:
    """The broker says something; a client that is not connected hears nothing."""
    return replace(world, to_bot=(*world.to_bot, *facts)) if world.linked else world


def changed(world: World, order: Held) -> World:
    """Change one order at the broker, and say so."""
    orders = tuple(order if o.ticket.order_ref == order.ticket.order_ref else o for o in world.orders)
    world = replace(world, orders=orders)
    return world if order.status == "held" else tell(world, report_of(order))


def arrives(world: World, letter: Letter, reject: bool) -> World:
    """A letter reaches the broker."""
    known, ticket = _order(world, letter.order_id), letter.ticket
    if ticket is None:
        return _cancelled(world, letter, known)
    if known is not None and not known.lives:
        return tell(world, (letter.order_id, 104 if known.status == "filled" else 103))
    if known is not None and known.status != "held":
        whole = ticket.quantity <= known.filled  # nothing of it is left: it counts as filled
        return changed(world, replace(known, size=ticket.quantity, status="filled" if whole else known.status))
    parent = _order(world, ticket.parent_id)
    if ticket.parent_id and (parent is None or not parent.lives):
        return tell(world, (letter.order_id, 10006 if parent is None else 135))
    if known is None:
        world = replace(world, orders=(*world.orders, Held(ticket, size=ticket.quantity)))
    return _transmitted(world, ticket, reject) if ticket.transmit else world


def _order(world: World, order_id: int) -> Held | None:
    return next((o for o in world.orders if o.ticket.order_id == order_id), None)


def _cancelled(world: World, letter: Letter, known: Held | None) -> World:
    if known is None:
        return tell(world, (letter.order_id, 10147))
    if not known.lives:
        return tell(world, (letter.order_id, 10148))
    return dies(world, replace(known, status="cancelled"))


def dies(world: World, order: Held) -> World:
    """An order ends; the children of an entry that filled nothing go with it."""
    world = replace(
        world, orders=tuple(order if o.ticket.order_ref == order.ticket.order_ref else o for o in world.orders)
    )
    world = tell(world, report_of(order))
    children = [o for o in world.orders if o.parent_id == order.ticket.order_id and o.lives] if not order.filled else []
    for child in children:
        world = dies(world, replace(child, status="cancelled"))
    return world


def _transmitted(world: World, ticket: Ticket, reject: bool) -> World:
    head = ticket.parent_id or ticket.order_id
    family = [o for o in world.orders if o.status == "held" and head in (o.ticket.order_id, o.parent_id)]
    for order in family:
        current = next(o for o in world.orders if o.ticket.order_ref == order.ticket.order_ref)
        if current.status != "held":
            continue
        if reject and order.ticket.order_id == ticket.order_id:
            world = dies(tell(world, (order.ticket.order_id, 201)), replace(order, status="rejected"))
            continue
        parent = _order(world, order.parent_id)
        asleep = parent is not None and not parent.filled
        world = changed(world, replace(order, status="asleep" if asleep else "working"))
    return world


def moment(world: World) -> datetime:
    """Return when the next execution happens: after the one before, though the search's clock may not have moved."""
    return world.at + timedelta(microseconds=len(world.fills))


def filled(world: World, order: Held, quantity: Decimal) -> World:
    """An order fills; its children wake, the other exits shrink or die (OCA)."""
    ticket, sign = order.ticket, 1 if order.ticket.side is Side.BUY else -1
    fill = Fill(
        f"x{len(world.fills)}.01", ticket.order_ref, ticket.order_id, 0, 1, 5, ACCOUNT, ticket.side, quantity,
        Decimal(10), moment(world),
    )  # fmt: skip
    now = replace(order, filled=order.filled + quantity)
    now = replace(now, status="filled" if now.filled == now.size else order.status)
    world = replace(world, fills=(*world.fills, fill), position=world.position + sign * quantity)
    world = changed(tell(world, fill), now)
    world = tell(world, world.position)
    for child in [o for o in world.orders if o.status == "asleep" and o.parent_id == ticket.order_id]:
        world = changed(world, replace(child, status="working"))
    peers = [o for o in world.orders if o.status == "working" and _peers(o.ticket, ticket)]
    for peer in peers:
        rest = peer.size - quantity
        over = rest <= peer.filled
        world = dies(world, replace(peer, status="cancelled")) if over else changed(world, replace(peer, size=rest))
    return world


def _peers(one: Ticket, other: Ticket) -> bool:
    """Whether two orders are exits of one trade, which cancel each other: they went out in one group."""
    return one.order_ref != other.order_ref and one.oca_group == other.oca_group != ""
