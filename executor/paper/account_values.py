"""Account values under IBKR's tags, as reqAccountUpdates, reqAccountSummary and their kin show them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from executor.paper.books import BASE, ZERO, Books
from executor.paper.contracts import Instrument

Row = tuple[str, str, str]  # tag, value, currency

_WHOLE = Decimal("0.01")


def money(value: Decimal) -> str:
    return format(value.quantize(_WHOLE, ROUND_HALF_UP), "f")


def values(books: Books, account: str) -> Iterator[Row]:
    """Yield what one account is worth: words, totals in the base currency, one ledger per currency."""
    yield "AccountCode", account, ""
    yield "AccountReady", "true", ""
    yield "AccountType", "INDIVIDUAL", ""
    totals = books.totals(account)
    for tag, value in totals.items():
        yield tag, money(value), BASE
    equity = totals["NetLiquidation"]
    yield (
        "Cushion",
        format((totals["ExcessLiquidity"] / equity if equity else ZERO).quantize(Decimal("0.0001")), "f"),
        "",
    )
    yield "DayTradesRemaining", "-1", ""
    yield from ledger(books, account)


def ledger(books: Books, account: str) -> Iterator[Row]:
    """Yield the balances of every currency, and of all together as BASE."""
    cash = books.accounts[account].cash
    together = sum((books.to_base(*item) for item in cash.items()), ZERO)
    totals = books.totals(account)
    for currency, amount, rate in [("BASE", together, Decimal(1)),
                                   *((name, amount, books.rate(name)) for name, amount in cash.items())]:  # fmt: skip
        yield "Currency", currency, currency
        yield "CashBalance", money(amount), currency
        yield "TotalCashBalance", money(amount), currency
        yield "ExchangeRate", format(rate.quantize(Decimal("0.0000001")), "f"), currency
    yield "NetLiquidationByCurrency", money(totals["NetLiquidation"]), "BASE"
    yield "UnrealizedPnL", money(totals["UnrealizedPnL"]), "BASE"
    yield "RealizedPnL", money(totals["RealizedPnL"]), "BASE"


def summary(books: Books, account: str, tags: str) -> Iterator[Row]:
    """Yield the rows that a reqAccountSummary with these tags gets; `All` and `$LEDGER…` as in the API."""
    wanted = {tag.strip() for tag in tags.split(",")}
    plain = [row for row in values(books, account) if row[2] in ("", BASE)]
    for tag, value, currency in plain:
        if "All" in wanted or tag in wanted:
            yield tag, value, currency
    if any(tag.startswith("$LEDGER") for tag in wanted):
        yield from ledger(books, account)


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
