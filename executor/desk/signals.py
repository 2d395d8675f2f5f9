"""Gives every waiting signal its outcome: the rules decide from what book and broker show, this module carries it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from common.clock import Clock
from common.errors import IllegalTransition
from common.logs import get_logger
from common.signals import Action, Distance, Exit, Signal, decimal_text
from executor.core.aims import carried_out
from executor.core.brackets import Bracket, plan_addition, plan_bracket
from executor.core.commands import CommandRefused
from executor.core.conditions import AlarmKind
from executor.core.orders import ZERO, Aim, Reduction
from executor.core.outcomes import Outcome, SignalState
from executor.core.policy import Policy
from executor.core.ports import Broker, Contract
from executor.core.rules import (
    RELAYS_APART,
    UNDER_WAY,
    Add,
    Close,
    Decision,
    Done,
    Enter,
    Protect,
    Reduce,
    View,
    Wait,
    decide,
    late,
    superseded,
    wants_more,
)
from executor.core.trades import Event, State, Trade
from executor.desk.agenda import Agenda
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.desk.gate import Gate
from executor.desk.life import Life
from executor.desk.orders import Orders
from executor.desk.sight import LATE_POSITION, Sight
from executor.journal.rows import InboxRow

log = get_logger(__name__)

STUCK = timedelta(seconds=60)  # how long beyond its validity a signal may go without an outcome
_BEAT = timedelta(seconds=0.5)  # how soon a wait that no message ends is checked again
_ACTS_ON_TRADE = (Action.CLOSE, Action.REDUCE, Action.PROTECT)
_NO_PRICE = (
    "TWS has no price for {} now, so its exits cannot be checked against the market: a stop on the wrong side would "
    "trigger at once. Subscribe to its market data (delayed data will do), or send the alert without exits"
)
_BEING_LOOKED_UP = "the contract is being looked up in TWS"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one signal means now; the bracket where it enters."""

    decision: Decision
    contract: Contract | None = None
    bracket: Bracket | None = None


