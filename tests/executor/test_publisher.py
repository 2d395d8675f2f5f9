"""What the page shows of the moment: written when it changes, and now and then as a sign of life."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from executor.core.outcomes import Link
from executor.core.ports import AccountView, Position
from executor.publisher import Publisher
from executor.tws.connection import Connection

from .fakes import AAPL, ACCOUNT, EURUSD, House


class Shown:
    """What of Tws the publisher looks at."""

    connected = True
    values = {"NetLiquidation": "1000000.00"}
    held: tuple[Position, ...] = ()
    lookup = SimpleNamespace(known=lambda: [AAPL])

    def account_view(self) -> AccountView:
        return AccountView(ACCOUNT, self.values)

    def positions(self) -> tuple[Position, ...]:
        return self.held


@pytest.fixture
def house() -> House:
    return House.build().connect()


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def publisher(house: House, shown: Any) -> Publisher:
    return Publisher(house.journal, shown, house.desk, Connection(Link.CONNECTED, "TWS"), house.clock)


def live(house: House) -> dict[str, Any]:
    return {r["key"]: json.loads(r["value"]) for r in house.journal._rows("SELECT * FROM live")}


def written_at(house: House, key: str) -> str:
    return str(house.journal._rows("SELECT at FROM live WHERE key = ?", key)[0]["at"])


def test_moment_is_exact_text(house: House, shown: Shown, publisher: Publisher) -> None:
    shown.held = (
        Position(
            ACCOUNT, AAPL.con_id, "AAPL", Decimal("-5"), Decimal("201.10"), Decimal("201.1"), None, currency="USD"
        ),
    )
    publisher.publish()
    found = live(house)
    assert found["account"] == {"NetLiquidation": "1000000.00"}
    assert found["positions"] == [
        {
            "symbol": "AAPL", "position": "-5", "avgCost": "201.1", "account": ACCOUNT, "con_id": AAPL.con_id,
            "market_price": "201.1", "unrealized": None, "currency": "USD",
        }
    ]  # fmt: skip
    assert found["connection"]["status"] == "connected" and found["contracts"]["AAPL"]["currency"] == "USD"


def test_unchanged_is_not_written_again_but_the_sign_of_life(house: House, publisher: Publisher) -> None:
    publisher.publish()
    first = written_at(house, "account")
    house.clock.advance(1)
    publisher.publish()
    assert written_at(house, "connection") == first
    house.clock.advance(5)
    publisher.publish()
    assert written_at(house, "connection") > first == written_at(house, "account")


def test_contracts_are_described_when_one_is_looked_up_and_not_each_time(
    house: House, shown: Shown, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[Decimal] = []

    def text(value: Decimal) -> str:
        described.append(value)
        return str(value)

    monkeypatch.setattr("executor.publisher.decimal_text", text)
    known = [replace(AAPL, symbol=f"S{n}", con_id=n) for n in range(300)]
    shown.lookup = SimpleNamespace(known=lambda: list(known))
    for _ in range(5):
        publisher.publish()
    assert len(described) == 300
    known.append(EURUSD)
    publisher.publish()
    assert "EURUSD" in live(house)["contracts"] and len(live(house)["contracts"]) == 301


def test_what_changed_is_one_commit_and_what_did_not_is_none(house: House, shown: Shown, publisher: Publisher) -> None:
    said: list[str] = []
    house.journal._db.set_trace_callback(said.append)
    publisher.publish()
    assert said.count("COMMIT") == 1
    publisher.publish()
    shown.held = (Position(ACCOUNT, AAPL.con_id, "AAPL", Decimal(5), Decimal(200)),)
    assert said.count("COMMIT") == 1
    publisher.publish()
    assert said.count("COMMIT") == 2 and sum("INSERT OR REPLACE INTO live" in sql for sql in said) >= 5


def test_last_known_positions_stay_while_tws_is_away(house: House, shown: Shown, publisher: Publisher) -> None:
    shown.held = (Position(ACCOUNT, AAPL.con_id, "AAPL", Decimal(5), Decimal(200)),)
    publisher.publish()
    shown.connected, shown.held = False, ()
    house.clock.advance(10)
    publisher.publish()
    assert [each["symbol"] for each in live(house)["positions"]] == ["AAPL"]


def test_positions_that_the_journal_does_not_know_are_shown(house: House, publisher: Publisher) -> None:
    house.broker.by_hand(AAPL, Decimal(70), Decimal(190))
    publisher.publish()
    assert live(house)["connection"]["unknown"] == [{"symbol": "AAPL", "con_id": "265598", "quantity": "70"}]


def test_end_is_said(house: House, publisher: Publisher) -> None:
    publisher.publish()
    publisher.say_stopped()
    assert live(house)["connection"] == {"status": "disconnected", "text": "the executor was stopped"}
