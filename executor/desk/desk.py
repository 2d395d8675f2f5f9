"""The desk: receives facts, and does everything that follows from them, in an order that a crash cannot hurt.

The order of the steps is what makes it safe: a signal's decision, its orders and their ids are committed together; then
the bytes leave; then the broker's reports are committed. A restart finds each of these steps. `recorder` records facts,
`signals` decides, `orders` takes the steps of trades, `snapshots` compares book and broker, `owner` carries out the
page's buttons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import wraps
from typing import Any

from common.clock import Clock
from common.errors import IllegalTransition, JournalError, JournalMisuse
from common.logs import get_logger
from common.signals import Envelope
from executor.core.commands import Command, CommandRefused
from executor.core.conditions import AlarmKind
from executor.core.orders import OrderState
from executor.core.outcomes import StopCause
from executor.core.policy import Policy
from executor.core.ports import Broker, Connectivity, Contract, Fill, OrderReport, Position, Refusal, Snapshot
from executor.desk.agenda import Agenda
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.desk.gate import Gate
from executor.desk.life import Life
from executor.desk.orders import Orders
from executor.desk.outbox import Outbox
from executor.desk.owner import Owner
from executor.desk.recorder import Recorder
from executor.desk.sight import Sight
from executor.desk.signals import Signals
from executor.desk.snapshots import Snapshots
from executor.desk.watch import MISMATCH, Watch
from executor.journal.journal import Journal

log = get_logger(__name__)

MAX_TURNS = 200  # more turns than this without an end is a bug of ours
# Contracts that signals meant lately are asked for at the start: how lately, and how many at the most, since each
# takes one of IBKR's market data lines (100 by default).
_ASKED_AHEAD, _MOST_AHEAD = timedelta(days=30), 50
_NO_LINE = (
    "TWS has no market data line left ({}): the contracts that were used longest ago lose their prices, and an entry with "
    "exits is refused where there is no price. Close quote windows in TWS and in other programs that use this login, or "
    "order more lines from IBKR"
)


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
    """Hears the facts (ports.Listener). All methods run on the event loop and return at once."""

    def __init__(
        self, journal: Journal, broker: Broker, clock: Clock, policy: Policy, account: str, client_id: int,
        want_snapshot: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Args:
        want_snapshot: asks for a complete snapshot, which is handed to `reconciled`; asked for often, it may come once.
        """
        self._journal, self._broker, self._clock, self.policy = journal, broker, clock, policy
        self.book = book = Book(journal, clock)
        book.account = account or book.account
        self.agenda = agenda = Agenda()
        self.gate = gate = Gate(clock, want_snapshot)
        self.sight = sight = Sight(book, gate, broker, clock)
        self.alarms = alarms = Alarms(book, clock)
        self._outbox = outbox = Outbox(gate, broker)
        self.life = life = Life(book, sight, alarms, clock, policy)
        self.recorder = recorder = Recorder(book, alarms, life, clock, client_id)
        self.orders = orders = Orders(book, gate, sight, life, alarms, agenda, outbox, broker, clock, policy, client_id)
        self.signals = Signals(book, gate, sight, life, alarms, orders, agenda, broker, clock, policy)
        self.watch = Watch(book, gate, sight, alarms, journal, clock)
        self.snapshots = Snapshots(
            book,
            gate,
            sight,
            life,
            alarms,
            recorder,
            orders,
            outbox,
            broker,
            clock,
            policy,
            client_id,
            self.watch.stands_since,
        )
        self.owner = Owner(book, gate, sight, life, alarms, orders, self.signals, outbox, broker, clock)
        book.on_trade = agenda.touch
        gate.forbid(StopCause.RELAY, None if book.relay_mode == "open" else _no_entry(book.relay_mode))
        self._touch_all()
        self._turning = False
        self._ahead: list[str] = []  # symbols whose contracts are still to be asked for, lately used first
        self.before_turn: Callable[[], object] = lambda: None  # the runtime looks here whether this computer slept

    # ---- what the connection and the page ask ----

    @property
    def can_send(self) -> bool:
        """True if orders may go out; see `Gate`."""
        return self.gate.can_send

    @property
    def ready_since(self) -> datetime | None:
        """Since when the broker is seen completely, None while it is not."""
        return self.gate.ready_since

    def status(self) -> dict[str, Any]:
        """Return what the page shows of the desk: mode, reasons, and positions that the journal does not know."""
        mode = "ready" if self.can_send else "stopped" if self.gate.ready_since else "not connected"
        return {
            "mode": mode,
            "text": self.gate.mode_text,
            "stops": self.gate.reasons,
            "unknown": self.owner.unknown_positions(),
        }

    def disconnected(self, text: str) -> None:
        """The broker is not visible: nothing is sent until a snapshot that begins after now has been processed."""
        self.gate.disconnected(text)
        self.sight.forget_questions()

    def clock_doubted(self, why: str) -> None:
        """This computer's clock may have been changed: no entry goes out until it has been compared with the relay's."""
        self.gate.clock_doubt = why

    @_guarded
    def clock_compared(self) -> None:
        """This computer's clock was compared: entries that waited for that are decided now."""
        if self.gate.clock_doubt is not None:
            self.gate.clock_doubt = None
            self.agenda.symbols.update(self.book.waiting_symbols)
            self.advance()

    def needs_settling(self) -> bool:
        """True if orders are in doubt, so that only two equal snapshots some seconds apart will do after a connect."""
        return any(o.state is OrderState.SENDING for t in self.book.unfinished() for o in t.orders)

    def stopped_by(self, exc: Exception) -> None:
        """A journal that cannot be written, or a bug of ours: stop sending, and alert. A bug in one trade holds that one."""
        if isinstance(exc, IllegalTransition) and exc.trade_id is not None and self._held_back(exc):
            self.gate.want_snapshot("a trade was put on hold because of a bug")
            return
        log.error("desk_stopped", reason=str(exc))
        storage = isinstance(exc, JournalError) and not isinstance(exc, JournalMisuse)
        cause = StopCause.STORAGE if storage else StopCause.PROGRAM
        self.gate.forbid(cause, f"stopped: {exc}")
        self.watch.tell_stop(cause, str(exc))

    def _held_back(self, exc: IllegalTransition) -> bool:
        """Put the one trade that a bug concerns on hold; False where that cannot be."""
        log.error("trade_stopped", trade_id=exc.trade_id, reason=str(exc))
        try:
            return self.life.freeze(exc.trade_id or 0, f"a bug in this program: {exc}")
        except JournalError:
            return False  # the caller stops everything

    # ---- signals ----

    def relay_mode(self, mode: str) -> None:
        """Refuse entries while the relay is paused or in close-only mode; exits, a reversal's among them, go on.

        Raises:
            JournalError: It could not be written down.
        """
        if mode != self.book.relay_mode:
            with self.book.change():
                self.book.set_relay_mode(mode)
                self.book.log("relay mode", f"the relay is {mode}" if mode == "open" else _no_entry(mode))
        self.gate.forbid(StopCause.RELAY, None if mode == "open" else _no_entry(mode))

    def receive(self, signals: Sequence[tuple[Envelope, str]]) -> list[bool]:
        """Commit verified signals, with what they mean and the orders that they ask for, and send these; is each new?

        All of them may be acked when this returns: what could not be decided yet is in the inbox.

        Raises:
            JournalError: Nothing was written; ack none of them.
        """
        try:
            news = self._received(signals, decide=not self._turning)
        except Exception as exc:  # a bug in deciding loses no signal
            if isinstance(exc, JournalError) and not isinstance(exc, JournalMisuse):
                raise
            log.exception("not_decided")
            news = self._received(signals, decide=False)
            self.stopped_by(exc)
        try:
            self.advance()
        except Exception as exc:  # what is committed may be acked, whatever became of it afterwards
            log.exception("not_carried_out")
            self.stopped_by(exc)
        return news

    def _received(self, signals: Sequence[tuple[Envelope, str]], *, decide: bool) -> list[bool]:
        if decide:
            self.before_turn()
        touched = self.agenda.take() if decide else ([], [])
        try:
            with self.book.change():
                rows = [self.book.receive(envelope, payload) for envelope, payload in signals]
                self.agenda.symbols.update(row.signal.symbol for row in rows if row)
                if decide:
                    self._work()
        except BaseException:
            self._outbox.drop()
            self._put_back(touched)
            raise
        self._put_back(touched)
        self._flush()
        return [row is not None for row in rows]

    # ---- facts (ports.Listener) ----

    @_guarded
    def on_order(self, report: OrderReport) -> None:
        if self.recorder.report(report):
            self.gate.want_snapshot("an order of a finished trade is alive again")
        self.advance()

    @_guarded
    def on_fill(self, fill: Fill) -> None:
        self.sight.filled(fill)
        self.recorder.fill(fill)
        self._touch(fill.con_id)
        self.advance()

    @_guarded
    def on_commission(self, exec_id: str, commission: Decimal) -> None:
        self.recorder.commission(exec_id, commission)

    @_guarded
    def on_position(self, position: Position) -> None:
        if position.account == self.book.account:
            self.sight.moved(position)
            self._touch(position.con_id)
            self.advance()

    @_guarded
    def on_refusal(self, refusal: Refusal) -> None:
        if self.recorder.refusal(refusal):
            self.gate.want_snapshot(f"TWS refused something (code {refusal.code})")
        self.advance()

    @_guarded
    def on_connectivity(self, state: Connectivity, text: str) -> None:
        if state is Connectivity.LOST:
            self.disconnected(f"TWS has lost its connection to IBKR: {text}")
            self.gate.forbid(StopCause.LINK, self.gate.mode_text)
            return
        self.gate.forbid(StopCause.LINK, None)
        self.disconnected(f"TWS is connected to IBKR again, rereading everything: {text}")
        self.gate.want_snapshot(f"TWS is connected to IBKR again: {text}")

    @_guarded
    def on_contract(self, symbol: str, answer: Contract | str, con_id: int = 0) -> None:
        self.sight.named(symbol, answer, con_id)
        if con_id == 0 and isinstance(answer, Contract):
            with self.book.change():
                self.book.remember_contract(symbol, answer.con_id)
        if self.gate.resends:
            self.gate.want_snapshot("an order waits to be resent, and its contract may be known now")
        self.agenda.symbols.add(symbol)
        self._touch(answer.con_id if isinstance(answer, Contract) else con_id)
        self.advance()

    @_guarded
    def on_unpaced(self) -> None:
        self.agenda.symbols.update(self.book.waiting_symbols)
        self.advance()

    @_guarded
    def on_no_line(self, text: str) -> None:
        self.alarms.state(AlarmKind.MARKET_DATA, _NO_LINE.format(text))

    @_guarded
    def reconciled(self, snapshot: Snapshot) -> None:
        """Bring the book up to date by a complete snapshot; from then on orders may go out.

        While TWS is without IBKR it may show anything or nothing: what it shows then, and what was asked before the
        last trouble, says nothing.
        """
        if StopCause.LINK in self.gate.causes:
            return
        if (snapshot.begun_at or snapshot.taken_at) < self.gate.unseen_at:
            self.gate.want_snapshot("the last snapshot began before the connection was in doubt")
            return
        self.sight.read(snapshot, self.book.account)
        after = self.snapshots.apply(snapshot)
        first = self.gate.ready_since is None
        if first:
            self._opened()
        self.gate.mode_text = "ready"
        if self.can_send:
            for act in after:
                act()
        self.watch.looked()
        self._touch_all()
        self._flush()
        self.advance()
        if first:
            self._ahead = self.book.symbols_used_since(self._clock.now() - _ASKED_AHEAD)[:_MOST_AHEAD]

    def _opened(self) -> None:
        with self.book.change():
            self.watch.began()
            self.book.log("ready", "orders, executions and positions have been read from TWS; trading can continue")
        self.gate.opened()

    def _ask_ahead(self) -> None:
        """Ask for one contract that was traded lately: the first alert of the day finds it known, with a price.

        One for each tick, and none while messages wait: no order has to stand behind these questions.
        """
        while self._ahead and self.can_send and not self._broker.is_paced:
            symbol = self._ahead.pop(0)
            if symbol not in self.sight.contracts:
                self.sight.contract_for(symbol)
                return

    # ---- one turn ----

    def _touch(self, con_id: int) -> None:
        """Something happened in a contract: check its trades, and the signals that mean it."""
        self.watch.changed(con_id)
        for trade in self.book.in_contract(con_id):
            self.agenda.touch(trade)
        self.agenda.symbols.update(self.book.names_of(con_id))

    def _touch_all(self) -> None:
        for trade in self.book.unfinished():
            self.agenda.touch(trade)
        self.agenda.symbols.update(self.book.waiting_symbols)

    @_guarded
    def advance(self) -> None:
        """Do all that can be done now for what was touched: what trades need, then what waiting signals mean."""
        if self._turning or self.book.is_changing:
            return  # the caller that is already working, or changing the book, goes on with it
        self.before_turn()
        for _ in range(MAX_TURNS):
            if not self.agenda.has_work:
                return
            self._turn()
        raise IllegalTransition(f"{MAX_TURNS} turns without an end")

    def _turn(self) -> None:
        """Work on what is touched: one commit for all of it, then the bytes."""
        before = set(self.agenda.trades), set(self.agenda.symbols)
        try:
            with self.book.change():
                self._work()
        except BaseException:
            self._outbox.drop()
            self._put_back((list(before[0]), list(before[1])))
            raise
        self._flush()

    def _work(self) -> None:
        self._turning = True
        try:
            trades, symbols = self.agenda.take()
            for trade_id in trades:
                self.orders.work(trade_id)
            for symbol in self.book.in_order(symbols):
                self.signals.work(symbol)
        finally:
            self._turning = False

    def _put_back(self, touched: tuple[Sequence[int], Sequence[str]]) -> None:
        self.agenda.trades.update(touched[0])
        self.agenda.symbols.update(touched[1])

    def _flush(self) -> None:
        """Write what was committed; the facts that come back at once are worked on after it."""
        turning, self._turning = self._turning, True
        try:
            self._outbox.flush()
        finally:
            self._turning = turning

    @_guarded
    def tick(self) -> None:
        """Timers; called about twice a second."""
        if self.watch.tick(self.snapshots.recheck_at):
            self.snapshots.recheck_at = self._clock.now() + MISMATCH
        self.agenda.wake(self._clock.now())
        self.advance()
        self._ask_ahead()

    def tidy(self) -> None:
        """Let go of what ended long ago; called now and then."""
        self.book.tidy()

    def command(self, command: Command) -> str:
        """Carry out an owner's wish, committed as an event first; what was done, in words.

        Raises:
            CommandRefused: It cannot be done now; the text says why. Nothing was changed.
        """
        try:
            text = self.owner.obey(command)
        except BaseException as exc:
            self._outbox.drop()
            if not isinstance(exc, JournalError):
                raise
            self.stopped_by(exc)
            raise CommandRefused(f"nothing was done, because the journal could not be written: {exc}") from exc
        self._touch_all()
        self._flush()
        self.advance()
        return text


def _no_entry(mode: str) -> str:
    return f"the relay is in {mode} mode: no entry is made until `python -m relay resume`"
