"""Trading hours as contract details show them. Pure."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

from executor.paper.contracts import Instrument

EXCHANGE_ZONE = ZoneInfo("America/New_York")
DAYS = 6
# security type -> trading and liquid hours of one day, and whether the day begins the evening before
_SPANS = {"STK": (("0400", "2000"), ("0930", "1600")), "CASH": (("1715", "1700"),) * 2, "FUT": (("1800", "1700"),) * 2}


def hours(one: Instrument, today: date) -> tuple[str, str, str]:
    """Return time zone, trading hours and liquid hours of the next days, in TWS's form.

    >>> hours(Instrument(1, "X", "STK", "SMART", "USD", 1), date(2026, 4, 6))[2][:48]
    '20260406:0930-20260406:1600;20260407:0930-202604'
    """
    trading, liquid = _SPANS.get(one.sec_type, _SPANS["STK"])
    days = [today + timedelta(days=number) for number in range(DAYS)]
    return "US/Eastern", ";".join(_day(day, trading) for day in days), ";".join(_day(day, liquid) for day in days)


def _day(day: date, span: tuple[str, str]) -> str:
    if day.weekday() >= 5:
        return f"{day:%Y%m%d}:CLOSED"
    begin = day - timedelta(days=1) if span[0] > span[1] else day
    return f"{begin:%Y%m%d}:{span[0]}-{day:%Y%m%d}:{span[1]}"