class Signals:
    """Work on the inbox, in the order of arrival; the signals of one symbol wait for each other, others pass by."""

    def __init__(
        self, book: Book, gate: Gate, sight: Sight, life: Life, alarms: Alarms, orders: Orders, agenda: Agenda, broker: Broker,
        clock: Clock, policy: Policy,
    ) -> None:  # fmt: skip
        self._book, self._gate, self._sight, self._life, self._alarms = book, gate, sight, life, alarms
        self._orders, self._agenda, self._broker, self._clock, self._policy = orders, agenda, broker, clock, policy

    def work(self, symbol: str) -> None:
        """Decide those of a symbol's signals that can be decided, within a change, and note when to check the rest again."""
        ahead: list[InboxRow] = []
        due: datetime | None = None
        for row in self._book.waiting(symbol):
            if _may_pass(row, ahead) and (self._decide_one(row.seq) or self._on_hold(symbol)):
                pass
            elif not self._is_taken_back(row):
                ahead.append(self._book.signal(row.seq) or row)
            waiting = self._book.signal(row.seq)
            if waiting is not None and waiting.state is not SignalState.DONE:
                due = _earlier(due, self._due(waiting))
        self._agenda.at(symbol, due)

    def ask(self, signal: Signal) -> None:
        """Carry out at once what the owner asks for on the page, within a change.

        It is written down as a signal of its own, received now, and judged by the rules of an alert; a size may grow though
        no alert may make it grow.

        Raises:
            CommandRefused: It would have to wait, or changes nothing; the text says why.
        """
        row = self._book.ask(signal)
        verdict = self._judge(row)
        if not isinstance(verdict.decision, Enter | Add | Reduce):
            raise CommandRefused(_refusal(verdict.decision))
        self._carry_out(row, verdict)

    def _superseded(self, row: InboxRow, trade: Trade | None) -> Done | None:
        """Return the end of an entry that waits to be sent, where a later signal took it back; else None."""
        behind = (each.signal for each in self._book.waiting(row.signal.symbol) if each.seq > row.seq)
        return superseded(row.signal, behind, trade) if row.state is SignalState.WAITING else None

    def _is_taken_back(self, row: InboxRow) -> bool:
        """End an entry that waits behind others while nothing can be sent, where a later signal took it back."""
        known = self._book.signal(row.seq)
        over = (
            None
            if known is None or self._gate.can_send
            else self._superseded(known, self._open_trade(row.signal.symbol))
        )
        if known is not None and over is not None:
            self._finish(known, over)
        return over is not None

    def _due(self, row: InboxRow) -> datetime | None:
        """Return when a waiting signal must be checked again even if no fact arrives; one that waits too long is an alarm."""
        now, dues = self._clock.now(), []
        if (valid_until := self._valid_until(row)) is not None and now <= valid_until:
            dues.append(valid_until + timedelta(microseconds=1))
        if self._gate.ready_since is not None:
            if self._open_trade(row.signal.symbol) is None:  # else what happens to the trade wakes its signals
                dues += self._unheard(row)
            stuck_at = max(row.received_at, self._gate.ready_since) + self._policy.validity + STUCK
            if now <= stuck_at:
                dues.append(stuck_at + timedelta(microseconds=1))
            elif row.state is SignalState.WAITING:
                text = (
                    f"{row.signal.action.value} {row.signal.symbol} is still waiting: {row.reason or 'no reason known'}"
                )
                self._alarms.state(AlarmKind.STUCK_SIGNAL, text, row.signal_id, symbol=row.signal.symbol)
        return min(dues, default=None)

    def _unheard(self, row: InboxRow) -> Iterator[datetime]:
        """Say when what a signal waits for may end without a message: TWS takes more again, a resend or a lag is over."""
        now = self._clock.now()
        yield now + (_BEAT if self._broker.is_paced or self._gate.resends else LATE_POSITION)
        contract = self._sight.contracts.get(row.signal.symbol)
        if isinstance(contract, Contract) and (lag := self._sight.lags_until(contract.con_id)) is not None:
            yield lag

    def _on_hold(self, symbol: str) -> bool:
        """True if the symbol's trade waits for the owner: a kept close must not hide the signals behind it."""
        trade = self._open_trade(symbol)
        return trade is not None and trade.state is State.HOLD

    def _open_trade(self, symbol: str) -> Trade | None:
        """Return the symbol's trade; it may be in a contract that the symbol meant before (a future that has rolled on)."""
        return self._book.open_trade(self._book.contract_id(symbol) or 0, symbol)

    def _decide_one(self, seq: int) -> bool:
        """Take one signal as far as it goes; whether it is done. A close may finish at once: then it is decided again."""
        row = self._book.signal(seq)
        while row is not None and row.state is not SignalState.DONE:
            if not self._carry_out(row, self._judge(row)):
                return False
            row = self._book.signal(seq)
        return True

    # ---- what the rules look at ----

    def _judge(self, row: InboxRow) -> Verdict:
        if row.late:
            return Verdict(late(row.signal))
        trade = self._open_trade(row.signal.symbol)
        contract = self._contract(row, trade)
        trade = trade or self._open_trade(row.signal.symbol)  # under the contract's other name
        if isinstance(contract, str):
            self._sight.forget_refusal(row.signal.symbol)
            return Verdict(_without_contract(row, contract))
        view = self._view(row, contract, trade)
        obstacle = self._obstacle(row, contract, trade, view)
        if obstacle:
            return Verdict(self._superseded(row, trade) or Wait(obstacle))
        bracket: Bracket | str | None = None
        if contract is not None and view.is_fresh and self._may_buy(row, trade):
            bracket = self._plan(row, contract, trade)
            objection = self._objection(row, trade) or (bracket if isinstance(bracket, str) else None)
            view = replace(view, objection=objection)
        decision = decide(row.signal, view)
        return Verdict(decision, contract, bracket if isinstance(bracket, Bracket) else None)

    def _may_buy(self, row: InboxRow, trade: Trade | None) -> bool:
        """True if a signal is an entry, or may add to the open trade."""
        if trade is None:
            return row.signal.action is Action.OPEN
        return wants_more(row.signal, trade, self._scales_in(row, trade))

    def _scales_in(self, row: InboxRow, trade: Trade) -> bool:
        return row.is_owners or self._policy.scales_in(trade.symbol)

    def _plan(self, row: InboxRow, contract: Contract, trade: Trade | None) -> Bracket | str:
        price = self._broker.price(contract.con_id)
        if trade is not None:
            return plan_addition(row.signal, row.signal_id, contract, price, trade)
        bracket = plan_bracket(row.signal, row.signal_id, contract, price)
        if price is None and _has_exits(row) and not isinstance(bracket, str):
            return _NO_PRICE.format(row.signal.symbol)
        return bracket

    def _contract(self, row: InboxRow, trade: Trade | None) -> Contract | str | None:
        """Return the contract a signal means, why there is none, or None while it is not known.

        It is asked for where something is to be entered, or where a close finds no trade under a name that was never
        heard of. A trade that is there needs no look: it is closed in its own contract.
        """
        symbol = row.signal.symbol
        if trade is not None and (_needs_contract(row, trade) or self._may_buy(row, trade)):
            return self._sight.contract_of(trade)
        new_name = row.signal.action in _ACTS_ON_TRADE and self._book.contract_id(symbol) is None
        if trade is None and (row.signal.action is Action.OPEN or new_name):
            return self._sight.contract_for(symbol)
        known = self._sight.contracts.get(symbol)
        return known if isinstance(known, Contract) else None

    def _view(self, row: InboxRow, contract: Contract | None, trade: Trade | None) -> View:
        meant = contract.con_id if contract else self._book.contract_id(row.signal.symbol) or 0
        con_id = trade.con_id if trade else meant
        block = self._book.block(meant, row.signal.symbol, row.signal.side)
        beside = self._book.beside(con_id)
        unknown = self._sight.shown(con_id) - beside - (trade.signed if trade else ZERO)
        opposed = beside if row.signal.side and (beside < 0) is (row.signal.side.value == "buy") else ZERO
        return View(
            now=self._clock.now(), received_at=row.received_at, valid_until=self._valid_until(row), trade=trade,
            closed_here=row.state is SignalState.CLOSING and (trade is None or trade.id != row.trade_id),
            block=block.side if block else None, block_is_sure=block is None or block.sure,
            unknown_position=unknown, opposed_holding=opposed,
            scale_in=trade is not None and self._scales_in(row, trade),
            size_step=contract.size_step if contract else Decimal(1), signal_id=row.signal_id, contract=contract,
            market=self._broker.price(con_id) if trade and contract else None,
            agrees=trade is None or (self._sight.shown_of(trade) == trade.held > 0 and self._sight.is_counted(con_id)),
        )  # fmt: skip

    def _valid_until(self, row: InboxRow) -> datetime | None:
        if row.signal.action is not Action.OPEN:
            return None
        own = row.received_at + self._policy.validity
        return own if row.expires_at is None else min(own, row.expires_at)

    def _obstacle(self, row: InboxRow, contract: Contract | None, trade: Trade | None, view: View) -> str | None:
        """Return why this signal cannot be decided yet, in words, or None."""
        action, symbol = row.signal.action, row.signal.symbol
        if action is Action.RESET or (trade is None and not view.is_fresh and contract is not None):
            return None
        if action is Action.OPEN and not view.is_fresh and self._book.contract_id(symbol) is None:
            return None
        if not self._gate.can_send:
            return f"waiting: {self._gate.why_not}"
        if trade is not None and self._may_buy(row, trade) and view.is_fresh:
            return self._entry_obstacle(row, contract, view)
        if trade is not None:
            return _BEING_LOOKED_UP if _needs_contract(row, trade) and contract is None else None
        if action in _ACTS_ON_TRADE:
            return None if contract or self._book.contract_id(symbol) is not None else _BEING_LOOKED_UP
        return self._entry_obstacle(row, contract, view)

    def _entry_obstacle(self, row: InboxRow, contract: Contract | None, view: View) -> str | None:
        if contract is None:
            return _BEING_LOOKED_UP
        if self._gate.resends:
            return "waiting: an order that never arrived is resent first"
        if self._gate.clock_doubt is not None:
            return f"waiting until this computer's clock is compared with the relay's: {self._gate.clock_doubt}"
        if self._broker.is_paced:
            return "waiting: too many messages are queued for TWS"
        told = self._sight.is_counted(contract.con_id)
        if not told or (view.unknown_position and self._sight.may_lag(contract.con_id)):
            return "waiting for TWS to report the position after the last execution"
        if _has_exits(row) and self._sight.awaits_price(row.signal.symbol, contract.con_id):
            return "waiting for a price: the last one is too old to check the exits by"
        return None

    def _objection(self, row: InboxRow, trade: Trade | None) -> str | None:
        """Return why this entry may not be made now, in words, or None."""
        if (closed := self._gate.no_entries) is not None:
            return closed
        symbol, quantity = row.signal.symbol, row.signal.quantity or ZERO
        limit = self._policy.max_quantity.get(symbol)
        if limit is not None and quantity > limit:
            return f"{decimal_text(quantity)} {symbol} is above max_quantity ({decimal_text(limit)})"
        most = self._policy.max_open_trades if trade is None else None
        return f"max_open_trades ({most}) reached" if most is not None and self._book.open_count >= most else None

    # ---- what is made of it ----

    def _carry_out(self, row: InboxRow, verdict: Verdict) -> bool:
        """Do what was decided; whether the signal moved on."""
        match verdict.decision:
            case Wait(reason, page):
                self._book.put_signal(replace(row, reason=reason))
                if page:
                    self._alarms.state(AlarmKind.STUCK_SIGNAL, reason, row.signal_id, symbol=row.signal.symbol)
                return False
            case Done():
                self._finish(row, verdict.decision)
            case Close():
                return self._begin_close(row, verdict.decision)
            case Add() | Reduce() | Protect():
                self._change(row, verdict)
            case Enter():
                self._enter(row, verdict)
        return True

    def _change(self, row: InboxRow, verdict: Verdict) -> None:
        match verdict.decision:
            case Add():
                self._add(row, verdict, verdict.decision)
            case Reduce():
                self._reduce(row, verdict.decision)
            case Protect():
                self._protect(row, verdict.decision)

    def _finish(self, row: InboxRow, done: Done) -> None:
        symbol, outcome, reason = row.signal.symbol, done.outcome, done.reason
        if outcome is Outcome.RESET:
            self._book.release(symbol)
        self._book.finish_signal(row, outcome, reason)
        self._done(row)
        if outcome is Outcome.EXPIRED:
            self._alarms.state(AlarmKind.EXPIRED_SIGNAL, f"{symbol}: {reason}", row.signal_id, symbol=symbol)
        if row.signal.action is Action.PROTECT and done.outcome in (Outcome.NOTHING, Outcome.IGNORED):
            self._newest_protect(row)
        self._compare_with_strategy(row, done)
        log.info("signal_decided", symbol=symbol, outcome=outcome.value, reason=reason, signal_id=row.signal_id)

    def _newest_protect(self, row: InboxRow) -> None:
        """Note the receipt of a protect that changed nothing: an older one that comes later must not, either."""
        trade = self._open_trade(row.signal.symbol)
        if trade is None or trade.received_at - row.received_at > RELAYS_APART:
            return
        if trade.protected_at is None or trade.protected_at < row.received_at:
            self._book.put(replace(trade, protected_at=row.received_at))

    def _compare_with_strategy(self, row: InboxRow, done: Done) -> None:
        """Note what a strategy holds where this account holds something else."""
        symbol = row.signal.symbol
        if (trade := self._open_trade(symbol)) is not None and done.strategy_size is not None:
            agrees = done.outcome is Outcome.NOTHING and trade.reduction is None  # a reduction may fail yet
            self._book.put(replace(trade, strategy_size=None if agrees else done.strategy_size))
        if done.strategy_differs:
            text = f"The strategy is {row.signal.position} {symbol}, but this account holds none of it; {self._last_trade(symbol)}"
            self._alarms.state(AlarmKind.STRATEGY_DIFFERS, text, symbol, symbol=symbol)
        elif row.late:
            over = f"the missed alert for {symbol} came late, and changes nothing"
            about = self._book.came_late(symbol, row.signal.strategy_name) or ""
            self._alarms.state(AlarmKind.MISSED_ALERT, None, about, over=over)
        elif row.signal.market_position is not None:
            self._alarms.state(AlarmKind.STRATEGY_DIFFERS, None, symbol)

    def _last_trade(self, symbol: str) -> str:
        """Return what became of a symbol's last trade, in words."""
        trade = self._book.last_ended(symbol)
        if trade is None or trade.closed_at is None:
            return "no trade in it ended lately"
        how = trade.exit_reason.value if trade.exit_reason else "how is not known"
        return f"its last trade ended at {trade.closed_at:%H:%M} UTC ({how})"

    def _done(self, row: InboxRow) -> None:
        self._alarms.state(AlarmKind.STUCK_SIGNAL, None, row.signal_id)

    def _begin_close(self, row: InboxRow, decision: Close) -> bool:
        """Ask for the close of the open trade; the signal is decided again when that trade is finished."""
        trade = self._open_trade(row.signal.symbol)
        if trade is None:
            return True
        if trade.state not in UNDER_WAY:
            self._life.move(replace(trade, close_cause=decision.cause), Event.CLOSE)
            self._book.log(
                "close requested", decision.cause, symbol=trade.symbol, trade_id=trade.id, signal_id=row.signal_id
            )  # fmt: skip
        if (row.state, row.trade_id) != (SignalState.CLOSING, trade.id):
            self._book.put_signal(replace(row, state=SignalState.CLOSING, trade_id=trade.id))
        self._orders.work(trade.id)
        return self._book.trade(trade.id).closed

    def _reduce(self, row: InboxRow, decision: Reduce) -> None:
        """Write down the size that the trade shall have; what has to be done for it follows in the trade's own work."""
        trade = self._open_trade(row.signal.symbol)
        if trade is None:
            raise IllegalTransition(f"a reduction of {row.signal.symbol} was allowed without a trade")
        wish = Reduction(decision.to, row.signal_id, self._clock.now(), trade.taken)
        self._book.finish_signal(row, Outcome.REDUCED, decision.reason, trade.id)
        strategy_size = trade.strategy_size if row.signal.position is None else decision.strategy_size
        self._life.settle(replace(trade, reduction=wish, strategy_size=strategy_size))
        self._done(row)
        self._alarms.state(AlarmKind.STRATEGY_DIFFERS, None, row.signal.symbol)
        self._orders.work(trade.id)

    def _add(self, row: InboxRow, verdict: Verdict, decision: Add) -> None:
        """The decision, the intended orders and their ids in one change; they are sent after its commit."""
        trade = self._open_trade(row.signal.symbol)
        if trade is None or verdict.contract is None or verdict.bracket is None:
            raise IllegalTransition(f"an addition in {row.signal.symbol} was allowed without a trade or its orders")
        more = verdict.bracket.orders[0].quantity
        wanted = trade.stop_wanted or verdict.bracket.stop_wanted
        trade = replace(trade, strategy_size=decision.strategy_size, stop_wanted=wanted)
        self._orders.add(trade, verdict.bracket.orders, verdict.contract)
        self._book.finish_signal(row, Outcome.ADDED, f"{decision.reason}: {decimal_text(more)} more", trade.id)
        self._alarms.state(AlarmKind.STRATEGY_DIFFERS, None, row.signal.symbol)
        self._done(row)
        self._orders.work(trade.id)

    def _protect(self, row: InboxRow, decision: Protect) -> None:
        """Write down where the exits shall be; what has to be done for it follows in the trade's own work."""
        trade = self._open_trade(row.signal.symbol)
        if trade is None:
            raise IllegalTransition(f"a protect of {row.signal.symbol} was allowed without a trade")
        self._book.finish_signal(row, Outcome.PROTECTED, decision.reason, trade.id)
        for stop, found in ((True, decision.stop), (False, decision.target)):
            if found is not None and found[1].is_due:
                trade = carried_out(trade, *found, stop=stop)
        agrees = row.signal.market_position is not None
        size = None if agrees else trade.strategy_size
        self._life.settle(replace(trade, protected_at=row.received_at, strategy_size=size))
        self._done(row)
        if agrees:
            self._alarms.state(AlarmKind.STRATEGY_DIFFERS, None, row.signal.symbol)
        self._orders.work(trade.id)

    def _enter(self, row: InboxRow, verdict: Verdict) -> None:
        """The decision, the intended orders and their ids in one change; they are sent after its commit."""
        contract, bracket, signal, now = verdict.contract, verdict.bracket, row.signal, self._clock.now()
        if contract is None or bracket is None or signal.side is None or signal.quantity is None:
            raise IllegalTransition(f"an entry in {signal.symbol} was allowed without a contract or a bracket")
        trade = Trade(
            id=0, symbol=signal.symbol, side=signal.side, account=self._book.account, con_id=contract.con_id,
            asked=signal.quantity, state=State.SENDING, signal_id=row.signal_id, received_at=row.received_at,
            valid_until=self._valid_until(row) or now, timestamp=now, stop_wanted=bracket.stop_wanted,
            breakeven=signal.breakeven_after_target, trail=signal.trail, stop_aim=_from_fill(signal.sl or signal.trail, stop=True),
            target_aim=_from_fill(signal.tp, stop=False),
        )  # fmt: skip
        trade = self._orders.enter(trade, bracket.orders, contract)
        reason = f"{signal.side.value} {signal.quantity} {signal.symbol}: all rules allow it"
        reason += f"; {bracket.words}" if bracket.words else ""
        self._book.finish_signal(row, Outcome.ENTERED, reason, trade.id)
        self._alarms.state(AlarmKind.STRATEGY_DIFFERS, None, signal.symbol)
        self._done(row)


