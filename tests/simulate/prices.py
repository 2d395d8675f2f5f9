"""What a signal may do with the prices of a trade's exits: what is sent, and the laws of it. From the contract alone.

1. A stop that this program moves never moves away from the market, unless a signal allowed that, the entry was to take
   its price from the fill, or the owner moved it just before.
2. When nothing is under way, journal and broker agree on where each exit is, and no price is still asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from common.clock import parse_utc
from tests.simulate.records import STOPS, JournalSide, Row, is_ours, leg_of

if TYPE_CHECKING:
    from tests.simulate.world import World

CROSSED = timedelta(seconds=30)  # a change that was sent before the owner's hand may come behind it


# ---- what is sent ----


def protecting(world: World, symbol: str, step: Decimal) -> dict[str, Any]:
    """Return a protect near the market: a price, a distance, or the entry; at times one that may loosen."""
    chance, price = world.chance, world.server.exchange.price(symbol)
    fields: dict[str, Any] = {"action": "protect", "symbol": symbol}
    sign = chance.choice((1, -1))
    if chance.random() < 0.8:
        away = sign * step * chance.randint(1, 5)
        fields["sl"] = chance.choice((str(price - away), str(price - away), distance(world, step), "entry"))
    if chance.random() < 0.4 or "sl" not in fields:
        fields["tp"] = chance.choice((str(price + sign * step * chance.randint(2, 6)), distance(world, step)))
    return fields | ({"loosen": True} if chance.random() < 0.2 else {})


def from_fill(world: World, fields: dict[str, Any], step: Decimal) -> dict[str, Any]:
    """Return an entry with its exits at distances, or with a trailing stop."""
    fields = {key: value for key, value in fields.items() if key not in ("tp", "sl")}
    if world.chance.random() < 0.7:
        fields["tp"] = distance(world, step * 2)
    fields[world.chance.choice(("sl", "trail"))] = distance(world, step)
    return fields


def distance(world: World, step: Decimal) -> str:
    """Return a distance of some steps, in one of the three units."""
    points = step * world.chance.randint(1, 5)
    return world.chance.choice((f"{points} points", f"{world.chance.choice((10, 25, 40))} ticks", "0.3%"))


# ---- the laws ----


@dataclass
class Prices:
    """Hears where exits are, and judges each move of a stop."""

    journal: JournalSide
    say: Callable[[str, str], None]
    _at: dict[str, Decimal] = field(default_factory=dict)  # orderRef → where its stop is
    _by_hand: dict[str, str] = field(default_factory=dict)  # orderRef → when the owner moved it last

    def hear(self, entry: Row) -> None:
        """Take in an order that was accepted, changed or trailed."""
        ref = str(entry.get("orderRef") or "")
        if not is_ours(entry) or leg_of(ref) not in STOPS:
            return
        now, before = price_of(entry), self._at.get(ref)
        if entry.get("by") == "owner":
            self._by_hand[ref] = entry["at"]
        elif entry["event"] == "modified" and before is not None and now is not None:
            self._judge(entry, before, now)
        if now is not None:
            self._at[ref] = now

    def _judge(self, entry: Row, before: Decimal, now: Decimal) -> None:
        away = now < before if entry["action"] == "SELL" else now > before
        hand = self._by_hand.get(entry["orderRef"])
        crossed = hand is not None and parse_utc(entry["at"]) - parse_utc(hand) <= CROSSED
        if away and not crossed and not self._may_loosen(entry["orderRef"]):
            self.say("tightens", f"{entry['orderRef']} went from {before} to {now}, away from the market")

    def _may_loosen(self, ref: str) -> bool:
        sql = "SELECT symbol, trades.signal_id FROM trades JOIN orders ON trades.id = trade_id WHERE order_ref = ?"
        trade = self.journal.one(sql, ref)
        if trade is None:
            return True
        sql = "SELECT payload FROM inbox WHERE signal_id = ? OR (symbol = ? AND loosen = 1)"
        asked = [json.loads(r["payload"])["data"] for r in self.journal.rows(sql, trade["signal_id"], trade["symbol"])]
        return any("loosen" in data or "trail" in data or not _is_price(data.get("sl")) for data in asked)

    def rest(self, live: list[tuple[str, Decimal | None]]) -> None:
        """Judge what must be so when nothing is under way; `live`: orderRef and price of what works at the broker."""
        at = dict(live)
        told = {row["symbol"] for row in self.journal.rows("SELECT symbol FROM alarms WHERE cleared_at IS NULL")}
        for row in self.journal.rows(
            "SELECT o.*, t.symbol, t.state AS trade FROM orders o JOIN trades t ON t.id = trade_id WHERE o.state = 'working'"
        ):
            if row["trade"] != "open" or row["order_ref"] not in at or row["symbol"] in told or row["leg"] in "ECAX":
                continue
            if row["wish"] is not None:
                self.say("wished", f"{row['order_ref']} is at {row['price']}, and {row['wish']} is still asked for")
            price = at[row["order_ref"]]
            if price is not None and price != Decimal(row["price"]):
                self.say("same-price", f"{row['order_ref']} is at {price} at the broker, {row['price']} in the journal")


def price_of(entry: Row) -> Decimal | None:
    """Return where an exit is, by the broker's log."""
    named = {"LMT": "lmtPrice", "STP": "auxPrice", "TRAIL": "trailStopPrice"}.get(entry.get("orderType", ""))
    value = entry.get(named) if named else None
    return None if value is None else Decimal(str(value))


def _is_price(text: str | None) -> bool:
    return text is None or text.replace(".", "").isdigit()
