"""The laws of a session, written from the contract and not from the code.

It reads what was posted with its answers, the broker's own log, and the public tables of the journal. Nothing of the
product is imported: the reference of an order is computed from the signal's id as the contract says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ZERO, CLOSE_ENOUGH = Decimal(0), Decimal("0.000001")  # public prices are numbers
EXITS, STOPS = "TSRK", "SRK"  # an exit goes out again in another size, under the same id; no other order does
OF_ANOTHER = "XAK"  # legs whose reference is made from another signal than the one that entered
TABLES = ("trades", "orders", "fills", "inbox", "alarms", "events")
GONE = ("cancelled", "inactive", "rejected", "lost")
OUTCOMES = {
    "entered", "added", "reduced", "protected", "closed", "reset", "ignored", "refused", "expired", "superseded",
    "nothing to do",
}  # fmt: skip
# alarms that tell of signals and sizes, and nothing of a stop
OF_SIGNALS = {"size differs", "not reduced", "missed alert", "strategy differs", "expired signal", "refused alert"}
OWNERS_CHOICE = {"size differs"}  # pages about what the sender did, not about what the executor cannot do


@dataclass(frozen=True)
class Post:
    """One signal, and every answer to it: (status, body), in their order; a try without an answer leaves none."""

    body: Row
    answers: list[tuple[int, Row]] = field(default_factory=list)

    @property
    def signal_id(self) -> str:
        """Return the relay's id of the signal, "" before it was accepted."""
        return next((str(told["id"]) for status, told in self.answers if status in (200, 202)), "")

    @property
    def symbol(self) -> str:
        return str(self.body["symbol"])

    @property
    def action(self) -> str:
        """Return open, close, part (a close of a part) or reset; of a strategy's alert what it comes to."""
        if self.body["action"] == "close" and ("quantity" in self.body or "percent" in self.body):
            return "part"
        if self.body["action"] != "strategy":
            return str(self.body["action"])
        return "close" if self.body["market_position"] == "flat" else "open"

    @property
    def way(self) -> int:
        """Return 1 for an entry that buys, -1 for one that sells."""
        return 1 if self.body.get("side", self.body.get("market_position")) in ("buy", "long") else -1

    @property
    def quantity(self) -> Decimal:
        return Decimal(str(self.body.get("quantity", self.body.get("market_position_size", 0))))

    @property
    def key(self) -> str:
        """Return the part of an order's reference that the signal decides.

        >>> Post({}, [(202, {"id": "a"})]).key
        'ZKLYCEWKDO64V6WC'
        """
        return base64.b32encode(hashlib.sha256(self.signal_id.encode()).digest())[:16].decode()


@dataclass
class Order:
    """An order at the broker, as its log has it."""

    ref: str
    way: int
    quantity: Decimal
    con_id: int
    key: str  # of the signal that entered what the order is for
    filled: Decimal = ZERO
    over: bool = False

    @property
    def leg(self) -> str:
        return self.ref[20]

    @property
    def left(self) -> Decimal:
        return ZERO if self.over else max(self.quantity - self.filled, ZERO)


