"""Everything that can be asked of a running paper TWS by name: by the control port, a scenario file or a test.

An action takes the server and keyword arguments and returns what can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from executor.paper import account_values
from executor.paper.contracts import ContractError
from executor.paper.faults import KNOBS, KnobError
from executor.paper.orders import Execution, Order
from executor.paper.owner import OwnerError
from executor.paper.server import PaperServer
from executor.paper.truth import execution_facts, order_facts
from executor.paper.wire import text

Action = Callable[..., Any]


class ActionError(Exception):
    """There is no such action, or it cannot be done; the text says why."""


def perform(server: PaperServer, name: str, /, **params: Any) -> Any:
    """Do an action by name; a knob's name arms that knob.

    Raises:
        ActionError: It is unknown, its parameters do not fit, or it cannot be done now.
    """
    try:
        if name in ACTIONS:
            return ACTIONS[name](server, **params)
        if name in KNOBS:
            return server.fault(name, **params)
    except (KnobError, OwnerError, ContractError, TypeError, ValueError, ArithmeticError, KeyError) as error:
        raise ActionError(f"{name}: {error}") from error
    raise ActionError(f"nothing is called {name!r}; there are {', '.join(sorted([*ACTIONS, *KNOBS]))}")


# -- prices ---------------------------------------------------------------------------------------------------


def _set_price(server: PaperServer, symbol: str, price: str) -> None:
    server.exchange.set_price(symbol, Decimal(str(price)))


def _set_quote(server: PaperServer, symbol: str, bid: str, ask: str, last: str | None = None) -> None:
    server.exchange.set_quote(
        symbol, Decimal(str(bid)), Decimal(str(ask)), None if last is None else Decimal(str(last))
    )


def _move_price(server: PaperServer, symbol: str, by: str) -> None:
    server.exchange.set_price(symbol, server.exchange.price(symbol) + Decimal(str(by)))


def _path(server: PaperServer, symbol: str, points: list[tuple[float, str]]) -> None:
    server.exchange.follow(symbol, [(float(after), Decimal(str(price))) for after, price in points])


def _price(server: PaperServer, symbol: str) -> str:
    return text(server.exchange.price(symbol))


def _volatility(server: PaperServer, value: float) -> None:
    server.exchange.floor.market.volatility = float(value)


# -- books ----------------------------------------------------------------------------------------------------


def _positions(server: PaperServer, account: str = "") -> list[dict[str, str]]:
    books = server.exchange.floor.books
    return [
        {
            "account": name, "symbol": one.name, "conId": str(one.con_id), "quantity": text(position.quantity),
            "average": text(position.average), "realized": text(position.realized),
        }
        for name in books.accounts
        if account in ("", name)
        for one, position in books.open_positions(name)
    ]  # fmt: skip


def _order_row(server: PaperServer, order: Order) -> dict[str, Any]:
    facts = order_facts(order, server.exchange.floor.instrument(order).name)
    more = {"whyHeld": order.why_held, "held": order.held, "remaining": order.remaining, "average": order.average,
            "role": order.role, "completedStatus": order.done_text}  # fmt: skip
    return {name: text(value) if isinstance(value, Decimal) else value for name, value in (facts | more).items()}


def _orders(server: PaperServer) -> list[dict[str, Any]]:
    """Live orders, held ones too."""
    return [_order_row(server, order) for order in server.exchange.floor.book.live.values()]


def _all_orders(server: PaperServer) -> list[dict[str, Any]]:
    return [_order_row(server, order) for order in server.exchange.floor.book.orders.values()]


def _execution_row(server: PaperServer, one: Execution) -> dict[str, Any]:
    facts = execution_facts(one, server.exchange.floor.instrument(one).name)
    return {name: text(value) if isinstance(value, Decimal) else value for name, value in facts.items()}


def _executions(server: PaperServer) -> list[dict[str, Any]]:
    return [_execution_row(server, one) for one in server.exchange.executions()]


def _cash(server: PaperServer, account: str = "") -> dict[str, str]:
    books = server.exchange.floor.books
    return {name: text(amount) for name, amount in books.accounts[account or next(iter(books.accounts))].cash.items()}


def _account(server: PaperServer, account: str = "") -> dict[str, str]:
    books = server.exchange.floor.books
    totals = books.totals(account or next(iter(books.accounts)))
    return {tag: account_values.money(value) for tag, value in totals.items()}


def _truth(server: PaperServer, since: int = 0) -> list[dict[str, Any]]:
    return [entry for entry in server.exchange.floor.truth.entries if entry["n"] > int(since)]


# -- the owner ------------------------------------------------------------------------------------------------


def _manual_order(server: PaperServer, **form: Any) -> dict[str, Any]:
    return _order_row(server, server.owner.place(**form))


def _manual_close(server: PaperServer, symbol: str, quantity: str | None = None, account: str = "") -> dict[str, Any]:
    return _order_row(server, server.owner.close(symbol, quantity, account))


def _on_order(act: Callable[..., object]) -> Action:
    def action(server: PaperServer, perm_id: int | None = None, order_ref: str = "", symbol: str = "",
               role: str = "", **params: Any) -> None:  # fmt: skip
        order = server.owner.find(perm_id, order_ref=order_ref, symbol=symbol, role=role)
        act(server, order, **params)

    return action


def _correct(server: PaperServer, exec_id: str = "", quantity: str | None = None,
             price: str | None = None) -> dict[str, Any]:  # fmt: skip
    return _execution_row(server, server.owner.correct(exec_id, quantity=quantity, price=price))


# -- TWS and its servers --------------------------------------------------------------------------------------


def _restart(server: PaperServer, down_seconds: float = 0.0, lose_last_n: int = 0,
             rollback_ids: bool | int = False) -> list[int]:  # fmt: skip
    lost = server.restart(float(down_seconds), lose_last_n=int(lose_last_n), rollback_ids=rollback_ids)
    return [order.perm_id for order in lost]


def _midnight(server: PaperServer) -> None:
    server.exchange.midnight()


def _disconnect(server: PaperServer) -> None:
    """Cut every client; TWS itself stays up."""
    server.gateway.close_all()


def _freeze(server: PaperServer, seconds: float | None = None) -> None:
    server.gateway.freeze()
    if seconds is not None:
        server.exchange.floor.after(float(seconds), lambda: server.gateway.chores.append(server.gateway.thaw))


def _thaw(server: PaperServer) -> None:
    server.gateway.thaw()


def _lose_connection(server: PaperServer, times: int = 1, hold_events: bool = False) -> None:
    """1100, said `times` times; with `hold_events` nothing of orders is heard until it is restored."""
    for _ in range(int(times)):
        server.exchange.lose_connection()
    if hold_events:
        server.gateway.hold_events()


def _restore_connection(server: PaperServer, code: int = 1102) -> None:
    """1102, or 1101 whose market data subscriptions are gone."""
    if int(code) == 1101:
        for session in server.gateway.sessions:
            session.feeds.quotes.clear()
    server.exchange.restore_connection(int(code))
    server.gateway.release_events()


def _farm(server: PaperServer, code: int = 2103, name: str = "usfarm") -> None:
    said = {
        2103: "Market data farm connection is broken:",
        2104: "Market data farm connection is OK:",
        2105: "HMDS data farm connection is broken:",
        2106: "HMDS data farm connection is OK:",
        2107: "HMDS data farm connection is inactive but should be available upon demand.",
        2108: "Market data farm connection is inactive but should be available upon demand.",
        2157: "Sec-def data farm connection is broken:",
        2158: "Sec-def data farm connection is OK:",
        2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    }
    server.exchange.notice(int(code), said.get(int(code), "") + ("" if int(code) == 2110 else name))  # fmt: skip


def _next_valid_id(server: PaperServer, client_id: int, value: int) -> None:
    book = server.exchange.floor.book
    book.marks[int(client_id)] = int(value)
    book.dirty.add(("mark", str(client_id)))


def _stop(server: PaperServer) -> None:
    server.stopping()


# -- faults ---------------------------------------------------------------------------------------------------


def _fault(server: PaperServer, knob: str, **params: Any) -> None:
    server.fault(knob, **params)


def _clear(server: PaperServer, knob: str | None = None) -> None:
    server.exchange.floor.faults.clear(knob)


def _faults(server: PaperServer) -> list[dict[str, Any]]:
    return server.exchange.floor.faults.armed()


def _stopped(server: PaperServer) -> dict[str, object] | None:
    """Return the boundary at which `stop_at` froze everything, or None."""
    return server.gateway.stopped


def _status(server: PaperServer) -> dict[str, Any]:
    gateway = server.gateway
    return {"port": server.port, "clients": [one.client_id for one in gateway.sessions],
            "messages": dict(gateway.counts), "stopped": gateway.stopped, "notes": list(gateway.notes)}  # fmt: skip


def _advance(server: PaperServer, seconds: float) -> None:
    """Move a clock that can be moved (the server must have been given one)."""
    move = getattr(server.exchange.floor.clock, "advance", None)
    if move is None:
        raise ActionError("this server runs on the real clock")
    move(float(seconds))
    server.tick()


ACTIONS: dict[str, Action] = {
    "set_price": _set_price, "set_quote": _set_quote, "move_price": _move_price, "path": _path, "price": _price,
    "volatility": _volatility, "positions": _positions, "orders": _orders, "all_orders": _all_orders,
    "executions": _executions, "cash": _cash, "account": _account, "truth": _truth,
    "manual_order": _manual_order, "manual_close": _manual_close,
    "manual_cancel": _on_order(lambda server, order: server.owner.cancel(order)),
    "manual_modify": _on_order(lambda server, order, **change: server.owner.modify(order, **change)),
    "manual_transmit": _on_order(lambda server, order: server.owner.transmit(order)),
    "fill": _on_order(lambda server, order, **how: server.owner.fill(order, **how)),
    "release_child": _on_order(lambda server, order: server.owner.release(order)),
    "correct_execution": _correct, "restart": _restart, "midnight": _midnight, "disconnect": _disconnect,
    "freeze": _freeze, "thaw": _thaw, "lose_connection": _lose_connection,
    "restore_connection": _restore_connection, "farm": _farm, "next_valid_id": _next_valid_id, "stop": _stop,
    "fault": _fault, "clear": _clear, "faults": _faults, "stopped": _stopped, "status": _status,
    "advance": _advance,
}  # fmt: skip
