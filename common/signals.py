"""Signals: what a sender may say, checked completely before anything else looks at it.

An *alert* is the message as it was sent; a *signal* is one validated request in canonical form. The
closed list of fields, and what each may hold, is in `common.fields`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from common import strict_json
from common.clock import parse_utc, utc_text
from common.errors import MalformedSignal, Problem
from common.exits import AtEntry as AtEntry
from common.exits import Distance as Distance
from common.exits import Exit as Exit
from common.exits import Target as Target
from common.exits import Unit as Unit
from common.exits import exit_text
from common.fields import ALERT_ACTIONS, SIGNAL_ACTIONS, WARNING_LIMIT
from common.floats import decimal_text as decimal_text
from common.judged import judged, without_literal_id

_ENVELOPE_KEYS = ("type", "timestamp", "data", "expires_at")
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Action(StrEnum):
    OPEN = "open"
    REDUCE = "reduce"  # a strategy holds less than before, on the same side: never an entry
    CLOSE = "close"  # of all, or of a part
    PROTECT = "protect"  # move the exits of the open trade
    RESET = "reset"


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


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
class Signal:
    """One validated request; the symbol is canonical, quantities, prices and distances are greater than zero."""

    action: Action
    symbol: str
    side: Side | None = None
    quantity: Decimal | None = None
    tp: Exit | None = None  # at the entry price with `protect` alone
    sl: Exit | None = None
    note: str | None = None
    sender_id: str | None = None
    market_position: str | None = None  # a strategy's, after this: "long", "short" or "flat"; None of another sender
    prev: PrevPosition | None = None  # a strategy's, before this
    warning: str | None = None  # what was left out of it, in words
    trail: Distance | None = None  # a stop that follows the market; `sl` is where it begins
    targets: tuple[Target, ...] = ()  # instead of `tp`
    breakeven_after_target: bool = False  # the first target moves the stop to the entry price
    percent: Decimal | None = None  # of a close: this part of the trade, less than 100; or `quantity` of it
    loosen: bool = False  # whether `protect` may move a stop away from the market
    strategy_name: str | None = None
    price: Decimal | None = None  # what the sender saw
    time: datetime | None = None  # and when

    @property
    def is_exit(self) -> bool:
        """True if it can only take out what is there: it is never refused for what plays no part, and never too old."""
        return self.action is not Action.OPEN

    @property
    def is_partial_close(self) -> bool:
        """True if it closes a part of the trade, and what remains keeps its exits."""
        return self.action is Action.CLOSE and (self.quantity is not None or self.percent is not None)

    @property
    def changes_position(self) -> bool:
        """True if a strategy held something on this side already: it changes that position, and begins none."""
        held = self.side is not None and self.prev is not None and self.prev.market_position == self.market_position
        return held or self.action is Action.REDUCE

    @property
    def position(self) -> str | None:
        """What a strategy holds after it: "long 5", "short 0.5", "flat"; None of another sender."""
        size = f" {decimal_text(self.quantity)}" if self.quantity is not None else ""
        return self.market_position and self.market_position + size

    def data(self) -> dict[str, Any]:
        """Return the canonical JSON mapping: decimal strings, absent fields left out, one order of keys.

        >>> Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal("1E+4")).data()
        {'action': 'open', 'symbol': 'EURUSD', 'side': 'buy', 'quantity': '10000'}
        """
        values = {
            "action": self.action.value, "symbol": self.symbol, "side": self.side and self.side.value,
            "quantity": self.quantity, "percent": self.percent, "tp": self.tp, "sl": self.sl, "trail": self.trail,
            "targets": [target.data() for target in self.targets] or None,
            "breakeven_after_target": self.breakeven_after_target or None, "loosen": self.loosen or None,
            "note": self.note, "id": self.sender_id, "market_position": self.market_position,
            "prev_market_position": self.prev.market_position if self.prev else None,
            "prev_market_position_size": self.prev.size if self.prev else None,
            "strategy_name": self.strategy_name, "price": self.price, "time": self.time and utc_text(self.time),
            "warning": self.warning,
        }  # fmt: skip
        return {
            key: exit_text(value) if isinstance(value, Exit) else value
            for key, value in values.items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class Alert:
    """What a sender posted: the signal, its secret, and what was left out since it plays no part."""

    signal: Signal
    secret: str | None
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signal with the relay's id and instants; `expires_at` None means that it never goes stale."""

    id: str
    received_at: datetime
    expires_at: datetime | None
    signal: Signal


