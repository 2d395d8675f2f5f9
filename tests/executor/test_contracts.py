"""Which contract a symbol means."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from common.symbols import canonical
from executor.core.contracts import UnknownSymbol, canonical_of, spec_for
from executor.core.ports import ContractSpec
from executor.tws.lookup import _market_rule, _size_step


@pytest.mark.parametrize("text", ["EURUSD", "EUR/USD", "EUR.USD", "FX:EURUSD", "eurusd"])
def test_forex_is_one_pair_on_idealpro(text: str) -> None:
    spec = spec_for(canonical(text), {})
    assert spec == ContractSpec("EURUSD", "CASH", "EUR", "USD", "IDEALPRO")


@pytest.mark.parametrize(
    ("text", "local"), [("AAPL", "AAPL"), ("NASDAQ:AAPL", "AAPL"), ("BRK.B", "BRK B"), ("BRK/B", "BRK B")]
)
def test_us_share_is_on_smart(text: str, local: str) -> None:
    spec = spec_for(canonical(text), {})
    assert (spec.sec_type, spec.local, spec.currency, spec.exchange) == ("STK", local, "USD", "SMART")


@pytest.mark.parametrize("text", ["ES1!", "BTCUSDT", "XAUUSD", "7203", "USDUSD", "TOOLONG", "GOOG.ABC"])
def test_anything_else_needs_the_configuration(text: str) -> None:
    with pytest.raises(UnknownSymbol, match=rf'\[contracts\."{text}"\] with sec_type'):
        spec_for(canonical(text), {})


def test_configuration_wins_over_the_spelling() -> None:
    spec = ContractSpec("AAPL", "CFD", "AAPL", "USD", "SMART")
    assert spec_for("AAPL", {"AAPL": spec}) is spec
    with pytest.raises(UnknownSymbol, match="configured are AAPL"):
        spec_for("ES1!", {"AAPL": spec})


@pytest.mark.parametrize(
    ("said", "symbol"),
    [
        (("CASH", "EUR", "USD", "EUR.USD"), "EURUSD"),
        (("STK", "BRK B", "USD", "BRK B"), "BRK.B"),
        (("FUT", "ES", "USD", "ESZ6"), "ESZ6"),
        (("CRYPTO", "BTC", "USD", ""), "BTC"),
    ],
)
def test_what_the_broker_names_becomes_canonical(said: tuple[str, str, str, str], symbol: str) -> None:
    assert canonical_of(*said) == symbol


@pytest.mark.parametrize(
    ("rules", "exchanges", "exchange", "rule"),
    [("26,240", "SMART,NYSE", "NYSE", 240), ("26,240", "SMART,NYSE", "ARCA", 26), ("", "", "SMART", 0)],
)
def test_market_rule_of_the_exchange(rules: str, exchanges: str, exchange: str, rule: int) -> None:
    assert _market_rule(SimpleNamespace(marketRuleIds=rules, validExchanges=exchanges), exchange) == rule


def test_sizes_are_whole_but_for_what_trades_in_parts() -> None:
    fine = SimpleNamespace(sizeIncrement=0.0001)
    assert _size_step("STK", fine) == _size_step("CASH", fine) == 1
    assert str(_size_step("CRYPTO", fine)) == "0.0001"
