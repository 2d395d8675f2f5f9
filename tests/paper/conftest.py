"""Fixtures of the paper TWS's tests."""

from __future__ import annotations

import pytest

from tests.paper.harness import Api, Tws


@pytest.fixture
def tws() -> Tws:
    """A fresh paper TWS at 10:30 in New York, EURUSD at 1.19, AAPL at 263.50."""
    return Tws()


@pytest.fixture
def api(tws: Tws) -> Api:
    """Client 1, connected."""
    return tws.connect()