def _refusal(decision: Close | Protect | Wait | Done) -> str:
    """Return why an owner's wish is not carried out now, and what to do."""
    if isinstance(decision, Wait):
        return f"{decision.reason}. Press again in a few seconds"
    why = decision.cause if isinstance(decision, Close) else decision.reason
    return f"nothing was done: {why}"


def _from_fill(at: Exit | None, *, stop: bool) -> Aim | None:
    """Return where an exit is to go when the entry has filled; a stop may move away from the market then."""
    return Aim(at, free=stop) if isinstance(at, Distance) else None


def _may_pass(row: InboxRow, ahead: list[InboxRow]) -> bool:
    """True if a signal need not wait for those before it.

    A reset passes all but entries; a protect passes a close that was asked for and waits, for its market to open perhaps.
    """
    if row.signal.action is Action.RESET:
        return all(each.signal.action is not Action.OPEN for each in ahead)
    if row.signal.action is Action.PROTECT:
        return all(each.signal.action is Action.CLOSE and each.state is SignalState.CLOSING for each in ahead)
    return not ahead


def _needs_contract(row: InboxRow, trade: Trade) -> bool:
    """True if what a signal means for an open trade depends on its contract: on its units, or on its ticks."""
    signal = row.signal
    if signal.is_partial_close or signal.action is Action.PROTECT:
        return True
    return _has_exits(row) and signal.market_position is not None and signal.side is trade.side


def _has_exits(row: InboxRow) -> bool:
    wanted = (row.signal.tp, row.signal.sl, row.signal.trail)
    return any(each is not None for each in wanted) or bool(row.signal.targets)


def _without_contract(row: InboxRow, why: str) -> Done:
    """The outcome of a signal for a symbol that TWS cannot name, where no trade is open under that name."""
    if row.signal.action is Action.OPEN:
        return Done(Outcome.REFUSED, why)
    if row.signal.action is Action.REDUCE:
        return Done(Outcome.IGNORED, f"no trade is open in {row.signal.symbol}: {why}", strategy_differs=True)
    return Done(Outcome.NOTHING, f"no trade is open in {row.signal.symbol}: {why}")


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)