class Broker:
    """Our orders and what each signal holds, as of one entry of the broker's log."""

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}  # permId → the order
        self.held: Counter[str] = Counter()  # signal's key → what its executions add up to
        self.last_exit: dict[str, str] = {}  # signal's key → the leg of its last exit fill

    def note(self, entry: Row) -> None:
        """Go on by one entry."""
        perm_id, event = entry.get("permId", 0), entry["event"]
        if not is_ours(entry):
            return
        if event == "accepted":
            quantity = Decimal(entry["quantity"])
            self.orders[perm_id] = Order(entry["orderRef"], way(entry), quantity, entry["conId"], self._whose(entry))
        elif event == "modified":
            self.orders[perm_id].quantity = Decimal(entry["quantity"])
        elif event in GONE and perm_id in self.orders:
            self.orders[perm_id].over = True
        elif event == "filled":
            order = self.orders[perm_id]
            order.filled += Decimal(entry["quantity"])
            self.held[order.key] += signed(entry)  # type: ignore[assignment]  # a Counter counts Decimals too
            if order.leg != "E":
                self.last_exit[order.key] = order.leg

    def _whose(self, entry: Row) -> str:
        """Return the key of the signal whose trade an order is for: of a reduction, the one that holds something there."""
        own = str(entry["orderRef"][4:20])
        if entry["orderRef"][20] not in OF_ANOTHER:
            return own
        holding = (
            o.key for o in self.orders.values() if o.leg == "E" and o.con_id == entry["conId"] and self.held[o.key]
        )
        return next(holding, own)

    @property
    def owners(self) -> dict[str, str]:
        """Return the key of the signal whose trade each order is for."""
        return {order.ref: order.key for order in self.orders.values()}

    def of(self, key: str, legs: str) -> list[Order]:
        """Return the live orders of a signal in these legs."""
        return [o for o in self.orders.values() if o.key == key and o.leg in legs and o.left]

    def holds(self, key: str) -> Decimal:
        return Decimal(self.held[key])


def is_ours(entry: Row) -> bool:
    return str(entry.get("orderRef") or "").startswith("sx1:")


def way(row: Row) -> int:
    return 1 if str(row.get("action") or row.get("side")).upper().startswith("B") else -1


def signed(row: Row) -> Decimal:
    return Decimal(row["quantity"]) * way(row)


@dataclass(frozen=True)
class Records:
    """Everything that the oracle may know."""

    posts: list[Post]
    truth: list[Row]
    trades: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    inbox: list[Row] = field(default_factory=list)
    alarms: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)

    @property
    def by_key(self) -> dict[str, Post]:
        return {post.key: post for post in self.posts if post.signal_id}

    def replay(self) -> Iterator[tuple[Row, Broker]]:
        """Give each entry of the broker's log with the broker as it was before."""
        broker = Broker()
        for entry in self.truth:
            yield entry, broker
            broker.note(entry)

    def broker(self) -> Broker:
        """Return the broker as it is now."""
        broker = Broker()
        for entry in self.truth:
            broker.note(entry)
        return broker

    def alarmed(self, symbol: str, but: Collection[str] = ()) -> bool:
        """True if an alarm about a symbol is standing, of another kind than these."""
        return any(a["symbol"] == symbol and a["cleared_at"] is None and a["kind"] not in but for a in self.alarms)

    def may_wait(self, symbol: str) -> bool:
        """True if a signal may wait here, since the owner was alerted: for a choice on a hold, or for a close at the broker."""
        waits = any(
            a["symbol"] == symbol and a["kind"] == "close waits" and a["cleared_at"] is None for a in self.alarms
        )
        return waits or self.on_hold(symbol)

    def on_hold(self, symbol: str) -> bool:
        return any(t["symbol"] == symbol and t["state"] == "hold" for t in self.trades) and self.alarmed(symbol)


