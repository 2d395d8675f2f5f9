"""The desk: from signals and facts to orders. Pure modules decide; this one carries out, in an order that a crash cannot hurt.

The order of the steps is the safety: decision and intended orders are committed; then the order ids are committed as
being sent; then the bytes leave; then what the broker says is committed. A restart finds every one of these steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import wraps
from typing import Any

from common.clock import Clock
from common.errors import BrokerUnavailable, IllegalTransition, JournalError
from common.logs import get_logger
from common.signals import Action

from .alarms import Alarms
from .broker import Broker, Connectivity, Contract, Fill, OrderReport, Position, Refusal, Snapshot, Ticket
from .commands import Command
from .journal import InboxRow, Journal
from .owner import Owner
from .plans import (
    Bracket,
    Cancel,
    GiveUp,
    LookUp,
    Moment,
    Place,
    Resize,
    SendBracket,
    Step,
    Unprotected,
    next_step,
    plan_bracket,
)
from .policy import Policy
from .recorder import Recorder
from .resolver import Resolver
from .rules import Close, Decision, Done, View, Wait, decide
from .trades import STOPS, ZERO, Event, Leg, Order, OrderState, State, Trade
from .watch import Watch

log = get_logger(__name__)

LATE_POSITION = timedelta(seconds=5)  # how long a position report may lag behind our own execution
MAX_STEPS = 50  # more steps than this in one turn of one trade is a bug of ours


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """A fact that cannot be written down is not lost: the desk stops, and reads everything again when it can write."""

    @wraps(method)
    def call(self: Desk, *args: Any) -> None:
        try:
            method(self, *args)
        except (JournalError, IllegalTransition) as exc:
            self.stopped_by(exc)

    return call


class Desk:
    """Hears the facts (broker.Listener), works on the inbox, and is the only one who sends orders.

    All methods run on the event loop and return at once. `want_snapshot(why)` asks the runtime for a complete
    snapshot, which it hands to `reconciled`; asked for often, it may answer once.
    """

    def __init__(
        self,
        journal: Journal,
        broker: Broker,
        alarms: Alarms,
        clock: Clock,
        policy: Policy,
        account: str,
        client_id: int,
        want_snapshot: Callable[[str], None],
    ) -> None:
        self.journal = journal
        self.broker = broker
        self.alarms = alarms
        self.clock = clock
        self.policy = policy
        self.account = account
        self.client_id = client_id
        self.want_snapshot = want_snapshot
        self.recorder = Recorder(journal, alarms, clock, policy, client_id)
        self.resolver = Resolver(self)
        self.owner = Owner(self)
        self.watch = Watch(self)
        self.contracts: dict[str, Contract | str] = {}  # canonical symbol → contract, or why there is none
        self.positions: dict[int, Position] = {}  # conId → what the account shows, as last reported
        self.day = ""  # the broker's trading day, from the last snapshot
        self.ready_since: datetime | None = None  # since when the broker is seen completely; None: it is not
        self.mode_text = "starting"
        self._asked: set[str] = set()  # symbols whose contract was asked for
        self._filled_at: dict[int, datetime] = {}  # conId → our last execution
        self._stops: dict[str, str] = {}  # cause → why nothing is sent ("freeze") or no entry ("entries …")
        self._turning = False

    # ---- can we act? ----

    @property
    def can_send(self) -> bool:
        """Whether orders may go out at all: the broker is seen completely and nothing forbids it."""
        return self.ready_since is not None and not any(not k.startswith("entries") for k in self._stops)

    def forbid(self, cause: str, reason: str | None) -> None:
        """Stop all sending (causes that begin with `entries`: only entries) while a reason stands; None lifts it."""
        if reason is None:
            self._stops.pop(cause, None)
        else:
            self._stops[cause] = reason

    @property
    def causes(self) -> frozenset[str]:
        """Return why sending is forbidden now, by cause."""
        return frozenset(self._stops)

    def freeze(self, reason: str | None) -> None:
        """Send nothing at all while a reason stands (account, storage); None lifts it."""
        self.forbid("freeze", reason)

    def stop_entries(self, reason: str | None) -> None:
        """Refuse entries while a reason stands (clock); closing and protecting go on. None lifts it."""
        self.forbid("entries", reason)

    def status(self) -> dict[str, Any]:
        """Return what the page shows of the desk: mode, reasons, and positions that the journal does not know."""
        mode = "ready" if self.can_send else "stopped" if self.ready_since else "not connected"
        return {
            "mode": mode,
            "text": self.mode_text,
            "stops": sorted(self._stops.values()),
            "unknown": self.owner.unknown_positions(),
        }

    def stopped_by(self, exc: Exception) -> None:
        """A journal that cannot be written, or a bug of ours: stop sending, tell, and look at everything again."""
        log.error("desk_stopped", reason=str(exc))
        cause = "storage" if isinstance(exc, JournalError) else "program"
        self.forbid(cause, f"stopped: {exc}")
        self.watch.tell_stop(cause, str(exc))

    # ---- connection ----

    def connecting(self, text: str) -> None:
        self.mode_text = text

    def disconnected(self, text: str) -> None:
        """The broker is not to be seen: nothing is sent until a complete snapshot has been worked through."""
        self.ready_since = None
        self.mode_text = text
        self._asked.clear()

    def needs_settling(self) -> bool:
        """Whether orders are in doubt, so that only two equal snapshots some seconds apart will do after a connect."""
        return any(o.state is OrderState.SENDING for t in self.journal.unfinished() for o in t.orders)

    @_guarded
    def reconciled(self, snapshot: Snapshot) -> None:
        """Bring the journal up to date by a complete snapshot; from then on orders may go out."""
        self.positions = {p.con_id: p for p in snapshot.positions if p.account == self.account}
        self.day = snapshot.day
        after = self.resolver.apply(snapshot)
        if self.ready_since is None:
            self.ready_since = self.clock.now()
            self.journal.log("ready", "the broker's orders, executions and positions are read: trading may go on")
        self.mode_text = "ready"
        if self.can_send:
            for action in after:
                action()
        self.advance()

    # ---- facts (broker.Listener) ----

    @_guarded
    def on_order(self, report: OrderReport) -> None:
        if self.recorder.report(report) is not None:
            self.advance()

    @_guarded
    def on_fill(self, fill: Fill) -> None:
        self._filled_at[fill.con_id] = self.clock.now()
        if self.recorder.fill(fill) is not None:
            self.advance()

    @_guarded
    def on_commission(self, exec_id: str, commission: Decimal) -> None:
        self.journal.record_commission(exec_id, commission)

    @_guarded
    def on_position(self, position: Position) -> None:
        if position.account == self.account:
            self.positions[position.con_id] = position
            self.advance()

    @_guarded
    def on_refusal(self, refusal: Refusal) -> None:
        if self.recorder.refusal(refusal):
            self.want_snapshot(f"TWS refused something (code {refusal.code})")
        self.advance()

    @_guarded
    def on_connectivity(self, state: Connectivity, text: str) -> None:
        if state is Connectivity.LOST:
            self.forbid("link", f"TWS has lost IBKR: {text}")
            return
        self.forbid("link", None)
        self.disconnected(f"TWS has IBKR again, reading everything anew: {text}")
        self.want_snapshot(f"TWS has IBKR again: {text}")

    @_guarded
    def on_contract(self, symbol: str, answer: Contract | str) -> None:
        self._asked.discard(symbol)
        self.contracts[symbol] = answer
        if isinstance(answer, Contract):
            self.journal.remember_contract(symbol, answer.con_id)
        self.advance()

    # ---- one turn ----

    @_guarded
    def advance(self) -> None:
        """Do all that can be done now: what unfinished trades need, then what waiting signals mean."""
        if self._turning:
            return
        self._turning = True
        try:
            for trade in self.journal.unfinished():
                self.work(trade.id)
            self._decide_all()
        finally:
            self._turning = False

    @_guarded
    def tick(self) -> None:
        """Timers; called about twice a second."""
        self.watch.tick()
        self.advance()

    def command(self, command: Command) -> str:
        """Carry out an owner's wish, committed as an event first; what was done, in words.

        Raises:
            CommandRefused: It cannot be done now; the text says why.
        """
        text = self.owner.obey(command)
        self.advance()
        return text

    # ---- signals ----

    def _decide_all(self) -> None:
        waiting: set[str] = set()
        for row in self.journal.undone():
            symbol = row.signal.symbol
            if symbol in waiting and row.signal.action is not Action.RESET:
                continue
            if not self._decide_one(row.signal_id) and not self._on_hold(symbol):
                waiting.add(symbol)

    def _on_hold(self, symbol: str) -> bool:
        """Whether the symbol's trade waits for the owner: a kept close must not hide what comes after it."""
        trade = self.journal.open_trade(self.account, self.journal.contract_id(symbol) or 0)
        return trade is not None and trade.state is State.HOLD

    def _decide_one(self, signal_id: str) -> bool:
        """Take one signal as far as it goes; whether it is done. A close may finish at once: then it is decided again."""
        row = self.journal.signal_of(signal_id)
        while row is not None and row.state != "done":
            if not self._carry_out(row, self._decide(row)):
                return False
            row = self.journal.signal_of(signal_id)
        return True

    def _decide(self, row: InboxRow) -> Decision:
        contract = self._contract(row)
        if isinstance(contract, str):
            self.contracts.pop(
                row.signal.symbol
            )  # the next signal asks again: the configuration or TWS may have changed
            return Done("refused", contract)
        con_id = contract.con_id if contract else self.journal.contract_id(row.signal.symbol)
        trade = self.journal.open_trade(self.account, con_id) if con_id is not None else None
        view = self._view(row, con_id, trade)
        obstacle = self._obstacle(row, contract, trade, view)
        if obstacle:
            return Wait(obstacle)
        if trade is None and row.signal.action is Action.OPEN and contract is not None and view.is_fresh:
            view = replace(view, objection=self._objection(row, contract))
        return decide(row.signal, view)

    def _contract(self, row: InboxRow) -> Contract | str | None:
        """Return the contract a signal means, why there is none, or None while it is being asked for."""
        symbol = row.signal.symbol
        known = self.contracts.get(symbol)
        if known is None and row.signal.action is Action.OPEN and self.ready_since and symbol not in self._asked:
            self._asked.add(symbol)
            self.broker.request_contract(symbol)
            known = self.contracts.get(symbol)
        return known

    def _view(self, row: InboxRow, con_id: int | None, trade: Trade | None) -> View:
        key = (self.account, con_id or 0)
        block = self.journal.block(*key)
        beside = self.journal.ignored().get(key, ZERO)
        unknown = self.shown(key[1]) - beside - (trade.signed if trade else ZERO)
        opposed = beside if row.signal.side and (beside < 0) is (row.signal.side.value == "buy") else ZERO
        return View(
            now=self.clock.now(), received_at=row.received_at, valid_until=self._valid_until(row), trade=trade,
            closed_here=row.state == "closing" and (trade is None or trade.id != row.trade_id),
            block=block.side if block else None, unknown_position=unknown, opposed_holding=opposed,
        )  # fmt: skip

    def _valid_until(self, row: InboxRow) -> datetime | None:
        if row.signal.action is not Action.OPEN:
            return None
        own = row.received_at + self.policy.validity
        return own if row.expires_at is None else min(own, row.expires_at)

    def _obstacle(self, row: InboxRow, contract: Contract | None, trade: Trade | None, view: View) -> str | None:
        """Say in words why this signal cannot be decided yet, or None."""
        if row.signal.action is Action.RESET or (trade is None and not view.is_fresh and contract is not None):
            return None
        if (
            row.signal.action is Action.OPEN
            and not view.is_fresh
            and self.journal.contract_id(row.signal.symbol) is None
        ):
            return None
        if not self.can_send:
            return f"waits: {self.mode_text}" if not self._stops else f"waits: {next(iter(self._stops.values()))}"
        if row.signal.action is Action.CLOSE:
            return None
        if contract is None:
            return "the contract is being looked up in TWS"
        late = view.now - self._filled_at.get(contract.con_id, view.now - LATE_POSITION) < LATE_POSITION
        if trade is None and view.unknown_position and late:
            return "waits for TWS to show the position after the last execution"
        return None

    def _objection(self, row: InboxRow, contract: Contract) -> str | None:
        """Say in words why this entry cannot be ordered as asked, or None."""
        entries = [text for cause, text in self._stops.items() if cause.startswith("entries")]
        bracket = plan_bracket(row.signal, row.signal_id, contract, self.broker.price(contract.con_id))
        limit = self.policy.max_quantity.get(row.signal.symbol)
        if entries:
            return entries[0]
        if limit is not None and (row.signal.quantity or ZERO) > limit:
            return f"{row.signal.quantity} {row.signal.symbol} is more than your limit of {limit}"
        if self.policy.max_open_trades is not None and len(self.journal.unfinished()) >= self.policy.max_open_trades:
            return f"{self.policy.max_open_trades} trades are open, which is your limit"
        return bracket if isinstance(bracket, str) else None

    def _carry_out(self, row: InboxRow, decision: Decision) -> bool:
        """Do what was decided; whether the signal moved on."""
        if isinstance(decision, Wait):
            self.journal.note_waiting(row, decision.reason)
            if decision.page:
                self.alarms.raise_("stuck signal", row.signal_id, decision.reason, symbol=row.signal.symbol)
            return False
        if isinstance(decision, Done):
            self._finish(row, decision)
        elif isinstance(decision, Close):
            return self._begin_close(row, decision)
        else:
            self._enter(row)
        return True

    def _finish(self, row: InboxRow, decision: Done) -> None:
        with self.journal.transaction():
            if decision.outcome == "reset":
                con_id = self.journal.contract_id(row.signal.symbol)
                self.owner.release(row.signal.symbol, con_id)
            self.journal.finish_signal(row, decision.outcome, decision.reason)
            if decision.outcome == "expired":
                self.alarms.raise_(
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
        contract_id = self.journal.contract_id(row.signal.symbol)
        trade = self.journal.open_trade(self.account, contract_id or 0)
        if trade is None:
            return True
        with self.journal.transaction():
            if trade.state not in (State.CANCELLING, State.CLOSING):
                self.recorder.move(trade, Event.CLOSE, close_cause=decision.cause)
                self.journal.log(
                    "close asked", decision.cause, symbol=trade.symbol, trade_id=trade.id, signal_id=row.signal_id
                )
            if (row.state, row.trade_id) != ("closing", trade.id):
                self.journal.begin_closing(row, trade.id)
        self.work(trade.id)
        return self.journal.open_trade(self.account, trade.con_id) is None

    def _enter(self, row: InboxRow) -> None:
        """Commit the decision and the intended orders together, then work on the new trade."""
        contract, signal = self.contracts[row.signal.symbol], row.signal
        assert isinstance(contract, Contract) and signal.side is not None and signal.quantity is not None  # noqa: S101  decided
        bracket = plan_bracket(signal, row.signal_id, contract, self.broker.price(contract.con_id))
        assert isinstance(bracket, Bracket)  # noqa: S101  objected to before
        now = self.clock.now()
        planned = Trade(
            id=0, symbol=signal.symbol, side=signal.side, account=self.account, con_id=contract.con_id, asked=signal.quantity,
            state=State.PLANNED, signal_id=row.signal_id, received_at=row.received_at,
            valid_until=self._valid_until(row) or now, timestamp=now, stop_wanted=bracket.stop_wanted,
        )  # fmt: skip
        with self.journal.transaction():
            trade = self.journal.create_trade(planned, bracket.orders, self.client_id)
            reason = f"{signal.side.value} {signal.quantity} {signal.symbol}: every rule allows it"
            self.journal.finish_signal(row, "entered", reason, trade.id)
        self.work(trade.id)

    # ---- trades ----

    def shown(self, con_id: int) -> Decimal:
        """Return the net position that the broker last showed in a contract."""
        position = self.positions.get(con_id)
        return position.quantity if position else ZERO

    def moment(self, trade: Trade) -> Moment:
        """Return what the steps of a trade depend on besides the trade."""
        return Moment(self.clock.now(), self.shown(trade.con_id), ready_since=self.ready_since)

    def work(self, trade_id: int) -> None:
        """Bring one trade up to its facts, and take every step that it needs now."""
        for _ in range(MAX_STEPS):
            trade = self.recorder.refresh(trade_id)
            if trade.state.is_finished or not self.can_send:
                return
            step = next_step(trade, self.moment(trade), self.policy)
            if step is None or not self._do(trade, step):
                return
        raise IllegalTransition(f"trade {trade_id} took more than {MAX_STEPS} steps in one turn")

    def _do(self, trade: Trade, step: Step) -> bool:
        """Take one step; whether another may follow in this turn."""
        try:
            return self._take(trade, step)
        except BrokerUnavailable as exc:
            log.warning("tws_gone", symbol=trade.symbol, reason=str(exc))
            self.disconnected(f"TWS is gone: {exc}")
            self.want_snapshot("an order could not be written to TWS")
            return False

    def _take(self, trade: Trade, step: Step) -> bool:
        match step:
            case SendBracket():
                return self._send_bracket(trade)
            case GiveUp(reason):
                self._give_up(trade, reason)
            case Cancel(order, why):
                self.cancel(trade, order, why)
            case Resize(order, quantity):
                self._resize(trade, order, quantity)
            case Place(order):
                return self._place(trade, order)
            case LookUp(why):
                self.want_snapshot(why)
                return False
            case Unprotected():
                return self._unprotected(trade, step)
        return True

    def contract_of(self, trade: Trade) -> Contract | None:
        """Return the contract of a trade; asked for again after a restart."""
        known = next((c for c in self.contracts.values() if isinstance(c, Contract) and c.con_id == trade.con_id), None)
        if known is None and trade.symbol not in self._asked and self.ready_since:
            self._asked.add(trade.symbol)
            self.broker.request_contract(trade.symbol)
        return known

    def _send_bracket(self, trade: Trade) -> bool:
        contract = self.contract_of(trade)
        if contract is None:
            return False
        orders = [o for o in trade.orders if o.state is OrderState.PLANNED]
        with self.journal.transaction():
            ids = self._sending(orders)
            text = ", ".join(
                [f"{trade.side.value} {trade.asked} {trade.symbol} at market", *map(_exit_words, orders[1:])]
            )
            self.recorder.move(trade, Event.SEND, sent_at=self.clock.now(), entry_order_id=ids[orders[0].order_ref])
            self.journal.log("entry sent", text, symbol=trade.symbol, trade_id=trade.id, signal_id=trade.signal_id)
        self.send_all(self.journal.trade(trade.id), contract, {o.order_ref for o in orders})
        log.info("entry_sent", symbol=trade.symbol, order=text, signal_id=trade.signal_id, trade_id=trade.id)
        return True

    def _sending(self, orders: Iterable[Order]) -> dict[str, int]:
        """Write down, before the first byte, under which ids these orders go out."""
        planned = list(orders)
        first = self.journal.take_order_ids(self.client_id, len(planned), self.broker.order_id_floor())
        ids = {o.order_ref: first + n for n, o in enumerate(planned)}
        for ref, order_id in ids.items():
            self.journal.change_order(
                ref, order_id=order_id, client_id=self.client_id, state=OrderState.SENDING.value,
                sent_at=self.clock.now(), sent_day=self.day,
            )  # fmt: skip
        return ids

    def send_all(self, trade: Trade, contract: Contract, refs: set[str]) -> None:
        """Write these orders to the broker, in their order; only the last one transmits, so that they go together."""
        orders = [o for o in trade.orders if o.order_ref in refs]
        ids = {o.order_ref: o.order_id or 0 for o in trade.orders}
        for order in orders:
            self.broker.send(self._ticket(trade, contract, order, ids, transmit=order is orders[-1]))

    def _ticket(self, trade: Trade, contract: Contract, order: Order, ids: dict[str, int], *, transmit: bool) -> Ticket:
        is_exit = order.leg in (Leg.TAKE_PROFIT, *STOPS)
        parent = ids.get(order.parent_ref or "", 0) if trade.entry is not None and trade.entry.is_live else 0
        return Ticket(
            order_id=order.order_id or 0, order_ref=order.order_ref, contract=contract, account=trade.account, side=order.side,
            kind=order.kind, quantity=order.quantity, price=order.price, tif="DAY" if order.leg is Leg.ENTRY else "GTC",
            parent_id=parent, transmit=transmit, oca_group=_oca_group(trade) if is_exit else "",
            outside_rth=self.policy.outside_rth and is_exit,
        )  # fmt: skip

    def _give_up(self, trade: Trade, reason: str) -> None:
        with self.journal.transaction():
            for order in trade.orders:
                self.journal.change_order(order.order_ref, state=OrderState.CANCELLED.value, reason=reason)

    def cancel(self, trade: Trade, order: Order, why: str) -> None:
        """Ask to cancel one order, written down first."""
        with self.journal.transaction():
            self.journal.change_order(order.order_ref, cancel_asked_at=self.clock.now())
            text = f"cancel of the {order.leg.word} asked: {why}"
            self.journal.log("cancel asked", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        self.broker.cancel(order.order_id or 0)

    def _resize(self, trade: Trade, order: Order, quantity: Decimal) -> None:
        contract = self.contract_of(trade)
        with self.journal.transaction():
            self.journal.change_order(order.order_ref, resize_asked_at=self.clock.now())
            text = f"{order.leg.word} fitted to the {trade.held} that the trade holds"
            self.journal.log("resized", text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        if contract is not None:
            ids = {o.order_ref: o.order_id or 0 for o in trade.orders}
            self.broker.send(self._ticket(trade, contract, replace(order, quantity=quantity), ids, transmit=True))

    def _place(self, trade: Trade, order: Order) -> bool:
        """Write down one more order of a trade as being sent, then send it."""
        contract = self.contract_of(trade)
        if contract is None:
            return False
        kind = "close sent" if order.leg is Leg.CLOSE else "stop put back"
        price = "" if order.price is None else f" at {order.price}"
        with self.journal.transaction():
            self.journal.add_order(trade, trade.id, order, self.client_id)
            self._sending([order])
            text = f"{order.side.value} {order.quantity} {trade.symbol}{price} ({order.leg.word})"
            self.journal.log(kind, text, symbol=trade.symbol, trade_id=trade.id, order_ref=order.order_ref)
        self.send_all(self.journal.trade(trade.id), contract, {order.order_ref})
        return True

    def _unprotected(self, trade: Trade, step: Unprotected) -> bool:
        text = f"{trade.symbol}: {trade.held} stand WITHOUT a stop-loss: {step.why}"
        self.alarms.raise_("unprotected", str(trade.id), text, symbol=trade.symbol, trade_id=trade.id)
        if step.then_flatten:
            self.recorder.move(trade, Event.CLOSE, close_cause="no stop-loss could be placed")
            return True
        if step.then_hold:
            self.resolver.hold(trade, step.why)
        return False


def _oca_group(trade: Trade) -> str:
    """The exits of a trade share one group, so that they cancel each other at the broker too."""
    entry = trade.orders[0].order_ref if trade.orders else trade.signal_id
    return f"{entry[:20]}-exits"


def _exit_words(order: Order) -> str:
    return f"{order.leg.word} {order.price}"
