"""Trading hours: as contract details show them, and when an instrument next trades. Pure."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from executor.paper.contracts import Instrument

EXCHANGE_ZONE = ZoneInfo("America/New_York")
DAYS = 6
Span = tuple[str, str]
# security type -> trading and liquid hours of one day; one that ends before it begins begins the evening before
_SPANS: dict[str, tuple[Span, Span]] = {
    "STK": (("0400", "2000"), ("0930", "1600")),
    "CASH": (("1715", "1700"), ("1715", "1700")),
    "FUT": (("1800", "1700"), ("0930", "1700")),  # source: nautilus_trader's test data, CL
}


def hours(one: Instrument, today: date, *, kept: bool = True) -> tuple[str, str, str]:
    """Return time zone, trading hours and liquid hours of the next days, in TWS's form; where none are kept, all hours.

    >>> hours(Instrument(1, "X", "STK", "SMART", "USD", 1), date(2026, 4, 6))[2][:48]
    '20260406:0930-20260406:1600;20260407:0930-202604'
    """
    trading, liquid = _SPANS.get(one.sec_type, _SPANS["STK"])
    days = [today + timedelta(days=number) for number in range(DAYS)]
    if not kept:
        always = ";".join(f"{day:%Y%m%d}:0000-{day + timedelta(days=1):%Y%m%d}:0000" for day in days)
        return "US/Eastern", always, always
    return "US/Eastern", ";".join(_day(day, trading) for day in days), ";".join(_day(day, liquid) for day in days)


def _day(day: date, span: Span) -> str:
    if _closed(day):
        return f"{day:%Y%m%d}:CLOSED"
    begin = day - timedelta(days=1) if span[0] > span[1] else day
    return f"{begin:%Y%m%d}:{span[0]}-{day:%Y%m%d}:{span[1]}"


def _closed(day: date) -> bool:
    return day.weekday() >= 5


def opens_at(one: Instrument, now: datetime, *, liquid: bool) -> datetime:
    """Return when the instrument next trades, in New York's time: `now` itself, if it does.

    >>> from datetime import UTC
    >>> at = datetime(2026, 4, 10, 20, 30, tzinfo=UTC)  # a Friday, half past four in New York
    >>> f"{opens_at(Instrument(1, 'X', 'STK', 'SMART', 'USD', 1), at, liquid=True):%Y%m%d %H:%M}"
    '20260413 09:30'
    """
    span = _SPANS.get(one.sec_type, _SPANS["STK"])[liquid]
    here = now.astimezone(EXCHANGE_ZONE)
    for number in range(2 * DAYS):
        day = here.date() + timedelta(days=number)
        if not _closed(day):
            begin = _at(day - timedelta(days=1) if span[0] > span[1] else day, span[0])
            if here < _at(day, span[1]):
                return max(begin, here)
    raise AssertionError("every week has a day on which markets open")


def _at(day: date, clock: str) -> datetime:
    return datetime.combine(day, time(int(clock[:2]), int(clock[2:])), EXCHANGE_ZONE)
