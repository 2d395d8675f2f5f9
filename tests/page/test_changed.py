"""What the page says of trades that were changed after their entry, made by a real desk over the fake broker."""

from __future__ import annotations

from decimal import Decimal

import pytest

from executor.core.commands import Command, CommandKind
from executor.status import page
from tests.executor.fakes import House

from .day import Day

EXITS = {"tp": "1.20", "sl": "1.18"}


@pytest.fixture
def day(bench) -> Day:
    day = Day(bench.path)
    bench.clock = day.house.clock
    return day


@pytest.fixture
def house(day) -> House:
    return day.house


def html(bench, day) -> str:
    day.publish()
    return " ".join(bench.client().get("/").text.split())


def api(bench, day) -> dict:
    day.publish()
    return bench.client().get("/api/status").json


def grown(house: House) -> None:
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    house.strategy("long 150", "long 100", symbol="AAPL")


# ---- a strategy that holds something else ----


def test_a_difference_from_the_strategy_has_its_two_buttons(bench, day, house):
    grown(house)
    house.strategy("long 20", "long 50", symbol="EURUSD")
    shown = html(bench, day)
    assert "</b>: the strategy holds 150, this trade 100. <small>" in shown
    assert "The strategy is long 20 EURUSD, but this account holds none of it" in shown
    for symbol in ("AAPL", "EURUSD"):
        for wish in ("follow", "leave"):
            assert f'action="/symbols/{symbol}/{wish}"' in shown
    found = api(bench, day)["differences"]
    assert [(d["symbol"], d["kind"], d["trade_id"]) for d in found] == [
        ("AAPL", "size differs", 1), ("EURUSD", "strategy differs", None),
    ]  # fmt: skip


def test_the_plain_page_has_those_buttons_too(bench, day, house, monkeypatch):
    grown(house)
    monkeypatch.setattr(page, "build", lambda *_: 1 / 0)
    shown = html(bench, day)
    assert 'action="/symbols/AAPL/follow"' in shown and 'action="/symbols/AAPL/leave"' in shown


@pytest.mark.parametrize("kind", [CommandKind.FOLLOW, CommandKind.LEAVE])
def test_what_the_owner_chose_is_in_the_trade_log_and_the_difference_is_gone(bench, day, house, kind):
    grown(house)
    said = house.command(Command(kind, symbol="AAPL"))
    house.pass_time(3)
    body = api(bench, day)
    assert body["differences"] == [] and "Strategy and account" not in html(bench, day)
    assert said in [line["details"] for line in body["trade_log"] if line["action"] == "owner"]
    assert body["open_trades"][0]["held"] == ("150" if kind is CommandKind.FOLLOW else "100")
    assert house.broker.quantity[265598] == Decimal(body["open_trades"][0]["held"])


# ---- a trade that was changed ----

TARGETS = [{"tp": "1.20", "percent": "50"}, {"tp": "1.25", "percent": "30"}]


def trade_of(bench, day) -> dict:
    (trade,) = api(bench, day)["open_trades"]
    return trade


def test_what_is_held_is_shown_of_what_was_entered(bench, day, house):
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    assert '<span class="size">100</span></h3>' in html(bench, day)
    house.strategy("long 40", "long 100", symbol="AAPL")
    house.pass_time(3)
    assert '<span class="size">40</span> <small>of 100</small></h3>' in html(bench, day)
    trade = trade_of(bench, day)
    assert (trade["held"], trade["entered"], trade["covered"], trade["under_way"]) == ("40", "100", "40", [])


def test_one_target_and_one_stop_need_no_list(bench, day, house):
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    assert 'class="exits"' not in html(bench, day)


