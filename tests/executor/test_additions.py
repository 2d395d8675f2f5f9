"""A trade made larger, where its owner lets it follow its strategy: what is added has a stop from the first byte."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.commands import Command, CommandKind
from executor.core.policy import Policy

from .fakes import AAPL, House

EXITS = {"tp": "1.20", "sl": "1.18"}
SCALES = Policy(scale_in=True)


@pytest.fixture
def house() -> House:
    return House.build(policy=SCALES).connect()


def long_100(house: House, **exits: str) -> None:
    house.strategy("long 100", "flat", symbol="AAPL", **(exits or EXITS))


def to_150(house: House, was: str = "long 100", **exits: str) -> str:
    return house.strategy("long 150", was, symbol="AAPL", **exits)


def held(house: House) -> Decimal:
    return house.broker.quantity[AAPL.con_id]


def added(house: House) -> list[tuple[str, Decimal]]:
    return [(t.order_ref[20:], t.quantity) for t in house.broker.sent if t.order_ref[20] in "AK"]


def test_what_is_added_has_its_own_stop_until_the_trade_s_covers_it(house: House) -> None:
    long_100(house)
    assert house.outcome(to_150(house)) == ("added", "the strategy is now long 150 AAPL; 100 were held: 50 more")
    assert added(house) == [("A1", 50), ("K1", 50)]
    addition, stop = house.broker.sent[3:5]
    assert (stop.parent_id, addition.transmit, stop.transmit, stop.price, stop.oca_group) == (
        addition.order_id, False, True, Decimal("1.18"), "",
    )  # fmt: skip
    assert held(house) == 150 and house.working() == {"T1": 150, "S1": 150} and house.alarms() == []
    (trade,) = house.trades()
    assert (trade["position_size"], trade["held"], trade["sl_price"]) == (150, 150, 1.18)
    house.broker.hit("S")
    assert held(house) == 0 and house.state == "closed"


def test_the_added_stop_goes_only_when_the_other_is_confirmed_in_its_new_size(house: House) -> None:
    long_100(house)
    house.broker.unheard = frozenset({"on_order"})
    to_150(house)
    assert house.working() == {"T1": 100, "S1": 100, "K1": 50}
    house.broker.unheard = frozenset()
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(3)
    assert house.working() == {"T1": 150, "S1": 150} and house.alarms() == []


def test_at_no_moment_is_less_covered_than_is_held(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_150(house)
    for part in (10, 15, 25):
        house.broker.execute(house.broker.id_of("A1"), Decimal(part), Decimal("1.19"))
        stops = sum(left for leg, left in house.working().items() if leg[0] in "SK")
        assert stops >= held(house)
    house.pass_time(3)
    assert house.working() == {"T1": 150, "S1": 150} and house.alarms() == []


@pytest.mark.parametrize("policy, was, why", [
    (Policy(), "long 100", "a larger size is followed with scale_in = true only"),
    (Policy(scale_in_of={"EURUSD": True}), "long 100", "a larger size is followed with scale_in = true only"),
    (Policy(scale_in=True, scale_in_of={"AAPL": False}), "long 100", "a larger size is followed with scale_in = true only"),
    (SCALES, "long 200", "it did not grow with this alert"),
    (SCALES, None, "it did not grow with this alert"),
])  # fmt: skip
def test_what_is_no_addition_buys_nothing_and_is_said(policy: Policy, was: str | None, why: str) -> None:
    """An alert that makes the strategy smaller than before is a sell: it never buys here."""
    house = House.build(policy=policy).connect()
    long_100(house)
    outcome, reason = house.outcome(house.strategy("long 150", was, symbol="AAPL"))
    assert outcome in ("ignored", "reduced") and why in (reason or "")
    assert held(house) == 100 and house.alarms() == ["size differs"] and not added(house)


def test_an_addition_is_as_fresh_as_an_entry_must_be(house: House) -> None:
    long_100(house)
    house.desk.disconnected("TWS is away")
    signal = to_150(house)
    house.clock.advance(91)
    house.connect()
    house.pass_time(1)
    outcome, reason = house.outcome(signal)
    assert outcome == "expired" and "too old to add" in (reason or "") and not added(house)
    assert set(house.alarms()) == {"size differs", "expired signal"}


@pytest.mark.parametrize("code", [201, 103])
def test_a_refused_addition_changes_nothing_and_is_said(house: House, code: int) -> None:
    long_100(house)
    house.broker.refuse["A"] = (code, "no margin")
    house.broker.refuse["K"] = (code, "no margin")
    signal = to_150(house)
    house.pass_time(15)
    outcome, reason = house.outcome(signal)
    assert outcome == "refused" and "nothing was added: no margin" in (reason or "")
    assert held(house) == 100 and house.working() == {"T1": 100, "S1": 100} and house.alarms() == ["size differs"]


def test_an_addition_that_does_not_fill_in_time_is_cancelled(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_150(house)
    house.broker.execute(house.broker.id_of("A1"), Decimal(20), Decimal("1.19"))
    house.pass_time(92)
    assert held(house) == 120 and house.working() == {"T1": 120, "S1": 120} and house.alarms() == ["size differs"]


def test_a_trade_whose_stop_is_gone_gets_no_more(house: House) -> None:
    long_100(house)
    house.broker.cancel_by_hand("S")
    outcome, reason = house.outcome(to_150(house))
    assert outcome == "refused" and "the trade's own stop-loss is not working" in (reason or "") and held(house) == 100


def test_a_trade_without_a_stop_grows_without_one(house: House) -> None:
    house.strategy("short 100", "flat", symbol="AAPL")
    house.strategy("short 150", "short 100", symbol="AAPL")
    assert held(house) == -150 and house.working() == {} and added(house) == [("A1", 50)]


def test_a_stop_that_comes_with_the_addition_covers_a_trade_that_had_none(house: House) -> None:
    house.strategy("long 100", "flat", symbol="AAPL")
    to_150(house, sl="1.17")
    house.pass_time(3)
    assert held(house) == 150 and house.working() == {"K1": 150} and house.alarms() == []


def test_a_stop_beyond_the_market_adds_nothing(house: House) -> None:
    long_100(house)
    house.broker.market = Decimal("1.17")
    outcome, reason = house.outcome(to_150(house))
    assert outcome == "refused" and "wrong side of the market (1.17)" in (reason or "") and held(house) == 100


def test_up_and_down_and_up_again(house: House) -> None:
    long_100(house)
    was = 100
    for size in (150, 60, 61, 20, 120):
        house.strategy(f"long {size}", f"long {was}", symbol="AAPL")
        house.pass_time(3)
        was = size
        assert held(house) == size and house.working() == {"T1": size, "S1": size} and house.alarms() == []
    assert house.trades()[0]["position_size"] == 100 + 50 + 1 + 100


def test_a_reduction_waits_for_an_addition_that_is_under_way(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_150(house)
    house.strategy("long 40", "long 150", symbol="AAPL")
    house.broker.fill_entries = True
    house.broker.execute(house.broker.id_of("A1"), Decimal(50), Decimal("1.19"))
    house.pass_time(5)
    assert held(house) == 40 and house.working() == {"T1": 40, "S1": 40} and house.alarms() == []


def test_a_close_while_an_addition_is_under_way_closes_all_of_it(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_150(house)
    house.broker.execute(house.broker.id_of("A1"), Decimal(20), Decimal("1.19"))
    house.broker.fill_entries = True
    assert house.outcome(house.signal("close", "AAPL"))[0] == "closed"
    assert held(house) == 0 and house.working() == {} and house.alarms() == []


def test_an_addition_at_max_open_trades_is_no_new_trade() -> None:
    house = House.build(policy=Policy(scale_in=True, max_open_trades=1)).connect()
    long_100(house)
    to_150(house)
    assert held(house) == 150


def test_the_largest_size_of_an_entry_bounds_the_whole() -> None:
    house = House.build(policy=Policy(scale_in=True, max_quantity={"AAPL": Decimal(120)})).connect()
    long_100(house)
    outcome, reason = house.outcome(to_150(house))
    assert outcome == "refused" and "150 AAPL is above max_quantity (120)" in (reason or "") and held(house) == 100


@pytest.mark.parametrize("knob", ["deaf", "silent", "fill_entries"])
def test_after_a_restart_the_same_is_true(tmp_path: Path, knob: str) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path, SCALES).connect()
    long_100(house)
    setattr(house.broker, knob, knob != "fill_entries")
    signal = to_150(house)
    setattr(house.broker, knob, knob == "fill_entries")
    if knob == "fill_entries":
        house.broker.execute(house.broker.id_of("A1"), Decimal(50), Decimal("1.19"))
    house = house.restart(path).connect()
    house.pass_time(20)
    never = knob == "deaf"  # it never arrived, and is not sent again: the price is another by now
    assert house.outcome(signal)[0] == ("refused" if never else "added")
    size = 100 if never else 150
    assert held(house) == size and house.working() == {"T1": size, "S1": size} and len(added(house)) == 2
    assert house.alarms() == (["size differs"] if never else [])


def test_an_addition_in_a_clock_that_is_in_doubt_waits(house: House) -> None:
    long_100(house)
    house.desk.clock_doubted("it was set")
    signal = to_150(house)
    assert house.outcome(signal)[0] is None and held(house) == 100
    house.clock.advance(timedelta(seconds=1).total_seconds())
    house.desk.clock_compared()
    assert house.outcome(signal)[0] == "added" and held(house) == 150


def test_an_addition_waits_for_a_reduction_that_is_under_way(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    house.strategy("long 40", "long 100", symbol="AAPL")
    signal = to_150(house, "long 40")
    assert not added(house) and house.outcome(signal)[0] is None
    house.broker.fill_entries = True
    house.broker.execute(house.broker.id_of("X1"), Decimal(60), Decimal("1.19"))
    house.pass_time(3)
    assert added(house) == [("A1", 110), ("K1", 110)] and house.outcome(signal)[0] == "added"
    assert held(house) == 150 and house.working() == {"T1": 150, "S1": 150} and house.alarms() == []


@pytest.mark.parametrize("added", [False, True])
def test_what_was_paid_for_an_adopted_position_is_the_same_after_a_restart(tmp_path: Path, added: bool) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path, SCALES).connect()
    house.strategy("long 10", "flat", symbol="AAPL")
    house.strategy("flat", "long 10", symbol="AAPL")
    house.broker.by_hand(AAPL, Decimal(100), Decimal("1.25"))
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(8)
    house.command(Command(CommandKind.ADOPT_POSITION, symbol="AAPL"))
    if added:
        house.strategy("long 150", "long 100", symbol="AAPL")
    before = house.desk.book.open_trade(AAPL.con_id)
    assert before is not None and before.held == (150 if added else 100)
    paid = house.trades()[-1]["entry_price"]
    assert paid == pytest.approx((100 * 1.0 + 50 * 1.19) / 150 if added else 1.0)  # the fake's average cost is 1
    house = house.restart(path).connect()
    after = house.desk.book.open_trade(AAPL.con_id)
    assert after is not None and (after.adopted_price, after.entry_price) == (before.adopted_price, before.entry_price)


def test_an_addition_s_only_stop_keeps_its_size_until_the_addition_is_over(house: House) -> None:
    """A change would go out before its parent has filled: TWS answers 135."""
    house.strategy("long 100", "flat", symbol="AAPL")
    house.broker.fill_entries = False
    to_150(house, sl="1.17")
    house.pass_time(3)
    assert [t.quantity for t in house.broker.sent if t.order_ref[20] == "K"] == [50]
    house.broker.execute(house.broker.id_of("A1"), Decimal(50), Decimal("1.19"))
    house.pass_time(5)
    assert house.working() == {"K1": 150} and house.alarms() == []
