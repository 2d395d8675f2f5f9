"""Exits at a distance: complete from the first byte, computed from the market, and moved to the fill once that is known."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from common.signals import Action, Distance, Side, Signal, Unit
from executor.core.brackets import exit_price, plan_bracket
from executor.core.ports import Contract, PriceStep

from .fakes import AAPL, EURUSD, House
from .test_protect import at, by_hand, events, sent

PENNIES = replace(AAPL, price_steps=(PriceStep(Decimal(0), Decimal("0.0001")), PriceStep(Decimal(1), Decimal("0.01"))))
ES = Contract(495512563, "ES", "FUT", "ES", "USD", "CME", Decimal(50), (PriceStep(Decimal(0), Decimal("0.25")),))


@pytest.fixture
def house() -> House:
    house = House.build()
    house.broker.market = Decimal(190)
    return house.connect()


PRICES = [
    # entry, distance, contract → stop of a long, target of a long, stop of a short, target of a short
    ("190", "1%", AAPL, "188.1", "191.9", "191.9", "188.1"),
    ("190.004", "1%", AAPL, "188.11", "191.9", "191.9", "188.11"),
    ("190", "25 ticks", AAPL, "189.75", "190.25", "190.25", "189.75"),
    ("190", "2.5 points", AAPL, "187.5", "192.5", "192.5", "187.5"),
    ("1.18342", "0.5%", EURUSD, "1.17755", "1.1893", "1.1893", "1.17755"),
    ("1.18342", "20 ticks", EURUSD, "1.18245", "1.1844", "1.1844", "1.18245"),
    ("5601.25", "40 ticks", ES, "5591.25", "5611.25", "5611.25", "5591.25"),
    ("5601.25", "0.3%", ES, "5584.5", "5618", "5618", "5584.5"),
    ("0.9", "5 ticks", PENNIES, "0.8995", "0.9005", "0.9005", "0.8995"),
    ("1.05", "10 points", PENNIES, "-8.95", "11.05", "11.05", "-8.95"),
]


@pytest.mark.parametrize("entry, text, contract, long_stop, long_target, short_stop, short_target", PRICES)
def test_a_distance_is_a_price_to_the_tick_towards_the_entry(
    entry: str, text: str, contract: Contract, long_stop: str, long_target: str, short_stop: str, short_target: str
) -> None:
    amount, _, word = text.replace("%", " %").partition(" ")
    away = Distance(Decimal(amount), Unit(word))
    found = [exit_price(away, side, contract, Decimal(entry), stop=stop) for side in Side for stop in (True, False)]
    assert found == [Decimal(each) for each in (long_stop, long_target, short_stop, short_target)]


def test_without_a_price_nothing_relative_is_planned() -> None:
    signal = Signal(Action.OPEN, "AAPL", Side.BUY, Decimal(1), sl=Distance(Decimal(1), Unit.PERCENT))
    problem = plan_bracket(signal, "S0", AAPL, None)
    assert problem == "TWS has no price for AAPL now, so 1% from it cannot be computed"


def test_the_bracket_is_complete_at_once_and_moves_to_the_fill(house: House) -> None:
    house.broker.fill_entries = False
    signal = house.alert("open", side="buy", quantity="100", sl="1%", tp="5 points")
    planned = {t.order_ref[20:]: t.price for t in house.broker.sent}
    assert planned == {"E1": None, "T1": Decimal(195), "S1": Decimal("188.1")}
    outcome, reason = house.outcome(signal)
    assert outcome == "entered" and reason is not None
    assert "stop-loss 188.1 (1%), take-profit 195 (5 points) from the market at 190 for now" in reason
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("191"))
    house.pass_time(5)
    assert at(house, T1="196", S1="189.09") and len(house.broker.sent) == 5 and house.alarms() == []
    assert events(house, "exit set") == [
        "stop-loss from 188.1 to 189.09 (1% from the entry at 191)",
        "take-profit from 195 to 196 (5 points from the entry at 191)",
    ]
    assert house.trades()[0]["sl_price"] == 189.09 and house.outcome(signal)[0] == "entered"


@pytest.mark.parametrize("fill, stop", [("189", "187.11"), ("190", "188.1"), ("191", "189.09")])
def test_it_may_move_away_from_the_market_this_once(house: House, fill: str, stop: str) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", sl="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal(fill))
    house.pass_time(5)
    assert at(house, S1=stop) and len(sent(house, "S1")) == (1 if fill == "190" else 2)
    assert house.outcome(house.alert("protect", sl="180"))[0] == "ignored"


def test_a_short_is_moved_the_other_way(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="sell", quantity="100", sl="100 ticks", tp="2%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("189.5"))
    house.pass_time(5)
    assert at(house, T1="185.71", S1="190.5")


def test_it_waits_until_all_has_filled_and_takes_the_average(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", sl="1%")
    entry = house.broker.id_of("E1")
    house.broker.execute(entry, Decimal(60), Decimal("190"))
    house.pass_time(20)
    assert sent(house, "S1") == [Decimal("188.1")]
    house.broker.execute(entry, Decimal(40), Decimal("192"))
    house.pass_time(5)
    assert at(house, S1="188.9") and house.alarms() == []  # 1% below 190.8


def test_an_entry_that_ends_half_filled_counts_with_what_it_has(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", sl="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(60), Decimal("191"))
    house.pass_time(110)  # beyond its time
    assert at(house, S1="189.09") and house.working() == {"S1": 60}


def test_the_move_is_a_wish_of_the_book(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal(190)
    house.broker.fill_entries = False
    house.connect().alert("open", side="buy", quantity="100", sl="1%", tp="2%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(60), Decimal("191"))
    house = house.restart(path).connect()
    house.broker.deaf = True
    house.broker.execute(house.broker.id_of("E1"), Decimal(40), Decimal("191"))
    house.pass_time(2)
    house.broker.deaf = False
    house = house.restart(path).connect()
    house.pass_time(5)
    assert at(house, T1="194.82", S1="189.09") and house.alarms() == []
    assert not any("by hand" in each for each in events(house, "moved"))


@pytest.mark.parametrize("price", ["189", "188.1"])
def test_after_a_protect_it_stays_where_that_put_it(house: House, price: str) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", sl="1%", tp="2%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(60), Decimal("190"))
    assert house.outcome(house.alert("protect", sl=price))[0] == "protected"
    house.broker.execute(house.broker.id_of("E1"), Decimal(40), Decimal("195"))
    house.pass_time(5)
    assert at(house, T1="195.84", S1=price)


def test_what_the_owner_moved_meanwhile_stays(house: House) -> None:
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", sl="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(60), Decimal("190"))
    by_hand(house, "S1", "185")
    house.broker.execute(house.broker.id_of("E1"), Decimal(40), Decimal("195"))
    house.pass_time(5)
    assert at(house, S1="185")


def test_a_move_that_tws_refuses_is_said_and_the_entry_stays_entered(house: House) -> None:
    house.broker.fill_entries = False
    house.broker.refuse_changes["S"] = (201, "Order rejected")
    signal = house.alert("open", side="buy", quantity="100", sl="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("191"))
    house.pass_time(30)
    assert at(house, S1="188.1") and house.alarms() == ["exit not moved"] and house.outcome(signal)[0] == "entered"
    assert len(sent(house, "S1")) == 2 and house.state == "open"


def test_a_stop_that_is_lost_before_the_move_comes_back_at_the_fill_s_distance(house: House) -> None:
    house.broker.fill_entries = False
    house.broker.refuse["S"] = (201, "Order rejected")
    house.alert("open", side="buy", quantity="100", sl="1%")
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("191"))
    house.pass_time(12)
    assert at(house, R1="189.09") and "unprotected" not in house.alarms()


def test_a_strategy_s_exits_may_be_relative_and_stay_so(house: House) -> None:
    house.strategy("long 100", "flat", symbol="AAPL", sl="1%")
    outcome, reason = house.outcome(house.strategy("long 100", "long 100", symbol="AAPL", sl="1%"))
    assert outcome == "nothing to do" and at(house, S1="188.1"), reason
    assert house.outcome(house.strategy("long 100", "long 100", symbol="AAPL", sl="0.5%"))[0] == "protected"
    assert at(house, S1="189.05")


def test_the_journal_has_what_the_book_has(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.broker.market = Decimal(190)
    house.connect().broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", trail="1%", tp="2%")
    known = house.desk.book.trade(1)
    assert known.stop_aim is not None and known.target_aim is not None
    house.alert("protect", tp="entry", loosen=True)
    known = house.desk.book.trade(1)
    assert house.restart(path).desk.book.trade(1) == known


def test_without_a_price_it_is_refused_in_words(house: House) -> None:
    house.broker.market = None
    outcome, reason = house.outcome(house.alert("open", side="buy", quantity="100", sl="1%"))
    assert outcome == "refused" and reason is not None
    assert "TWS has no price for AAPL now, so 1% from it cannot be computed" in reason and house.legs() == []


def test_a_distance_beyond_zero_is_refused_in_words(house: House) -> None:
    outcome, reason = house.outcome(house.alert("open", side="buy", quantity="100", sl="200 points"))
    assert outcome == "refused" and "zero or less" in (reason or "") and house.legs() == []
