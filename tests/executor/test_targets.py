"""Several targets: each with a stop of its size, which cancel each other; what no target takes runs under a stop of its own."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from common.signals import Envelope, alert_from, payload_text
from executor.core.policy import Policy
from executor.core.ports import Refusal, Status

from .fakes import AAPL, House

THIRDS = (("1.20", 30), ("1.21", 30), ("1.22", 15))


@pytest.fixture
def house() -> House:
    return House.build().connect()


def open_with(
    house: House, targets: Any = THIRDS, quantity: int = 100, side: str = "buy", sl: str | None = "1.18"
) -> str:
    fields: dict[str, Any] = {"action": "open", "symbol": "AAPL", "side": side, "quantity": str(quantity)}
    fields["targets"] = [{"tp": tp, "percent": str(percent)} for tp, percent in targets]
    alert = alert_from(fields | ({"sl": sl} if sl else {}))
    envelope = Envelope(f"O{len(house.trades())}", house.clock.now(), None, alert.signal)
    house.desk.receive([(envelope, payload_text(envelope))])
    house.clock.advance(0.01)
    return envelope.id


def held(house: House) -> Decimal:
    return house.broker.quantity.get(AAPL.con_id, Decimal(0))


def hit(house: House, leg: str, quantity: Decimal | None = None) -> None:
    """Fill one order by its leg and attempt; where it fills wholly, its pair is cancelled as the broker does."""
    order_id = house.broker.id_of(leg)
    ticket = house.broker.tickets[order_id]
    left = house.broker.orders[order_id].remaining or Decimal(0)
    house.broker.execute(order_id, quantity or left, ticket.price or Decimal(1))
    if quantity is None:
        for other in list(house.broker.tickets.values()):
            same = other.oca_group == ticket.oca_group != "" and other is not ticket
            if same and house.broker.orders[other.order_id].status.is_live:
                house.broker._report(other.order_id, Status.CANCELLED)


def stops(house: House) -> Decimal:
    return sum((left for leg, left in house.working().items() if leg[0] in "SR"), Decimal(0))


def test_each_target_has_a_stop_of_its_size_in_a_group_of_their_own(house: House) -> None:
    assert house.outcome(open_with(house))[0] == "entered"
    assert house.legs() == ["E1", "T1", "S1", "T2", "S2", "T3", "S3", "S4"]
    assert house.working() == {"T1": 30, "S1": 30, "T2": 30, "S2": 30, "T3": 15, "S3": 15, "S4": 25}
    groups = [t.oca_group for t in house.broker.sent[1:]]
    assert groups[0] == groups[1] != groups[2] == groups[3] != groups[4] == groups[5] and len(set(groups)) == 4
    parent = house.broker.sent[0]
    assert {t.parent_id for t in house.broker.sent[1:]} == {parent.order_id}
    assert [t.transmit for t in house.broker.sent] == [False] * 7 + [True]
    assert house.alarms() == [] and house.trades()[0]["tp_price"] == 1.2


def test_target_after_target_leaves_the_rest_protected(house: House) -> None:
    open_with(house)
    for leg, left, price in (("T1", 70, 1.21), ("T2", 40, 1.22), ("T3", 25, 1.22)):
        hit(house, leg)
        assert held(house) == left == stops(house) and house.alarms() == []
        assert house.trades()[0]["tp_price"] == price
    assert house.working() == {"S4": 25}
    hit(house, "S4")
    trade = house.trades()[0]
    assert (trade["closed"], trade["exit_reason"], trade["tp_hit"], trade["held"]) == (1, "stop-loss", 0, 0)


@pytest.mark.parametrize("quantity, sizes", [(7, [2, 3, 2]), (3, [1, 1, 1]), (100, [33, 34, 33])])
def test_targets_of_all_leave_nothing(house: House, quantity: int, sizes: list[int]) -> None:
    open_with(house, (("1.20", "33.4"), ("1.21", "33.3"), ("1.22", "33.3")), quantity)
    assert [t.quantity for t in house.broker.sent if t.order_ref[20] == "T"] == sizes
    assert house.legs()[-1] == "S3"
    for leg in ("T1", "T2", "T3"):
        hit(house, leg)
    trade = house.trades()[0]
    assert held(house) == 0 and (trade["closed"], trade["tp_hit"], trade["exit_reason"]) == (1, 1, "take-profit")


def test_all_stops_of_a_trade_end_it(house: House) -> None:
    open_with(house)
    for leg in ("S1", "S2", "S3", "S4"):
        hit(house, leg)
    assert held(house) == 0 and house.state == "closed" and house.working() == {} and house.alarms() == []


def test_targets_without_a_stop(house: House) -> None:
    open_with(house, sl=None)
    assert house.working() == {"T1": 30, "T2": 30, "T3": 15}
    for leg in ("T1", "T2", "T3"):
        hit(house, leg)
    assert held(house) == 25 and house.state == "open" and house.alarms() == []


def test_a_target_that_takes_less_than_can_be_traded_is_refused_with_the_numbers(house: House) -> None:
    outcome, reason = house.outcome(open_with(house, (("1.20", 60), ("1.21", 10)), 5))
    assert outcome == "refused" and "target 2 takes 10% of 5 AAPL, which is less than can be traded (1)" in (
        reason or ""
    )


def test_a_target_on_the_wrong_side_of_the_market_is_refused(house: House) -> None:
    outcome, reason = house.outcome(open_with(house, (("1.19", 50), ("1.21", 50))))
    assert outcome == "refused" and "take-profit 1.19 is on the wrong side" in (reason or "")


@pytest.mark.parametrize(
    "filled, parts", [(1, (0, 1, 0)), (9, (3, 2, 2)), (37, (11, 11, 6)), (99, (30, 29, 15)), (3, (1, 1, 0))]
)
def test_percentages_are_of_what_filled(house: House, filled: int, parts: tuple[int, ...]) -> None:
    house.broker.fill_entries = False
    open_with(house)
    house.broker.execute(house.broker.id_of("E1"), Decimal(filled), Decimal("1.19"))
    house.broker.cancel(house.broker.id_of("E1"))
    house.pass_time(15)
    wanted = {f"T{n}": part for n, part in enumerate(parts, 1) if part} | {
        f"S{n}": p for n, p in enumerate(parts, 1) if p
    }
    rest = filled - sum(parts)
    assert house.working() == wanted | ({"S4": rest} if rest else {})
    assert stops(house) == filled == held(house) and house.alarms() == []


def test_what_is_sold_by_hand_comes_out_of_the_last_pair_first(house: House) -> None:
    open_with(house)
    house.broker.by_hand(AAPL, Decimal(-45), Decimal("1.19"))
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(10)
    assert held(house) == 55 == stops(house)
    assert house.working() == {"T1": 30, "S1": 30, "T2": 25, "S2": 25} and house.alarms() == []


def test_a_close_of_a_part_leaves_the_first_targets(house: House) -> None:
    open_with(house)
    assert house.outcome(house.signal("close", "AAPL", percent="50"))[0] == "reduced"
    assert held(house) == 50 == stops(house) and house.working() == {"T1": 30, "S1": 30, "T2": 20, "S2": 20}
    hit(house, "T1")
    house.pass_time(3)
    assert held(house) == 20 and house.working() == {"T2": 20, "S2": 20} and house.alarms() == []


def test_a_target_that_fills_while_a_part_is_closed_comes_out_of_the_rest(house: House) -> None:
    open_with(house)
    house.broker.fill_entries = False
    house.signal("close", "AAPL", percent="50")
    hit(house, "T1")
    house.broker.execute(house.broker.id_of("X1"), Decimal(50), Decimal("1.19"))
    house.pass_time(5)
    assert held(house) == 20 == stops(house) and house.alarms() == []


def test_what_is_added_runs_under_the_last_stop() -> None:
    house = House.build(policy=Policy(scale_in=True)).connect()
    open_with(house)
    house.strategy("long 150", "long 100", symbol="AAPL")
    house.pass_time(3)
    assert held(house) == 150 == stops(house)
    assert (
        house.working() == {"T1": 30, "S1": 30, "T2": 30, "S2": 30, "T3": 15, "S3": 15, "S4": 75}
        and house.alarms() == []
    )


@pytest.mark.parametrize("lost, left", [("S1", 30), ("S3", 15), ("S4", 25)])
def test_the_stop_of_one_pair_that_is_lost_is_put_back_alone(house: House, lost: str, left: int) -> None:
    open_with(house)
    order_id = house.broker.id_of(lost)
    house.broker._tell("on_refusal", Refusal(order_id, 201, "lost"))
    house.broker._report(order_id, Status.INACTIVE)
    house.pass_time(8)
    assert house.working()["R1"] == left and stops(house) == 100 and house.alarms() == []
    again, first = (next(t for t in house.broker.sent if t.order_ref[20:] == leg) for leg in ("R1", lost))
    assert (again.oca_group, again.price) == (first.oca_group, first.price)


def test_a_close_and_a_reversal_take_all_pairs_away(house: House) -> None:
    open_with(house)
    hit(house, "T1")
    assert house.outcome(house.signal("open", "AAPL", "sell", "10"))[0] == "entered"
    assert held(house) == -10 and house.working() == {} and house.alarms() == []


def test_a_short_trade_has_its_targets_below(house: House) -> None:
    open_with(house, (("1.18", 50), ("1.17", 50)), side="sell", sl="1.20")
    hit(house, "T1")
    hit(house, "T2")
    assert held(house) == 0 and house.trades()[0]["tp_hit"] == 1


def test_pairs_are_the_same_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    open_with(house)
    hit(house, "T1")
    house = house.restart(path).connect()
    house.pass_time(5)
    assert held(house) == 70 == stops(house) and house.alarms() == []
    house.broker.by_hand(AAPL, Decimal(-25), Decimal("1.19"))
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(10)
    assert house.working() == {"T2": 30, "S2": 30, "T3": 15, "S3": 15} and house.alarms() == []


def test_a_bracket_that_never_arrived_is_sent_again_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.deaf = True
    open_with(house)
    first = [(t.order_ref, t.quantity, t.price) for t in house.broker.sent]
    house.broker.deaf = False
    house = house.restart(path).connect()
    house.pass_time(5)
    assert [(t.order_ref, t.quantity, t.price) for t in house.broker.sent] == first * 2
    assert held(house) == 100 == stops(house) and house.alarms() == []


def test_nothing_is_sold_while_an_exit_that_is_cancelled_for_it_may_still_fill(house: House) -> None:
    open_with(house)
    house.broker.takes_cancels = False
    house.signal("close", "AAPL", percent="50")
    assert "X1" not in house.legs()
    house.broker.takes_cancels = True
    house.pass_time(9)
    assert "X1" not in house.legs()
    house.pass_time(30)
    assert held(house) == 100 == stops(house) and house.alarms() == ["not reduced"]
    assert "TWS did not confirm" in str(house.journal.standing_alarms()[0]["text"]) and house.state == "open"


# --- what follows from the fill, and from the first target ------------------------------------------


def open_far(house: House, **more: Any) -> None:
    fields = {"action": "open", "symbol": "AAPL", "side": "buy", "quantity": "100", "sl": "1%"} | more
    alert = alert_from(fields)
    envelope = Envelope("FAR", house.clock.now(), None, alert.signal)
    house.desk.receive([(envelope, payload_text(envelope))])
    house.clock.advance(0.01)


def prices(house: House) -> dict[str, Decimal | None]:
    return {r.order_ref[20:]: r.price for r in house.broker.orders.values() if r.order_ref and r.status.is_live}


def test_targets_at_a_distance_follow_from_the_fill(house: House) -> None:
    house.broker.market = Decimal("100")
    house.broker.fill_entries = False
    open_far(house, targets=[{"tp": "1%", "percent": "50"}, {"tp": "2 points", "percent": "50"}])
    assert prices(house) == {"E1": None, "T1": 101, "S1": 99, "T2": 102, "S2": 99}
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("110"))
    assert prices(house) == {"T1": Decimal("111.1"), "S1": Decimal("108.9"), "T2": 112, "S2": Decimal("108.9")}
    assert house.alarms() == []


@pytest.mark.parametrize("restarted", [False, True])
def test_the_first_target_moves_every_stop_to_the_entry(tmp_path: Path, restarted: bool) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.broker.market = Decimal("100")
    targets = [{"tp": "101", "percent": "30"}, {"tp": "102", "percent": "30"}]
    open_far(house, targets=targets, sl="99", breakeven_after_target=True)
    hit(house, "T1", Decimal(10))
    assert set(prices(house).values()) >= {Decimal(99)}  # not by a part of it
    house = house.restart(path).connect() if restarted else house
    hit(house, "T1", Decimal(20))
    house.broker.cancel(house.broker.id_of("S1"))
    house.pass_time(3)
    assert prices(house) == {"T2": 102, "S2": 100, "S3": 100} and stops(house) == 70 and house.alarms() == []
    assert house.trades()[0]["sl_price"] == 100
    hit(house, "T2")
    assert prices(house) == {"S3": 100}


def test_a_stop_beyond_the_entry_is_not_moved_back_to_it(house: House) -> None:
    house.broker.market = Decimal("100")
    open_far(house, targets=[{"tp": "105", "percent": "30"}], sl="99", breakeven_after_target=True)
    protect(house, sl="102")
    hit(house, "T1")
    house.pass_time(3)
    assert prices(house) == {"S2": 102} and house.alarms() == []


def protect(house: House, **fields: Any) -> tuple[str | None, str | None]:
    alert = alert_from({"action": "protect", "symbol": "AAPL", **fields})
    envelope = Envelope(f"P{house.clock.now()}", house.clock.now(), None, alert.signal)
    house.desk.receive([(envelope, payload_text(envelope))])
    house.clock.advance(0.01)
    return house.outcome(envelope.id)


def test_protect_moves_the_stops_of_all_pairs(house: House) -> None:
    open_with(house)
    assert protect(house, sl="1.19")[0] == "protected"
    assert {leg: price for leg, price in prices(house).items() if leg[0] == "S"} == dict.fromkeys(
        ("S1", "S2", "S3", "S4"), Decimal("1.19")
    )


def test_protect_gives_each_target_and_the_rest_the_stop_that_they_lack(house: House) -> None:
    open_with(house, sl=None)
    assert protect(house, sl="1.18")[0] == "protected"
    house.pass_time(3)
    assert house.working() == {"T1": 30, "R2": 30, "T2": 30, "R3": 30, "T3": 15, "R4": 15, "R1": 25}
    assert stops(house) == 100 and house.alarms() == []
    groups = {t.order_ref[20:]: t.oca_group for t in house.broker.sent}
    assert groups["R2"] == groups["T1"] and groups["R4"] == groups["T3"] and groups["R1"] not in (groups["T1"], "")
