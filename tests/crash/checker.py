"""What must hold after a run. It reads two records, nothing else: the broker's log and the journal."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ZERO, CENT = Decimal(0), Decimal("0.000001")  # the journal's prices are numbers of at most ten decimals
DEAD = ("cancelled", "inactive", "rejected", "lost")
OF_SIZES = ("size differs", "not reduced")  # pages that say nothing of a stop
TABLES = ("inbox", "trades", "orders", "fills", "alarms")


@dataclass(frozen=True)
class Records:
    """The broker's log, and the journal's tables."""

    truth: list[Row]
    inbox: list[Row] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    alarms: list[Row] = field(default_factory=list)


def read(truth: Path, journal: Path) -> Records:
    """Return what both say now. Raises sqlite3.Error while there is no journal."""
    lines = truth.read_bytes().splitlines(keepends=True) if truth.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=2)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")  # all tables of one moment
        tables = {name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")] for name in TABLES}
    return Records(entries, **tables)


def violations(records: Records, signals: int) -> list[str]:
    """Return every rule that is broken, in words; `signals` is how many the relay accepted."""
    return [f"{rule.__name__}: {text}" for rule in RULES for text in rule(records, signals)]


# ---- the broker's side ----


def live_orders(truth: list[Row]) -> dict[int, Row]:
    """Return permId → order, as it was last accepted or modified, of those that can still fill."""
    orders: dict[int, Row] = {}
    filled: defaultdict[int, Decimal] = defaultdict(Decimal)
    for entry in truth:
        perm_id = entry.get("permId", 0)
        if entry["event"] in ("accepted", "modified", "trailed"):
            orders[perm_id] = entry
        elif entry["event"] in DEAD:
            orders.pop(perm_id, None)
        elif entry["event"] == "filled":
            filled[perm_id] += Decimal(entry["quantity"])
    left = {perm_id: Decimal(order["quantity"]) - filled[perm_id] for perm_id, order in orders.items()}
    return {perm_id: {**order, "left": left[perm_id]} for perm_id, order in orders.items() if left[perm_id] > 0}


def executions(truth: list[Row]) -> list[Row]:
    return [entry for entry in truth if entry["event"] == "filled"]


def signed(row: Row) -> Decimal:
    """Return an execution's quantity, below zero for a sale."""
    side = str(row.get("action") or row.get("side")).upper()
    return Decimal(row["quantity"]) * (1 if side.startswith("B") else -1)


def ours(entry: Row) -> bool:
    return str(entry.get("orderRef") or "").startswith("sx1:")


# ---- the rules ----


def once_accepted(records: Records, signals: int) -> Iterator[str]:
    """At most one order was accepted under one order_ref, and under one order id."""
    accepted = [entry for entry in records.truth if entry["event"] == "accepted" and ours(entry)]
    refs = Counter(entry["orderRef"] for entry in accepted)
    ids = Counter((entry["clientId"], entry["orderId"]) for entry in accepted)
    for key, count in [*refs.items(), *ids.items()]:
        if count > 1:
            yield f"{count} orders were accepted under {key}"


def every_signal_has_its_outcome(records: Records, signals: int) -> Iterator[str]:
    """Each accepted signal is in the inbox, with one outcome or behind a hold that has an alarm."""
    if len(records.inbox) != signals:
        yield f"{signals} signals were accepted, {len(records.inbox)} are in the inbox"
    told = {row["symbol"] for row in records.alarms if row["cleared_at"] is None and row["kind"] == "hold"}
    for row in records.inbox:
        if (row["state"] != "done" or row["outcome"] is None) and row["symbol"] not in told:
            yield f"signal {row['signal_id']} is {row['state']}: {row['reason']}"
    standing = {row["key"] for row in records.alarms if row["cleared_at"] is None}
    for trade in records.trades:
        if trade["state"] == "hold" and (f"hold:{trade['id']}" not in standing or not trade["evidence"]):
            yield f"trade {trade['id']} is on hold without an alarm or without evidence"


def protected(records: Records, signals: int) -> Iterator[str]:
    """A position that was asked to have a stop has one of its size at the broker, or an alarm says so."""
    live = {order["orderRef"]: order for order in live_orders(records.truth).values()}
    pages = [row for row in records.alarms if row["cleared_at"] is None and row["level"] == "page"]
    told = {row["symbol"] for row in pages if row["kind"] not in OF_SIZES}
    for trade in records.trades:
        refs = {o["order_ref"]: o["leg"] for o in records.orders if o["trade_id"] == trade["id"]}
        held = sum((signed(e) for e in executions(records.truth) if e.get("orderRef") in refs), ZERO)
        stops = [live[ref] for ref, leg in refs.items() if leg in "SRKL" and ref in live]
        wrong = [o for o in stops if (o["action"] == "SELL") is not (held > 0)]
        size = sum((order["left"] for order in stops), ZERO)
        if trade["stop_wanted"] and held and (size != abs(held) or wrong) and trade["symbol"] not in told:
            yield f"trade {trade['id']} holds {held} with stops of {size}"


