"""Signals: what a sender may say, checked completely before anything else looks at it.

An *alert* is the message as it was sent; a *signal* is one validated request in canonical form. The
closed list of fields, and what each may hold, is the table `_FIELDS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from common import strict_json
from common.clock import parse_utc, utc_text
from common.errors import MalformedSignal, Problem
from common.pasted import number_cause
from common.symbols import canonical

NUMBER_PATTERN = r"[0-9]{1,12}(\.[0-9]{1,20})?"
_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)
_ENVELOPE_KEYS = ("type", "timestamp", "data", "expires_at")
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
NOTE_LIMIT, ID_LIMIT, SECRET_LIMIT = 200, 128, 512
MOST_UNKNOWN = 20  # fields that an answer names; what more there are is a number


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
    values, problems = _checked(fields, _ALERT_ACTIONS)
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
    values, problems = _checked(data, _SIGNAL_ACTIONS)
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


# --- one field: a reader returns the canonical value, or raises ValueError with the fix ----------


def _text(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, strict_json.Number):
        return value
    raise ValueError(f"must be text in quotes, was {_shown(value)}")


def _number(value: object) -> Decimal:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError(
            "must be a number, at most 12 digits before and 20 after the point, without sign or exponent, "
            f"was {_shown(value)}{number_cause(value) if isinstance(value, str) else ''}"
        )
    return Decimal(value)


def _positive(value: object) -> Decimal:
    if isinstance(value, str) and re.fullmatch(rf"-{NUMBER_PATTERN}", value, re.ASCII):
        raise ValueError(f"must be greater than 0, was {_shown(value)}")
    number = _number(value)
    if not number:
        raise ValueError("must be greater than 0, was 0")
    return number


def _symbol(value: object) -> str:
    return canonical(_text(value))


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        word = value.lower() if isinstance(value, str) else None
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}, was {_shown(value)}")
        return word

    return read


def _printable(limit: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = _text(value)
        if not 1 <= len(text) <= limit or not text.isprintable():
            raise ValueError(f"must be 1 to {limit} printable characters, was {_shown(value)}")
        return text

    return read


def _note(value: object) -> str:
    text = " ".join(_text(value).split())
    if len(text) > NOTE_LIMIT or not text.isprintable():
        raise ValueError(f"must be at most {NOTE_LIMIT} printable characters, had {len(text)}")
    return text


def _secret(value: object) -> str:
    if isinstance(value, strict_json.Number) or not isinstance(value, str) or len(value) > SECRET_LIMIT:
        raise ValueError(f"must be text in quotes, at most {SECRET_LIMIT} characters")
    return value


def _shown(value: object) -> str:
    if isinstance(value, strict_json.Number):
        return value[:40]
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return kinds.get(type(value)) or repr(value if len(str(value)) <= 40 else str(value)[:40] + "…")


_POSITIONS = ("long", "short", "flat")
# field -> how it is read
_FIELDS: dict[str, Callable[[object], object]] = {
    "symbol": _symbol,
    "side": _one_of("buy", "sell"),
    "quantity": _positive,
    "tp": _positive,
    "sl": _positive,
    "market_position": _one_of(*_POSITIONS),
    "market_position_size": _number,
    "prev_market_position": _one_of(*_POSITIONS),
    "prev_market_position_size": _number,
    "id": _printable(ID_LIMIT),
    "note": _note,
    "secret": _secret,
}
# action -> (required fields, optional fields), beside id and note that any may have
_SIGNAL_ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "open": (("symbol", "side", "quantity"), ("tp", "sl")),
    "close": (("symbol",), ()),
    "reset": (("symbol",), ()),
}
_ALERT_ACTIONS = {
    **{action: (required, (*optional, "secret")) for action, (required, optional) in _SIGNAL_ACTIONS.items()},
    "strategy": (
        ("symbol", "market_position", "market_position_size"),
        ("prev_market_position", "prev_market_position_size", "tp", "sl", "secret"),
    ),
}
_ANY = ("id", "note")


def _checked(
    fields: Mapping[str, object], actions: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the canonical values of all fields that have one, and every problem."""
    try:
        action = _one_of(*actions)(fields["action"])
    except (KeyError, ValueError) as exc:
        missing = isinstance(exc, KeyError)
        problem = f"is missing; one of {', '.join(actions)}" if missing else str(exc)
        return {}, [Problem("action", problem), *_unknown(fields, {*_FIELDS})]
    required, optional = actions[action]
    allowed = (*required, *optional, *_ANY)
    values: dict[str, Any] = {"action": action}
    problems = _unknown(fields, {*allowed}, f" with the action {action}")
    for name in allowed:
        if name in fields:
            try:
                values[name] = _FIELDS[name](fields[name])
            except ValueError as exc:
                problems.append(Problem(name, str(exc)))
        elif name in required:
            problems.append(Problem(name, f"is missing; the action {action} needs {', '.join(required)}"))
    return values, problems


def _unknown(fields: Mapping[str, object], allowed: set[str], where: str = "") -> list[Problem]:
    """Return a problem for each unknown field, for the first of them at least: a body has room for thousands."""
    unknown = [name for name in fields if name not in allowed and name != "action"]
    words = f"is not a field{where}; allowed: action, {', '.join(sorted(allowed - {'secret'}))}" if unknown else ""
    problems = [Problem(name[:40], words) for name in unknown[:MOST_UNKNOWN]]
    if len(unknown) > MOST_UNKNOWN:
        problems.append(Problem("", f"{len(unknown) - MOST_UNKNOWN} more names are no fields either"))
    return problems


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
