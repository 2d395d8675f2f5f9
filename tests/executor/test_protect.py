"""The exits of an open trade are moved, or added, to where a signal wants them; the newest committed word counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.aims import at_entry
from executor.core.ports import Refusal, Status

from .fakes import AAPL, House
from .test_market_hours import CLOSED_NOW, open_market, tell

LONG, SHORT = {"tp": "200", "sl": "180"}, {"tp": "180", "sl": "200"}


@pytest.fixture
def house() -> House:
    house = House.build()
    house.broker.market = Decimal("190.004")
    return house.connect()


def enter(house: House, side: str = "buy", **exits: str) -> None:
    house.alert("open", side=side, quantity="100", **(exits or (LONG if side == "buy" else SHORT)))


def prices(house: House) -> dict[str, Decimal | None]:
    """What is live at the broker: leg → price."""
    live = (r for r in house.broker.orders.values() if r.status.is_live)
    return {r.order_ref[20:]: r.price for r in live if r.order_ref}


def at(house: House, **legs: str) -> bool:
    return prices(house) == {leg: Decimal(price) for leg, price in legs.items()}


def sent(house: House, leg: str) -> list[Decimal | None]:
    return [t.price for t in house.broker.sent if t.order_ref[20:] == leg]


def by_hand(house: House, leg: str, price: str) -> None:
    """The owner moves an exit in TWS."""
    number = house.broker.id_of(leg)
    house.broker.orders[number] = replace(house.broker.orders[number], price=Decimal(price))
    house.broker.tickets[number] = replace(house.broker.tickets[number], price=Decimal(price))
    house.desk.on_order(house.broker.orders[number])


def events(house: House, kind: str) -> list[str]:
    return [r["details"] for r in house.journal._rows("SELECT details FROM events WHERE kind = ? ORDER BY id", kind)]


# --- what is asked for ------------------------------------------------------------------------------

MOVES = [
    # what                                      side    asked for                        stop       target    in the reason
    ("a stop to a price", "buy", {"sl": "185"}, "185", "200", "stop-loss from 180 to 185"),
    ("a target to a price", "buy", {"tp": "210"}, "180", "210", "take-profit from 200 to 210"),
    ("both", "buy", {"sl": "185", "tp": "195"}, "185", "195", "180 to 185; take-profit"),
    ("a stop below a short", "sell", {"sl": "195"}, "195", "180", "stop-loss from 200 to 195"),
    ("a price between ticks, to the tick", "buy", {"sl": "185.001"}, "185.01", "200", "185.01 (185.001 to the tick)"),
    ("a percent of the entry", "buy", {"sl": "2%"}, "186.21", "200", "186.21 (2% from the entry at 190.004)"),
    ("ticks from the entry", "sell", {"sl": "50 ticks"}, "190.5", "180", "190.5 (50 ticks from the entry at 190.004)"),
    ("points to the winning side for a target", "sell", {"tp": "2.5 points"}, "200", "187.51", "187.51 (2.5 points"),
    ("the entry price, where it loses nothing", "buy", {"sl": "entry"}, "190.01", "200", "190.01 (the entry at 190.004)"),
    ("the entry price of a short", "sell", {"sl": "entry"}, "190", "180", "190 (the entry at 190.004)"),
    ("a target at the entry loses nothing", "buy", {"tp": "entry"}, "180", "190.01", "190.01 (the entry at 190.004)"),
    ("a stop away from the market, if told so", "buy", {"sl": "175", "loosen": True}, "175", "200", "from 180 to 175"),
    ("a stop beyond the market", "buy", {"sl": "191"}, "191", "200", "the market is at 190.004, so it triggers at once"),
    ("a target beyond the market", "sell", {"tp": "191"}, "200", "191", "so it fills at once"),
    ("a target, though the stop must stay", "buy", {"sl": "170", "tp": "201"}, "180", "201", "the stop-loss stays at 180"),
]  # fmt: skip


@pytest.mark.parametrize("side, asked, stop, target, words", [row[1:] for row in MOVES], ids=[row[0] for row in MOVES])
def test_protect_moves_the_exits(
    house: House, side: str, asked: dict[str, object], stop: str, target: str, words: str
) -> None:
    enter(house, side)
    outcome, reason = house.outcome(house.alert("protect", **asked))
    assert outcome == "protected" and words in (reason or ""), reason
    assert at(house, T1=target, S1=stop) and house.alarms() == []
    trade = house.trades()[0]
    assert (trade["sl_price"], trade["tp_price"]) == (float(stop), float(target)) and trade["held"] == 100
    house.pass_time(30)
    assert len(house.broker.sent) == 3 + sum(1 for leg in ("S1", "T1") if len(sent(house, leg)) == 2)


STAYS = [
    ("away from the market", {"sl": "170"}, "ignored", 'stays at 180: 170 would move it away from the market ("loosen": true'),
    ("where it is", {"sl": "180"}, "nothing to do", "the stop-loss is at 180 already"),
    ("where both are", {"sl": "180", "tp": "200"}, "nothing to do", "the take-profit is at 200 already"),
    ("below zero", {"sl": "100%", "loosen": True}, "refused", "is 0, not above zero"),
]  # fmt: skip


@pytest.mark.parametrize("asked, outcome, words", [row[1:] for row in STAYS], ids=[row[0] for row in STAYS])
def test_what_may_not_move_stays_and_is_said(house: House, asked: dict[str, object], outcome: str, words: str) -> None:
    enter(house)
    found, reason = house.outcome(house.alert("protect", **asked))
    assert found == outcome and words in (reason or ""), reason
    assert house.legs() == ["E1", "T1", "S1"] and at(house, T1="200", S1="180")


def test_without_a_trade_there_is_nothing_to_protect(house: House) -> None:
    assert house.outcome(house.alert("protect", sl="180")) == ("nothing to do", "no trade is open in AAPL")


def test_a_trade_that_came_later_is_not_touched(house: House) -> None:
    enter(house)
    house.clock.advance(-60)
    outcome, reason = house.outcome(house.alert("protect", sl="185"))
    assert outcome == "ignored" and "opened by a later signal" in (reason or "") and at(house, T1="200", S1="180")


def test_the_newest_protect_counts_whatever_comes_last(house: House) -> None:
    enter(house)
    house.clock.advance(60)
    house.alert("protect", sl="185")
    house.clock.advance(-30)
    outcome, reason = house.outcome(house.alert("protect", sl="186"))
    assert outcome == "ignored" and "a later signal has moved the exits" in (reason or "")
    assert at(house, T1="200", S1="185")


@pytest.mark.parametrize("newest, outcome", [({"sl": "180"}, "nothing to do"), ({"sl": "170"}, "ignored")])
def test_a_protect_that_changes_nothing_is_the_newest_word_too(
    house: House, newest: dict[str, str], outcome: str
) -> None:
    enter(house)
    house.clock.advance(60)
    assert house.outcome(house.alert("protect", **newest))[0] == outcome
    house.clock.advance(-30)
    assert house.outcome(house.alert("protect", sl="186"))[0] == "ignored" and at(house, T1="200", S1="180")


def test_a_wish_that_goes_out_with_a_resent_bracket_is_taken_back_by_the_next(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal("190")
    house.connect().broker.fill_entries = False
    house.broker.deaf = True
    house.strategy("long 100", "flat", symbol="AAPL", **LONG)
    house.strategy("long 100", "long 100", symbol="AAPL", tp="210")
    house.broker.deaf, house.broker.silent = False, True
    house = house.restart(path).connect()
    house.pass_time(3, look=False)
    assert sent(house, "T1") == [200, 210]
    house.strategy("long 100", "long 100", symbol="AAPL", tp="200")
    house.broker.silent = False
    house.desk.reconciled(house.broker.snapshot())
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal(190))
    house.pass_time(15)
    assert at(house, T1="200", S1="180") and house.alarms() == []


def test_the_newest_protect_is_known_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal("190")
    enter(house.connect())
    house.clock.advance(60)
    house.alert("protect", sl="185")
    house = house.restart(path).connect()
    house.clock.advance(-30)
    assert house.outcome(house.alert("protect", sl="186"))[0] == "ignored"


def test_a_trade_that_is_being_closed_is_not_protected(house: House) -> None:
    enter(house)
    house.broker.takes_cancels = False
    house.alert("close")
    assert house.outcome(house.alert("protect", sl="185"))[0] == "nothing to do" and sent(house, "S1") == [180]


def test_exits_that_wait_for_a_close_at_the_open_may_be_moved() -> None:
    house = House.build()
    house.broker.market = Decimal(190)
    tell(house.connect(), CLOSED_NOW)
    enter(house)
    house.alert("close")
    assert house.outcome(house.alert("protect", sl="185"))[0] == "protected"
    assert at(house, T1="200", S1="185") and house.alarms() == ["close waits"]
    open_market(house)
    assert house.state == "closed"


# --- missing exits ----------------------------------------------------------------------------------


def test_a_trade_that_never_had_exits_gets_them(house: House) -> None:
    house.alert("open", side="buy", quantity="100")
    outcome, reason = house.outcome(house.alert("protect", sl="185", tp="195"))
    assert outcome == "protected" and "stop-loss at 185, where there was none" in (reason or "")
    assert at(house, R1="185", T1="195") and house.working() == {"R1": 100, "T1": 100}
    assert house.trades()[0]["stop_wanted"] == 1
    groups = {t.oca_group for t in house.broker.sent if t.order_ref[20] in "RT"}
    assert len(groups) == 1 and groups != {""} and house.alarms() == []
    house.broker.hit("R")
    assert house.state == "closed" and house.trades()[0]["exit_reason"] == "stop-loss"


def test_a_stop_that_the_owner_cancelled_comes_back_when_a_signal_asks_for_it(house: House) -> None:
    enter(house)
    house.broker.cancel_by_hand("S")
    house.pass_time(15)
    assert house.alarms() == ["unprotected"]
    house.alert("protect", sl="182")
    assert at(house, T1="200", R1="182") and house.alarms() == []


def test_one_that_was_added_and_is_lost_is_put_back_once(house: House) -> None:
    house.alert("open", side="buy", quantity="100")
    house.alert("protect", sl="185")
    for lost, alarms in (("R1", []), ("R2", ["unprotected"])):
        number = house.broker.id_of(lost)
        house.desk.on_refusal(Refusal(number, 201, "Order rejected"))
        house.broker._report(number, Status.INACTIVE)
        house.pass_time(8)
        house.pass_time(4)
        assert set(alarms) <= set(house.alarms())
    assert house.legs() == ["E1", "R1", "R2"]


def test_a_target_that_the_owner_cancelled_is_added_under_its_next_name(house: House) -> None:
    enter(house)
    house.broker.cancel_by_hand("T")
    house.alert("protect", tp="205")
    assert at(house, S1="180", T2="205")
    stop, target = (next(t for t in house.broker.sent if t.order_ref[20:] == leg) for leg in ("S1", "T2"))
    assert stop.oca_group == target.oca_group and target.parent_id == 0 and house.alarms() == []
    house.broker.hit("T")
    assert house.state == "closed" and house.trades()[0]["tp_hit"] == 1


def test_a_target_takes_the_group_that_the_broker_gave_the_stop(house: House) -> None:
    enter(house, sl="180")
    number = house.broker.id_of("S1")
    house.broker.orders[number] = replace(house.broker.orders[number], oca_group="1877", oca_type=3)
    house.desk.on_order(house.broker.orders[number])
    house.alert("protect", tp="205")
    added = house.broker.sent[-1]
    assert (added.order_ref[20:], added.oca_group, added.oca_type) == ("T1", "1877", 3)


def test_an_exit_that_tws_does_not_take_is_said(house: House) -> None:
    enter(house, sl="180")
    house.broker.refuse["T"] = (201, "Order rejected - reason: price out of range")
    outcome, reason = house.outcome(house.alert("protect", tp="2000"))
    assert outcome == "refused" and "no take-profit at 2000 could be added: Order rejected" in (reason or "")
    assert "exit not moved" in house.alarms() and at(house, S1="180")


def test_a_target_that_is_not_taken_since_the_stop_beside_it_has_closed_the_trade_is_no_alarm(house: House) -> None:
    house.alert("open", side="buy", quantity="100")
    house.broker.silent = True
    signal = house.alert("protect", sl="191", tp="195")
    house.broker.silent = False
    house.broker.hit("R", siblings=False)
    number = house.broker.id_of("T1")
    house.desk.on_refusal(Refusal(number, 201, "Order rejected - reason:OCA group is already filled"))
    house.broker._report(number, Status.INACTIVE)
    assert house.state == "closed" and house.alarms() == [] and house.outcome(signal)[0] == "protected"


def test_an_added_target_that_never_arrived_is_sent_again(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal("190")
    enter(house.connect(), sl="180")
    house.broker.deaf = True
    house.alert("protect", tp="205")
    house.broker.deaf = False
    house.clock.advance(200)  # beyond the entry's own time
    house = house.restart(path).connect()
    house.pass_time(15)
    assert sent(house, "T1") == [205, 205] and at(house, S1="180", T1="205") and house.alarms() == []


def test_a_tenth_target_is_refused_in_words(house: House) -> None:
    enter(house, sl="180")
    for number in range(1, 10):
        assert house.outcome(house.alert("protect", tp=str(200 + number)))[0] == "protected"
        live = house.broker.id_of(f"T{number}")
        house.broker._report(live, Status.CANCELLED)
    outcome, reason = house.outcome(house.alert("protect", tp="220"))
    assert outcome == "refused" and "sent nine times" in (reason or "") and at(house, S1="180")


# --- refused, unanswered, crossed -------------------------------------------------------------------


@pytest.mark.parametrize("code", [201, 110, 105, 321])
def test_a_refused_change_leaves_the_exit_where_it_is_and_says_so(house: House, code: int) -> None:
    enter(house)
    house.broker.refuse_changes["S"] = (code, "The price is out of range")
    signal = house.alert("protect", sl="185", tp="195")
    outcome, reason = house.outcome(signal)
    assert outcome == "refused" and "to 185, but it stays at 180: The price is out of range" in (reason or "")
    assert at(house, T1="195", S1="180") and house.alarms() == ["exit not moved"]
    house.pass_time(60)
    assert sent(house, "S1") == [180, 185] and house.state == "open"
    del house.broker.refuse_changes["S"]
    assert house.outcome(house.alert("protect", sl="185"))[0] == "protected" and at(house, T1="195", S1="185")


def test_a_change_that_is_not_answered_is_sent_again_and_told(house: House) -> None:
    enter(house)
    house.broker.deaf = True
    signal = house.alert("protect", sl="185")
    house.pass_time(8)
    assert sent(house, "S1") == [180, 185] and house.alarms() == []
    house.pass_time(4)
    assert sent(house, "S1") == [180, 185, 185] and house.alarms() == ["exit not moved"]
    (alarm,) = house.journal.standing_alarms()
    assert "TWS has not confirmed the move of the stop-loss to 185 (it is at 180)" in str(alarm["text"])
    house.broker.deaf = False
    house.pass_time(12)
    assert at(house, T1="200", S1="185") and house.alarms() == [] and house.outcome(signal)[0] == "protected"


def test_a_newer_wish_goes_out_at_once_beside_one_that_is_unanswered(house: House) -> None:
    enter(house)
    house.broker.silent = True
    for price in ("185", "186", "185.5"):
        house.alert("protect", sl=price)
    assert sent(house, "S1") == [180, 185, 186]  # 185.5 would move it away from the market
    assert house.outcome("S3")[0] == "ignored"
    house.broker.silent = False
    number = house.broker.id_of("S1")
    for price in ("185", "186"):  # TWS answers both, in their order
        house.desk.on_order(replace(house.broker.orders[number], price=Decimal(price)))
    house.pass_time(30)
    assert at(house, T1="200", S1="186") and len(sent(house, "S1")) == 3 and house.alarms() == []
    assert events(house, "moved") == ["stop-loss from 180 to 185, as asked", "stop-loss from 185 to 186, as asked"]


def test_an_answer_to_an_older_change_is_no_move_by_hand(house: House) -> None:
    enter(house)
    house.broker.silent = True
    house.alert("protect", sl="185")
    house.broker.silent, house.broker.deaf = False, True
    house.alert("protect", sl="186")  # lost on its way
    number = house.broker.id_of("S1")
    house.desk.on_order(replace(house.broker.orders[number], price=Decimal("185")))
    house.broker.deaf = False
    house.pass_time(12)
    assert at(house, T1="200", S1="186") and not any("by hand" in each for each in events(house, "moved"))


def test_a_change_for_which_tws_was_not_ready_follows_the_answer_to_the_last(house: House) -> None:
    enter(house)
    house.broker.silent = True
    house.alert("protect", sl="185")
    house.broker.silent = False
    house.broker.refuse_changes["S"] = (2102, "Unable to modify this order as it is still being processed.")
    signal = house.alert("protect", sl="186")
    del house.broker.refuse_changes["S"]
    house.desk.on_order(house.broker.orders[house.broker.id_of("S1")])  # 185 is confirmed
    assert sent(house, "S1") == [180, 185, 186, 186] and at(house, T1="200", S1="186")
    assert house.outcome(signal)[0] == "protected" and house.alarms() == []
    assert house.desk.book.trade(1).stop.reason is None  # type: ignore[union-attr]


def test_back_to_where_it_was_is_sent_while_a_change_is_under_way(house: House) -> None:
    enter(house)
    house.broker.silent = True
    house.alert("protect", tp="210")
    house.alert("protect", tp="200")
    assert sent(house, "T1") == [200, 210, 200]
    house.broker.silent = False
    number = house.broker.id_of("T1")
    for price in ("210", "200"):
        house.desk.on_order(replace(house.broker.orders[number], price=Decimal(price)))
    house.pass_time(30)
    assert at(house, T1="200", S1="180") and len(sent(house, "T1")) == 3 and house.alarms() == []


def test_a_fill_that_crosses_the_change_ends_the_trade_and_the_wish(house: House) -> None:
    enter(house)
    house.broker.deaf = True
    signal = house.alert("protect", sl="185")
    house.broker.deaf = False
    house.broker.hit("S")
    assert house.state == "closed" and house.alarms() == []
    assert house.outcome(signal) == ("nothing to do", "the trade in AAPL was over before its exits were moved")
    house.desk.on_refusal(Refusal(house.broker.id_of("S1"), 104, "Cannot modify a filled order."))
    assert house.state == "closed" and house.alarms() == []


def test_a_part_that_fills_meanwhile_does_not_lose_the_wish(house: House) -> None:
    enter(house)
    house.broker.deaf = True
    house.alert("protect", sl="185")
    house.broker.deaf = False
    house.broker.hit("S", Decimal(30))
    house.pass_time(15)
    assert house.working() == {"T1": 70, "S1": 70} and at(house, T1="200", S1="185") and house.alarms() == []


def test_the_owner_s_own_move_counts_where_tws_has_not_confirmed_ours(house: House) -> None:
    enter(house)
    house.broker.deaf = True
    house.alert("protect", sl="185")
    house.broker.deaf = False
    by_hand(house, "S1", "187")
    house.pass_time(30)
    assert at(house, T1="200", S1="187") and len(sent(house, "S1")) == 2 and house.alarms() == []
    assert events(house, "moved") == [
        "stop-loss from 180 to 187, by hand in TWS; the move to 185, which TWS had not confirmed, is dropped"
    ]


def test_a_stop_that_the_owner_moved_is_not_moved_away_from_the_market(house: House) -> None:
    enter(house)
    by_hand(house, "S1", "187")
    assert house.outcome(house.alert("protect", sl="185"))[0] == "ignored" and at(house, T1="200", S1="187")


def test_a_stop_that_is_lost_with_a_wish_comes_back_where_it_was_wanted(house: House) -> None:
    enter(house)
    house.broker.deaf = True
    signal = house.alert("protect", sl="185")
    house.broker.deaf = False
    number = house.broker.id_of("S1")
    house.desk.on_refusal(Refusal(number, 201, "Order rejected"))
    house.broker._report(number, Status.INACTIVE)
    house.pass_time(10)
    assert at(house, T1="200", R1="180") and house.outcome(signal)[0] == "refused"
    house.broker.deaf = True
    house.alert("protect", sl="186")
    house.broker.deaf = False
    house.broker.takes_cancels = True
    house.broker._report(house.broker.id_of("R1"), Status.INACTIVE)
    house.pass_time(12)
    assert at(house, T1="200") or at(house, T1="200", R2="186")


# --- the entry is still filling ---------------------------------------------------------------------


def half_filled(house: House, **exits: str) -> int:
    house.broker.fill_entries = False
    enter(house, **exits)
    entry = house.broker.id_of("E1")
    house.broker.execute(entry, Decimal(40), Decimal("190"))
    return entry


@pytest.mark.parametrize("asked, stop", [("185", "185"), ("2%", "188.16"), ("entry", "192")])
def test_while_the_entry_fills_the_wish_waits_and_is_kept(tmp_path: Path, asked: str, stop: str) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal("190")
    entry = half_filled(house.connect())
    signal = house.alert("protect", sl=asked)
    outcome, reason = house.outcome(signal)
    assert outcome == "protected" and sent(house, "S1") == [180], reason
    house = house.restart(path).connect()
    house.pass_time(5)
    assert sent(house, "S1") == [180]
    house.broker.execute(entry, Decimal(60), Decimal("193.33333333"))
    house.pass_time(5)
    assert at(house, T1="200", S1=stop) and house.alarms() == [] and house.outcome(signal)[0] == "protected"


def test_a_stop_from_the_fill_that_would_move_away_stays_and_is_said(house: House) -> None:
    entry = half_filled(house)
    signal = house.alert("protect", sl="50%")
    house.broker.execute(entry, Decimal(60), Decimal("190"))
    house.pass_time(3)
    outcome, reason = house.outcome(signal)
    assert outcome == "ignored" and "95 (50% from the entry at 190) would move it away" in (reason or "")
    assert at(house, T1="200", S1="180")


def test_a_newer_price_takes_the_place_of_one_that_waits_for_the_fill(house: House) -> None:
    entry = half_filled(house)
    house.alert("protect", sl="1%")
    house.alert("protect", sl="182")
    house.broker.execute(entry, Decimal(60), Decimal("190"))
    house.pass_time(3)
    assert at(house, T1="200", S1="182")


def test_a_stop_that_the_owner_moves_meanwhile_stays_where_he_put_it(house: House) -> None:
    entry = half_filled(house)
    signal = house.alert("protect", sl="185")
    by_hand(house, "S1", "183")
    house.broker.execute(entry, Decimal(60), Decimal("190"))
    house.pass_time(3)
    assert at(house, T1="200", S1="183")
    assert house.outcome(signal) == ("ignored", "AAPL: you moved the stop-loss to 183 by hand in TWS, and that counts")


def test_a_stop_is_added_when_the_entry_has_filled(house: House) -> None:
    entry = half_filled(house, tp="200")
    house.alert("protect", sl="185")
    assert house.legs() == ["E1", "T1"]
    house.broker.execute(entry, Decimal(60), Decimal("190"))
    house.pass_time(3)
    assert at(house, T1="200", R1="185") and house.working()["R1"] == 100 and house.alarms() == []


def test_an_entry_that_never_fills_leaves_nothing_to_protect(house: House) -> None:
    house.broker.fill_entries = False
    enter(house)
    signal = house.alert("protect", sl="185")
    house.pass_time(100)
    assert house.state == "void" and house.outcome(signal)[0] == "nothing to do"


# --- a hold, a restart, a reduction, a strategy -----------------------------------------------------


@pytest.mark.parametrize(
    "asked, found", [({"sl": "185"}, {"T1": "200", "S1": "185"}), ({"tp": "195"}, {"T1": "195", "S1": "180"})]
)
def test_on_hold_exits_may_be_moved(house: House, asked: dict[str, str], found: dict[str, str]) -> None:
    enter(house)
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    assert house.outcome(house.alert("protect", **asked))[0] == "protected"
    assert at(house, **found) and house.state == "hold"


def test_on_hold_a_missing_stop_may_be_added(house: House) -> None:
    house.alert("open", side="buy", quantity="100")
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    house.alert("protect", sl="185")
    assert at(house, R1="185")


def test_on_hold_nothing_is_moved_on_a_position_that_is_not_there(house: House) -> None:
    enter(house)
    house.broker.by_hand(AAPL, Decimal(-60), Decimal(190))
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    outcome, reason = house.outcome(house.alert("protect", sl="185"))
    assert outcome == "refused" and "does not show the 100 that it holds: resolve it on the page" in (reason or "")


STEPS = {"decided": {"deaf": True}, "sent": {"silent": True}, "refused as it was sent": {"gone": True}}


@pytest.mark.parametrize("knobs", STEPS.values(), ids=STEPS.keys())
def test_after_a_restart_the_same_is_true(tmp_path: Path, knobs: dict[str, bool]) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal("190")
    enter(house.connect())
    for knob, value in knobs.items():
        setattr(house.broker, knob, value)
    signal = house.alert("protect", sl="185", tp="205")
    for knob in knobs:
        setattr(house.broker, knob, False)
    house = house.restart(path).connect()
    house.pass_time(15)
    assert at(house, T1="205", S1="185") and house.outcome(signal)[0] == "protected" and house.alarms() == []
    assert not any("by hand" in each for each in events(house, "moved"))


def test_a_stop_that_is_added_survives_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal("190")
    house.connect().alert("open", side="buy", quantity="100")
    house.broker.deaf = True
    house.alert("protect", sl="185")
    house.broker.deaf = False
    house = house.restart(path).connect()
    house.pass_time(15)
    assert sent(house, "R1") == [185, 185] and at(house, R1="185") and house.alarms() == []


def test_a_reduction_and_a_move_at_once_end_with_both(house: House) -> None:
    enter(house)
    house.broker.silent = True
    house.alert("close", quantity="60")
    house.alert("protect", sl="185")
    house.broker.silent = False
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(15)
    assert house.broker.quantity[AAPL.con_id] == 40 and house.working() == {"T1": 40, "S1": 40}
    assert at(house, T1="200", S1="185") and house.alarms() == []


def test_a_strategy_of_the_same_size_moves_the_exits(house: House) -> None:
    house.strategy("long 100", "flat", symbol="AAPL", **LONG)
    outcome, reason = house.outcome(house.strategy("long 100", "long 100", symbol="AAPL", tp="205", sl="185"))
    assert outcome == "protected" and "stop-loss from 180 to 185" in (reason or "") and at(house, T1="205", S1="185")
    assert (
        house.outcome(house.strategy("long 100", "long 100", symbol="AAPL", tp="205", sl="185"))[0] == "nothing to do"
    )
    outcome, reason = house.outcome(house.strategy("long 100", "long 100", symbol="AAPL", tp="205", sl="170"))
    assert outcome == "nothing to do" and "would move it away from the market" in (reason or "")
    assert house.alarms() == [] and at(house, T1="205", S1="185")


def test_the_same_side_again_with_other_exits_says_what_moves_them(house: House) -> None:
    enter(house)
    outcome, reason = house.outcome(house.alert("open", side="buy", quantity="100", tp="205", sl="185"))
    assert outcome == "ignored" and "its exits stay where they are: action protect moves them" in (reason or "")
    assert at(house, T1="200", S1="180")


def test_the_stop_goes_to_the_entry_by_one_function_and_never_back(house: House) -> None:
    enter(house)
    trade, move = at_entry(house.desk.book.trade(1), AAPL)
    assert move.is_due and trade.order(trade.stop.order_ref).wish == Decimal("190.01")  # type: ignore[union-attr]
    house.alert("protect", sl="191")
    again, move = at_entry(house.desk.book.trade(1), AAPL)
    assert not move.is_due and again == house.desk.book.trade(1)


def test_the_market_may_be_closed_for_a_move(house: House) -> None:
    tell(house, CLOSED_NOW)
    enter(house)
    house.clock.advance(timedelta(hours=3).total_seconds())
    house.connect()
    assert house.outcome(house.alert("protect", sl="185"))[0] == "protected" and at(house, T1="200", S1="185")
