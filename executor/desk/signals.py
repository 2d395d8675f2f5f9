"""Gives every waiting signal its outcome: the rules decide on what the journal and the broker show, this carries it out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from common.logs import get_logger
from common.signals import Action
from executor.core.brackets import Bracket, plan_bracket
from executor.core.ports import Contract
from executor.core.rules import Close, Decision, Done, View, Wait, decide
from executor.core.trades import ZERO, Event, State, Trade
from executor.journal.rows import InboxRow

if TYPE_CHECKING:
    from executor.desk.desk import Desk

log = get_logger(__name__)

_BEING_LOOKED_UP = "the contract is being looked up in TWS"


class Verdicts:
    """Work on the inbox, in the order of arrival; the signals of one symbol wait for each other, others pass by."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._journal = desk.journal

    def decide_all(self) -> None:
        waiting: dict[str, set[Action]] = {}
        for row in self._journal.undone():
            symbol, action = row.signal.symbol, row.signal.action
            ahead = waiting.setdefault(symbol, set())
            may_pass = not ahead or (action is Action.RESET and Action.OPEN not in ahead)
            if may_pass and (self._decide_one(row.signal_id) or self._on_hold(symbol)):
                continue
            ahead.add(action)

    def _on_hold(self, symbol: str) -> bool:
        """Whether the symbol's trade waits for the owner: a kept close must not hide what comes after it."""
        trade = self._open_trade(symbol)
        return trade is not None and trade.state is State.HOLD

    def _open_trade(self, symbol: str) -> Trade | None:
        """Return the symbol's trade; it may be in a contract that the symbol meant before (a future that has rolled on)."""
        return self._journal.open_trade(self._desk.account, self._journal.contract_id(symbol) or 0, symbol)

    def _decide_one(self, signal_id: str) -> bool:
        """Take one signal as far as it goes; whether it is done. A close may finish at once: then it is decided again."""
        row = self._journal.signal_of(signal_id)
        while row is not None and row.state != "done":
            if not self._carry_out(row, self._decide(row)):
                return False
            row = self._journal.signal_of(signal_id)
        return True

    def _decide(self, row: InboxRow) -> Decision:
        trade = self._open_trade(row.signal.symbol)
        contract = self._contract(row, trade)
        trade = trade or self._open_trade(row.signal.symbol)  # under the contract's other name
        if isinstance(contract, str):
            self._desk.forget_refusal(row.signal.symbol)
            return _without_contract(row, contract)
        view = self._view(row, contract, trade)
        obstacle = self._obstacle(row, contract, trade, view)
        if obstacle:
            return Wait(obstacle)
        if trade is None and row.signal.action is Action.OPEN and contract is not None and view.is_fresh:
            view = replace(view, objection=self._objection(row, contract))
        return decide(row.signal, view)

    def _contract(self, row: InboxRow, trade: Trade | None) -> Contract | str | None:
        """Return the contract a signal means, why there is none, or None while it is not known.

        It is asked for where something is to be entered, or where a close finds no trade under a name that was never
        heard of. A trade that is there needs no look: it is closed in its own contract.
        """
        symbol = row.signal.symbol
        new_name = row.signal.action is Action.CLOSE and self._journal.contract_id(symbol) is None
        if trade is None and (row.signal.action is Action.OPEN or new_name):
            return self._desk.contract_for(symbol)
        known = self._desk.contracts.get(symbol)
        return known if isinstance(known, Contract) else None

    def _view(self, row: InboxRow, contract: Contract | None, trade: Trade | None) -> View:
        meant = contract.con_id if contract else self._journal.contract_id(row.signal.symbol) or 0
        con_id = trade.con_id if trade else meant
        block = self._journal.block(self._desk.account, meant, row.signal.symbol, row.signal.side)
        beside = self._journal.ignored().get((self._desk.account, con_id), ZERO)
        unknown = self._desk.shown(con_id) - beside - (trade.signed if trade else ZERO)
        opposed = beside if row.signal.side and (beside < 0) is (row.signal.side.value == "buy") else ZERO
        return View(
            now=self._desk.clock.now(), received_at=row.received_at, valid_until=self._valid_until(row), trade=trade,
            closed_here=row.state == "closing" and (trade is None or trade.id != row.trade_id),
            block=block.side if block else None, block_is_sure=block is None or "not known" not in block.reason,
            unknown_position=unknown, opposed_holding=opposed,
        )  # fmt: skip

    def _valid_until(self, row: InboxRow) -> datetime | None:
        if row.signal.action is not Action.OPEN:
            return None
        own = row.received_at + self._desk.policy.validity
        return own if row.expires_at is None else min(own, row.expires_at)

    def _obstacle(self, row: InboxRow, contract: Contract | None, trade: Trade | None, view: View) -> str | None:
        """Say in words why this signal cannot be decided yet, or None."""
        if row.signal.action is Action.RESET or (trade is None and not view.is_fresh and contract is not None):
            return None
        if (
            row.signal.action is Action.OPEN
            and not view.is_fresh
            and self._journal.contract_id(row.signal.symbol) is None
        ):
            return None
        if not self._desk.can_send:
            return f"waits: {self._desk.why_not}"
        if trade is not None:
            return None
        if row.signal.action is Action.CLOSE:
            known = contract or self._journal.contract_id(row.signal.symbol) is not None
            return None if known else _BEING_LOOKED_UP
        return self._entry_obstacle(contract, view)

    def _entry_obstacle(self, contract: Contract | None, view: View) -> str | None:
        if contract is None:
            return _BEING_LOOKED_UP
        if self._desk.resolver.resends:
            return "waits: an order that never arrived is sent again first"
        if self._desk.broker.is_paced:
            return "waits: more messages are on their way to TWS than it takes at once"
        told = self._desk.is_counted(contract.con_id)
        if not told or (view.unknown_position and self._desk.may_lag(contract.con_id)):
            return "waits for TWS to show the position after the last execution"
        return None

    def _objection(self, row: InboxRow, contract: Contract) -> str | None:
        """Say in words why this entry cannot be ordered as asked, or None."""
        entries = self._desk.no_entries
        bracket = plan_bracket(row.signal, row.signal_id, contract, self._desk.broker.price(contract.con_id))
        limit = self._desk.policy.max_quantity.get(row.signal.symbol)
        if entries is not None:
            return entries
        if limit is not None and (row.signal.quantity or ZERO) > limit:
            return f"{row.signal.quantity} {row.signal.symbol} is more than your limit of {limit}"
        if (
            self._desk.policy.max_open_trades is not None
            and len(self._journal.unfinished()) >= self._desk.policy.max_open_trades
        ):
            return f"{self._desk.policy.max_open_trades} trades are open, which is your limit"
        return bracket if isinstance(bracket, str) else None

    def _carry_out(self, row: InboxRow, decision: Decision) -> bool:
        """Do what was decided; whether the signal moved on."""
        if isinstance(decision, Wait):
            self._journal.note_waiting(row, decision.reason)
            if decision.page:
                self._desk.alarms.raise_("stuck signal", row.signal_id, decision.reason, symbol=row.signal.symbol)
            return False
        if isinstance(decision, Done):
            self._finish(row, decision)
        elif isinstance(decision, Close):
            return self._begin_close(row, decision)
        else:
            self._enter(row)
        return True

    def _finish(self, row: InboxRow, decision: Done) -> None:
        with self._journal.transaction():
            if decision.outcome == "reset":
                con_id = self._journal.contract_id(row.signal.symbol)
                self._desk.owner.release(row.signal.symbol, con_id)
            self._journal.finish_signal(row, decision.outcome, decision.reason)
            if decision.outcome == "expired":
                self._desk.alarms.raise_(
                    "expired signal", row.signal_id, f"{row.signal.symbol}: {decision.reason}", symbol=row.signal.symbol
                )
        log.info(
            "signal_decided",
            symbol=row.signal.symbol,
            outcome=decision.outcome,
            reason=decision.reason,
            signal_id=row.signal_id,
        )

    def _begin_close(self, row: InboxRow, decision: Close) -> bool:
        """Ask for the close of the open trade; the signal is decided again when that trade is finished."""
        trade = self._open_trade(row.signal.symbol)
        if trade is None:
            return True
        with self._journal.transaction():
            if trade.state not in (State.CANCELLING, State.CLOSING):
                self._desk.life.move(trade, Event.CLOSE, close_cause=decision.cause)
                self._journal.log(
                    "close asked", decision.cause, symbol=trade.symbol, trade_id=trade.id, signal_id=row.signal_id
                )
            if (row.state, row.trade_id) != ("closing", trade.id):
                self._journal.begin_closing(row, trade.id)
        self._desk.dispatch.work(trade.id)
        return self._journal.open_trade(self._desk.account, trade.con_id) is None

    def _enter(self, row: InboxRow) -> None:
        """Commit the decision, the intended orders and that they are being sent together; then send them."""
        contract, signal = self._desk.contracts[row.signal.symbol], row.signal
        assert isinstance(contract, Contract) and signal.side is not None and signal.quantity is not None  # noqa: S101  decided
        bracket = plan_bracket(signal, row.signal_id, contract, self._desk.broker.price(contract.con_id))
        assert isinstance(bracket, Bracket)  # noqa: S101  objected to before
        now = self._desk.clock.now()
        planned = Trade(
            id=0, symbol=signal.symbol, side=signal.side, account=self._desk.account, con_id=contract.con_id, asked=signal.quantity,
            state=State.PLANNED, signal_id=row.signal_id, received_at=row.received_at,
            valid_until=self._valid_until(row) or now, timestamp=now, stop_wanted=bracket.stop_wanted,
        )  # fmt: skip
        with self._journal.transaction():
            trade = self._journal.create_trade(planned, bracket.orders, self._desk.client_id)
            reason = f"{signal.side.value} {signal.quantity} {signal.symbol}: every rule allows it"
            self._journal.finish_signal(row, "entered", reason, trade.id)
            send = self._desk.dispatch.enter(trade)
        send()


def _without_contract(row: InboxRow, why: str) -> Done:
    """The outcome of a signal for a symbol that TWS cannot name, where no trade is open under that name."""
    if row.signal.action is Action.OPEN:
        return Done("refused", why)
    return Done("nothing to do", f"no trade is open in {row.signal.symbol}: {why}")
