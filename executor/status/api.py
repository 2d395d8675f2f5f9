"""GET /api/status: what the page shows, as JSON whose names stay; see docs/reference/status-page.md.

Exact numbers are decimal text, instants UTC text, delays milliseconds.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from common.clock import utc_text
from common.exits import Distance
from executor.core.orders import Order

from .dashboard import Dashboard, Delays, Position, Shown
from .queries import AlarmRow, BlockRow, LogRow, SignalRow

Json = dict[str, Any]


def status_body(dashboard: Dashboard, version: str) -> Json:
    """Return the JSON object of GET /api/status."""
    return {
        "version": version,
        "status": dashboard.status,
        "connected": dashboard.is_connected,
        "problem": dashboard.problem or None,
        "connection": _fields(dashboard.connection, "account mode since stops"),
        "account": dict(dashboard.account),
        "positions": [_position(one) for one in dashboard.positions],
        "open_trades": [_trade(one) for one in dashboard.open_trades],
        "closed_trades": [_trade(one) for one in dashboard.closed_trades],
        "signals": [_signal(one) for one in dashboard.signals],
        "trade_log": [_log(one) for one in dashboard.log],
        "blocks": [_block(one) for one in dashboard.blocks],
        "alarms": [_alarm(one) for one in dashboard.alarms],
        "differences": [_fields(one, "symbol kind text raised_at trade_id") for one in dashboard.differences],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Distance):
        return str(value)
    return utc_text(value) if isinstance(value, datetime) else value


def _fields(row: object, names: str) -> Json:
    return {name: _plain(getattr(row, name)) for name in names.split()}


def _position(one: Position) -> Json:
    names = "symbol position avgCost account con_id market_price unrealized currency ignored unknown trade_id"
    return _fields(one, names)


def _trade(one: Shown) -> Json:
    names = (
        "id timestamp symbol side size held account con_id state closed tp_hit signal_id exit_reason hold_reason "
        "received_at sent_at filled_at closed_at commission strategy_size"
    )
    derived = "entry_price exit_price tp_price sl_price evidence market_price unrealized result per_unit currency"
    more = "entered strategy_name covered trail under_way"
    return {
        **_fields(one.trade, names),
        **_fields(one, derived),
        **_fields(one, more),
        "protection": _fields(one.protection, "level text"),
        "milliseconds": _delays(one.delays),
        "orders": [_order(order) for order in one.orders],
    }


def _delays(one: Delays) -> Json:
    return {"received_to_order": one.to_order, "order_to_fill": one.to_fill}


def _order(one: Order) -> Json:
    return _fields(one, "order_ref leg side kind quantity price trail wish state filled reason held signal_id pair")


def _signal(one: SignalRow) -> Json:
    return _fields(
        one,
        "signal_id received_at arrived_at decided_at expires_at action symbol side quantity percent tp sl trail targets "
        "breakeven_after_target loosen strategy_name price time note state outcome reason trade_id",
    )


def _log(one: LogRow) -> Json:
    return _fields(one, "id timestamp symbol action details trade_id")


def _block(one: BlockRow) -> Json:
    return _fields(one, "symbol side since reason trade_id")


def _alarm(one: AlarmRow) -> Json:
    return _fields(one, "id key kind level symbol text raised_at told_at")