def same_fills(records: Records, signals: int) -> Iterator[str]:
    """The journal's fills are the broker's executions."""
    broker = {e["execId"]: (e.get("orderRef") or "", signed(e), Decimal(e["price"])) for e in executions(records.truth)}
    journal = {f["exec_id"]: (f["order_ref"], signed(f), Decimal(f["price"])) for f in records.fills}
    for exec_id in broker.keys() | journal.keys():
        if broker.get(exec_id) != journal.get(exec_id):
            yield f"execution {exec_id} is {broker.get(exec_id)} at the broker, {journal.get(exec_id)} in the journal"


def same_position(records: Records, signals: int) -> Iterator[str]:
    """Executions add up to the position, and so do the journal's trades."""
    for con_id in {e["conId"] for e in executions(records.truth)}:
        summed = sum((signed(e) for e in executions(records.truth) if e["conId"] == con_id), ZERO)
        shown = [e for e in records.truth if e["event"] == "position" and e["conId"] == con_id]
        position = Decimal(shown[-1]["quantity"]) if shown else ZERO
        open_ids = {t["id"] for t in records.trades if t["con_id"] == con_id and not t["closed"]}
        held = sum((signed(f) for f in records.fills if f["trade_id"] in open_ids), ZERO)
        if not summed == position == held:
            yield f"executions say {summed}, the position {position}, the open trades {held}"
    for trade in records.trades:
        left = sum((signed(f) for f in records.fills if f["trade_id"] == trade["id"]), ZERO)
        if trade["closed"] and left:
            yield f"trade {trade['id']} is closed and holds {left}"


RESIZED = "TSRKL"  # legs that go out again in another size, under the same id


def sized_as_committed(records: Records, signals: int) -> Iterator[str]:
    """An order that is no exit has the size that was committed for it, from its first acceptance on."""
    committed = {o["order_ref"]: Decimal(o["quantity"]) for o in records.orders if o["leg"] not in RESIZED}
    for entry in records.truth:
        size = committed.get(str(entry.get("orderRef") or ""))
        if entry["event"] in ("accepted", "modified") and size not in (None, Decimal(entry["quantity"])):
            yield f"{entry['orderRef']} was {entry['event']} for {entry['quantity']}, committed are {size}"


def exits_shrink_first(records: Records, signals: int) -> Iterator[str]:
    """When a reduction is accepted, neither it with any one exit, nor two of them, would sell more than is held."""
    trade_of = {o["order_ref"]: o["trade_id"] for o in records.orders}
    for number, entry in enumerate(records.truth):
        if entry["event"] != "accepted" or not ours(entry) or entry["orderRef"][20] != "X":
            continue
        before, trade = records.truth[: number + 1], trade_of.get(entry["orderRef"])
        held = sum((signed(e) for e in executions(before) if trade_of.get(e.get("orderRef")) == trade), ZERO)
        live = [o for o in live_orders(before).values() if trade_of.get(o["orderRef"]) == trade]
        going = sum((o["left"] for o in live if o["orderRef"][20] == "X"), ZERO)
        most = max((o["left"] for o in live if o["orderRef"][20] in RESIZED), default=ZERO)
        if going + most > abs(held):
            yield f"{entry['orderRef']} was accepted with {going} to go and an exit over {most}, and {held} are held"


def nothing_left_behind(records: Records, signals: int) -> Iterator[str]:
    """No order of ours is live for a trade that is finished, or for none, and none is unknown to the journal."""
    unfinished = {t["id"] for t in records.trades if not t["closed"]}
    of = {o["order_ref"]: o["trade_id"] for o in records.orders}
    for order in live_orders(records.truth).values():
        if ours(order) and of.get(order["orderRef"]) not in unfinished:
            yield f"{order['orderRef']} ({order['action']} {order['left']}) is live and its trade is not"


