"""The composition of the page: `create_app` makes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response, request
from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from common.clock import Clock, SystemClock
from common.errors import ConfigError
from executor.core.commands import Command

from . import security, views
from .dashboard import gauge
from .faults import Faults, asked_for, current_faults
from .journal_view import JournalView
from .page import Page, current_page
from .refusals import Refusal, answer, from_bug, from_http
from .rendering import BUILT_IN, keep_built_in, own_templates
from .settings import PageSettings
from .words import FILTERS, HEADLINE, LEGS, MOST_WARNINGS, ORDER_STATES, STATES, TONES, WISHES, fill_in

_FORM_LIMIT = 16 * 1024
_OPEN_TO_ALL = ("health", "login", "gone", "static")  # no login: they tell nothing of the owner's


def create_app(
    journal_path: str | Path,
    submit: Callable[[Command], str],
    settings: PageSettings,
    clock: Clock | None = None,
    tell: Callable[[str, str | None], None] = lambda what, words: None,
) -> Flask:
    """Return the status page over one journal.

    The journal is only read. `submit` carries a button's command to the trading loop from the page's thread and
    returns what was done in words; it may raise `CommandRefused` (shown) or `TimeoutError` (said so). `tell` hears what
    of the page fails, in words, and None when it works again; it is called in the page's threads and must not block.

    Raises:
        ConfigError: The page would be reachable from outside without a login token, or the templates' folder
            has no index.html.
    """
    _check(settings)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _FORM_LIMIT
    clock = clock or SystemClock()
    faults = app.extensions["faults"] = Faults(tell, clock, settings.templates)
    app.extensions["page"] = Page(JournalView(journal_path), submit, settings, clock, faults)
    _set_up_templates(app, settings)
    views.register(app)
    app.before_request(_check_request)
    app.after_request(_add_headers)
    app.register_error_handler(Exception, _on_error)
    return app


def _check(settings: PageSettings) -> None:
    problems = []
    if not settings.is_local and not settings.login_token:
        problems.append(f"the page at {settings.host} can be reached from other machines and needs a login token: "
                        "set EXECUTOR_PAGE_TOKEN, or bind it to this machine with --flask-host 127.0.0.1")  # fmt: skip
    if settings.templates and not (Path(settings.templates) / "index.html").is_file():
        problems.append(f"--templates {settings.templates}: expected a folder with an index.html, found none")
    if problems:
        raise ConfigError(problems)


def _set_up_templates(app: Flask, settings: PageSettings) -> None:
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.globals.update(
        states=STATES,
        order_states=ORDER_STATES,
        legs=LEGS,
        tones=TONES,
        wishes=WISHES,
        headline=HEADLINE,
        most_warnings=MOST_WARNINGS,
        fill_in=fill_in,
        gauge_of=gauge,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    if settings.templates:
        app.jinja_loader = ChoiceLoader([own_templates(settings.templates), FileSystemLoader(BUILT_IN)])
    else:
        app.jinja_env.undefined = StrictUndefined
    app.context_processor(lambda: {"settings": settings, "csrf_token": current_page().guard.csrf_token})
    keep_built_in(app)


def _check_request() -> None:
    guard = current_page().guard
    guard.check_host()
    if request.endpoint not in _OPEN_TO_ALL:
        guard.check_login()
    if request.method == "POST" and request.endpoint not in ("login", "gone"):
        guard.check_csrf()


def _add_headers(response: Response) -> Response:
    response.headers.update(security.HEADERS)
    response.headers["Content-Security-Policy"] = security.content_policy(bool(current_page().settings.templates))
    if request.endpoint == "static":
        response.headers["Cache-Control"] = "no-cache"
    elif request.endpoint != "index" and (response.status_code < 400 or response.status_code == 409):
        current_faults().fine(asked_for())
    return response


def _on_error(error: Exception) -> BaseResponse:
    if isinstance(error, Refusal):
        return answer(error)
    if isinstance(error, HTTPException):
        return error.get_response() if (error.code or 500) < 400 else answer(from_http(error))
    return answer(from_bug(error))