def alert_from(fields: object, flaw: MalformedSignal | None = None) -> Alert:
    """Return what a sender posted; a `strategy` alert has become the open, reduction or close that it means.

    An exit (close, protect, reset, a strategy that is flat or holds less) is never refused for what plays no part in it:
    that is left out, and among `warnings`.

    Args:
        fields: what could be read of the body.
        flaw: what is wrong with the body as JSON, if anything is; both as `strict_json.read` returns them.

    Raises:
        MalformedSignal: It is not a signal; every problem is listed with its field and the fix.
    """
    if not isinstance(fields, dict):
        raise flaw or MalformedSignal('must be one JSON object, like {"action":"close","symbol":"EURUSD"}')
    fields, literal = without_literal_id(fields)
    values, warnings = judged(fields, ALERT_ACTIONS, flaw, placeholders=True)
    return Alert(_signal(values), values.get("secret"), (*literal, *warnings))


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
    """Return the envelope that `payload_text` wrote. Here, too, nothing keeps an exit out that plays no part in it.

    Raises:
        MalformedSignal: It is not one, though its signature may be right: the two programs do not
            agree on the format. Keep it as evidence; do not act on it.
    """
    outer, flaw = strict_json.read(payload.encode("utf-8", "surrogatepass"))
    form = f'must be an object of type "signal" with exactly {", ".join(_ENVELOPE_KEYS)}'
    if not isinstance(outer, dict) or outer.get("type") != "signal":
        raise flaw or MalformedSignal(form)
    if flaw is None and sorted(outer) != sorted(_ENVELOPE_KEYS):
        flaw = MalformedSignal(form)
    data = outer.get("data")
    if not isinstance(data, dict):
        raise flaw or MalformedSignal([Problem("data", "must be an object")])
    values, warnings = judged(data, SIGNAL_ACTIONS, flaw)
    signal = _signal(values)
    received_at, expires_at, late = _instants(outer, signal.is_exit)
    if signal.warning is None and (warnings or late):
        signal = replace(signal, warning=warning_text([*warnings, *late]))
    return Envelope(id, received_at, expires_at, signal)


def _instants(outer: dict[str, object], is_exit: bool) -> tuple[datetime, datetime | None, list[Problem]]:
    """Return when a signal was received, when it expires, and what is wrong with the end of an exit, which has none."""
    problems: list[Problem] = []
    received_at = _instant("timestamp", outer.get("timestamp"), problems)
    if received_at is None:
        raise MalformedSignal(problems or [Problem("timestamp", "must be a UTC instant, was null")])
    expires_at = _instant("expires_at", outer.get("expires_at"), problems)
    if problems and not is_exit:
        raise MalformedSignal(problems)
    return received_at, expires_at, problems


def warning_text(warnings: Sequence[Problem]) -> str:
    """Return what was left out of a signal as one line, for its owner."""
    text = " ".join("; ".join(map(str, warnings)).split())
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= WARNING_LIMIT else text[: WARNING_LIMIT - 1] + "…"


def _instant(key: str, value: object, problems: list[Problem]) -> datetime | None:
    if value is None:
        return None
    try:
        return parse_utc(value if isinstance(value, str) else repr(value))
    except ValueError as exc:
        problems.append(Problem(key, str(exc)))
        return None


def _signal(values: Mapping[str, Any]) -> Signal:
    side = values.get("side")
    return Signal(
        Action(values["action"]), values["symbol"], Side(side) if side else None, values.get("quantity"), values.get("tp"),
        values.get("sl"), note=values.get("note") or None, sender_id=values.get("id"),
        market_position=values.get("market_position"), prev=_prev(values), warning=values.get("warning"),
        trail=values.get("trail"), targets=values.get("targets", ()),
        breakeven_after_target=values.get("breakeven_after_target", False), percent=values.get("percent"),
        loosen=values.get("loosen", False), strategy_name=values.get("strategy_name") or None, price=values.get("price"),
        time=values.get("time"),
    )  # fmt: skip


def _prev(values: Mapping[str, Any]) -> PrevPosition | None:
    position = values.get("prev_market_position")
    return PrevPosition(position, values.get("prev_market_position_size")) if position else None
