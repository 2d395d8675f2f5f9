"""A close while the market is closed, against the paper TWS: by its contract details, and by its 399 alone."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import House

EXITS = {"tp": "290", "sl": "240"}
TO_THE_OPEN = 29 * 60  # the house begins at nine in New York


async def held_overnight(house: House) -> None:
    """Buy a share with its exits, and go on while its market is closed, as the contract details tell from now on."""
    await house.entered(house.buy("10", "AAPL", **EXITS))
    await house.restart(lambda: house.paper("fault", knob="regular_hours"))


def alarm(house: House, kind: str) -> str:
    return next((str(a["text"]) for a in house.journal.standing_alarms() if a["kind"] == kind), "")


async def close(house: House) -> Any:
    return house.signal("close", "AAPL")


async def reverse(house: House) -> Any:
    return house.sell("10", "AAPL", tp="240", sl="290")


async def button(house: House) -> Any:
    assert "when its market opens (2026-11-23 14:30 UTC)" in await house.button("close", trade_id=1)


@pytest.mark.parametrize("ask", [close, reverse, button])
async def test_exits_stay_until_the_market_opens(house: House, ask: Any) -> None:
    await held_overnight(house)
    await ask(house)
    await house.until(lambda: "until 2026-11-23 14:30 UTC" in alarm(house, "close waits"))
    await house.stays(lambda: set(house.orders("AAPL")) == {"T", "S"} and house.position("AAPL") == 10, 20)
    assert house.alarms() == {"close waits"}
    house.clock.skip(TO_THE_OPEN)
    await house.stays(lambda: set(house.orders("AAPL")) == {"T", "S"}, 5)
    await house.until(lambda: house.trade()["closed"] and not house.orders("AAPL"), 60)
    assert house.position("AAPL") == 0 and "close waits" not in house.alarms()
    assert "accepted C" in house.story() and house.story().count("filled C") == 1


async def test_wait_for_the_open_outlives_the_executor(house: House) -> None:
    """Restarted in the night: it asks for the hours before it takes an exit away."""
    await held_overnight(house)
    signal = house.signal("close", "AAPL")
    await house.until(lambda: alarm(house, "close waits"))
    await house.restart()
    await house.stays(lambda: set(house.orders("AAPL")) == {"T", "S"}, 20)
    assert house.alarms() == {"close waits"} and house.outcome(signal)[0] is None
    house.clock.skip(TO_THE_OPEN)
    await house.closed(60)
    assert house.outcome(signal)[0] == "closed" and house.position("AAPL") == 0


async def test_market_that_is_closed_without_notice_is_told_with_since_when_and_why(house: House) -> None:
    """A holiday that the hours do not tell: the close is at TWS, and the alarms say what it costs."""
    await house.entered(house.buy("10", "AAPL", **EXITS))
    house.paper("fault", knob="closed_market", symbols=["AAPL"], until="2026-11-24 09:30:00 US/Eastern")
    house.signal("close", "AAPL")
    await house.until(lambda: "unprotected" in house.alarms() and "close waits" in house.alarms(), 60)
    for kind in ("unprotected", "close waits"):
        assert "until 2026-11-24 09:30:00 US/Eastern" in alarm(house, kind)
    assert "has been missing since 2026-11-23 14:00:" in alarm(house, "unprotected")
    house.paper("clear", knob="closed_market")
    await house.closed()
    assert house.position("AAPL") == 0


@pytest.mark.parametrize("ask", [close, button])
async def test_nothing_waits_where_the_paper_tws_keeps_no_hours(house: House, ask: Any) -> None:
    await house.entered(house.buy("10", "AAPL", **EXITS))
    if ask is button:
        assert "when its market opens" not in await house.button("close", trade_id=1)
    else:
        await ask(house)
    await house.closed()
    assert house.position("AAPL") == 0
