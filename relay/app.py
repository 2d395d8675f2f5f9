"""The composition root: settings, queue and clock become one WSGI application."""

from __future__ import annotations

from flask import Flask, Response

from common.clock import Clock, SystemClock
from relay import delivery, health, inspection
from relay.addresses import behind_proxies
from relay.context import Relay
from relay.credentials import Credentials
from relay.intake import Intake
from relay.pending.base import Pending
from relay.problems import answer, code_of
from relay.settings import RelaySettings


def create_app(settings: RelaySettings, pending: Pending, clock: Clock | None = None) -> Flask:
    """Return the relay as a Flask application, for any WSGI server with threads.

    It starts no thread and asks nothing of the queue: a relay starts while its queue is away. Its
    `extensions["relay"]` is the Relay; set `closing` there to end waiting polls.
    """
    clock = clock or SystemClock()
    relay = Relay(settings, pending, clock, Credentials(settings, clock))
    app = Flask("relay", static_folder=None, template_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["relay"] = relay
    intake = Intake(relay)
    app.register_blueprint(intake.blueprint())
    for part in (delivery, health, inspection):
        app.register_blueprint(part.blueprint(relay))

    def translate(error: Exception) -> Response:
        relay.refused.add(code_of(error))
        return answer(error).for_flask()

    app.register_error_handler(Exception, translate)
    front = intake.before(app.wsgi_app)
    app.wsgi_app = behind_proxies(front, settings)  # type: ignore[method-assign, assignment]
    return app
