"""The rules that must hold after every step. Each says what it found, in words; the first word is the rule's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from common.clock import parse_utc
from tests.simulate.ends import Ends
from tests.simulate.prices import Prices
from tests.simulate.records import (
    ENTRIES,
    MINE,
    OUT,
    STOPS,
    ZERO,
    BrokerSide,
    JournalSide,
    LiveOrder,
    Row,
    is_ours,
    leg_of,
)
from tests.simulate.sizes import TAKEN_BACK, Sizes

PROTECT_SECONDS = 14.0  # ten, two for the second look that confirms a difference, the ticks, the way of the facts
CLOSING_SECONDS = 15.0  # a position that is being closed has no stop meanwhile
UNTOLD_SECONDS = 630.0  # what TWS does not tell is found by the regular look
MISMATCH_SECONDS = 30.0  # until a position that differs is found, confirmed by a second look, and said or settled
RACE = timedelta(seconds=8)  # what the owner did so short ago may cross with what the executor does
BARE_ALARMS = (
    "unprotected",
    "hold",
    "contract",
    "close waits",
    "exit too large",
)  # a position without its stop, or with another
ODD_ALARMS = (*BARE_ALARMS, "position mismatch")  # kinds that tell of a position that is not what it should be
DEAD = ("lost", "rejected", "inactive")


@dataclass
class Sight:
    """Since when the executor sees the broker: alive, connected, and everything read. None: it does not."""

    since: float | None = None
    now: float = 0.0

    def seconds(self, begun: float) -> float:
        """Return how long something has lasted while it could be seen."""
        return 0.0 if self.since is None else self.now - max(begun, self.since)


@dataclass
class Checker:
    """Hears the broker's log entry by entry, and looks at both sides after each step."""

    journal: JournalSide
    live: Callable[[], list[LiveOrder]]
    broker: BrokerSide = field(default_factory=BrokerSide)
    found: list[str] = field(default_factory=list)
    sight: Sight = field(default_factory=Sight)
    heard: int = 0  # entries of the broker's log
    allowed: set[int] = field(default_factory=set)  # permIds of orders that the owner is changing himself just now
    _since: dict[tuple[str, object], float] = field(default_factory=dict)  # (rule, object) → since when it is so
    _last_id: int = 0
    _seen: tuple[int, int] = (-1, -1)  # the versions of both sides at the last look
    released: dict[int, datetime] = field(default_factory=dict)  # conId → the last release by an entry or the owner
    _given: dict[str, int] = field(default_factory=dict)  # orderRef → order id

    def __post_init__(self) -> None:
        self.ends = Ends(self.journal, self.broker, self.say)
        self.prices = Prices(self.journal, self.say)
        self.sizes = Sizes(self.journal, self.broker, self.live, self.say, self._by_hand_lately)

    def say(self, rule: str, text: str) -> None:
        self.found.append(f"{rule}: {text}")

    # ---- the broker's log ----

    def hear(self, entry: Row) -> None:
        """Take in one entry of the broker's log, and judge it against what the journal holds at that moment."""
        self.heard += 1
        if entry["event"] in ("accepted", "modified", "trailed"):
            self.prices.hear(entry)
        handler = _HANDLERS.get(entry["event"])
        if handler:
            handler(self, entry)

    def _accepted(self, entry: Row) -> None:
        if not is_ours(entry):
            return
        ref, perm_id = entry["orderRef"], entry["permId"]
        known = self.broker.accepted.get(ref)
        if known not in (None, perm_id):
            self.say("once", f"a second order was accepted under {ref}")
        if self.broker.ids.setdefault(entry["orderId"], ref) != ref:
            self.say("once", f"order id {entry['orderId']} was {self.broker.ids[entry['orderId']]}, now {ref}")
        self.broker.accepted[ref] = perm_id
        row = self.journal.one("SELECT * FROM orders WHERE order_ref = ?", ref)
        if row is None or row["sent_at"] is None:
            self.say("written-first", f"{ref} was accepted, and the journal has not committed that it was sent")
            return
        trade = self.journal.one("SELECT * FROM trades WHERE id = ?", row["trade_id"]) or {}
        trade["written_at"] = parse_utc(row["sent_at"])  # when the order left; it may arrive much later
        {"E": self._entry_accepted, "C": self._close_accepted, "R": self._stop_accepted}.get(
            leg_of(ref), lambda *_: None
        )(entry, trade)

    def _others(self, entry: Row, legs: str) -> list[LiveOrder]:
        return [o for o in self.live() if o.con_id == entry["conId"] and o.ref.startswith(MINE) and not o.held
                and o.ref != entry["orderRef"] and leg_of(o.ref) in legs]  # fmt: skip

    def _entry_accepted(self, entry: Row, trade: Row) -> None:
        con_id, at = entry["conId"], trade["written_at"]
        family = entry["orderRef"][:20]
        left = [o.ref for o in self._others(entry, ENTRIES + OUT) if not o.ref.startswith(family)]
        if left:
            self.say("left-behind", f"{entry['orderRef']} enters while {', '.join(left)} are live")
        self._not_blocked(entry, trade)
        if at > parse_utc(trade["valid_until"]):
            self.say("fresh", f"{entry['orderRef']} was sent at {at}, good until {trade['valid_until']}")
        beside = self._beside(con_id)
        if self.broker.positions.get(con_id, ZERO) != beside and not self._by_hand_lately(con_id, at):
            self.say(
                "flat-first",
                f"{entry['orderRef']} enters on {self.broker.positions.get(con_id, ZERO)}, beside {beside}",
            )

    def _not_blocked(self, entry: Row, trade: Row) -> None:
        """No entry on the side that last took profit, unless an opposite entry, a reset or the owner came between."""
        sql = (
            "SELECT * FROM trades WHERE state = 'closed' AND con_id = ? AND signal = ? ORDER BY closed_at DESC LIMIT 1"
        )
        last = self.journal.one(sql, entry["conId"], "buy" if entry["action"] == "BUY" else "sell")
        exits = (
            [e for e in self.ends.exits(last) if e["at"] <= last["closed_at"]] if last else []
        )  # a late one is a hold
        if last is None or not exits or leg_of(exits[-1]["orderRef"]) != "T" or Decimal(last["reduced"]):
            return
        since = last["closed_at"]
        sql = "SELECT 1 FROM inbox WHERE action = 'reset' AND symbol = ? AND decided_at >= ?"
        released = self.released.get(entry["conId"])
        if not self.journal.rows(sql, last["symbol"], since) and (released is None or released <= parse_utc(since)):
            self.say("blocked", f"{entry['orderRef']} enters after the take-profit of trade {last['id']} at {since}")

    def _close_accepted(self, entry: Row, trade: Row) -> None:
        # Beside what is left of a trade on hold there may be another, which keeps its exits.
        others = "SELECT order_ref FROM orders WHERE trade_id IN (SELECT id FROM trades WHERE closed = 0 AND id <> ?)"
        theirs = {row["order_ref"] for row in self.journal.rows(others, trade["id"])}
        left = [o.ref for o in self._others(entry, ENTRIES + OUT) if o.ref not in theirs]
        if left:
            self.say("cancel-first", f"{entry['orderRef']} closes while {', '.join(left)} are live")
        con_id, at = entry["conId"], trade["written_at"]
        held = self.broker.positions.get(con_id, ZERO) * (1 if entry["action"] == "SELL" else -1)
        if Decimal(entry["quantity"]) > held and not self._by_hand_lately(con_id, at):
            self.say("flip", f"{entry['orderRef']} closes {entry['quantity']} of {held}")
        own = abs(self.ends.net(trade["id"])) if trade else ZERO
        raced = self._by_hand_lately(con_id, at) or str(trade.get("signal_id", "")).startswith("adopted")
        raced = (
            raced or trade.get("id") in self.ends.doubtful
        )  # adopted with what the account showed, by the owner's choice
        if Decimal(entry["quantity"]) > own and not raced:
            self.say("owner", f"{entry['orderRef']} closes {entry['quantity']}, the trade's own executions hold {own}")

    def _stop_accepted(self, entry: Row, trade: Row) -> None:
        left = [o.ref for o in self._others(entry, "SR")]
        if left:
            self.say("one-stop", f"{entry['orderRef']} is put back while {', '.join(left)} are live")

    def _by_hand_lately(self, con_id: int, at: datetime) -> bool:
        last = self.broker.by_hand.get(con_id)
        return last is not None and at - last < RACE

    def _beside(self, con_id: int) -> Decimal:
        row = self.journal.one("SELECT quantity FROM ignored_holdings WHERE con_id = ?", con_id)
        return Decimal(row["quantity"]) if row else ZERO

    def _filled(self, entry: Row) -> None:
        self.broker.book(entry)
        con_id, at = entry["conId"], parse_utc(entry["at"])
        if not is_ours(entry):
            self.broker.by_hand[con_id] = at
            return
        if entry["event"] == "correction" or entry["permId"] in self.broker.dead:  # it had called the order cancelled
            self.broker.by_hand[con_id] = at
        self.sizes.filled(entry)
        if leg_of(entry["orderRef"]) == "E":
            self.released[con_id] = at  # an entry fills only where its own side is free; the other side is from now on

    def _position(self, entry: Row) -> None:
        self.broker.positions[entry["conId"]] = Decimal(entry["quantity"])

    def _died(self, entry: Row) -> None:
        self.broker.dead.add(entry["permId"])
        if is_ours(entry):
            if self.broker.accepted.get(entry["orderRef"]) == entry["permId"] and entry["event"] in DEAD:
                del self.broker.accepted[entry["orderRef"]]
        elif entry.get("why") == "Cancelled by Trader" and entry["permId"] not in self.allowed:
            self.say("owner", f"an order of the owner's was cancelled: {entry['action']} {entry['quantity']}")

    def _modified(self, entry: Row) -> None:
        if not is_ours(entry) and entry["permId"] not in self.allowed:
            self.say("owner", f"an order of the owner's was changed: {entry['action']} {entry['quantity']}")

    def _midnight(self, entry: Row) -> None:
        self.broker.midnights.append(parse_utc(entry["at"]))

    # ---- after every step ----

    def look(self, sight: Sight) -> None:
        """Hold the journal and the broker's books against each other, as of now."""
        self.sight = sight
        versions = self.journal.version(), self.heard
        if versions == self._seen and not self._since:
            return
        self._seen = versions
        live = self.live()
        alarms = self.journal.rows("SELECT kind, key, symbol, level FROM alarms WHERE cleared_at IS NULL")
        self._ids()
        trades = self.journal.rows("SELECT * FROM trades WHERE closed = 0")
        for trade in trades:
            refs = {
                r["order_ref"]
                for r in self.journal.rows("SELECT order_ref FROM orders WHERE trade_id = ?", trade["id"])
            }
            self._hold(trade, alarms)
            self._protected(trade, refs, live, alarms)
            self._not_flipped(trade, refs, alarms)
            self._taken_back(trade, alarms)
            self._position_known(trade, alarms)
        self._left_behind(live, trades, alarms)
        open_ids = {trade["id"] for trade in trades}
        for key in [key for key in self._since if key[0] != "left-behind" and key[1] not in open_ids]:
            del self._since[key]
        for alarm in alarms:
            if alarm["kind"] == "program":
                self.say("program", f"the desk was stopped by a bug: {alarm['key']}")

    def _ids(self) -> None:
        """Order ids that the journal gives out only rise, over all restarts."""
        rows = self.journal.rows(
            "SELECT order_id, order_ref FROM orders JOIN trades ON trades.id = trade_id"
            " WHERE order_id IS NOT NULL AND (closed = 0 OR order_id > ?) ORDER BY order_id",
            self._last_id,
        )
        for row in rows:
            known = self._given.get(row["order_ref"])
            if known is None and row["order_id"] <= self._last_id:
                self.say("ids-rise", f"{row['order_ref']} got id {row['order_id']} after {self._last_id}")
            self._given[row["order_ref"]] = row["order_id"]
            self._last_id = max(self._last_id, row["order_id"])

    def _lasts(self, rule: str, about: object, so: bool) -> float:
        """Return for how many seconds something has been so, as far as it could be seen."""
        key = (rule, about)
        if not so:
            self._since.pop(key, None)
            return 0.0
        return self.sight.seconds(self._since.setdefault(key, self.sight.now))

    @property
    def pending(self) -> str:
        """Say what is not as it should be and may become so yet, "" where all is well."""
        return "; ".join(f"{rule} {about} since {since:.0f}" for (rule, about), since in self._since.items())

    def _hold(self, trade: Row, alarms: list[Row]) -> None:
        if trade["state"] != "hold":
            return
        told = any(a["key"] == f"hold:{trade['id']}" for a in alarms)
        if not told or not trade["hold_reason"]:
            self.say("hold", f"trade {trade['id']} is on hold without an alarm or without a reason")

    def _protected(self, trade: Row, refs: set[str], live: list[LiveOrder], alarms: list[Row]) -> None:
        direction = 1 if trade["signal"] == "buy" else -1
        con_id = trade["con_id"]
        own = sum((self.broker.filled(ref) for ref in refs), ZERO) * direction
        shown = (self.broker.positions.get(con_id, ZERO) - self._beside(con_id)) * direction
        needed = max(min(own, shown), ZERO)
        needed = max(needed - self.sizes.going(trade), ZERO)  # what a reduction is still to fill needs no stop
        stops = [o for o in live if o.ref in refs and leg_of(o.ref) in STOPS and not o.held and o.sign == -direction]
        size = sum((o.remaining for o in stops), ZERO)
        # What the owner took out and bought back is the owner's; it is reported, since the account alone does not show it.
        kept = max(own - Decimal(trade["reduced"]) - self.sizes.going(trade), ZERO)
        lawful = {needed, kept} if _is_told(trade, alarms, ODD_ALARMS) else {needed}
        wrong = bool(trade["stop_wanted"]) and needed > 0 and size not in lawful
        told = _is_told(trade, alarms, BARE_ALARMS)
        seconds = self._lasts("protected", trade["id"], wrong and not told)
        bound = CLOSING_SECONDS if trade["state"] in ("cancelling", "closing") else PROTECT_SECONDS
        bound = UNTOLD_SECONDS if any(o.muted for o in stops) else bound
        if seconds > bound:
            self.say(
                "protected",
                f"trade {trade['id']} ({trade['state']}) holds {needed}, stops of {size}, for {seconds:.0f} s",
            )

    def _not_flipped(self, trade: Row, refs: set[str], alarms: list[Row]) -> None:
        direction = 1 if trade["signal"] == "buy" else -1
        own = sum((self.broker.filled(ref) for ref in refs), ZERO) * direction
        if trade["signal_id"].startswith("adopted"):
            return
        told = _is_told(trade, alarms, ODD_ALARMS)
        seconds = self._lasts("flipped", trade["id"], own < 0 and not told)
        if seconds > PROTECT_SECONDS:
            self.say("flip", f"trade {trade['id']} has turned to {own}, and nobody was told for {seconds:.0f} s")

    def _taken_back(self, trade: Row, alarms: list[Row]) -> None:
        """A reduction that does not fill is taken back in time, or somebody is told why not."""
        stale = trade["state"] == "open" and self.sizes.going(trade) > 0 and not _is_told(trade, alarms, ODD_ALARMS)
        seconds = self._lasts("taken-back", trade["id"], stale)
        if seconds > TAKEN_BACK:
            self.say(
                "taken-back",
                f"a reduction of trade {trade['id']} has not filled for {seconds:.0f} s, and is still at TWS",
            )

    def _left_behind(self, live: list[LiveOrder], trades: list[Row], alarms: list[Row]) -> None:
        unfinished = {t["id"] for t in trades}
        loose = set()
        for order in live:
            if not order.ref.startswith(MINE) or order.held:
                continue
            row = self.journal.one("SELECT trade_id FROM orders WHERE order_ref = ?", order.ref)
            if row is None or row["trade_id"] not in unfinished:
                loose.add(order.ref)
        loose -= {a["key"].partition(":")[2] for a in alarms if a["kind"] == "orphan"}
        for ref in sorted(loose):
            if self._lasts("left-behind", ref, True) > PROTECT_SECONDS:
                self.say("left-behind", f"{ref} is live and its trade is finished")
        for key in [key for key in self._since if key[0] == "left-behind" and key[1] not in loose]:
            del self._since[key]

    # ---- when all has come to rest ----

    def rest(self, accepted: dict[str, str]) -> None:
        """Judge what must be so when nothing is under way: verdicts, fills, positions, ends.

        `accepted`: what the relay answered 2xx, its id → the sender's own, "" where it sent none.
        """
        inbox = {row["signal_id"]: row for row in self.journal.rows("SELECT * FROM inbox")}
        on_hold = {row["symbol"] for row in self.journal.rows("SELECT symbol FROM trades WHERE state = 'hold'")}
        for signal_id in accepted.keys() - inbox.keys():
            self.say("lost", f"signal {signal_id} was accepted by the relay and never reached the inbox")
        for key, count in Counter(key for key in accepted.values() if key).items():
            if count > 1:
                self.say("one-signal", f"the sender's {key} became {count} signals")
        for row in inbox.values():
            if row["outcome"] is None and row["symbol"] not in on_hold:
                self.say("verdict", f"{row['action']} {row['symbol']} is {row['state']}: {row['reason']}")
        self._entered_once()
        self._none_held()
        self.prices.rest([(o.ref, o.price) for o in self.live() if not o.held and not o.muted])
        alarms = self.journal.rows("SELECT * FROM alarms WHERE cleared_at IS NULL")
        for trade in self.journal.rows("SELECT * FROM trades"):
            self._same_fills(trade)
            self.ends.judge(trade)
            self.sizes.judge(trade, alarms)

    def _none_held(self) -> None:
        """An entry that TWS only holds goes with its trade: one click of the owner's would send it.

        An exit that outlived its entry (the fault "orphaned children") is cancelled as an orphan once it is sent.
        """
        sql = "SELECT closed FROM trades JOIN orders ON trades.id = trade_id WHERE order_ref = ?"
        for order in self.live():
            row = self.journal.one(sql, order.ref)
            ours = order.held and order.ref.startswith(MINE) and leg_of(order.ref) == "E"
            if ours and (row is None or row["closed"]):
                self.say("held-back", f"{order.ref} is held in TWS, and its trade is finished")

    def _entered_once(self) -> None:
        for trade in self.journal.rows("SELECT id, signal_id, asked FROM trades"):
            refs = self.journal.rows("SELECT order_ref FROM orders WHERE trade_id = ? AND leg = 'E'", trade["id"])
            bought = sum((abs(self.broker.filled(row["order_ref"])) for row in refs), ZERO)
            if refs and (len(refs) > 1 or bought > Decimal(trade["asked"])):
                self.say(
                    "once", f"{trade['signal_id']} asked for {trade['asked']}: {len(refs)} entries, {bought} filled"
                )

    def _same_fills(self, trade: Row) -> None:
        """The journal has every execution of its orders, but those that a midnight hid while it could not see."""
        if (
            trade["state"] == "hold"
            or trade["exit_reason"] in ("unknown", "settled by you")
            or trade["id"] in self.ends.doubtful
        ):
            return
        seen = {
            r["exec_root"] for r in self.journal.rows("SELECT exec_root FROM fills WHERE trade_id = ?", trade["id"])
        }
        last_midnight = max(self.broker.midnights, default=None)
        for row in self.journal.rows("SELECT order_ref FROM orders WHERE trade_id = ?", trade["id"]):
            for entry in self.broker.of_ref.get(row["order_ref"], ()):
                hidden = last_midnight is not None and parse_utc(entry["at"]) <= last_midnight
                untold = (
                    entry["permId"] in self.broker.dead
                )  # a fill behind the cancel: it may wait for the regular look
                if entry["execId"].rpartition(".")[0] not in seen and not hidden and not untold:
                    self.say(
                        "fills",
                        f"{row['order_ref']} filled {entry['quantity']} at the broker, and the journal does not know",
                    )

    def _position_known(self, trade: Row, alarms: list[Row]) -> None:
        """The account is the open trade and what the owner holds beside it, or somebody is told so in time."""
        direction = 1 if trade["signal"] == "buy" else -1
        own = self._journal_held(trade) * direction
        shown = self.broker.positions.get(trade["con_id"], ZERO) - self._beside(trade["con_id"])
        differs = trade["state"] == "open" and own != shown
        told = _is_told(trade, alarms, ODD_ALARMS)
        seconds = self._lasts("position", trade["id"], differs and not told)
        if seconds > MISMATCH_SECONDS:
            self.say("position", f"trade {trade['id']} holds {own}, the account shows {shown}, for {seconds:.0f} s")

    def _journal_held(self, trade: Row) -> Decimal:
        rows = self.journal.rows("SELECT leg, filled FROM orders WHERE trade_id = ?", trade["id"])
        came = ZERO if any(r["leg"] == "E" for r in rows) else Decimal(trade["asked"])
        filled = (Decimal(r["filled"]) * (1 if r["leg"] in ENTRIES else -1) for r in rows)
        return came + sum(filled, ZERO) - Decimal(trade["reduced"])


def _is_told(trade: Row, alarms: list[Row], kinds: tuple[str, ...]) -> bool:
    return any(alarm["symbol"] == trade["symbol"] and alarm["kind"] in kinds for alarm in alarms)


_HANDLERS: dict[str, Callable[[Checker, Row], None]] = {
    "accepted": Checker._accepted, "filled": Checker._filled, "correction": Checker._filled,
    "position": Checker._position, "cancelled": Checker._died, "lost": Checker._died, "rejected": Checker._died,
    "inactive": Checker._died, "modified": Checker._modified, "midnight": Checker._midnight,
}  # fmt: skip
