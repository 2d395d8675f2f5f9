"""The journal's rows as values and back: exact decimals and instants are text in the database."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from common.clock import parse_utc, utc_text
from common.signals import Action, Side, Signal, decimal_text
from executor.core.ports import Kind, Status
from executor.core.trades import Leg, Order, OrderState, State, Trade


@dataclass(frozen=True, slots=True)
class InboxRow:
    """One signal of the inbox that is not done."""

    seq: int
    signal_id: str
    received_at: datetime
    expires_at: datetime | None
    signal: Signal
    state: str  # waiting | closing
    trade_id: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """The side of a contract on which no entry is allowed, and why."""

    side: Side
    since: datetime
    reason: str
    trade_id: int | None


def plain(value: object) -> object:
    """Return a value as the journal writes it."""
    if isinstance(value, datetime):
        return utc_text(value)
    return decimal_text(value) if isinstance(value, Decimal) else value


def number_text(value: Decimal | None) -> str | None:
    """Return a number as its exact text."""
    return None if value is None else decimal_text(value)


def time_text(value: datetime | None) -> str | None:
    """Return an instant as the journal's text."""
    return None if value is None else utc_text(value)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_utc(text)


def describe(signal: Signal) -> str:
    """Return a signal in a trader's words, for the trade log."""
    words = [signal.action.value, signal.side or "", str(signal.quantity or ""), signal.symbol]
    words += [f"take-profit {signal.tp}" if signal.tp else "", f"stop-loss {signal.sl}" if signal.sl else ""]
    text = " ".join(w for w in words if w)
    return f"{text} ({signal.note})" if signal.note else text


def inbox_row(r: sqlite3.Row) -> InboxRow:
    """Return a row of `inbox` as a value."""
    side = None if r["side"] is None else Side(r["side"])
    numbers = (_number(r["quantity"]), _number(r["tp"]), _number(r["sl"]))
    signal = Signal(Action(r["action"]), r["symbol"], side, *numbers, r["note"])
    received, expires = parse_utc(r["received_at"]), _time(r["expires_at"])
    return InboxRow(r["seq"], r["signal_id"], received, expires, signal, r["state"], r["trade_id"], r["reason"])


def trade_of(r: sqlite3.Row, orders: tuple[Order, ...]) -> Trade:
    """Return a row of `trades`, with its orders, as a value."""
    return Trade(
        id=r["id"], symbol=r["symbol"], side=Side(r["signal"]), account=r["account"], con_id=r["con_id"],
        asked=Decimal(r["asked"]), state=State(r["state"]), signal_id=r["signal_id"], received_at=parse_utc(r["received_at"]),
        valid_until=parse_utc(r["valid_until"]), timestamp=parse_utc(r["timestamp"]), stop_wanted=bool(r["stop_wanted"]),
        reduced=Decimal(r["reduced"]), close_cause=r["close_cause"], exit_reason=r["exit_reason"],
        unprotected_at=_time(r["unprotected_at"]), loose_at=_time(r["loose_at"]), hold_reason=r["hold_reason"],
        closes_forgiven=r["closes_forgiven"], stops_forgiven=r["stops_forgiven"], orders=orders,
    )  # fmt: skip


def order_of(r: sqlite3.Row) -> Order:
    """Return a row of `orders` as a value."""
    return Order(
        order_ref=r["order_ref"], leg=Leg(r["leg"]), attempt=r["attempt"], side=Side(r["side"]), kind=Kind(r["kind"]),
        quantity=Decimal(r["quantity"]), price=_number(r["price"]), state=OrderState(r["state"]), filled=Decimal(r["filled"]),
        order_id=r["order_id"], perm_id=r["perm_id"], parent_ref=r["parent_ref"], said=r["said"] and Status(r["said"]),
        said_filled=_number(r["said_filled"]), refusal_code=r["refusal_code"], reason=r["reason"], held=r["held"],
        sent_at=_time(r["sent_at"]), sent_day=r["sent_day"], resends=r["resends"], tif=r["tif"],
        oca_group=r["oca_group"], oca_type=r["oca_type"],
        cancel_asked_at=_time(r["cancel_asked_at"]), resize_asked_at=_time(r["resize_asked_at"]),
    )  # fmt: skip
