"""A trailing stop: a fixed one from the first byte, TWS's own when the entry has filled, never bare between the two."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from common.exits import Distance, Unit
from executor.core.ports import Kind, Refusal, Status, Ticket

from .fakes import AAPL, House
from .test_protect import at, events, sent


@pytest.fixture
def house() -> House:
    house = House.build()
    house.broker.market = Decimal(190)
    return house.connect()


def trails(house: House, leg: str) -> Ticket:
    """The newest order of a leg, which trails."""
    found = next(t for t in reversed(house.broker.sent) if t.order_ref[20:] == leg)
    assert found.kind is Kind.TRAIL
    return found


def follow(house: House, price: str, leg: str = "L1") -> None:
    """The market moves, and TWS the stop with it."""
    number = house.broker.id_of(leg)
    house.broker.orders[number] = replace(house.broker.orders[number], price=Decimal(price))
    house.desk.on_order(house.broker.orders[number])


DISTANCES = [
    # sent, first stop of the bracket, then of the trail, its distance
    ("1%", "188.1", Distance(Decimal(1), Unit.PERCENT)),
    ("1.5 points", "188.5", Distance(Decimal("1.5"), Unit.POINTS)),
    ("25 ticks", "189.75", Distance(Decimal("0.25"), Unit.POINTS)),
    ("0.123 points", "189.88", Distance(Decimal("0.12"), Unit.POINTS)),
    ("0.001 points", "190", Distance(Decimal("0.01"), Unit.POINTS)),
]


@pytest.mark.parametrize("text, first, distance", DISTANCES[:4])
def test_the_bracket_has_a_fixed_stop_and_the_trail_takes_its_place(
    house: House, text: str, first: str, distance: Distance
) -> None:
    outcome, reason = house.outcome(house.alert("open", side="buy", quantity="100", tp="200", trail=text))
    assert outcome == "entered" and f"stop-loss {first} ({text})" in (reason or ""), reason
    bracket = house.broker.sent[:3]
    assert [(t.order_ref[20:], t.kind, t.trail) for t in bracket[1:]] == [
        ("T1", Kind.LIMIT, None),
        ("S1", Kind.STOP, None),
    ]
    assert house.legs() == ["E1", "T1", "S1", "L1"] and house.broker.cancels == [house.broker.id_of("S1")]
    trail = trails(house, "L1")
    assert (trail.price, trail.trail, trail.oca_group, trail.parent_id) == (
        Decimal(first),
        distance,
        bracket[2].oca_group,
        0,
    )
    assert at(house, T1="200", L1=first) and house.working() == {"T1": 100, "L1": 100} and house.alarms() == []
    house.pass_time(30)
    assert house.alarms() == [] and house.state == "open" and len(house.broker.sent) == 4


def test_a_distance_below_a_tick_is_refused_in_words(house: House) -> None:
    outcome, reason = house.outcome(house.alert("open", side="buy", quantity="100", trail="0.001 points"))
    assert outcome == "refused" and "wrong side of the market" in (reason or "")


@pytest.mark.parametrize("side, fill, first", [("buy", "191", "189.09"), ("sell", "189", "190.89")])
def test_it_begins_at_its_distance_from_the_fill(house: House, side: str, fill: str, first: str) -> None:
    house.broker.fill_entries = False
    house.alert("open", side=side, quantity="100", trail="1%")
    house.pass_time(3)
    assert house.legs() == ["E1", "S1"]
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal(fill))
    assert at(house, L1=first) and house.legs() == ["E1", "S1", "L1"]


@pytest.mark.parametrize("sl, first", [("185", "185"), ("2%", "187.18")])
def test_a_stop_loss_is_where_it_begins(house: House, sl: str, first: str) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", sl=sl, trail="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("191"))
    assert at(house, L1=first) and trails(house, "L1").trail == Distance(Decimal(1), Unit.PERCENT)


def test_its_stop_is_followed_and_is_nobody_s_hand(house: House) -> None:
    house.alert("open", side="buy", quantity="100", trail="1%")
    for price in ("189", "190.5", "191"):
        follow(house, price)
    assert house.trades()[0]["sl_price"] == 191 and events(house, "moved") == []
    house.broker.execute(house.broker.id_of("L1"), Decimal(100), Decimal("190.9"))
    assert house.state == "closed" and house.trades()[0]["exit_reason"] == "stop-loss"


def test_each_change_sends_where_it_is_and_how_far_it_trails(house: House) -> None:
    house.alert("open", side="buy", quantity="100", tp="200", trail="1%")
    follow(house, "191")
    house.alert("close", quantity="40")
    changed = trails(house, "L1")
    assert (changed.quantity, changed.price, changed.trail) == (60, 191, Distance(Decimal(1), Unit.PERCENT))
    assert house.working() == {"T1": 60, "L1": 60} and house.alarms() == []


def test_it_moves_on_while_a_change_is_unanswered(house: House) -> None:
    house.alert("open", side="buy", quantity="100", tp="200", trail="1%")
    house.broker.deaf = True
    house.alert("close", quantity="40")
    sends = len(house.broker.sent)
    for price in ("191", "191.5", "192"):
        follow(house, price)
    assert len(house.broker.sent) == sends


def test_a_distance_that_the_owner_changed_in_tws_is_kept(house: House) -> None:
    house.alert("open", side="buy", quantity="100", tp="200", trail="1%")
    number, wide = house.broker.id_of("L1"), Distance(Decimal(3), Unit.POINTS)
    house.broker.orders[number] = replace(house.broker.orders[number], trail=wide)
    house.desk.on_order(house.broker.orders[number])
    house.alert("close", quantity="40")
    assert trails(house, "L1").trail == wide


# --- protect ----------------------------------------------------------------------------------------


def test_protect_moves_it_up_and_never_down(house: House) -> None:
    house.alert("open", side="buy", quantity="100", trail="1%")
    follow(house, "191")
    outcome, reason = house.outcome(house.alert("protect", sl="190"))
    assert outcome == "ignored" and "stays at 191: 190 would move it away" in (reason or "")
    assert house.outcome(house.alert("protect", sl="191.5"))[0] == "protected"
    assert trails(house, "L1").price == Decimal("191.5") and at(house, L1="191.5") and house.alarms() == []


def test_a_trail_that_has_gone_beyond_what_was_asked_for_is_there(house: House) -> None:
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.broker.deaf = True
    signal = house.alert("protect", sl="190")
    house.broker.deaf = False
    follow(house, "190.4")
    house.pass_time(30)
    assert len(sent(house, "L1")) == 2 and house.alarms() == [] and house.outcome(signal)[0] == "protected"


def test_entry_as_stop_while_it_trails(house: House) -> None:
    house.alert("open", side="buy", quantity="100", trail="1%")
    assert house.outcome(house.alert("protect", sl="entry"))[0] == "protected"
    assert at(house, L1="190") and trails(house, "L1").trail == Distance(Decimal(1), Unit.PERCENT)


def test_a_stop_that_was_moved_while_the_entry_filled_is_where_it_begins(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(40), Decimal(190))
    signal = house.alert("protect", sl="189")
    house.broker.execute(house.broker.id_of("E1"), Decimal(60), Decimal(190))
    house.pass_time(3)
    assert at(house, L1="189") and house.outcome(signal)[0] == "protected"
    house.broker.execute(house.broker.id_of("L1"), Decimal(100), Decimal(189))
    assert house.state == "closed" and house.outcome(signal)[0] == "protected"


# --- refused, lost, killed --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [201, 328, 387])
def test_a_trail_that_tws_refuses_leaves_the_fixed_stop_and_is_said(house: House, code: int) -> None:
    house.broker.refuse["L"] = (code, "Unsupported order type")
    signal = house.alert("open", side="buy", quantity="100", trail="1%")
    house.pass_time(40)
    assert house.legs() == ["E1", "S1", "L1"] and at(house, S1="188.1") and house.working() == {"S1": 100}
    assert house.alarms() == ["exit not moved"] and house.outcome(signal)[0] == "entered" and house.state == "open"
    (alarm,) = house.journal.standing_alarms()
    assert "TWS takes no trailing stop: Unsupported order type; the stop-loss stays at 188.1" in str(alarm["text"])


def test_a_fixed_stop_that_is_lost_after_a_refused_trail_comes_back_fixed(house: House) -> None:
    house.broker.refuse["L"] = (387, "Unsupported order type")
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.alert("protect", sl="189")
    house.broker._report(house.broker.id_of("S1"), Status.INACTIVE)
    house.pass_time(8)
    assert at(house, R1="189") and house.broker.sent[-1].kind is Kind.STOP


def test_the_fixed_stop_stays_until_tws_has_taken_the_trail(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(60), Decimal(190))
    house.broker.silent = True
    house.broker.execute(house.broker.id_of("E1"), Decimal(40), Decimal(190))
    house.broker.silent = False
    house.broker.deaf = True
    house.desk.reconciled(house.broker.snapshot())
    assert house.legs()[-1] == "L1" and house.broker.cancels == [] and house.working() == {"S1": 100}


def test_a_lost_trail_comes_back_at_the_best_that_it_had_reached(house: House) -> None:
    house.alert("open", side="buy", quantity="100", tp="210", trail="1%")
    follow(house, "192")
    house.broker._report(house.broker.id_of("L1"), Status.INACTIVE)
    house.pass_time(8)
    back = trails(house, "R1")
    assert (back.price, back.trail) == (192, Distance(Decimal(1), Unit.PERCENT)) and house.alarms() == []
    follow(house, "193", "R1")
    assert house.trades()[0]["sl_price"] == 193


def test_one_that_was_never_read_comes_back_at_its_first_stop(house: House) -> None:
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.broker._report(house.broker.id_of("L1"), Status.INACTIVE)
    house.pass_time(8)
    assert trails(house, "R1").price == Decimal("188.1")


def test_one_that_tws_deactivates_with_a_reason_comes_back_fixed(house: House) -> None:
    house.alert("open", side="buy", quantity="100", trail="1%")
    follow(house, "192")
    number = house.broker.id_of("L1")
    house.desk.on_refusal(Refusal(number, 201, "Order rejected"))
    house.broker._report(number, Status.INACTIVE)
    house.pass_time(8)
    assert at(house, R1="192") and house.broker.sent[-1].kind is Kind.STOP


def test_one_that_the_owner_cancelled_stays_away(house: House) -> None:
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.broker.cancel_by_hand("L")
    house.pass_time(20)
    assert house.alarms() == ["unprotected"] and house.legs()[-1] == "L1"


STEPS = {"placed": {"deaf": True}, "taken": {"silent": True}, "in the way of the cancel": {"takes_cancels": False}}


@pytest.mark.parametrize("knobs", STEPS.values(), ids=STEPS.keys())
def test_after_a_restart_the_same_is_true(tmp_path: Path, knobs: dict[str, bool]) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal(190)
    house.broker.fill_entries = False
    house.connect().alert("open", side="buy", quantity="100", tp="200", trail="1%")
    for knob, value in knobs.items():
        setattr(house.broker, knob, value)
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("191"))
    for knob, value in knobs.items():
        setattr(house.broker, knob, not value)
    house = house.restart(path).connect()
    house.pass_time(20)
    assert at(house, T1="200", L1="189.09") and house.working() == {"T1": 100, "L1": 100} and house.alarms() == []
    assert trails(house, "L1").trail == Distance(Decimal(1), Unit.PERCENT)


def test_where_it_was_is_known_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal(190)
    house.connect().alert("open", side="buy", quantity="100", tp="200", trail="1%")
    follow(house, "192")
    house = house.restart(path).connect()
    house.alert("close", quantity="40")
    assert (trails(house, "L1").price, trails(house, "L1").quantity) == (192, 60)


def test_a_fill_of_the_fixed_stop_meanwhile_ends_the_trade(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", tp="200", trail="1%")
    house.broker.takes_cancels = False
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal(190))
    house.broker.hit("S")
    assert house.state == "closed" and house.broker.quantity[AAPL.con_id] == 0 and house.alarms() == []


def test_after_a_refused_trail_the_fixed_stop_goes_to_where_it_was_to_begin(house: House) -> None:
    house.broker.fill_entries = False
    house.broker.refuse["L"] = (328, "Trailing stop orders can be attached to limit or stop-limit orders only.")
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("191"))
    house.pass_time(15)
    assert at(house, S1="189.09") and house.legs() == ["E1", "S1", "L1", "S1"] and house.alarms() == ["exit not moved"]


def test_a_protect_from_the_fill_comes_before_the_trail(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", trail="2%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(40), Decimal("190"))
    loose, tight = house.alert("protect", sl="50%"), house.alert("protect", sl="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(60), Decimal("190"))
    house.pass_time(5)
    assert house.outcome(loose)[0] == "protected" and house.outcome(tight)[0] == "protected"  # the newest word counts
    assert at(house, L1="188.1") and house.legs() == ["E1", "S1", "S1", "L1"]
