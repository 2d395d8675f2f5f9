"""The search within stated bounds: every state is visited, none breaks a law; and a broken rule is found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from common.errors import IllegalTransition
from common.signals import Side
from executor.core import exits, planning, reconcile, steps
from executor.core.orders import Leg, Order
from executor.core.policy import Policy
from executor.core.ports import Contract, Kind
from executor.core.trades import State, Trade
from executor.desk.orders import Orders
from tests.search import laws
from tests.search.laws import search, told
from tests.search.world import BUY, BUY_3, CLOSE, PART, SELL, START, Budget, World

FEW = Budget(crashes=1, losses=0, waits=1)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the desk logs on its way through a hundred thousand states is read by nobody, and kept by pytest."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def visit(signals: tuple, budget: Budget, most: int, every: int = 10) -> None:
    """Search all, say what was visited, and fail with the way to a broken state; deaths alone need nobody's help."""
    found = search(World(signals, budget), most, every)
    bounds = f"{len(signals)} signals, {budget}"
    print(
        f"{bounds}: {found.states} states, {found.steps} steps, {found.ends} brought to rest, {found.told} with a word"
    )
    assert found.broken == [], "\n".join([*found.broken, *map(told, reversed(found.path))])
    assert found.whole, f"{most} states are not all"
    mishaps = replace(budget, crashes=0, partials=0, waits=0)
    assert found.told == 0 or mishaps != Budget(0, 0, waits=0), "the owner was asked although evidence was there"


@pytest.mark.parametrize(
    ("signals", "budget"),
    [
        pytest.param((BUY,), FEW, id="an entry, the executor dies anywhere"),
        pytest.param((BUY,), Budget(crashes=0, losses=1, waits=1), id="an entry, one loss of a fact or a connection"),
        pytest.param((CLOSE, BUY), FEW, id="a close without a trade, then an entry", marks=pytest.mark.ci),
        pytest.param((BUY,), Budget(crashes=0, losses=0, partials=1, waits=1), id="partial fills"),
        pytest.param((BUY_3, PART), Budget(crashes=0, losses=0, waits=1), id="a close of a part"),
    ],
)
def test_every_state_within_small_bounds_keeps_the_laws(signals: tuple, budget: Budget) -> None:
    visit(signals, budget, 20_000, every=25)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("signals", "budget"),
    [
        ((BUY,), Budget(crashes=2, losses=0, waits=3)),
        ((BUY,), Budget(crashes=1, losses=1, waits=2)),
        ((BUY,), Budget(crashes=1, losses=0, rejects=1, waits=2)),
        ((BUY,), Budget(crashes=1, losses=0, restarts=1, waits=3)),
        ((BUY,), Budget(crashes=0, losses=1, doubles=1, partials=1, waits=2)),
        ((BUY,), Budget(crashes=1, losses=0, hands=1, waits=2)),
        ((BUY, BUY), Budget(crashes=1, losses=0, partials=1, waits=1)),
        ((BUY, CLOSE), Budget(crashes=1, losses=0, waits=1)),
        ((BUY, SELL), Budget(crashes=1, losses=0, waits=1)),
        ((BUY, SELL), Budget(crashes=0, losses=1, waits=1)),
        ((BUY_3, PART), Budget(crashes=0, losses=0, rejects=1, waits=1)),
        ((BUY_3, PART, PART), Budget(crashes=0, losses=0, waits=1)),
    ],
)
def test_every_state_within_larger_bounds_keeps_the_laws(signals: tuple, budget: Budget) -> None:
    visit(signals, budget, 500_000)


def _resend_under_a_new_id(monkeypatch: pytest.MonkeyPatch) -> None:
    send_again = Orders.send_again

    def anew(self: Orders, trade: Trade, orders: Collection[Order], contract: Contract) -> None:
        send_again(self, trade, [replace(o, order_id=(o.order_id or 0) + 50) for o in orders], contract)

    monkeypatch.setattr(Orders, "send_again", anew)


def _close_beside_live_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    real = planning._PLANNERS[State.CANCELLING]

    def at_once(trade: Trade, moment: planning.Moment, policy: Policy) -> steps.Step | None:
        if trade.held <= 0 or any(trade.legs(Leg.CLOSE)):
            return real(trade, moment, policy)
        return steps.Place(exits.exit_order(trade, Leg.CLOSE, trade.held, Kind.MARKET, None))

    monkeypatch.setitem(planning._PLANNERS, State.CANCELLING, at_once)


def _call_every_missing_order_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(order: object, trade: object, *rest: object) -> reconcile.OrderResolution:
        return reconcile.OrderResolution(order, trade, reconcile.Verdict.DEAD, "not found")  # type: ignore[arg-type]

    monkeypatch.setattr(reconcile, "judge", judge)


def _reduce_before_the_exits_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "_all_have_size", lambda trade, moment: True)


def _reduce_by_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trade, "shrinks_to", property(lambda trade: trade.reduction.to - 1 if trade.reduction else 0))


@pytest.mark.parametrize(
    ("sabotage", "signals", "budget", "law"),
    [
        (_resend_under_a_new_id, (BUY,), Budget(crashes=1, losses=1, waits=2), "two orders under one reference"),
        (_close_beside_live_exits, (BUY, CLOSE), Budget(crashes=0, losses=0, waits=1), "closes while"),
        (_call_every_missing_order_dead, (BUY,), Budget(crashes=1, losses=1, waits=2), "is void, and"),
        (
            _reduce_before_the_exits_are_smaller,
            (BUY_3, PART),
            Budget(crashes=0, losses=0, waits=1),
            "are to go, an exit",
        ),
        (_reduce_by_one_more, (BUY_3, PART), Budget(crashes=0, losses=0, waits=1), "are taken out, asked for were"),
    ],
)
def test_a_broken_rule_is_found(
    sabotage: Callable[[pytest.MonkeyPatch], None],
    signals: tuple,
    budget: Budget,
    law: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sabotage(monkeypatch)
    found = search(World(signals, budget), 20_000, every=5)
    assert any(law in text for text in found.broken), found


def test_bug_in_the_desk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk itself would hold the trade and go on."""

    def fail(*args: object) -> None:
        raise IllegalTransition("planted", 1)

    monkeypatch.setitem(planning._PLANNERS, State.OPEN, fail)
    assert any("planted" in text for text in search(World((BUY,), FEW), 20_000, every=25).broken)


def test_hold_without_its_alarm_is_found() -> None:
    world = World((BUY,), FEW)
    trade = Trade(1, "ACME", Side.BUY, "DU1", 7, Decimal(2), State.HOLD, "s1", START, START, START)
    found = laws.broken(replace(world, kept=replace(world.kept, trades=(trade,))))
    assert list(found) == ["s1 is on hold, and nobody was told"]


def test_laws_are_not_empty() -> None:
    begin = World((BUY,), FEW)
    assert list(laws.broken(begin)) == [] and list(laws.unsettled(laws.settled(begin))) == []
