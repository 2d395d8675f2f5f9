"""What the owner may choose in executor.toml does what it says, over the desk and the fake broker."""

from __future__ import annotations

import ast
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.policy import Policy
from executor.settings import _TABLES

from .fakes import AAPL, EURUSD, House

TESTS = Path(__file__).parents[1]
REFUSED = (201, "Order rejected - reason: margin")


def build(**choices: object) -> House:
    return House.build(policy=Policy(**choices)).connect()  # type: ignore[arg-type]  # a choice is of its own type


def buy(house: House, symbol: str = "EURUSD") -> str:
    return house.signal("open", symbol, side="buy", size="10000", tp="1.20", sl="1.18")


# ---- unprotected ----


def test_flatten_sells_what_cannot_be_protected_and_tells_its_owner() -> None:
    house = build(unprotected="flatten")
    house.broker.refuse = {"S": REFUSED, "R": REFUSED}
    buy(house)
    house.pass_time(8)
    assert "C1" not in house.legs() and house.broker.quantity[EURUSD.con_id] == 10000  # not before the time is up
    house.pass_time(5)
    trade = house.trades()[0]
    assert house.broker.quantity[EURUSD.con_id] == 0 and house.working() == {}
    assert (trade["closed"], trade["close_cause"]) == (1, "no stop-loss could be placed")
    assert [t.quantity for t in house.broker.sent if t.order_ref[20] == "C"] == [10000]
    raised = [row["kind"] for row in house.journal._rows("SELECT kind FROM alarms")]
    assert "unprotected" in raised and "hold" not in raised


def test_flatten_sells_nothing_while_the_stop_works_or_was_cancelled_by_hand() -> None:
    """Selling unasked is for a stop that cannot be put back; one that the owner took away is a choice."""
    house = build(unprotected="flatten")
    buy(house)
    house.pass_time(30)
    assert house.legs() == ["E1", "T1", "S1"]
    house.broker.cancel_by_hand("S")
    house.pass_time(30)
    assert house.legs() == ["E1", "T1", "S1"] and house.broker.quantity[EURUSD.con_id] == 10000
    assert "unprotected" in house.alarms()


def test_flatten_leaves_what_the_owner_holds_beside_the_trade() -> None:
    house = build(unprotected="flatten")
    house.broker.refuse = {"S": REFUSED, "R": REFUSED}
    buy(house)
    house.broker.by_hand(EURUSD, Decimal(5000), Decimal("1.19"))
    house.pass_time(20)
    assert house.broker.quantity[EURUSD.con_id] == 5000 and house.trades()[0]["closed"] == 1


def test_hold_is_the_default_and_sells_nothing() -> None:
    house = build()
    house.broker.refuse = {"S": REFUSED, "R": REFUSED}
    buy(house)
    house.pass_time(20)
    assert house.state == "hold" and house.broker.quantity[EURUSD.con_id] == 10000 and "C1" not in house.legs()


# ---- unknown exit ----


def lose_the_exit(house: House) -> None:
    """The take-profit fills unheard, and midnight takes its execution."""
    buy(house)
    house.broker.silent = True
    house.broker.hit("T")
    house.broker.silent = False
    house.broker.fills.clear()
    house.broker.orders.clear()
    house.broker.day = "2026-11-24"
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(5)
    assert house.trades()[0]["exit_reason"] == "unknown"


@pytest.mark.parametrize(("choice", "outcome"), [("allow", "entered"), ("block", "refused")])
def test_exit_that_nobody_can_name_blocks_the_side_or_does_not(choice: str, outcome: str) -> None:
    house = build(unknown_exit=choice)
    lose_the_exit(house)
    assert house.alarms() == ["unknown exit"]  # told either way
    [alarm] = house.journal.standing_alarms()
    assert ("blocked" in alarm["text"]) is (choice == "block")
    assert house.outcome(buy(house))[0] == outcome


def test_allow_lets_an_exit_at_the_take_profit_block_all_the_same() -> None:
    house = build(unknown_exit="allow")
    buy(house)
    house.broker.hit("T")
    assert house.outcome(buy(house))[0] == "refused"


# ---- limits ----


def test_no_more_trades_than_the_limit_are_opened() -> None:
    house = build(max_open_trades=1)
    assert house.outcome(buy(house))[0] == "entered"
    outcome, reason = house.outcome(house.signal("open", "AAPL", side="buy", size="100"))
    assert outcome == "refused" and "max_open_trades" in str(reason) and house.broker.quantity.get(AAPL.con_id) is None
    house.signal("close")
    assert house.outcome(house.signal("open", "AAPL", side="buy", size="100"))[0] == "entered"


def test_a_limit_of_one_trade_still_lets_it_turn_round() -> None:
    """The closing half comes first: at no time are there two."""
    house = build(max_open_trades=1)
    buy(house)
    reversal = house.signal("open", side="sell", size="10000", tp="1.18", sl="1.20")
    house.pass_time(2)
    assert house.outcome(reversal)[0] == "entered" and house.broker.quantity[EURUSD.con_id] == -10000


def test_a_limit_stops_no_close_and_counts_what_is_on_hold() -> None:
    house = build(max_open_trades=1)
    buy(house)
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    assert house.outcome(house.signal("open", "AAPL", side="buy", size="100"))[0] == "refused"


# ---- regular trading hours ----


def tickets(house: House) -> dict[str, bool]:
    return {ticket.order_ref[20:]: ticket.outside_rth for ticket in house.broker.sent}


@pytest.mark.parametrize("choice", [True, False])
def test_exits_work_outside_regular_hours_as_chosen_and_entries_never(choice: bool) -> None:
    house = build(outside_rth=choice)
    house.broker.refuse = {"S": REFUSED}
    buy(house)
    house.pass_time(7)
    assert tickets(house) == {"E1": False, "T1": choice, "S1": choice, "R1": choice}


@pytest.mark.parametrize("choice", [True, False])
def test_an_exit_that_is_changed_keeps_its_hours(choice: bool) -> None:
    """A change is the whole order again: it must not take the choice back."""
    house = build(outside_rth=choice)
    buy(house)
    house.broker.by_hand(EURUSD, Decimal(-4000), Decimal("1.19"))
    house.pass_time(12)
    changed = [ticket for ticket in house.broker.sent if ticket.quantity == 6000]
    assert {ticket.order_ref[20] for ticket in changed} == {"T", "S"}
    assert {ticket.outside_rth for ticket in changed} == {choice}


# ---- every choice ----


def test_every_choice_has_a_test_of_what_it_does() -> None:
    """A field of Policy that no test ever builds a desk with may do nothing at all."""
    files = [*(TESTS / "executor").glob("test_*.py"), *(TESTS / "trading").glob("test_*.py")]
    calls = [
        node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)
    ]
    named = {
        keyword.arg for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("Policy", "build")
        for keyword in call.keywords
    }  # fmt: skip
    assert {each.name for each in fields(Policy)} - named == set()
    assert {key for table in _TABLES.values() for key in table} <= {each.name for each in fields(Policy)}
