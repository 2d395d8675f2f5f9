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
    assert "the strategy holds 150, this trade 100. Choose on the page: follow now, or leave it." in shown
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
