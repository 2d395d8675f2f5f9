"""Which contract a symbol is at the broker: asked once and kept; answered in words where there is not one.

A question survives a lost connection: it is asked again on the next one, so each is answered exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Protocol

from common.errors import BrokerUnavailable
from common.logs import get_logger
from executor.core.contracts import UnknownSymbol, spec_for
from executor.core.ports import Contract, ContractSpec, Listener, PriceStep
from executor.tws import decode
from executor.tws.prices import Prices
from executor.tws.wire import RequestRefused, Wire, within

log = get_logger(__name__)

_NO_SUCH_CONTRACT = 200
_FIRST_PRICE_SECONDS = 1.0
# IBKR allows 100 lines by default per login, which the owner's own TWS windows share.
# Source: IBKR, Market Data Lines.
MOST_LINES = 60
_CHOICES = 5
_Question = tuple[str, int]  # a symbol; the contract that must be its, 0 for the one it means
# Orders of these work in all hours in which the exchange trades; those of others wait for its liquid hours.
_ALL_HOURS = ("FUT",)
_WHOLE_UNITS = ("STK", "CASH", "FUT", "CFD")  # shares, units of the base currency, contracts


class Questions(Protocol):
    """What a lookup asks of TWS. Each of the questions raises BrokerUnavailable where there is no connection.

    An answer is the library's own objects, of which a lookup reads the fields; a question that is not answered in
    time raises TimeoutError, one that TWS refuses RequestRefused.
    """

    @property
    def connected(self) -> bool:
        """Whether TWS can be asked now."""

    @property
    def wire(self) -> Wire:
        """The present connection, on which prices are heard."""

    @property
    def listener(self) -> Listener | None:
        """Who hears the answers; None before the account is known to be the right one."""

    async def details(self, spec: ContractSpec) -> list[Any]:
        """Return the details of every contract that fits."""

    async def samples(self, text: str) -> list[Any]:
        """Return what resembles a text."""

    async def market_rule(self, rule_id: int) -> list[Any]:
        """Return the rows of a market rule: price from which, step."""

    def watch(self, contract: Contract, *, delayed: bool = False) -> None:
        """Subscribe to a contract's prices, in place of an earlier subscription to them."""

    def unwatch(self, contract: Contract) -> None:
        """End the subscription to a contract's prices."""


