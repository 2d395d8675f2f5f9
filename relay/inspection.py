"""What an authenticated executor may know of its relay, for its doctor: which keys sign, and how the queue is."""

from __future__ import annotations

from flask import Blueprint, Response, request

from common.clock import utc_text
from common.errors import QueueError
from relay.context import Relay, bearer
from relay.pending.base import Stats
from relay.problems import reply


def blueprint(relay: Relay) -> Blueprint:
    """Return the endpoint `GET /v1/status`."""
    web = Blueprint("inspection", __name__)

    def status() -> Response:
        """Answer also while the queue is away: the fingerprints are known, `queue` is null."""
        if not relay.credentials.is_executor(bearer(request.environ)):
            raise relay.unauthentic(request.environ)
        now = relay.clock.now()
        value = {"signing_keys": relay.credentials.signing_keys().fingerprints(), "queue": _queue(relay)}
        return reply(200, value, {"X-Relay-Time": utc_text(now)}).for_flask()

    web.get("/v1/status", provide_automatic_options=False)(status)
    return web


def _queue(relay: Relay) -> dict[str, object] | None:
    try:
        stats = relay.pending.stats(relay.clock.now())
    except QueueError:
        return None
    return shown(stats)


def shown(stats: Stats) -> dict[str, object]:
    """Return the queue's numbers as JSON values."""
    return {
        "mode": stats.mode,
        "depth": stats.depth,
        "dead": stats.dead,
        "oldest_at": utc_text(stats.oldest_at) if stats.oldest_at else None,
        "last_poll_at": utc_text(stats.last_poll_at) if stats.last_poll_at else None,
    }
