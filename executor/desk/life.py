"""From facts to states: what the journal's facts make of orders and trades, and what each new state means for its rows.

Nothing is sent from here. The table of a trade's life is in `trades`; this keeps the rows in step with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from common.clock import Clock
from common.errors import IllegalTransition
from common.logs import get_logger
from common.signals import decimal_text
from executor.core.policy import Policy
from executor.core.trades import (
    STOPS,
    ZERO,
    Event,
    Leg,
    Order,
    OrderState,
    State,
    Trade,
    following,
    observed,
    order_state,
)
from executor.desk.alarms import Alarms
from executor.journal.journal import Journal

log = get_logger(__name__)


class Life:
    """Take trades through their life, in one transaction each. Every call may be repeated: the journal stays the same."""

    def __init__(self, journal: Journal, alarms: Alarms, clock: Clock, policy: Policy) -> None:
        self._journal = journal
        self._alarms = alarms
        self._clock = clock
        self._policy = policy

    def refresh(self, trade_id: int) -> Trade:
        """Bring a trade's orders, columns and state up to its facts, and return it."""
        with self._journal.transaction():
            self._refresh_orders(self._journal.trade(trade_id))
            trade = self._journal.trade(trade_id)
            self._refresh_columns(trade)
            while event := observed(trade):
                if _following(trade, event) is trade.state:
                    break
                trade = self.move(trade, event)
            return trade

    def _refresh_orders(self, trade: Trade) -> None:
        for order in trade.orders:
            known = replace(order, filled=self._journal.filled(order.order_ref))
            state = order_state(known)
            if (state, known.filled) == (order.state, order.filled):
                continue
            done = {"done_at": self._clock.now()} if replace(known, state=state).is_done else {}
            self._journal.change_order(order.order_ref, state=state.value, filled=known.filled, **done)
            self._announce_order(trade, replace(known, state=state), order.state)

    def _announce_order(self, trade: Trade, order: Order, before: OrderState) -> None:
        expected = order.cancel_asked_at is not None or trade.held == 0
        kinds = {OrderState.REJECTED: "rejected", OrderState.CANCELLED: "cancelled"}
        if order.state is before or order.state not in kinds:
            return
        text = f"{order.leg.word} {kinds[order.state]}" + (f": {order.reason}" if order.reason else "")
        if order.state is OrderState.CANCELLED and not expected and not order.reason:
            text += " at the broker, not by this program"
        self._journal.log(
            f"{order.leg.word} {kinds[order.state]}",
            text,
            symbol=trade.symbol,
            trade_id=trade.id,
            order_ref=order.order_ref,
        )

    def _refresh_columns(self, trade: Trade) -> None:
        stop = next((o for o in reversed(trade.orders) if o.leg in STOPS), None)
        target = next((o for o in trade.legs(Leg.TAKE_PROFIT)), None)
        values: dict[str, object] = {
            "entry_price": self._entry_price(trade), "exit_price": self._exit_price(trade),
            "tp_price": target and target.price, "sl_price": stop and stop.price,
            "tp_order_id": target and target.order_id, "sl_order_id": stop and stop.order_id,
        }  # fmt: skip
        if trade.entry_is_done and trade.entered > 0:
            values["position_size"] = trade.entered
        self._journal.change_trade(trade.id, **{k: v for k, v in values.items() if v is not None})
        self._refresh_timers(trade)

    def _entry_price(self, trade: Trade) -> Decimal | None:
        entry = trade.entry
        if entry is None:
            return None
        return _average(f[2:] for f in self._journal.fills_of(trade.id) if f[0] == entry.order_ref)

    def _exit_price(self, trade: Trade) -> Decimal | None:
        """The average over everything that took the trade out, None while any of it has no price."""
        entry_ref = trade.entry and trade.entry.order_ref
        exits = [f[2:] for f in self._journal.fills_of(trade.id) if f[0] != entry_ref]
        priced = sum((q for q, _ in exits), ZERO)
        return _average(exits) if priced == trade.exited + max(trade.reduced, ZERO) else None

    def _refresh_timers(self, trade: Trade) -> None:
        """Remember since when a wanted stop is missing, and since when orders are loose."""
        now = self._clock.now()
        loose = trade.entry_is_done and trade.held <= 0 and bool(trade.live)
        bare = trade.state in _HOLDING and not trade.is_protected
        wanted = {"loose_at": now if loose else None, "unprotected_at": now if bare else None}
        standing = {"loose_at": trade.loose_at, "unprotected_at": trade.unprotected_at}
        changed = {k: v for k, v in wanted.items() if (v is None) is not (standing[k] is None)}
        if changed:
            self._journal.change_trade(trade.id, **changed)
        if not bare:
            self._alarms.clear(
                "unprotected", str(trade.id), f"{trade.symbol}: the stop-loss is in place again, or no longer needed",
                symbol=trade.symbol, trade_id=trade.id,
            )  # fmt: skip

    # ---- from state to state ----

    def move(self, trade: Trade, event: Event, **columns: object) -> Trade:
        """Take a trade through one event of its life, with what that means for the journal's rows.

        Raises:
            IllegalTransition: The table forbids it: a bug of ours.
        """
        state = _following(trade, event)
        if event is Event.ENTERED and state is not trade.state:
            columns["unprotected_at"] = None  # what the stop lacked while the entry filled counts from now
        with self._journal.transaction():
            self._journal.change_trade(trade.id, state=state.value, **columns)
            if state is not trade.state:
                log.info("trade", symbol=trade.symbol, trade_id=trade.id, state=state.value, by=event.value)
                self._entered_state(self._journal.trade(trade.id), event)
            moved = self._journal.trade(trade.id)
            if not state.is_finished:
                self._refresh_timers(moved)
        return self._journal.trade(trade.id)

    def freeze(self, trade_id: int, why: str) -> bool:
        """Put a trade on hold whatever its state is, since the program went wrong over it; False where it is already."""
        if self._journal.trade(trade_id).state is State.HOLD:
            return False
        with self._journal.transaction():
            self._journal.change_trade(trade_id, state=State.HOLD.value, hold_reason=why)
            self._held(self._journal.trade(trade_id), None)
        return True

    def _entered_state(self, trade: Trade, event: Event) -> None:
        if trade.state is State.VOID:
            self._void(trade)
        elif trade.state is State.CLOSED:
            self.closed(trade)
        elif trade.state is State.OPEN and event is Event.ENTERED:
            self._opened(trade)
        elif trade.state is State.HOLD:
            self._held(trade, event)

    def _opened(self, trade: Trade) -> None:
        price, part = self._entry_price(trade), "" if trade.entered == trade.asked else f" of {trade.asked}"
        text = f"{trade.side.value} {trade.entered}{part} {trade.symbol} entered at {_plain(price)}"
        self._journal.log("opened", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)

    def _void(self, trade: Trade) -> None:
        for order in trade.orders:
            if order.state is OrderState.PLANNED:
                self._journal.change_order(
                    order.order_ref, state=OrderState.CANCELLED.value, reason=order.reason or "never sent"
                )
        now = self._clock.now()
        self._journal.change_trade(trade.id, closed=1, closed_at=now, exit_reason="never filled")
        reason = (
            next((o.reason for o in self._journal.trade(trade.id).orders if o.reason), None)
            or "cancelled before it filled"
        )
        outcome = "expired" if now > trade.valid_until and trade.refusal is None else "refused"
        self._journal.revise_signal(trade.signal_id, outcome, f"{trade.symbol}: nothing was entered: {reason}")
        self._journal.log("not entered", reason, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)
        self._end_alarms(trade)
        if outcome == "expired":
            self._alarms.raise_("expired signal", trade.signal_id, f"{trade.symbol}: {reason}", symbol=trade.symbol)

    def closed(self, trade: Trade) -> None:
        """Write down how a closed trade ended, as its executions tell it now."""
        reason, leg = self._exit_reason(trade)
        tp_hit = int(leg is Leg.TAKE_PROFIT)
        exit_price = None if reason == "unknown" else self._exit_price(trade)
        self._journal.change_trade(
            trade.id, closed=1, closed_at=self._clock.now(), exit_reason=reason, tp_hit=tp_hit, exit_price=exit_price
        )
        result = f" at {_plain(exit_price)}" if exit_price is not None else "; the exit price is not known"
        came = trade.entered or -trade.reduced  # by its executions, or by the owner's word
        text = f"{trade.side.value} {came} {trade.symbol} closed by {reason}{result}"
        self._journal.log("closed", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)
        self._end_alarms(trade)
        if tp_hit:
            self._block(trade, "its last trade took profit")
        elif reason == "unknown":
            self._unknown_exit(trade)

    def _exit_reason(self, trade: Trade) -> tuple[str, Leg | None]:
        """Name the exit by what took the last quantity out; `unknown` where no execution tells."""
        if trade.exit_reason:
            return trade.exit_reason, None
        by_ref = {o.order_ref: o.leg for o in trade.orders}
        exits = [f[0] for f in self._journal.fills_of(trade.id) if by_ref.get(f[0]) is not Leg.ENTRY]
        if not exits:
            return "unknown" if trade.entered else "never filled", None
        leg = by_ref.get(exits[-1])
        if leg is None:
            return "by hand", None
        return (trade.close_cause or "close signal") if leg is Leg.CLOSE else leg.word, leg

    def _block(self, trade: Trade, why: str) -> None:
        self._journal.set_block(trade, why)
        text = f"no new {trade.side.value} in {trade.symbol}: {why}"
        self._journal.log("block set", text, symbol=trade.symbol, trade_id=trade.id)

    def _unknown_exit(self, trade: Trade) -> None:
        text = f"how the {trade.side.value} trade in {trade.symbol} ended cannot be known: its executions are gone. Look in TWS"
        if self._policy.unknown_exit == "block":
            self._block(trade, "how its last trade ended is not known, it may have taken profit")
            text += "; re-entry on that side is blocked until you release it"
        self._alarms.raise_("unknown exit", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id)

    def _held(self, trade: Trade, event: Event | None) -> None:
        reason = trade.hold_reason or _HOLD_REASONS[event]
        if trade.state is State.HOLD and self._journal.open_trade(trade.account, trade.con_id) is None:
            self._journal.change_trade(trade.id, closed=0)
        evidence = {} if event is Event.DOUBT else {"evidence": self._evidence(trade)}  # a doubt brings its own
        self._journal.change_trade(trade.id, hold_reason=reason, **evidence)
        text = f"{trade.symbol} is on hold: {reason}. Choose on the page: adopt, flatten or dismiss"
        self._journal.log("hold", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)
        self._alarms.raise_("hold", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id)

    def _evidence(self, trade: Trade) -> str:
        """Return as JSON what the journal knows, for the owner's eyes."""
        fills = [
            f"{side.value} {q} at {p}: {ref or 'not ours'}" for ref, side, q, p in self._journal.fills_of(trade.id)
        ]
        seen = {"journal says held": trade.held, "orders": [o.summary for o in trade.orders], "executions": fills}
        return json.dumps(seen, default=str)

    def _end_alarms(self, trade: Trade) -> None:
        for kind in (
            "unprotected",
            "hold",
            "close waits",
            "take-profit lost",
            "position mismatch",
            "contract",
            "exit too large",
        ):
            self._alarms.clear(
                kind, str(trade.id), f"{trade.symbol}: the trade is over", symbol=trade.symbol, trade_id=trade.id
            )


_HOLDING = (
    State.WORKING,
    State.OPEN,
    State.CANCELLING,
    State.CLOSING,
    State.HOLD,
)  # where a stop that was asked for may be missing
_HOLD_REASONS: dict[Event | None, str] = {
    Event.REFUSED: "the close order was refused or cancelled, and the position is still there",
    Event.FLIPPED: "its exits filled more than the trade held: the position may have turned over",
    Event.LATE_FILL: "an execution arrived for a trade that was already finished",
}


def _following(trade: Trade, event: Event) -> State:
    try:
        return following(trade.state, event)
    except IllegalTransition as exc:
        raise IllegalTransition(str(exc), trade.id) from exc


def _plain(price: Decimal | None) -> str:
    return "an unknown price" if price is None else decimal_text(price)


def _average(fills: Iterable[tuple[Decimal, Decimal]]) -> Decimal | None:
    pairs = list(fills)
    quantity = sum((q for q, _ in pairs), ZERO)
    return round(sum((q * p for q, p in pairs), ZERO) / quantity, 10) if quantity else None
