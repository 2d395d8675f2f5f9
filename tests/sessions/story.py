"""What happens in a session, by seed: signals, prices and trouble, in rounds that each end with everything settled.

A seed gives the same story, and not the same interleaving: processes take their own time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

Step = tuple[str, dict[str, Any]]  # a method of the stage, and what it is given
# symbol → its price at the beginning, the digits behind its point, and the size of an entry
MARKETS = {
    "EURUSD": (Decimal("1.19"), 4, 20000), "GBPUSD": (Decimal("1.34"), 4, 25000), "USDJPY": (Decimal(155), 2, 30000),
    "AAPL": (Decimal("263.5"), 1, 100), "MSFT": (Decimal("408.5"), 1, 60),
}  # fmt: skip
CALM = 8  # every so many sessions there is no trouble at all
PATIENT = 5  # every so many sessions the executor keeps its own waits
ROUNDS = 3


def is_calm(seed: int) -> bool:
    return seed % CALM == 0


def is_patient(seed: int) -> bool:
    return seed % PATIENT == 1


def _position(held: int, prefix: str) -> dict[str, Any]:
    where = "long" if held > 0 else "short" if held < 0 else "flat"
    return {f"{prefix}market_position": where, f"{prefix}market_position_size": abs(held)}


class Story:
    """Draws the steps of one session."""

    def __init__(self, seed: int) -> None:
        self._chance, self._calm = random.Random(seed), is_calm(seed)
        self._symbols = self._chance.sample(sorted(MARKETS), 2)
        self._price = {symbol: MARKETS[symbol][0] for symbol in self._symbols}
        self._targets: dict[str, list[Decimal]] = {symbol: [] for symbol in self._symbols}
        self._holds = dict.fromkeys(self._symbols, 0)  # symbol → what a sender believes to hold, below zero when short
        self._race: Step | None = None

    def steps(self) -> Iterator[Step]:
        """Give every step; `settle` ends each round."""
        for _ in range(ROUNDS):
            for _ in range(self._chance.randint(3, 6)):
                if not self._calm and self._chance.random() < 0.45:
                    yield self._trouble()
                yield self._signal() if self._chance.random() < 0.6 else self._move()
                if self._chance.random() < 0.7:
                    yield "wait", {"seconds": round(self._chance.choice((0.02, 0.1, 0.3, 0.8)), 2)}
            if not self._calm and self._chance.random() < 0.6:
                yield self._kill()
            yield "settle", {}

    # ---- signals and prices ----

    def _near(self, symbol: str, share: float) -> Decimal:
        return round(self._price[symbol] * Decimal(str(1 + share)), MARKETS[symbol][1])

    def _signal(self) -> Step:
        symbol = self._chance.choice(self._symbols)
        holds, size = self._holds[symbol], MARKETS[symbol][2]
        smaller = ("scale", "scale", "part") if holds else ()
        action = self._chance.choice(("open", "open", "open", "close", "reset", "strategy", *smaller))
        body: dict[str, Any] = {"action": action, "symbol": symbol}
        if action == "open":
            body |= {"side": self._chance.choice(("buy", "sell")), "quantity": size}
            self._holds[symbol] = size if body["side"] == "buy" else -size
        elif action == "part":
            much = self._chance.choice(
                ({"quantity": size // 4}, {"percent": "50"}, {"percent": "33"}, {"quantity": size // 10})
            )
            body |= {"action": "close", **much}
        elif action in ("strategy", "scale"):
            body |= self._strategy(symbol, scales=action == "scale")
        elif action == "close":
            self._holds[symbol] = 0
        if action in ("open", "strategy") and body.get("market_position") != "flat":
            body |= self._exits(symbol, 1 if body.get("side", body.get("market_position")) in ("buy", "long") else -1)
        return "post", {"body": body, "times": self._chance.choices((1, 2), (6, 1))[0]}

    def _strategy(self, symbol: str, *, scales: bool) -> dict[str, Any]:
        """Return what a strategy says: that it holds less than before, or anything."""
        before, size = self._holds[symbol], MARKETS[symbol][2]
        after = (
            int(before * self._chance.choice((0.75, 0.5, 0.25))) if scales else self._chance.choice((size, -size, 0))
        )
        self._holds[symbol] = after
        told = {"action": "strategy", **_position(after, "")}
        return told | _position(before, "prev_") if scales else told

    def _exits(self, symbol: str, way: int) -> dict[str, str]:
        far = self._chance.choice((0.004, 0.008))
        exits = {"tp": self._near(symbol, way * far), "sl": self._near(symbol, -way * far)}
        kept = self._chance.choices((("tp", "sl"), ("sl",), ("tp",), ()), (8, 2, 1, 1))[0]
        self._targets[symbol] = [exits[name] for name in kept]
        return {name: str(exits[name]) for name in kept}

    def _move(self) -> Step:
        """Move a market a little, or past an exit."""
        symbol = self._chance.choice(self._symbols)
        to = self._near(symbol, self._chance.choice((-0.001, 0.001)))
        if self._targets[symbol] and self._chance.random() < 0.7:
            target = self._chance.choice(self._targets[symbol])
            away = Decimal("0.0005") if target > self._price[symbol] else Decimal("-0.0005")
            to = round(target * (1 + away), MARKETS[symbol][1])
        self._price[symbol] = to
        return "do", {"action": "set_price", "symbol": symbol, "price": str(to)}

    # ---- trouble ----

    def _kill(self) -> Step:
        who = self._chance.choices(("executor", "relay", "paper"), (5, 3, 2))[0]
        return "kill", {"who": who, "seconds": self._chance.choice((0.0, 0.3, 1.0))}

    def _trouble(self) -> Step:
        kind = self._chance.choice((self._kill, self._cut, self._partial, self._partial, self._link))
        return kind()

    def _cut(self) -> Step:
        """Break the connection to TWS in the middle of the messages about an order."""
        direction, kind = self._chance.choice(
            (("in", "placeOrder"), ("in", "placeOrder"), ("in", "cancelOrder"), ("out", "openOrder"),
             ("out", "orderStatus"), ("out", "execDetails"))
        )  # fmt: skip
        when, n = self._chance.choice(("before", "after")), self._chance.randint(1, 3)
        return "do", {"action": "fault", "knob": "drop", "direction": direction, "kind": kind, "when": when, "n": n}

    def _partial(self) -> Step:
        """Let the next such order fill in parts; some entries and take-profits not wholly."""
        symbol = self._chance.choice(self._symbols)
        order, then = self._chance.choice(
            (
                ("E1", "fill"),
                ("E1", "cancel"),
                ("E1", "rest"),
                ("T1", "rest"),
                ("T1", "fill"),
                ("C1", "fill"),
                ("X1", "fill"),
                ("X1", "rest"),
            )
        )
        size = MARKETS[symbol][2]
        sizes = self._chance.choice(([size // 4], [size // 5, size // 2]))
        # A reference ends in leg and attempt, and nothing else in it is a 1: base32 has none.
        given = {"order_ref": order, "symbol": symbol, "sizes": sizes, "gap": self._chance.choice((0.0, 0.2, 1.0))}
        return "do", {"action": "fault", "knob": "partials", "then": then, **given}

    def _link(self) -> Step:
        """Cut every client, restart TWS, make it silent, or let a fill race a cancel."""
        races: tuple[Step, Step] = (
            ("do", {"action": "fault", "knob": "cancel_race", "then": "fill"}),
            ("do", {"action": "fault", "knob": "oca_ignored", "role": "take_profit"}),
        )
        found = self._chance.choice(
            (
                ("do", {"action": "disconnect"}),
                ("do", {"action": "restart", "down_seconds": 0.5}),
                ("do", {"action": "freeze", "seconds": 0.7}),
                *races,
            )
        )
        if found not in races:
            return found
        self._race = (
            self._race or found
        )  # one kind in a session: of both, each exit may fill, and a hold would be right
        return self._race