class Lookup:
    """Symbols being looked up, and those that are known."""

    def __init__(self, tws: Questions, prices: Prices, configured: Mapping[str, ContractSpec]) -> None:
        self._tws, self._prices, self._configured = tws, prices, configured
        self._known: dict[_Question, Contract] = {}
        self._rules: dict[int, tuple[PriceStep, ...]] = {}  # market rule → its steps
        self._asked: dict[_Question, asyncio.Task[None] | None] = {}
        self._delayed: set[int] = set()  # con_ids whose live prices TWS refused
        self._first_price: dict[int, asyncio.Event] = {}
        self._lines: dict[
            int, Contract
        ] = {}  # con_id → contract whose prices are subscribed to, asked longest ago first
        self.most_lines = MOST_LINES

    def known(self) -> list[Contract]:
        """Return the contracts that were looked up so far."""
        return list(self._known.values())

    def ask(self, symbol: str, con_id: int = 0) -> None:
        """Answer `on_contract` for a symbol, or for one contract of it, now or when TWS is there."""
        question = symbol, con_id
        if self._asked.get(question) is None:
            self._asked[question] = self._start(question)

    def resume(self) -> None:
        """Take up a new connection: subscribe again to what is known, and ask again what was not answered."""
        wire = self._tws.wire
        wire.on_tick, wire.on_no_live_data, wire.on_data_lost = self._ticked, self._no_live_data, self._watch_anew
        wire.on_too_many = self._too_many
        self.most_lines = MOST_LINES  # lines that other windows took may be free again
        self._watch_anew()
        for question in list(self._asked):
            self.ask(*question)

    def _watch_anew(self) -> None:
        """Subscribe to every known contract's prices; earlier quotes no longer count.

        Source: IBKR, Message Codes, 1101: market data has to be asked for again.
        """
        self._prices.forget()
        self._delayed.clear()
        lines, self._lines = self._lines, {}
        for contract in lines.values():
            self._watch(contract)

    def _start(self, question: _Question) -> asyncio.Task[None] | None:
        return asyncio.ensure_future(self._answer(question)) if self._tws.connected else None

    async def _answer(self, question: _Question) -> None:
        try:
            answer = await self._contract(question)
        except BrokerUnavailable:
            self._asked[question] = None  # asked again on the next connection
            return
        except Exception as exc:  # a bug of ours, or an answer like none before: the question must not hang forever
            log.exception("lookup_failed", symbol=question[0])
            answer = f"TWS's answer about {question[0]} could not be processed ({exc!r}); send the signal again"
        del self._asked[question]
        if self._tws.listener:
            symbol, con_id = question
            self._tws.listener.on_contract(symbol, answer, con_id)

    async def _contract(self, question: _Question) -> Contract | str:
        symbol, con_id = question
        if question in self._known and not con_id:
            await self._price_anew(self._known[question])
            return self._known[question]
        try:
            spec = self._spec(symbol, con_id)
            found = await self._details(spec)
        except UnknownSymbol as exc:
            return str(exc) + await self._similar(symbol)
        except RequestRefused as exc:
            return await self._refused(symbol, exc)
        except TimeoutError:
            return f"TWS did not identify {symbol} in time; send the signal again"
        if len(found) != 1:
            return f'{symbol} is ambiguous: {_choices(found)}. Name one in executor.toml: [contracts."{symbol}"]'
        contract = await self._made(spec, found[0])
        self._know(question, contract)
        await self._price_anew(contract)
        return contract

    def _know(self, question: _Question, contract: Contract) -> None:
        """Keep a contract, and its newest hours under all its names."""
        same = {q: known for q, known in self._known.items() if known.con_id == contract.con_id}
        self._known |= {q: replace(known, sessions=contract.sessions) for q, known in same.items()}
        self._known[question] = contract

    async def _details(self, spec: ContractSpec) -> list[Any]:
        """Return what TWS knows; a contract named by its number is asked for by that alone where the rest contradicts it."""
        try:
            return await self._tws.details(spec)
        except RequestRefused as exc:
            if not spec.con_id or exc.number != _NO_SUCH_CONTRACT:
                raise
        return await self._tws.details(_by_number(spec.symbol, spec.con_id))

    def _spec(self, symbol: str, con_id: int) -> ContractSpec:
        """Return what to ask TWS for; a contract that is named by its number needs nothing of the configuration."""
        if not con_id:
            return spec_for(symbol, self._configured)
        try:
            return replace(spec_for(symbol, self._configured), con_id=con_id, expiry="", multiplier="")
        except UnknownSymbol:
            return _by_number(symbol, con_id)

    async def _refused(self, symbol: str, error: RequestRefused) -> str:
        if error.number != _NO_SUCH_CONTRACT:
            return f"TWS could not look up {symbol}: {error} ({error.number})"
        return f"TWS knows no contract for {symbol}: {error}" + await self._similar(symbol)

    async def _similar(self, symbol: str) -> str:
        """Return what TWS knows that resembles a symbol, as a sentence; "" where it knows nothing."""
        try:
            found = await self._tws.samples(symbol)
        except (RequestRefused, TimeoutError):
            return ""
        return f". Similar: {_choices(found)}" if found else ""

    async def _made(self, spec: ContractSpec, details: Any) -> Contract:
        named = details.contract
        return Contract(
            con_id=decode.whole(named.conId),
            symbol=spec.symbol,
            sec_type=named.secType,
            local=named.symbol,
            currency=named.currency,
            exchange=_exchange(spec, details),
            multiplier=decode.exact(named.multiplier) or Decimal(1),
            price_steps=await self._steps(details, spec.exchange),
            size_step=_size_step(named.secType, details),
            description=details.longName or named.localSymbol,
            sessions=decode.sessions(_hours(details), details.timeZoneId),
        )

    async def _steps(self, details: Any, exchange: str) -> tuple[PriceStep, ...]:
        """Return the contract's price steps on an exchange; its smallest tick if TWS gives no rule."""
        rule = _market_rule(details, exchange)
        if rule not in self._rules:
            try:
                rows = await self._tws.market_rule(rule) if rule else []
            except (RequestRefused, TimeoutError):
                rows = []
            steps = tuple(
                PriceStep(decode.exact(r.lowEdge) or Decimal(0), decode.exact(r.increment) or Decimal(0)) for r in rows
            )
            if not steps or any(step.increment <= 0 for step in steps):
                return (PriceStep(Decimal(0), decode.exact(details.minTick) or Decimal("0.01")),)
            self._rules[rule] = steps
        return self._rules[rule]

    async def _price_anew(self, contract: Contract) -> None:
        """Subscribe again where no price is known, or none that is recent: TWS starts a subscription with what it knows."""
        if self._prices.price(contract.con_id) is None:
            await self._first_price_of(contract)

    def _watch(self, contract: Contract, *, delayed: bool = False) -> None:
        """Subscribe to a contract's prices; where there are too many lines, drop the one that was asked about longest ago."""
        self._lines.pop(contract.con_id, None)
        while len(self._lines) >= self.most_lines:
            self._tws.unwatch(self._lines.pop(next(iter(self._lines))))
        self._lines[contract.con_id] = contract
        self._prices.forget(contract.con_id)
        self._tws.watch(contract, delayed=delayed)

    def _too_many(self, con_id: int) -> None:
        """TWS has no line left (code 101), since others share them: use fewer, and drop the oldest."""
        contract = self._lines.pop(con_id, None)
        if contract is not None and self._lines:
            self.most_lines = min(self.most_lines, len(self._lines))
            self._watch(contract)
        elif con_id in self._first_price:
            self._first_price[con_id].set()

    async def _first_price_of(self, contract: Contract) -> None:
        heard = self._first_price.setdefault(contract.con_id, asyncio.Event())
        self._watch(contract)
        try:
            await within(_FIRST_PRICE_SECONDS, heard.wait())
        except TimeoutError:
            pass
        finally:
            self._first_price.pop(contract.con_id, None)

    def _ticked(self, con_id: int) -> None:
        waiting = self._first_price.get(con_id)
        if waiting and self._prices.price(con_id) is not None:
            waiting.set()

    def _no_live_data(self, con_id: int, text: str) -> None:
        """Ask for delayed prices if TWS refuses live ones; if it refuses both, nothing waits for a price."""
        contract = next((known for known in self._known.values() if known.con_id == con_id), None)
        if contract and con_id not in self._delayed:
            self._delayed.add(con_id)
            self._watch(contract, delayed=True)
        elif con_id in self._first_price:
            self._first_price[con_id].set()


