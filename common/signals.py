"""Signals: what a sender may say, checked completely before anything else looks at it.

An *alert* is the message as it was sent; a *signal* is one validated request in canonical form. The
closed list of fields, and what each may hold, is in `common.fields`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from common import strict_json
from common.clock import parse_utc, utc_text
from common.errors import MalformedSignal, Problem
from common.fields import ALERT_ACTIONS, SIGNAL_ACTIONS, checked

_ENVELOPE_KEYS = ("type", "timestamp", "data", "expires_at")
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Action(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    RESET = "reset"


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


@dataclass(frozen=True, slots=True)
class Signal:
    """One validated request; the symbol is canonical, quantities and prices are greater than zero."""

    action: Action
    symbol: str
    side: Side | None = None
    quantity: Decimal | None = None
    tp: Decimal | None = None
    sl: Decimal | None = None
    note: str | None = None
    sender_id: str | None = None

    def data(self) -> dict[str, str]:
        """Return the canonical JSON mapping: decimal strings, absent fields left out, one order of keys.

        >>> Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal("1E+4")).data()
        {'action': 'open', 'symbol': 'EURUSD', 'side': 'buy', 'quantity': '10000'}
        """
        values = {
            "action": self.action.value, "symbol": self.symbol, "side": self.side and self.side.value,
            "quantity": self.quantity, "tp": self.tp, "sl": self.sl, "note": self.note, "id": self.sender_id,
        }  # fmt: skip
        return {
            key: decimal_text(value) if isinstance(value, Decimal) else value
            for key, value in values.items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class PrevPosition:
    """A strategy alert's previous position: "long", "short" or "flat", and its size."""

    market_position: str
    size: Decimal | None

    def __str__(self) -> str:
        return self.market_position + (f" {decimal_text(self.size)}" if self.size else "")

    def follows(self, position: str) -> bool:
        """True if this may be what `position`, reported by the previous alert, has become.

        >>> PrevPosition("long", Decimal(5)).follows("long 5"), PrevPosition("flat", None).follows("long 5")
        (True, False)
        """
        word, _, size = position.partition(" ")
        sizes_differ = word != "flat" and self.size is not None and decimal_text(self.size) != size
        return word == self.market_position and not sizes_differ


@dataclass(frozen=True, slots=True)
class Alert:
    """What a sender posted: the signal, its secret, a strategy's position before and after it."""

    signal: Signal
    secret: str | None
    prev: PrevPosition | None
    position: str | None = None  # "long 5", "short 0.5", "flat"; None when it is no strategy alert


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signal with the relay's id and instants; `expires_at` None means that it never goes stale."""

    id: str
    received_at: datetime
    expires_at: datetime | None
    signal: Signal


def decimal_text(value: Decimal) -> str:
    """Return a finite decimal as plain digits: no exponent, no trailing zeros, no minus zero.

    >>> [decimal_text(Decimal(text)) for text in ("1.20", "1E+4", "0.0", "100")]
    ['1.2', '10000', '0', '100']
    """
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def parse_alert(body: bytes) -> Alert:
    """Return what a sender posted; a `strategy` alert has become the open or close that it means.

    Raises:
        MalformedSignal: It is not a signal; every problem is listed with its field and the fix.
    """
    fields = strict_json.loads(body)
    if not isinstance(fields, dict):
        raise MalformedSignal('must be one JSON object, like {"action":"close","symbol":"EURUSD"}')
    return alert_from(fields)


def alert_from(fields: Mapping[str, object]) -> Alert:
    """Return the alert that decoded JSON fields mean; see `parse_alert`."""
    values, problems = checked(fields, ALERT_ACTIONS)
    if not problems:
        problems = _contradictions(values)
    if problems:
        raise MalformedSignal(problems)
    return Alert(_signal(values), values.get("secret"), _prev(values), _position(values))


