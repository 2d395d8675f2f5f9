"""What the endpoints share, and what one relay counts. None of it decides whether a signal is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Event, Lock

from common.clock import Clock
from common.errors import UnauthenticSignal
from common.logs import get_logger
from relay.addresses import Proxies, networks
from relay.credentials import ALLOWED_FAILURES, Credentials, FailureCounter, LineLimit
from relay.pending.base import Pending
from relay.problems import TooManyFailures
from relay.settings import RelaySettings

log = get_logger(__name__)
MOST_POLLS = 48  # that wait at the same time; each takes part in every commit that stores a signal
MOST_SECONDS, SECOND_AGAIN_SECONDS = 100, 600.0  # second executors: how many are known, when one is reported again


class Tally:
    """Counts by name, safe between threads; read by /metrics."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def read(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


@dataclass
class Relay:
    """One relay process: its settings, its queue, and what it counts."""

    settings: RelaySettings
    pending: Pending
    clock: Clock
    credentials: Credentials
    failures: FailureCounter = field(default_factory=FailureCounter)
    accepted: Tally = field(default_factory=Tally)  # "queued", "duplicate", "missed"
    refused: Tally = field(default_factory=Tally)  # by code
    news: Event = field(default_factory=Event)  # set when this process kept a notice: a poll that waits ends for it
    lines: LineLimit = field(default_factory=LineLimit)  # of refused credentials
    address_lines: LineLimit = field(
        default_factory=LineLimit
    )  # of refused addresses: wrong secrets must not hide them
    closing: Event = field(default_factory=Event)  # set when the server stops: polls end at once

    def __post_init__(self) -> None:
        self._seconds: dict[str, float] = {}  # refused executors -> monotonic, when they are reported again
        hops = self.settings.proxy_hops or 0
        self.proxies = Proxies(hops, networks(self.settings.trusted_proxies))
        self.polls = BoundedSemaphore(MOST_POLLS)

    def is_news(self, consumer: str) -> bool:
        """True if the owner has not been told in the last ten minutes of this executor, which may not poll."""
        now = self.clock.monotonic()
        if now < self._seconds.get(consumer, now):
            return False
        if len(self._seconds) > MOST_SECONDS:
            self._seconds.clear()
        self._seconds[consumer] = now + SECOND_AGAIN_SECONDS
        return True

    def require_executor(self, authorization: str | None, address: str, path: str) -> None:
        """Raise UnauthenticSignal or TooManyFailures unless the request carries an executor's token."""
        if not self.credentials.is_executor(bearer(authorization)):
            raise self.unauthentic(address, path)

    def unauthentic(self, address: str, path: str) -> UnauthenticSignal | TooManyFailures:
        """Count a wrong or missing credential; return the error to answer with."""
        now = self.clock.monotonic()
        failures, retry_after = self.failures.add(address, now)
        if failures in (1, ALLOWED_FAILURES + 1) and self.lines.allows(now):
            log.warning("credential_refused", address=address, failures=failures, path=_first_part(path))
        return TooManyFailures(retry_after) if retry_after else UnauthenticSignal("no valid credential")


def bearer(authorization: str | None) -> str | None:
    """Return the token of `Authorization: Bearer …`, or None."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _first_part(path: str) -> str:
    """Return as much of a path as can hold no secret."""
    return "/" + path.split("/", 2)[1] if path.startswith(("/webhook", "/v1")) else "/"
