"""The answer to every request: one function a kind, in one table; what is not offered is in `unserved`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar

from executor.paper import account_values, replies, shown, unserved
from executor.paper.contracts import Instrument
from executor.paper.hours import EXCHANGE_ZONE
from executor.paper.order_frames import completed_order, open_order
from executor.paper.orders import Execution, Order
from executor.paper.requests import Request
from executor.paper.session import Answer, Session
from executor.paper.validation import READ_ONLY, invalid, refusal, words
from executor.paper.wire import whole

MAX_TICKERS = 100  # source: IBKR, market data lines of an account

Row = TypeVar("Row")


def answer(session: Session, request: Request) -> None:
    """Answer one request as TWS does: with what was asked for, or as `unserved` says."""
    ANSWERS.get(request.kind, unserved.answer)(session, request)


# -- orders ---------------------------------------------------------------------------------------------------


def _rows(session: Session, end: str, rows: Iterable[Row]) -> list[Row]:
    """Return what an answer lists, which is nothing if the knob `empty_answer` meets it."""
    return [] if session.floor.faults.take_end("empty_answer", end) else list(rows)


def _place_order(session: Session, request: Request) -> None:
    exchange, form = session.gateway.exchange, request.order
    if form is None or session.client_id is None:
        return
    found = session.floor.catalog.find(request.args)
    if form.what_if:
        _what_if(session, request, found)
    else:
        exchange.place(session.client_id, request.req_id, found, form)


def _what_if(session: Session, request: Request, found: list[Instrument]) -> None:
    """Answer a what-if order with its margins and its commission; nothing is placed."""
    floor, form = session.floor, request.order
    if form is None:
        return
    if floor.faults.standing("read_only"):
        reason: tuple[int, str] | None = READ_ONLY
    else:
        reason = refusal(form, found[0], list(floor.books.accounts)) if len(found) == 1 else (200, words(200))
    if reason:
        session.error(request.req_id, *reason)
        return
    one, account = found[0], form.account or next(iter(floor.books.accounts))
    quantity, totals = form.quantity or Decimal(0), floor.books.totals(account)
    more = floor.books.margin_needed(account, one, form.sign * quantity)
    before, equity = totals["InitMarginReq"], totals["EquityWithLoanValue"]
    margins = tuple(account_values.money(number) for number in (
        before, before, equity, more, more, Decimal(0), before + more, before + more, equity))  # fmt: skip
    fee, currency = floor.books.commission(one, quantity, quantity * floor.market.quote(one.con_id).middle)
    order = Order(0, session.client_id or 0, request.req_id, replace(form, account=account), one.con_id, floor.now,
                  quantity, "PreSubmitted")  # fmt: skip
    session.put(open_order(order, one, request.req_id, session.version, margins,
                           (fee, "", "", currency)))  # fmt: skip


def _cancel_order(session: Session, request: Request) -> None:
    session.gateway.exchange.cancel(session.client_id or 0, request.req_id, sees_all=session.sees_all)


def _global_cancel(session: Session, request: Request) -> None:
    session.gateway.exchange.cancel_all()


def _open_orders(session: Session, request: Request) -> None:
    """Show this client's orders, and to client 0 the manual ones too."""
    _show(session, [one for one in session.floor.shown_open() if one.client_id == session.client_id])


def _all_open_orders(session: Session, request: Request) -> None:
    session.sees_all = True
    _show(session, list(session.floor.shown_open()))


def _show(session: Session, orders: list[Order]) -> None:
    for order in _rows(session, "openOrderEnd", orders):
        session.put(shown.open_order(session.floor, order, session.version))
        session.put(shown.order_status(order))
    session.put(replies.open_order_end())


def _auto_open_orders(session: Session, request: Request) -> None:
    """Bind the owner's manual orders to client 0: they get negative ids and can be changed by it."""
    if session.client_id != 0:
        session.error(-1, *invalid("only the default client (i.e 0) can auto bind orders"))
        return
    session.auto_bind = request.args["bind"] == "1"
    if session.auto_bind:
        session.gateway.owner.bind()


def _completed_orders(session: Session, request: Request) -> None:
    floor = session.floor
    for order in _rows(session, "completedOrdersEnd", floor.shown_completed()):
        if request.args["api_only"] == "1" and order.order_id <= 0:
            continue
        at = (order.done_at or order.placed_at).astimezone(EXCHANGE_ZONE)
        session.put(completed_order(order, floor.instrument(order), f"{at:%Y%m%d %H:%M:%S} US/Eastern",
                                    order.parent, session.version))  # fmt: skip
    session.put(replies.completed_orders_end())