def entered_once(records: Records, signals: int) -> Iterator[str]:
    """No signal entered twice, under whatever attempt, and none for more than it asked."""
    asked = {row["signal_id"]: Decimal(row["quantity"] or 0) for row in records.inbox}
    for signal_id, quantity in asked.items():
        trades = [t["id"] for t in records.trades if t["signal_id"] == signal_id]
        refs = {o["order_ref"] for o in records.orders if o["trade_id"] in trades and o["leg"] == "E"}
        bought = sum((Decimal(e["quantity"]) for e in executions(records.truth) if e.get("orderRef") in refs), ZERO)
        accepted = [e for e in records.truth if e["event"] == "accepted" and e.get("orderRef") in refs]
        if bought > quantity or len(accepted) > 1 or len(trades) > 1:
            yield f"{signal_id} asked for {quantity}: {len(accepted)} entries accepted, {bought} filled"
    known = {o["order_ref"] for o in records.orders}
    for entry in records.truth:
        if entry["event"] in ("accepted", "filled") and ours(entry) and entry["orderRef"] not in known:
            yield f"{entry['orderRef']} was {entry['event']} and is not in the journal"


def ids_rise(records: Records, signals: int) -> Iterator[str]:
    """Each order id is above all that were accepted before it."""
    highest = 0
    for entry in records.truth:
        if entry["event"] == "accepted" and ours(entry):
            if entry["orderId"] <= highest:
                yield f"{entry['orderRef']} was accepted under id {entry['orderId']} after {highest}"
            highest = max(highest, entry["orderId"])


def told_as_it_was(records: Records, signals: int) -> Iterator[str]:
    """Prices are the averages over the executions, and `tp_hit` says whose the last one was: no end is unknown."""
    for trade in records.trades:
        legs = {o["order_ref"]: o["leg"] for o in records.orders if o["trade_id"] == trade["id"]}
        mine = [e for e in executions(records.truth) if e.get("orderRef") in legs]
        exits = [e for e in mine if legs[e["orderRef"]] != "E"]
        if trade["state"] == "hold":
            continue
        yield from _priced(trade, "entry_price", [e for e in mine if e not in exits])
        if trade["closed"]:
            yield from _priced(trade, "exit_price", exits)
            if bool(trade["tp_hit"]) is not bool(exits and legs[exits[-1]["orderRef"]] == "T"):
                yield f"trade {trade['id']} has tp_hit {trade['tp_hit']}, its exits are {[e['orderRef'] for e in exits]}"


def _priced(trade: Row, column: str, found: list[Row]) -> Iterator[str]:
    size = sum((Decimal(e["quantity"]) for e in found), ZERO)
    average = sum((Decimal(e["quantity"]) * Decimal(e["price"]) for e in found), ZERO) / size if size else None
    said = None if trade[column] is None else Decimal(str(trade[column]))
    if said != average and (said is None or average is None or abs(said - average) > CENT):
        yield f"trade {trade['id']} has {column} {said}, its executions average {average}"


RULES = (
    once_accepted, every_signal_has_its_outcome, protected, same_fills, same_position, nothing_left_behind, entered_once,
    ids_rise, told_as_it_was, sized_as_committed, exits_shrink_first,
)  # fmt: skip


def at_rest(records: Records) -> bool:
    """Whether nothing is under way: no order in doubt, no trade between two states."""
    resting = {"open", "hold", "closed", "void"}
    held = {t["id"] for t in records.trades if t["state"] == "hold"}
    moving = [o for o in records.orders if o["state"] == "sending" and o["trade_id"] not in held]
    live = {e["orderRef"] for e in live_orders(records.truth).values() if ours(e)}
    shown = {o["order_ref"] for o in records.orders if o["state"] == "working"}
    still = all(t["state"] in resting and t["shrink_to"] is None for t in records.trades)
    return not moving and still and not any(_moves_yet(records, held)) and (live == shown or bool(held))


def _moves_yet(records: Records, held: set[int]) -> Iterator[bool]:
    """Say of each exit whether its price is still to change, or to be read: what was asked for, and a stop that trails."""
    told = {e["orderRef"]: e for e in live_orders(records.truth).values() if ours(e)}
    for trade in records.trades:
        orders = [o for o in records.orders if o["trade_id"] == trade["id"] and trade["id"] not in held]
        if trade["state"] == "open" and orders:
            yield trade["stop_aim"] is not None or trade["target_aim"] is not None
            yield trade["trail"] is not None and not any(o["kind"] == "TRAIL" for o in orders)
        for order in (o for o in orders if o["state"] == "working"):
            stop = told.get(order["order_ref"], {}).get("trailStopPrice")
            yield order["wish"] is not None or (order["kind"] == "TRAIL" and stop not in (None, order["price"]))
