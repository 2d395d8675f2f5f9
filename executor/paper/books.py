"""Accounts: positions, cash, commissions and the values that IBKR derives from them.

IBKR's arithmetic, with its sources:

* Commission of US stocks, IBKR Pro fixed: 0.005 a share, at least 1.00 and at most 1 % of the order's value;
  forex: 0.2 basis points of the value, at least 2.00; futures: per contract (IBKR, Commissions).
* Average cost includes commission for stocks and futures, and is price x multiplier for the latter: recorded
  positions show 315114.75 for an ES bought at 6302.25 (50 x 6302.25 + 2.25). For forex it is the price.
* Realised P&L of a closing fill is after both commissions: a recorded MES round trip 7039.50 -> 7039.25 at 0.62
  a side reports -2.49.
* Forex moves two cash balances and also shows as a virtual position.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from executor.paper.contracts import ONE, Catalog, ContractError, Instrument
from executor.paper.market import Market

ZERO = Decimal(0)
CENT = Decimal("0.01")
BASE = "USD"


@dataclass(slots=True)
class Position:
    """`average` is per unit, IBKR's way (see the module); `realized` is of the day, in the contract's currency."""

    quantity: Decimal = ZERO
    average: Decimal = ZERO
    realized: Decimal = ZERO


@dataclass(slots=True)
class Account:
    """One account. `cash`: currency -> balance; `positions`: conId -> position."""

    name: str
    cash: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    equity_at_midnight: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Held:
    """What an account holds in one currency, in that currency. Forex counts as cash, its open result beside that."""

    cash: Decimal = ZERO
    stock: Decimal = ZERO
    futures: Decimal = ZERO  # the open result of futures, which is part of the equity
    unrealized: Decimal = ZERO
    realized: Decimal = ZERO

    @property
    def liquid(self) -> Decimal:
        return self.cash + self.stock + self.futures

    def plus(self, other: Held, rate: Decimal = ONE) -> Held:
        """Return the sum of this and the other one at this rate."""
        return Held(*(getattr(self, name) + getattr(other, name) * rate for name in Held.__slots__))


def commission_due(one: Instrument, quantity: Decimal, value: Decimal) -> Decimal:
    """Return the commission of a whole order of this size and value.

    It is in the instrument's currency; for forex the value and the answer are in the base currency.
    """
    if one.sec_type == "CASH":
        return _cents(max(value * Decimal("0.00002"), Decimal(2)))
    if one.sec_type == "STK":
        least = min(Decimal(1), value * CENT)
        return _cents(min(max(quantity * Decimal("0.005"), least), value * CENT))
    return one.commission * quantity


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_HALF_UP)


class Worth(NamedTuple):
    """What one position comes to, in its own currency."""

    value: Decimal
    held: Held


class Books:
    """All accounts of one login."""

    def __init__(self, catalog: Catalog, market: Market, accounts: list[str], cash: Decimal) -> None:
        self._catalog = catalog
        self._market = market
        # (account, conId) -> worked out from what, and what
        self._worths: dict[tuple[str, int], tuple[object, Worth]] = {}
        self.accounts = {name: Account(name, {BASE: cash}, {}, cash) for name in accounts}

    def copy(self) -> Books:
        """Return books that do not follow these, over the same market."""
        twin = copy(self)
        twin.accounts = deepcopy(self.accounts)
        return twin

    def apply(self, account: str, con_id: int, signed: Decimal, price: Decimal, commission: Decimal) -> Decimal | None:
        """Book a fill and return the realised P&L, or None if it closed nothing."""
        one, owner = self._catalog[con_id], self.accounts[account]
        position = owner.positions.setdefault(con_id, Position())
        cost_each = price * one.multiplier
        charged = ZERO if one.sec_type == "CASH" else commission / abs(signed)
        realized = self._close(position, signed, cost_each, charged, one)
        self._open(position, signed, cost_each, charged)
        self._move_cash(owner, one, signed, cost_each, commission, realized)
        return realized

    def _close(self, position: Position, signed: Decimal, cost_each: Decimal, charged: Decimal,
               one: Instrument) -> Decimal | None:  # fmt: skip
        if position.quantity * signed >= 0:
            return None
        closed = min(abs(signed), abs(position.quantity))
        direction = 1 if position.quantity > 0 else -1
        realized = closed * (direction * (cost_each - position.average) - charged)
        position.realized += realized
        return realized.quantize(Decimal("0.000001"))

    def _open(self, position: Position, signed: Decimal, cost_each: Decimal, charged: Decimal) -> None:
        before = position.quantity
        position.quantity += signed
        if position.quantity == 0:
            position.average = ZERO
        elif before * position.quantity <= 0:  # opened from flat, or flipped
            position.average = cost_each + (charged if signed > 0 else -charged)
        elif before * signed > 0:  # added
            paid = cost_each + (charged if signed > 0 else -charged)
            position.average = (before * position.average + signed * paid) / position.quantity

    def _move_cash(self, owner: Account, one: Instrument, signed: Decimal, cost_each: Decimal,
                   commission: Decimal, realized: Decimal | None) -> None:  # fmt: skip
        cash = owner.cash
        if one.sec_type == "FUT":  # the opening commission is in the average cost, so it shows as open loss
            cash[one.currency] = cash.get(one.currency, ZERO) + (realized or ZERO)
            return
        if one.sec_type == "CASH":
            cash[one.symbol] = cash.get(one.symbol, ZERO) + signed
            cash[BASE] = cash.get(BASE, ZERO) - commission
            commission = ZERO
        cash[one.currency] = cash.get(one.currency, ZERO) - signed * cost_each - commission

    def rate(self, currency: str) -> Decimal:
        """Return what one unit of a currency is worth in the base currency."""
        if currency == BASE:
            return Decimal(1)
        for pair, inverse in ((currency + BASE, False), (BASE + currency, True)):
            try:
                middle = self._market.quote(self._catalog.named(pair).con_id).middle
            except ContractError:
                continue
            return 1 / middle if inverse else middle
        return Decimal(1)

    def commission(self, one: Instrument, quantity: Decimal, cost: Decimal) -> tuple[Decimal, str]:
        """Return the commission of a whole order and its currency; `cost` is the sum of price x quantity."""
        if one.sec_type == "CASH":
            return commission_due(one, quantity, self.to_base(one.currency, cost)), BASE
        return commission_due(one, quantity, cost * one.multiplier), one.currency

    def to_base(self, currency: str, amount: Decimal) -> Decimal:
        return amount * self.rate(currency)

    def unrealized(self, account: str, con_id: int) -> Decimal:
        """Return the open P&L of one position in its own currency."""
        position = self.accounts[account].positions.get(con_id, Position())
        return self.value(account, con_id) - position.quantity * position.average

    def value(self, account: str, con_id: int) -> Decimal:
        position = self.accounts[account].positions.get(con_id, Position())
        return position.quantity * self._market.quote(con_id).middle * self._catalog[con_id].multiplier

    def open_positions(self, account: str) -> Iterator[tuple[Instrument, Position]]:
        for con_id, position in self.accounts[account].positions.items():
            if position.quantity:
                yield self._catalog[con_id], position

    def held_by_currency(self, account: str) -> dict[str, Held]:
        """Return what the account holds, by currency: the base currency, and each that it has cash or a position in."""
        owner = self.accounts[account]
        held = {BASE: Held()} | {currency: Held(cash=amount) for currency, amount in owner.cash.items()}
        for con_id, position in owner.positions.items():
            currency = self._catalog[con_id].currency
            held[currency] = held.get(currency, Held()).plus(self._worth(account, con_id, position).held)
        return held

    def totals(self, account: str) -> dict[str, Decimal]:
        """Return the account values in the base currency, by IBKR's tags."""
        together = Held()
        for currency, one in self.held_by_currency(account).items():
            together = together.plus(one, self.rate(currency))
        margin = gross = ZERO
        for instrument, position in self.open_positions(account):
            value = abs(self.to_base(instrument.currency, self._worth(account, instrument.con_id, position).value))
            margin += value * instrument.margin
            gross += value if instrument.sec_type == "STK" else ZERO
        return _derived(together.cash, together.liquid, gross, margin) | {
            "PreviousDayEquityWithLoanValue": self.accounts[account].equity_at_midnight,
            "UnrealizedPnL": together.unrealized, "RealizedPnL": together.realized,
            "StockMarketValue": together.stock, "FuturesPNL": together.futures}  # fmt: skip

    def _worth(self, account: str, con_id: int, position: Position) -> Worth:
        """Return what a position is worth; worked out again only when it or its price has moved."""
        place = account, con_id
        found_from = self._market.quote(con_id), position.quantity, position.average, position.realized
        known = self._worths.get(place)
        if known is None or known[0] != found_from:
            one, value, open_pnl = self._catalog[con_id], self.value(account, con_id), self.unrealized(account, con_id)
            held = Held(stock=value if one.sec_type == "STK" else ZERO,
                        futures=open_pnl if one.sec_type == "FUT" else ZERO,
                        unrealized=open_pnl, realized=position.realized)  # fmt: skip
            known = self._worths[place] = found_from, Worth(value, held)
        return known[1]

    def margin_needed(self, account: str, one: Instrument, signed: Decimal) -> Decimal:
        """Return by how much an order would raise the margin, in the base currency."""
        held = self.accounts[account].positions.get(one.con_id, Position()).quantity
        more = abs(held + signed) - abs(held)
        value = more * self._market.quote(one.con_id).middle * one.multiplier
        return self.to_base(one.currency, value) * one.margin

    def new_day(self) -> None:
        """Begin a day: realised P&L restarts, and daily P&L counts from here."""
        for account in self.accounts.values():
            for position in account.positions.values():
                position.realized = ZERO
            account.equity_at_midnight = self.totals(account.name)["NetLiquidation"]


def _derived(cash: Decimal, equity: Decimal, gross: Decimal, margin: Decimal) -> dict[str, Decimal]:
    free = equity - margin
    return {
        "NetLiquidation": equity, "TotalCashValue": cash, "SettledCash": cash, "EquityWithLoanValue": equity,
        "GrossPositionValue": gross, "InitMarginReq": margin, "MaintMarginReq": margin, "AvailableFunds": free,
        "ExcessLiquidity": free, "BuyingPower": max(free, ZERO) * 4, "AccruedCash": ZERO,
    }  # fmt: skip
