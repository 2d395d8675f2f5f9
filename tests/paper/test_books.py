"""The arithmetic of accounts, and executors whose mistakes cost money in these books."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_insync import Contract, LimitOrder, MarketOrder, StopOrder

from executor.paper.books import commission_due
from executor.paper.contracts import BUILT_IN, Catalog, ContractError, from_table, load
from tests.paper.harness import EURUSD, Api, Tws

CATALOG = Catalog()


@pytest.mark.parametrize(("symbol", "quantity", "value", "due"), [
    pytest.param("AAPL", "1", "263.5", "1.00", id="least: one dollar"),
    pytest.param("AAPL", "1000", "263500", "5.00", id="half a cent a share"),
    pytest.param("F", "1", "13", "0.13", id="at most one per cent"),
    pytest.param("EURUSD", "20000", "23800", "2.00", id="forex: at least two dollars"),
    pytest.param("EURUSD", "1000000", "1190000", "23.80", id="forex: 0.2 basis points"),
])  # fmt: skip
def test_commission(symbol: str, quantity: str, value: str, due: str) -> None:
    assert commission_due(CATALOG.named(symbol), Decimal(quantity), Decimal(value)) == Decimal(due)


def test_average_cost_of_a_future_includes_commission() -> None:
    """A recorded ES position: 315114.75 for one bought at 6302.25 with 2.25 commission."""
    es = from_table({"symbol": "ES", "sec_type": "FUT", "exchange": "CME", "price": "6302", "tick": "0.25",
                     "multiplier": 50, "commission": "2.25", "local_symbol": "ESM6"})  # fmt: skip
    tws = Tws(instruments=[*BUILT_IN, es])
    tws.owner.place("ESM6", "BUY", 1)
    position = tws.exchange.floor.books.accounts["DU1234567"].positions[es.con_id]
    assert position.average == Decimal("315114.75")


def test_totals_follow_prices_positions_and_currencies(tws: Tws) -> None:
    """They are worked out anew only for what has moved."""
    tws.owner.place("AAPL", "BUY", 100)
    tws.owner.place("USDJPY", "BUY", 20000)
    before = tws.total("NetLiquidation")
    tws.price("AAPL", "264.5")
    assert tws.total("NetLiquidation") == before + 100 and tws.total("StockMarketValue") == 26450
    tws.owner.place("AAPL", "SELL", 60)
    tws.price("USDJPY", "160")
    books = tws.exchange.floor.books
    known = books.totals("DU1234567")
    books._worths.clear()
    assert books.totals("DU1234567") == known and known["StockMarketValue"] == 40 * Decimal("264.5")
    assert books.copy().totals("DU1234567") == known


def test_round_trip_costs_spread_and_commissions(tws: Tws) -> None:
    tws.owner.place("AAPL", "BUY", 100)
    tws.owner.close("AAPL")
    assert tws.total("NetLiquidation") == 1_000_000 - Decimal(100) * Decimal("0.02") - 2
    assert tws.total("RealizedPnL") == Decimal(-4)


def test_flip_realises_the_closed_part_only(tws: Tws) -> None:
    tws.owner.place("EURUSD", "BUY", 20000)
    tws.price("EURUSD", "1.20")
    tws.owner.place("EURUSD", "SELL", 50000)
    assert tws.position() == -30000
    assert tws.total("RealizedPnL") == Decimal(20000) * (Decimal("1.19995") - Decimal("1.19005"))


def test_forex_moves_two_balances(tws: Tws) -> None:
    tws.owner.place("EURUSD", "BUY", 20000)
    cash = tws.exchange.floor.books.accounts["DU1234567"].cash
    assert cash == {"USD": 1_000_000 - 20000 * Decimal("1.19005") - 2, "EUR": 20000}


def test_yen_results_are_valued_in_dollars(tws: Tws) -> None:
    tws.owner.place("USDJPY", "BUY", 25000)
    tws.price("USDJPY", "156.01")
    assert tws.total("UnrealizedPnL") == 25000 * (Decimal("156.01") - Decimal("155.005")) / Decimal("156.01")


fills = st.lists(st.tuples(st.sampled_from(["BUY", "SELL"]), st.integers(1, 300), st.integers(2000, 3000)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(fills)
def test_equity_is_start_plus_results(orders: list[tuple[str, int, int]]) -> None:
    """Net liquidation = start + realised + unrealised, whatever was traded: both include commissions."""
    tws = Tws()
    for action, quantity, price in orders:
        tws.price("AAPL", str(Decimal(price) / 10))
        tws.owner.place("AAPL", action, quantity)
    equity = 1_000_000 + tws.total("RealizedPnL") + tws.total("UnrealizedPnL")
    assert abs(tws.total("NetLiquidation") - equity) < Decimal("0.0001")
    assert tws.position("AAPL") == sum(q if a == "BUY" else -q for a, q, _ in orders)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("EURUSD", "EUR"),
        ("EUR.USD", "EUR"),
        ("eur/usd", "EUR"),
        ("BRK B", "BRK B"),
        ("BRK.B", "BRK B"),
        ("265598", "AAPL"),
    ],
)
def test_instruments_have_several_spellings(name: str, symbol: str) -> None:
    assert CATALOG.named(name).symbol == symbol


def test_con_ids_are_unique_and_stable() -> None:
    assert len({one.con_id for one in BUILT_IN}) == len(BUILT_IN) and CATALOG.named("EURUSD").con_id == 12087792
    table = {"symbol": "NQ", "sec_type": "FUT", "exchange": "CME", "price": "25000"}
    assert from_table(table).con_id == from_table(dict(table)).con_id


@pytest.mark.parametrize(
    "table", [{"symbol": "X"}, {"symbol": "X", "sec_type": "FUT", "exchange": "E", "price": "much"}]
)
def test_incomplete_contract_is_named(table: dict[str, object]) -> None:
    with pytest.raises(ContractError, match="contract X"):
        from_table(table)


def future(symbol: str, tick: str, **more: object) -> dict[str, object]:
    return {"symbol": symbol, "sec_type": "FUT", "exchange": "CME", "price": "100", "tick": tick, **more}


@settings(deadline=None)
@given(st.lists(st.sampled_from(["0.25", "0.01", "0.010", "0.005", "1", "10", "0.0078125", "0.00005"]), min_size=1))
def test_each_contract_has_the_price_rule_of_its_tick(ticks: list[str]) -> None:
    own = [from_table(future(f"F{at}", tick)) for at, tick in enumerate(ticks)]
    tws = Tws(instruments=[*BUILT_IN, *own])
    api = tws.connect()
    for one, tick in zip(own, ticks, strict=True):
        api.reqContractDetails(1, Contract(conId=one.con_id))
        details = api.take()[0][1][1]
        assert len(details.marketRuleIds.split(",")) == len(details.validExchanges.split(","))
        api.reqMarketRule(int(details.marketRuleIds.split(",")[0]))
        ((_, (_, steps)),) = api.take()
        assert [(step.lowEdge, Decimal(str(step.increment))) for step in steps] == [(0, Decimal(tick))]
        assert Decimal(str(details.minTick)) == Decimal(tick)


def test_price_is_checked_by_the_tick_of_its_own_contract() -> None:
    own = [from_table(future("MES", "0.25")), from_table(future("CL", "0.01"))]
    api = Tws(instruments=[*BUILT_IN, *own]).connect()
    for order_id, (one, price) in enumerate([(own[0], 90.01), (own[1], 90.01), (own[0], 90.25)], 1):
        api.place(Contract(conId=one.con_id), LimitOrder("BUY", 1, price, orderId=order_id))
    assert api.errors() == [110]


def test_price_rule_that_nothing_has_is_refused(api: Api) -> None:
    api.reqMarketRule(4711)
    ((name, args),) = api.take()
    assert (name, args[1]) == ("error", 322) and "id = 4711 is missing" in args[2]


@pytest.mark.parametrize("tick", ["0", "-0.01", "NaN", "0.333333333333", "Infinity"])
def test_tick_that_is_none_is_named(tick: str) -> None:
    with pytest.raises(ContractError, match="contract X"):
        from_table(future("X", tick))


def test_one_number_for_two_price_rules_is_refused() -> None:
    with pytest.raises(ContractError, match="price rule 26 is another contract's"):
        Catalog([*BUILT_IN, from_table(future("MES", "0.25", rule_id=26))])
    Catalog([*BUILT_IN, from_table(future("MES", "0.01", rule_id=26))])


def test_two_contracts_of_one_con_id_in_a_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "more.json"
    file.write_text(json.dumps({"contract": [future("A", "1", con_id=5), future("B", "1", con_id=5)]}), "utf-8")
    with pytest.raises(ContractError, match="contracts A and B: both are conId 5"):
        load(file)


# -- executors that are wrong ---------------------------------------------------------------------------------
# Each plays the same day: long 20000 EURUSD, the price falls through the stop and comes back above the target.


def good(tws: Tws, api: Api) -> None:
    api.bracket()
    play(tws)


def limit_in_place_of_the_stop(tws: Tws, api: Api) -> None:
    """A limit at 1.18 fills at once: the trade is over before it began."""
    ids = {"tif": "GTC", "orderRef": "sx1:1:"}
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=1, transmit=False, **ids))
    api.place(EURUSD, LimitOrder("SELL", 20000, 1.20, orderId=2, parentId=1, transmit=False, **ids))
    api.place(EURUSD, LimitOrder("SELL", 20000, 1.18, orderId=3, parentId=1, **ids))
    assert tws.position() == 0
    play(tws)


def exits_not_linked(tws: Tws, api: Api) -> None:
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=1))
    api.place(EURUSD, LimitOrder("SELL", 20000, 1.20, orderId=2, tif="GTC"))
    api.place(EURUSD, StopOrder("SELL", 20000, 1.18, orderId=3, tif="GTC"))
    play(tws)


def closed_before_the_exits_were_cancelled(tws: Tws, api: Api) -> None:
    api.bracket()
    api.place(EURUSD, MarketOrder("SELL", 20000, orderId=4))
    play(tws)


def quantity_from_the_journal_alone(tws: Tws, api: Api) -> None:
    """The owner closed by hand; the executor closes what its journal says once more."""
    api.bracket()
    tws.owner.close("EURUSD")
    for order_id in (2, 3):
        api.cancelOrder(order_id)
    api.place(EURUSD, MarketOrder("SELL", 20000, orderId=4))
    play(tws)


def play(tws: Tws) -> None:
    for price in ("1.1795", "1.2005", "1.2105"):
        tws.price("EURUSD", price)


def test_good_executor_loses_what_its_stop_allows(tws: Tws, api: Api) -> None:
    good(tws, api)
    assert tws.position() == 0 and -220 < tws.total("NetLiquidation") - 1_000_000 < -200


@pytest.mark.parametrize(
    ("bad", "left"),
    [
        (exits_not_linked, -20000),
        (closed_before_the_exits_were_cancelled, -20000),
        (quantity_from_the_journal_alone, -20000),
    ],
)
def test_bad_executor_is_left_with_a_position_that_loses(
    tws: Tws, api: Api, bad: Callable[[Tws, Api], None], left: int
) -> None:
    bad(tws, api)
    assert tws.position() == left and tws.total("NetLiquidation") - 1_000_000 < -400


def test_limit_for_a_stop_pays_for_a_trade_that_never_was(tws: Tws, api: Api) -> None:
    limit_in_place_of_the_stop(tws, api)
    fills = [(one["action"], one["price"]) for one in tws.truth("filled")]
    assert fills == [("BUY", "1.19005"), ("SELL", "1.18995")] and tws.total("NetLiquidation") < 1_000_000
