"""Fixtures of the paper TWS's tests."""

from __future__ import annotations

import pytest
from ib_insync import LimitOrder

from tests.paper.harness import AAPL, Api, Tws


@pytest.fixture
def tws() -> Tws:
    """A fresh paper TWS at 10:30 in New York, EURUSD at 1.19, AAPL at 263.50."""
    return Tws()


@pytest.fixture
def api(tws: Tws) -> Api:
    """Client 1, connected."""
    return tws.connect()


@pytest.fixture
def resting(api: Api) -> Api:
    """Client 1, whose order 1 for ten AAPL waits at 200."""
    api.place(AAPL, LimitOrder("BUY", 10, 200, orderId=1))
    api.take()
    return api
