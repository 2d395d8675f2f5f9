"""The faults of a real TWS as named knobs: what is armed, for which orders, how often.

A knob that waits for an order (`reject`, `partials` …) is armed with a filter and a count, and is used up by
the orders that match. A standing knob (`read_only`, `mktdata` …) holds until it is cleared. What happens at
once (`restart`, `midnight` …) is no knob but an action; `actions` carries those out.
The table in docs/reference/paper-tws.md says what the real TWS does, and where that is known from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from executor.paper.orders import Order

FILTERS = ("role", "symbol", "order_type", "action", "client_id", "order_ref", "order_id", "kind", "direction")

# knob -> its own parameters with their defaults
ON_ORDER: dict[str, dict[str, Any]] = {
    "reject": {"code": 201, "words": "", "then": "Inactive"},
    "reject_modify": {"code": 201, "words": ""},
    "lost_ack": {},
    "lose_order": {"silent": True},
    "warn": {"code": 399, "words": ""},
    "preset_tif": {},
    "locate": {"seconds": None},
    "partials": {"sizes": [], "gap": 0.0, "then": "fill"},
    "delay_fill": {"seconds": 1.0},
    "hold_children": {"seconds": None},
    "orphan_children": {},
    "children_stay": {},
    "oca_ignored": {},
    "oca_double_fill": {},
    "oca_type": {"type": 3},
}
ON_CANCEL: dict[str, dict[str, Any]] = {
    "cancel_race": {"then": "fill", "quantity": None, "seconds": 1.0},
    "pending_cancel": {"seconds": 0.0},
    "reject_cancel": {"code": 10148, "words": ""},
    "oca_cancel_spreads": {},
}
ON_FILL: dict[str, dict[str, Any]] = {
    "status_first": {"seconds": 0.0},
    "skip_status": {"kind": "Filled"},
    "duplicate_status": {"times": 2},
    "commission_delay": {"seconds": 1.0},
    "commission_unset": {},
    "no_commission": {},
}
ON_MESSAGE: dict[str, dict[str, Any]] = {
    "drop": {"direction": "in", "when": "before", "kind": "", "n": 1},
    "stop_at": {"direction": "in", "when": "before", "kind": "", "n": 1},
    "missing_end": {"kind": "execDetailsEnd"},
}
STANDING: dict[str, dict[str, Any]] = {
    "read_only": {},
    "closed_market": {"symbols": [], "until": "the next open"},
    "mktdata": {"mode": "none"},
    "max_rate": {"per_second": 100},
    "exec_time_format": {"form": "instrument"},
    "cross_client_cancel": {"mode": "refuse"},
    "hold_client_id": {"seconds": 10.0},
    "held_resend_103": {},
    "lax_ids": {},
    "silent_login": {},
    "refuse_connections": {},
}
KNOBS: dict[str, dict[str, Any]] = ON_ORDER | ON_CANCEL | ON_FILL | ON_MESSAGE | STANDING


class KnobError(Exception):
    """No such knob, or a parameter that it does not have; the text says which there are."""


@dataclass(slots=True)
class Fault:
    """One armed knob. `left`: how many more orders or messages it takes; `skip`: how many it lets pass first."""

    name: str
    params: dict[str, Any]
    match: dict[str, Any] = field(default_factory=dict)
    left: int = 1
    skip: int = 0

    def number(self, name: str) -> Decimal | None:
        value = self.params.get(name)
        return None if value is None else Decimal(str(value))

    def seconds(self, name: str = "seconds") -> float | None:
        value = self.params.get(name)
        return None if value is None else float(value)

    def word(self, name: str) -> str:
        return str(self.params.get(name) or "")

    def whole(self, name: str) -> int:
        return int(self.params[name])


class Faults:
    """What is armed now."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def arm(self, name: str, /, *, count: int = 1, skip: int = 0, **given: Any) -> Fault:
        """Arm a knob for the next `count` matches after `skip` of them; a standing knob holds until cleared.

        Raises:
            KnobError: The name or a parameter is unknown.
        """
        if name not in KNOBS:
            raise KnobError(f"no knob is called {name!r}; there are {', '.join(sorted(KNOBS))}")
        own = dict(KNOBS[name])
        match = {key: given.pop(key) for key in list(given) if key in FILTERS and key not in own}
        unknown = sorted(set(given) - set(own))
        if unknown:
            raise KnobError(f"{name} has no {', '.join(unknown)}; it has {', '.join([*own, *FILTERS])}")
        if name in STANDING:
            self.clear(name)
        fault = Fault(name, own | given, match, count, skip)
        self._armed.append(fault)
        return fault

    def clear(self, name: str | None = None) -> None:
        """Disarm one knob by name, or all."""
        self._armed = [one for one in self._armed if name is not None and one.name != name]

    def standing(self, name: str) -> Fault | None:
        """Return the standing knob if it is set; it is not used up."""
        return next((one for one in self._armed if one.name == name), None)

    def take(self, name: str, order: Order, symbol: str) -> Fault | None:
        """Return the armed knob that this order meets, and use up one of its counts."""
        return self._use(name, lambda one: _order_matches(one.match, order, symbol))

    def take_message(self, name: str, when: str, direction: str, kind: str) -> Fault | None:
        """Return the armed `drop` or `stop_at` that this message boundary is; messages are counted by `n`."""
        for one in self._armed:
            params = one.params
            if one.name != name or params["direction"] != direction or params["kind"] not in ("", kind):
                continue
            if params["when"] != when:
                continue
            params["n"] -= 1
            if params["n"] <= 0:
                self._armed.remove(one)
                return one
        return None

    def take_end(self, kind: str) -> bool:
        """Tell whether this …End message shall be missing."""
        return self._use("missing_end", lambda one: one.params["kind"] == kind) is not None

    def armed(self) -> list[dict[str, Any]]:
        """Return what is armed, for people and tests."""
        return [{"name": one.name, "left": one.left, "skip": one.skip, **one.params, **one.match}
                for one in self._armed]  # fmt: skip

    def _use(self, name: str, fits: Any) -> Fault | None:
        for one in self._armed:
            if one.name != name or not fits(one):
                continue
            if one.skip:
                one.skip -= 1
                continue
            one.left -= 1
            if one.left <= 0:
                self._armed.remove(one)
            return one
        return None


def _order_matches(match: dict[str, Any], order: Order, symbol: str) -> bool:
    facts = {
        "role": order.role, "symbol": symbol, "order_type": order.form.order_type, "action": order.form.action,
        "client_id": order.client_id, "order_id": order.order_id,
    }  # fmt: skip
    ref = match.get("order_ref")
    if ref is not None and str(ref) not in order.form.order_ref:
        return False
    return all(facts[name] == wanted for name, wanted in match.items() if name in facts)
