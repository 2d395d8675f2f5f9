"""From the library's objects to the facts of `broker`: PURE, one function per message, no library.

The objects are read by attribute, so the same code serves ib_insync and ib_async. IBKR's sentinels for "not set"
(1.7976931348623157e308 and 2147483647) become None here and nowhere else; floats become Decimal by their
shortest text, which is the text that TWS sent.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from common.exits import Distance, Unit
from common.signals import Side
from executor.core.contracts import canonical_of
from executor.core.ports import Fill, OrderReport, Position, Session, Status

_UNSET_INTEGER = 2**31 - 1
_HUGE = Decimal("1e300")
_QUARTER_HOUR = 900

# TWS's nine words → ours; source: IBKR, "Order Status", and ApiPending/ApiCancelled of the client library.
STATUS = {
    "ApiPending": Status.PENDING,
    "PendingSubmit": Status.PENDING,
    "PreSubmitted": Status.WORKING,
    "Submitted": Status.WORKING,
    "PendingCancel": Status.CANCELLING,
    "ApiCancelled": Status.CANCELLED,
    "Cancelled": Status.CANCELLED,
    "Filled": Status.FILLED,
    "Inactive": Status.INACTIVE,
}
_SIDES = {"BUY": Side.BUY, "BOT": Side.BUY, "SELL": Side.SELL, "SLD": Side.SELL, "SSHORT": Side.SELL}
# Why every exit of a bracket is held: its parent has not filled, its trigger price has not come.
_USUAL = ("child", "trigger", "child,trigger")
_PRICE_FIELD = {"LMT": "lmtPrice", "STP": "auxPrice", "TRAIL": "trailStopPrice"}


def exact(value: Any) -> Decimal | None:
    """Return a number of the library as an exact decimal, None if TWS sent nothing.

    >>> exact(1.18), exact(1.7976931348623157e308), exact(""), exact(100.0)
    (Decimal('1.18'), None, None, Decimal('100'))
    """
    try:
        number = Decimal(str(value).removesuffix(".0")) if value not in (None, "", _UNSET_INTEGER) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() and abs(number) < _HUGE else None


def whole(value: Any) -> int:
    """Return an id as a whole number, 0 if TWS sent nothing or the sentinel."""
    return 0 if value in (None, "", _UNSET_INTEGER) else int(value)


def status_of(word: str, why_held: str = "") -> Status:
    """Return our word for TWS's; a word that nobody knows counts as live, for a dead order is never assumed.

    An order that waits for shares to borrow is Inactive with whyHeld "locate" and may fill hours later.
    Source: IBKR, Message Codes, 404. A bracket's child sleeps, with whyHeld "child", until its parent has filled.
    Source: recorded brackets.

    >>> status_of("Inactive"), status_of("Inactive", "locate"), status_of("Verwundert")
    (<Status.INACTIVE: 'inactive'>, <Status.WORKING: 'working'>, <Status.WORKING: 'working'>)
    >>> status_of("PreSubmitted", "child"), status_of("PreSubmitted", "trigger")
    (<Status.PENDING: 'pending'>, <Status.WORKING: 'working'>)
    """
    status = STATUS.get(word, Status.WORKING)
    if word == "PreSubmitted" and "child" in why_held:
        return Status.PENDING
    return Status.WORKING if status is Status.INACTIVE and "locate" in why_held else status


def from_open_order(order: Any, contract: Any, state: Any) -> OrderReport:
    """Return the content of an openOrder message."""
    return OrderReport(
        order_id=whole(order.orderId),
        status=status_of(state.status),
        client_id=whole(order.clientId),
        parent_id=whole(order.parentId),
        note=state.warningText or "",
        quantity=exact(order.totalQuantity),
        oca_group=order.ocaGroup or None,
        oca_type=whole(order.ocaType),
        **_common(order, contract),
    )


def from_completed_order(order: Any, contract: Any, state: Any) -> OrderReport:
    """Return the content of a completedOrder message; it carries neither order id nor client id.

    Its total quantity is 0 once the order has filled (source: recorded messages), so the order's size is not told.
    """
    status = status_of(state.status)
    filled = exact(order.filledQuantity)
    return OrderReport(
        order_id=0,
        status=status,
        filled=(exact(order.totalQuantity) or None) if filled is None and status is Status.FILLED else filled,
        completed=True,
        note=(state.completedStatus or "").strip(),  # "Cancelled by System:" comes with a line break (recorded)
        **_common(order, contract),
    )


def _common(order: Any, contract: Any) -> dict[str, Any]:
    return {
        "perm_id": whole(order.permId),
        "order_ref": order.orderRef or "",
        "con_id": whole(contract.conId),
        "account": order.account or None,
        "side": _SIDES.get(order.action),
        "kind": order.orderType or None,
        "price": exact(getattr(order, _PRICE_FIELD[order.orderType])) if order.orderType in _PRICE_FIELD else None,
        "trail": _trail(order) if order.orderType == "TRAIL" else None,
        "tif": order.tif or None,
    }


def _trail(order: Any) -> Distance | None:
    """Return how far an order trails: TWS shows a percentage with an amount of 0, and an amount without percentage."""
    percent, amount = exact(order.trailingPercent), exact(order.auxPrice)
    if percent:
        return Distance(percent, Unit.PERCENT)
    return Distance(amount, Unit.POINTS) if amount else None


def from_order_status(
    order_id: int, word: str, filled: float, remaining: float, perm_id: int, client_id: int, why_held: str
) -> OrderReport:
    """Return the content of an orderStatus message."""
    return OrderReport(
        order_id=whole(order_id),
        status=status_of(word, why_held),
        client_id=whole(client_id),
        perm_id=whole(perm_id),
        filled=exact(filled),
        remaining=exact(remaining),
        why_held="" if why_held in _USUAL else why_held,
    )


def from_execution(contract: Any, execution: Any, at: datetime) -> Fill:
    """Return the content of an execDetails message; `at` is its time, read by `execution_time`."""
    return Fill(
        exec_id=execution.execId,
        order_ref=execution.orderRef or "",
        order_id=whole(execution.orderId),
        perm_id=whole(execution.permId),
        client_id=whole(execution.clientId),
        con_id=whole(contract.conId),
        account=execution.acctNumber,
        side=_SIDES[execution.side],
        quantity=exact(execution.shares) or Decimal(0),
        price=exact(execution.price) or Decimal(0),
        at=at,
        liquidation=bool(whole(execution.liquidation)),
        symbol=symbol_of(contract),
    )


def from_position(account: str, contract: Any, quantity: float, avg_cost: float) -> Position:
    """Return the content of a position message."""
    return Position(
        account,
        whole(contract.conId),
        symbol_of(contract),
        exact(quantity) or Decimal(0),
        exact(avg_cost) or Decimal(0),
        multiplier=exact(contract.multiplier) or Decimal(1),
        currency=contract.currency,
    )


def symbol_of(contract: Any) -> str:
    """Return the canonical symbol of a contract as TWS spells it."""
    return canonical_of(contract.secType, contract.symbol, contract.currency, contract.localSymbol)


_CLOCK = r"(?:[01]\d|2[0-3])[0-5]\d|2400"
# 20260413:0930-20260413:1600 without its first date, or 0930-1600
_SPAN = re.compile(rf"(?P<begin>{_CLOCK})-(?:(?P<day>\d{{8}}):)?(?P<end>{_CLOCK})", re.ASCII)
# Old versions of TWS mean a zone with summer time by these; the zone data does not.
_NO_SUMMER = ("EST", "MST", "HST")
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)([ -]+)(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?: +(\S.*))?", re.ASCII)


def execution_time(text: str, tws: tzinfo) -> datetime | None:
    """Return the instant that an execution's time means, None where it cannot be read.

    TWS writes `20261123  09:15:00` in its own zone, `20261123-09:15:00` in UTC,
    `20261123 09:15:00 US/Eastern` in the instrument's zone, or seconds since 1970; which one depends on
    version and settings.
    Source: IBKR, TWS API, "Execution.Time" and message 2174; seen in the API's message logs.

    >>> new_york = timezone(timedelta(hours=-5))
    >>> [execution_time(text, new_york).hour for text in ("20261123  09:15:00", "20261123-09:15:00")]
    [14, 9]
    """
    if text.isdigit() and len(text) > 8:
        return datetime.fromtimestamp(int(text), UTC)
    found = _TIME.fullmatch(text.strip())
    if not found:
        return None
    year, month, day, gap, hour, minute, second, zone = found.groups()
    zoned = _zone(zone, tws) if zone else UTC if gap == "-" else tws
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=zoned)
    except ValueError:
        return None
    return local.astimezone(UTC)


def _zone(name: str, tws: tzinfo) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return tws  # an abbreviation in TWS's own language


def sessions(hours: str, zone: str) -> tuple[Session, ...]:
    """Return the hours of a contract's details, in their order; none where any of them, or the zone, cannot be read.

    Each day is `20260413:0930-20260413:1600`, in older versions `20260413:0930-1200,1300-1600`, or `20260413:CLOSED`.
    Source: IBKR, ContractDetails.LiquidHours, and recorded details.

    >>> for session in sessions("20260413:0930-20260413:1600;20260414:CLOSED", "US/Eastern"):
    ...     print(session.opens, session.closes)
    2026-04-13 13:30:00+00:00 2026-04-13 20:00:00+00:00
    >>> sessions("20260413:0930-noon", "US/Eastern"), sessions("20260413:0930-20260413:1600", "")
    ((), ())
    """
    try:
        where = ZoneInfo("" if zone in _NO_SUMMER else zone)
        days = [day.strip().partition(":") for day in hours.split(";") if day.strip()]
        spans = [_span(day, each, where) for day, _, rest in days if rest != "CLOSED" for each in rest.split(",")]
    except (ZoneInfoNotFoundError, ValueError, OSError, OverflowError):
        return ()
    return tuple(spans) if all(span.opens < span.closes for span in spans) else ()


def _span(day: str, text: str, zone: tzinfo) -> Session:
    """Return one span of a day; one without dates that ends before it begins began the evening before."""
    found = _SPAN.fullmatch(text)
    if not found or len(day) != len("20260413"):
        raise ValueError(f"not a span of hours: {text!r}")
    begins, ends = _at(day, found["begin"], zone), _at(found["day"] or day, found["end"], zone)
    if found["day"] is None and ends <= begins:
        begins -= timedelta(days=1)
    return Session(begins.astimezone(UTC), ends.astimezone(UTC))


def _at(day: str, clock: str, zone: tzinfo) -> datetime:
    """Return a time of a day; 2400 is one."""
    midnight = datetime.strptime(day, "%Y%m%d").replace(tzinfo=zone)
    return midnight + timedelta(hours=int(clock[:2]), minutes=int(clock[2:]))


def tws_zone(handshake: str, utc: datetime) -> tzinfo | None:
    """Return TWS's time zone as an offset, from the local time in its handshake and the same instant in UTC.

    Measured, since the zone's name in the handshake may be anything ("British Summer Time", "MEZ").

    >>> print(tws_zone("20261123 04:15:02 EST", datetime(2026, 11, 23, 9, 15, tzinfo=UTC)))
    UTC-05:00
    """
    found = _TIME.fullmatch(handshake.strip())
    if not found:
        return None
    year, month, day, _, hour, minute, second, _ = found.groups()
    local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    quarters = round((local - utc).total_seconds() / _QUARTER_HOUR)
    if abs(quarters) > 60:  # no zone is 15 hours away: one of the two clocks is wrong
        return None
    return timezone(timedelta(seconds=quarters * _QUARTER_HOUR))
