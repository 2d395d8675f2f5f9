"""The book: the journal's current state, in memory, as one object.

It is loaded once, at start. A change is made inside `change()`: it is visible there at once, and counts once it has been
committed; a commit that fails rolls all of it back. Nothing is sent from inside a change, so nothing acts on what is not
committed. After a restart the loaded book equals the one that was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from common.chain import MOST_STRATEGIES, Link, hang
from common.clock import Clock
from common.errors import JournalMisuse
from common.signals import Action, Envelope, Side, Signal, payload_text
from executor.core.brackets import is_ours
from executor.core.conditions import AlarmKind
from executor.core.orders import OWN, ZERO, Execution, Order
from executor.core.outcomes import Outcome, SignalState
from executor.core.ports import Fill
from executor.core.rules import RELAYS_APART
from executor.core.trades import State, Trade
from executor.desk.shelf import Shelf
from executor.journal.journal import Journal
from executor.journal.rows import OWNERS, Alarm, Block, Holding, InboxRow, Line, Meaning, StrategyChain, describe

# How long a finished trade and an execution stay in the book: TWS reports on them until its day is over.
KEPT = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Number:
    """The next number of a kind: order ids of a client, trades, executions. They never go backwards."""

    of: str  # a client id, "trade" or "execution"
    following: int


class Book:
    """See the module. All methods run on the event loop's thread."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Load it.

        Raises:
            JournalError: The journal cannot be read.
        """
        self._journal, self._clock = journal, clock
        self.on_trade: Callable[[Trade], None] = lambda trade: None  # hears of a trade when a change of it is committed
        self._changing = False
        self._lines: list[Line] = []
        self._after: list[Callable[[], None]] = []  # what is reported once this change is committed
        self._last_words: dict[str, str] = {}  # of alarms that end in this change, by key
        self._writes: list[Callable[[], None]] = []  # what is written beside the shelves
        self._orders: dict[str, int] = {}  # order_ref → trade id
        self._order_ids: dict[tuple[int | None, int], str] = {}  # (client id, order id) → order_ref
        self._open: dict[int, set[int]] = {}  # conId → ids of unfinished trades
        self._symbols: dict[str, set[int]] = {}  # symbol → ids of unfinished trades
        self._ended: dict[str, set[int]] = {}  # symbol → ids of finished trades
        self._owners: dict[str, int] = {}  # exec_root → the trade that accounts for it
        self._waiting: dict[str, dict[int, InboxRow]] = {}  # symbol → seq → signal that is not done
        self._names: dict[int, set[str]] = {}  # conId → the symbols that mean it
        self._trades: Shelf[int, Trade] = Shelf(lambda t: t.id, self._save_trade, self._index_trade)
        # executions that no trade accounts for
        self._foreign: Shelf[str, Execution] = Shelf(lambda e: e.exec_root, self._save_foreign)
        self._signals: Shelf[int, InboxRow] = Shelf(lambda r: r.seq, self._save_signal, self._index_signal)
        self._blocks: Shelf[tuple[int, Side], Block] = Shelf(lambda b: (b.con_id, b.side), self._save_block)
        self._holdings: Shelf[int, Holding] = Shelf(lambda h: h.con_id, self._save_holding)
        self._meanings: Shelf[str, Meaning] = Shelf(lambda m: m.symbol, self._save_meaning, self._index_meaning)
        self._chains: Shelf[tuple[str, str], StrategyChain] = Shelf(lambda c: c.key, self._save_chain)
        self._alarms: Shelf[str, Alarm] = Shelf(lambda a: a.key, self._save_alarm)
        self._numbers: Shelf[str, Number] = Shelf(lambda n: n.of, self._save_number)
        self._shelves: tuple[Shelf[Any, Any], ...] = (
            self._trades, self._foreign, self._signals, self._blocks, self._holdings, self._meanings, self._alarms,
            self._numbers, self._chains,
        )  # fmt: skip
        self._load()

    def _load(self) -> None:
        found = self._journal.load(self._clock.now() - KEPT)
        self.bound_account = found.account  # the account that this journal belongs to, None while it has none
        self.account = found.account or ""  # the account that is traded
        self.relay_mode = found.relay_mode  # what the relay last said of its own
        self.traded = dict(found.traded)  # every contract that was ever traded → its symbol
        self._trades.load(found.trades)
        self._foreign.load(found.foreign)
        self._signals.load(found.signals)
        self._blocks.load(found.blocks)
        self._holdings.load(found.holdings)
        self._meanings.load(found.meanings)
        self._chains.load(found.chains)
        self._alarms.load(found.alarms)
        self._numbers.load(Number(str(client_id), following) for client_id, following in found.order_ids.items())
        self._numbers.load((Number("trade", found.next_trade), Number("execution", found.next_execution)))

    # ---- what a change writes ----

    def _save_trade(self, before: Trade | None, after: Trade | None) -> None:
        if after is not None:
            self._journal.save_trade(before, after)

    def _save_foreign(self, before: Execution | None, after: Execution | None) -> None:
        if after is not None:
            self._journal.save_execution(after, None)

    def _save_signal(self, before: InboxRow | None, after: InboxRow | None) -> None:
        if after is not None:
            self._journal.save_signal(before or after.as_received(), after)

    def _save_block(self, before: Block | None, after: Block | None) -> None:
        if after is not None:
            self._journal.save_block(self.account, after)
        elif before is not None:
            self._journal.drop_block(self.account, before)

    def _save_holding(self, before: Holding | None, after: Holding | None) -> None:
        if after is not None:
            self._journal.save_holding(self.account, after)

    def _save_meaning(self, before: Meaning | None, after: Meaning | None) -> None:
        if after is not None:
            self._journal.save_meaning(after)

    def _save_chain(self, before: StrategyChain | None, after: StrategyChain | None) -> None:
        if after is not None:
            self._journal.save_chain(after)
        elif before is not None:
            self._journal.drop_chain(before)

    def _save_alarm(self, before: Alarm | None, after: Alarm | None) -> None:
        if before is not None and after is not None and before.raised_at == after.raised_at:
            self._journal.reword_alarm(after)
            return
        if before is not None:
            self._journal.clear_alarm(before.key, self._last_words.get(before.key, ""))
        if after is not None:  # one that ended and began again in one change is a new one
            self._journal.raise_alarm(after)

    def _save_number(self, before: Number | None, after: Number | None) -> None:
        if after is not None and after.of.isdigit():  # the others follow from the rows
            self._journal.save_order_id(int(after.of), after.following)

    # ---- changing it ----

    @property
    def is_changing(self) -> bool:
        """True if a change is being made, which is not committed yet: nothing may be sent."""
        return self._changing

    @contextmanager
    def change(self) -> Iterator[None]:
        """Commit everything that is put within, together, or take all of it back. One inside another joins it.

        Raises:
            JournalError: Nothing was written, and the book is as it was before.
        """
        if self._changing:
            yield
            return
        self._changing = True
        try:
            with self._journal.transaction():
                yield
                self._write()
        except BaseException:
            for shelf in self._shelves:
                shelf.take_back()
            raise
        else:
            after = self._settle()
        finally:
            self._lines, self._writes, self._after, self._last_words, self._changing = [], [], [], {}, False
        for act in after:
            act()

    def _settle(self) -> list[Callable[[], None]]:
        """Take in what is committed; return what is to be done about it."""
        done = [row.seq for row in self._signals.changed() if row.state is SignalState.DONE]
        heard = [partial(self.on_trade, trade) for trade in self._trades.changed()]
        for shelf in self._shelves:
            shelf.settle()
        for key in done:
            self._signals.forget(key)
        return [*heard, *self._after]

    def _write(self) -> None:
        """Write every difference; the journal's rows follow from the values."""
        for shelf in self._shelves:
            shelf.save()
        self._journal.write(self._lines)
        for write in self._writes:
            write()

    def log(
        self, kind: str, details: str, *, symbol: str = "", trade_id: int | None = None, signal_id: str | None = None,
        order_ref: str | None = None,
    ) -> None:  # fmt: skip
        """Append one line to the trade log, within a change."""
        self._lines.append(Line(self._clock.now(), kind, details, symbol, trade_id, signal_id, order_ref))

    def after(self, act: Callable[[], None]) -> None:
        """Call something once the change is committed; never if it is not."""
        self._after.append(act)

    # ---- trades ----

    def trade(self, trade_id: int) -> Trade:
        """Return one trade; one that ended long ago is taken in from the journal.

        Raises:
            KeyError: There is no such trade.
        """
        trade = self._trades.get(trade_id)
        if trade is None:
            trade = self._journal.trade(trade_id)
            self._trades.load((trade,))
        return trade

    def put(self, trade: Trade) -> Trade:
        """Change a trade, within a change; it is returned."""
        self._trades.put(trade)
        return trade

    def add(self, trade: Trade) -> Trade:
        """Take in a new trade, within a change; it is returned with its id."""
        trade = replace(trade, id=self._take("trade"))
        self.after(lambda: self.traded.update({trade.con_id: trade.symbol}))
        return self.put(trade)

    def unfinished(self) -> list[Trade]:
        """Return every trade that is not closed, oldest first."""
        ids = sorted(trade_id for found in self._open.values() for trade_id in found)
        return [self.trade(trade_id) for trade_id in ids]

    def in_contract(self, con_id: int) -> list[Trade]:
        """Return the unfinished trades in a contract, oldest first."""
        return [self.trade(trade_id) for trade_id in sorted(self._open.get(con_id, ()))]

    @property
    def open_count(self) -> int:
        """How many trades are not closed."""
        return sum(map(len, self._open.values()))

    def open_trade(self, con_id: int, symbol: str = "") -> Trade | None:
        """Return the trade in a contract that signals mean, or else the symbol's in another one.

        At most one is neither on hold nor on its way out. What is left of earlier ones counts where there is none.
        """
        found = self._open.get(con_id) or self._symbols.get(symbol) or ()
        return min((self.trade(trade_id) for trade_id in found), key=_last_of_all, default=None)

    def of_others(self, trade: Trade) -> Decimal:
        """Return what the other unfinished trades in a trade's contract hold, as it adds to the account's position."""
        return sum((other.signed for other in self.in_contract(trade.con_id) if other.id != trade.id), ZERO)

    def last_ended(self, symbol: str) -> Trade | None:
        """Return the newest finished trade of a symbol, of those that ended lately; None where none did."""
        ended = map(self.trade, self._ended.get(symbol, ()))
        return max(ended, key=lambda trade: (trade.closed_at or trade.timestamp, trade.id), default=None)

    def _index_trade(self, before: Trade | None, after: Trade | None) -> None:
        if before is not None and (after is None or before.closed != after.closed):
            self._open.get(before.con_id, set()).discard(before.id)
            self._symbols.get(before.symbol, set()).discard(before.id)
            self._ended.get(before.symbol, set()).discard(before.id)
        if before is not None and (
            after is None or before.orders != after.orders or before.executions != after.executions
        ):
            self._unindex(before)
            before = None
        if after is None:
            return
        if after.closed:
            self._ended.setdefault(after.symbol, set()).add(after.id)
        else:
            self._open.setdefault(after.con_id, set()).add(after.id)
            self._symbols.setdefault(after.symbol, set()).add(after.id)
        if before is None:
            self._index_orders(after)

    def _index_orders(self, trade: Trade) -> None:
        for order in trade.orders:
            self._orders[order.order_ref] = trade.id
            if order.order_id:
                self._order_ids[order.client_id, order.order_id] = order.order_ref
        for execution in trade.executions:
            self._owners[execution.exec_root] = trade.id

    def _unindex(self, trade: Trade) -> None:
        for order in trade.orders:
            self._orders.pop(order.order_ref, None)
            self._order_ids.pop((order.client_id, order.order_id or 0), None)
        for execution in trade.executions:
            self._owners.pop(execution.exec_root, None)

    # ---- orders ----

    def find_order(
        self, order_ref: str | None, client_id: int | None = None, order_id: int = 0
    ) -> tuple[Trade, Order] | None:
        """Return an order of ours and its trade, by its reference, else by our client id and order id.

        Those of unfinished trades, and of trades that ended lately, are found in memory.
        """
        ref = (
            order_ref if order_ref in self._orders else self._order_ids.get((client_id, order_id)) if order_id else None
        )
        if ref is not None:
            trade = self.trade(self._orders[ref])
            return trade, trade.order(ref)
        known = order_ref if is_ours(order_ref) else ""
        if not known and not order_id:
            return None  # another's
        trade_id = self._journal.trade_of_order(order_ref=known or "", client_id=client_id, order_id=order_id)
        if trade_id is None:
            return None
        self.trade(trade_id)  # taken in again
        return self.find_order(order_ref, client_id, order_id)

    def take_order_ids(self, client_id: int, count: int, floor: int) -> int:
        """Return the first of `count` order ids that were never used, at or above the broker's floor."""
        known = self._numbers.get(str(client_id))
        first = max(floor, known.following if known else 1)
        self._numbers.put(Number(str(client_id), first + count))
        return first

    def other_clients(self, client_id: int) -> list[int]:
        """Return the client ids other than ours under which orders of this journal are live, or may be."""
        live = (o for trade in self.unfinished() for o in trade.live)
        return sorted({o.client_id for o in live if o.client_id not in (None, client_id)})

    # ---- executions ----

    def knows(self, exec_root: str) -> bool:
        """True if an execution is written down, in whichever revision."""
        return exec_root in self._owners or self._foreign.get(exec_root) is not None

    def is_attributed(self, exec_root: str) -> bool:
        """True if a trade accounts for an execution, or what the owner holds beside the trades does."""
        foreign = self._foreign.get(exec_root)
        return exec_root in self._owners or (foreign is not None and foreign.order_ref == OWN)

    def execution(self, exec_root: str) -> tuple[Execution, Trade | None] | None:
        """Return an execution that is written down, and the trade that accounts for it."""
        trade_id = self._owners.get(exec_root)
        if trade_id is not None:
            trade = self.trade(trade_id)
            return next(e for e in trade.executions if e.exec_root == exec_root), trade
        foreign = self._foreign.get(exec_root)
        return (foreign, None) if foreign else None

    def as_execution(self, fill: Fill, order_ref: str, known: Execution | None) -> Execution:
        """Return what the broker reported about an execution as a value; a correction keeps its place."""
        return Execution(
            at=known.at if known else fill.at, seq=known.seq if known else self._take("execution"), exec_root=fill.exec_root,
            exec_id=fill.exec_id, order_ref=order_ref, side=fill.side, quantity=fill.quantity, price=fill.price,
            account=fill.account, con_id=fill.con_id, commission=fill.commission if known is None else known.commission,
            liquidation=fill.liquidation,
        )  # fmt: skip

    def put_foreign(self, execution: Execution) -> None:
        """Write down an execution that no trade accounts for, within a change."""
        self._foreign.put(execution)

    def attributed(self, exec_root: str) -> None:
        """A trade accounts for an execution from now on, within a change."""
        self._foreign.take_off(exec_root)

    def counted_as_own(self, exec_root: str) -> None:
        """What the owner holds beside the trades accounts for an execution from now on, within a change."""
        foreign = self._foreign.get(exec_root)
        if foreign is not None:
            self._foreign.put(replace(foreign, order_ref=OWN))

    # ---- signals ----

    def receive(self, envelope: Envelope, payload: str) -> InboxRow | None:
        """Take in one verified signal, within a change; None when it was there already."""
        found, link = self._hang(envelope)
        row = self._journal.receive(envelope, payload, link is Link.LATE)
        if row is not None:
            if found is not None:
                self._put_chain(found)
            self._signals.put(row)
            self.log("signal", describe(envelope.signal), symbol=row.signal.symbol, signal_id=row.signal_id)
        return row

    def ask(self, signal: Signal) -> InboxRow:
        """Take in what the owner asks for on the page as a signal of its own, within a change.

        It is no alert of the strategy, whose chain does not move. Its id is written down with it, so that after a restart
        its orders are looked up under the same references.

        Raises:
            JournalMisuse: The same was asked for in the same instant.
        """
        now = self._clock.now()
        envelope = Envelope(f"{OWNERS}{now:%Y%m%dT%H%M%S%f}-{signal.symbol}", now, None, signal)
        row = self._journal.receive(envelope, payload_text(envelope))
        if row is None:
            raise JournalMisuse(f"{signal.symbol} was asked for twice in the same instant")
        self._signals.put(row)
        return row

    def _hang(self, envelope: Envelope) -> tuple[StrategyChain | None, Link]:
        """Return the chain of a strategy with one more alert, and how that hangs there; None where there is none.

        One that the relay received long before the last (a dead letter that was brought back) is no part of it.
        """
        signal, at = envelope.signal, envelope.received_at
        name = signal.strategy_name or ""
        known = self._chains.get((signal.symbol, name))
        if signal.position is None or (known is not None and known.received_at - at > RELAYS_APART):
            return None, Link.FOLLOWS
        chain, link = hang(known.chain if known else None, signal.position, signal.prev, at, signal.time)
        opened_by = known.opened_by if known and link is not Link.MISSED else None
        if signal.action is Action.OPEN and link is not Link.LATE:
            opened_by = envelope.id
        return StrategyChain(signal.symbol, name, chain, at, opened_by), link

    def _put_chain(self, found: StrategyChain) -> None:
        """Keep a chain; of too many in its symbol, the one that was silent longest is forgotten."""
        if self._chains.get(found.key) is None:
            beside = sorted(self._chains_of(found.symbol), key=lambda c: c.received_at)
            for chain in beside[: max(0, len(beside) - MOST_STRATEGIES + 1)]:
                self._chains.take_off(chain.key)
        self._chains.put(found)

    def _chains_of(self, symbol: str) -> list[StrategyChain]:
        return [chain for chain in self._chains.values() if chain.symbol == symbol]

    def strategy_of(self, symbol: str) -> StrategyChain | None:
        """Return the chain of the strategy that spoke last in a symbol, None where none did."""
        return max(self._chains_of(symbol), key=lambda chain: chain.received_at, default=None)

    def opening_of(self, chain: StrategyChain) -> Signal | None:
        """Return the alert whose exits count for a strategy's position; None where it is not known."""
        return self._journal.signal(chain.opened_by) if chain.opened_by else None

    def came_late(self, symbol: str, strategy_name: str | None) -> str | None:
        """Return which alert the last late one of a strategy belongs before, as the relay keys its notice."""
        found = self._chains.get((symbol, strategy_name or ""))
        return found.came_late if found else None

    def has_come(self, symbol: str, key: str) -> bool:
        """True if the alert that a notice of the relay says was missed has come, late, whichever strategy's it is."""
        return any(chain.came_late == key for chain in self._chains_of(symbol))

    def signal(self, seq: int) -> InboxRow | None:
        """Return a signal that is not done."""
        return self._signals.get(seq)

    def put_signal(self, row: InboxRow) -> None:
        """Change a signal, within a change; one that is done leaves the book when that is committed."""
        if self._signals.get(row.seq) != row:
            self._signals.put(row)

    def finish_signal(self, row: InboxRow, outcome: Outcome, reason: str, trade_id: int | None = None) -> None:
        """Give a signal its one outcome, with the reason in words, within a change."""
        done = replace(
            row, state=SignalState.DONE, outcome=outcome, reason=reason, trade_id=trade_id or row.trade_id,
            decided_at=self._clock.now(),
        )  # fmt: skip
        self._signals.put(done)
        self.log(outcome, reason, symbol=row.signal.symbol, signal_id=row.signal_id, trade_id=trade_id)

    def revise_signal(self, signal_id: str, outcome: Outcome, reason: str) -> None:
        """Correct the outcome of a signal whose entry came to nothing after all, within a change."""
        self._writes.append(lambda: self._journal.revise_signal(signal_id, outcome, reason))

    def waiting(self, symbol: str) -> list[InboxRow]:
        """Return the signals of a symbol that are not done, in the order of arrival."""
        return list(self._waiting.get(symbol, {}).values())

    @property
    def waiting_symbols(self) -> list[str]:
        """The symbols for which signals are not done."""
        return list(self._waiting)

    def in_order(self, symbols: Iterable[str]) -> list[str]:
        """Return those of some symbols for which signals wait, the one whose signal arrived first before the others."""
        waiting = [(min(found), symbol) for symbol in symbols if (found := self._waiting.get(symbol))]
        return [symbol for _, symbol in sorted(waiting)]

    def undone(self) -> list[InboxRow]:
        """Return the signals that are not done, in the order of arrival."""
        return [row for _, row in sorted((row.seq, row) for found in self._waiting.values() for row in found.values())]

    def _index_signal(self, before: InboxRow | None, after: InboxRow | None) -> None:
        row = after or before
        if row is None:
            return
        waiting = self._waiting.setdefault(row.signal.symbol, {})
        if after is None or after.state is SignalState.DONE:
            waiting.pop(row.seq, None)
        else:
            waiting[row.seq] = after
        if not waiting:
            del self._waiting[row.signal.symbol]

    def set_relay_mode(self, mode: str) -> None:
        """Take in the relay's mode, within a change."""
        self._writes.append(lambda: self._journal.save_relay_mode(mode))
        self.after(lambda: setattr(self, "relay_mode", mode))

    # ---- blocks, holdings, contracts ----

    def block(self, con_id: int, symbol: str, side: Side | None = None) -> Block | None:
        """Return the newest block on a contract, or on its symbol from another one (a future that has rolled on); of a side."""
        found = [
            b for b in self._blocks.values() if (b.con_id == con_id or b.symbol == symbol) and side in (None, b.side)
        ]
        return max(found, key=lambda b: b.since, default=None)

    def set_block(self, trade: Trade, reason: str, *, sure: bool) -> None:
        """Block the side of a trade that ended, in its contract and for its symbol, within a change."""
        self.release_block(trade.con_id, trade.symbol, trade.side)
        block = Block(trade.con_id, trade.symbol, trade.side, self._clock.now(), reason, trade.id, sure)
        self._blocks.put(block)

    def release_block(self, con_id: int, symbol: str, side: Side | None = None) -> bool:
        """Release what `block` may return, of one side or of both, within a change; whether there was any."""
        found = [
            b for b in self._blocks.values() if (b.con_id == con_id or b.symbol == symbol) and side in (None, b.side)
        ]
        for block in found:
            self._blocks.take_off((block.con_id, block.side))
        return bool(found)

    def release(self, symbol: str) -> bool:
        """Release a symbol's re-entry block at the owner's request, within a change; True if one was set."""
        if not self.release_block(self.contract_id(symbol) or 0, symbol):
            return False
        self.log("block released", f"re-entry into {symbol} is allowed again", symbol=symbol)
        return True

    def beside(self, con_id: int) -> Decimal:
        """Return what the owner holds in a contract and chose to leave alone."""
        holding = self._holdings.get(con_id)
        return holding.quantity if holding else ZERO

    def holdings(self) -> dict[int, Decimal]:
        """Return conId → what the owner chose to leave alone."""
        return {h.con_id: h.quantity for h in self._holdings.values()}

    def set_beside(self, con_id: int, symbol: str, quantity: Decimal) -> None:
        """Leave this much alone from now on, within a change."""
        self._holdings.put(Holding(con_id, symbol, quantity, self._clock.now()))

    def contracts(self) -> dict[int, str]:
        """Return every contract that was traded, or in which the owner left a holding alone, and its symbol."""
        return {h.con_id: h.symbol for h in self._holdings.values()} | self.traded

    def trades_in(self, con_id: int) -> bool:
        """True if a contract was traded, or its holding chosen to be left alone."""
        return con_id in self.traded or self._holdings.get(con_id) is not None

    def contract_id(self, symbol: str) -> int | None:
        """Return the contract that a symbol meant when it was last looked up."""
        meaning = self._meanings.get(symbol)
        return meaning.con_id if meaning else None

    def names_of(self, con_id: int) -> set[str]:
        """Return the symbols that mean a contract, and those of its unfinished trades."""
        return self._names.get(con_id, set()) | {self.trade(i).symbol for i in self._open.get(con_id, ())}

    def _index_meaning(self, before: Meaning | None, after: Meaning | None) -> None:
        if before is not None:
            self._names.get(before.con_id, set()).discard(before.symbol)
        if after is not None:
            self._names.setdefault(after.con_id, set()).add(after.symbol)

    def remember_contract(self, symbol: str, con_id: int) -> None:
        """Note what a symbol means, within a change; that it was meant again is noted once a day."""
        known, now = self._meanings.get(symbol), self._clock.now()
        if known is None or known.con_id != con_id or now - known.used_at > timedelta(days=1):
            self._meanings.put(Meaning(symbol, con_id, now))

    def symbols_used_since(self, at: datetime) -> list[str]:
        """Return the symbols that were looked up since then, the latest first."""
        found = sorted(self._meanings.values(), key=lambda m: m.used_at, reverse=True)
        return [m.symbol for m in found if m.used_at >= at]

    # ---- alarms ----

    def alarm(self, kind: AlarmKind, about: str) -> Alarm | None:
        """Return an open alarm."""
        return self._alarms.get(f"{kind.value}:{about}")

    def alarms(self) -> list[Alarm]:
        """Return the open alarms."""
        return self._alarms.values()

    def put_alarm(self, alarm: Alarm) -> None:
        """Raise an alarm, or bring its text up to date, within a change."""
        self._alarms.put(alarm)

    def drop_alarm(self, alarm: Alarm, text: str) -> None:
        """End an alarm with a closing word, within a change."""
        self._last_words[alarm.key] = text
        self._alarms.take_off(alarm.key)

    # ---- the rest ----

    def bind_account(self, account: str) -> None:
        """Remember forever which account this journal belongs to. Bound to another, it raises JournalError."""
        self._journal.bind_account(account)
        self.account = self.bound_account = account

    def _take(self, what: str) -> int:
        number = self._numbers.get(what)
        taken = number.following if number else 1
        self._numbers.put(Number(what, taken + 1))
        return taken

    def tidy(self) -> None:
        """Let go of what ended long ago; the journal keeps it."""
        since = self._clock.now() - KEPT
        for trade in self._trades.values():
            if trade.closed and trade.closed_at is not None and trade.closed_at < since:
                self._trades.forget(trade.id)
        for execution in self._foreign.values():
            if execution.at < since:
                self._foreign.forget(execution.exec_root)
        for row in self._signals.values():
            if row.state is SignalState.DONE:
                self._signals.forget(row.seq)


def _last_of_all(trade: Trade) -> tuple[bool, bool, int]:
    """Return by what a signal's trade is chosen: one on hold last, one that is being closed before it, the oldest first."""
    return trade.state is State.HOLD, trade.state in (State.CANCELLING, State.CLOSING), trade.id
