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
from common.fields import ALERT_ACTIONS, SIGNAL_ACTIONS, STRATEGY_FIELDS, WARNING_LIMIT, Actions, checked

_ENVELOPE_KEYS = ("type", "timestamp", "data", "expires_at")
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Action(StrEnum):
    OPEN = "open"
    REDUCE = "reduce"  # a strategy holds less than before, on the same side: never an entry
    CLOSE = "close"
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
    """One validated request; the symbol is canonical, quantities and prices are greater than zero."""

    action: Action
    symbol: str
    side: Side | None = None
    quantity: Decimal | None = None
    tp: Decimal | None = None
    sl: Decimal | None = None
    note: str | None = None
    sender_id: str | None = None
    percent: Decimal | None = None  # of the trade that a close takes out; None: see `quantity`
    market_position: str | None = None  # a strategy's, after this: "long", "short" or "flat"; None of another sender
    prev: PrevPosition | None = None  # a strategy's, before this
    warning: str | None = None  # what was left out of it, in words

    @property
    def is_exit(self) -> bool:
        """True if it can only take out what is there: it is never refused for what plays no part, and never too old."""
        return self.action is not Action.OPEN

    @property
    def is_partial(self) -> bool:
        """True if it closes a part only: so much, or so many percent."""
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

    def data(self) -> dict[str, str]:
        """Return the canonical JSON mapping: decimal strings, absent fields left out, one order of keys.

        >>> Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal("1E+4")).data()
        {'action': 'open', 'symbol': 'EURUSD', 'side': 'buy', 'quantity': '10000'}
        """
        values = {
            "action": self.action.value, "symbol": self.symbol, "side": self.side and self.side.value,
            "quantity": self.quantity, "tp": self.tp, "sl": self.sl, "note": self.note, "id": self.sender_id,
            "market_position": self.market_position,
            "prev_market_position": self.prev.market_position if self.prev else None,
            "prev_market_position_size": self.prev.size if self.prev else None,
            "warning": self.warning,
        }  # fmt: skip
        return {
            key: decimal_text(value) if isinstance(value, Decimal) else value
            for key, value in values.items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class Alert:
    """What a sender posted: the signal, its secret, and what of an exit was left out since it plays no part."""

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


def decimal_text(value: Decimal) -> str:
    """Return a finite decimal as plain digits: no exponent, no trailing zeros, no minus zero.

    >>> [decimal_text(Decimal(text)) for text in ("1.20", "1E+4", "0.0", "100")]
    ['1.2', '10000', '0', '100']
    """
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def alert_from(fields: object, flaw: MalformedSignal | None = None) -> Alert:
    """Return what a sender posted; a `strategy` alert has become the open, reduction or close that it means.

    An exit (close, reset, a strategy that is flat or holds less) is never refused for what plays no part in it: that
    is left out, and among `warnings`.

    Args:
        fields: what could be read of the body.
        flaw: what is wrong with the body as JSON, if anything is; both as `strict_json.read` returns them.

    Raises:
        MalformedSignal: It is not a signal; every problem is listed with its field and the fix.
    """
    if not isinstance(fields, dict):
        raise flaw or MalformedSignal('must be one JSON object, like {"action":"close","symbol":"EURUSD"}')
    fields, literal = _without_literal_id(fields)
    values, warnings = _judged(fields, ALERT_ACTIONS, flaw, placeholders=True)
    return Alert(_signal(values), values.get("secret"), (*literal, *warnings))


def _without_literal_id(fields: dict[str, object]) -> tuple[dict[str, object], list[Problem]]:
    """Take out an id that is a placeholder: a literal text would swallow every later alert as a duplicate."""
    if not _has_placeholder(fields.get("id")):
        return fields, []
    text = f"is no id, since a placeholder in it {_NOT_FILLED_IN}; this alert is taken without one"
    return {name: value for name, value in fields.items() if name != "id"}, [Problem("id", text)]


def _has_placeholder(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def _judged(
    fields: dict[str, object], actions: Actions, flaw: MalformedSignal | None, placeholders: bool = False
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the canonical values, and as warnings what was left out of an exit.

    Raises:
        MalformedSignal: Something is wrong that this action needs.
    """
    values, problems = checked(fields, actions)
    if placeholders:
        problems = [_as_placeholder(problem, fields) for problem in problems] + _placeholders(values)
    needed = _needed_by_an_exit(values)
    warnings: list[Problem] = []
    if needed is not None:
        warnings = [*_read_anyway(flaw), *_left_out(problems, needed, fields)]
        problems = [problem for problem in problems if problem.field in needed]
        _as_exit(values, {problem.field for problem in warnings})
    elif flaw is not None:
        raise flaw
    else:
        problems = problems or _contradictions(values)
    if problems:
        raise MalformedSignal(problems)
    return values, warnings


def _read_anyway(flaw: MalformedSignal | None) -> list[Problem]:
    return [Problem("", f"{flaw.message}; read as far as an exit needs")] if flaw else []


def _left_out(problems: list[Problem], needed: frozenset[str], fields: Mapping[str, object]) -> list[Problem]:
    sent = {name[:40] for name in fields}
    return [
        Problem(each.field, f"{each.message}; left out, an exit needs none")
        for each in problems
        if each.field not in needed and each.field in sent
    ]


_NOT_FILLED_IN = "was not filled in (inside Pine's alert() none is)"


def _as_placeholder(problem: Problem, fields: dict[str, object]) -> Problem:
    return _placeholder(problem.field) if _has_placeholder(fields.get(problem.field)) else problem


def _placeholders(values: dict[str, Any]) -> list[Problem]:
    return [_placeholder(name) for name, value in values.items() if name != "secret" and _has_placeholder(value)]


def _placeholder(name: str) -> Problem:
    return Problem(name, f"a placeholder in it {_NOT_FILLED_IN}; write the value itself")


def _needed_by_an_exit(values: dict[str, Any]) -> frozenset[str] | None:
    """Return the fields that decide what an exit does; None where it is an entry, which needs all that it has."""
    action = values.get("action")
    if action in ("close", "reset"):
        return frozenset(("action", "symbol"))
    if action == "strategy" and values.get("market_position") == "flat":
        return frozenset(("action", "symbol", "market_position"))
    if action == "strategy" and _reduces(values):
        return frozenset(("action", "symbol", *STRATEGY_FIELDS))
    return frozenset(("action", "symbol", "side", "quantity")) if action == "reduce" else None


def _reduces(values: dict[str, Any]) -> bool:
    """True if a strategy holds less than before, on the same side."""
    size, before = values.get("market_position_size"), values.get("prev_market_position_size")
    same = values.get("market_position") == values.get("prev_market_position")
    return bool(same and size and before and size < before)


def _as_exit(values: dict[str, Any], left_out: set[str]) -> None:
    """Turn a strategy's exit into what it means, without what was left out of it or has no place in it."""
    for name in ("tp", "sl", *left_out):
        values.pop(name, None)
    if values["action"] == "strategy" and values["market_position"] == "flat":
        values["action"] = "close"
    elif values["action"] == "strategy":
        _sided(values, "reduce")


def _sided(values: dict[str, Any], action: str) -> None:
    side = "buy" if values["market_position"] == "long" else "sell"
    values.update(action=action, side=side, quantity=values["market_position_size"])


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
    values, warnings = _judged(data, SIGNAL_ACTIONS, flaw)
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


def _contradictions(values: dict[str, Any]) -> list[Problem]:
    """Return what is wrong between fields of an entry that are each right; a strategy alert becomes an open.

    Long is an open buy of the whole position's size, short an open sell. The order's own contracts play no part: in a
    reversal they are the doubled size.
    Source: TradingView, "Strategy alerts", placeholders.
    """
    if values["action"] == "strategy":
        position = values["market_position"]
        if not values["market_position_size"]:
            return [Problem("market_position_size", f"must be greater than 0 when market_position is {position}")]
        _sided(values, "open")
    tp, sl = values.get("tp"), values.get("sl")
    if tp is None or sl is None:
        return []
    above, below = (tp, sl) if values["side"] == "buy" else (sl, tp)
    if above > below:
        return []
    words = "tp above sl" if values["side"] == "buy" else "tp below sl"
    return [Problem("tp", f"a {values['side']} needs {words}, was tp {tp} and sl {sl}")]


def _signal(values: Mapping[str, Any]) -> Signal:
    action = Action(values["action"])
    signal = Signal(
        action, values["symbol"], note=values.get("note") or None, sender_id=values.get("id"),
        market_position=values.get("market_position"), prev=_prev(values), warning=values.get("warning"),
    )  # fmt: skip
    if action not in (Action.OPEN, Action.REDUCE):
        return signal
    side, tp, sl = Side(values["side"]), values.get("tp"), values.get("sl")
    return replace(signal, side=side, quantity=values["quantity"], tp=tp, sl=sl)


def _prev(values: Mapping[str, Any]) -> PrevPosition | None:
    position = values.get("prev_market_position")
    return PrevPosition(position, values.get("prev_market_position_size")) if position else None
