"""A few seeds of `make simulate`, and that a seed is the same run each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from executor.core import conditions, exits, planning, steps
from executor.core.conditions import AlarmKind
from executor.core.orders import EXITS, Leg, Order
from executor.core.policy import Policy
from executor.core.ports import Contract, Kind, Ticket
from executor.core.trades import State, Trade
from executor.desk.book import Book
from executor.desk.life import Life
from executor.desk.orders import Orders
from tests.simulate.story import is_calm, play, play_seed
from tests.simulate.world import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [0, 5])  # the second with deaths of the executor
def test_a_trading_day_breaks_no_rule(seed: int) -> None:
    result = play_seed(1, seed)
    assert result.broken == "", "\n".join(result.lines)
    assert result.figures.days == 1 and result.figures.orders > 0


def test_seed_gives_the_same_trace_to_the_byte_in_another_process() -> None:
    """Whatever the hashes of that process are."""
    lines: list[str] = []
    result = run(1, 1, play, lines.append)
    words = [sys.executable, "-W", "ignore", "-m", "tests.simulate", "--seeds", "1", "--days", "1", "--trace"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=170, env={**os.environ, "PYTHONHASHSEED": "1"}
    )
    assert f"trace {result.trace}" in done.stdout, done.stdout[-2000:] + done.stderr
    assert (
        done.stdout.splitlines()[1 : 1 + len(lines)]
        == [part for line in lines for part in line.splitlines()][: len(lines)]
    )


# ---- planted bugs: the real executor sabotaged by one line; the simulation must find it ----


def close_on_a_stale_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it once was: the rest of a close went out on the position shown before its first part."""

    def at_once(trade: Trade, moment: planning.Moment, policy: Policy) -> steps.Step | None:
        quantity = exits.closable(trade, moment)
        if trade.live or quantity <= 0:
            return None
        return steps.Place(exits.exit_order(trade, Leg.CLOSE, quantity, Kind.MARKET, None))

    monkeypatch.setitem(planning._PLANNERS, State.CLOSING, at_once)


def no_block_after_a_take_profit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Life, "_block", lambda *_, **__: None)


def ids_as_tws_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Book, "take_order_ids", lambda book, client_id, count, floor: floor)


def no_stop_put_back_and_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "protection", lambda *_: None)


def reduction_before_its_exits_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    real = exits.reduction

    def at_once(trade: Trade, moment: planning.Moment) -> steps.Step | None:
        rest = tuple(o for o in trade.orders if o.leg not in EXITS or o.filled or o.resize_asked_at is None)
        return real(replace(trade, orders=rest), moment)

    monkeypatch.setattr(exits, "reduction", at_once)


def reduction_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reference is made from another signal than the one that asked for it."""
    real = exits.order_ref
    monkeypatch.setattr(exits, "order_ref", lambda signal_id, *leg: real(f"not {signal_id}", *leg))


def reductions_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier reduction is still to fill is not counted."""
    monkeypatch.setattr(Trade, "staying", Trade.held)
    monkeypatch.setattr(exits, "_all_have_size", lambda *_: True)


def reduction_below_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exits and reduction agree, on one share less."""
    real = Trade.shrinks_to.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Trade, "shrinks_to", property(lambda trade: max(real(trade) - 1, real(trade) * 0)))


def reduction_unlike_the_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Orders._ticket

    def one_less(self: Orders, trade: Trade, contract: Contract, order: Order, *, transmit: bool) -> Ticket:
        less = replace(order, quantity=order.quantity - 1) if order.leg is Leg.REDUCE else order
        return real(self, trade, contract, less, transmit=transmit)

    monkeypatch.setattr(Orders, "_ticket", one_less)


def reduction_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent again is what lacks by now, under the id that it had."""
    real = Orders.send_again

    def anew(self: Orders, trade: Trade, orders: Collection[Order], contract: Contract) -> None:
        lacks = [replace(o, quantity=o.quantity + 1) if o.leg is Leg.REDUCE else o for o in orders]
        real(self, trade, lacks, contract)

    monkeypatch.setattr(Orders, "send_again", anew)


def reduction_never_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "end_reduction", lambda *_: None)


def exits_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a reduction that failed the exits do not grow again, and it is not seen."""
    real = exits.amend_one

    def smaller_only(trade: Trade, moment: planning.Moment) -> steps.Step | None:
        step = real(trade, moment)
        grows = isinstance(step, steps.Amend) and step.quantity > step.order.quantity
        return None if grows else step

    monkeypatch.setattr(exits, "amend_one", smaller_only)
    monkeypatch.setattr(exits, "protection", lambda *_: None)


def difference_kept_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conditions.OF_TRADE, AlarmKind.SIZE_DIFFERS, lambda case: None)


Plant = Callable[[pytest.MonkeyPatch], None]


def rules_broken(plant: Plant, monkeypatch: pytest.MonkeyPatch, seeds: int) -> str:
    plant(monkeypatch)
    broken = (play_seed(3, seed).broken for seed in range(1, seeds) if not is_calm(seed))
    return next((text for text in broken if text), "")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (close_on_a_stale_position, "flip: "), (no_block_after_a_take_profit, "blocked: "), (ids_as_tws_says, "program: "),
        (no_stop_put_back_and_no_word, "protected: "), (reduction_before_its_exits_are_smaller, "exits-first: "),
        (reductions_add_up, "beyond: "), (reduction_worked_out_again, "same-size: "),
        (reduction_never_taken_back, "taken-back: "), (exits_stay_small, "protected: "), (difference_kept_to_itself, "size: "),
        (reduction_for_nobody, "asked: "), (reduction_below_what_was_asked, "overshoot: "),
        (reduction_unlike_the_committed, "committed: "),
    ],
)  # fmt: skip
def test_planted_bug_is_found(plant: Plant, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = rules_broken(plant, monkeypatch, 60)
    assert broken and broken.startswith(rule)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_weeks_break_no_rule() -> None:
    for seed in range(20):
        result = play_seed(5, seed)
        assert result.broken == "", f"seed {seed}: {result.broken}\n" + "\n".join(result.lines)
