"""The scenarios, as a table: each is a list of steps, and how it ends when nothing is killed.

After every step the run comes to rest before the next one, except after a step that is `quick`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Step = tuple[str, dict[str, Any]]
SYMBOL, SIZE = "EURUSD", 20000  # the market begins at 1.19, and moves only when a step moves it


@dataclass(frozen=True)
class Scenario:
    """Steps, the outcomes of its signals in their order, and the position at the end.

    An outcome may be several, `a|b`, where the moment of a kill decides.
    """

    steps: tuple[Step, ...]
    outcomes: tuple[str, ...]
    position: int
    pages: frozenset[str] = frozenset()  # kinds of pages that must stand at the end; else there may be none
    at: tuple[tuple[str, str], ...] = ()  # (leg, price) of the exits at the end, where they are not those of the entry

    @property
    def exits(self) -> set[tuple[str, Decimal, Decimal]]:
        """The exits that must be live at the end, as (leg, price, size): those of the entry that made the position."""
        signals = [given for name, given in self.steps if name.endswith("signal")]
        entered = [given for given, outcome in zip(signals, self.outcomes, strict=True) if outcome == "entered"]
        asked = entered[-1] if self.position else {}
        size = Decimal(abs(self.position))
        if self.at:
            return {(leg, Decimal(price), size) for leg, price in self.at}
        return {(leg, Decimal(asked[name]), size) for leg, name in (("T", "tp"), ("S", "sl")) if name in asked}


def entry(side: str, tp: str | None = None, sl: str | None = None) -> Step:
    exits = {name: price for name, price in (("tp", tp), ("sl", sl)) if price}
    return "signal", {"action": "open", "side": side, "quantity": SIZE, **exits}


def quick(step: Step) -> Step:
    """Do the next step at once, whatever is under way."""
    return f"quick {step[0]}", step[1]


def price(value: str) -> Step:
    return "set_price", {"symbol": SYMBOL, "price": value}


def fault(knob: str, **given: Any) -> Step:
    return "fault", {"knob": knob, **given}


CLOSE: Step = ("signal", {"action": "close"})
NOT_REDUCED = frozenset({"not reduced", "size differs"})


def held(size: int, before: int = SIZE) -> Step:
    """The strategy of a long position holds so much of it by now."""
    now, was = ({f"{prefix}market_position": "long", f"{prefix}market_position_size": much}
                for prefix, much in (("", size), ("prev_", before)))  # fmt: skip
    return "signal", {"action": "strategy", **now, **was}


def part(**much: int) -> Step:
    """Close a part."""
    return "signal", {"action": "close", **much}


def trailing(**exits: str) -> Step:
    return "signal", {"action": "open", "side": "buy", "quantity": SIZE, "trail": "0.006 points", **exits}


def protect(**exits: str) -> Step:
    return "signal", {"action": "protect", **exits}


NOT_MOVED = frozenset({"exit not moved"})
DOWN: Step = ("down", {})  # the executor is killed, and started again only by UP
UP: Step = ("up", {})
LONG, SHORT = entry("buy", "1.20", "1.18"), entry("sell", "1.18", "1.20")
ENTERED = ("entered",)


def _entries() -> dict[str, Scenario]:
    found = {}
    for side, sign, tp, sl in (("buy", 1, "1.20", "1.18"), ("sell", -1, "1.18", "1.20")):
        for name, exits in (("plain", (None, None)), ("tp", (tp, None)), ("sl", (None, sl)), ("bracket", (tp, sl))):
            found[f"entry {side} {name}"] = Scenario((entry(side, *exits),), ENTERED, sign * SIZE)
    return found


def _moves() -> dict[str, Scenario]:
    """Exits that are moved or added by a signal, that follow from the fill (at 1.19005), or that trail."""
    both, moved = ("entered", "protected"), (("T", "1.20"), ("S", "1.185"))
    slow = fault("partials", role="entry", sizes=[5000], gap=0.3, then="fill")
    trails, followed = (("T", "1.21"), ("L", "1.18405")), (("T", "1.21"), ("L", "1.18995"))
    return {
        "protect": Scenario((LONG, protect(sl="1.185", tp="1.21")), both, SIZE, at=(("T", "1.21"), ("S", "1.185"))),
        "protect twice at once": Scenario(
            (LONG, quick(protect(sl="1.183")), protect(sl="1.185")), (*both, "protected"), SIZE, at=moved
        ),
        "protect while down": Scenario((LONG, DOWN, protect(sl="1.185"), UP), both, SIZE, at=moved),
        "protect behind the entry": Scenario((slow, quick(LONG), protect(sl="1.185")), both, SIZE, at=moved),
        "protect at the entry price": Scenario(
            (LONG, price("1.195"), protect(sl="entry")), both, SIZE, at=(("T", "1.20"), ("S", "1.19005"))
        ),
        "protect adds exits": Scenario((entry("buy"), protect(sl="1.185", tp="1.20")), both, SIZE, at=moved),
        "protect refused": Scenario(
            (LONG, fault("reject_modify", role="stop_loss", count=99), protect(sl="1.185")),
            ("entered", "refused"), SIZE, NOT_MOVED, at=(("T", "1.20"), ("S", "1.18")),
        ),
        "stop-loss meets protect": Scenario(
            (LONG, quick(protect(sl="1.185")), price("1.1795")), ("entered", "protected|nothing to do"), 0
        ),
        "from the fill": Scenario(
            (slow, entry("buy", "0.02 points", "100 ticks")), ENTERED, SIZE, at=(("T", "1.21005"), ("S", "1.18505"))
        ),
        "protect before the fill": Scenario(
            (slow, quick(entry("buy", "1.20", "100 ticks")), protect(sl="1.187")), both, SIZE,
            at=(("T", "1.20"), ("S", "1.187")),
        ),
        "trail": Scenario((trailing(tp="1.21"),), ENTERED, SIZE, at=trails),
        "trail, filled slowly": Scenario((slow, trailing(tp="1.21")), ENTERED, SIZE, at=trails),
        "trail that follows": Scenario((trailing(tp="1.21"), price("1.196")), ENTERED, SIZE, at=followed),
        "trail that follows while down": Scenario(
            (trailing(tp="1.21"), DOWN, price("1.196"), UP), ENTERED, SIZE, at=followed
        ),
        "trail of a part": Scenario(
            (trailing(tp="1.21"), price("1.196"), price("1.194"), part(quantity=8000)), ("entered", "reduced"), 12000,
            at=followed,
        ),
        "trail refused": Scenario(
            (fault("reject", code=201, order_type="TRAIL"), trailing(tp="1.21")), ENTERED, SIZE, NOT_MOVED,
            at=(("T", "1.21"), ("S", "1.18405")),
        ),
        "trail hit while down": Scenario((trailing(tp="1.21"), DOWN, price("1.183"), UP), ENTERED, 0),
    }  # fmt: skip


SCENARIOS: dict[str, Scenario] = {
    **_entries(),
    **_moves(),
    "same side ignored": Scenario((LONG, LONG), ("entered", "ignored"), SIZE),
    "take-profit": Scenario((LONG, price("1.2005")), ENTERED, 0),
    "stop-loss": Scenario((LONG, price("1.1795")), ENTERED, 0),
    "blocked after take-profit": Scenario(
        (LONG, price("1.2005"), entry("buy", "1.21", "1.19")), ("entered", "refused"), 0
    ),
    "take-profit while down": Scenario((LONG, DOWN, price("1.2005"), UP), ENTERED, 0),
    "stop-loss while down": Scenario((SHORT, DOWN, price("1.2005"), UP), ENTERED, 0),
    "reversal plain": Scenario((entry("buy"), entry("sell")), ("entered", "entered"), -SIZE),
    "reversal with bracket": Scenario((LONG, SHORT), ("entered", "entered"), -SIZE),
    "reversal, fill during the cancel": Scenario(
        (LONG, fault("cancel_race", role="stop_loss", then="fill"), SHORT), ("entered", "entered"), -SIZE
    ),
    "close with a trade": Scenario((LONG, CLOSE), ("entered", "closed"), 0),
    "close behind the entry": Scenario((quick(LONG), CLOSE), ("entered|refused", "closed|nothing to do"), 0),
    "reversal behind the entry": Scenario((quick(LONG), SHORT), ("entered|refused", "entered"), -SIZE),
    "take-profit meets close": Scenario((LONG, quick(CLOSE), price("1.2005")), ("entered", "closed|nothing to do"), 0),
    "close without a trade": Scenario((CLOSE,), ("nothing to do",), 0),
    "entry rejected": Scenario((fault("reject", code=201, role="entry"), LONG), ("refused",), 0),
    "partial, then cancelled": Scenario(
        (fault("partials", role="entry", sizes=[5000], gap=0, then="cancel"), LONG), ENTERED, 5000
    ),
    "scale out": Scenario((LONG, held(12000), held(5000, 12000)), ("entered", "reduced", "reduced"), 5000),
    "scale out at once": Scenario(
        (LONG, quick(held(12000)), held(5000, 12000)), ("entered", "reduced", "reduced"), 5000
    ),
    "scale out while down": Scenario((LONG, DOWN, held(12000), UP), ("entered", "reduced"), 12000),
    "scale out, filled in part": Scenario(
        (LONG, fault("partials", order_ref="X1", sizes=[3000], gap=0, then="rest"), held(12000)),
        ("entered", "reduced"),
        17000,
        NOT_REDUCED,
    ),
    "scale out, refused": Scenario(
        (LONG, fault("reject", code=201, order_ref="X", count=9), held(12000)),
        ("entered", "refused"),
        SIZE,
        NOT_REDUCED,
    ),
    "scale out, change refused": Scenario(
        (LONG, fault("reject_modify", role="stop_loss", count=99), held(12000)),
        ("entered", "refused"),
        SIZE,
        NOT_REDUCED,
    ),
    "take-profit meets scale out": Scenario(
        (LONG, quick(held(12000)), price("1.2005")), ("entered", "reduced|ignored"), 0
    ),
    "close behind scale out": Scenario((LONG, quick(held(12000)), CLOSE), ("entered", "reduced", "closed"), 0),
    "partial close": Scenario((LONG, part(quantity=8000)), ("entered", "reduced"), 12000),
    "partial close by percent": Scenario(
        (LONG, part(percent=25), part(percent=50)), ("entered", "reduced", "reduced"), 7500
    ),
    "stop-loss rejected": Scenario((fault("reject", code=201, role="stop_loss"), LONG), ENTERED, SIZE),
}
