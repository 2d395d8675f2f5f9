"""The endpoints: what is read (page, JSON, health, metrics), the login, and the buttons.

A button never touches the broker or the journal: it hands a `Command` to the trading loop, which writes it
down before acting, and shows the answer.
"""

from __future__ import annotations

import sqlite3
from urllib.parse import urljoin

from flask import Flask, Response, json, redirect, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.wrappers import Response as BaseResponse

from executor.core.commands import Command, CommandKind, CommandRefused

from . import plain, queries
from .api import status_body
from .dashboard import is_silent
from .metrics import registry_of
from .page import current_page, index
from .refusals import Refusal, wants_json
from .rendering import render
from .words import WISHES, fill_in

TRADE_WISHES = {
    "close": CommandKind.CLOSE,
    "adopt": CommandKind.ADOPT,
    "flatten": CommandKind.FLATTEN,
    "dismiss": CommandKind.DISMISS,
}
SYMBOL_WISHES = {
    "reset": CommandKind.RESET,
    "ignore": CommandKind.IGNORE_POSITION,
    "adopt": CommandKind.ADOPT_POSITION,
    "follow": CommandKind.FOLLOW,
    "leave": CommandKind.LEAVE,
}
_LARGEST_ID = 2**63 - 1  # of SQLite
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def register(app: Flask) -> None:
    """Give the app its endpoints."""
    app.add_url_rule("/", view_func=index)
    app.add_url_rule("/healthz", view_func=health)
    app.add_url_rule("/api/status", view_func=api_status)
    app.add_url_rule("/metrics", view_func=metrics)
    app.add_url_rule("/login", view_func=login, methods=["GET", "POST"])
    app.add_url_rule("/webhook", view_func=gone, methods=_METHODS)
    app.add_url_rule("/webhook/<path:_rest>", view_func=gone, methods=_METHODS)
    app.add_url_rule(f"/trades/<int(max={_LARGEST_ID}):trade_id>/<wish>", view_func=trade_button, methods=["POST"])
    app.add_url_rule("/symbols/<symbol>/<wish>", view_func=symbol_button, methods=["POST"])


def health() -> Response:
    """Answer 200 while the executor runs, its journal can be read and the page works, else 503; TWS may be away."""
    page = current_page()
    look = page.journal.look()
    silent = is_silent(look.content, page.clock.now())
    failing = ", ".join(page.faults.standing)
    is_well = not look.problem and not silent and not failing
    body = {"status": "ok" if is_well else "failing"}
    if not is_well:
        body["reason"] = (
            "journal" if look.problem else "the executor has stopped reporting" if silent else f"failing: {failing}"
        )
    return Response(json.dumps(body), 200 if is_well else 503, content_type="application/json")


def api_status() -> BaseResponse:
    """Answer what the page shows, as JSON."""
    page = current_page()
    body = json.dumps(status_body(page.dashboard(), page.settings.version))
    response = Response(body, content_type="application/json")
    response.add_etag()
    return response.make_conditional(request)


def metrics() -> Response:
    """Answer the figures in Prometheus' text form."""
    return Response(generate_latest(registry_of(current_page())), content_type=CONTENT_TYPE_LATEST)


def gone(_rest: str = "") -> Response:
    """Answer 410 to alerts that were sent here instead of to the relay."""
    relay = current_page().settings.relay_url
    where = urljoin(relay.rstrip("/") + "/", "webhook") if relay else "the relay's /webhook"
    raise Refusal(410, "gone", "Alerts are not accepted here", f"send them to {where}")


def login() -> BaseResponse:
    """Log a browser in by the link printed at start, or by the typed token."""
    guard = current_page().guard
    token = request.args.get("token") or request.form.get("token", "")
    if not token:
        words = "Please log in", "enter the login token from the executor's .env file"
        return Response(render("login.html", lambda: plain.login(*words), refusal=None))
    if not guard.is_login(token):
        raise Refusal(401, "login-required", "Wrong login token",
                      "open the link that the executor printed when it started")  # fmt: skip
    response = Response(status=303, headers={"Location": "/"})
    guard.log_in(response)
    return response


def trade_button(trade_id: int, wish: str) -> BaseResponse:
    """Hand a wish about a trade to the trading loop."""
    kind = TRADE_WISHES.get(wish)
    if kind is None:
        raise _no_such(wish, TRADE_WISHES)
    symbol = _symbol_of(trade_id)
    return _carry_out(Command(kind, trade_id=trade_id), symbol)


def symbol_button(symbol: str, wish: str) -> BaseResponse:
    """Hand a wish about a symbol to the trading loop."""
    kind = SYMBOL_WISHES.get(wish)
    if kind is None:
        raise _no_such(wish, SYMBOL_WISHES)
    return _carry_out(Command(kind, symbol=symbol), symbol)


def _carry_out(command: Command, symbol: str) -> BaseResponse:
    wish = WISHES[command.kind]
    if request.form.get("step") == "ask" or (wish.always_asks and request.form.get("confirm") != "yes"):
        return Response(_question(command, symbol))
    said = _submit(command)
    if wants_json():
        return Response(json.dumps({"status": "done", "text": said}), content_type="application/json")
    if request.form.get("step") == "do":
        return Response(render("done.html", lambda: plain.notice("Accepted", said), text=said))
    return redirect("/", 303)


def _question(command: Command, symbol: str) -> str:
    wish, of = WISHES[command.kind], (symbol, command.trade_id)
    question, consequence = fill_in(wish.question, *of), fill_in(wish.consequence, *of)
    bare = lambda: plain.confirm(question, consequence, wish.confirm, current_page().guard.csrf_token)  # noqa: E731 - one use
    return render("confirm.html", bare, wish=wish, symbol=symbol, trade_id=command.trade_id)


def _submit(command: Command) -> str:
    try:
        return current_page().submit(command)
    except CommandRefused as refused:
        raise Refusal(409, "command-refused", "That cannot be done now", refused.message) from refused
    except TimeoutError as late:
        raise Refusal(504, "no-answer", "The executor did not answer in time",
                      "it may still act: check the trade log before you press again") from late  # fmt: skip


def _symbol_of(trade_id: int) -> str:
    """Return the trade's symbol; an unreadable journal stops no wish: the trading loop judges it."""
    try:
        with current_page().journal.transaction() as db:
            symbol = queries.trade_symbol(db, trade_id)
    except (sqlite3.Error, OSError):
        return f"trade {trade_id}"
    if symbol is None:
        raise Refusal(404, "no-such-trade", "There is no such trade", f"the journal has no trade {trade_id}")
    return symbol


def _no_such(wish: str, known: dict[str, CommandKind]) -> Refusal:
    return Refusal(404, "not-found", "Not Found", f"there is no button {wish!r}, only {', '.join(known)}")
