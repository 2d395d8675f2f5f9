"""The journal's rows as values and back: exact decimals and instants are text in the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from common.chain import Chain
from common.clock import parse_utc, utc_text
from common.exits import Distance, distance, exit_text, price_distance_or_entry
from common.signals import Action, Side, Signal, decimal_text, parse_payload
from executor.core.conditions import CONDITIONS, AlarmKind, Level
from executor.core.orders import Aim, Execution, Leg, Order, OrderState, Reduction
from executor.core.outcomes import CloseCause, ExitReason, Outcome, SignalState
from executor.core.ports import Kind, Status
from executor.core.trades import State, Trade

Row = dict[str, object]
OWNERS = (
    "page-"  # what the ids begin with of signals that the owner asked for; the relay's are letters and digits alone
)


@dataclass(frozen=True, slots=True)
class InboxRow:
    """One signal of the inbox."""

    seq: int
    signal_id: str
    received_at: datetime
    expires_at: datetime | None
    signal: Signal
    state: SignalState = SignalState.WAITING
    trade_id: int | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    decided_at: datetime | None = None
    late: bool = False  # its strategy has moved on: it belongs before an alert that came earlier

    @property
    def is_owners(self) -> bool:
        """True if the owner asked for it on the page."""
        return self.signal_id.startswith(OWNERS)

    def as_received(self) -> InboxRow:
        """Return it as it was when it was received."""
        return InboxRow(self.seq, self.signal_id, self.received_at, self.expires_at, self.signal, late=self.late)


@dataclass(frozen=True, slots=True)
class Block:
    """A side of a contract on which no entry is allowed, and why."""

    con_id: int
    symbol: str
    side: Side
    since: datetime
    reason: str
    trade_id: int | None
    sure: bool  # whether it is known that the last trade took profit


@dataclass(frozen=True, slots=True)
class Holding:
    """What the owner holds in a contract and chose to leave alone."""

    con_id: int
    symbol: str
    quantity: Decimal
    chosen_at: datetime


@dataclass(frozen=True, slots=True)
class Meaning:
    """Which contract a symbol meant when it was last looked up, and when that was."""

    symbol: str
    con_id: int
    used_at: datetime


@dataclass(frozen=True, slots=True)
class StrategyChain:
    """The chain of a strategy's alerts in one symbol, and the receipt of its last; one that tells no name is ""."""

    symbol: str
    strategy_name: str
    chain: Chain
    received_at: datetime
    opened_by: str | None  # its newest alert that has exits of its own; None where it is not known

    @property
    def key(self) -> tuple[str, str]:
        return self.symbol, self.strategy_name

    @property
    def came_late(self) -> str | None:
        """Which alert the last late one belongs before, as the relay keys its notice; None where none was late.

        The relay noticed that one was missing when that alert came: the key is its symbol and receipt.
        """
        gap = self.chain.gap
        return f"{self.symbol} {utc_text(gap.at)}" if gap and gap.filled else None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One open alarm; `about` is its object, "" where there is only one of its kind."""

    kind: AlarmKind
    about: str
    text: str
    symbol: str
    trade_id: int | None
    raised_at: datetime

    @property
    def key(self) -> str:
        return f"{self.kind.value}:{self.about}"

    @property
    def level(self) -> Level:
        return CONDITIONS[self.kind].level


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the trade log."""

    at: datetime
    kind: str
    details: str
    symbol: str = ""
    trade_id: int | None = None
    signal_id: str | None = None
    order_ref: str | None = None


def number_text(value: Decimal | None) -> str | None:
    """Return a number as its exact text."""
    return None if value is None else decimal_text(value)


def time_text(value: datetime | None) -> str | None:
    """Return an instant as the journal's text."""
    return None if value is None else utc_text(value)


def public_number(value: Decimal) -> Decimal:
    """Return a number as a public column of `trades` keeps it: a double, by its shortest text."""
    return Decimal(repr(float(value)))


def _exact(text: str | int | float) -> Decimal:
    number = Decimal(str(text))
    if not number.is_finite():
        raise ValueError(f"{text!r} is no number")
    return number


