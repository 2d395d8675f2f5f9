"""A journal without a file: it keeps what the real book writes, and notes what each commit leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from common.signals import Envelope, Side
from executor.core.conditions import AlarmKind
from executor.core.orders import ZERO, Execution
from executor.core.outcomes import SignalState
from executor.core.rules import UNDER_WAY
from executor.core.trades import Trade
from executor.journal.journal import Loaded
from executor.journal.rows import Alarm, Block, InboxRow, Line, Meaning
from tests.search.world import ACCOUNT, CLIENT_ID, Kept

# Alarms that ask nothing of anybody; a reduction is not filled since here a market order rests for as long as it likes.
TELLS = frozenset({AlarmKind.EXPIRED_SIGNAL, AlarmKind.CLOSE_WAITS, AlarmKind.NOT_REDUCED})


class Ledger:
    """Stands where `executor.journal.journal.Journal` does; what it has is in `kept` after each commit."""

    def __init__(self, kept: Kept, committed: Callable[[Kept], None]) -> None:
        self.kept, self._committed = kept, committed
        self._open()

    def _open(self) -> None:
        kept = self.kept
        self._trades = {t.id: t for t in kept.trades}
        self._foreign = {e.exec_root: e for e in kept.foreign}
        self._signals = {r.seq: r for r in kept.signals}
        self._blocks: dict[tuple[int, Side], Block] = {(b.con_id, b.side): b for b in kept.blocks}
        self._meanings = {m.symbol: m for m in kept.meanings}
        self._alarms = {a.key: a for a in kept.alarms}
        self._received, self._next_id, self._told = kept.received, kept.next_id, kept.told
        self._parts = kept.parts
        self._changed = False

    def load(self, since: datetime) -> Loaded:
        kept = self.kept
        executions = len(kept.foreign) + sum(len(t.executions) for t in kept.trades)
        return Loaded(
            account=ACCOUNT, trades=kept.trades, foreign=kept.foreign, signals=kept.signals, blocks=kept.blocks, holdings=(),
            meanings=kept.meanings, traded={t.con_id: t.symbol for t in kept.trades}, alarms=kept.alarms,
            order_ids={CLIENT_ID: kept.next_id}, next_trade=len(kept.trades) + 1, next_execution=executions + 1,
        )  # fmt: skip

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._open()
            raise
        if self._changed:
            self.kept = Kept(
                tuple(self._trades.values()), tuple(self._foreign.values()), tuple(self._signals.values()), self._received,
                tuple(self._blocks.values()), tuple(self._meanings.values()), tuple(self._alarms.values()), self._next_id,
                self._parts, self._told,
            )  # fmt: skip
            self._changed = False
        self._committed(self.kept)

    # ---- what the book asks for and writes ----

    def trade_of_order(self, *, order_ref: str = "", client_id: int | None = None, order_id: int = 0) -> int | None:
        return None  # every trade is young: the book has it

    def receive(self, envelope: Envelope, payload: str, late: bool = False) -> InboxRow | None:
        self._received += 1
        row = InboxRow(
            self._received, envelope.id, envelope.received_at, envelope.expires_at, envelope.signal, late=late
        )
        self._signals[row.seq], self._changed = row, True
        if envelope.signal.is_partial_close:
            self._parts += envelope.signal.quantity or ZERO
        return row

    def save_signal(self, before: InboxRow, after: InboxRow) -> None:
        self._changed = True
        if after.state is SignalState.DONE:
            del self._signals[after.seq]
        else:
            self._signals[after.seq] = after

    def revise_signal(self, signal_id: str, outcome: str, reason: str) -> None:
        """Nobody reads the outcomes here."""

    def save_trade(self, before: Trade | None, after: Trade) -> None:
        self._trades[after.id], self._changed = after, True
        for execution in after.executions:
            self._foreign.pop(execution.exec_root, None)

    def save_execution(self, execution: Execution, trade_id: int | None) -> None:
        self._foreign[execution.exec_root], self._changed = execution, True

    def save_block(self, account: str, block: Block) -> None:
        self._blocks[block.con_id, block.side], self._changed = block, True

    def drop_block(self, account: str, block: Block) -> None:
        del self._blocks[block.con_id, block.side]
        self._changed = True

    def save_meaning(self, meaning: Meaning) -> None:
        self._meanings[meaning.symbol], self._changed = meaning, True

    def save_order_id(self, client_id: int, following: int) -> None:
        self._next_id, self._changed = following, True

    def write(self, lines: Iterable[Line]) -> None:
        """The trade log is for people."""

    def publish(self, key: str, value: object) -> None:
        """And so is the page."""

    def raise_alarm(self, alarm: Alarm) -> None:
        self._alarms[alarm.key], self._changed = alarm, True
        self._told = self._told or not (alarm.kind in TELLS or self._is_closing(alarm))

    def _is_closing(self, alarm: Alarm) -> bool:
        """Whether it only says that a close takes long: here a market order may rest for as long as the search likes."""
        trade = self._trades.get(alarm.trade_id or 0)
        return alarm.kind is AlarmKind.UNPROTECTED and trade is not None and trade.state in UNDER_WAY

    def reword_alarm(self, alarm: Alarm) -> None:
        self._alarms[alarm.key], self._changed = alarm, True

    def clear_alarm(self, key: str, text: str) -> None:
        del self._alarms[key]
        self._changed = True
