"""The two long messages: openOrder (about 136 positional fields) and completedOrder.

Source: ib_insync's Decoder at server version 176, the official 9.81 client at 157, and the recorded openOrder
and completedOrder frames of the public ibkr-go repository (there the literal `None` for the delta neutral
order type, followed by its block, and `?` for an empty right).
"""

from __future__ import annotations

from decimal import Decimal

from executor.paper.contracts import Instrument
from executor.paper.orders import Order
from executor.paper.replies import Message, short_contract
from executor.paper.wire import UNSET_DOUBLE, UNSET_INTEGER

NO_MARGIN: tuple[object, ...] = (UNSET_DOUBLE,) * 9
_DELTA_NEUTRAL = ("None", "", 0, "", "", "", "?", 0, 0, "")


def open_order(order: Order, one: Instrument, shown_id: int, version: int,
               margins: tuple[object, ...] = NO_MARGIN, commission: tuple[object, ...] = ()) -> Message:  # fmt: skip
    """Return openOrder. `margins`: before, change, after, each of init, maint, equity; `commission`: amount, min, max,
    currency.
    """
    form, extra = order.form, order.form.extras.get
    paid = commission or (UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE, "")
    return [
        5, shown_id, *short_contract(one, one.exchange, "?"), *_basics(order, order.quantity), order.client_id, order.perm_id,
        form.outside_rth, extra("hidden", 0), extra("discretionary_amount", 0), extra("good_after_time", ""),
        f"{order.perm_id}.1/{form.account}/100", *_fa(), extra("good_till_date", ""), extra("rule_80a", ""),
        "", extra("settling_firm", ""), 0, "", -1, 0, "", "", "", "", "", extra("display_size", UNSET_INTEGER),
        0, 0, extra("all_or_none", 0), extra("min_quantity", UNSET_INTEGER), order.oca_type, 0, 0, "",
        form.parent_id, extra("trigger_method", 0), "", 0, *_DELTA_NEUTRAL, 0, 0, _trail_stop(order), "", "", "",
        "", 0, 0, 0, UNSET_INTEGER, UNSET_INTEGER, "", "", 0, "", "IB", 0, 0, "", 0, form.what_if, order.status,
        *margins, *paid, "", 0, 0, 0, *_adjusted(order), *_newest(version),
    ]  # fmt: skip


def completed_order(order: Order, one: Instrument, at: str, parent_perm: int, version: int) -> Message:
    """Return completedOrder; it carries neither orderId nor clientId. `at` is when it was completed.

    Its total quantity is 0 once the order has filled (source: messages recorded by users, forex and stocks).
    """
    form, extra = order.form, order.form.extras.get
    total = Decimal(0) if order.status == "Filled" else order.quantity
    return [
        101, *short_contract(one, one.exchange, "?"), *_basics(order, total), order.perm_id,
        form.outside_rth, 0, 0, "", *_fa(),
        extra("good_till_date", ""), "", "", "", 0, "", -1, "", "", "", "", "", UNSET_INTEGER, 0, 0, UNSET_INTEGER,
        order.oca_type, 0, "", 0, "None", "", 0, 0, 0, "", 0, 0, _trail_stop(order), "", "", 0, 0, 0, UNSET_INTEGER,
        UNSET_INTEGER, "", "", "", "IB", 0, 0, "", 0, order.status, 0, 0, 0, UNSET_DOUBLE, UNSET_DOUBLE, 0, 1, 0, "",
        order.filled, UNSET_INTEGER, 0, "Not an insider or substantial shareholder", 0, 0,
        parent_perm or "9223372036854775807", at, order.done_text,
        *((UNSET_INTEGER, UNSET_INTEGER, UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE) if version >= 170 else ()),
    ]  # fmt: skip


def _basics(order: Order, quantity: Decimal) -> Message:
    form = order.form
    return [form.action, quantity, form.order_type, form.limit_price or Decimal(0),
            form.aux_price or Decimal(0), form.tif, order.oca_group, form.account, "", form.extras.get("origin", 0),
            form.order_ref]  # fmt: skip


def _fa() -> Message:
    return ["", "", "", "", ""]  # group, method, percentage, profile, model code


def _trail_stop(order: Order) -> object:
    # TWS fills this for plain orders too: the stop price, else the limit price moved by one
    # (source: recorded frames, where a stop shows its aux price).
    if order.form.aux_price is not None:
        return order.form.aux_price
    return "" if order.form.limit_price is None else order.form.limit_price + order.form.sign


def _adjusted(order: Order) -> Message:
    return ["None", UNSET_DOUBLE, _trail_stop(order), UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE, 0,
            "", "", "", 0, 0, 0, 0, 0]  # fmt: skip


def _newest(version: int) -> Message:
    fields: Message = []
    fields += [UNSET_INTEGER] if version >= 159 else []
    fields += [UNSET_INTEGER] if version >= 160 else []
    fields += [0] if version >= 162 else []
    return fields + ([UNSET_INTEGER, UNSET_INTEGER, UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE]
                     if version >= 170 else [])  # fmt: skip
