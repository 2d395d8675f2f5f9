"""A trade made smaller, by its strategy or by a close of a part: first its exits, then the reduction, never a bare share."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.policy import Policy
from executor.core.ports import Session

from .fakes import AAPL, EURUSD, START, House
from .test_market_hours import open_market, tell

EXITS = {"tp": "1.20", "sl": "1.18"}


@pytest.fixture
def house() -> House:
    return House.build().connect()


def long_100(house: House, **exits: str) -> None:
    house.strategy("long 100", "flat", symbol="AAPL", **(exits or EXITS))


def to_40(house: House) -> str:
    return house.strategy("long 40", "long 100", symbol="AAPL")


def held(house: House) -> Decimal:
    return house.broker.quantity[AAPL.con_id]


def sold(house: House) -> list[tuple[str, Decimal]]:
    return [(t.order_ref[20:], t.quantity) for t in house.broker.sent if t.order_ref[20] == "X"]


def test_the_exits_shrink_first_and_the_reduction_follows(house: House) -> None:
    long_100(house)
    assert house.outcome(to_40(house)) == (
        "reduced",
        "the strategy is now long 40 AAPL: 60 of 100 AAPL are closed, 40 stay",
    )
    assert house.legs() == ["E1", "T1", "S1", "T1", "S1", "X1"]
    assert [t.quantity for t in house.broker.sent[3:]] == [40, 40, 60]
    assert held(house) == 40 and house.working() == {"T1": 40, "S1": 40} and house.alarms() == []
    assert house.trades()[0]["position_size"] == 100 and house.trades()[0]["held"] == 40
    house.broker.hit("S")
    assert held(house) == 0 and house.state == "closed" and house.trades()[0]["exit_reason"] == "stop-loss"


def test_nothing_is_sold_before_every_exit_is_confirmed_in_its_new_size(house: House) -> None:
    long_100(house)
    house.broker.silent = True  # TWS takes the changes and does not answer
    signal = to_40(house)
    house.pass_time(4, look=False)
    assert not sold(house)
    house.broker.silent = False
    house.desk.reconciled(house.broker.snapshot())
    assert sold(house) == [("X1", 60)] and held(house) == 40 and house.outcome(signal)[0] == "reduced"


def test_a_reduction_whose_exits_do_not_shrink_is_given_up_and_said(house: House) -> None:
    long_100(house)
    house.broker.deaf = True  # no change arrives
    signal = to_40(house)
    house.pass_time(11)
    house.broker.deaf = False
    outcome, reason = house.outcome(signal)
    assert outcome == "refused" and "should be reduced to 40, but 100 are held" in (reason or "")
    assert set(house.alarms()) == {"not reduced", "size differs"} and not sold(house)
    house.pass_time(15)
    assert house.working() == {"T1": 100, "S1": 100} and held(house) == 100


def test_a_change_that_tws_took_without_a_word_is_looked_up(house: House) -> None:
    """Else the stop would cover 40 of 100 for good, and count as one over 100."""
    long_100(house)
    house.broker.unheard = frozenset({"on_order"})
    signal = to_40(house)
    assert house.working() == {"T1": 40, "S1": 40}
    house.pass_time(8)
    house.broker.unheard = frozenset()
    house.pass_time(3)
    assert house.outcome(signal)[0] == "refused" and held(house) == 100
    assert house.working() == {"T1": 100, "S1": 100} and "unprotected" not in house.alarms()


def test_a_refused_reduction_gives_the_exits_their_size_back(house: House) -> None:
    long_100(house)
    house.broker.refuse["X"] = (201, "Order rejected - reason: margin")
    outcome, reason = house.outcome(to_40(house))
    house.pass_time(15)
    assert outcome == "refused" and "margin" in (reason or "") and sold(house) == [("X1", 60)]
    assert house.working() == {"T1": 100, "S1": 100} and set(house.alarms()) == {"not reduced", "size differs"}


@pytest.mark.parametrize("filled, outcome", [(0, "refused"), (20, "reduced")])
def test_a_reduction_that_does_not_fill_is_taken_back(house: House, filled: int, outcome: str) -> None:
    long_100(house)
    house.broker.fill_entries = False
    signal = to_40(house)
    if filled:
        house.broker.execute(house.broker.id_of("X1"), Decimal(filled), Decimal("1.19"))
    house.pass_time(9)
    assert house.broker.id_of("X1") not in house.broker.cancels
    house.pass_time(15)
    assert house.outcome(signal)[0] == outcome and f"but {100 - filled} are held" in (house.outcome(signal)[1] or "")
    assert house.working() == {"T1": 100 - filled, "S1": 100 - filled} and "not reduced" in house.alarms()
    assert "unprotected" not in house.alarms() and sold(house) == [("X1", 60)]


@pytest.mark.parametrize("was", ["long 40", "long 100", None])
def test_the_difference_is_said_when_a_wish_that_was_repeated_meanwhile_fails(house: House, was: str | None) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_40(house)
    assert house.outcome(house.strategy("long 40", was, symbol="AAPL"))[0] == "nothing to do"
    assert "size differs" not in house.alarms()
    house.pass_time(15)
    texts = [str(a["text"]) for a in house.journal.standing_alarms() if a["kind"] == "size differs"]
    assert len(texts) == 1 and "the strategy holds 40, this trade 100" in texts[0]


def test_a_close_of_a_part_leaves_standing_that_sizes_differ(house: House) -> None:
    long_100(house)
    house.strategy("long 150", "long 100", symbol="AAPL")
    house.signal("close", "AAPL", size="30")
    (alarm,) = house.journal.standing_alarms()
    assert held(house) == 70 and "the strategy holds 150, this trade 70" in str(alarm["text"])
    house.strategy("long 70", "long 150", symbol="AAPL")
    assert house.alarms() == []


def test_no_reduction_goes_out_while_its_exits_are_growing_back(house: House) -> None:
    """The sizes that TWS last confirmed are right by chance: those that are on their way to it are not."""
    long_100(house)
    house.broker.refuse["X"] = (201, "Order rejected - reason: margin")
    to_40(house)
    house.broker.refuse.clear()
    house.pass_time(1.5)
    house.broker.silent = True  # they grow back to 100, and TWS has not said so yet
    house.pass_time(2, look=False)
    sent = len(house.broker.sent)
    signal = house.strategy("long 40", "long 100", symbol="AAPL")
    assert [t.order_ref[20] for t in house.broker.sent[sent:]] == []
    house.broker.silent = False
    house.desk.reconciled(house.broker.snapshot())
    assert sold(house)[1:] == [("X1", 60)] and held(house) == 40 and house.outcome(signal)[0] == "reduced"
    assert house.working() == {"T1": 40, "S1": 40}


def test_a_change_that_was_refused_does_not_end_the_next_reduction(house: House) -> None:
    long_100(house)
    house.broker.deaf = True  # no change arrives
    to_40(house)
    house.pass_time(11)
    house.broker.deaf = False
    assert "not reduced" in house.alarms()
    house.pass_time(60)
    assert house.outcome(house.strategy("long 30", "long 40", symbol="AAPL"))[0] == "reduced"
    house.pass_time(5)
    assert held(house) == 30 and house.working() == {"T1": 30, "S1": 30}


def test_a_smaller_target_that_comes_meanwhile_sells_only_what_lacks(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    house.strategy("long 60", "long 100", symbol="AAPL")
    house.strategy("long 50", "long 60", symbol="AAPL")
    assert [quantity for _, quantity in sold(house)] == [40, 10] and house.working()["S1"] == 50
    refs = {t.order_ref for t in house.broker.sent if t.order_ref[20] == "X"}
    assert len(refs) == 2
    for ref in refs:
        ticket = next(t for t in house.broker.sent if t.order_ref == ref)
        house.broker.execute(ticket.order_id, ticket.quantity, Decimal("1.19"))
    assert held(house) == 50 and house.working() == {"T1": 50, "S1": 50} and house.alarms() == []


def test_a_repeated_wish_sells_nothing_more(house: House) -> None:
    long_100(house)
    to_40(house)
    assert house.outcome(house.strategy("long 40", "long 40", symbol="AAPL"))[0] == "nothing to do"
    assert house.outcome(house.strategy("long 40", symbol="AAPL"))[0] == "nothing to do" and len(sold(house)) == 1


def test_a_close_takes_the_place_of_a_reduction(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_40(house)
    house.broker.fill_entries = True
    assert house.outcome(house.signal("close", "AAPL"))[0] == "closed"
    assert held(house) == 0 and house.legs()[-1] == "C1" and house.working() == {} and house.alarms() == []


def test_a_reversal_takes_the_place_of_a_reduction(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_40(house)
    house.broker.fill_entries = True
    house.strategy("short 10", "long 40", symbol="AAPL")
    assert held(house) == -10 and house.alarms() == []


def test_a_stop_that_fills_while_the_reduction_works_takes_only_its_part(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_40(house)
    house.broker.hit("S")
    house.broker.execute(house.broker.id_of("X1"), Decimal(60), Decimal("1.17"))
    assert held(house) == 0 and house.state == "closed" and house.alarms() == []


def test_what_an_exit_fills_meanwhile_comes_out_of_the_rest(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_40(house)
    house.broker.hit("S", Decimal(10))
    house.broker.execute(house.broker.id_of("X1"), Decimal(60), Decimal("1.17"))
    house.pass_time(5)
    assert [quantity for _, quantity in sold(house)] == [60] and held(house) == 30
    assert house.working() == {"T1": 30, "S1": 30} and house.alarms() == []


@pytest.mark.parametrize("leg", ["T", "S"])
def test_when_an_exit_takes_all_that_was_to_stay_the_rest_is_closed(house: House, leg: str) -> None:
    long_100(house)
    house.broker.silent = True  # its exits are on their way to 40, and nothing is confirmed yet
    signal = to_40(house)
    house.broker.silent = False
    house.broker.hit(leg, Decimal(40))
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(15)
    assert held(house) == 0 and house.state == "closed" and house.working() == {} and not sold(house)
    assert house.legs()[-1] == "C1" and house.outcome(signal)[0] == "reduced" and house.alarms() == []


def test_when_an_exit_took_all_that_was_to_stay_a_reduction_that_does_not_fill_leaves_nothing_bare(
    house: House,
) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_40(house)
    house.broker.hit("T")
    assert held(house) == 60 and "S1" not in house.working()
    house.broker.fill_entries = True
    house.pass_time(30)
    assert held(house) == 0 and house.state == "closed" and house.working() == {} and house.alarms() == []


def test_what_the_owner_sells_meanwhile_is_not_sold_again(house: House) -> None:
    long_100(house)
    house.broker.fill_entries = False
    to_40(house)
    house.broker.by_hand(AAPL, Decimal(-20), Decimal("1.17"))
    house.broker.fill_entries = True
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(9)
    assert [quantity for _, quantity in sold(house)] == [60, 40] and held(house) == 40
    assert house.working() == {"T1": 40, "S1": 40} and house.alarms() == []


def test_a_trade_without_exits_is_reduced_at_once(house: House) -> None:
    house.signal("open", "AAPL", "sell", "100")
    house.signal("close", "AAPL", size="30")
    assert held(house) == -70 and house.working() == {} and house.alarms() == []


STEPS = {
    "decided": dict(deaf=True),
    "exits asked": dict(silent=True),
    "sold": dict(fill_entries=False),
}


@pytest.mark.parametrize("knobs", STEPS.values(), ids=STEPS.keys())
def test_after_a_restart_the_same_is_true(tmp_path: Path, knobs: dict[str, bool]) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    long_100(house)
    for knob, value in knobs.items():
        setattr(house.broker, knob, value)
    signal = to_40(house)
    for knob in knobs:
        setattr(house.broker, knob, knob == "fill_entries")
    if "fill_entries" in knobs:
        house.broker.execute(house.broker.id_of("X1"), Decimal(60), Decimal("1.19"))
    house = house.restart(path).connect()
    house.pass_time(15)
    assert held(house) == 40 and house.working() == {"T1": 40, "S1": 40} and house.alarms() == []
    assert house.outcome(signal)[0] == "reduced" and len(sold(house)) == 1


def test_a_reduction_that_never_arrived_is_sent_again_under_its_id(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.strategy("long 100", "flat", symbol="AAPL")
    house.broker.deaf = True
    to_40(house)
    house.broker.deaf = False
    house = house.restart(path).connect()
    house.pass_time(15)
    assert sold(house) == [("X1", 60), ("X1", 60)] and held(house) == 40 and house.alarms() == []


# --- a close of a part ------------------------------------------------------------------------------

PARTS = [
    ({"size": "30"}, 70), ({"percent": "25"}, 75), ({"percent": "33.4"}, 67), ({"percent": "99.9"}, 1),
    ({"size": "100"}, 0), ({"size": "2500"}, 0), ({"percent": "100"}, 0),
]  # fmt: skip


@pytest.mark.parametrize("part, left", PARTS)
@pytest.mark.parametrize("side, sign", [("buy", 1), ("sell", -1)])
def test_a_close_of_a_part_leaves_the_rest_protected(
    house: House, side: str, sign: int, part: dict[str, str], left: int
) -> None:
    exits = EXITS if side == "buy" else {"tp": "1.18", "sl": "1.20"}
    house.signal("open", "AAPL", side, "100", **exits)
    outcome, _ = house.outcome(house.signal("close", "AAPL", **part))
    assert outcome == ("reduced" if left else "closed") and held(house) == sign * left
    assert house.working() == ({"T1": left, "S1": left} if left else {}) and house.alarms() == []


def test_a_part_of_what_is_left_is_taken_from_that(house: House) -> None:
    house.signal("open", "AAPL", "buy", "100", **EXITS)
    for left in (50, 25, 13, 7, 4, 2, 1):
        house.signal("close", "AAPL", percent="50")
        assert held(house) == left == house.working()["S1"]


def test_less_than_can_be_traded_is_refused_with_the_numbers(house: House) -> None:
    house.signal("open", "AAPL", "buy", "1", **EXITS)
    outcome, reason = house.outcome(house.signal("close", "AAPL", percent="50"))
    assert outcome == "refused" and reason is not None
    assert "50% of the 1 AAPL is less than can be traded (1); nothing was closed" in reason
    assert held(house) == 1 and house.working() == {"T1": 1, "S1": 1}


def test_a_close_of_a_part_without_a_trade_is_nothing_to_do(house: House) -> None:
    assert house.outcome(house.signal("close", "AAPL", percent="50"))[0] == "nothing to do"


def test_a_part_of_a_trade_that_came_later_is_ignored(house: House) -> None:
    house.signal("open", "AAPL", "buy", "100")
    house.clock.advance(-60)
    assert house.outcome(house.signal("close", "AAPL", percent="50"))[0] == "ignored" and held(house) == 100


# --- a closed market --------------------------------------------------------------------------------

CLOSED_NOW = (Session(START + timedelta(hours=15), START + timedelta(hours=22)),)


def test_while_the_market_is_known_to_be_closed_the_exits_keep_their_size() -> None:
    house = House.build(policy=Policy()).connect()
    house.signal("open", "EURUSD", "buy", "10000", **EXITS)
    tell(house, CLOSED_NOW)
    house.desk.on_contract("EURUSD", house.broker.contracts["EURUSD"])
    house.signal("close", "EURUSD", size="4000")
    house.pass_time(30)
    assert house.working() == {"T1": 10000, "S1": 10000} and house.alarms() == ["close waits"]
    (alarm,) = house.journal.standing_alarms()
    assert "the reduction of EURUSD waits until 2026-11-24 06:00 UTC" in str(alarm["text"])
    open_market(house)
    assert house.broker.quantity[EURUSD.con_id] == 6000 == house.working()["S1"] and house.alarms() == []
