"""The laws of prices find what is planted against them, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.simulate.prices import Prices

REF = "sx1:AAAAAAAAAAAAAAAAS1"


class Journal:
    """A journal of one open trade with one stop."""

    def __init__(self, asked: str = '{"data": {"sl": "9"}}', **order: Any) -> None:
        self.asked, self.order = asked, {"order_ref": REF, "leg": "S", "price": "9", "wish": None, **order}

    def one(self, sql: str, *values: object) -> dict[str, Any]:
        return {"symbol": "AAPL", "signal_id": "s"}

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        if "FROM inbox" in sql:
            return [{"payload": self.asked}]
        return [] if "FROM alarms" in sql else [{**self.order, "symbol": "AAPL", "trade": "open"}]


def judged(journal: Journal, *prices: str, by: str | None = None) -> list[str]:
    found: list[str] = []
    laws = Prices(journal, lambda rule, text: found.append(rule))  # type: ignore[arg-type]  # a few lines stand for it
    for number, price in enumerate(prices):
        event = {"event": "modified" if number else "accepted", "orderRef": REF, "action": "SELL", "orderType": "STP"}
        hand = {"by": by} if by and number == 1 else {}
        laws.hear({**event, "auxPrice": price, "at": f"2026-11-23T10:00:0{number}.000000Z", **hand})
    laws.rest([(REF, Decimal(prices[-1]))])
    return found


def test_a_stop_that_follows_the_market_breaks_nothing() -> None:
    assert judged(Journal(), "8", "9") == []


@pytest.mark.parametrize("asked", ['{"data": {"sl": "9"}}', '{"data": {}}'])
def test_a_stop_that_moves_away_is_found(asked: str) -> None:
    assert judged(Journal(asked), "10", "9") == ["tightens"]


@pytest.mark.parametrize("asked", ['{"data": {"sl": "1%"}}', '{"data": {"sl": "9", "loosen": true}}'])
def test_one_that_may_is_not(asked: str) -> None:
    assert judged(Journal(asked), "10", "9") == []


def test_what_crosses_the_owner_s_hand_is_not_found() -> None:
    assert judged(Journal(), "9", "10", "9", by="owner") == []


def test_a_price_that_is_still_asked_for_or_another_at_the_broker_is_found() -> None:
    assert judged(Journal(wish="9.5"), "8", "9") == ["wished"]
    assert judged(Journal(price="8.5"), "8", "9") == ["same-price"]
