"""The one place that raises and clears alarms: by one comparison of open alarms with what is true.

An alarm is a row in the journal first; `notify` delivers it afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from common.clock import Clock
from common.logs import get_logger
from common.signals import Side
from executor.core.conditions import CONDITIONS, OF_TRADE, AlarmKind
from executor.core.trades import Trade
from executor.desk.book import Book
from executor.journal.rows import Alarm

log = get_logger(__name__)

_AFTER_START = timedelta(minutes=1)  # what an earlier run had no time to deliver is delivered before it can be over
_OF_TRADE = frozenset((*OF_TRADE, AlarmKind.MISMATCH))  # what is over when the trade is


@dataclass(frozen=True, slots=True)
class Wanted:
    """An alarm that must be open."""

    kind: AlarmKind
    about: str
    text: str
    symbol: str = ""
    trade_id: int | None = None


class Alarms:
    """Keeps open alarms in step with what is true."""

    def __init__(self, book: Book, clock: Clock) -> None:
        self._book, self._clock = book, clock
        # when an alarm that only reports something may be over
        self._look_at: datetime | None = clock.now() + _AFTER_START

    def of_trade(self, trade: Trade, found: Mapping[AlarmKind, str]) -> None:
        """Bring an unfinished trade's alarms in step: kind → words, "" leaves an open alarm as it is."""
        about = str(trade.id)
        stays = [a for kind, text in found.items() if not text and (a := self._book.alarm(kind, about))]
        wanted = [Wanted(kind, about, text, trade.symbol, trade.id) for kind, text in found.items() if text]
        standing = [alarm for kind in OF_TRADE if (alarm := self._book.alarm(kind, about))]
        self._compare(standing, [*wanted, *map(_wanted, stays)])

    def trade_over(self, trade: Trade) -> None:
        """End the alarms of a finished trade."""
        standing = [alarm for kind in _OF_TRADE if (alarm := self._book.alarm(kind, str(trade.id)))]
        self._compare(standing, (), f"{trade.symbol}: the trade is over")

    def all_of(self, kind: AlarmKind, wanted: Iterable[Wanted]) -> None:
        """Bring all alarms of a kind in step."""
        self._compare([alarm for alarm in self._book.alarms() if alarm.kind is kind], wanted)

    def state(
        self, kind: AlarmKind, text: str | None, about: str = "", *, symbol: str = "", trade_id: int | None = None,
        over: str | None = None,
    ) -> None:  # fmt: skip
        """Report what is true of one thing now, in words; None: nothing. `over` replaces the closing message."""
        standing = self._book.alarm(kind, about)
        wanted = [] if text is None else [Wanted(kind, about, text, symbol, trade_id)]
        self._compare([standing] if standing else [], wanted, over)

    def is_open(self, kind: AlarmKind, about: str = "") -> bool:
        """True if an alarm of this kind about this one thing is open."""
        return self._book.alarm(kind, about) is not None

    def told(self, now: datetime) -> None:
        """End the alarms that only report something, after their time; an unknown exit not while it blocks re-entry."""
        if self._look_at is not None and now < self._look_at:
            return
        self._look_at = None
        for alarm in self._book.alarms():
            told_for = CONDITIONS[alarm.kind].told_for
            if told_for is None:
                continue
            ends = alarm.raised_at + told_for
            if now < ends or self._blocks(alarm):
                self._look_at = min(self._look_at or ends, ends)
            else:
                self._clear(alarm, _worded(alarm, CONDITIONS[alarm.kind].told))

    def _blocks(self, alarm: Alarm) -> bool:
        """True while the block that came with an unknown exit stands; a later one of another trade is none of its business."""
        if alarm.kind is not AlarmKind.UNKNOWN_EXIT:
            return False
        blocks = [self._book.block(0, alarm.symbol, side) for side in Side]
        return any(block is not None and block.trade_id == alarm.trade_id for block in blocks)

    def _compare(self, standing: Collection[Alarm], wanted: Iterable[Wanted], over: str | None = None) -> None:
        """The one comparison: raise what is wanted and not open, end what is open and not wanted."""
        by_key = {alarm.key: alarm for alarm in standing}
        for want in wanted:
            known = by_key.pop(f"{want.kind.value}:{want.about}", None)
            if known is None:
                self._raise(want)
            elif known.text != want.text:
                with self._book.change():
                    self._book.put_alarm(replace(known, text=want.text))
        for alarm in by_key.values():
            condition = CONDITIONS[alarm.kind]
            self._clear(alarm, over or _worded(alarm, condition.over or condition.told))

    def _raise(self, want: Wanted) -> None:
        alarm = Alarm(want.kind, want.about, want.text, want.symbol, want.trade_id, self._clock.now())
        if (told_for := CONDITIONS[want.kind].told_for) is not None:
            ends = alarm.raised_at + told_for
            self._look_at = min(self._look_at or ends, ends)
        with self._book.change():
            self._book.put_alarm(alarm)
            self._book.log("alarm", want.text, symbol=want.symbol, trade_id=want.trade_id)
            self._book.after(partial(_report_raised, alarm))

    def _clear(self, alarm: Alarm, text: str) -> None:
        with self._book.change():
            self._book.drop_alarm(alarm, text)
            self._book.log("alarm over", text, symbol=alarm.symbol, trade_id=alarm.trade_id)
            self._book.after(partial(_report_cleared, alarm, text))


def _wanted(alarm: Alarm) -> Wanted:
    return Wanted(alarm.kind, alarm.about, alarm.text, alarm.symbol, alarm.trade_id)


def _worded(alarm: Alarm, word: str) -> str:
    return f"{alarm.symbol}: {word}" if alarm.symbol else word


def _report_raised(alarm: Alarm) -> None:
    log.warning("alarm_raised", kind=alarm.kind.value, symbol=alarm.symbol or None, text=alarm.text)


def _report_cleared(alarm: Alarm, text: str) -> None:
    log.info("alarm_cleared", kind=alarm.kind.value, symbol=alarm.symbol or None, text=text)
