"""Pages without a template, for when rendering fails. They depend on as little as possible, and keep the buttons."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from executor.core.commands import CommandKind

from .dashboard import DIFFERENCES
from .journal_view import JournalView

_PAGE = Markup(
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}<title>{title}</title></head>'
    "<body><h1>{title}</h1>{body}</body></html>"
)
_REFRESH = Markup('<meta http-equiv="refresh" content="5">')
_FORM = Markup(
    '<form method="post" action="{action}"><input type="hidden" name="csrf_token" value="{csrf}">{fields}'
    '<button name="step" value="{step}">{label}</button></form>'
)
_CONFIRMED = Markup('<input type="hidden" name="confirm" value="yes">')
_TOKEN = Markup('<input name="token" type="password" autocomplete="current-password" required>')
_HOME = Markup('<p><a href="/">Back to the status page</a></p>')
_ON_HOLD = (CommandKind.ADOPT, CommandKind.FLATTEN, CommandKind.DISMISS)
_DIFFERENCES = "SELECT symbol, text FROM alarms WHERE kind IN (?, ?) AND cleared_at IS NULL LIMIT ?"
_SHOWN = 200  # rows of each kind; there is one open trade for each contract


@dataclass(frozen=True, slots=True)
class Buttons:
    """A line of text and its buttons: pairs of an address and a label."""

    text: str
    forms: tuple[tuple[str, str], ...]


def page(journal: JournalView, csrf: str, said: str) -> str:
    """Return the status page without a template: why it is plain, and every button."""
    head = Markup(
        "<p><strong>The status page could not be rendered</strong> ({}). Trading continues. The executor's log "
        "has the details. The buttons below work; one that does not apply is refused with the reason.</p>"
    ).format(said)
    try:
        with journal.transaction() as db:
            lines = list(_lines(db))
    except (sqlite3.Error, OSError) as error:
        return _page("Status", head + Markup("<p>The journal cannot be read: {}</p>").format(error), refresh=True)
    rows = [_row(line, csrf) for line in lines] or [Markup("<li>No open trades, no blocked sides.</li>")]
    return _page("Status", head + Markup("<ul>{}</ul>").format(Markup("").join(rows)), refresh=True)


def confirm(question: str, consequence: str, label: str, csrf: str) -> str:
    """Return the confirmation page; its form posts to the requested address."""
    form = _FORM.format(action="", csrf=csrf, fields=_CONFIRMED, step="do", label=label)
    return _page(question, Markup("<p>{}</p>").format(consequence) + form + _HOME)


def notice(title: str, text: str) -> str:
    """Return a page with a message and a link back."""
    return _page(title, Markup("<p>{}</p>").format(text) + _HOME)


def login(title: str, text: str) -> str:
    """Return the page that asks for the login token."""
    form = _FORM.format(action="/login", csrf="", fields=_TOKEN, step="login", label="Log in")
    return _page(title, Markup("<p>{}</p>").format(text) + form)


def _page(title: str, body: Markup, *, refresh: bool = False) -> str:
    return str(_PAGE.format(title=title, body=body, refresh=_REFRESH if refresh else ""))


def _row(line: Buttons, csrf: str) -> Markup:
    forms = [_FORM.format(action=action, csrf=csrf, fields="", step="ask", label=label) for action, label in line.forms]
    return Markup("<li>{} {}</li>").format(line.text, Markup("").join(forms))


def _lines(db: sqlite3.Connection) -> Iterator[Buttons]:
    for row in db.execute("SELECT * FROM trades WHERE closed = 0 ORDER BY id DESC LIMIT ?", (_SHOWN,)):
        text = f"trade {row['id']}: {row['symbol']} {row['signal']} {row['position_size']}, {row['state']}"
        wishes = _ON_HOLD if row["state"] == "hold" else (CommandKind.CLOSE,)
        why = f" ({row['hold_reason']})" if row["hold_reason"] else ""
        forms = tuple((f"/trades/{row['id']}/{wish}", wish.capitalize()) for wish in wishes)
        yield Buttons(text + why, forms)
    for row in db.execute("SELECT * FROM blocks LIMIT ?", (_SHOWN,)):
        text = f"{row['symbol']}: {row['side']} is blocked from re-entry"
        yield Buttons(text, ((_of_symbol(row["symbol"], "reset"), "Release"),))
    for row in db.execute(_DIFFERENCES, (*DIFFERENCES, _SHOWN)):
        forms = ((_of_symbol(row["symbol"], "follow"), "Follow now"), (_of_symbol(row["symbol"], "leave"), "Leave it"))
        yield Buttons(f"{row['symbol']}: {row['text'].removeprefix(row['symbol'] + ': ')}", forms)
    for symbol, quantity in _positions(db):
        text = f"{symbol}: the broker shows {quantity}. If the journal does not know it:"
        forms = ((_of_symbol(symbol, "ignore"), "Ignore"), (_of_symbol(symbol, "adopt"), "Adopt as a trade"))
        yield Buttons(text, forms)


def _of_symbol(symbol: str, wish: str) -> str:
    return f"/symbols/{quote(symbol, safe='')}/{wish}"


def _positions(db: sqlite3.Connection) -> list[tuple[str, str]]:
    row = db.execute("SELECT value FROM live WHERE key = 'positions'").fetchone()
    try:
        found = json.loads(row["value"]) if row else []
    except ValueError:
        return []
    rows = found if isinstance(found, list) else []
    return [(str(p["symbol"]), str(p.get("position"))) for p in rows if isinstance(p, dict) and p.get("symbol")]