def _exchange(spec: ContractSpec, details: Any) -> str:
    """Return where a contract is ordered: routed by IBKR where that was asked for and is possible, else at its exchange."""
    routed = spec.exchange == "SMART" and "SMART" in details.validExchanges.split(",")
    return "SMART" if routed else str(details.contract.exchange)


def _hours(details: Any) -> str:
    """Return when a close can fill, as TWS writes it: in all trading hours for a future, in liquid hours for others."""
    return str(details.tradingHours if details.contract.secType in _ALL_HOURS else details.liquidHours)


def _by_number(symbol: str, con_id: int) -> ContractSpec:
    return ContractSpec(symbol, sec_type="", local=symbol, currency="", exchange="", con_id=con_id)


def _market_rule(details: Any, exchange: str) -> int:
    """Return the id of the rule for an exchange: the two comma-separated lists run side by side; 0 for none.

    Source: IBKR, ContractDetails.MarketRuleIds.
    """
    rules, exchanges = details.marketRuleIds.split(","), details.validExchanges.split(",")
    by_exchange = dict(zip(exchanges, rules, strict=False))
    rule = by_exchange.get(exchange) or rules[0]
    return int(rule) if rule.isdigit() else 0


def _size_step(sec_type: str, details: Any) -> Decimal:
    """Return the step of quantities: whole units, except what TWS gives for crypto currencies and the like."""
    if sec_type in _WHOLE_UNITS:
        return Decimal(1)
    step = decode.exact(details.sizeIncrement)
    return step if step and step > 0 else Decimal(1)


def _choices(found: list[Any]) -> str:
    contracts = [each.contract for each in found]
    more = f"; and {len(contracts) - _CHOICES} more" if len(contracts) > _CHOICES else ""
    return "; ".join(map(_named, contracts[:_CHOICES])) + more


def _named(contract: Any) -> str:
    where = contract.primaryExchange or contract.exchange
    words = (contract.secType, where, contract.currency, contract.lastTradeDateOrContractMonth)
    return f"{contract.symbol} ({', '.join(filter(None, words))}, con_id {contract.conId})"
