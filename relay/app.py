"""The composition root: settings, queue and clock become one application, in ASGI's form or in WSGI's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.clock import Clock, SystemClock
from relay.asgi import App, Front
from relay.context import Relay
from relay.credentials import Credentials
from relay.delivery import Delivery
from relay.intake import Intake
from relay.pending.base import Pending
from relay.settings import RelaySettings

if TYPE_CHECKING:
    from flask import Flask


def make_relay(settings: RelaySettings, pending: Pending, clock: Clock | None = None) -> Relay:
    """Return what the endpoints share. Set its `closing` to end waiting polls."""
    clock = clock or SystemClock()
    return Relay(settings, pending, clock, Credentials(settings, clock))


def make_front(relay: Relay) -> Front:
    """Return the relay as an ASGI application. Flask is imported when it is needed: alerts and polls are taken before that."""
    intake, delivery = Intake(relay), Delivery(relay)

    def web() -> App:
        from a2wsgi import WSGIMiddleware

        from relay.web import make_web

        return WSGIMiddleware(make_web(relay, intake, delivery), workers=relay.settings.threads)  # type: ignore[arg-type, return-value]

    return Front(relay, intake, delivery, web)


def create_app(settings: RelaySettings, pending: Pending, clock: Clock | None = None) -> Flask:
    """Return the relay as a WSGI application, for a server with threads. Its `extensions["relay"]` is the Relay.

    It starts no thread and asks nothing of the queue: a relay starts while its queue is away.
    """
    from relay.web import make_web

    relay = make_relay(settings, pending, clock)
    return make_web(relay, Intake(relay), Delivery(relay))
