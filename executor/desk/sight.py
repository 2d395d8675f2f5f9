"""What the broker shows now: positions and contracts as last reported, and how far a position can be trusted."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from common.clock import Clock
from common.signals import Side
from executor.core.orders import ZERO
from executor.core.ports import Broker, Contract, Fill, Position, Snapshot
from executor.core.reconcile import CLOCKS_APART
from executor.core.trades import Trade
from executor.desk.book import Book
from executor.desk.gate import Gate

COUNTED = timedelta(seconds=2)  # a snapshot so long after an execution counts it
READ_LATELY = timedelta(seconds=15)  # how recent a reading must be for an owner's choice to act on it
HOURS_TOLD = timedelta(minutes=10)  # how long TWS's answer that a market is closed is relied on
NAME_TOLD = timedelta(minutes=1)  # how long until a contract that TWS did not identify is looked up again
PRICE_TOLD = timedelta(seconds=5)  # how long TWS's answer that there is no price is relied on
LATE_POSITION = timedelta(seconds=5)  # how long a position report may lag behind our own execution


class Sight:
    """Kept in memory only: after a restart the broker is asked."""

    def __init__(self, book: Book, gate: Gate, broker: Broker, clock: Clock) -> None:
        self._book, self._gate, self._broker, self._clock = book, gate, broker, clock
        self.contracts: dict[str, Contract | str] = {}  # canonical symbol → contract, or why there is none
        self.last: Snapshot | None = None  # the last complete reading of the broker
        self.unnamed: dict[int, str] = {}  # conId of a trade whose contract TWS does not name → its words
        self._positions: dict[int, Position] = {}  # conId → what the account shows
        self._by_id: dict[int, Contract] = {}
        self._priceless: dict[str, datetime] = {}  # symbol → when TWS was last asked about it
        self._answered: dict[int, datetime] = {}  # conId → when TWS last answered a question about it
        self._asked: set[tuple[str, int]] = set()  # questions: a symbol, and the conId where it is that one
        self._filled_at: dict[int, datetime] = {}  # conId → our last execution
        self._moved: dict[int, datetime] = {}  # conId → when its position last moved
        self._told: set[int] = set()  # contracts whose position TWS has shown on this connection
        self._behind: dict[int, Decimal] = {}  # conId → our executions that its position has not followed
        self._ahead: dict[
            int, tuple[datetime, Decimal]
        ] = {}  # conId → what its position moved before any execution, when
        self._uncounted: dict[int, datetime] = {}  # conId → our last execution, until the position is reported after it

    # ---- positions ----

    def position(self, con_id: int) -> Position | None:
        """Return the position in a contract as last reported, None where none was."""
        return self._positions.get(con_id)

    def shown(self, con_id: int) -> Decimal:
        """Return the net position that the broker last showed in a contract."""
        position = self._positions.get(con_id)
        return position.quantity if position else ZERO

    def shown_of(self, trade: Trade) -> Decimal:
        """Return what the account shows of a trade, in its direction: all but the owner's own and other trades'."""
        shown = self.shown(trade.con_id) - self._book.beside(trade.con_id) - self._book.of_others(trade)
        return shown if trade.side is Side.BUY else -shown

    def held_of(self, trade: Trade) -> Decimal:
        """Return what the account holds of a trade, in its direction: what it shows, plus our executions not in it yet."""
        behind = self.behind(trade.con_id)
        return self.shown_of(trade) + (behind if trade.side is Side.BUY else -behind)

    def unexplained(self, con_id: int) -> Decimal:
        """Return what the account shows in a contract beyond our executions and the owner's own."""
        ours = sum((trade.signed for trade in self._book.in_contract(con_id)), ZERO)
        return self.shown(con_id) - self._book.beside(con_id) - ours

    def all_unexplained(self) -> dict[int, Decimal]:
        """Return conId → what nothing explains, for every contract in which something is."""
        held = {trade.con_id for trade in self._book.unfinished()}
        contracts = self._positions.keys() | self._book.holdings().keys() | held
        return {con_id: q for con_id in contracts if (q := self.unexplained(con_id))}

    def symbol(self, con_id: int) -> str:
        """Return the symbol of a contract in which something is held or was traded."""
        position = self._positions.get(con_id)
        return position.symbol if position else self._book.contracts().get(con_id, "")

    def was_told(self, con_id: int) -> bool:
        """True if TWS has shown a position in a contract on this connection: it has loaded it, and none now is none."""
        return con_id in self._told

    def moved(self, position: Position) -> None:
        """Take in a position report."""
        self._told.add(position.con_id)
        if by := position.quantity - self.shown(position.con_id):
            self._moved[position.con_id] = self._clock.now()
            self._follow(position.con_id, by)
        self._positions[position.con_id] = position
        self._uncounted.pop(position.con_id, None)

    def filled(self, fill: Fill) -> None:
        """Note an execution: until TWS reports the position after it, the position does not count it."""
        now = self._filled_at[fill.con_id] = self._clock.now()
        if self._book.knows(fill.exec_root):
            return
        ahead = self._ahead_of(fill, now)
        if ahead != fill.signed:
            self._uncounted[fill.con_id] = now
        if ahead:
            self._ahead[fill.con_id] = now, ahead - fill.signed
        elif fill.order_ref:
            self._behind[fill.con_id] = self._behind.get(fill.con_id, ZERO) + fill.signed

    def _ahead_of(self, fill: Fill, now: datetime) -> Decimal:
        """Return by how much the position moved before the report of an execution that it includes; it may include several."""
        at, ahead = self._ahead.get(fill.con_id, (now, ZERO))
        counts = fill.signed * ahead > 0 and abs(fill.signed) <= abs(ahead) and now - at <= COUNTED
        return ahead if counts else ZERO

    def _follow(self, con_id: int, by: Decimal) -> None:
        """A position moved by so much: it follows our executions, or is ahead of them, or it is something else."""
        behind = self._behind.get(con_id, ZERO)
        if by * behind > 0 and abs(by) < abs(behind):
            self._behind[con_id] = behind - by
        elif by:
            self._behind.pop(con_id, None)
            self._ahead[con_id] = self._clock.now(), by - behind if by * behind > 0 else by

    def behind(self, con_id: int) -> Decimal:
        """Return our executions that a position does not count yet, though everything was read after the last of them.

        0 where it is not known to be only that: an execution of anybody else's would have been read as well.
        """
        at = self._filled_at.get(con_id)
        if con_id not in self._behind or self.last is None or at is None:
            return ZERO
        if (self.last.begun_at or self.last.taken_at) <= at:
            return ZERO
        others = (f for f in self.last.fills if f.con_id == con_id and not self._book.is_attributed(f.exec_root))
        traded = any(f.at >= at - CLOCKS_APART for f in others)
        return ZERO if traded else self._behind[con_id]

    def read(self, snapshot: Snapshot, account: str) -> None:
        """Take in all positions of a complete snapshot."""
        shown = {p.con_id: p for p in snapshot.positions if p.account == account}
        for con_id in self._positions.keys() | shown.keys():
            after = shown[con_id].quantity if con_id in shown else ZERO
            self._follow(con_id, after - self.shown(con_id))
        self._positions = shown
        self._told.update(self._positions)
        for con_id in [c for c, at in self._uncounted.items() if snapshot.taken_at - at >= COUNTED]:
            del self._uncounted[con_id]

    def is_counted(self, con_id: int) -> bool:
        """True if the position was reported after our last execution, so that it counts it."""
        return con_id not in self._uncounted

    def was_read_since(self, at: datetime) -> bool:
        """True if everything was read after an instant."""
        return self.last is not None and (self.last.begun_at or self.last.taken_at) >= at

    def is_fresh(self, con_id: int) -> bool:
        """True if everything was read a moment ago, after the last report that changed a position or a trade."""
        if self.last is None or not self.is_counted(con_id):
            return False
        begun = self.last.begun_at or self.last.taken_at
        over = (o.done_at for trade in self._book.in_contract(con_id) for o in trade.orders)
        changes = [at for at in (*over, self._moved.get(con_id), self._filled_at.get(con_id)) if at is not None]
        return abs(self._clock.now() - begun) <= READ_LATELY and all(at <= begun for at in changes)

    def counts_late(self) -> bool:
        """True if a position has not been reported for a while after an execution of ours, so that it must be requested."""
        now = self._clock.now()
        return any(now - at >= LATE_POSITION for at in self._uncounted.values())

    def may_lag(self, con_id: int) -> bool:
        """Whether the position shown may not count our last execution yet, so that nothing unknown can be told by it."""
        return con_id in self._uncounted or self.lags_until(con_id) is not None

    def lags_until(self, con_id: int) -> datetime | None:
        """Return until when a position report may lag behind our last execution, None where it does not any more."""
        at, now = self._filled_at.get(con_id), self._clock.now()
        return at + LATE_POSITION if at is not None and abs(now - at) < LATE_POSITION else None

    # ---- contracts ----

    def contract_for(self, symbol: str) -> Contract | str | None:
        """Return a symbol's contract, why there is none, or None while it is being asked for."""
        if symbol not in self.contracts:
            self._ask(symbol)
        return self.contracts.get(symbol)

    def awaits_price(self, symbol: str, con_id: int) -> bool:
        """True while a price that is unknown or too old is being requested; the answer may be that there is none."""
        if self._broker.price(con_id) is not None:
            return False
        told = self._priceless.get(symbol)
        if told is not None and abs(self._clock.now() - told) < PRICE_TOLD:
            return False
        self._ask(symbol)
        return True

    def contract_of(self, trade: Trade) -> Contract | None:
        """Return the contract of a trade; asked for again after a restart, by its number where its symbol means another."""
        if trade.con_id not in self._by_id:
            meant = self.contract_for(trade.symbol)
            if meant is not None and trade.con_id not in self._by_id and not self._was_told(trade.con_id, NAME_TOLD):
                self._ask(trade.symbol, trade.con_id)
        return self._by_id.get(trade.con_id)

    def size_step(self, con_id: int) -> Decimal:
        """Return in which steps a contract can be traded; 1 where it is not known."""
        contract = self._by_id.get(con_id)
        return contract.size_step if contract else Decimal(1)

    def opens_at(self, trade: Trade) -> datetime | None:
        """Return when a trade's market opens; None where it is open, or where its hours are not known for now."""
        contract = self._by_id.get(trade.con_id)
        return contract.opens_at(self._clock.now()) if contract else None

    def awaits_hours(self, trade: Trade) -> bool:
        """True while TWS has not identified a trade's contract, or is asked again for its hours.

        No close waits for hours that were reported long ago.
        """
        contract, now = self.contract_of(trade), self._clock.now()
        if contract is None:
            return True  # nothing can be ordered in it: its exits are all that protects the trade
        if not contract.seems_closed(now) or self._was_told(trade.con_id, HOURS_TOLD):
            return False
        self._ask(trade.symbol, trade.con_id)
        return (trade.symbol, trade.con_id) in self._asked

    def named(self, symbol: str, answer: Contract | str, con_id: int) -> None:
        """Take in the answer to a question; see `ports.Listener.on_contract`."""
        if isinstance(answer, Contract):
            self._by_id[answer.con_id] = answer
            self.unnamed.pop(answer.con_id, None)
        elif con_id and con_id not in self._by_id:
            self.unnamed[con_id] = answer
        self._asked.discard((symbol, con_id))
        if con_id:
            self._answered[con_id] = self._clock.now()
        else:
            self._priceless[symbol] = self._clock.now()
            self.contracts[symbol] = answer

    def forget_refusal(self, symbol: str) -> None:
        """Ask again for a symbol the next time: the configuration or TWS may have changed."""
        self.contracts.pop(symbol, None)

    def forget_questions(self) -> None:
        """The connection is gone: the next one asks again, and reports its positions anew."""
        self._asked.clear()
        for con_id in self.unnamed:
            self._answered.pop(con_id, None)
        self._priceless.clear()
        self._told.clear()
        self._behind.clear()
        self._ahead.clear()

    def _was_told(self, con_id: int, lately: timedelta) -> bool:
        """True if TWS answered a question about a contract so lately that it is not asked again."""
        at = self._answered.get(con_id)
        return at is not None and abs(self._clock.now() - at) < lately

    def _ask(self, symbol: str, con_id: int = 0) -> None:
        if (symbol, con_id) not in self._asked and self._gate.ready_since:
            self._asked.add((symbol, con_id))
            self._broker.request_contract(symbol, con_id)