def _number(text: str | int | float | None) -> Decimal | None:
    return None if text is None else _exact(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_utc(text)


def describe(signal: Signal) -> str:
    """Return a signal in a trader's words, for the trade log."""
    if signal.action is Action.REDUCE:
        words = [f"reduce {signal.symbol} to", signal.position or "", f"(was {signal.prev})"]
    else:
        share = f"{decimal_text(signal.percent)}% of" if signal.percent else ""
        words = [signal.action.value, signal.side or "", str(signal.quantity or ""), share, signal.symbol]
    words += [f"take-profit {signal.tp}" if signal.tp else "", f"stop-loss {signal.sl}" if signal.sl else ""]
    words += [f"trailing by {signal.trail}" if signal.trail else "", _targets(signal)]
    words += [
        "break-even after the first" if signal.breakeven_after_target else "",
        "may loosen" if signal.loosen else "",
    ]
    words += [f"of {signal.strategy_name}" if signal.strategy_name else ""]
    words += [f"({signal.note})" if signal.note else "", f"[{signal.warning}]" if signal.warning else ""]
    return " ".join(w for w in words if w)


def _targets(signal: Signal) -> str:
    found = [f"{decimal_text(each.percent)}% at {exit_text(each.tp)}" for each in signal.targets]
    return f"targets {', '.join(found)}" if found else ""


# ---- from values to rows ----


def trade_row(trade: Trade) -> Row:
    """Return a trade's row; its public columns are derived from its orders and executions."""
    entry, target, stop = trade.entry, trade.target, trade.stop
    return {
        "timestamp": utc_text(trade.timestamp), "symbol": trade.symbol, "signal": trade.side.value,
        "position_size": decimal_text(trade.size), "entry_order_id": entry and entry.order_id,
        "tp_order_id": target and target.order_id, "sl_order_id": stop and stop.order_id,
        "entry_price": number_text(trade.entry_price), "adopted_price": number_text(trade.adopted_price),
        "exit_price": number_text(trade.exit_price),
        "tp_price": target and number_text(target.price), "sl_price": stop and number_text(stop.price),
        "tp_hit": int(trade.tp_hit), "closed": int(trade.closed), "state": trade.state.value,
        "signal_id": trade.signal_id, "account": trade.account, "con_id": trade.con_id, "asked": decimal_text(trade.asked),
        "received_at": utc_text(trade.received_at), "valid_until": utc_text(trade.valid_until),
        "reduced": decimal_text(trade.reduced), "missed_at": time_text(trade.missed_at),
        "stop_wanted": int(trade.stop_wanted), "exit_reason": trade.exit_reason and trade.exit_reason.value,
        "close_cause": trade.close_cause and trade.close_cause.value, "hold_reason": trade.hold_reason,
        "closes_forgiven": trade.closes_forgiven, "stops_forgiven": trade.stops_forgiven, "evidence": trade.evidence,
        "unprotected_at": time_text(trade.unprotected_at), "loose_at": time_text(trade.loose_at),
        "strategy_size": number_text(trade.strategy_size), "held": decimal_text(trade.held), **_reduction_row(trade.reduction),
        "trail": trade.trail and str(trade.trail), "breakeven": int(trade.breakeven), **_aim_row(trade),
        "protected_at": time_text(trade.protected_at),
        "sent_at": time_text(trade.sent_at), "filled_at": time_text(trade.filled_at), "closed_at": time_text(trade.closed_at),
    }  # fmt: skip


def _reduction_row(wish: Reduction | None) -> Row:
    if wish is None:
        return dict.fromkeys(("shrink_to", "shrink_for", "shrink_at", "shrink_taken"))
    to, taken = decimal_text(wish.to), decimal_text(wish.taken)
    return {"shrink_to": to, "shrink_for": wish.signal_id, "shrink_at": utc_text(wish.since), "shrink_taken": taken}


def _aim_row(trade: Trade) -> Row:
    stop, target = trade.stop_aim, trade.target_aim
    return {
        "stop_aim": stop and exit_text(stop.at), "stop_aim_for": stop and stop.signal_id,
        "stop_aim_free": int(stop is not None and stop.free),
        "target_aim": target and exit_text(target.at), "target_aim_for": target and target.signal_id,
    }  # fmt: skip


def order_row(trade: Trade, order: Order) -> Row:
    """Return the row of one order of a trade."""
    return {
        "trade_id": trade.id, "leg": order.leg.value, "attempt": order.attempt, "account": trade.account,
        "con_id": trade.con_id, "client_id": order.client_id, "order_id": order.order_id, "perm_id": order.perm_id,
        "side": order.side.value, "kind": order.kind.value, "quantity": decimal_text(order.quantity),
        "price": number_text(order.price), "trail": order.trail and str(order.trail), "wish": number_text(order.wish),
        "state": order.state.value, "filled": decimal_text(order.filled),
        "parent_ref": order.parent_ref, "said": order.said and order.said.value, "said_filled": number_text(order.said_filled),
        "reason": order.reason, "refusal_code": order.refusal_code, "tif": order.tif, "oca_group": order.oca_group,
        "oca_type": order.oca_type, "held": order.held, "sent_at": time_text(order.sent_at), "sent_day": order.sent_day,
        "resends": order.resends, "cancel_asked_at": time_text(order.cancel_asked_at),
        "cancelling_since": time_text(order.cancelling_since),
        "wish_for": order.wish_for, "wish_sent_at": time_text(order.wish_sent_at),
        "sent_prices": " ".join(map(decimal_text, order.sent_prices)) or None,
        "resize_asked_at": time_text(order.resize_asked_at), "done_at": time_text(order.done_at),
        "signal_id": order.signal_id, "pair": order.pair, "percent": number_text(order.percent),
        "distance": order.distance and str(order.distance),
    }  # fmt: skip


def execution_row(execution: Execution, trade_id: int | None) -> Row:
    """Return the row of one execution; `trade_id` is None while no trade accounts for it."""
    return {
        "rowid": execution.seq, "exec_id": execution.exec_id, "order_ref": execution.order_ref, "trade_id": trade_id,
        "account": execution.account, "con_id": execution.con_id, "side": execution.side.value,
        "quantity": decimal_text(execution.quantity), "price": decimal_text(execution.price), "at": utc_text(execution.at),
        "commission": number_text(execution.commission), "liquidation": int(execution.liquidation),
    }  # fmt: skip


def to_be_done(signal: Signal) -> Signal:
    """Return of a signal what is worked on: the relay's own id counts here, and its warning is for the log."""
    return replace(signal, sender_id=None, warning=None)


def wish_row(signal: Signal) -> Row:
    """Return the columns of what a signal asks for, for people and their tools; `inbox_row` reads the signed text."""
    prev, targets = signal.prev, [target.data() for target in signal.targets]
    return {
        "action": signal.action.value, "symbol": signal.symbol, "side": signal.side, "quantity": number_text(signal.quantity),
        "percent": number_text(signal.percent), "tp": signal.tp and exit_text(signal.tp), "sl": signal.sl and exit_text(signal.sl),
        "trail": signal.trail and str(signal.trail), "targets": json.dumps(targets) if targets else None,
        "breakeven_after_target": int(signal.breakeven_after_target), "loosen": int(signal.loosen), "note": signal.note,
        "market_position": signal.market_position, "prev_market_position": prev and prev.market_position,
        "prev_size": prev and number_text(prev.size), "strategy_name": signal.strategy_name,
        "price": number_text(signal.price), "time": time_text(signal.time),
    }  # fmt: skip


def signal_row(row: InboxRow) -> Row:
    """Return what changes in a signal's row."""
    return {
        "state": row.state.value, "outcome": row.outcome and row.outcome.value, "reason": row.reason,
        "trade_id": row.trade_id, "decided_at": time_text(row.decided_at),
    }  # fmt: skip


# ---- from rows to values ----


def inbox_row(r: sqlite3.Row) -> InboxRow:
    """Return a row of `inbox` as a value; what it asks for is read from the signed text, as when it came.

    Raises:
        MalformedSignal: The text is none that this version wrote.
    """
    signal = to_be_done(parse_payload(r["signal_id"], r["payload"]).signal)
    return InboxRow(
        r["seq"], r["signal_id"], parse_utc(r["received_at"]), _time(r["expires_at"]), signal, SignalState(r["state"]),
        r["trade_id"], r["outcome"] and Outcome(r["outcome"]), r["reason"], _time(r["decided_at"]), bool(r["late"]),
    )  # fmt: skip


def trade_of(r: sqlite3.Row, orders: Iterable[Order], executions: Iterable[Execution]) -> Trade:
    """Return a row of `trades`, with its orders and executions, as a value."""
    orders = tuple(orders)
    return Trade(
        id=r["id"], symbol=r["symbol"], side=Side(r["signal"]), account=r["account"], con_id=r["con_id"],
        asked=_exact(r["asked"]), state=State(r["state"]), signal_id=r["signal_id"], received_at=parse_utc(r["received_at"]),
        valid_until=parse_utc(r["valid_until"]), timestamp=parse_utc(r["timestamp"]), stop_wanted=bool(r["stop_wanted"]),
        reduced=_exact(r["reduced"]), missed_at=_time(r["missed_at"]),
        close_cause=r["close_cause"] and CloseCause(r["close_cause"]),
        exit_reason=r["exit_reason"] and ExitReason(r["exit_reason"]), tp_hit=bool(r["tp_hit"]),
        adopted_price=_number(r["adopted_price"]), reduction=_reduction_of(r), strategy_size=_number(r["strategy_size"]),
        unprotected_at=_time(r["unprotected_at"]), loose_at=_time(r["loose_at"]), hold_reason=r["hold_reason"],
        evidence=r["evidence"], closes_forgiven=r["closes_forgiven"], stops_forgiven=r["stops_forgiven"],
        trail=_trail(r["trail"]), breakeven=bool(r["breakeven"]),
        stop_aim=_aim_of(r["stop_aim"], r["stop_aim_for"], free=bool(r["stop_aim_free"])),
        target_aim=_aim_of(r["target_aim"], r["target_aim_for"]), protected_at=_time(r["protected_at"]),
        sent_at=_time(r["sent_at"]), filled_at=_time(r["filled_at"]), closed_at=_time(r["closed_at"]),
        orders=orders, executions=tuple(sorted(executions)),
    )  # fmt: skip


def _trail(text: str | None) -> Distance | None:
    return None if text is None else distance(text)


def _aim_of(at: str | None, signal_id: str | None, *, free: bool = False) -> Aim | None:
    return None if at is None else Aim(price_distance_or_entry(at), signal_id, free)


def _reduction_of(r: sqlite3.Row) -> Reduction | None:
    if r["shrink_to"] is None:
        return None
    return Reduction(_exact(r["shrink_to"]), r["shrink_for"], parse_utc(r["shrink_at"]), _exact(r["shrink_taken"]))


def order_of(r: sqlite3.Row) -> Order:
    """Return a row of `orders` as a value."""
    return Order(
        order_ref=r["order_ref"], leg=Leg(r["leg"]), attempt=r["attempt"], side=Side(r["side"]), kind=Kind(r["kind"]),
        quantity=_exact(r["quantity"]), price=_number(r["price"]), trail=_trail(r["trail"]), wish=_number(r["wish"]),
        state=OrderState(r["state"]), filled=_exact(r["filled"]),
        order_id=r["order_id"], perm_id=r["perm_id"], parent_ref=r["parent_ref"], said=r["said"] and Status(r["said"]),
        said_filled=_number(r["said_filled"]), refusal_code=r["refusal_code"], reason=r["reason"], held=r["held"],
        sent_at=_time(r["sent_at"]), sent_day=r["sent_day"], resends=r["resends"], tif=r["tif"],
        oca_group=r["oca_group"], oca_type=r["oca_type"], cancel_asked_at=_time(r["cancel_asked_at"]),
        cancelling_since=_time(r["cancelling_since"]),
        wish_for=r["wish_for"], wish_sent_at=_time(r["wish_sent_at"]),
        sent_prices=tuple(map(_exact, (r["sent_prices"] or "").split())),
        resize_asked_at=_time(r["resize_asked_at"]), client_id=r["client_id"], done_at=_time(r["done_at"]),
        signal_id=r["signal_id"], pair=r["pair"], percent=_number(r["percent"]),
        distance=None if r["distance"] is None else distance(r["distance"]),
    )  # fmt: skip


def execution_of(r: sqlite3.Row) -> Execution:
    """Return a row of `fills`, selected with its rowid as `seq`, as a value."""
    return Execution(
        at=parse_utc(r["at"]), seq=r["seq"], exec_root=r["exec_root"], exec_id=r["exec_id"], order_ref=r["order_ref"],
        side=Side(r["side"]), quantity=_exact(r["quantity"]), price=_exact(r["price"]), account=r["account"],
        con_id=r["con_id"], commission=_number(r["commission"]), liquidation=bool(r["liquidation"]),
    )  # fmt: skip
