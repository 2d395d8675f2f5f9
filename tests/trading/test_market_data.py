"""What TWS says of market data, as far as its owner has to know."""

from __future__ import annotations

import pytest

from executor.paper import answers

from .harness import House


def told(house: House) -> list[str]:
    return [str(a["text"]) for a in house.journal.standing_alarms() if a["kind"] == "market data"]


@pytest.mark.parametrize("lines", [0, 1])
async def test_no_market_data_line_left_is_an_alarm_and_no_obstacle_to_a_close(
    house: House, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """The owner's own windows use the others: prices were missing, and only the log knew why."""
    signals = [house.buy("10", "AAPL"), house.buy()]
    for signal in signals:
        assert (await house.decided(signal))[0] == "entered"
    assert told(house) == []
    monkeypatch.setattr(answers, "MAX_TICKERS", lines)
    await house.restart()
    await house.until(lambda: told(house))
    assert "Max number of tickers" in told(house)[0] and "no market data line left" in told(house)[0]
    for symbol in ("AAPL", "EURUSD"):
        assert (await house.decided(house.signal("close", symbol)))[0] == "closed"
    house.clock.skip(3600)
    await house.until(lambda: not told(house))
    assert len([e for e in house.rows("SELECT details FROM events WHERE kind = 'alarm'")]) == 1


async def test_enough_market_data_lines_are_no_alarm(house: House) -> None:
    for symbol in ("AAPL", "MSFT", "EURUSD"):
        assert (await house.decided(house.buy("10", symbol)))[0] == "entered"
    assert house.alarms() == set()
