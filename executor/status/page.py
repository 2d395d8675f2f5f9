"""The page itself: one rendering for all readers, refreshed only when something changes."""

from __future__ import annotations

import gzip
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import cast

from flask import Response, current_app, render_template, request
from jinja2.runtime import Macro
from werkzeug.wrappers import Response as BaseResponse

from common.clock import Clock
from executor.core.commands import Command

from . import plain
from .dashboard import Dashboard, build, is_silent
from .faults import Faults
from .journal_view import JournalView, Look
from .kept import Kept
from .rendering import render_built_in
from .security import Guard
from .settings import PageSettings


@dataclass(frozen=True, slots=True)
class Rendering:
    """The page as bytes, plain and compressed."""

    version: str
    plain: bytes
    packed: bytes
    is_whole: bool = True  # False: it stands in for a page that could not be rendered


class Pieces(Kept):
    """The parts of the built-in page that are long lists of what hardly changes: log, signals, closed trades."""

    def piece(self, macro: Macro, key: object, *values: object) -> str:
        """Return what a macro makes of some values, which say all that it shows."""
        return self.of((macro.name, key), values, partial(macro, *values))


class Page:
    """What the endpoints share: the journal, the guard, the settings, and the way to the trading loop."""

    def __init__(
        self,
        journal: JournalView,
        submit: Callable[[Command], str],
        settings: PageSettings,
        clock: Clock,
        faults: Faults,
    ) -> None:
        self.journal = journal
        self.submit = submit
        self.settings = settings
        self.clock = clock
        self.faults = faults
        self.guard = Guard(settings, clock)
        self._start = secrets.token_hex(4)  # a version never outlives its process: the CSRF token is new
        self._lock = threading.Lock()
        self._rendering: Rendering | None = None
        self._pieces = Pieces()

    def dashboard(self) -> Dashboard:
        """Return what there is to show now."""
        return build(self.journal.look(), self.clock.now())

    def rendered(self) -> Rendering:
        """Return the page in its newest version, which changes whenever what is shown does.

        What cannot be rendered is reported, and replaced by a page that has the buttons.
        """
        with self._lock:
            try:
                look, now = self.journal.look(), self.clock.now()
                version = f"{self._start}-{look.number}-{int(is_silent(look.content, now))}"
            except Exception as error:
                return _packed("", self._plain(self.faults.failed("/", error)), is_whole=False)
            if self._rendering is None or self._rendering.version != version:
                self._rendering = self._render(version, look, now)
            return self._rendering

    def _render(self, version: str, look: Look, now: datetime) -> Rendering:
        dashboard = None
        try:
            dashboard = build(look, now)
            html = render_template(
                "index.html", dashboard_data=dashboard, trade_log=dashboard.log, piece=self._pieces.piece
            )
            self._pieces.settle()
        except Exception as error:
            said = self.faults.failed("/", error)
            return _packed(version, self._substitute(dashboard, said), is_whole=False)
        self.faults.fine("/")
        return _packed(version, html)

    def _substitute(self, dashboard: Dashboard | None, said: str) -> str:
        """Return the built-in page in place of the owner's own, or the plain one."""
        if dashboard is None or not self.settings.templates:
            return self._plain(said)
        return render_built_in(
            "index.html", lambda: self._plain(said), dashboard_data=dashboard, trade_log=dashboard.log, fault=said,
            piece=Pieces().piece,
        )  # fmt: skip

    def _plain(self, said: str) -> str:
        return plain.page(self.journal, self.guard.csrf_token, said)


def current_page() -> Page:
    return cast(Page, current_app.extensions["page"])


def _packed(version: str, html: str, *, is_whole: bool = True) -> Rendering:
    page = html.encode(errors="replace")
    return Rendering(version, page, gzip.compress(page, 5), is_whole)


def index() -> BaseResponse:
    """Answer GET /: the page, 304 where the reader has this version already, or 500 and a substitute page."""
    found = current_page().rendered()
    packed = request.accept_encodings["gzip"] > 0
    response = Response(found.packed if packed else found.plain, mimetype="text/html")
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding, Cookie"
    if not found.is_whole:
        response.status_code = 500
        return response
    response.set_etag(found.version, weak=True)
    return response.make_conditional(request)
