"""From the relay to the inbox: lease → verify → commit → act → ack. Nothing is acked before it is committed."""

from __future__ import annotations

from datetime import datetime, timedelta

from common.clock import Clock
from common.errors import JournalError
from common.logs import get_logger

from .alarms import Alarms
from .desk import Desk
from .journal import Journal
from .relay_client import Delivery, RelayClient, RelayUnavailable
from .threads import in_thread

log = get_logger(__name__)

WAIT_SECONDS = 20.0
SKEW_ALARM, SKEW_STOP = 2.0, 30.0
AWAY = timedelta(seconds=60)  # how long the relay may be away before its owner is told
RETRY_SECONDS = 60


class Intake:
    """One turn of polling at a time. The relay keeps whatever was not acked, and delivers it again."""

    def __init__(self, client: RelayClient, journal: Journal, desk: Desk, alarms: Alarms, clock: Clock) -> None:
        self._client, self._journal, self._desk, self._alarms, self._clock = client, journal, desk, alarms, clock
        self._away_since: datetime | None = None
        self.relay_text = "not asked yet"

    async def turn(self) -> float:
        """Wait for signals and take them in; the seconds to pause before the next turn.

        The commit comes before the orders, the orders before the ack: a signal that comes again is known by its id.
        """
        try:
            answer = await in_thread(self._client.lease, WAIT_SECONDS)
        except RelayUnavailable as exc:
            return self._relay_away(exc)
        self._relay_back()
        if answer.skew_seconds is not None:
            self._judge_clock(answer.skew_seconds)
        good = [d for d in answer.deliveries if d.envelope is not None]
        try:
            self._journal.receive_all([(d.envelope, d.payload) for d in good if d.envelope is not None])
        except JournalError as exc:
            self._desk.stopped_by(exc)
            return 1.0  # not committed, so not acked: it comes again
        if good:
            log.info("signals_received", ids=",".join(d.id for d in good))
            self._desk.advance()
        await self._answer(good, [d for d in answer.deliveries if d.envelope is None])
        return 0.0

    async def _answer(self, good: list[Delivery], bad: list[Delivery]) -> None:
        try:
            if good:
                await in_thread(self._client.ack, good)
            for delivery in bad:
                await self._refuse(delivery)
        except RelayUnavailable as exc:
            self._relay_away(exc)  # what was not acked comes again, and is known by its id

    async def _refuse(self, delivery: Delivery) -> None:
        if delivery.forged:
            text = f"signal {delivery.id} does not carry our relay's signature ({delivery.problem}): it is not acted on"
            self._alarms.raise_("forged signal", delivery.id, text)
            return
        text = f"signal {delivery.id} is signed but cannot be read: {delivery.problem}. Update the older side"
        self._alarms.raise_("dead letter", delivery.id, text)
        await in_thread(self._client.nack, delivery, delivery.problem, RETRY_SECONDS)

    # ---- the relay away and back ----

    def _relay_away(self, exc: RelayUnavailable) -> float:
        now = self._clock.now()
        self.relay_text = str(exc)
        if self._away_since is None:
            self._away_since = now
            log.warning("relay_away", reason=str(exc))
        elif now - self._away_since >= AWAY:
            text = f"the relay cannot be reached since {self._away_since:%H:%M:%S} UTC: {exc}"
            self._alarms.raise_("relay", "", text)
        return exc.retry_after or 1.0

    def _relay_back(self) -> None:
        self.relay_text = "polling"
        if self._away_since is not None:
            log.info("relay_back", away_since=self._away_since.isoformat())
            self._away_since = None
        self._alarms.clear("relay", "", "the relay answers again")

    def _judge_clock(self, skew: float) -> None:
        """Entries are judged by their age, so a clock that is far off must not enter."""
        off = f"this machine's clock and the relay's differ by {abs(skew):.1f} s: set the clock (NTP)"
        if abs(skew) > SKEW_ALARM:
            self._alarms.raise_("clock", "", off)
        else:
            self._alarms.clear("clock", "", "the clocks agree again")
        self._desk.stop_entries(f"{off}; no entry is sent" if abs(skew) > SKEW_STOP else None)
