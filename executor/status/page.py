"""The page itself: one rendering for all its readers, made anew only when something changed."""

from __future__ import annotations

import gzip
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import Response, current_app, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from common.clock import Clock
from executor.core.commands import Command

from .dashboard import Dashboard, build, is_silent
from .journal_view import JournalView
from .security import Guard
from .settings import PageSettings


@dataclass(frozen=True, slots=True)
class Rendering:
    """The page as bytes, plain and compressed."""

    version: str
    plain: bytes
    packed: bytes


class Page:
    """What the endpoints share: the journal, the guard, the settings, and the way to the trading loop."""

    def __init__(
        self, journal: JournalView, submit: Callable[[Command], str], settings: PageSettings, clock: Clock
    ) -> None:
        self.journal = journal
        self.submit = submit
        self.settings = settings
        self.clock = clock
        self.guard = Guard(settings, clock)
        self._start = secrets.token_hex(4)  # a version never outlives its process: the CSRF token is new
        self._lock = threading.Lock()
        self._rendering: Rendering | None = None

    def dashboard(self) -> Dashboard:
        """Return what there is to show now."""
        return build(self.journal.look(), self.clock.now())

    def rendered(self) -> Rendering:
        """Return the page in its newest version, which changes whenever what is shown does."""
        with self._lock:
            look, now = self.journal.look(), self.clock.now()
            version = f"{self._start}-{look.number}-{int(is_silent(look.content, now))}"
            if self._rendering is None or self._rendering.version != version:
                self._rendering = _render(version, build(look, now))
            return self._rendering


def current_page() -> Page:
    return cast(Page, current_app.extensions["page"])


def _render(version: str, dashboard: Dashboard) -> Rendering:
    html = render_template("index.html", dashboard_data=dashboard, trade_log=dashboard.log).encode()
    return Rendering(version, html, gzip.compress(html, 5))


def index() -> BaseResponse:
    """Answer GET /: the page, or 304 where the reader has this version already."""
    found = current_page().rendered()
    packed = request.accept_encodings["gzip"] > 0
    response = Response(found.packed if packed else found.plain, mimetype="text/html")
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding, Cookie"
    response.set_etag(found.version, weak=True)
    return response.make_conditional(request)
