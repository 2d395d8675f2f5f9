"""Everything that can be asked of a running paper TWS by name: by the control port, a scenario file or a test.

An action takes the server and keyword arguments and returns what can be written as JSON. What it may be given is in
the table at the end, so that whatever makes no sense is refused before anything is done.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from executor.paper import account_values, faults
from executor.paper.books import Account
from executor.paper.contracts import ContractError
from executor.paper.faults import KNOBS, KnobError
from executor.paper.orders import Execution, Order
from executor.paper.owner import OwnerError
from executor.paper.server import PaperServer
from executor.paper.truth import execution_facts, order_facts
from executor.paper.values import Reader, flag, maybe, number, one_of, path, positive, seconds, text, whole
from executor.paper.wire import text as shown


class ActionError(Exception):
    """There is no such action, or it cannot be done; the text says why."""


class Action(NamedTuple):
    """What is done, and how each of its parameters is read."""

    act: Callable[..., Any]
    readers: Mapping[str, Reader]


def perform(server: PaperServer, name: str, /, **params: Any) -> Any:
    """Do an action by name; a knob's name arms that knob.

    Raises:
        ActionError: It is unknown, its parameters do not fit, or it cannot be done now.
    """
    given = check(name, params)
    try:
        return ACTIONS[name].act(server, **given) if name in ACTIONS else server.fault(name, **given)
    except (KnobError, OwnerError, ContractError) as error:
        raise ActionError(f"{name}: {error}") from error


def check(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of an action as they are read, those of a knob as they are.

    Raises:
        ActionError: It is unknown, or its parameters do not fit.
    """
    if name == "fault" and isinstance(params.get("knob"), str):
        check_knob(params["knob"], **{key: value for key, value in params.items() if key != "knob"})
        return params
    if name in KNOBS:
        check_knob(name, **params)
        return params
    if name not in ACTIONS:
        raise ActionError(f"nothing is called {name!r}; there are {', '.join(sorted([*ACTIONS, *KNOBS]))}")
    readers, needed = ACTIONS[name].readers, _needed(ACTIONS[name])
    missing, unknown = [key for key in needed if key not in params], sorted(set(params) - set(readers))
    if missing or unknown:
        wrong = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
        raise ActionError(f"{name}: {'; '.join(wrong)}; it takes {', '.join(readers) or 'no parameters'}")
    return {key: _value(name, key, readers[key], value) for key, value in params.items()}


def check_knob(knob: str, /, **params: Any) -> None:
    """Raise ActionError unless a knob could be armed with these parameters."""
    try:
        faults.read(knob, **params)
    except KnobError as error:
        raise ActionError(str(error)) from error


def _needed(action: Action) -> list[str]:
    known = inspect.signature(action.act).parameters
    return [key for key in action.readers if key in known and known[key].default is inspect.Parameter.empty]


