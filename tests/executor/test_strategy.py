"""A strategy that grows or shrinks its position: followed, or said with both numbers; a reduction is never an entry."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from common import strict_json
from common.clock import utc_text
from common.signals import Envelope, alert_from, payload_text
from executor.core.conditions import AlarmKind
from executor.journal.rows import describe

from .fakes import AAPL, House


@pytest.fixture
def house() -> House:
    return House.build().connect()


def text_of(house: House, kind: str) -> str:
    (alarm,) = [each for each in house.journal.standing_alarms() if each["kind"] == kind]
    return str(alarm["text"])


GONE = [
    ("long 20", "long 50"), ("short 20", "short 50"),  # reduced, late
    ("long 80", "long 50"), ("long 50", "long 50"),  # grown, or not changed
]  # fmt: skip


@pytest.mark.parametrize("position, was", GONE)
def test_what_changes_a_position_that_is_gone_enters_nothing(house: House, position: str, was: str) -> None:
    house.strategy("flat", was)
    outcome, reason = house.outcome(house.strategy(position, was))
    assert outcome == "ignored" and f"does not hold the position that it changes ({was} to {position})" in (
        reason or ""
    )
    assert not house.broker.sent and house.alarms() == ["strategy differs"]
    assert "no trade in it ended lately" in text_of(house, "strategy differs")


def test_a_reduction_that_comes_after_its_flat_enters_nothing(house: House) -> None:
    """The alerts of one second may come in any order."""
    house.strategy("long 50", "flat", sl="1.18")
    house.strategy("flat", "long 20")
    sent = len(house.broker.sent)
    assert house.outcome(house.strategy("long 20", "long 50"))[0] == "ignored"
    assert len(house.broker.sent) == sent and house.broker.quantity[12087792] == 0
    assert "late: it led from long 50 to long 20" in (house.outcome("S2")[1] or "") and house.alarms() == []


def test_one_that_is_no_late_alert_names_how_the_last_trade_ended(house: House) -> None:
    house.strategy("long 50", "flat", sl="1.18")
    house.strategy("flat", "long 50")
    house.strategy("long 20", "long 50")
    assert "ended at 15:00 UTC (close signal)" in text_of(house, "strategy differs")


@pytest.mark.parametrize(
    "end", [lambda house: house.strategy("flat", "long 20"), lambda house: house.strategy("long 5", "flat")]
)
def test_the_difference_is_over_when_strategy_and_account_agree(house: House, end) -> None:
    house.strategy("long 20", "long 50")
    assert house.alarms() == ["strategy differs"]
    end(house)
    assert house.alarms() == []
    (over,) = house.journal._rows("SELECT cleared_text FROM alarms WHERE kind = 'strategy differs'")
    assert over["cleared_text"] == "EURUSD: the account is in step with the strategy again"


def test_the_difference_ends_after_a_day_and_says_so(house: House) -> None:
    house.strategy("long 20", "long 50")
    house.clock.advance(24 * 3600 + 1)
    house.pass_time(1)
    (over,) = house.journal._rows("SELECT cleared_text FROM alarms WHERE kind = 'strategy differs'")
    assert over["cleared_text"] == "EURUSD: reported for a day"


def test_after_a_stop_out_the_strategy_s_reduction_names_how_the_trade_ended(house: House) -> None:
    house.strategy("long 50", "flat", sl="1.18")
    house.broker.hit("S")
    house.strategy("long 20", "long 50", tp="NaN")
    assert "(stop-loss)" in text_of(house, "strategy differs") and len(house.trades()) == 1


def test_a_reduction_while_the_other_side_is_open_closes_it_and_enters_nothing(house: House) -> None:
    """The strategy is long, the account short: flat is the safer error."""
    house.strategy("short 10", "flat")
    outcome, reason = house.outcome(house.strategy("long 20", "long 50"))
    assert outcome == "closed" and "nothing was entered" in (reason or "")
    assert [trade["closed"] for trade in house.trades()] == [1] and house.broker.quantity[12087792] == 0
    assert house.alarms() == ["strategy differs"]


def test_a_strategy_that_grows_and_shrinks_is_never_ignored_without_a_word(house: House) -> None:
    house.strategy("long 100", "flat")
    outcome, reason = house.outcome(house.strategy("long 150", "long 100"))
    assert (
        outcome == "ignored"
        and reason
        == "the strategy is now long 150 EURUSD, this trade 100: a larger size is followed with scale_in = true only"
    )
    assert house.alarms() == ["size differs"] and "holds 150, this trade 100" in text_of(house, "size differs")
    assert house.outcome(house.strategy("long 100", "long 150"))[0] == "nothing to do"
    assert house.alarms() == []


def test_the_difference_of_sizes_ends_when_the_owner_follows_by_hand_or_the_trade_ends(house: House) -> None:
    house.broker.refuse["X"] = (201, "Order rejected")
    house.strategy("long 100", "flat", symbol="AAPL")
    house.strategy("long 40", "long 100", symbol="AAPL")
    assert "size differs" in house.alarms()
    house.broker.by_hand(AAPL, -60, house.broker.market)
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(20)
    assert "size differs" not in house.alarms()
    house.strategy("long 10", "long 40", symbol="AAPL")
    assert "size differs" in house.alarms()
    house.strategy("flat", "long 10", symbol="AAPL")
    assert set(house.alarms()) == {"not reduced"}


def test_the_difference_of_sizes_is_kept_across_a_restart(tmp_path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.strategy("long 100", "flat")
    house.strategy("long 150", "long 100")
    house = house.restart(path).connect()
    house.pass_time(1)
    assert house.alarms() == ["size differs"]
    house.strategy("long 100", "long 150")
    assert house.alarms() == []


def test_a_take_profit_that_fills_in_part_after_both_agreed_is_no_difference(house: House) -> None:
    house.strategy("long 100", "flat", tp="1.20", sl="1.18")
    house.strategy("long 100", "long 100")
    house.broker.hit("T", Decimal(40))
    house.pass_time(1)
    assert "size differs" not in house.alarms()


def test_a_second_open_of_another_sender_is_ignored_as_ever(house: House) -> None:
    house.signal("open", side="buy", size="100")
    assert "already open" in (house.outcome(house.signal("open", side="buy", size="150"))[1] or "")
    assert house.alarms() == []


def test_a_reduction_is_never_too_old_and_waits_for_tws(house: House) -> None:
    house.strategy("long 100", "flat")
    house.desk.disconnected("TWS is away")
    reduction = house.strategy("long 50", "long 100")
    house.clock.advance(3600)
    house.connect()
    assert house.outcome(reduction)[0] == "reduced" and house.alarms() == []
    assert house.broker.quantity[12087792] == 50


def test_a_reduction_on_hold_is_said(house: House) -> None:
    house.strategy("long 100", "flat", sl="1.18")
    house.desk.life.freeze(1, "a bug in this program")
    assert house.outcome(house.strategy("long 50", "long 100"))[0] == "refused"
    assert set(house.alarms()) == {"hold", "size differs"}


def test_signals_of_a_strategy_are_the_same_after_a_restart(tmp_path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    house.strategy("long 50", "long 100", sl="NaN")
    before = house.desk.book.undone()
    assert house.restart(path).desk.book.undone() == before and before[0].signal.prev is not None


def test_two_alerts_that_changed_places_in_a_reversal_end_on_the_new_side(house: House) -> None:
    house.strategy("long 10", "flat")
    house.strategy("short 10", "flat")
    outcome, reason = house.outcome(house.strategy("flat", "long 10"))
    assert outcome == "ignored" and (reason or "").startswith("late: it led from long 10 to flat")
    assert house.broker.quantity[12087792] == -10
    assert house.outcome(house.strategy("flat", "short 10"))[0] == "closed"


def test_a_flat_that_does_not_follow_still_flattens(house: House) -> None:
    house.strategy("long 10", "flat")
    assert house.outcome(house.strategy("flat", "short 10"))[0] == "closed"
    assert house.broker.quantity[12087792] == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_alert_ends_the_alarm_about_its_own_gap_only(tmp_path, restarted: bool) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.strategy("long 10", "flat")
    own = f"EURUSD {utc_text(house.clock.now())}"
    house.strategy("short 10", "flat")
    for about in ("EURUSD 2026-11-23T09:15:00.000000Z", own, "AAPL 2026-11-23T09:15:00.000000Z"):
        symbol = about.partition(" ")[0]
        house.desk.alarms.state(AlarmKind.MISSED_ALERT, f"An alert for {symbol} was missed.", about, symbol=symbol)
    house = house.restart(path).connect() if restarted else house
    house.strategy("flat", "long 10")
    assert [each["key"] for each in house.journal.standing_alarms()] == [
        "missed alert:EURUSD 2026-11-23T09:15:00.000000Z", "missed alert:AAPL 2026-11-23T09:15:00.000000Z"]  # fmt: skip


def test_what_is_late_is_known_after_a_restart(tmp_path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.strategy("long 10", "flat")
    house.strategy("short 10", "flat")
    house = house.restart(path)  # TWS is not there yet: the signal waits
    late = house.strategy("flat", "long 10")
    house = house.restart(path).connect()
    assert house.outcome(late)[0] == "ignored" and house.broker.quantity[12087792] == -10


def test_two_strategies_in_one_symbol_are_not_late_for_each_other(house: House) -> None:
    house.strategy("long 10", "flat", strategy_name="Turtle")
    house.strategy("short 10", "flat", strategy_name="Turtle")
    assert house.outcome(house.strategy("flat", "long 10", strategy_name="Fade"))[0] == "closed"
    assert house.outcome(house.strategy("flat", "long 10", strategy_name="Turtle"))[0] == "ignored"


@pytest.mark.parametrize("restarted", [False, True])
def test_of_two_alerts_that_tell_their_time_the_older_is_late(tmp_path, restarted: bool) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    house.strategy("long 10", time="2026-11-23T15:00:02Z")
    house = house.restart(path).connect() if restarted else house
    outcome, reason = house.outcome(house.strategy("flat", time="2026-11-23T15:00:01Z"))
    assert outcome == "ignored" and (reason or "").startswith("late: the strategy was flat then")
    assert house.outcome(house.strategy("flat", time="2026-11-23T15:00:03Z"))[0] == "closed"


def test_each_strategy_s_own_gap_is_known_after_a_restart(tmp_path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    gaps = {}
    for name in ("Turtle", "Fade"):
        house.strategy("long 10", "flat", strategy_name=name)
        gaps[name] = f"EURUSD {utc_text(house.clock.now())}"
        house.strategy("short 10", "flat", strategy_name=name)
    house = house.restart(path).connect()
    house.strategy("flat", "long 10", strategy_name="Fade")
    book = house.restart(path).desk.book
    assert book.came_late("EURUSD", "Fade") == gaps["Fade"] and book.came_late("EURUSD", "Turtle") is None
    assert book.has_come("EURUSD", gaps["Fade"]) and not book.has_come("EURUSD", gaps["Turtle"])


def test_the_strategies_of_a_symbol_are_bounded(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender whose name differs for every alert must not fill memory and journal."""
    monkeypatch.setattr("executor.desk.book.MOST_STRATEGIES", 2)
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    for name in ("a", "b", "c", "b", "d"):
        house.strategy("flat", "flat", strategy_name=name)
    house.strategy("flat", "flat", symbol="AAPL")
    kept = [
        (row["symbol"], row["strategy_name"]) for row in house.journal._rows("SELECT * FROM chains ORDER BY symbol")
    ]
    assert kept == [("AAPL", ""), ("EURUSD", "b"), ("EURUSD", "d")]


