"""A strategy holds something else than this account: the owner follows at market, or leaves it, on the page."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from common.signals import Action, PrevPosition, Side, Signal
from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.follow import entered
from executor.core.policy import Policy

from .books import check_at_rest, check_restart
from .fakes import AAPL, EURUSD, House

FOLLOW, LEAVE = (Command(kind, symbol="AAPL") for kind in (CommandKind.FOLLOW, CommandKind.LEAVE))
EXITS = {"tp": "1.20", "sl": "1.18"}


@pytest.fixture
def house() -> House:
    return House.build().connect()


def held(house: House) -> Decimal:
    return house.broker.quantity.get(AAPL.con_id, Decimal(0))


def refusal(house: House, command: Command = FOLLOW) -> str:
    """Press a button that is refused: nothing is changed by that, and nothing sent."""
    inbox, sent = len(house.journal._rows("SELECT 1 FROM inbox")), len(house.broker.sent)
    with pytest.raises(CommandRefused) as refused:
        house.command(command)
    assert len(house.journal._rows("SELECT 1 FROM inbox")) == inbox and len(house.broker.sent) == sent
    check_restart(house.desk)
    return refused.value.message


def grown(house: House, **exits: str) -> None:
    """The strategy has 150 and the account 100, which is not followed."""
    house.strategy("long 100", "flat", symbol="AAPL", **(exits or EXITS))
    house.strategy("long 150", "long 100", symbol="AAPL")
    assert house.alarms() == ["size differs"] and held(house) == 100


def gone(house: House, **exits: str) -> None:
    """The strategy has 20 of a position that was stopped out here; its alert had these exits when it grew last."""
    house.strategy("long 40", "flat", symbol="AAPL", **EXITS)
    house.broker.hit("S")
    house.strategy("long 50", "long 40", symbol="AAPL", **exits)
    house.strategy("long 20", "long 50", symbol="AAPL")
    assert house.alarms() == ["strategy differs"] and held(house) == 0


def owner_lines(house: House) -> list[str]:
    return [row["details"] for row in house.journal._rows("SELECT details FROM events WHERE kind = 'owner'")]


# ---- a trade on the strategy's side ----


def test_following_a_larger_strategy_adds_what_is_missing_with_its_own_stop(house: House) -> None:
    grown(house)
    text = house.command(FOLLOW)
    assert "following the strategy from 100 to 150, at market" in text and owner_lines(house) == [text]
    sent = [(t.order_ref[20:], t.quantity, t.price) for t in house.broker.sent if t.order_ref[20] in "AK"]
    assert sent == [("A1", 50, None), ("K1", 50, Decimal("1.18"))]
    house.pass_time(3)
    assert held(house) == 150 and house.working() == {"T1": 150, "S1": 150} and house.alarms() == []
    check_restart(house.desk)
    check_at_rest(house.desk)


def test_following_a_smaller_strategy_takes_the_rest_out(house: House) -> None:
    house.broker.refuse["X"] = (201, "Order rejected")
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    house.strategy("long 40", "long 100", symbol="AAPL")
    house.pass_time(12)
    assert held(house) == 100 and set(house.alarms()) == {"not reduced", "size differs"}
    house.broker.refuse.clear()
    house.command(FOLLOW)
    house.pass_time(3)
    assert held(house) == 40 and house.working() == {"T1": 40, "S1": 40} and "size differs" not in house.alarms()


def test_what_is_followed_is_journaled_as_a_signal_of_its_own(house: House) -> None:
    grown(house)
    house.command(FOLLOW)
    (row,) = house.journal._rows("SELECT * FROM inbox WHERE signal_id LIKE 'page-%'")
    assert (row["outcome"], row["symbol"], row["quantity"]) == ("added", "AAPL", "150")
    assert row["reason"] == "the strategy is now long 150 AAPL; 100 were held: 50 more"
    orders = house.journal._rows("SELECT leg FROM orders WHERE signal_id = ?", row["signal_id"])
    assert sorted(order["leg"] for order in orders) == ["A", "K"]


def test_a_second_press_adds_nothing_twice(house: House) -> None:
    grown(house)
    house.broker.fill_entries = False
    house.command(FOLLOW)
    house.clock.advance(1)
    assert "still under way. Press again in a few seconds" in refusal(house)
    house.broker.execute(house.broker.id_of("A1"), Decimal(50), Decimal("1.19"))
    house.pass_time(3)
    assert "no strategy is known to hold anything else in AAPL" in refusal(house)
    assert held(house) == 150


def test_the_strategy_s_next_alert_follows_from_its_last(house: House) -> None:
    """What the owner asked for is no alert of the strategy: its chain has no gap."""
    grown(house)
    chains = [dict(row) for row in house.journal._rows("SELECT * FROM chains")]
    house.command(FOLLOW)
    assert [dict(row) for row in house.journal._rows("SELECT * FROM chains")] == chains
    house.pass_time(3)
    house.strategy("long 60", "long 150", symbol="AAPL")
    house.pass_time(3)
    assert held(house) == 60 and house.alarms() == []


@pytest.mark.parametrize("why, prepare", [
    ("the trade's own stop-loss is not working", lambda house: house.broker.cancel_by_hand("S")),
    ("that the journal does not know", lambda house: house.broker.by_hand(AAPL, Decimal(7), Decimal("1.19"))),
    ("is on the opposite side", lambda house: own_short(house)),
    ("clock is compared", lambda house: house.desk.clock_doubted("it was set")),
    ("the relay is in paused mode", lambda house: house.desk.relay_mode("paused")),
    ("wrong side of the market (1.17)", lambda house: setattr(house.broker, "market", Decimal("1.17"))),
    ("TWS has no price for AAPL", lambda house: setattr(house.broker, "market", None)),
    ("TWS is not connected", lambda house: house.desk.disconnected("TWS is away")),
    ("too many messages", lambda house: setattr(house.broker, "is_paced", True)),
])  # fmt: skip
def test_what_forbids_an_addition_refuses_it_in_words(house: House, why: str, prepare) -> None:
    grown(house)
    prepare(house)
    house.pass_time(6, look=False)
    assert why in refusal(house) and held(house) - 100 in (0, 7, -5)
    assert "size differs" in house.alarms()


def own_short(house: House) -> None:
    house.beside(AAPL, Decimal(-5))
    house.broker.by_hand(AAPL, Decimal(-5), Decimal("1.19"))


def test_the_largest_size_of_an_entry_bounds_what_is_followed() -> None:
    house = House.build(policy=Policy(max_quantity={"AAPL": Decimal(120)})).connect()
    grown(house)
    assert "150 AAPL is above max_quantity (120)" in refusal(house)


def test_a_reduction_passes_every_brake() -> None:
    most: dict[str, Decimal] = {}
    house = House.build(policy=Policy(max_quantity=most)).connect()
    house.broker.refuse["X"] = (201, "Order rejected")
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    house.strategy("long 40", "long 100", symbol="AAPL")
    house.pass_time(12)
    most["AAPL"] = Decimal(30)
    house.broker.refuse.clear()
    house.desk.relay_mode("paused")
    house.desk.clock_doubted("it was set")
    house.broker.market = None
    house.command(FOLLOW)
    house.pass_time(3)
    assert held(house) == 40


def test_a_trade_on_hold_is_decided_first(house: House) -> None:
    grown(house)
    house.desk.life.freeze(1, "evidence is missing")
    assert "AAPL is on hold" in refusal(house)


def test_nothing_is_decided_while_a_signal_of_the_symbol_waits(house: House) -> None:
    grown(house)
    house.broker.fill_entries = False
    house.strategy("short 10", "long 150", symbol="AAPL")
    assert "has no outcome yet" in refusal(house)


def test_what_was_not_read_a_moment_ago_is_read_first(house: House) -> None:
    grown(house)
    house.pass_time(30, look=False)
    with pytest.raises(CommandRefused, match="being read from TWS"):
        house.desk.command(FOLLOW)
    assert held(house) == 100


@pytest.mark.parametrize("knob", ["deaf", "silent", "fill_entries"])
def test_after_a_restart_the_same_orders_are_asked_about(tmp_path: Path, knob: str) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    grown(house)
    setattr(house.broker, knob, knob != "fill_entries")
    house.command(FOLLOW)
    setattr(house.broker, knob, knob == "fill_entries")
    if knob == "fill_entries":
        house.broker.execute(house.broker.id_of("A1"), Decimal(50), Decimal("1.19"))
    house = house.restart(path).connect()
    house.pass_time(20)
    size = 100 if knob == "deaf" else 150  # what never arrived is not sent again: the price is another by now
    assert held(house) == size and house.working() == {"T1": size, "S1": size}
    assert house.alarms() == (["size differs"] if knob == "deaf" else [])


# ---- nothing of it is held ----


def test_following_into_a_position_enters_its_present_size_with_the_newest_exits(house: House) -> None:
    gone(house, tp="1.25", sl="1.17")
    assert "following the strategy into long 20, at market" in house.command(FOLLOW)
    assert held(house) == 20 and house.working() == {"T1": 20, "S1": 20} and house.alarms() == []
    trade = house.trades()[-1]
    assert (trade["signal"], trade["tp_price"], trade["sl_price"]) == ("buy", 1.25, 1.17)
    assert trade["signal_id"].startswith("page-") and house.state == "open"
    house.strategy("flat", "long 20", symbol="AAPL")
    assert held(house) == 0 and house.alarms() == []
    check_restart(house.desk)


@pytest.mark.parametrize("exits, why", [
    ({}, "names no stop-loss, and the last trade had one"),
    ({"tp": "1.25"}, "names no stop-loss, and the last trade had one"),
    ({"sl": "1.195"}, "wrong side of the market (1.19)"),
    ({"tp": "1.185", "sl": "1.17"}, "wrong side of the market (1.19)"),
])  # fmt: skip
def test_nothing_is_entered_without_the_stop_that_was_asked_for(house: House, exits: dict[str, str], why: str) -> None:
    gone(house, **exits)
    text = refusal(house)
    assert why in text and ("Send an open signal for AAPL" in text or "wrong side" in why)
    assert house.alarms() == ["strategy differs"] and len(house.trades()) == 1


@pytest.mark.parametrize("exits, legs", [
    ({"sl": "2%"}, {"S1": 20}),
    ({"trail": "2%"}, {"L1": 20}),
    ({"targets": [{"tp": "1.25", "percent": "50"}], "sl": "1.17"}, {"T1": 10, "S1": 10, "S2": 10}),
])  # fmt: skip
def test_exits_of_every_kind_come_along(house: House, exits: dict, legs: dict[str, int]) -> None:
    gone(house, **exits)
    house.command(FOLLOW)
    house.pass_time(3)
    assert held(house) == 20 and house.working() == legs


def test_a_position_that_never_had_a_stop_is_entered_without_one(house: House) -> None:
    house.strategy("long 20", "long 10", symbol="AAPL")
    house.command(FOLLOW)
    assert held(house) == 20 and house.working() == {} and house.alarms() == []


@pytest.mark.parametrize("why, prepare", [
    ("re-entry blocked", lambda house: took_profit(house)),
    ("that the journal does not know", lambda house: house.broker.by_hand(AAPL, Decimal(7), Decimal("1.19"))),
    ("max_open_trades (1) reached", lambda house: house.signal("open", "EURUSD", "buy", "1000")),
    ("the relay is in paused mode", lambda house: house.desk.relay_mode("paused")),
    ("waiting for a price", lambda house: setattr(house.broker, "market", None)),
])  # fmt: skip
def test_what_forbids_an_entry_refuses_it_in_words(why: str, prepare) -> None:
    house = House.build(policy=Policy(max_open_trades=1)).connect()
    gone(house, sl="1.17")
    prepare(house)
    house.clock.advance(6)
    assert why in refusal(house)


def took_profit(house: House) -> None:
    house.signal("open", "AAPL", "buy", "10", tp="1.20")
    house.broker.hit("T")
    house.strategy("long 30", "long 20", symbol="AAPL", sl="1.17")


def test_where_this_account_is_on_the_other_side_following_closes(house: House) -> None:
    gone(house, sl="1.17")
    house.broker.by_hand(AAPL, Decimal(-30), Decimal("1.19"))
    house.pass_time(6)
    house.command(Command(CommandKind.ADOPT_POSITION, symbol="AAPL"))
    assert "the strategy is long 20 AAPL: the sell trade in AAPL is being closed" in house.command(FOLLOW)
    house.pass_time(6)
    assert held(house) == 0 and house.state == "closed" and house.alarms() == ["strategy differs"]
    house.command(FOLLOW)
    assert held(house) == 20 and house.alarms() == []


def test_where_nothing_is_known_to_differ_nothing_is_done(house: House) -> None:
    house.strategy("long 100", "flat", symbol="AAPL")
    for command in (FOLLOW, LEAVE, replace(FOLLOW, symbol="EURUSD"), replace(LEAVE, symbol="no such")):
        assert f"no strategy is known to hold anything else in {command.symbol}" in refusal(house, command)


@pytest.mark.parametrize("knob", ["deaf", "silent"])
def test_an_entry_of_the_owner_s_is_looked_up_after_a_restart(tmp_path: Path, knob: str) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    gone(house, sl="1.17")
    setattr(house.broker, knob, True)
    house.command(FOLLOW)
    setattr(house.broker, knob, False)
    house = house.restart(path).connect()
    house.pass_time(20)
    entries = {t.order_id for t in house.broker.sent if t.order_ref[20:] == "E1"}
    assert held(house) == 20 and house.working() == {"S1": 20} and len(entries) == 2


@pytest.mark.parametrize("alerts", [
    [("long 20", "long 50")],
    [("long 50", "flat"), ("flat", "long 50"), ("long 20", "long 50")],
    [("long 50", "flat"), ("flat", "long 50"), ("long 30", "long 50"), ("long 20", "long 30")],
    [("short 50", "flat"), ("flat", "short 50"), ("long 20", "long 50")],
])  # fmt: skip
def test_exits_of_a_position_whose_opening_was_missed_are_not_known(house: House, alerts: list) -> None:
    for position, was in alerts:
        opens = {"sl": "1.17" if position[0] == "l" else "1.25"} if was == "flat" else {}
        house.strategy(position, was, symbol="AAPL", **opens)
    assert "the alert that opened the strategy's position is not known" in refusal(house)


@pytest.mark.parametrize("opened", ["short", "flat", None])
def test_an_alert_of_another_side_brings_no_exits(opened: str | None) -> None:
    asked = Signal(Action.OPEN, "AAPL", Side.SELL, Decimal(50), sl=Decimal("1.25"), market_position=opened)
    wish = entered("AAPL", PrevPosition("long", Decimal(20)), asked, None)
    assert isinstance(wish, str) and "is not known, nor are its exits" in wish


def test_a_strategy_that_says_no_size_is_not_entered(house: House) -> None:
    house.strategy("long 20", "long 10", symbol="AAPL")
    chain = house.desk.book.strategy_of("AAPL")
    assert chain
    with house.desk.book.change():
        house.desk.book._put_chain(replace(chain, chain=replace(chain.chain, position="long")))
    assert "says no size" in refusal(house)


# ---- leave it ----


@pytest.mark.parametrize("differs, again", [
    (grown, ("long 160", "long 150")), (gone, ("long 10", "long 20")),
])  # fmt: skip
def test_a_difference_that_is_left_is_said_again_with_the_next_alert(house: House, differs, again) -> None:
    differs(house)
    kinds, size = house.alarms(), held(house)
    text = house.command(LEAVE)
    assert house.alarms() == [] and held(house) == size and owner_lines(house) == [text]
    ended = house.journal._rows("SELECT cleared_text FROM alarms ORDER BY id DESC LIMIT 1")[0]["cleared_text"]
    assert ended == "AAPL: you left the difference as it is, until the strategy's next alert"
    house.pass_time(30)
    assert house.alarms() == []
    house.strategy(*again, symbol="AAPL")
    assert house.alarms() == kinds


@pytest.mark.parametrize("differs", [grown, gone])
def test_a_difference_that_is_left_stays_so_after_a_restart(tmp_path: Path, differs) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    differs(house)
    house.command(LEAVE)
    house = house.restart(path).connect()
    house.pass_time(30)
    assert house.alarms() == []
    assert "no strategy is known to hold anything else" in refusal(house)


def test_what_is_left_can_be_left_while_tws_is_away(house: House) -> None:
    grown(house)
    house.desk.disconnected("TWS is away")
    house.command(LEAVE)
    assert house.alarms() == []


def test_the_newest_alert_of_a_strategy_is_kept_over_a_late_one(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.strategy("long 10", "flat", symbol="AAPL", sl="1.10")
    house.broker.hit("S")
    house.strategy("long 20", "long 15", symbol="AAPL", sl="1.17")
    house.strategy("long 15", "long 10", symbol="AAPL", sl="1.11")  # late
    house = house.restart(path).connect()
    house.command(FOLLOW)
    assert held(house) == 20 and house.trades()[-1]["sl_price"] == 1.17


def test_another_contract_is_not_touched(house: House) -> None:
    house.signal("open", "EURUSD", "buy", "1000", sl="1.18")
    grown(house)
    house.command(FOLLOW)
    assert house.broker.quantity[EURUSD.con_id] == 1000