def test_targets_are_listed_with_what_has_filled_and_the_sum_of_the_stops(bench, day, house):
    house.alert("open", side="buy", quantity="100", sl="1.18", targets=TARGETS)
    house.broker.execute(house.broker.id_of("T1"), Decimal(50), Decimal("1.20"))
    house.pass_time(3)
    shown = html(bench, day)
    assert "<small>TP 50% at 1.2, 30% at 1.25 SL 1.18 </small>" in shown
    for line in (
        '<li class="filled"><span>target 1</span> <b>50</b> <span>at 1.20</span> <span class="how">filled</span></li>',
        '<li class="working"><span>target 2</span> <b>30</b> <span>at 1.25</span> <span class="how">working</span></li>',
        '<li class="working"><span>stop-loss</span> <b>30</b> <span>at 1.18</span> <span class="how">working</span></li>',
        '<li class="working"><span>stop-loss</span> <b>20</b> <span>at 1.18</span> <span class="how">working</span></li>',
        '<li class="sum"><span>all stops</span> <b>50</b> <span>of 50 held</span> <span></span></li>',
        "<dt>Next target</dt><dd>1.25</dd>", "2 stops for 50 working at the broker",
    ):  # fmt: skip
        assert line in shown
    assert trade_of(bench, day)["covered"] == "50"


def test_a_target_that_has_filled_in_part_says_so(bench, day, house):
    house.alert("open", side="buy", quantity="100", **EXITS)
    house.broker.execute(house.broker.id_of("T1"), Decimal(40), Decimal("1.20"))
    assert '<b>60</b> <span>at 1.20</span> <span class="how">working, 40 filled</span>' in html(bench, day)


def test_a_trailing_stop_is_shown_as_one_with_its_distance_and_level(bench, day, house):
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.pass_time(3)
    shown, trade = html(bench, day), trade_of(bench, day)
    assert "<dt>Trailing stop</dt>" in shown and "<small>1% behind</small>" in shown
    assert "trailing stop for 100 working at the broker" in shown and "<b>trailing stop</b>: sell 100" in shown
    assert trade["trail"] == "1%" and trade["sl_price"] == "1.18"
    assert [o["trail"] for o in trade["orders"] if o["leg"] == "L"] == ["1%"]


def test_a_trailing_stop_that_is_gone_does_not_trail(bench, day, house):
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.pass_time(3)
    house.broker.cancel_by_hand("L")
    assert trade_of(bench, day)["trail"] is None and "<dt>Stop-loss</dt>" in html(bench, day)


def followed(house: House) -> None:
    house.strategy("long 150", "long 100", symbol="AAPL")
    house.command(Command(CommandKind.FOLLOW, symbol="AAPL"))


@pytest.mark.parametrize("changed, words", [
    (lambda house: house.strategy("long 40", "long 100", symbol="AAPL"),
     "is being reduced from 100 to 40; 60 sent, not filled yet"),
    (lambda house: house.alert("close", percent="50"), "is being reduced from 100 to 50; 50 sent, not filled yet"),
    (followed, "is being enlarged by 50; 0 filled so far"),
])  # fmt: skip
def test_a_change_of_size_that_is_under_way_is_shown(bench, day, house, changed, words):
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    house.broker.fill_entries = False
    changed(house)
    assert trade_of(bench, day)["under_way"] == [words]
    assert f'<p class="protection wait change">I{words[1:]}</p>' in html(bench, day)


def test_a_move_that_is_not_confirmed_is_shown_until_it_is(bench, day, house):
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    house.broker.silent = True
    house.alert("protect", sl="1.19")
    assert trade_of(bench, day)["under_way"] == ["stop-loss is being moved from 1.18 to 1.19: not confirmed by TWS yet"]
    assert "at 1.18, to be at 1.19, <b>working</b>" in html(bench, day)
    house.broker.silent = False
    house.desk.reconciled(house.broker.snapshot())
    house.pass_time(15)
    assert trade_of(bench, day)["under_way"] == [] and trade_of(bench, day)["sl_price"] == "1.19"


