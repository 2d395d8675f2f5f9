"""The faults of a real TWS as named knobs: what is armed, for which orders, how often.

A knob that waits for an order (`reject`, `partials` …) is armed with a filter and a count, and is used up by
the orders that match. A standing knob (`read_only`, `mktdata` …) holds until it is cleared. What happens at
once (`restart`, `midnight` …) is no knob but an action; `actions` carries those out.
The table in docs/reference/paper-tws.md says what the real TWS does, and where that is known from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from executor.paper import replies, requests
from executor.paper.orders import STATUSES, Order
from executor.paper.values import Reader, flag, maybe, one_of, positive, seconds, sizes, text, texts, whole

CODE, TIMES, ID = whole(1, 99_999), whole(1, 1_000_000), whole(-(2**31), 2**31)
KINDS = ("", *(name for name, _ in requests.TABLE.values()), *replies.KINDS.values())
ENDS = tuple(kind for kind in replies.KINDS.values() if kind.endswith("End"))
SOONER_OR_LATER = maybe(seconds)  # None: never

# what narrows a knob down to certain orders
FILTERS: dict[str, Reader] = {
    "role": one_of("entry", "take_profit", "stop_loss"), "symbol": text, "order_type": text,
    "action": one_of("BUY", "SELL"), "client_id": ID, "order_ref": text, "order_id": ID,
}  # fmt: skip
_BOUNDARY: dict[str, tuple[Any, Reader]] = {
    "direction": ("in", one_of("in", "out")), "when": ("before", one_of("before", "after")),
    "kind": ("", one_of(*KINDS)), "n": (1, TIMES),
}  # fmt: skip

# knob -> its own parameters, each with its default and its reader
ON_ORDER: dict[str, dict[str, tuple[Any, Reader]]] = {
    "reject": {
        "code": (201, CODE), "words": ("", text), "then": ("Inactive", one_of("Inactive", "Cancelled", "")),
        "seconds": (0.0, seconds),
    },
    "reject_modify": {"code": (201, CODE), "words": ("", text)},
    "modify_delay": {"seconds": (5.0, SOONER_OR_LATER), "taken": (False, flag)},
    "modify_race": {"quantity": (None, maybe(positive))},
    "modify_ack": {"kind": ("openOrder", one_of("openOrder", "orderStatus"))},
    "lost_ack": {},
    "lose_order": {"silent": (True, flag)},
    "lose_at_reconnect": {},
    "warn": {"code": (399, CODE), "words": ("", text)},
    "preset_tif": {},
    "locate": {"seconds": (None, SOONER_OR_LATER), "status": ("PreSubmitted", one_of("PreSubmitted", "Inactive"))},
    "partials": {
        "sizes": ([], sizes), "gap": (0.0, seconds), "then": ("fill", one_of("fill", "cancel", "rest")),
    },
    "delay_fill": {"seconds": (1.0, SOONER_OR_LATER)},
    "hold_children": {"seconds": (None, SOONER_OR_LATER)},
    "orphan_children": {},
    "children_stay": {},
    "oca_ignored": {},
    "oca_double_fill": {},
    "oca_family": {},
    "oca_type": {"type": (3, whole(1, 3))},
}  # fmt: skip
ON_CANCEL: dict[str, dict[str, tuple[Any, Reader]]] = {
    "cancel_race": {
        "then": ("fill", one_of("fill", "partial", "after")), "quantity": (None, maybe(positive)),
        "seconds": (1.0, seconds),
    },
    "pending_cancel": {"seconds": (0.0, SOONER_OR_LATER), "silent": (False, flag)},
    "reject_cancel": {"code": (10148, CODE), "words": ("", text)},
    "oca_cancel_spreads": {},
}  # fmt: skip
ON_FILL: dict[str, dict[str, tuple[Any, Reader]]] = {
    "status_first": {"seconds": (0.0, seconds)},
    "commission_delay": {"seconds": (1.0, seconds)},
    "commission_unset": {},
    "no_commission": {},
    "position_delay": {"seconds": (2.0, seconds)},
}
ON_STATUS: dict[str, dict[str, tuple[Any, Reader]]] = {
    "skip_status": {"kind": ("Filled", one_of("", *STATUSES))},
    "duplicate_status": {"kind": ("Filled", one_of("", *STATUSES)), "times": (2, whole(1, 100))},
}
ON_MESSAGE: dict[str, dict[str, tuple[Any, Reader]]] = {
    "drop": _BOUNDARY,
    "stop_at": _BOUNDARY,
    "missing_end": {"kind": ("execDetailsEnd", one_of(*ENDS))},
    "empty_answer": {
        "kind": ("openOrderEnd", one_of("openOrderEnd", "completedOrdersEnd", "execDetailsEnd", "positionEnd"))
    },
}
STANDING: dict[str, dict[str, tuple[Any, Reader]]] = {
    "read_only": {},
    "closed_market": {"symbols": ([], texts), "until": ("the next open", text)},
    "regular_hours": {},
    "precautions": {
        "percentage": (None, maybe(positive)),
        "ticks": (None, maybe(positive)),
        "size": (None, maybe(positive)),
        "value": (None, maybe(positive)),
    },
    "quiet_trails": {},
    "price_protection": {"percentage": (Decimal(5), positive), "then": ("cancel", one_of("cancel", "cap"))},
    "mktdata": {"mode": ("none", text)},
    "max_rate": {"per_second": (100, TIMES)},
    "exec_time_format": {"form": ("instrument", one_of("instrument", "utc", "tws"))},
    "cross_client_cancel": {},
    "hold_client_id": {"seconds": (10.0, seconds)},
    "held_resend_103": {},
    "inactive_listed": {},
    "lax_ids": {},
    "silent_login": {},
    "refuse_connections": {},
}
OF_ORDERS = ON_ORDER | ON_CANCEL | ON_FILL | ON_STATUS
KNOBS: dict[str, dict[str, tuple[Any, Reader]]] = OF_ORDERS | ON_MESSAGE | STANDING


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

    def size(self, name: str) -> Decimal | None:
        found: Decimal | None = self.params[name]
        return found

    def seconds(self, name: str = "seconds") -> float | None:
        found: float | None = self.params[name]
        return found

    def word(self, name: str) -> str:
        return str(self.params[name])

    def whole(self, name: str) -> int:
        return int(self.params[name])


def read(name: str, /, *, count: Any = 1, skip: Any = 0, **given: Any) -> Fault:
    """Return a knob with its parameters read and completed.

    Raises:
        KnobError: The name, a parameter or a value makes no sense; the text says which would.
    """
    if name not in KNOBS:
        raise KnobError(f"no knob is called {name!r}; there are {', '.join(sorted(KNOBS))}")
    own, filters = KNOBS[name], FILTERS if name in OF_ORDERS else {}
    times = {"count": whole(1, 1_000_000), "skip": whole(0, 1_000_000)}
    if name in STANDING or name in ("drop", "stop_at"):  # those hold until cleared, these count by `n`
        given |= {key: value for key, value in (("count", count), ("skip", skip)) if value != int(key == "count")}
        count, skip, times = 1, 0, {}
    unknown = sorted(set(given) - set(own) - set(filters))
    if unknown:
        choices = [*own, *filters, *times]
        raise KnobError(f"{name} has no {', '.join(unknown)}; it has {', '.join(choices) or 'no parameters'}")
    params = {key: _value(name, key, reader, given.get(key, default)) for key, (default, reader) in own.items()}
    match = {key: _value(name, key, filters[key], given[key]) for key in filters if key in given}
    limits = {key: _value(name, key, reader, {"count": count, "skip": skip}[key]) for key, reader in times.items()}
    return Fault(name, params, match, limits.get("count", 1), limits.get("skip", 0))


def _value(name: str, key: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise KnobError(f"{name}, {key}: {error}") from error


class Faults:
    """What is armed now."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def arm(self, name: str, /, **given: Any) -> Fault:
        """Arm a knob for the next `count` matches after `skip` of them; a standing knob holds until cleared.

        Raises:
            KnobError: The name or a parameter makes no sense. Nothing is armed.
        """
        fault = read(name, **given)
        if name in STANDING:
            self.clear(name)
        self._armed.append(fault)
        return fault

    def clear(self, name: str | None = None) -> None:
        """Disarm one knob by name, or all.

        Raises:
            KnobError: No knob has that name.
        """
        if name is not None and name not in KNOBS:
            raise KnobError(f"no knob is called {name!r}; there are {', '.join(sorted(KNOBS))}")
        self._armed = [one for one in self._armed if name is not None and one.name != name]

    def standing(self, name: str) -> Fault | None:
        """Return the standing knob if it is set; it is not used up."""
        return next((one for one in self._armed if one.name == name), None)

    def take(self, name: str, order: Order, symbol: str) -> Fault | None:
        """Return the armed knob that this order meets, and use up one of its counts."""
        return self._use(name, lambda one: _order_matches(one, order, symbol))

    def take_message(self, name: str, when: str, direction: str, kind: str) -> Fault | None:
        """Return the armed `drop` or `stop_at` that this message boundary is; each counts the messages by its `n`."""
        reached = None
        for one in list(self._armed):
            params = one.params
            if one.name != name or params["direction"] != direction or params["kind"] not in ("", kind):
                continue
            if params["when"] != when:
                continue
            params["n"] -= 1
            if params["n"] <= 0 and reached is None:
                self._armed.remove(one)
                reached = one
        return reached

    def take_end(self, name: str, kind: str) -> bool:
        """True if a `missing_end` or an `empty_answer` meets the answer that ends with this message."""
        return self._use(name, lambda one: one.params["kind"] == kind) is not None

    def armed(self) -> list[dict[str, Any]]:
        """Return what is armed, for people and tests."""
        return [{"name": one.name, "left": one.left, "skip": one.skip, **_plain(one.params), **one.match}
                for one in self._armed]  # fmt: skip

    def _use(self, name: str, fits: Callable[[Fault], bool]) -> Fault | None:
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


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON can hold them."""
    exact = {key: str(value) for key, value in params.items() if isinstance(value, Decimal)}
    return params | exact | {key: [str(one) for one in value] for key, value in params.items() if key == "sizes"}


def _order_matches(fault: Fault, order: Order, symbol: str) -> bool:
    if fault.name in ON_STATUS and fault.params["kind"] not in ("", order.status):
        return False
    facts = {
        "role": order.role, "symbol": symbol, "order_type": order.form.order_type, "action": order.form.action,
        "client_id": order.client_id, "order_id": order.order_id,
    }  # fmt: skip
    if fault.match.get("order_ref", "") not in order.form.order_ref:
        return False
    return all(facts[name] == wanted for name, wanted in fault.match.items() if name in facts)
