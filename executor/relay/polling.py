"""One turn of polling: lease, verify, commit to the inbox, act, and only then ack to the relay.

The order is the safety: an ack before the commit could lose a signal. A signal is acted on when it arrives, before
the ack is on its way, since a second delivery finds it in the inbox. An answer that brought nothing of use is followed
by a pause, and whatever is in one, it makes a bounded number of alarms (executor.relay.hearsay).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from common.clock import Clock
from common.errors import JournalError
from common.logs import get_logger
from executor.core.conditions import AlarmKind
from executor.core.outcomes import StopCause
from executor.desk.desk import Desk
from executor.relay.client import Answer, Delivery, Notice, RelayClient, RelayUnavailable, SecondExecutor
from executor.relay.hearsay import Hearsay
from executor.threads import in_thread

log = get_logger(__name__)

WAIT_SECONDS = 20.0
_LONGEST_TURN = 40.0  # a turn that takes longer is given up, whatever the relay drips
_PAUSES = (0.5, 1.0, 2.0, 5.0)  # after the first, second, … poll without a usable answer, or with a bad signal in it
_EMPTY_PAUSE, _WAITED = 0.5, 0.4  # after an answer with nothing new that came sooner than this: a poll should wait
_HELD_BACK = 1.0
_STORAGE_PAUSE = 5.0
_AWAY_ALARM = 60.0
_SKEW_ALARM, _SKEW_STOP = 2.0, 30.0
_SAMPLES = 5
_NACK_SECONDS = 60
_NOTICES_KNOWN = 1000
_NOTICES = {
    "alert-missed": AlarmKind.MISSED_ALERT,
    "dead-letter": AlarmKind.DEAD_LETTER,
    "second-executor": AlarmKind.SECOND_EXECUTOR,
    "exit-refused": AlarmKind.REFUSED_EXIT,
    "alert-refused": AlarmKind.REFUSED_ALERT,
    "id-used": AlarmKind.USED_ID,
}  # what the relay calls it -> the kind of alarm
_SAME_BY_WORDS = (AlarmKind.REFUSED_EXIT, AlarmKind.REFUSED_ALERT)


class Poller:
    """Fetches signals. `held_back` returns why none may be fetched now, or None."""

    def __init__(
        self,
        client: RelayClient,
        desk: Desk,
        clock: Clock,
        held_back: Callable[[], str | None],
    ) -> None:
        self._client, self._desk, self._alarms = client, desk, desk.alarms
        self._clock, self._held_back = clock, held_back
        self._failures = self._bad_answers = 0
        self._words = Hearsay(desk.alarms, clock)
        self._away_since: float | None = None
        self._heard = False
        self._heard_of: deque[tuple[str, str]] = deque(maxlen=_NOTICES_KNOWN)
        self._skews: deque[float] = deque(maxlen=_SAMPLES)
        self.last_poll: float | None = None  # by the monotonic clock

    async def turn(self) -> float:
        """Poll once; return after how many seconds to poll again."""
        if self._held_back():
            return _HELD_BACK
        began, doubt = self._clock.monotonic(), self._desk.gate.clock_doubt
        wait = 0.0 if doubt else WAIT_SECONDS  # entries wait for the comparison
        try:
            answer = await in_thread(self._client.lease, wait, timeout=_LONGEST_TURN)
        except SecondExecutor as exc:
            self._alarm(AlarmKind.SECOND_EXECUTOR, f"{exc} No signal is fetched here.")
            return self._away(exc)
        except (RelayUnavailable, TimeoutError) as exc:
            return self._away(exc)
        has_waited = self._clock.monotonic() - began >= _WAITED
        self._back(answer, doubt)
        try:
            is_new = await self._take(answer)
        except JournalError as exc:
            self._desk.stopped_by(exc)  # what is not committed is not acked: the relay keeps it
            return _STORAGE_PAUSE
        return self._pause(answer, is_new, has_waited)

    def _pause(self, answer: Answer, is_new: bool, has_waited: bool) -> float:
        """Return how long to wait after an answer: not at all after a new signal, or after a poll that had waited."""
        if is_new:
            self._bad_answers = 0
            return 0.0
        if answer.surplus or any(each.envelope is None for each in answer.deliveries):
            self._bad_answers += 1
            return _PAUSES[min(self._bad_answers, len(_PAUSES)) - 1]
        return 0.0 if has_waited else _EMPTY_PAUSE

    async def _take(self, answer: Answer) -> bool:
        """Take what an answer brought; return whether there was a new signal."""
        if answer.mode is not None:
            self._desk.relay_mode(answer.mode)  # before the signals that came in it are decided
        good = [each for each in answer.deliveries if each.envelope is not None]
        is_new = self._commit(good)
        if good:
            await self._ack(good)  # before the bad ones are given back, one by one: a lease is short
        for bad in answer.deliveries:
            if bad.envelope is None:
                await self._refuse(bad)
        self._hear(answer.notices)
        self._words.turn_over()
        await self._confirm(answer.notices)
        return is_new

    def _commit(self, good: list[Delivery]) -> bool:
        """Commit signals to the inbox with all that they mean, and act on them; return whether one was new."""
        if not good:
            return False
        news = self._desk.receive([(d.envelope, d.payload) for d in good if d.envelope])
        for delivery, new in zip(good, news, strict=True):
            if new and delivery.envelope:
                signal = delivery.envelope.signal
                log.info("signal_received", action=signal.action.value, symbol=signal.symbol, signal_id=delivery.id)
        return any(news)

    async def _ack(self, good: list[Delivery]) -> None:
        try:
            await in_thread(self._client.ack, good, timeout=_LONGEST_TURN)
        except (RelayUnavailable, TimeoutError) as exc:
            log.warning("ack_failed", reason=str(exc), then="the relay sends them again; the inbox will recognise them")

    async def _refuse(self, delivery: Delivery) -> None:
        """A signal that may not be acted on: reported once, and never acked."""
        if delivery.forged:
            self._words.forged(delivery.id)
            return
        text = f"a signed signal ({delivery.id}) cannot be read and is not acted on: {delivery.problem}"
        self._words.report(AlarmKind.DEAD_LETTER, text, delivery.id)
        try:
            await in_thread(self._client.nack, delivery, delivery.problem, _NACK_SECONDS, timeout=_LONGEST_TURN)
        except (RelayUnavailable, TimeoutError) as exc:
            log.warning("nack_failed", reason=str(exc))

    def _hear(self, notices: Sequence[Notice]) -> None:
        """Report to the owner what the relay noticed, such as an alert that never arrived; once, however often it is repeated."""
        for notice in notices:
            kind = _NOTICES.get(notice.kind)
            if (notice.kind, notice.key) in self._heard_of:
                continue
            if kind is None:
                log.info("notice_unknown", kind=notice.kind, text=notice.text)
            elif kind is AlarmKind.MISSED_ALERT and self._desk.book.has_come(notice.symbol, notice.key):
                log.info("missed_alert_came_late", symbol=notice.symbol)
            else:
                # A sender that repeats a refused alert every minute raises one alarm: its text has no time in it.
                about = notice.text if kind in _SAME_BY_WORDS else notice.key
                self._words.report(kind, notice.text, about, notice.symbol)
            self._heard_of.append((notice.kind, notice.key))  # not before it is written down

    async def _confirm(self, notices: Sequence[Notice]) -> None:
        """Confirm to the relay which notices it need not repeat: they are committed, or of an unknown kind."""
        ids = [notice.id for notice in notices if notice.id]
        if not ids:
            return
        try:
            await in_thread(self._client.heard, ids, timeout=_LONGEST_TURN)
        except (RelayUnavailable, TimeoutError) as exc:
            log.warning("notices_not_confirmed", reason=str(exc), then="the relay repeats them")

    # --- the relay, there or away -------------------------------------------------------------------

    def _away(self, error: Exception) -> float:
        now = self._clock.monotonic()
        text = str(error) or "the relay did not answer in time"
        if self._away_since is None:
            self._away_since = now
            log.warning("relay_away", reason=text, then="retrying; alerts wait at the relay")
        elif now - self._away_since > _AWAY_ALARM:
            self._alarm(AlarmKind.RELAY, f"signals cannot be fetched for over a minute: {text}")
        self._failures += 1
        asked = getattr(error, "retry_after", None)
        return float(asked or _PAUSES[min(self._failures, len(_PAUSES)) - 1])

    def _alarm(self, kind: AlarmKind, text: str) -> None:
        try:
            self._words.report(kind, text)
            self._words.turn_over()
        except JournalError as exc:
            self._desk.stopped_by(exc)

    def _back(self, answer: Answer, doubt: str | None) -> None:
        """The relay answered a poll that began with this doubt about our clock, which may have been set since."""
        self.last_poll = self._clock.monotonic()
        if self._away_since is not None or not self._heard:
            log.info("relay_polled" if not self._heard else "relay_back")
        self._heard, self._away_since, self._failures = True, None, 0
        try:
            self._alarms.state(AlarmKind.RELAY, None)
            self._alarms.state(AlarmKind.SECOND_EXECUTOR, None)
            if answer.skew_seconds is not None and self._desk.gate.clock_doubt is doubt:
                self._judge_clock(answer.skew_seconds)
        except JournalError as exc:
            self._desk.stopped_by(exc)

    def _judge_clock(self, skew: float) -> None:
        """Compare the relay's clock with ours: the smallest of the last differences counts, the rest is delay."""
        if self._desk.gate.clock_doubt is not None:
            self._skews.clear()  # they were of another clock
        self._skews.append(skew)
        least, newest = min(self._skews, key=abs), min(list(self._skews)[-2:], key=abs)
        least = newest if abs(newest) > _SKEW_STOP else least  # so far off it was set: that is no delay
        if abs(least) > _SKEW_ALARM and len(self._skews) == _SAMPLES or abs(least) > _SKEW_STOP:
            ahead = "behind" if least > 0 else "ahead of"
            text = f"this computer's clock is {abs(least):.1f} s {ahead} the relay's; set the clock (NTP)"
            self._words.report(AlarmKind.CLOCK, text)
            self._stop_entries(f"{text}; no entries above {_SKEW_STOP:.0f} s" if abs(least) > _SKEW_STOP else None)
        elif abs(least) <= _SKEW_ALARM:
            self._alarms.state(AlarmKind.CLOCK, None)
            self._stop_entries(None)
        self._desk.clock_compared()

    def _stop_entries(self, reason: str | None) -> None:
        self._desk.gate.forbid(StopCause.CLOCK, reason)