def test_stops_that_move_together_are_said_in_one_sentence(bench, day, house):
    house.alert("open", side="buy", quantity="100", sl="1.18", targets=TARGETS)
    house.broker.silent = True
    house.alert("protect", sl="1.19")
    words = "3 stop-loss orders are being moved from 1.18 to 1.19: not confirmed by TWS yet"
    assert trade_of(bench, day)["under_way"] == [words]


@pytest.mark.parametrize("deaf", [True, False])
def test_a_trail_that_is_about_to_begin_is_announced(bench, day, house, deaf):
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", trail="1%")
    house.broker.deaf = deaf
    house.broker.execute(house.broker.id_of("E1"), Decimal(100), Decimal("1.19"))
    begins = ["trailing stop is taking the place of the fixed one"] if deaf else []
    assert [each for each in trade_of(bench, day)["under_way"] if "trail" in each] == begins


@pytest.mark.parametrize("fields, words", [
    ({"sl": "1.5%"}, ["stop-loss goes to 1.5% from the fill once the entry has filled"]),
    ({"trail": "1%"}, ["stop-loss goes to 1% from the fill once the entry has filled",
                       "stop-loss will trail 1% behind the market once the entry has filled"]),
    ({"sl": "1.18", "targets": TARGETS, "breakeven_after_target": True},
     ["stop-loss moves to the entry price when the first target has filled"]),
])  # fmt: skip
def test_what_follows_from_the_fill_is_announced(bench, day, house, fields, words):
    house.broker.fill_entries = False
    house.alert("open", side="buy", quantity="100", **fields)
    assert trade_of(bench, day)["under_way"] == words


def test_a_finished_trade_announces_nothing(bench, day, house):
    house.alert("open", side="buy", quantity="100", sl="1.18", targets=TARGETS, breakeven_after_target=True)
    house.broker.hit("S")
    house.broker.hit("S")
    house.broker.hit("S")
    (trade,) = api(bench, day)["closed_trades"]
    assert trade["under_way"] == [] and trade["closed"]


def test_every_order_of_a_trade_is_listed_whatever_it_is_for(bench, day, house):
    grown(house)
    house.command(Command(CommandKind.FOLLOW, symbol="AAPL"))
    house.pass_time(3)
    house.alert("close", quantity="30")
    house.pass_time(3)
    shown = html(bench, day)
    for words in ("addition</b>: buy 50", "stop-loss of the addition</b>: sell 50", "reduction</b>: sell 30"):
        assert words in shown


def test_the_strategy_s_name_stands_with_its_trade_and_its_signals(bench, day, house):
    house.strategy("long 100", "flat", symbol="AAPL", strategy_name="Turtle <20>", **EXITS)
    assert html(bench, day).count('<small class="of">Turtle &lt;20&gt;</small>') == 2
    body = api(bench, day)
    assert body["open_trades"][0]["strategy_name"] == body["signals"][0]["strategy_name"] == "Turtle <20>"
    house.strategy("flat", "long 100", symbol="AAPL", strategy_name="Turtle <20>")
    assert api(bench, day)["closed_trades"][0]["strategy_name"] == "Turtle <20>"


def test_the_outcomes_of_changes_have_a_tone_of_their_own(bench, day, house):
    grown(house)
    house.command(Command(CommandKind.FOLLOW, symbol="AAPL"))
    house.pass_time(3)
    house.alert("protect", sl="1.19")
    house.alert("close", percent="50")
    house.pass_time(3)
    shown = html(bench, day)
    for verdict in ('good">added', 'good">protected', 'plain">reduced'):
        assert f'<span class="verdict {verdict}</span>' in shown


@pytest.mark.parametrize("text", ["[1]", "{}", "no json", "[{}]", "null"])
def test_odd_targets_in_a_signal_cost_no_page(bench, day, house, text):
    house.alert("open", side="buy", quantity="100", **EXITS)
    house.journal._db.execute("UPDATE inbox SET targets = ?", (text,))
    assert "all rules allow it" in html(bench, day)