WISHES = {
    "a trail": {"action": "open", "side": "buy", "quantity": 5, "trail": "25 ticks", "sl": 1.1},
    "targets": {
        "action": "open", "side": "sell", "quantity": 5, "targets": [{"tp": "1%", "percent": 50}], "sl": "1.5%",
        "breakeven_after_target": True,
    },
    "a partial close": {"action": "close", "percent": 50, "time": "2026-11-23T15:00:01Z"},
    "a close of a number": {"action": "close", "quantity": 5, "price": "1.19", "strategy_name": "Turtle"},
    "a protection": {"action": "protect", "sl": "entry", "tp": "2.5 points", "loosen": True, "note": "n"},
}  # fmt: skip


@pytest.mark.parametrize("fields", WISHES.values(), ids=WISHES.keys())
def test_what_a_waiting_signal_asks_for_is_the_same_after_a_restart(tmp_path, fields) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path)
    signal = alert_from(*strict_json.read(json.dumps({"symbol": "EURUSD", **fields}).encode())).signal
    envelope = Envelope("S1", house.clock.now(), None, signal)
    house.desk.receive([(envelope, payload_text(envelope))])
    (before,) = house.desk.book.undone()
    assert before.signal == signal and house.restart(path).desk.book.undone() == [before]


DESCRIBED = {
    "a trail": "open buy 5 EURUSD stop-loss 1.1 trailing by 25 ticks",
    "targets": "open sell 5 EURUSD stop-loss 1.5% targets 50% at 1% break-even after the first",
    "a partial close": "close 50% of EURUSD",
    "a close of a number": "close 5 EURUSD of Turtle",
    "a protection": "protect EURUSD take-profit 2.5 points stop-loss entry may loosen (n)",
}


@pytest.mark.parametrize("wish, words", DESCRIBED.items())
def test_the_trade_log_says_what_a_signal_asks_for(wish: str, words: str) -> None:
    signal = alert_from(*strict_json.read(json.dumps({"symbol": "EURUSD", **WISHES[wish]}).encode())).signal
    assert describe(signal) == words