def read(posts: list[Post], truth: Path, journal: Path) -> Records:
    """Return what all three say now. Raises sqlite3.Error while there is no journal."""
    lines = truth.read_bytes().splitlines(keepends=True) if truth.exists() else []
    with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True, timeout=2)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")  # all tables of one moment
        tables = {name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")] for name in TABLES}
    return Records(posts, [json.loads(line) for line in lines if line.endswith(b"\n")], **tables)


# ---- at every moment ----


def accepted_once(r: Records) -> Iterator[str]:
    """No order is accepted twice under one reference, and each belongs to a signal that was posted."""
    refs = Counter(e["orderRef"] for e in r.truth if e["event"] == "accepted" and is_ours(e))
    for ref, count in refs.items():
        if count > 1:
            yield f"{count} orders were accepted under {ref}"
    all_answered = all(post.signal_id for post in r.posts)  # first, since answers go on arriving
    known = r.by_key
    if all_answered:
        yield from (f"{ref} belongs to no signal that was posted" for ref in refs if ref[4:20] not in known)


def entered_as_asked(r: Records) -> Iterator[str]:
    """What a signal enters is on its side, and never more than it asked for; only an entry enters."""
    entered: Counter[str] = Counter()
    for entry in r.truth:
        post = r.by_key.get(str(entry.get("orderRef") or "")[4:20])
        if post is None or entry["orderRef"][20] != "E" or entry["event"] not in ("accepted", "modified", "filled"):
            continue
        if post.action != "open" or way(entry) != post.way:
            yield f"{entry['orderRef']} ({entry['action']}) was {entry['event']} for {post.body}"
        if entry["event"] == "filled":
            entered[post.key] += Decimal(entry["quantity"])  # type: ignore[assignment]
        if max(Decimal(entry["quantity"]), Decimal(entered[post.key])) > post.quantity:
            yield f"{entry['orderRef']}: {entry['quantity']}, {entered[post.key]} filled, asked for {post.quantity}"


def one_trade_a_symbol(r: Records) -> Iterator[str]:
    """No entry goes out while another signal's position or entry is there; the journal has one unfinished trade."""
    for entry, broker in r.replay():
        if entry["event"] != "accepted" or not is_ours(entry) or entry["orderRef"][20] != "E":
            continue
        keys = {o.key for o in broker.orders.values() if o.con_id == entry["conId"]} - {entry["orderRef"][4:20]}
        yield from (
            f"{entry['orderRef']} was accepted while {key} holds {broker.holds(key)}"
            for key in keys if broker.holds(key) or broker.of(key, "E")
        )  # fmt: skip
    unfinished = Counter(t["symbol"] for t in r.trades if not t["closed"])
    yield from (f"{n} trades are unfinished in {symbol}" for symbol, n in unfinished.items() if n > 1)


def blocked_side_stays_out(r: Records) -> Iterator[str]:
    """After a take-profit no entry on its side is sent before a reset, or the first fill of an opposite entry."""
    blocks: dict[int, tuple[int, str, str]] = {}  # conId → (side, since, whose take-profit)
    for entry, broker in r.replay():
        if not is_ours(entry) or entry["event"] not in ("accepted", "filled"):
            continue
        con_id, ref = entry["conId"], entry["orderRef"]
        side, since, whose = blocks.get(con_id, (0, "", ""))
        if ref[20] == "E" and entry["event"] == "filled" and (way(entry) == -side or ref[4:20] == whose[4:20]):
            blocks.pop(con_id)  # released; or more of the same entry came, so that the trade goes on
        elif ref[20] == "E" and way(entry) == side and entry["event"] == "accepted":
            if not _was_reset(r, ref, since, entry["at"]):
                yield f"{ref} entered on the side on which {whose} had taken profit at {since}"
        elif ref[20] == "T" and entry["event"] == "filled" and broker.holds(ref[4:20]) == -signed(entry):
            blocks[con_id] = (-way(entry), entry["at"], ref)


def _was_reset(r: Records, ref: str, since: str, until: str) -> bool:
    symbol = r.by_key[ref[4:20]].symbol if ref[4:20] in r.by_key else ""
    resets = [i for i in r.inbox if i["symbol"] == symbol and i["outcome"] == "reset"]
    return any(since <= i["decided_at"] <= until for i in resets)


def exits_gone_before_a_close(r: Records) -> Iterator[str]:
    """A close is sent when the exits of its trade are confirmed to be gone."""
    for entry, broker in r.replay():
        if entry["event"] == "accepted" and is_ours(entry) and entry["orderRef"][20] == "C":
            live = [o.ref for o in broker.of(entry["orderRef"][4:20], EXITS)]
            if live:
                yield f"{entry['orderRef']} was accepted while {', '.join(live)} were live"


def exits_shrink_first(r: Records) -> Iterator[str]:
    """When a reduction is accepted, reductions and any one exit together sell no more than is held."""
    for entry, broker in r.replay():
        if entry["event"] != "accepted" or not is_ours(entry) or entry["orderRef"][20] != "X":
            continue
        key = broker._whose(entry)
        going = Decimal(entry["quantity"]) + sum((o.left for o in broker.of(key, "X")), ZERO)
        most = max((o.left for o in broker.of(key, EXITS)), default=ZERO)
        if going + most > abs(broker.holds(key)):
            yield f"{entry['orderRef']}: {going} go, an exit is over {most}, and {broker.holds(key)} are held"


def reduced_as_asked(r: Records) -> Iterator[str]:
    """A reduction is for a signal that asked for one, takes out what is there, and no more than was asked for."""
    gone: Counter[str] = Counter()
    for entry, broker in r.replay():
        post = r.by_key.get(str(entry.get("orderRef") or "")[4:20])
        if entry["event"] != "filled" or not is_ours(entry) or entry["orderRef"][20] != "X" or post is None:
            continue
        gone[post.key] += Decimal(entry["quantity"])  # type: ignore[assignment]
        key = broker.owners[entry["orderRef"]]
        left = abs(broker.holds(key)) - Decimal(entry["quantity"])
        if broker.holds(key) * way(entry) >= 0 or left < 0:
            yield f"{entry['orderRef']} {entry['action']} {entry['quantity']} of {broker.holds(key)}"
        entered = sum((o.filled for o in broker.orders.values() if o.key == key and o.leg in "EA"), ZERO)
        if gone[post.key] > entered - _least(post, entered):
            yield f"{entry['orderRef']} took out {gone[post.key]} of {entered} for {post.body}"


def _least(post: Post, entered: Decimal) -> Decimal:
    """Return what a signal leaves of so much, at least."""
    if post.action == "open":
        return post.quantity if post.body["action"] == "strategy" else entered
    if "percent" in post.body:
        return entered * (100 - Decimal(str(post.body["percent"]))) / 100
    return entered - post.quantity if post.action == "part" else ZERO


def one_size_an_order(r: Records) -> Iterator[str]:
    """No order but an exit is ever changed in its size."""
    for entry, broker in r.replay():
        if entry["event"] == "modified" and is_ours(entry) and entry["orderRef"][20] not in EXITS:
            before = broker.orders[entry["permId"]].quantity
            if before != Decimal(entry["quantity"]):
                yield f"{entry['orderRef']} was changed from {before} to {entry['quantity']}"


def one_answer_a_signal(r: Records) -> Iterator[str]:
    """A resend is a duplicate of the first; nothing valid is refused."""
    for post in r.posts:
        ids = {told.get("id") for status, told in post.answers if status in (200, 202)}
        queued = sum(status == 202 for status, _ in post.answers)
        refused = [status for status, _ in post.answers if status not in (200, 202, 503)]
        if len(ids) > 1 or queued > 1 or refused:
            yield f"{post.body} was answered {post.answers}"


# ---- once all has settled ----


def every_signal_has_one_outcome(r: Records) -> Iterator[str]:
    """Each accepted signal is in the inbox once, with one outcome, or waits with an alarm that says for what."""
    inbox = Counter(i["signal_id"] for i in r.inbox)
    accepted = {post.signal_id for post in r.posts}
    yield from (f"signal {each} is {inbox[each]} times in the inbox" for each in accepted if inbox[each] != 1)
    yield from (f"signal {each} was never accepted" for each in inbox if each not in accepted)
    for row in r.inbox:
        if (row["state"] != "done" or row["outcome"] not in OUTCOMES) and not r.may_wait(row["symbol"]):
            yield f"{row['action']} {row['symbol']} {row['signal_id']} is {row['state']}, {row['outcome']}: {row['reason']}"


def entered_means_entered(r: Records) -> Iterator[str]:
    """`entered` and an order at the broker go together, for each signal."""
    at_broker = {e["orderRef"][4:20] for e in r.truth
                 if e["event"] == "accepted" and is_ours(e) and e["orderRef"][20] == "E"}  # fmt: skip
    outcome = {i["signal_id"]: i["outcome"] for i in r.inbox}
    for post in r.posts:
        said, done = outcome.get(post.signal_id) == "entered", post.key in at_broker
        if said is not done and not r.on_hold(post.symbol):
            yield f"{post.body} is {outcome.get(post.signal_id)!r}, its entry is {'' if done else 'not '}at the broker"


def protected(r: Records) -> Iterator[str]:
    """A position that was asked to have a stop has exactly one of its size, on the right side, or an alarm names it."""
    broker = r.broker()
    for key, post in r.by_key.items():
        held = broker.holds(key)
        if not held or post.body.get("sl") is None or r.alarmed(post.symbol, but=OF_SIGNALS):
            continue
        stops = broker.of(key, STOPS)
        more = sum((o.left for o in broker.of(key, "E")), ZERO)  # a stop may be as large as what it can become
        right = [o for o in stops if o.way * held < 0 and abs(held) <= o.left <= abs(held) + more]
        if len(stops) != 1 or not right:
            yield f"{post.symbol}: {held} held with the stops {[(o.ref, o.way * o.left) for o in stops]}"


def no_exit_is_too_large(r: Records) -> Iterator[str]:
    """No exit lives for a position that is gone, and none is larger than what its signal holds, or may still hold."""
    broker = r.broker()
    for order in broker.orders.values():
        post = r.by_key.get(order.key)
        if order.leg == "E" or not order.left or (post is not None and r.on_hold(post.symbol)):
            continue
        most = abs(broker.holds(order.key)) + sum((o.left for o in broker.of(order.key, "E")), ZERO)
        if order.left > most:
            yield f"{order.ref} is live with {order.left}, and at most {most} is there"


def same_executions(r: Records) -> Iterator[str]:
    """The journal has the broker's executions, all of them and no other."""
    broker = {e["execId"]: (e.get("orderRef") or "", signed(e), Decimal(e["price"]))
              for e in r.truth if e["event"] == "filled"}  # fmt: skip
    journal = {f["exec_id"]: (f["order_ref"], signed(f), Decimal(f["price"])) for f in r.fills}
    for each in broker.keys() | journal.keys():
        if broker.get(each) != journal.get(each):
            yield f"{each} is {broker.get(each)} at the broker and {journal.get(each)} in the journal"


def same_position(r: Records) -> Iterator[str]:
    """In each contract the broker's position is the sum of our executions, and what the unfinished trades hold."""
    shown = {e["conId"]: Decimal(e["quantity"]) for e in r.truth if e["event"] == "position"}
    unfinished = {t["id"] for t in r.trades if not t["closed"]}
    for con_id, position in shown.items():
        ours = sum((signed(f) for f in r.fills if f["con_id"] == con_id), ZERO)
        held = sum((signed(f) for f in r.fills if f["con_id"] == con_id and f["trade_id"] in unfinished), ZERO)
        if not position == ours == held:
            yield f"contract {con_id}: the broker shows {position}, executions {ours}, unfinished trades {held}"


def a_close_ends_flat(r: Records) -> Iterator[str]:
    """After a close, with no later entry, nothing is held in its symbol, or an alarm names it."""
    broker, last = r.broker(), dict[str, str]()
    held: Counter[str] = Counter()
    for post in r.posts:
        if post.action != "reset":
            last[post.symbol] = post.action
        held[post.symbol] += broker.holds(post.key)  # type: ignore[assignment]
    for symbol, action in last.items():
        if action == "close" and held[symbol] and not r.alarmed(symbol):
            yield f"{symbol} was closed last, and holds {held[symbol]}"


def as_large_as_its_strategy(r: Records) -> Iterator[str]:
    """What came down to a strategy's size has it, unless its exits took more since; or an alarm names it."""
    broker, outcome = r.broker(), {i["signal_id"]: i["outcome"] for i in r.inbox}
    last = {post.symbol: post for post in r.posts if post.action != "reset"}
    for symbol, post in last.items():
        if post.body["action"] != "strategy" or outcome.get(post.signal_id) != "reduced" or r.alarmed(symbol):
            continue
        held = sum((broker.holds(each.key) for each in r.posts if each.symbol == symbol), ZERO)
        if held * post.way > post.quantity:
            yield f"{post.body} was reduced, and {held} are held"


def every_hold_is_told(r: Records) -> Iterator[str]:
    """A trade on hold has its alarm and its evidence."""
    told = {a["trade_id"] for a in r.alarms if a["kind"] == "hold" and a["cleared_at"] is None}
    for trade in r.trades:
        if trade["state"] == "hold" and (trade["id"] not in told or not trade["evidence"]):
            yield f"trade {trade['id']} in {trade['symbol']} is on hold without its alarm or its evidence"


def written_as_it_was(r: Records) -> Iterator[str]:
    """Prices are the averages over the executions, and `tp_hit` says whether the last exit was the take-profit."""
    keys, owners = {post.signal_id: post.key for post in r.posts}, r.broker().owners
    for trade in r.trades:
        mine = [e for e in r.truth if e["event"] == "filled" and is_ours(e)
                and owners[e["orderRef"]] == keys.get(trade["signal_id"])]  # fmt: skip
        exits = [e for e in mine if e["orderRef"][20] not in "EA"]
        yield from _averaged(trade, "entry_price", [e for e in mine if e not in exits])
        if trade["closed"]:
            yield from _averaged(trade, "exit_price", exits)
            if bool(trade["tp_hit"]) is not bool(exits and exits[-1]["orderRef"][20] == "T"):
                yield f"trade {trade['id']} has tp_hit {trade['tp_hit']}, its exits were {[e['orderRef'] for e in exits]}"


def _averaged(trade: Row, column: str, fills: list[Row]) -> Iterator[str]:
    size = sum((Decimal(e["quantity"]) for e in fills), ZERO)
    worth = sum((Decimal(e["quantity"]) * Decimal(e["price"]) for e in fills), ZERO)
    said = None if trade[column] is None else Decimal(str(trade[column]))
    right = said is None if not size else said is not None and abs(said - worth / size) <= CLOSE_ENOUGH
    if not right:
        yield f"trade {trade['id']} has {column} {said}, its {len(fills)} executions average {worth / (size or 1)}"


def nobody_is_asked_needlessly(r: Records) -> Iterator[str]:
    """All that happens in a session can be established afterwards: no page is left open, and nothing on hold."""
    unfilled = {o.ref[4:20] for o in r.broker().orders.values() if o.leg == "X" and o.over}
    not_reduced = {post.symbol for key, post in r.by_key.items() if key in unfilled}
    for alarm in r.alarms:
        choice = alarm["kind"] in OWNERS_CHOICE or (alarm["kind"] == "not reduced" and alarm["symbol"] in not_reduced)
        if alarm["level"] == "page" and alarm["cleared_at"] is None and not choice:
            yield f"{alarm['kind']}: {alarm['text']}"


Law = Callable[[Records], Iterator[str]]
ALWAYS: tuple[Law, ...] = (
    accepted_once, entered_as_asked, one_trade_a_symbol, blocked_side_stays_out, exits_gone_before_a_close,
    exits_shrink_first, reduced_as_asked, one_size_an_order, one_answer_a_signal,
)  # fmt: skip
SETTLED: tuple[Law, ...] = (
    every_signal_has_one_outcome, entered_means_entered, protected, no_exit_is_too_large, same_executions, same_position,
    a_close_ends_flat, as_large_as_its_strategy, every_hold_is_told, written_as_it_was, nobody_is_asked_needlessly,
)  # fmt: skip


def broken(records: Records, laws: tuple[Law, ...]) -> list[str]:
    """Return every law that is broken, in words."""
    return [f"{law.__name__}: {text}" for law in laws for text in law(records)]
