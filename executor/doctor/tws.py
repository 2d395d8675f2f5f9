"""The executor doctor's checks of TWS: is its API on, may it write, which account, is our client id free."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from common.checkup import SKEW_SECONDS, Finding, State, answers, not_checked, ok, wrong
from common.clock import SystemClock
from common.errors import BrokerUnavailable
from common.signals import Side
from executor.core.accounts import AccountRefused, AccountRules
from executor.core.ports import Connectivity, Contract, Fill, Kind, OrderReport, Position, Refusal, Ticket
from executor.settings import Choices, ExecutorSettings
from executor.tws.client import ClientIdInUse, Tws
from executor.tws.wire import within

# Our own while we look, so that no order id of the executor's client is used up.
_CLIENT_ID = 7919
_PORTS = {7497: "TWS, paper", 7496: "TWS, live", 4002: "IB Gateway, paper", 4001: "IB Gateway, live"}
_READ_ONLY = 321
_ANSWER_SECONDS = 10.0
_ROUND_TRIP_SECONDS = 1.5  # TWS tells whole seconds
_LINK_REMEDY = "check TWS: is it logged in, is the internet up? It reconnects on its own"
_WRITE_REMEDY = "in TWS: Global Configuration, API, Settings: untick Read-Only API"
_ACCOUNTS = "accounts, orders, Read-Only API"


@dataclass
class _Ear:
    """Hears what TWS answers to the one order that is asked about."""

    order_id: int = 0
    answer: asyncio.Future[Refusal | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def _heard(self, order_id: int, refusal: Refusal | None) -> None:
        if order_id == self.order_id and self.order_id and not self.answer.done():
            self.answer.set_result(refusal)

    def on_order(self, report: OrderReport) -> None:
        self._heard(report.order_id, None)

    def on_refusal(self, refusal: Refusal) -> None:
        self._heard(refusal.order_id, refusal)

    def on_fill(self, fill: Fill) -> None: ...
    def on_commission(self, exec_id: str, commission: Decimal) -> None: ...
    def on_position(self, position: Position) -> None: ...
    def on_connectivity(self, state: Connectivity, text: str) -> None: ...
    def on_contract(self, symbol: str, answer: Contract | str, con_id: int = 0) -> None: ...
    def on_unpaced(self) -> None: ...
    def on_no_line(self, text: str) -> None: ...


async def look_at_tws(settings: ExecutorSettings, choices: Choices, bound: str | None, running: str) -> list[Finding]:
    """Return what was found at TWS.

    Args:
        bound: The account that the journal belongs to.
        running: Who trades with this journal now: then our client id is in use, as it should be.
    """
    if settings.paper:
        return [not_checked("TWS", "--paper starts its own")]
    tws = Tws(SystemClock(), choices.contracts, patience=_ANSWER_SECONDS)
    try:
        found = [await _client_id(tws, settings, running)]
        return found + await _connected(tws, settings, bound)
    except BrokerUnavailable as exc:
        return [_no_connection(settings, exc), not_checked(f"client id, {_ACCOUNTS}", "TWS does not answer")]
    finally:
        tws.disconnect()


def _no_connection(settings: ExecutorSettings, error: BrokerUnavailable) -> Finding:
    """Report why TWS cannot be reached, and which of its usual ports has a listener instead."""
    others = [port for port in _PORTS if port != settings.ib_port and answers(settings.ib_host, port, 0.5)]
    named = ", ".join(f"--ib-port {port} ({_PORTS[port]})" for port in others)
    return Finding(State.WRONG, "TWS", str(error), f"something is listening on another port: {named}" if named else "")


async def _client_id(tws: Tws, settings: ExecutorSettings, running: str) -> Finding:
    what, number = "client id", settings.ib_client_id
    if running:
        holder = running.partition(": ")[2].partition(" holds ")[0]
        return not_checked(what, f"{number} belongs to the running executor ({holder})")
    try:
        await tws.connect(settings.ib_host, settings.ib_port, number)
    except ClientIdInUse as exc:
        remedy = (
            "stop the other program that uses it (TWS may hold it for a minute after a crash), or set --ib-client-id"
        )
        return wrong(what, f"{number} is in use at TWS ({exc})", remedy)
    return ok(what, f"{number} is free at TWS")


async def _connected(tws: Tws, settings: ExecutorSettings, bound: str | None) -> list[Finding]:
    """Look further with a client id of our own.

    Raises:
        BrokerUnavailable: TWS cannot be spoken to.
    """
    await tws.connect(settings.ib_host, settings.ib_port, _CLIENT_ID)
    found = [ok("TWS", f"its API answers at {settings.ib_host}:{settings.ib_port}"), await _time(tws)]
    rules = AccountRules(settings.account, settings.live)
    try:
        account = rules.choose(tws.accounts, bound)
    except AccountRefused as exc:
        return [*found, Finding(State.WRONG, "account", str(exc)), not_checked("orders", "fix the account first")]
    found.append(ok("account", f"{account}, {rules.mode(account)}; the login shows {', '.join(tws.accounts)}"))
    ear = _Ear()
    tws.use_account(account, ear)
    if tws.wire.link_lost:
        found.append(wrong("link to IBKR", tws.wire.link_lost, _LINK_REMEDY))
    return [*found, await _reading(tws), await _writing(tws, account, ear)]


async def _time(tws: Tws) -> Finding:
    behind = (await tws.probe(_ANSWER_SECONDS) - SystemClock().now()).total_seconds()
    if abs(behind) <= SKEW_SECONDS + _ROUND_TRIP_SECONDS:
        return ok("TWS clock", "agrees with ours")
    return wrong("TWS clock", f"is {behind:+.0f} s from ours", "synchronise both computers' clocks")


async def _reading(tws: Tws) -> Finding:
    try:
        seen = await tws.snapshot()
    except BrokerUnavailable as exc:
        return wrong("orders", str(exc), "check TWS: a dialog may be waiting there, perhaps behind other windows")
    positions = sum(1 for position in seen.positions if position.quantity)
    return ok("orders", f"can be read: {len(seen.open_orders)} working, {positions} positions")


async def _writing(tws: Tws, account: str, ear: _Ear) -> Finding:
    """Ask what a small order far below the market would need; TWS refuses even that while its API is read-only.

    Source: users' reports of error 321, "The API interface is currently in Read-Only mode".
    """
    what = "Read-Only API"
    ear.order_id = tws.order_id_floor()
    tws.ask_margin(_question(ear.order_id, account))
    try:
        refusal = await within(_ANSWER_SECONDS, ear.answer)
    except TimeoutError:
        return not_checked(what, "TWS did not answer a what-if order; a dialog may be waiting there")
    if refusal is None:
        return ok(what, "off: TWS answered a what-if order (none was placed)")
    if refusal.code == _READ_ONLY:  # by the code: the words are in TWS's language
        return wrong(what, f"on: TWS refuses every order ({refusal.text})", _WRITE_REMEDY)
    return ok(what, f"off; but TWS would refuse this order: {refusal.code} {refusal.text}")


def _question(order_id: int, account: str) -> Ticket:
    """Return an order that could not fill even if TWS overlooked that it is only asked about."""
    euro = Contract(12087792, "EURUSD", "CASH", "EUR", "USD", "IDEALPRO")
    return Ticket(order_id, "", euro, account, Side.BUY, Kind.LIMIT, Decimal(20_000), price=Decimal("0.5"), tif="DAY")
