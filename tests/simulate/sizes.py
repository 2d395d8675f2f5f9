"""What a signal may do with the size of a trade: laws of what leaves, what fills, what is left. From the contract alone.

Each kind of order that changes a trade has its row in `LEAVING`; each kind of signal that names a size is read by `named`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Protocol

from common.clock import parse_utc
from tests.simulate.records import ENTRIES, EXITS, ZERO, BrokerSide, JournalSide, LiveOrder, Row, leg_of

VALIDITY = timedelta(seconds=91)  # of what enters, by the contract, and the tick in which it goes out
SLACK = timedelta(seconds=10)  # what filled so shortly before a decision may have been heard of behind it
TAKEN_BACK = 45.0  # ten seconds, and a cancel that is slow, or refused and asked for again


class Leaving(Protocol):
    """An order as it leaves for TWS."""

    @property
    def order_id(self) -> int: ...
    @property
    def order_ref(self) -> str: ...
    @property
    def quantity(self) -> Decimal: ...


@dataclass(frozen=True)
class Named:
    """The size that a signal gave a trade: whole, or as a part that goes."""

    at: datetime
    size: Decimal | None = None
    part: Decimal | None = None
    percent: Decimal | None = None

    def left(self, before: Decimal) -> Decimal:
        """Return the least that it may leave of what was there before it."""
        if self.size is not None:
            return self.size
        part = self.part if self.percent is None else (before * self.percent / 100).to_integral_value(ROUND_FLOOR)
        return max(before - (part or ZERO), ZERO)


def named(row: Row) -> Named | None:
    """Return what a signal of the inbox says of the size of the trade that is there, None where it says nothing."""
    data = json.loads(row["payload"])["data"]
    at = parse_utc(row["decided_at"])
    if data["action"] == "close":
        part, percent = (Decimal(data[key]) if key in data else None for key in ("quantity", "percent"))
        return None if part is percent is None else Named(at, part=part, percent=percent)
    if data["action"] in ("open", "reduce") and data.get("market_position") in ("long", "short"):
        return Named(at, Decimal(data["quantity"]))
    return None


def key_of(signal_id: str) -> str:
    """Return the part of an order's reference that the signal decides.

    >>> key_of("a")
    'ZKLYCEWKDO64V6WC'
    """
    return base64.b32encode(hashlib.sha256(signal_id.encode()).digest())[:16].decode()


@dataclass
class Sizes:
    """Judges sizes. `say` takes a rule and what is wrong, `raced` tells whether the owner acted in a contract just now."""

    journal: JournalSide
    broker: BrokerSide
    live: Callable[[], list[LiveOrder]]
    say: Callable[[str, str], None]
    raced: Callable[[int, datetime], bool]
    _left_as: dict[int, Decimal] = field(default_factory=dict)  # order id → the size with which it went out first

    # ---- what leaves ----

    def leaving(self, ticket: Leaving, now: datetime) -> None:
        """Judge an order at the moment at which its bytes leave; what the journal has committed and TWS has must suffice."""
        ref = ticket.order_ref
        row = self.journal.one("SELECT * FROM orders WHERE order_ref = ?", ref)
        if row is None or row["sent_at"] is None:
            self.say("written-first", f"{ref} leaves, and the journal has not committed that it is sent")
            return
        if leg_of(ref) not in EXITS:
            self._with_its_size(ticket, row)
        trade = self.journal.one("SELECT * FROM trades WHERE id = ?", row["trade_id"])
        for rule in LEAVING.get(leg_of(ref), ()):
            if trade is not None:
                rule(self, ticket, trade, now)

    def _with_its_size(self, ticket: Leaving, row: Row) -> None:
        """What was committed is sent with that size or not at all; one id never goes out with two sizes."""
        if Decimal(row["quantity"]) != ticket.quantity:
            self.say("committed", f"{ticket.order_ref} leaves for {ticket.quantity}, committed are {row['quantity']}")
        first = self._left_as.setdefault(ticket.order_id, ticket.quantity)
        if first != ticket.quantity:
            text = f"order id {ticket.order_id} ({ticket.order_ref}) leaves for {ticket.quantity}, before for {first}"
            self.say("same-size", text)

    def _asked_for(self, ticket: Leaving, trade: Row, now: datetime) -> None:
        """What changes the size of a trade goes out for a signal that named one."""
        keys = {key_of(row["signal_id"]) for row in self._naming(trade)}
        if ticket.order_ref[4:20] not in keys:
            self.say("asked", f"{ticket.order_ref} changes trade {trade['id']}, and no signal asked for that")

    def _exits_first(self, ticket: Leaving, trade: Row, now: datetime) -> None:
        """No byte of a reduction leaves before TWS has each exit in the size that will be left."""
        if ticket.order_ref in self.broker.accepted or self._moved(trade, now):
            return
        going = self._going(trade, ticket.order_ref) + ticket.quantity
        own = self.own(trade)
        for order in self._live(trade, EXITS):
            if order.remaining + going > own:
                text = f"{ticket.order_ref} leaves; {going} go, {order.ref} works for {order.remaining}, {own} are held"
                self.say("exits-first", text)

    def _no_more_than_asked(self, ticket: Leaving, trade: Row, now: datetime) -> None:
        """What is left behind a reduction is no less than the newest size that was named, but for what its exits took."""
        if ticket.order_ref in self.broker.accepted or self._moved(trade, now):
            return
        left = self.own(trade) - self._going(trade, ticket.order_ref) - ticket.quantity
        least = self.least(trade)
        if least is not None and left < least:
            text = f"{ticket.order_ref} over {ticket.quantity} leaves {left} of trade {trade['id']}, asked for were {least}"
            self.say("overshoot", text)

    def _fresh(self, ticket: Leaving, trade: Row, now: datetime) -> None:
        """What makes a trade larger is no older than an entry may be."""
        row = next((r for r in self._naming(trade) if key_of(r["signal_id"]) == ticket.order_ref[4:20]), None)
        if row is not None and now > parse_utc(row["received_at"]) + VALIDITY:
            self.say("fresh", f"{ticket.order_ref} leaves at {now}, its signal came at {row['received_at']}")

    def _no_larger_than_asked(self, ticket: Leaving, trade: Row, now: datetime) -> None:
        """An addition makes a trade no larger than its strategy."""
        if ticket.order_ref in self.broker.accepted or self._moved(trade, now):
            return
        sizes = [name.size for name in map(named, self._naming(trade)) if name and name.size is not None]
        adding = sum((o.remaining for o in self._live(trade, "A") if o.ref != ticket.order_ref), ZERO)
        own = self.own(trade) + adding + ticket.quantity
        if not sizes or own > sizes[-1]:
            self.say("beyond", f"{ticket.order_ref} makes trade {trade['id']} {own}, its strategy held {sizes}")

    def _with_its_own_stop(self, ticket: Leaving, trade: Row, now: datetime) -> None:
        """What is added has a stop from the first byte: it is committed with it, in its size."""
        sql = "SELECT quantity FROM orders WHERE trade_id = ? AND leg = 'K' AND parent_ref = ?"
        stop = self.journal.one(sql, trade["id"], ticket.order_ref)
        if trade["stop_wanted"] and (stop is None or Decimal(stop["quantity"]) != ticket.quantity):
            self.say(
                "bare", f"{ticket.order_ref} adds {ticket.quantity} to trade {trade['id']} without a stop of its own"
            )

    def least(self, trade: Row) -> Decimal | None:
        """Return the least that a trade may have come down to by signals, None where none has named a size."""
        least: Decimal | None = None
        before: datetime | None = None
        for row in self._naming(trade):
            name = named(row)
            if name is None:
                continue
            held = self.own(trade, name.at)
            if least is not None and before is not None:
                held = min(held, least - self.taken(trade, before - SLACK))
            least, before = name.left(max(held, ZERO)), name.at
        return None if least is None or before is None else max(least - self.taken(trade, before - SLACK), ZERO)

    def _naming(self, trade: Row) -> list[Row]:
        sql = "SELECT * FROM inbox WHERE trade_id = ? AND state = 'done' AND signal_id <> ? AND outcome <> 'closed' ORDER BY seq"
        return [row for row in self.journal.rows(sql, trade["id"], trade["signal_id"]) if named(row)]

    # ---- what fills ----

    def filled(self, entry: Row) -> None:
        """A reduction takes out what is there, and never turns a trade over."""
        if leg_of(entry["orderRef"]) != "X":
            return
        sql = "SELECT trades.* FROM trades JOIN orders ON trades.id = trade_id WHERE order_ref = ?"
        trade = self.journal.one(sql, entry["orderRef"])
        if trade is None:
            return
        if (entry["action"] == "BUY") is (trade["signal"] == "buy"):
            self.say("beyond", f"{entry['orderRef']} adds {entry['quantity']} to trade {trade['id']}")
        own = self.own(trade)
        legs = {leg_of(ref) for ref in self._refs(trade) if self.broker.filled(ref)} & set(EXITS)
        both = len({leg.replace("R", "S") for leg in legs}) > 1  # two exits filled: no law holds a broker to one
        if own < 0 and not both and not self.raced(trade["con_id"], parse_utc(entry["at"])):
            self.say("beyond", f"{entry['orderRef']} turns trade {trade['id']} over to {own}")

    # ---- after every step, and at rest ----

    def going(self, trade: Row) -> Decimal:
        """Return what reductions that TWS has are still to fill."""
        return self._going(trade, "")

    def judge(self, trade: Row, alarms: list[Row]) -> None:
        """At rest a trade has its strategy's newest size, or an alarm says both."""
        if trade["state"] != "open":
            return
        if trade["shrink_to"] is not None:
            self.say("size", f"trade {trade['id']} is at rest, and still to come down to {trade['shrink_to']}")
        row = self._newest(trade)
        name = named(row) if row else None
        if name is None or name.size is None or self._by_hand_since(trade, name.at - SLACK):
            return
        own = self.own(trade)
        if name.size - self.taken(trade, name.at - SLACK) <= own <= name.size:
            return
        said = [a for a in alarms if a["kind"] == "size differs" and a["symbol"] == trade["symbol"]]
        if not any(_says(alarm["text"], name.size) and _says(alarm["text"], own) for alarm in said):
            self.say(
                "size", f"the strategy holds {name.size} {trade['symbol']}, trade {trade['id']} {own}: nobody was told"
            )

    def _newest(self, trade: Row) -> Row | None:
        """Return the newest alert that named the size of a trade, but for those that came late or before it."""
        sql = """SELECT * FROM inbox WHERE symbol = ? AND late = 0 AND state = 'done' AND received_at >= ? AND decided_at >= ?
                 AND signal_id <> ? AND outcome NOT IN ('closed', 'entered') AND (side = ? OR action = 'close') ORDER BY seq DESC"""
        rows = self.journal.rows(
            sql, trade["symbol"], trade["received_at"], trade["timestamp"], trade["signal_id"], trade["signal"]
        )
        return next((row for row in rows if named(row)), None)

    def _by_hand_since(self, trade: Row, since: datetime) -> bool:
        last = self.broker.by_hand.get(trade["con_id"])
        return bool(Decimal(trade["reduced"])) or (last is not None and last >= since)

    # ---- the broker's side of a trade ----

    def own(self, trade: Row, until: datetime | None = None) -> Decimal:
        """Return what a trade's executions add up to in its direction; an adopted one came whole.

        What a midnight hid from the journal, that counts as taken out by hand, or not yet.
        """
        sql = "SELECT exec_root FROM fills WHERE trade_id = ?"
        known = {row["exec_root"] for row in self.journal.rows(sql, trade["id"])}
        midnight = max(self.broker.midnights, default=None)
        own = Decimal(trade["asked"]) if not any(leg_of(ref) == "E" for ref in self._refs(trade)) else ZERO
        for entry in self._fills(trade):
            at = parse_utc(entry["at"])
            hidden = midnight is not None and at <= midnight and entry["execId"].rpartition(".")[0] not in known
            if not hidden and (until is None or at <= until):
                own += Decimal(entry["quantity"]) * (1 if leg_of(entry["orderRef"]) in ENTRIES else -1)
        return own - Decimal(trade["reduced"])

    def _fills(self, trade: Row) -> list[Row]:
        return [entry for ref in self._refs(trade) for entry in self.broker.of_ref.get(ref, ())]

    def taken(self, trade: Row, since: datetime) -> Decimal:
        """Return what a trade's exits have filled since then."""
        exits = (e for e in self._fills(trade) if leg_of(e["orderRef"]) in EXITS)
        return sum((Decimal(e["quantity"]) for e in exits if parse_utc(e["at"]) >= since), ZERO)

    def _moved(self, trade: Row, now: datetime) -> bool:
        """True if an exit, or the owner, took something out just now: the executor may not have heard of it."""
        return self.raced(trade["con_id"], now) or self.taken(trade, now - SLACK) > 0

    def _refs(self, trade: Row) -> set[str]:
        return {
            row["order_ref"]
            for row in self.journal.rows("SELECT order_ref FROM orders WHERE trade_id = ?", trade["id"])
        }

    def _live(self, trade: Row, legs: str) -> list[LiveOrder]:
        refs = self._refs(trade)
        return [o for o in self.live() if o.ref in refs and leg_of(o.ref) in legs and not o.held]

    def _going(self, trade: Row, but: str) -> Decimal:
        return sum((o.remaining for o in self._live(trade, "X") if o.ref != but), ZERO)


def _says(text: str, size: Decimal) -> bool:
    return f"{size.normalize():f}" in text.replace(",", " ").replace(".\n", " ").replace(". ", " ").split()


Rule = Callable[[Sizes, Leaving, Row, datetime], None]
LEAVING: dict[str, tuple[Rule, ...]] = {
    "X": (Sizes._asked_for, Sizes._exits_first, Sizes._no_more_than_asked),
    "A": (Sizes._asked_for, Sizes._fresh, Sizes._no_larger_than_asked, Sizes._with_its_own_stop),
}
