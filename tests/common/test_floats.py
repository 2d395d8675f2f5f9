"""What a float leaves in a decimal: taken off where it is noise, and only there."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.floats import without_noise

MEANT = [
    ("154.00000000000003", "154"), ("153.99999999999997", "154"), ("0.30000000000000004", "0.3"),
    ("0.09999999999999998", "0.1"), ("1.1000000000000014", "1.1"), ("10000.000000000002", "10000"),
    ("154.00000000000002842171", "154"),  # with twenty decimals, as a fixed format writes the same float
    ("99.9999999999986", "100"),  # 0.1, a thousand times
    ("1.2345678901199999", "1.23456789012"),
]  # fmt: skip
AS_IT_STANDS = [
    "154.003", "154", "0.0001", "1.18", "154.0000000001", "1.2345678901234567",
    "154.00000000000003000000",  # a float prints other digits there
    "123456789012.00000001", "999999999999.99999999999999999999", "100000000000.00000000",
]  # fmt: skip


@pytest.mark.parametrize("text, meant", MEANT)
def test_the_noise_of_a_float_is_taken_off(text: str, meant: str) -> None:
    assert str(without_noise(Decimal(text))) == meant


@pytest.mark.parametrize("text", AS_IT_STANDS)
def test_what_no_float_made_stays_to_the_last_digit(text: str) -> None:
    assert str(without_noise(Decimal(text))) == text


@given(st.integers(1, 10**8), st.integers(0, 4), st.integers(-8, 8))
def test_a_few_roundings_never_move_a_price(units: int, decimals: int, steps: int) -> None:
    """Whatever was computed beside a price, by up to eight steps of a float, is that price."""
    price = Decimal(units).scaleb(-decimals)
    number = float(price)
    for _ in range(abs(steps)):
        number = math.nextafter(number, math.inf if steps > 0 else 0)
    assert without_noise(Decimal(f"{number:.17g}" if "e" not in f"{number:.17g}" else str(price))) == price


@given(st.decimals(min_value=Decimal("0.00000001"), max_value=10**11, places=8))
def test_it_moves_nothing_by_more_than_noise_and_only_once(number: Decimal) -> None:
    meant = without_noise(number)
    assert abs(meant - number) <= number * Decimal("1E-13")
    assert without_noise(meant) == meant
