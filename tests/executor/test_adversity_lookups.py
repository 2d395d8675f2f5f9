"""Questions about contracts that meet each other, contradict, or have a broken answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from common.clock import SystemClock
from executor.core.contracts import spec_from
from executor.core.ports import Contract, ContractSpec
from executor.tws import lookup as module
from executor.tws.lookup import Lookup
from executor.tws.prices import Prices
from executor.tws.wire import RequestRefused, Wire
from tests.wire.harness import until

ES = ContractSpec("ES", "FUT", "ES", "USD", "CME", expiry="202612")


def said(sec_type: str = "FUT", exchange: str = "CME", **changes: Any) -> SimpleNamespace:
    """What TWS says of a contract."""
    contract = SimpleNamespace(
        conId=5, symbol="ES", secType=sec_type, currency="USD", exchange=exchange, multiplier="50", localSymbol="ESZ6"
    )
    known = {"contract": contract, "marketRuleIds": "67", "validExchanges": exchange, "minTick": 0.25, "longName": "E"}
    known |= {"tradingHours": "", "liquidHours": "", "timeZoneId": ""}
    return SimpleNamespace(**{**known, "sizeIncrement": 1, **changes})


class Asked:
    """TWS as far as a question about a contract goes; it is also who hears the answers."""

    connected = True

    def __init__(self, answer: SimpleNamespace) -> None:
        self.listener, self.heard = self, dict[str, Contract | str]()
        self._answer = answer

    def on_contract(self, symbol: str, answer: Contract | str, con_id: int = 0) -> None:
        self.heard[symbol] = answer

    async def details(self, spec: ContractSpec) -> list[SimpleNamespace]:
        return [self._answer]

    async def samples(self, text: str) -> list[Any]:
        return []

    async def market_rule(self, rule: int) -> list[Any]:
        return []

    def watch(self, contract: Contract, delayed: bool = False) -> None: ...

    def unwatch(self, contract: Contract) -> None: ...


class Contradicted(Asked):
    """Knows the contract by its number alone, and refuses a number together with what contradicts it."""

    async def details(self, spec: ContractSpec) -> list[SimpleNamespace]:
        if spec.currency or spec.exchange:
            raise RequestRefused(200, "No security definition has been found for the request")
        return await super().details(spec)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PRICE_SECONDS", 0.05)


def answers(tws: Asked, configured: dict[str, ContractSpec], *asked: tuple[str, int]) -> dict[str, Contract | str]:
    """Ask one after the other, and wait until all are answered."""

    async def main() -> None:
        found = Lookup(tws, Prices(SystemClock()), configured)  # type: ignore[arg-type]
        for symbol, con_id in asked:
            found.ask(symbol, con_id)
            await asyncio.sleep(0)
        await until(lambda: len(tws.heard) == len(asked), 50)

    asyncio.run(main())
    return tws.heard


def test_two_names_of_one_contract_are_both_answered() -> None:
    """Both waited for its first price, and one question died: nothing of that symbol was ordered until a restart."""
    both = {"ES": ES, "ES1!": replace(ES, symbol="ES1!")}
    heard = answers(Asked(said()), both, ("ES", 0), ("ES1!", 0))
    assert [each.con_id for each in heard.values() if isinstance(each, Contract)] == [5, 5]


def test_answer_that_cannot_be_taken_in_is_an_answer() -> None:
    """The question died of it and was never asked again: its signals waited until they expired."""
    heard = answers(Asked(said(validExchanges=None)), {"ES": ES}, ("ES", 0))
    assert "could not be processed" in str(heard["ES"])


def test_two_questions_for_one_market_rule_are_both_answered() -> None:
    """The first waited in vain and took the smallest tick for its price steps: off the steps every exit is refused."""

    async def main() -> None:
        wire = Wire(SystemClock(), Prices(SystemClock()), 1)
        _, one = wire.expect(("market rule", 26))
        _, two = wire.expect(("market rule", 26))
        wire.marketRule(26, ["row"])
        assert await asyncio.wait_for(one, 50) == await asyncio.wait_for(two, 50)

    asyncio.run(main())


def test_adopted_foreign_share_is_found_by_its_number() -> None:
    """SAP held on IBIS in EUR was asked for as a US share: the adopted trade could never be closed."""
    heard = answers(Contradicted(said("STK", "IBIS")), {}, ("SAP", 5))
    assert isinstance(heard["SAP"], Contract) and heard["SAP"].exchange == "IBIS"


def test_future_configured_by_its_number_alone_is_ordered_on_its_exchange() -> None:
    """It was ordered on SMART, where no future exists: every order of it was refused."""
    spec, problems = spec_from("ES", {"con_id": 5})
    assert spec is not None and not problems
    heard = answers(Asked(said(validExchanges="CME,QBALGO")), {"ES": spec}, ("ES", 0))
    assert isinstance(heard["ES"], Contract) and heard["ES"].exchange == "CME"


def test_share_that_can_be_routed_is_ordered_on_smart() -> None:
    heard = answers(Asked(said("STK", "NASDAQ", validExchanges="SMART,NASDAQ")), {}, ("AAPL", 0))
    assert isinstance(heard["AAPL"], Contract) and heard["AAPL"].exchange == "SMART"


@pytest.mark.parametrize(("sec_type", "opens"), [("FUT", "22:00"), ("STK", "14:30"), ("CASH", "14:30")])
def test_hours_are_those_in_which_a_close_can_fill(sec_type: str, opens: str) -> None:
    """A future's orders go out for all hours of trading, others' wait for the liquid ones."""
    liquid, trading = "20261123:0930-20261123:1600", "20261122:1700-20261123:1600"
    hours = {"liquidHours": liquid, "tradingHours": trading, "timeZoneId": "US/Eastern"}
    answer = answers(Asked(said(sec_type, **hours)), {"ES": ES}, ("ES", 0))["ES"]
    assert isinstance(answer, Contract) and [f"{s.opens:%H:%M}" for s in answer.sessions] == [opens]


class NextDay(Asked):
    """Tells other hours each time that it is asked."""

    times = 0

    async def details(self, spec: ContractSpec) -> list[SimpleNamespace]:
        self.times += 1
        day = f"202611{22 + self.times}"
        return [said(tradingHours=f"{day}:0930-{day}:1600", timeZoneId="UTC")]


def test_hours_are_asked_for_anew_under_the_contracts_number_and_known_under_its_names() -> None:
    tws = NextDay(said())

    async def ask() -> list[list[int]]:
        lookup = Lookup(tws, Prices(SystemClock()), {"ES": ES})  # type: ignore[arg-type]
        for question in (("ES", 0), ("ES", 5), ("ES", 5), ("ES", 0)):
            tws.heard.clear()
            lookup.ask(*question)
            await until(lambda: tws.heard)
        return [[s.opens.day for s in known.sessions] for known in lookup.known()]

    assert asyncio.run(ask()) == [[25], [25]] and tws.times == 3
    answer = tws.heard["ES"]
    assert isinstance(answer, Contract) and answer.sessions[0].opens.day == 25
