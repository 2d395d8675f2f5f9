"""Account values under IBKR's tags, as reqAccountUpdates, reqAccountSummary and their kin show them. Pure.

Which tags there are, which of them repeat as a segment's (`-S`, securities) and which once for every currency: the
account download of a real account that nautilus_trader keeps among its test data (account_values.json, 108 rows), and
the tags that ib_insync asks a summary for. Rows come sorted by tag, as recorded. What a paper account never has,
such as bonds, dividends or a debit card, is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from executor.paper.books import BASE, ZERO, Books, Held
from executor.paper.contracts import Instrument

Row = tuple[str, str, str]  # tag, value, currency

_CENT, _FOURTH, _RATE = Decimal("0.01"), Decimal("0.0001"), Decimal("0.0000001")
# of a segment too, in the base currency: tag -> the total it shows; None: always 0
SEGMENTED: dict[str, str | None] = {
    "AccruedDividend": None, "AvailableFunds": "AvailableFunds", "Billable": None,
    "EquityWithLoanValue": "EquityWithLoanValue", "ExcessLiquidity": "ExcessLiquidity",
    "FullAvailableFunds": "AvailableFunds", "FullExcessLiquidity": "ExcessLiquidity",
    "FullInitMarginReq": "InitMarginReq", "FullMaintMarginReq": "MaintMarginReq",
    "GrossPositionValue": "GrossPositionValue", "Guarantee": None, "IndianStockHaircut": None,
    "InitMarginReq": "InitMarginReq", "LookAheadAvailableFunds": "AvailableFunds",
    "LookAheadExcessLiquidity": "ExcessLiquidity", "LookAheadInitMarginReq": "InitMarginReq",
    "LookAheadMaintMarginReq": "MaintMarginReq", "MaintMarginReq": "MaintMarginReq",
    "NetLiquidation": "NetLiquidation", "PASharesValue": None, "PostExpirationExcess": None,
    "PostExpirationMargin": None, "PreviousDayEquityWithLoanValue": "PreviousDayEquityWithLoanValue",
    "RegTEquity": "EquityWithLoanValue", "RegTMargin": "InitMarginReq", "SMA": "AvailableFunds",
    "TotalCashValue": "TotalCashValue", "TotalDebitCardPendingCharges": None,
}  # fmt: skip
WHOLE: dict[str, str | None] = {"BuyingPower": "BuyingPower", "NetLiquidationUncertainty": None}
SUMMARY_ONLY: dict[str, str | None] = {"AccruedCash": None, "SettledCash": "SettledCash"}
# in every ledger, and always 0
NOTHING = ("AccruedCash", "CorporateBondValue", "FundValue", "FutureOptionValue", "FxCashBalance", "IssuerOptionValue",
           "MoneyMarketFundValue", "MutualFundValue", "NetDividend", "OptionMarketValue", "TBillValue", "TBondValue",
           "WarrantValue")  # fmt: skip
DAY_TRADES = ("DayTradesRemaining", *(f"DayTradesRemainingT+{days}" for days in range(1, 5)))
UPDATES_ONLY = frozenset({"AccountCode", "AccountReady", "NLVAndMarginInReview", "TradingType-S", "WhatIfPMEnabled"})


def money(value: Decimal) -> str:
    return format(value.quantize(_CENT, ROUND_HALF_UP), "f")


def values(books: Books, account: str) -> list[Row]:
    """Return what an account download says: words, totals in the base currency, one ledger per currency and BASE."""
    totals = books.totals(account)
    rows = [*_words(account, totals), *_totals(totals), ("AccruedCash-S", "0.00", BASE), *ledger(books, account)]
    return sorted(rows, key=_by_tag)


def _by_tag(row: Row) -> tuple[str, str]:
    tag, _, currency = row
    return tag, currency


def _words(account: str, totals: dict[str, Decimal]) -> Iterator[Row]:
    equity = totals["NetLiquidation"]
    yield "AccountCode", account, ""
    yield "AccountReady", "true", ""
    yield "AccountType", "INDIVIDUAL", ""
    yield (
        "Cushion",
        format((totals["ExcessLiquidity"] / equity if equity else ZERO).quantize(Decimal("0.000001")), "f"),
        "",
    )
    yield from ((tag, "-1", "") for tag in DAY_TRADES)
    yield "Leverage-S", money(_leverage(totals)), ""
    yield "LookAheadNextChange", "0", ""
    yield "NLVAndMarginInReview", "false", ""
    yield "TradingType-S", "STKNOPT", ""
    yield "WhatIfPMEnabled", "true", ""


def _leverage(totals: dict[str, Decimal]) -> Decimal:
    return totals["GrossPositionValue"] / totals["NetLiquidation"] if totals["NetLiquidation"] else ZERO


def _totals(totals: dict[str, Decimal], tags: dict[str, str | None] = SEGMENTED | WHOLE) -> Iterator[Row]:
    for tag, source in tags.items():
        shown = money(totals[source] if source else ZERO)
        yield tag, shown, BASE
        if tag in SEGMENTED:
            yield f"{tag}-S", shown, BASE


def ledger(books: Books, account: str) -> Iterator[Row]:
    """Yield the balances of every currency, and of all together, in the base currency, as BASE."""
    held = books.held_by_currency(account)
    together = Held()
    for currency, one in held.items():
        together = together.plus(one, books.rate(currency))
    for currency, one, rate in [
        ("BASE", together, Decimal(1)),
        *((name, one, books.rate(name)) for name, one in held.items()),
    ]:
        yield from _balances(account, currency, one, rate)


def _balances(account: str, currency: str, held: Held, rate: Decimal) -> Iterator[Row]:
    shown = {
        "AccountOrGroup": account, "Currency": currency, "RealCurrency": currency,
        "ExchangeRate": money(rate) if rate == 1 else format(rate.quantize(_RATE), "f"),
        "CashBalance": money(held.cash), "TotalCashBalance": money(held.cash),
        "StockMarketValue": money(held.stock), "FuturesPNL": money(held.futures),
        "NetLiquidationByCurrency": format(held.liquid.quantize(_FOURTH, ROUND_HALF_UP), "f"),
        "UnrealizedPnL": money(held.unrealized), "RealizedPnL": money(held.realized),
    } | dict.fromkeys(NOTHING, "0.00")  # fmt: skip
    yield from ((tag, value, currency) for tag, value in shown.items())


def summary(books: Books, account: str, tags: str) -> list[Row]:
    """Return the rows that a reqAccountSummary with these tags gets; `All` and `$LEDGER…` as in the API.

    `$LEDGER` is the base currency's ledger, `$LEDGER:EUR` that of one currency, `$LEDGER:ALL` all of them and BASE.
    """
    wanted = {tag.strip() for tag in tags.split(",")}
    totals = books.totals(account)
    plain = [*_words(account, totals), *_totals(totals, SEGMENTED | WHOLE | SUMMARY_ONLY), ("HighestSeverity", "0", ""),
             ("Leverage", money(_leverage(totals)), "")]  # fmt: skip
    rows = [row for row in plain if row[0] not in UPDATES_ONLY and ("All" in wanted or row[0] in wanted)]
    ledgers = {name.partition(":")[2] or BASE for name in wanted if name.startswith("$LEDGER")}
    rows += [row for row in ledger(books, account) if row[2] in ledgers or "ALL" in ledgers] if ledgers else []
    return sorted(rows, key=_by_tag)


def portfolio_numbers(books: Books, account: str, one: Instrument, price: Decimal) -> tuple[Decimal, ...]:
    """Return position, price, value, average cost, unrealised, realised of one position."""
    position = books.accounts[account].positions[one.con_id]
    value = books.value(account, one.con_id)
    numbers = (position.quantity, price, value, position.average, books.unrealized(account, one.con_id),
               position.realized)  # fmt: skip
    return tuple(number.quantize(Decimal("0.00000001")) for number in numbers)


def daily_pnl(books: Books, account: str) -> tuple[Decimal, ...]:
    """Return daily, unrealised, realised P&L of an account in the base currency."""
    totals = books.totals(account)
    daily = totals["NetLiquidation"] - books.accounts[account].equity_at_midnight
    numbers = daily, totals["UnrealizedPnL"], totals["RealizedPnL"]
    return tuple(number.quantize(Decimal("0.000001")) for number in numbers)


def pnl_single(books: Books, account: str, con_id: int) -> tuple[Decimal, ...]:
    """Return position, daily, unrealised, realised P&L and value of one position."""
    position = books.accounts[account].positions.get(con_id)
    if position is None:
        return (ZERO,) * 5
    unrealized = books.unrealized(account, con_id)
    numbers = position.quantity, unrealized + position.realized, unrealized, position.realized
    return tuple(number.quantize(Decimal("0.000001")) for number in (*numbers, books.value(account, con_id)))
