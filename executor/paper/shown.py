"""An order or an execution as TWS shows it to a client: the messages that need the floor, or hide what IB has yet to say."""

from __future__ import annotations

from dataclasses import replace

from executor.paper import order_frames, replies
from executor.paper.floor import Floor
from executor.paper.hours import EXCHANGE_ZONE
from executor.paper.orders import Execution, Order
from executor.paper.replies import Message
from executor.paper.wire import UNSET_DOUBLE


def open_order(floor: Floor, order: Order, version: int) -> Message:
    return order_frames.open_order(_as_known(order), floor.instrument(order), order.order_id, version)


def order_status(order: Order) -> Message:
    return replies.order_status(_as_known(order), order.order_id, order.form.parent_id)


def execution(floor: Floor, req_id: int, one: Execution) -> Message:
    return replies.execution(req_id, one, floor.instrument(one), _execution_time(floor, one))


def commission(one: Execution, *, unset: bool = False) -> Message:
    return replies.commission(one.exec_id, UNSET_DOUBLE if unset else one.commission, one.currency, one.realized)


def _execution_time(floor: Floor, one: Execution) -> str:
    """Return the time of an execution in the form that the knob `exec_time_format` asks for."""
    fault = floor.faults.standing("exec_time_format")
    form = fault.word("form") if fault else "instrument"
    if form == "utc":
        return f"{one.at:%Y%m%d-%H:%M:%S}"
    if form == "tws":  # in TWS's own zone, which its greeting names: UTC
        return f"{one.at:%Y%m%d  %H:%M:%S}"
    return f"{one.at.astimezone(EXCHANGE_ZONE):%Y%m%d %H:%M:%S} US/Eastern"


def _as_known(order: Order) -> Order:
    """Return an order as it is shown: IB gives it its permId, so before it is there it has none."""
    return replace(order, perm_id=0) if order.lost or "queued" in order.flags else order
