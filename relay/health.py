"""Is the relay alive, can it take alerts, does an executor fetch them; and the numbers behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response

from common.clock import utc_text
from common.errors import QueueError
from common.version import VERSION
from relay.context import Relay
from relay.pending.base import MODES, Readiness, Stats
from relay.problems import HEADERS, RequestRefused, reply
from relay.views import require_executor, response

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CHALLENGE_PATTERN = "[0-9a-f]{32}"
READY_FOR_SECONDS = 1.0  # outsiders may ask as often as they like: the disk is not tried each time


def blueprint(relay: Relay) -> Blueprint:
    """Return the endpoints for machines that watch."""
    web = Blueprint("health", __name__)
    readiness = _Readiness(relay)

    def healthz() -> Response:
        return response(reply(200, {"status": "ok"}))

    def readyz() -> Response:
        ready, stats = readiness.check()
        executor = executor_state(relay, stats, relay.clock.now())
        return response(reply(200, {
            "status": "ready",
            "queue": {"engine": ready.engine, "wakeups": ready.wakeups, "detail": ready.detail},
            "mode": stats.mode,
            "executor": executor,
            "alerts_missed": relay.accepted.read().get("missed", 0),
        }))  # fmt: skip

    def status() -> Response:
        """Answer also while the queue is away: the fingerprints are known, `queue` is null."""
        require_executor(relay)
        now = relay.clock.now()
        value = {"signing_keys": relay.credentials.signing_keys().fingerprints(), "queue": _queue(relay)}
        return response(reply(200, value, {"X-Relay-Time": utc_text(now)}))

    def proof(challenge: str) -> Response:
        """Prove to anyone that this is the relay which has its secrets, and show none of them."""
        if not re.fullmatch(CHALLENGE_PATTERN, challenge, re.ASCII):
            raise RequestRefused("not-found")
        return response(reply(200, relay.credentials.proven(challenge)))

    def metrics() -> Response:
        require_executor(relay)
        return Response(metrics_text(relay), 200, HEADERS, "text/plain; version=0.0.4; charset=utf-8")

    def openapi() -> Response:
        from relay.openapi import DOCUMENT

        return response(reply(200, DOCUMENT))

    web.get("/healthz", provide_automatic_options=False)(healthz)
    web.get("/readyz", provide_automatic_options=False)(readyz)
    web.get("/v1/status", provide_automatic_options=False)(status)
    web.get("/v1/proof/<challenge>", provide_automatic_options=False)(proof)
    web.get("/metrics", provide_automatic_options=False)(metrics)
    web.get("/openapi.json", provide_automatic_options=False)(openapi)
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


class _Readiness:
    """Asks the queue at most once a second, one thread at a time; the others share its answer."""

    def __init__(self, relay: Relay) -> None:
        self._relay, self._lock, self._until = relay, Lock(), -1.0
        self._last: tuple[Readiness, Stats] | QueueError

    def check(self) -> tuple[Readiness, Stats]:
        """Return the state of the queue, at most a second old.

        Raises:
            QueueError: Alerts cannot be taken.
        """
        with self._lock:
            if self._relay.clock.monotonic() >= self._until:
                self._last = self._ask()
                self._until = self._relay.clock.monotonic() + READY_FOR_SECONDS
            if isinstance(self._last, QueueError):
                raise type(self._last)(self._last.message)
            return self._last

    def _ask(self) -> tuple[Readiness, Stats] | QueueError:
        try:
            return self._relay.pending.ready(), self._relay.pending.stats(self._relay.clock.now())
        except QueueError as exc:
            return exc


def executor_state(relay: Relay, stats: Stats, now: datetime) -> str:
    """Return "polling", "silent" (it asked, but not lately), or "never" (it has not asked yet)."""
    if stats.last_poll_at is None:
        return "never"
    silent = (now - stats.last_poll_at).total_seconds() > relay.settings.executor_silent_seconds
    return "silent" if silent else "polling"


def metrics_text(relay: Relay) -> bytes:
    """Return all numbers in Prometheus' text format. An unreachable queue is reported, not raised."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(relay))
    return generate_latest(registry)


class _Collector:
    """Reads the relay's own counts and the queue's numbers at each scrape."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def collect(self) -> Iterator[Metric]:
        yield from self._own()
        now = self._relay.clock.now()
        try:
            stats = self._relay.pending.stats(now)
        except QueueError:
            yield _gauge("relay_queue_up", "1 when the queue answers.", 0)
            return
        yield _gauge("relay_queue_up", "1 when the queue answers.", 1)
        yield from _queue_metrics(stats, now)
        silent = executor_state(self._relay, stats, now) != "polling"
        yield _gauge("relay_executor_silent", "1 when no executor has polled for too long.", int(silent))

    def _own(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("relay_build", "The relay's version.", {"version": VERSION})
        counts = self._relay.accepted.read()
        for name, help in (
            ("queued", "Signals accepted by this relay."),
            ("duplicate", "Alerts that repeated a signal."),
            ("missed", "Times a strategy alert showed that an earlier one never arrived."),
        ):
            yield CounterMetricFamily(f"relay_alerts_{name}", help, counts.get(name, 0))
        refused = CounterMetricFamily("relay_requests_refused", "Refused requests by code.", labels=["code"])
        for code, count in sorted(self._relay.refused.read().items()):
            refused.add_metric([code], count)
        yield refused


def _queue_metrics(stats: Stats, now: datetime) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield _gauge("relay_queue_depth", "Signals accepted and not finished.", stats.depth)
    yield _gauge("relay_queue_leased", "Signals leased to an executor.", stats.leased)
    yield _gauge("relay_queue_dead", "Dead letters.", stats.dead)
    yield CounterMetricFamily("relay_queue_accepted", "Signals the queue ever accepted.", stats.accepted_total)
    age = (now - stats.oldest_at).total_seconds() if stats.oldest_at else 0.0
    yield _gauge("relay_queue_oldest_seconds", "Age of the oldest unfinished signal.", max(0.0, age))
    if stats.last_poll_at:
        at = stats.last_poll_at.timestamp()
        yield _gauge("relay_last_poll_timestamp_seconds", "When an executor last polled.", at)
    latency = GaugeMetricFamily(
        "relay_delivery_latency_seconds", "From acceptance to ack, newest 200.", labels=["quantile"]
    )
    for quantile, value in (("0.5", stats.latency_p50_seconds), ("0.99", stats.latency_p99_seconds)):
        if value is not None:
            latency.add_metric([quantile], value)
    yield latency
    mode = GaugeMetricFamily("relay_delivery_mode", "1 for the mode in force.", labels=["mode"])
    for each in MODES:
        mode.add_metric([each], int(stats.mode == each))
    yield mode


def _gauge(name: str, help: str, value: float) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, help, value)
