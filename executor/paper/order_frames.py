"""The two long messages: openOrder (about 136 positional fields) and completedOrder.

Source: ib_insync's Decoder at server version 176, the official 9.81 client at 157, and frames of a real Gateway in the
public ibkr-go repository, field by field (openOrder: api_order_type_matrix_aapl of June 2026, version 200;
completedOrder: completed_orders_cancelled_system_live of April 2026): the literal `None` for no delta neutral and no
adjusted type, `?` for no right, OCA type 3 for orders of no group, numbers that nobody set unset or empty.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, time
from decimal import Decimal

from executor.paper.contracts import Instrument
from executor.paper.hours import EXCHANGE_ZONE
from executor.paper.order_fields import ECHOED
from executor.paper.orders import Adjustment, Order
from executor.paper.replies import Message, price, short_contract
from executor.paper.wire import UNSET_DOUBLE, UNSET_INTEGER

NO_MARGIN: tuple[object, ...] = (UNSET_DOUBLE,) * 9
NO_COMMISSION: tuple[object, ...] = ("", "", "", "")
NO_GROUP_TYPE = 3  # what TWS shows of an order that is in no group
NO_PARENT = 2**63 - 1
_DELTA_NEUTRAL = ("None", "", 0, "", "", "", "?", 0, 0, "")
_SHAREHOLDER = "Not an insider or substantial shareholder"


def open_order(order: Order, one: Instrument, shown_id: int, version: int,
               margins: tuple[object, ...] = NO_MARGIN, commission: tuple[object, ...] = NO_COMMISSION) -> Message:  # fmt: skip
    """Return openOrder. `margins`: before, change, after, each of init, maint, equity; `commission`: amount, min, max,
    currency.
    """
    form, echo = order.form, _echo(order)
    return [
        5, shown_id, *short_contract(one, one.exchange, "?", strike="0"), *_basics(order, order.quantity),
        order.client_id, order.perm_id, form.outside_rth, 0, 0, "",
        f"{order.perm_id}.0/{form.account}/100", *_fa(), "", echo["rule80A"], "", echo["settlingFirm"],
        0, "", -1, 0, "", "", "", "", "", UNSET_INTEGER, 0, 0, 0, "", order.oca_type or NO_GROUP_TYPE, 0, 0, "",
        form.parent_id, echo["triggerMethod"] or 0, "", 0, *_DELTA_NEUTRAL, 0, 0, *_trail(order), "", "", "",
        0, 0, 0, UNSET_INTEGER, UNSET_INTEGER, "", "", echo["optOutSmartRouting"] or 0, "", "IB", 0, 0, "",
        echo["solicited"] or 0, form.what_if, order.status, *margins, *commission, "", 0, 0, 0,
        *_adjusted(order), echo["usePriceMgmtAlgo"] or 0, *_newest(version),
    ]  # fmt: skip


def completed_order(order: Order, one: Instrument, at: str, parent_perm: int, version: int) -> Message:
    """Return completedOrder; it carries neither orderId nor clientId. `at` is when it was completed.

    Its total quantity is 0 once the order has filled (source: messages recorded by users, forex and stocks).
    """
    form, echo = order.form, _echo(order)
    total = Decimal(0) if order.status == "Filled" else order.quantity
    return [
        101, *short_contract(one, one.exchange, "?", strike="0"), *_basics(order, total), order.perm_id,
        form.outside_rth, 0, 0, "", *_fa(), "", echo["rule80A"], "", echo["settlingFirm"], 0, "", -1, "", "", "", "",
        "", UNSET_INTEGER, 0, 0, "", order.oca_type or NO_GROUP_TYPE, 0, "", 0, "None", "", 0, 0, 0, "", 0, 0,
        *(_trail(order) if form.trails else ("", "")), "", 0, 0, 0, UNSET_INTEGER, UNSET_INTEGER, "", "", "", "IB", 0, 0,
        "", 0, order.status, 0, 0, 0, order.trail_stop or UNSET_DOUBLE, UNSET_DOUBLE, 0, 1, 0, cancelled_by_ib_at(order),
        order.filled, UNSET_INTEGER, 0, _SHAREHOLDER, 0, 0, parent_perm or NO_PARENT, at, _end(order),
        *(("",) * 5 if version >= 170 else ()),
    ]  # fmt: skip


def _echo(order: Order) -> dict[str, str]:
    return {name: order.form.extras.get(name, "") for name in ECHOED}


def _end(order: Order) -> str:
    """Return how the order ended; where IB ended it, its reason follows, which is empty."""
    return f"{order.done_text}:\n" if order.done_text == "Cancelled by System" else order.done_text


def cancelled_by_ib_at(order: Order) -> str:
    """Return when IB cancels a GTC order by itself, in the time zone of this TWS: the end of the next quarter.

    Source: IBKR, Time in Force, good-til-canceled; a recorded order of 11 April shows the 30th of September.
    """
    if order.form.tif != "GTC":
        return ""
    month = (order.placed_at.month - 1) // 3 * 3 + 6  # the last one of the next quarter, counted from this January
    year, month = order.placed_at.year + (month - 1) // 12, (month - 1) % 12 + 1
    day = date(year, month, calendar.monthrange(year, month)[1])
    return f"{datetime.combine(day, time(16), EXCHANGE_ZONE).astimezone(UTC):%Y%m%d %H:%M:%S} UTC"


def _basics(order: Order, quantity: Decimal) -> Message:
    form = order.form
    return [form.action, quantity, form.order_type, price(form.limit_price), price(form.aux_price), form.tif,
            order.oca_group, form.account, "", form.extras.get("origin", 0), form.order_ref]  # fmt: skip


def _fa() -> Message:
    return ["", "", "", "", ""]  # group, method, percentage, profile, model code


def _trail(order: Order) -> Message:
    """Return trailStopPrice and trailingPercent."""
    percent = order.form.trail_percent if order.form.trails else None
    return [_trail_stop(order), "" if percent is None else percent]


def _trail_stop(order: Order) -> object:
    # TWS fills this for plain orders too: the stop price, else the limit price moved by one
    # (source: recorded frames, where a stop shows its aux price). A TRAIL shows where its stop is now.
    if order.form.trails:
        return "" if order.trail_stop is None else order.trail_stop
    if order.form.aux_price is not None:
        return order.form.aux_price
    return "" if order.form.limit_price is None else order.form.limit_price + order.form.sign


def _adjusted(order: Order) -> Message:
    to = order.form.adjust or Adjustment("None")
    return [to.order_type, to.trigger_price or UNSET_DOUBLE, _trail_stop(order) or UNSET_DOUBLE, UNSET_DOUBLE,
            to.stop_price or UNSET_DOUBLE, UNSET_DOUBLE, to.trailing or UNSET_DOUBLE, to.unit, "", "", "", 0, 1, 0, 0]  # fmt: skip


def _newest(version: int) -> Message:
    """Return duration, post-to-ATS, auto-cancel of the parent, and the five sizes and offsets of pegged orders."""
    fields: Message = [""] * (version >= 159) + [""] * (version >= 160) + [0] * (version >= 162)
    return fields + ([""] * 5 if version >= 170 else [])