def payload_text(envelope: Envelope) -> str:
    """Return the exact text that the relay signs and the executor verifies: compact JSON."""
    return _COMPACT.encode(
        {
            "type": "signal",
            "timestamp": utc_text(envelope.received_at),
            "data": envelope.signal.data(),
            "expires_at": envelope.expires_at and utc_text(envelope.expires_at),
        }
    )


def parse_payload(id: str, payload: str) -> Envelope:
    """Return the envelope that `payload_text` wrote.

    Raises:
        MalformedSignal: It is not one, though its signature may be right: the two programs do not
            agree on the format. Keep it as evidence; do not act on it.
    """
    outer = strict_json.loads(payload.encode("utf-8", "surrogatepass"))
    if not isinstance(outer, dict) or sorted(outer) != sorted(_ENVELOPE_KEYS) or outer["type"] != "signal":
        raise MalformedSignal(f'must be an object of type "signal" with exactly {", ".join(_ENVELOPE_KEYS)}')
    data = outer["data"]
    if not isinstance(data, dict):
        raise MalformedSignal([Problem("data", "must be an object")])
    values, problems = checked(data, SIGNAL_ACTIONS)
    problems = problems or _contradictions(values)
    instants = {key: _instant(key, outer[key], problems) for key in ("timestamp", "expires_at")}
    if instants["timestamp"] is None and not problems:
        problems.append(Problem("timestamp", "must be a UTC instant, was null"))
    if problems or instants["timestamp"] is None:
        raise MalformedSignal(problems)
    return Envelope(id, instants["timestamp"], instants["expires_at"], _signal(values))


def _instant(key: str, value: object, problems: list[Problem]) -> datetime | None:
    if value is None:
        return None
    try:
        return parse_utc(value if isinstance(value, str) else repr(value))
    except ValueError as exc:
        problems.append(Problem(key, str(exc)))
        return None


def _contradictions(values: dict[str, Any]) -> list[Problem]:
    """Return what is wrong between fields that are each right; turns positions into sides."""
    if values["action"] == "strategy":
        problems = _strategy(values)
        if problems:
            return problems
    tp, sl = values.get("tp"), values.get("sl")
    if values["action"] != "open" or tp is None or sl is None:
        return []
    above, below = (tp, sl) if values["side"] == "buy" else (sl, tp)
    if above > below:
        return []
    words = "tp above sl" if values["side"] == "buy" else "tp below sl"
    return [Problem("tp", f"a {values['side']} needs {words}, was tp {tp} and sl {sl}")]


def _strategy(values: dict[str, Any]) -> list[Problem]:
    """Turn a strategy alert into the open or close it means.

    Long is an open buy of the whole position's size, short an open sell, flat a close. The order's own
    contracts play no part: in a reversal they are the doubled size.
    Source: TradingView, "Strategy alerts", placeholders.
    """
    position = values["market_position"]
    if position == "flat":
        values["action"] = "close"
        return []
    if not values["market_position_size"]:
        return [Problem("market_position_size", f"must be greater than 0 when market_position is {position}")]
    values.update(
        action="open",
        side="buy" if position == "long" else "sell",
        quantity=values["market_position_size"],
    )
    return []


def _signal(values: Mapping[str, Any]) -> Signal:
    action = Action(values["action"])
    signal = Signal(action, values["symbol"], note=values.get("note") or None, sender_id=values.get("id"))
    if action is not Action.OPEN:
        return signal
    side, tp, sl = Side(values["side"]), values.get("tp"), values.get("sl")
    return replace(signal, side=side, quantity=values["quantity"], tp=tp, sl=sl)


def _position(values: Mapping[str, Any]) -> str | None:
    word = values.get("market_position")
    return f"{word} {decimal_text(values['market_position_size'])}" if word in ("long", "short") else word


def _prev(values: Mapping[str, Any]) -> PrevPosition | None:
    position = values.get("prev_market_position")
    return PrevPosition(position, values.get("prev_market_position_size")) if position else None
