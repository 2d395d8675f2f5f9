"""Prices become orders: rounded to the contract's tick, towards the entry, by a tick only where one was meant."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from executor.core.brackets import round_price
from executor.core.ports import PriceStep

from .fakes import EURUSD

USDJPY = replace(EURUSD, symbol="USDJPY", price_steps=(PriceStep(Decimal(0), Decimal("0.005")),))
ROUNDED = [
    # price, rounded up, rounded down
    ("154.00000000000003", "154.000", "154.000"),
    ("153.99999999999997", "154.000", "154.000"),
    ("154.00499999999998", "154.005", "154.005"),
    ("154.003", "154.005", "154.000"),
    ("154.0000000001", "154.005", "154.000"),
    ("154", "154.000", "154.000"),
]


@pytest.mark.parametrize("price, up, down", ROUNDED)
def test_a_float_s_noise_is_no_reason_for_another_tick(price: str, up: str, down: str) -> None:
    found = [round_price(Decimal(price), USDJPY, up=is_up) for is_up in (True, False)]
    assert found == [Decimal(up), Decimal(down)]