def _executions(session: Session, request: Request) -> None:
    """Replay the day's executions that pass the filter, each with its commission; client 0 means everybody's."""
    for one in _rows(session, "execDetailsEnd", session.floor.shown_executions()):
        if _passes(session, one, request.args):
            session.put(shown.execution(session.floor, request.req_id, one))
            session.put(shown.commission(one))
    session.put(replies.execution_end(request.req_id))


def _passes(session: Session, one: Execution, wanted: dict[str, str]) -> bool:
    contract = session.floor.instrument(one)
    facts = {"client_id": str(one.client_id), "account": one.account, "symbol": contract.symbol,
             "sec_type": contract.sec_type, "exchange": one.exchange, "side": one.action}  # fmt: skip
    since = wanted["time"].replace("-", " ")
    if since and f"{one.at.astimezone(EXCHANGE_ZONE):%Y%m%d %H:%M:%S}" < " ".join(since.split()[:2]):
        return False
    return all(wanted[name] in ("", "0", fact) for name, fact in facts.items())


def _ids(session: Session, request: Request) -> None:
    session.put(replies.next_valid_id(session.floor.book.mark(session.client_id or 0)))


# -- accounts -------------------------------------------------------------------------------------------------


def _known(session: Session, request: Request) -> str | None:
    """Return the account that is meant; None, and error 321, if there is no such account."""
    accounts = session.floor.books.accounts
    wanted = request.args["account"]
    if wanted in accounts:
        return wanted
    if not wanted and len(accounts) == 1:
        return next(iter(accounts))
    session.error(request.req_id or -1, *invalid("Invalid account code"))
    return None


def _managed_accounts(session: Session, request: Request) -> None:
    session.put(replies.managed_accounts(session.floor.books.accounts))


def _account_updates(session: Session, request: Request) -> None:
    if request.args["subscribe"] != "1":
        session.feeds.updates = ""
        return
    account = _known(session, request)
    if account:
        session.feeds.updates = account
        session.put_all(session.feeds.account_download(account))


def _account_updates_multi(session: Session, request: Request) -> None:
    account = _known(session, request)
    if account:
        session.feeds.updates_multi[request.req_id] = account
        session.put_all(session.feeds.multi_download(request.req_id, account))


def _account_summary(session: Session, request: Request) -> None:
    if len(session.feeds.summaries) >= 2 and request.req_id not in session.feeds.summaries:
        session.error(
            request.req_id, 322, "Error processing request:Maximum number of account summary requests exceeded"
        )
        return
    session.feeds.summaries[request.req_id] = request.args["group"], request.args["tags"]
    session.put_all(session.feeds.summary(request.req_id))


def _positions(session: Session, request: Request) -> None:
    session.feeds.positions = True
    session.put_all(_rows(session, "positionEnd", session.feeds.all_positions()))
    session.put(replies.position_end())


def _positions_multi(session: Session, request: Request) -> None:
    account = _known(session, request)
    if not account:
        return
    session.feeds.positions_multi[request.req_id] = account
    for one, position in session.floor.shown_books.open_positions(account):
        session.put(replies.position_multi(request.req_id, account, one, position.quantity, position.average))
    session.put(replies.position_multi_end(request.req_id))


def _pnl(session: Session, request: Request) -> None:
    account = _known(session, request)
    if account:
        session.feeds.pnls[request.req_id] = account
        session.put(replies.pnl(request.req_id, account_values.daily_pnl(session.floor.shown_books, account)))


def _pnl_single(session: Session, request: Request) -> None:
    account, con_id = _known(session, request), whole(request.args["con_id"])
    if not account:
        return
    if not session.floor.catalog.has(con_id):
        session.error(request.req_id, 200, words(200))
        return
    session.feeds.singles[request.req_id] = account, con_id
    numbers = account_values.pnl_single(session.floor.shown_books, account, con_id)
    session.put(replies.pnl_single(request.req_id, numbers))


# -- contracts, market data, time -----------------------------------------------------------------------------


def _current_time(session: Session, request: Request) -> None:
    session.put(replies.current_time(int(session.floor.now.timestamp())))


def _contract_details(session: Session, request: Request) -> None:
    found = session.floor.catalog.find(request.args)
    if not found:
        session.error(request.req_id, 200, words(200))
        return
    for one in found:
        hours = session.gateway.exchange.hours(one)
        session.put(replies.contract_details(request.req_id, one, hours, session.version))
    session.put(replies.contract_details_end(request.req_id))


def _matching_symbols(session: Session, request: Request) -> None:
    found = session.floor.catalog.samples(request.args["pattern"])
    session.put(replies.symbol_samples(request.req_id, found, session.version))


