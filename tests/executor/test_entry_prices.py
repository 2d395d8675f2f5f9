"""An entry with exits is checked against the market as it is: the price is asked for anew, and unknown is a refusal."""

from __future__ import annotations

from decimal import Decimal

import pytest

from .fakes import House
from .test_desk import BRACKET, entered


@pytest.fixture
def stale() -> House:
    """A contract that is known, and whose last tick is too old."""
    house = House.build().connect()
    house.signal("open", side="buy", size="10000")
    house.signal("close")
    house.pass_time(8)
    house.broker.market, house.broker.looked_up = None, []
    return house


@pytest.mark.parametrize("exits", [BRACKET, {"sl": "1.18"}, {"tp": "1.20"}])
def test_price_is_asked_for_anew_before_an_entry_with_exits(stale: House, exits: dict[str, str]) -> None:
    stale.broker.tick = Decimal("1.19")
    signal = entered(stale, **exits)
    stale.pass_time(1)
    assert stale.broker.looked_up == ["EURUSD"] and stale.outcome(signal)[0] == "entered"


@pytest.mark.parametrize("market", ["1.17", "1.18"])
def test_stop_on_the_wrong_side_of_the_price_of_now_is_refused(stale: House, market: str) -> None:
    """No tick for 61 s: it was bought, and stopped out at once."""
    stale.broker.tick = Decimal(market)
    sent = len(stale.broker.sent)
    signal = entered(stale)
    stale.pass_time(1)
    outcome, reason = stale.outcome(signal)
    assert outcome == "refused" and "wrong side" in str(reason) and len(stale.broker.sent) == sent


def test_entry_with_exits_is_refused_where_no_price_is_to_be_had(stale: House) -> None:
    sent = len(stale.broker.sent)
    signal = entered(stale)
    stale.pass_time(1)
    outcome, reason = stale.outcome(signal)
    assert outcome == "refused" and "no price for EURUSD" in str(reason) and len(stale.broker.sent) == sent


def test_entry_without_exits_needs_no_price(stale: House) -> None:
    signal = stale.signal("open", side="buy", size="10000")
    assert stale.outcome(signal)[0] == "entered" and stale.broker.looked_up == []


def test_close_and_reversal_need_no_price_to_close(stale: House) -> None:
    stale.signal("open", side="buy", size="10000")
    reversal = entered(stale, "sell", tp="1.18", sl="1.20")
    stale.pass_time(8)
    assert stale.outcome(reversal)[0] == "refused" and stale.state == "closed"


def test_price_is_asked_for_once_while_the_answer_is_on_its_way(stale: House) -> None:
    stale.broker.contracts = {}
    requests: list[str] = []
    stale.broker.request_contract = lambda symbol, con_id=0: requests.append(symbol)  # type: ignore[method-assign]
    signal = entered(stale)
    stale.pass_time(3)
    assert requests == ["EURUSD"] and stale.outcome(signal)[0] is None