def _value(name: str, key: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise ActionError(f"{name}, {key}: {error}") from error


# -- prices ---------------------------------------------------------------------------------------------------


def _set_price(server: PaperServer, symbol: str, price: Decimal) -> None:
    server.exchange.set_price(symbol, price)


def _set_quote(server: PaperServer, symbol: str, bid: Decimal, ask: Decimal, last: Decimal | None = None) -> None:
    if bid > ask:
        raise ActionError(f"set_quote: the bid {bid} is above the ask {ask}")
    server.exchange.set_quote(symbol, bid, ask, last)


def _move_price(server: PaperServer, symbol: str, by: Decimal) -> None:
    price = server.exchange.price(symbol) + by
    if price <= 0:
        raise ActionError(f"move_price: {symbol} would be at {price}")
    server.exchange.set_price(symbol, price)


def _path(server: PaperServer, symbol: str, points: list[tuple[float, Decimal]]) -> None:
    server.exchange.follow(symbol, points)


def _price(server: PaperServer, symbol: str) -> str:
    return shown(server.exchange.price(symbol))


def _volatility(server: PaperServer, value: Decimal) -> None:
    if not 0 <= value <= 1:
        raise ActionError(f"volatility: expected a chance from 0 to 1, found {value}")
    server.exchange.floor.market.volatility = float(value)


# -- books ----------------------------------------------------------------------------------------------------


def _positions(server: PaperServer, account: str = "") -> list[dict[str, str]]:
    books = server.exchange.floor.books
    names = [_account_of(server, account).name] if account else list(books.accounts)
    return [
        {
            "account": name, "symbol": one.name, "conId": str(one.con_id), "quantity": shown(position.quantity),
            "average": shown(position.average), "realized": shown(position.realized),
        }
        for name in names
        for one, position in books.open_positions(name)
    ]  # fmt: skip


def _order_row(server: PaperServer, order: Order) -> dict[str, Any]:
    facts = order_facts(order, server.exchange.floor.instrument(order).name)
    more = {"whyHeld": order.why_held, "held": order.held, "remaining": order.remaining, "average": order.average,
            "role": order.role, "completedStatus": order.done_text}  # fmt: skip
    return {name: shown(value) if isinstance(value, Decimal) else value for name, value in (facts | more).items()}


def _orders(server: PaperServer) -> list[dict[str, Any]]:
    """Live orders, held ones too."""
    return [_order_row(server, order) for order in server.exchange.floor.book.live.values()]


def _all_orders(server: PaperServer) -> list[dict[str, Any]]:
    return [_order_row(server, order) for order in server.exchange.floor.book.orders.values()]


def _execution_row(server: PaperServer, one: Execution) -> dict[str, Any]:
    facts = execution_facts(one, server.exchange.floor.instrument(one).name)
    return {name: shown(value) if isinstance(value, Decimal) else value for name, value in facts.items()}


def _executions(server: PaperServer) -> list[dict[str, Any]]:
    return [_execution_row(server, one) for one in server.exchange.executions()]


def _cash(server: PaperServer, account: str = "") -> dict[str, str]:
    return {name: shown(amount) for name, amount in _account_of(server, account).cash.items()}


def _account(server: PaperServer, account: str = "") -> dict[str, str]:
    totals = server.exchange.floor.books.totals(_account_of(server, account).name)
    return {tag: account_values.money(value) for tag, value in totals.items()}


def _account_of(server: PaperServer, name: str) -> Account:
    """Return an account, the first one for an empty name."""
    accounts = server.exchange.floor.books.accounts
    if name and name not in accounts:
        raise ActionError(f"no account is called {name!r}; there are {', '.join(accounts)}")
    return accounts[name or next(iter(accounts))]


def _truth(server: PaperServer, since: int = 0) -> list[dict[str, Any]]:
    return [entry for entry in server.exchange.floor.truth.entries if entry["n"] > since]


# -- the owner ------------------------------------------------------------------------------------------------


def _manual_order(server: PaperServer, symbol: str, action: str, quantity: Decimal, order_type: str = "MKT",
                  **more: Any) -> dict[str, Any]:  # fmt: skip
    return _order_row(server, server.owner.place(symbol, action, quantity, order_type, **more))


def _manual_close(server: PaperServer, symbol: str, quantity: Decimal | None = None,
                  account: str = "") -> dict[str, Any]:  # fmt: skip
    return _order_row(server, server.owner.close(symbol, quantity, _account_of(server, account).name))


def _on_order(act: Callable[..., object], **readers: Reader) -> Action:
    """Return an action on the one live order that perm_id, order_ref, symbol and role describe."""

    def action(server: PaperServer, perm_id: int | None = None, order_ref: str = "", symbol: str = "",
               role: str = "", **params: Any) -> None:  # fmt: skip
        order = server.owner.find(perm_id, order_ref=order_ref, symbol=symbol, role=role)
        act(server, order, **params)

    roles = one_of("", "entry", "take_profit", "stop_loss")
    return Action(action, {"perm_id": maybe(_NUMBER), "order_ref": text, "symbol": text, "role": roles, **readers})


def _correct(server: PaperServer, exec_id: str = "", quantity: Decimal | None = None,
             price: Decimal | None = None) -> dict[str, Any]:  # fmt: skip
    return _execution_row(server, server.owner.correct(exec_id, quantity=quantity, price=price))


# -- TWS and its servers --------------------------------------------------------------------------------------


def _restart(server: PaperServer, down_seconds: float = 0.0, lose_last_n: int = 0,
             rollback_ids: bool | int = False) -> list[int]:  # fmt: skip
    lost = server.restart(down_seconds, lose_last_n=lose_last_n, rollback_ids=rollback_ids)
    return [order.perm_id for order in lost]


def _midnight(server: PaperServer) -> None:
    server.exchange.midnight()


def _disconnect(server: PaperServer) -> None:
    """Cut every client; TWS itself stays up."""
    server.gateway.close_all()


def _freeze(server: PaperServer, seconds: float | None = None) -> None:
    server.gateway.freeze()
    if seconds is not None:
        server.exchange.floor.after(seconds, lambda: server.gateway.chores.append(server.gateway.thaw))


def _thaw(server: PaperServer) -> None:
    server.gateway.thaw()


def _lose_connection(server: PaperServer, times: int = 1, hold_events: bool = False) -> None:
    """1100, said `times` times; with `hold_events` nothing of orders is heard until it is restored."""
    for _ in range(times):
        server.exchange.lose_connection()
    if hold_events:
        server.gateway.hold_events()


def _restore_connection(server: PaperServer, code: int = 1102, lose_events: bool = False) -> None:
    """1102, or 1101 whose market data subscriptions are gone; with `lose_events` what was held back is never told."""
    if lose_events:
        server.gateway.lose_order_events()
    if code == 1101:
        for session in server.gateway.sessions:
            session.feeds.quotes.clear()
    server.exchange.restore_connection(code)
    server.gateway.release_events()


_FARMS = {
    2103: "Market data farm connection is broken:",
    2104: "Market data farm connection is OK:",
    2105: "HMDS data farm connection is broken:",
    2106: "HMDS data farm connection is OK:",
    2107: "HMDS data farm connection is inactive but should be available upon demand.",
    2108: "Market data farm connection is inactive but should be available upon demand.",
    2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    2157: "Sec-def data farm connection is broken:",
    2158: "Sec-def data farm connection is OK:",
}


def _farm(server: PaperServer, code: int = 2103, name: str = "usfarm") -> None:
    server.exchange.notice(code, _FARMS[code] + ("" if code == 2110 else name))


def _next_valid_id(server: PaperServer, client_id: int, value: int) -> None:
    book = server.exchange.floor.book
    book.marks[client_id] = value
    book.dirty.add(("mark", str(client_id)))


def _stop(server: PaperServer) -> None:
    server.stopping()


# -- faults ---------------------------------------------------------------------------------------------------


def _fault(server: PaperServer, /, knob: str, **params: Any) -> None:
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
    move(seconds)
    server.tick()


def _one_code(codes: tuple[int, ...]) -> Reader:
    choose = one_of(*map(str, codes))
    return lambda value: int(choose(value))


def _rollback(value: Any) -> bool | int:
    return value if isinstance(value, bool) else int(_NUMBER(value))


_NUMBER, _SIZE = whole(0, 2**31 - 1), {"quantity": maybe(positive)}
_SIZE_AND_PRICE = _SIZE | {"price": maybe(positive)}
_ANYBODY = {"account": text}
_OWN_ORDER = {"symbol": text, "action": one_of("BUY", "SELL"), "quantity": positive, "order_type": text,
              "price": maybe(positive), "tif": text, "account": text, "order_ref": text}  # fmt: skip

ACTIONS: dict[str, Action] = {
    "set_price": Action(_set_price, {"symbol": text, "price": positive}),
    "set_quote": Action(_set_quote, {"symbol": text, "bid": positive, "ask": positive, "last": maybe(positive)}),
    "move_price": Action(_move_price, {"symbol": text, "by": number}),
    "path": Action(_path, {"symbol": text, "points": path}),
    "price": Action(_price, {"symbol": text}),
    "volatility": Action(_volatility, {"value": number}),
    "positions": Action(_positions, _ANYBODY), "orders": Action(_orders, {}), "all_orders": Action(_all_orders, {}),
    "executions": Action(_executions, {}), "cash": Action(_cash, _ANYBODY), "account": Action(_account, _ANYBODY),
    "truth": Action(_truth, {"since": _NUMBER}),
    "manual_order": Action(_manual_order, _OWN_ORDER),
    "manual_close": Action(_manual_close, {"symbol": text, **_SIZE, "account": text}),
    "manual_cancel": _on_order(lambda server, order: server.owner.cancel(order)),
    "manual_modify": _on_order(lambda server, order, **to: server.owner.modify(order, **to), **_SIZE_AND_PRICE),
    "manual_transmit": _on_order(lambda server, order: server.owner.transmit(order)),
    "fill": _on_order(lambda server, order, **how: server.owner.fill(order, **how), **_SIZE_AND_PRICE),
    "release_child": _on_order(lambda server, order: server.owner.release(order)),
    "correct_execution": Action(_correct, {"exec_id": text, **_SIZE_AND_PRICE}),
    "restart": Action(_restart, {"down_seconds": seconds, "lose_last_n": _NUMBER, "rollback_ids": _rollback}),
    "midnight": Action(_midnight, {}), "disconnect": Action(_disconnect, {}),
    "freeze": Action(_freeze, {"seconds": maybe(seconds)}), "thaw": Action(_thaw, {}),
    "lose_connection": Action(_lose_connection, {"times": whole(1, 1000), "hold_events": flag}),
    "restore_connection": Action(_restore_connection, {"code": _one_code((1101, 1102)), "lose_events": flag}),
    "farm": Action(_farm, {"code": _one_code(tuple(_FARMS)), "name": text}),
    "next_valid_id": Action(_next_valid_id, {"client_id": _NUMBER, "value": whole(1, 2**31 - 1)}),
    "stop": Action(_stop, {}), "fault": Action(_fault, {"knob": text}), "clear": Action(_clear, {"knob": maybe(text)}),
    "faults": Action(_faults, {}), "stopped": Action(_stopped, {}), "status": Action(_status, {}),
    "advance": Action(_advance, {"seconds": seconds}),
}  # fmt: skip
