"""The desk: from signals and facts to orders. Pure modules decide; this one carries out, in an order that a crash cannot hurt.

The order of the steps is the safety: decision and intended orders are committed; then the order ids are committed as
being sent; then the bytes leave; then what the broker says is committed. A restart finds every one of these steps.
`verdicts` works on signals, `dispatch` on trades, `resolver` on snapshots, `owner` on the page's wishes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import wraps
from typing import Any

from common.clock import Clock
from common.errors import IllegalTransition, JournalError, JournalMisuse
from common.logs import get_logger
from common.signals import Side
from executor.core.commands import Command, CommandRefused
from executor.core.policy import Policy
from executor.core.ports import Broker, Connectivity, Contract, Fill, OrderReport, Position, Refusal, Snapshot
from executor.core.trades import ZERO, OrderState, Trade
from executor.desk.alarms import Alarms
from executor.desk.life import Life
from executor.desk.orders import Dispatch
from executor.desk.owner import Owner
from executor.desk.recorder import Recorder
from executor.desk.signals import Verdicts
from executor.desk.snapshots import Resolver
from executor.desk.watch import Watch
from executor.journal.journal import Journal

log = get_logger(__name__)

COUNTED = timedelta(seconds=2)  # a snapshot so long after an execution counts it
LATE_POSITION = timedelta(seconds=5)  # how long a position report may lag behind our own execution


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
    """Hears the facts (broker.Listener), knows whether orders may go out, and lets all that follows be done.

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
        self.life = Life(journal, alarms, clock, policy)
        self.recorder = Recorder(journal, alarms, self.life, client_id)
        self.verdicts = Verdicts(self)
        self.dispatch = Dispatch(self)
        self.resolver = Resolver(self)
        self.owner = Owner(self)
        self.watch = Watch(self)
        self.contracts: dict[str, Contract | str] = {}  # canonical symbol → contract, or why there is none
        self.positions: dict[int, Position] = {}  # conId → what the account shows, as last reported
        self.ready_since: datetime | None = None  # since when the broker is seen completely; None: it is not
        self._unseen_at = clock.now()  # when it was last not to be seen
        self.mode_text = "starting"
        self._by_id: dict[int, Contract] = {}
        self._asked: set[tuple[str, int]] = (
            set()
        )  # questions to the broker: a symbol, and the conId where it is that one
        self._filled_at: dict[int, datetime] = {}  # conId → our last execution
        self._moved: dict[int, tuple[datetime, Decimal]] = {}  # conId → when its position last moved, and by how much
        self._uncounted: dict[int, datetime] = {}  # conId → our last execution, until the position is told after it
        self._stops: dict[str, str] = {}  # cause → why nothing is sent ("freeze") or no entry ("entries …")
        self._turning = False
        self.before_turn: Callable[[], object] = lambda: None  # the runtime looks here whether this computer slept

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

    def why(self, cause: str) -> str | None:
        """Return why sending is forbidden for one cause, None where it is not."""
        return self._stops.get(cause)

    @property
    def causes(self) -> frozenset[str]:
        """Return why sending is forbidden now, by cause."""
        return frozenset(self._stops)

    @property
    def why_not(self) -> str:
        """Return in words why nothing is sent now."""
        return next(iter(self._stops.values()), self.mode_text)

    @property
    def no_entries(self) -> str | None:
        """Return why entries are refused, None while they are not."""
        return next((text for cause, text in self._stops.items() if cause.startswith("entries")), None)

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
        """A journal that cannot be written, or a bug of ours: stop sending, and tell. A bug in one trade holds that one."""
        if isinstance(exc, IllegalTransition) and exc.trade_id is not None and self._held_back(exc):
            self.want_snapshot("a trade was put on hold by a bug")
            return
        log.error("desk_stopped", reason=str(exc))
        storage = isinstance(exc, JournalError) and not isinstance(exc, JournalMisuse)
        cause = "storage" if storage else "program"
        self.forbid(cause, f"stopped: {exc}")
        self.watch.tell_stop(cause, str(exc))

    def _held_back(self, exc: IllegalTransition) -> bool:
        """Put the one trade that a bug concerns on hold; False where that cannot be."""
        log.error("trade_stopped", trade_id=exc.trade_id, reason=str(exc))
        try:
            return self.life.freeze(exc.trade_id or 0, f"a bug of this program: {exc}")
        except JournalError:
            return False  # the caller stops everything

    @property
    def is_well(self) -> bool:
        """Whether nothing of ours keeps orders from going out: journal, program, account."""
        return not self._stops.keys() & {"storage", "program", "freeze"}

    # ---- connection ----

    def connecting(self, text: str) -> None:
        self.mode_text = text

    def disconnected(self, text: str) -> None:
        """The broker is not to be seen: nothing is sent until a snapshot that begins after now has been worked through."""
        self.ready_since = None
        self._unseen_at = self.clock.now()
        self.mode_text = text
        self._asked.clear()

    def needs_settling(self) -> bool:
        """Whether orders are in doubt, so that only two equal snapshots some seconds apart will do after a connect."""
        return any(o.state is OrderState.SENDING for t in self.journal.unfinished() for o in t.orders)

    @_guarded
    def reconciled(self, snapshot: Snapshot) -> None:
        """Bring the journal up to date by a complete snapshot; from then on orders may go out.

        While TWS is without IBKR it may show anything or nothing: what it shows then, and what was asked before the
        last trouble, says nothing.
        """
        if "link" in self._stops:
            return
        if (snapshot.begun_at or snapshot.taken_at) < self._unseen_at:
            self.want_snapshot("the last one was begun before the connection was in doubt")
            return
        self.positions = {p.con_id: p for p in snapshot.positions if p.account == self.account}
        for con_id in [c for c, at in self._uncounted.items() if snapshot.taken_at - at >= COUNTED]:
            del self._uncounted[con_id]
        after = self.resolver.apply(snapshot)
        if self.ready_since is None:
            self.watch.began()
            self.ready_since = self.clock.now()
            self.journal.log("ready", "the broker's orders, executions and positions are read: trading may go on")
        self.mode_text = "ready"
        if self.can_send:
            for action in after:
                action()
        self.watch.looked()
        self.advance()

    # ---- facts (broker.Listener) ----

    @_guarded
    def on_order(self, report: OrderReport) -> None:
        trade_id = self.recorder.report(report)
        if self.recorder.revived:
            self.want_snapshot("an order of a finished trade is alive again")
        if trade_id is not None:
            self.advance()

    @_guarded
    def on_fill(self, fill: Fill) -> None:
        now = self._filled_at[fill.con_id] = self.clock.now()
        moved_at, by = self._moved.pop(fill.con_id, (None, ZERO))
        came_first = moved_at is not None and by == fill.signed and now - moved_at <= COUNTED
        if not came_first and not self.journal.has_fill(fill.exec_root):
            self._uncounted[fill.con_id] = now
        if self.recorder.fill(fill) is not None:
            self.advance()

    @_guarded
    def on_commission(self, exec_id: str, commission: Decimal) -> None:
        self.journal.record_commission(exec_id, commission)

    @_guarded
    def on_position(self, position: Position) -> None:
        if position.account == self.account:
            self._moved[position.con_id] = self.clock.now(), position.quantity - self.shown(position.con_id)
            self.positions[position.con_id] = position
            self._uncounted.pop(position.con_id, None)
            self.advance()

    @_guarded
    def on_refusal(self, refusal: Refusal) -> None:
        if self.recorder.refusal(refusal):
            self.want_snapshot(f"TWS refused something (code {refusal.code})")
        self.advance()

    @_guarded
    def on_connectivity(self, state: Connectivity, text: str) -> None:
        if state is Connectivity.LOST:
            self.disconnected(f"TWS has lost IBKR: {text}")
            self.forbid("link", self.mode_text)
            return
        self.forbid("link", None)
        self.disconnected(f"TWS has IBKR again, reading everything anew: {text}")
        self.want_snapshot(f"TWS has IBKR again: {text}")

    @_guarded
    def on_contract(self, symbol: str, answer: Contract | str, con_id: int = 0) -> None:
        if isinstance(answer, Contract):
            self._by_id[answer.con_id] = answer
        if con_id == 0:
            self._asked.discard((symbol, con_id))
            self.contracts[symbol] = answer
        if con_id == 0 and isinstance(answer, Contract):
            self.journal.remember_contract(symbol, answer.con_id)
        if self.resolver.resends:
            self.want_snapshot("an order waits to be sent again, and its contract may be known now")
        if con_id and isinstance(answer, str):
            self.watch.tell_unknown_contract(symbol, con_id, answer)  # not asked again on this connection
        self.advance()

    # ---- one turn ----

    @_guarded
    def advance(self) -> None:
        """Do all that can be done now: what unfinished trades need, then what waiting signals mean."""
        if self._turning:
            return
        self.before_turn()
        self._turning = True
        try:
            for trade in self.journal.unfinished():
                self.dispatch.work(trade.id)
            self.verdicts.decide_all()
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
            CommandRefused: It cannot be done now; the text says why. Nothing was changed.
        """
        try:
            text = self.owner.obey(command)
        except JournalError as exc:
            self.stopped_by(exc)
            raise CommandRefused(f"nothing was done, since it could not be written down: {exc}") from exc
        self.advance()
        return text

    # ---- what the broker shows ----

    def shown(self, con_id: int) -> Decimal:
        """Return the net position that the broker last showed in a contract."""
        position = self.positions.get(con_id)
        return position.quantity if position else ZERO

    def shown_of(self, trade: Trade) -> Decimal:
        """Return what the account shows of a trade, in its direction: all but what is the owner's own."""
        beside = self.journal.ignored().get((trade.account, trade.con_id), ZERO)
        shown = self.shown(trade.con_id) - beside
        return shown if trade.side is Side.BUY else -shown

    def unexplained(self) -> dict[int, Decimal]:
        """Return for every contract what the account shows beyond our executions and the owner's own; 0 where nothing."""
        explained = {con_id: q for (account, con_id), q in self.journal.ignored().items() if account == self.account}
        for trade in self.journal.unfinished():
            explained[trade.con_id] = explained.get(trade.con_id, ZERO) + trade.signed
        contracts = self.positions.keys() | self.journal.our_contracts()
        return {con_id: self.shown(con_id) - explained.get(con_id, ZERO) for con_id in contracts}

    def is_counted(self, con_id: int) -> bool:
        """Whether the position was told after our last execution, so that it counts it."""
        return con_id not in self._uncounted

    def counts_late(self) -> bool:
        """Whether a position was not told for a while after an execution of ours, so that it must be asked for."""
        now = self.clock.now()
        return any(now - at >= LATE_POSITION for at in self._uncounted.values())

    def may_lag(self, con_id: int) -> bool:
        """Whether the position shown may not count our last execution yet, so that nothing unknown can be told by it."""
        if con_id in self._uncounted:
            return True
        at = self._filled_at.get(con_id)
        return at is not None and abs(self.clock.now() - at) < LATE_POSITION

    def contract_for(self, symbol: str) -> Contract | str | None:
        """Return a symbol's contract, why there is none, or None while it is being asked for."""
        if symbol not in self.contracts:
            self._ask(symbol)
        return self.contracts.get(symbol)

    def _ask(self, symbol: str, con_id: int = 0) -> None:
        if (symbol, con_id) not in self._asked and self.ready_since:
            self._asked.add((symbol, con_id))
            self.broker.request_contract(symbol, con_id)

    def forget_refusal(self, symbol: str) -> None:
        """Ask again for a symbol the next time: the configuration or TWS may have changed."""
        self.contracts.pop(symbol, None)

    def contract_of(self, trade: Trade) -> Contract | None:
        """Return the contract of a trade; asked for again after a restart, by its number where its symbol means another."""
        if trade.con_id not in self._by_id:
            meant = self.contract_for(trade.symbol)
            if meant is not None and trade.con_id not in self._by_id:
                self._ask(trade.symbol, trade.con_id)
        return self._by_id.get(trade.con_id)
