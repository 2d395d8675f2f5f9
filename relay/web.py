"""The relay's endpoints in Flask: all of them, so that any WSGI server can be in front (AWS Lambda, the tests).

Under `python -m relay` neither alerts nor the executor's calls come here: relay.asgi answers them before, by the same
Intake and Delivery.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from relay import health
from relay.context import Relay
from relay.delivery import Delivery
from relay.intake import MAX_BODY_BYTES, Intake
from relay.problems import NoSuchMethod, RequestRefused, answer, code_of
from relay.views import response, whole_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# status of Flask's own exceptions -> our code
_BY_STATUS = {400: "bad-request", 404: "not-found", 413: "too-large"}


def make_web(relay: Relay, intake: Intake, delivery: Delivery) -> Flask:
    """Return the Flask application. It starts no thread and asks nothing of the queue."""
    app = Flask("relay", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["relay"] = relay
    for part in (_alerts(intake), _deliveries(delivery), health.blueprint(relay)):
        app.register_blueprint(part)

    def translate(error: Exception) -> Response:
        ours = _ours(error)
        relay.refused.add(code_of(ours))
        return response(answer(ours))

    app.register_error_handler(Exception, translate)
    app.wsgi_app = _behind_proxies(app.wsgi_app, relay)  # type: ignore[method-assign, assignment]
    return app


def _alerts(intake: Intake) -> Blueprint:
    web = Blueprint("intake", __name__)

    def receive(path_secret: str | None = None) -> Response:
        return response(intake.answer(whole_request(path_secret)))

    for path in ("/webhook", "/webhook/<path_secret>"):
        web.add_url_rule(path, path, receive, methods=["POST"], provide_automatic_options=False)
    return web


def _deliveries(delivery: Delivery) -> Blueprint:
    web = Blueprint("delivery", __name__)

    def deliver(path: str) -> Response:
        return response(delivery.answer(path, whole_request()))

    for path in delivery.paths:
        web.add_url_rule(
            path, path.replace("/", "_"), partial(deliver, path), methods=["POST"], provide_automatic_options=False
        )
    return web


def _ours(error: Exception) -> Exception:
    """Return the error of ours that says the same as one of Flask's; any other as it is."""
    if isinstance(error, MethodNotAllowed):
        return NoSuchMethod(list(error.valid_methods or ()))
    code = _BY_STATUS.get(error.code or 500) if isinstance(error, HTTPException) else None
    return RequestRefused(code) if code else error


def _behind_proxies(app: WSGIApplication, relay: Relay) -> WSGIApplication:
    """Return the app with REMOTE_ADDR set to the sender's address, as the configured proxies tell it."""

    def by_peer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        environ["REMOTE_ADDR"] = relay.proxies.sender(environ.get("REMOTE_ADDR", ""), forwarded)
        return app(environ, start)

    return by_peer
