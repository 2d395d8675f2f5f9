"""One spelling for each instrument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.symbols import IDEALPRO_CURRENCIES, canonical, is_forex

SAME = [
    ("EURUSD", "EURUSD"), ("eurusd", "EURUSD"), ("EUR/USD", "EURUSD"),
    ("EUR.USD", "EURUSD"), ("FX:EURUSD", "EURUSD"),
    ("OANDA:EUR/USD", "EURUSD"),
    ("AAPL", "AAPL"), ("NASDAQ:AAPL", "AAPL"), ("BATS_DLY:AAPL", "AAPL"),
    ("BRK.B", "BRK.B"), ("BRK/B", "BRK.B"), ("NYSE:brk.b", "BRK.B"), ("ES1!", "ES1!"), ("CME_MINI:NQ1!", "NQ1!"),
    ("ABC/DEF", "ABC.DEF"), ("EUREUR", "EUREUR"), (" AAPL ", "AAPL"), ("XAUUSD", "XAUUSD"),
]  # fmt: skip


@pytest.mark.parametrize("text, expected", SAME)
def test_every_spelling_has_one_canonical_form(text, expected):
    assert canonical(text) == expected


@pytest.mark.parametrize(
    "text", ["", "  ", "A:B:C", "A B", "<b>", "ЕURUSD", "ß", "X" * 31, "/A", "A\n", "A\x00", "😀", "NYSE:"]
)
def test_rubbish_is_refused_with_the_reason(text):
    with pytest.raises(ValueError, match="must"):
        canonical(text)


@given(st.text("ABCEURUSDabc./:!_- 123", max_size=12))
def test_applying_it_twice_changes_nothing(text):
    try:
        once = canonical(text)
    except ValueError:
        return
    assert canonical(once) == once


@given(st.sampled_from(sorted(IDEALPRO_CURRENCIES)), st.sampled_from(sorted(IDEALPRO_CURRENCIES)))
def test_a_pair_needs_two_different_currencies(base, quote):
    assert is_forex(base + quote) is (base != quote)
