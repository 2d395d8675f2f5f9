"""What must hold in every state, and the breadth-first search that looks at all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from executor.core.conditions import AlarmKind
from executor.core.orders import EXITS, STOPS, ZERO, Leg
from executor.core.ports import Contract, Fill, OrderReport
from executor.core.trades import State, Trade
from tests.search.broker import arrives, filled
from tests.search.shell import forget, heard, later, looked
from tests.search.steps import successors
from tests.search.world import World

LAST_WAIT = -8  # calm waits beyond the budget, before the regular look
_OF_STOPS = {AlarmKind.UNPROTECTED, AlarmKind.EXIT_TOO_LARGE}
Successors = Callable[[World], Iterator[World]]


def broken(world: World) -> Iterator[str]:
    """Return every law that this state breaks, in words."""
    refs = [o.ticket.order_ref for o in world.orders]
    if len(set(refs)) < len(refs) or len({o.ticket.order_id for o in world.orders}) < len(refs):
        yield "two orders under one reference or one id"
    sent = {o.order_ref for t in world.trades for o in t.orders}
    if not set(refs) <= sent:
        yield "an order at the broker that was not written down before"
    yield from world.memory.stopped if world.memory else ()
    yield from _trades(world)
    yield from _closes(world)
    yield from _reductions(world)
    yield from _blocked(world)
    own = sum((f.signed for f in world.fills if f.order_ref), ZERO)
    if abs(own) > max((t.asked for t in world.trades), default=ZERO):
        yield f"our orders made a position of {own}"


def _trades(world: World) -> Iterator[str]:
    for trade in world.trades:
        mine = {o.order_ref for o in trade.orders}
        entered = sum((f.quantity for f in world.fills if f.order_ref in mine and f.order_ref[20] == "E"), ZERO)
        if entered > trade.asked:
            yield f"{trade.signal_id} entered {entered}"
        exits = [f for f in world.fills if f.order_ref in mine and f.order_ref[20] != "E"]
        exited = sum((f.quantity for f in exits), ZERO)
        crossed = not any(f.order_ref[20] == "C" for f in exits)  # two exits may fill before either can be cancelled
        if exited > entered and not (crossed and trade.state in (State.OPEN, State.CANCELLING, State.HOLD)):
            yield f"{trade.signal_id} entered {entered}, and {exited} were taken out"
        if trade.entry and trade.entry.sent_at and trade.entry.sent_at > trade.valid_until:
            yield f"{trade.signal_id} was sent when it was too old"
        left = [o.ticket.order_ref for o in world.orders if o.ticket.order_ref in mine and o.lives]
        if trade.state.is_finished and any(ref[20] not in EXITS for ref in left):
            yield f"{trade.signal_id} is {trade.state.value}, and {', '.join(left)} live"
        if trade.state is State.HOLD and not any(
            a.key == f"{AlarmKind.HOLD.value}:{trade.id}" for a in world.kept.alarms
        ):
            yield f"{trade.signal_id} is on hold, and nobody was told"
        if trade.state is State.VOID and entered:
            yield f"{trade.signal_id} is void, and entered {entered}"


def _closes(world: World) -> Iterator[str]:
    for order in world.orders:
        if order.leg is Leg.CLOSE and order.lives:
            family = order.ticket.order_ref[:20]
            beside = [o for o in world.orders if o.lives and o is not order and o.ticket.order_ref[:20] == family]
            if beside:
                yield f"{order.ticket.order_ref} closes while {beside[0].ticket.order_ref} lives"


def _reductions(world: World) -> Iterator[str]:
    """A reduction has its committed size, takes out no more than was asked for, and with any exit no more than is held."""
    for trade in world.trades:
        committed = {o.order_ref: o.quantity for o in trade.orders}
        mine = [o for o in world.orders if o.ticket.order_ref in committed]
        reductions = [o for o in mine if o.leg is Leg.REDUCE]
        yield from (
            f"{o.ticket.order_ref} is over {o.size}" for o in reductions if o.size != committed[o.ticket.order_ref]
        )
        going = sum((o.size - o.filled for o in reductions if o.lives), ZERO)
        out = going + sum((o.filled for o in reductions), ZERO)
        if out > world.kept.parts:
            yield f"{out} are taken out, asked for were {world.kept.parts}"
        held = sum((o.filled if o.leg is Leg.ENTRY else -o.filled for o in mine), ZERO)
        most = max((o.size - o.filled for o in mine if o.leg in EXITS and o.lives), default=ZERO)
        by_hand = any(not fill.order_ref for fill in world.fills)
        if going and going + most > held and not by_hand:
            yield f"{going} are to go, an exit is over {most}, and {held} are held"


def _blocked(world: World) -> Iterator[str]:
    """No entry is at the broker on the side whose last trade took profit."""
    at_broker = {o.ticket.order_ref for o in world.orders}
    for before, trade in pairwise(world.trades):
        mine = {o.order_ref for o in before.orders}
        legs = [f.order_ref[20] for f in world.fills if f.order_ref in mine]
        took_profit = bool(legs) and legs[-1] == "T" and not before.reduced
        if took_profit and trade.side is before.side and trade.entry and trade.entry.order_ref in at_broker:
            yield f"{trade.signal_id} entered after a take-profit on its side"


def settled(world: World) -> World:
    """Let everything come to its end without another mishap: letters, facts, market orders, looks, and time."""
    for _ in range(600):
        after = _calm_step(world)
        if after is None:
            return world
        world = after
    return world


def _calm_step(world: World) -> World | None:
    market = next((o for o in world.orders if o.status == "working" and o.ticket.price is None), None)
    if world.to_broker:
        return arrives(replace(world, to_broker=world.to_broker[1:]), world.to_broker[0], reject=False)
    if not world.linked:
        return replace(world, alive=True, linked=True)
    if world.to_bot:
        return _end(heard(replace(world, to_bot=world.to_bot[1:]), world.to_bot[0]))
    if world.wanted:
        return _end(looked(replace(world, now=world.now + 1)))
    if market is not None:
        return filled(world, market, market.size - market.filled)
    if world.budget.waits > LAST_WAIT:
        return _waited(world)
    if world.budget.waits == LAST_WAIT:  # the regular look, ten minutes later: it finds what no message told
        return replace(world, now=world.now + 600, wanted=True, budget=world.budget.spend("waits"))
    return _protection(world)


def _protection(world: World) -> World | None:
    """After the regular look the timers have their time once more."""
    return _waited(world) if world.budget.waits > LAST_WAIT - 4 else None


def _waited(world: World) -> World:
    """A pause passes; one that was cut short by something to do is not counted."""
    after = _end(later(world))
    busy = after.wanted or after.to_broker or after.to_bot
    return after if busy else replace(after, budget=after.budget.spend("waits"))


def _end(steps: Iterator[World]) -> World:
    return list(steps)[-1]


def unsettled(world: World) -> Iterator[str]:
    """Return what must not be so at the end: a signal without a verdict, a position without its stop, and untold."""
    yield from broken(world)
    if _calm_step(world) is not None:
        yield "it does not come to rest"
    for finished in (t for t in world.trades if t.state.is_finished):
        mine = {o.order_ref for o in finished.orders}
        yield from (f"{o.ticket.order_ref} lives, and its trade is over" for o in world.orders
                    if o.lives and o.ticket.order_ref in mine)  # fmt: skip
    trade, said = world.trade, {alarm.kind for alarm in world.kept.alarms}
    if trade is not None and trade.state is State.HOLD:
        return
    if world.kept.signals:
        yield f"signal {world.kept.signals[0].seq} has no verdict"
    known = trade.signed if trade is not None else ZERO
    if world.position != known and AlarmKind.MISMATCH not in said:
        yield f"the account shows {world.position}, the journal holds {known}"
    if trade is None:
        return
    yield from _as_large_as_asked(trade, world)
    refs = {o.order_ref for o in trade.orders}
    stops = [o for o in world.orders if o.ticket.order_ref in refs and o.leg in STOPS and o.status == "working"]
    size = sum((o.size - o.filled for o in stops), ZERO)
    if trade.stop_wanted and trade.held > 0 and size != trade.held and not said & _OF_STOPS:
        yield f"{trade.held} held with stops of {size}"


def _as_large_as_asked(trade: Trade, world: World) -> Iterator[str]:
    """What was to be taken out is out, or it is said that it is not."""
    parts = world.kept.parts
    whole = trade.entered == trade.asked and not trade.reduced
    told = any(alarm.kind is AlarmKind.NOT_REDUCED for alarm in world.kept.alarms)
    if trade.reduction is not None or (whole and not told and trade.held > max(trade.asked - parts, ZERO)):
        yield f"{trade.held} held of {trade.asked}, and {parts} should be out"


@dataclass
class Found:
    """What a search came to."""

    states: int = 0
    steps: int = 0
    ends: int = 0  # of those, brought to rest and judged
    told: int = 0  # of those, ended with the owner told of something
    whole: bool = False  # no state within the bounds is left
    broken: list[str] = field(default_factory=list)
    path: list[World] = field(default_factory=list)  # to the first broken state


def search(begin: World, most: int, every: int = 10, following: Successors = successors) -> Found:
    """Visit every state, nearest first, up to `most`; each `every`-th is also brought to rest and judged there."""
    forget()
    found, before, queue = Found(), {begin: begin}, deque([begin])
    while queue and len(before) < most:
        world = queue.popleft()
        for after in following(world):
            found.steps += 1
            if after in before:
                continue
            before[after] = world
            queue.append(after)
            wrong = list(broken(after))
            if not wrong and len(before) % every == 0:
                end = settled(after)
                found.ends, found.told = found.ends + 1, found.told + end.told
                wrong = [f"at rest: {text}" for text in unsettled(end)]
            if wrong:
                found.states, found.broken, found.path = len(before), wrong, list(_path(after, before))
                return found
    found.states, found.whole = len(before), not queue
    return found


def _path(world: World, before: dict[World, World]) -> Iterator[World]:
    while before[world] is not world:
        yield world
        world = before[world]


def told(world: World) -> str:
    """Return a state in one line."""
    trades = [f"{t.state.value}({' '.join(_order(o) for o in t.orders)})" for t in world.trades]
    letters = [f"{x.order_id} {x.ticket.order_ref[20:] if x.ticket else 'cancel'}" for x in world.to_broker]
    broker = [f"{o.ticket.order_ref[20:]} {o.status} {o.filled}" for o in world.orders]
    flags = f"{'alive' if world.alive else 'dead'}{' ready' if world.ready else ''}{' wants' if world.wanted else ''}"
    facts = [_fact(fact) for fact in world.to_bot]
    inbox = [f"{row.seq} {row.state.value}" for row in world.kept.signals]
    return f"{world.now} {flags} {trades} inbox {inbox} → {letters} ← {facts} broker {broker} {world.position}"


def _order(order: object) -> str:
    return f"{order.order_ref[20:]} {order.state.value} {order.filled}"  # type: ignore[attr-defined]


def _fact(fact: object) -> str:
    if isinstance(fact, Contract):
        return fact.symbol
    if isinstance(fact, OrderReport):
        return f"{(fact.order_ref or '')[20:]} {fact.status.value} {fact.filled}"
    return f"fill {fact.order_ref[20:]} {fact.quantity}" if isinstance(fact, Fill) else str(fact)