def _market_rule(session: Session, request: Request) -> None:
    """The request id of this message is the rule's number, and no callback of an error could carry it."""
    rules = session.floor.catalog.rule(request.req_id)
    if rules is None:
        session.error(
            -1, 322, f"Error processing request.-'cd' : cause - Market rule with id = {request.req_id} is missing"
        )
        return
    session.put(replies.market_rule(request.req_id, rules))


def _market_data(session: Session, request: Request) -> None:
    found = session.floor.catalog.find(request.args)
    if len(found) != 1:
        session.error(request.req_id, 200, words(200))
        return
    if not _may_see(session, request.req_id):
        return
    if len(session.feeds.quotes) >= MAX_TICKERS:
        session.error(request.req_id, 101, "Max number of tickers has been reached.")
        return
    session.feeds.quotes[request.req_id] = found[0], None
    session.put_all(session.feeds.first_quote(request.req_id))
    if request.args["snapshot"] == "1":
        del session.feeds.quotes[request.req_id]
        session.put(replies.snapshot_end(request.req_id))


def _may_see(session: Session, req_id: int) -> bool:
    """Apply the knob `mktdata`: none, delayed, or an error code such as 10197."""
    fault = session.floor.faults.standing("mktdata")
    mode = fault.word("mode") if fault else "live"
    session.feeds.delayed = mode == "delayed" and session.feeds.data_type in (3, 4)
    if mode == "live":
        return True
    if session.feeds.delayed:
        session.error(req_id, 10167, "Requested market data is not subscribed. Displaying delayed market data.")
        return True
    code = int(mode) if mode.isdigit() else 354
    session.error(req_id, code, _NO_DATA.get(code, "Requested market data is not subscribed."))
    return False


_NO_DATA = {
    354: "Requested market data is not subscribed.",
    10089: "Requested market data requires additional subscription for API.",
    10168: "Requested market data is not subscribed. Delayed market data is not enabled.",
    10197: "No market data during competing live session",
}


def _market_data_type(session: Session, request: Request) -> None:
    session.feeds.data_type = whole(request.args["type"]) or 1


def _scanner_parameters(session: Session, request: Request) -> None:
    session.put([19, 1, "<?xml version='1.0'?><ScanParameterResponse/>"])


def _cancel_market_data(session: Session, request: Request) -> None:
    if session.feeds.quotes.pop(request.req_id, None) is None:
        session.error(request.req_id, 300, f"Can't find EId with tickerId:{request.req_id}")


def _drop(table: str) -> Answer:
    def cancel(session: Session, request: Request) -> None:
        getattr(session.feeds, table).pop(request.req_id, None)

    return cancel


def _cancel_positions(session: Session, request: Request) -> None:
    session.feeds.positions = False


ANSWERS: dict[str, Answer] = {
    "placeOrder": _place_order,
    "cancelOrder": _cancel_order,
    "reqGlobalCancel": _global_cancel,
    "reqOpenOrders": _open_orders,
    "reqAllOpenOrders": _all_open_orders,
    "reqAutoOpenOrders": _auto_open_orders,
    "reqCompletedOrders": _completed_orders,
    "reqExecutions": _executions,
    "reqIds": _ids,
    "reqManagedAccts": _managed_accounts,
    "reqAccountUpdates": _account_updates,
    "reqAccountUpdatesMulti": _account_updates_multi,
    "reqAccountSummary": _account_summary,
    "reqPositions": _positions,
    "reqPositionsMulti": _positions_multi,
    "reqPnL": _pnl,
    "reqPnLSingle": _pnl_single,
    "reqCurrentTime": _current_time,
    "reqContractDetails": _contract_details,
    "reqMatchingSymbols": _matching_symbols,
    "reqMarketRule": _market_rule,
    "reqMktData": _market_data,
    "reqMarketDataType": _market_data_type,
    "setServerLogLevel": unserved.log_level,
    "reqScannerParameters": _scanner_parameters,
    "queryDisplayGroups": unserved.display_groups,
    "subscribeToGroupEvents": unserved.subscribe_to_group,
    "updateDisplayGroup": unserved.update_group,
    "unsubscribeFromGroupEvents": _drop("groups"),
    "requestFA": unserved.request_fa,
    "verifyRequest": unserved.verify(66),
    "verifyMessage": unserved.verify(66),
    "verifyAndAuthRequest": unserved.verify(70),
    "verifyAndAuthMessage": unserved.verify(70),
    "cancelMktData": _cancel_market_data,
    "cancelAccountSummary": _drop("summaries"),
    "cancelAccountUpdatesMulti": _drop("updates_multi"),
    "cancelPositionsMulti": _drop("positions_multi"),
    "cancelPnL": _drop("pnls"),
    "cancelPnLSingle": _drop("singles"),
    "cancelPositions": _cancel_positions,
}
