"""GET /metrics: the figures of the journal, which counts them as it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from executor.core.outcomes import Outcome, SignalState

from .dashboard import Dashboard
from .page import Page
from .queries import Content, Delays

_OUTCOMES = tuple(map(str, (*Outcome, SignalState.WAITING, SignalState.CLOSING)))


class JournalCollector(Collector):
    """Reads the figures of one page."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("executor_build", "the executor's version", {"version": self._page.settings.version})
        yield from _moment(self._page.dashboard())
        yield from _totals(self._page.journal.look().content)


def registry_of(page: Page) -> CollectorRegistry:
    """Return a registry with this page's figures and nothing of the process."""
    registry = CollectorRegistry()
    registry.register(JournalCollector(page))
    return registry


def _moment(dashboard: Dashboard) -> Iterator[Metric]:
    yield _gauge("executor_connected", "1 while TWS is connected and the executor reports", dashboard.is_connected)
    yield _gauge("executor_journal_readable", "1 while the journal can be read", not dashboard.problem)
    yield _gauge("executor_open_trades", "trades not finished", len(dashboard.open_trades))
    yield _gauge("executor_trades_on_hold", "trades that wait for the owner's choice", len(dashboard.held))
    yield _gauge("executor_reentry_blocks", "sides blocked after a take-profit", len(dashboard.blocks))
    unprotected = sum(trade.protection.level == "bad" for trade in dashboard.open_trades)
    yield _gauge("executor_unprotected_trades", "trades without the stop that was asked for", unprotected)
    alarms = GaugeMetricFamily("executor_alarms", "alarms that are not cleared, by level", labels=["level"])
    levels = Counter(alarm.level for alarm in dashboard.alarms)
    for level in ("page", "warn"):
        alarms.add_metric([level], levels[level])
    yield alarms
    if dashboard.reported_at:
        yield _gauge(
            "executor_reported_timestamp_seconds",
            "when the executor last published",
            dashboard.reported_at.timestamp(),
        )


def _totals(content: Content) -> Iterator[Metric]:
    """Yield what the journal has counted; nothing while none could be read."""
    if content.delays:
        yield _signals(content.outcomes)
        yield _delays("executor_received_to_order_seconds", "from the relay's receipt to the entry order",
                      content.delays["to order"])  # fmt: skip
        yield _delays("executor_order_to_fill_seconds", "from the entry order to its first fill",
                      content.delays["to fill"])  # fmt: skip


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _signals(found: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        "executor_signals", "signals by outcome, or by state while not done", labels=["outcome"]
    )
    for outcome in _OUTCOMES:
        family.add_metric([outcome], found.get(outcome, 0))
    return family


def _delays(name: str, text: str, found: Delays) -> Metric:
    family = HistogramMetricFamily(name, text)
    bounds, trades, seconds = zip(*found, strict=True)
    family.add_metric([], list(zip(map(floatToGoString, bounds), accumulate(trades), strict=True)), sum(seconds))
    return family
