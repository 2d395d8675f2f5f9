"""The executor's shell in a few lines, around the real rules, plans, life table and reconciliation.

What it does is what `recorder`, `dispatch`, `verdicts` and `resolver` do, written again as functions of one state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from common.signals import Action, Signal
from executor.core.brackets import Bracket, plan_bracket
from executor.core.ports import Fill, OrderReport, Position, Snapshot, Status
from executor.core.reconcile import Books, OrderResolution, Orphan, Reduced, Unexplained, Verdict, differing, reconcile
from executor.core.rules import Close, Done, Enter, View, Wait, decide
from executor.core.steps import (
    Cancel,
    GiveUp,
    Hold,
    LookUp,
    Moment,
    Place,
    Resize,
    SendBracket,
    Step,
    Unprotected,
    next_step,
)
from executor.core.trades import ZERO, Event, Leg, Order, OrderState, State, Trade, following, observed, order_state
from tests.search.broker import report_of
from tests.search.world import ACCOUNT, DAY, LOOK_UP, PAUSE, POLICY, SIZE, START, STOCK, Fact, Letter, World

Turn = Iterator[World]  # each thing yielded is committed or written; the last is the end of the turn


def refreshed(world: World) -> World:
    """Bring the newest trade up to its facts, as the recorder does."""
    if not world.trades:
        return world
    trade = world.trades[-1]
    trade = replace(trade, orders=tuple(_judged(order, world) for order in trade.orders))
    while event := observed(trade):
        after = following(trade.state, event)
        if after is trade.state:
            break
        trade = replace(trade, state=after)
        world = _entered(world, trade)
    return world.with_trade(_timed(trade, world.at))


def _judged(order: Order, world: World) -> Order:
    filled = sum((f.quantity for f in world.known if f.order_ref == order.order_ref), ZERO)
    known = replace(order, filled=filled)
    return replace(known, state=order_state(known))


def _timed(trade: Trade, now: datetime) -> Trade:
    loose = trade.entry_is_done and trade.held <= 0 and bool(trade.live)
    bare = trade.state in (State.OPEN, State.CANCELLING, State.CLOSING, State.HOLD) and not trade.is_protected
    return replace(
        trade,
        loose_at=(trade.loose_at or now) if loose else None,
        unprotected_at=(trade.unprotected_at or now) if bare else None,
    )


def _entered(world: World, trade: Trade) -> World:
    if trade.state is State.HOLD:
        return replace(world, told=True)
    if trade.state is not State.CLOSED:
        return world
    refs = {o.order_ref: o.leg for o in trade.orders}
    exits = [refs[f.order_ref] for f in world.known if refs.get(f.order_ref) not in (None, Leg.ENTRY)]
    took = bool(exits) and exits[-1] is Leg.TAKE_PROFIT and not trade.reduced
    return replace(world, block=trade.side) if took else world


def hold(world: World) -> World:
    trade = world.trade
    if trade is None or trade.state is State.HOLD:
        return world
    return replace(world.with_trade(replace(trade, state=following(trade.state, Event.DOUBT))), told=True)


def turn(world: World) -> Turn:
    """All that the executor does now, one commit or write after the other."""
    for _ in range(30):
        world = refreshed(world)
        done = list(_work(world) if world.ready and world.trade else ())
        yield from done
        world = done[-1] if done else world
        decided = _decided(world)
        if not done and decided is None:
            yield world
            return
        if decided is not None:
            world = decided
            yield world
    raise AssertionError("a turn without an end")


def later(world: World) -> Turn:
    """A while passes: timers, and the watch, which has a position looked up that differs from the executions."""
    world = replace(world, now=world.now + PAUSE, budget=world.budget.spend("waits"))
    trade = world.trade
    differs = trade is not None and trade.state is not State.HOLD and world.shown != trade.signed
    yield from turn(replace(world, wanted=True) if differs else world)


def _work(world: World) -> Turn:
    """One step of the trade; nothing where it needs none, or waits."""
    trade = world.trade
    assert trade is not None
    moment = Moment(world.at, world.shown, ready_since=START, counted=not _uncounted(world))
    step = next_step(trade, moment, POLICY)
    if isinstance(step, LookUp):
        if not world.wanted:
            yield replace(world, wanted=True)
    elif isinstance(step, Unprotected):
        if not world.told or step.then_hold:
            yield hold(world) if step.then_hold else replace(world, told=True)
    elif isinstance(step, Hold):
        yield hold(world)
    elif step is not None:
        yield from _sent(world, trade, step)


def _uncounted(world: World) -> bool:
    return any(isinstance(fact, Decimal) for fact in world.to_bot)


def _sent(world: World, trade: Trade, step: Step) -> Turn:
    """A step that changes orders: committed first, then written."""
    match step:
        case SendBracket():
            yield from _ordered(world, replace(trade, state=following(trade.state, Event.SEND)), trade.orders)
        case GiveUp():
            gone = tuple(replace(o, state=OrderState.CANCELLED) for o in trade.orders)
            yield world.with_trade(replace(trade, orders=gone))
        case Cancel(order, _):
            world = world.with_trade(_changed(trade, replace(order, cancel_asked_at=world.at)))
            yield world
            yield _post(world, Letter(order, cancel=True))
        case Resize(order, quantity):
            world = world.with_trade(_changed(trade, replace(order, resize_asked_at=world.at)))
            yield world
            yield _post(world, Letter(replace(order, quantity=quantity), _parent_id(trade, order)))
        case Place(order):
            yield from _ordered(world, replace(trade, orders=(*trade.orders, order)), (order,))


def _ordered(world: World, trade: Trade, orders: tuple[Order, ...]) -> Turn:
    sent = {o.order_ref: _as_sent(o, world, n) for n, o in enumerate(orders)}
    trade = replace(trade, orders=tuple(sent.get(o.order_ref, o) for o in trade.orders))
    world = replace(world.with_trade(trade), next_id=world.next_id + len(orders))
    yield world
    yield from written(world, tuple(o for o in trade.orders if o.order_ref in sent))


def _as_sent(order: Order, world: World, number: int) -> Order:
    return replace(
        order, state=OrderState.SENDING, order_id=world.next_id + number, sent_at=world.at, sent_day=DAY
    )  # fmt: skip


def written(world: World, orders: tuple[Order, ...]) -> Turn:
    """Write orders, the last one transmitting."""
    trade = world.trade
    assert trade is not None
    for order in orders:
        world = _post(world, Letter(order, _parent_id(trade, order), order is orders[-1]))
        yield world


def _parent_id(trade: Trade, order: Order) -> int:
    entry = trade.entry
    is_child = order.parent_ref is not None and entry is not None and entry.is_live
    return entry.order_id or 0 if is_child and entry else 0


def _changed(trade: Trade, order: Order) -> Trade:
    return replace(trade, orders=tuple(order if o.order_ref == order.order_ref else o for o in trade.orders))


def _post(world: World, letter: Letter) -> World:
    return replace(world, to_broker=(*world.to_broker, letter))


def _decided(world: World) -> World | None:
    """Take the first waiting signal one step on, as the verdicts do; None where it waits."""
    if not world.inbox or not world.ready:
        return None
    number, signal, received = world.inbox[0]
    trade, at = world.trade, START + timedelta(seconds=received)
    valid = at + POLICY.validity if signal.action is Action.OPEN else None
    unknown = world.shown - (trade.signed if trade else ZERO)
    if trade is None and unknown and _uncounted(world):
        return None
    closed = world.closing == number and trade is None
    view = View(world.at, at, valid, trade, closed, world.block, unknown)
    decision = decide(signal, view)
    if isinstance(decision, Wait):
        return None
    if isinstance(decision, Close):
        return _asked_to_close(world, number)
    world = replace(world, inbox=world.inbox[1:])
    outcome = decision.outcome if isinstance(decision, Done) else "entered"
    world = replace(world, outcomes=(*world.outcomes, (number, outcome)))
    return _planned(world, number, signal, at) if isinstance(decision, Enter) else world


def _asked_to_close(world: World, number: int) -> World | None:
    trade = world.trade
    if trade is None or trade.state in (State.CANCELLING, State.CLOSING):
        return None
    return replace(world.with_trade(replace(trade, state=following(trade.state, Event.CLOSE))), closing=number)


def _planned(world: World, number: int, signal: Signal, at: datetime) -> World:
    bracket = plan_bracket(signal, f"signal-{number}", STOCK, Decimal(10))
    assert isinstance(bracket, Bracket) and signal.side is not None
    trade = Trade(
        id=number, symbol="AAPL", side=signal.side, account=ACCOUNT, con_id=5, asked=SIZE, state=State.PLANNED,
        signal_id=f"signal-{number}", received_at=at, valid_until=at + POLICY.validity, timestamp=world.at,
        stop_wanted=bracket.stop_wanted, orders=bracket.orders,
    )  # fmt: skip
    return replace(world, trades=(*world.trades, trade))


# ---- facts and snapshots ----


def heard(world: World, fact: Fact) -> World:
    """Write one fact down."""
    if isinstance(fact, Decimal):
        return replace(world, shown=fact)
    if isinstance(fact, Fill):
        known = any(f.exec_id == fact.exec_id for f in world.known)
        return world if known or not fact.order_ref else _with_fill(world, fact)
    if isinstance(fact, tuple):
        return _refused(world, *fact)
    return _reported(world, fact)


def _with_fill(world: World, fill: Fill) -> World:
    world = replace(world, known=(*world.known, fill))
    is_entry = fill.order_ref[20] == "E"
    return replace(world, block=None) if is_entry and world.block not in (None, fill.side) else world


def _every_order(world: World, change: Callable[[Order], Order]) -> World:
    return replace(
        world, trades=tuple(replace(t, orders=tuple(change(o) for o in t.orders)) for t in world.trades)
    )  # fmt: skip


def _refused(world: World, order_id: int, code: int) -> World:
    def change(order: Order) -> Order:
        return replace(order, refusal_code=code, reason="refused") if order.order_id == order_id else order

    world = replace(world, wanted=True)
    return world if code in LOOK_UP else _every_order(world, change)


def _reported(world: World, report: OrderReport) -> World:
    def change(order: Order) -> Order:
        if order.order_ref != report.order_ref:
            return order
        filled = order.said_filled if report.filled is None else report.filled
        return replace(order, said=report.status, said_filled=filled, quantity=report.quantity or order.quantity)

    return _every_order(world, change)


def snapshot(world: World) -> Snapshot:
    """Everything that the broker shows; what TWS only holds is not among it."""
    reports = [(o, report_of(o)) for o in world.orders if o.status != "held"]
    position = Position(ACCOUNT, 5, "AAPL", world.position, Decimal(10))
    return Snapshot(
        world.at, DAY,
        tuple(r for o, r in reports if o.lives), tuple(replace(r, completed=True) for o, r in reports if not o.lives),
        world.fills, (position,) if world.position else (),
    )  # fmt: skip


def looked(world: World) -> Turn:
    """A snapshot, read when nothing is under way, applied; a difference is believed when a second look shows it too."""
    shot = snapshot(world)
    world = replace(world, shown=world.position, wanted=False)
    for fact in (*shot.fills, *shot.completed_orders, *shot.open_orders):
        world = heard(world, fact)
    world = refreshed(world)
    books = _books(world, shot, frozenset())
    apart = frozenset(con_id for con_id, _ in differing(books, shot))
    if apart:
        world = replace(world, now=world.now + 3)
        books = _books(world, shot, apart)
    resend: tuple[Order, ...] = ()
    cancels: tuple[Letter, ...] = ()
    for found in reconcile(books, shot):
        if isinstance(found, OrderResolution) and found.verdict is Verdict.RESEND:
            resend = (*resend, found.order)
        elif isinstance(found, Orphan):
            world = replace(world, told=True)
            cancels = (*cancels, Letter(_order_of(world, found.report.order_ref), cancel=True))
        else:
            world, letters = _resolved(world, found)
            cancels = (*cancels, *letters)
    world = refreshed(replace(world, ready=True))
    yield world
    yield from _afterwards(world, cancels, resend)


def _books(world: World, shot: Snapshot, settled: frozenset[int]) -> Books:
    refs = frozenset(o.order_ref for t in world.trades for o in t.orders)
    trades = (world.trade,) if world.trade else ()
    foreign = tuple(f for f in shot.fills if not f.order_ref and f.exec_id not in _attributed(world))
    contracts = {5: "AAPL"} if world.trades else {}
    missed = dict.fromkeys(refs, DAY)  # each look stands for two
    return Books(
        world.at,
        trades,
        refs,
        foreign,
        {},
        settled,
        believed=settled,
        missed=missed,
        account=ACCOUNT,
        contracts=contracts,
    )


def _attributed(world: World) -> frozenset[str]:
    return frozenset(f.exec_id for f in world.known if not f.order_ref)


def _order_of(world: World, ref: str | None) -> Order:
    return next(o for t in world.trades for o in t.orders if o.order_ref == ref)


def _resolved(world: World, found: object) -> tuple[World, tuple[Letter, ...]]:
    trade = world.trade
    match found:
        case OrderResolution(order, _, Verdict.GONE | Verdict.DEAD as verdict, why) if trade:
            said = Status.CANCELLED if verdict is Verdict.GONE else Status.INACTIVE
            now = _order_of(world, order.order_ref)
            ended = replace(now, said=said, said_filled=now.filled, reason=why)
            return world.with_trade(_changed(trade, ended)), ()
        case OrderResolution(order, _, Verdict.CANCEL_FIRST, why) if trade:
            asked = replace(order, cancel_asked_at=world.at, reason=order.reason or why)
            return replace(world.with_trade(_changed(trade, asked)), wanted=True), (Letter(order, cancel=True),)
        case OrderResolution(_, _, Verdict.WAIT, _):
            return replace(world, wanted=True), ()
        case OrderResolution() | Unexplained():
            return hold(world), ()
        case Reduced(_, quantity, fills, _) if trade:
            world = world.with_trade(replace(trade, reduced=trade.reduced + quantity))
            return replace(world, known=(*world.known, *fills)), ()
    return replace(world, told=True), ()  # the account shows more, or what nobody explained: said


def _afterwards(world: World, cancels: tuple[Letter, ...], resend: tuple[Order, ...]) -> Turn:
    """What is sent because of a snapshot, when all of it is committed; then the turn."""
    for letter in cancels:
        world = _post(world, letter)
        yield world
    trade = world.trade
    if trade is not None and resend and trade.state is not State.HOLD:
        bracket = trade.state is State.SENDING
        again = trade.live if bracket else tuple(o for o in trade.live if o.order_ref in {r.order_ref for r in resend})
        again = tuple(replace(o, resends=o.resends + 1, sent_at=world.at) for o in again)
        for order in again:
            trade = _changed(trade, order)
        world = world.with_trade(trade)
        yield world
        for sent in written(world, again):
            world = sent
            yield world
    yield from turn(world)
