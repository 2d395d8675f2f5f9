"""The owner's commands, from the page's buttons: each is committed to the journal as an event before it acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial

from common.clock import Clock
from common.signals import Side, decimal_text
from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.conditions import AlarmKind
from executor.core.follow import entered, resized
from executor.core.orders import ZERO, Leg, OrderState
from executor.core.outcomes import CloseCause, ExitReason
from executor.core.ports import Broker, Snapshot, Status
from executor.core.trades import Event, State, Trade
from executor.desk.alarms import Alarms
from executor.desk.book import Book
from executor.desk.gate import Gate
from executor.desk.life import Life
from executor.desk.orders import Orders
from executor.desk.outbox import Outbox
from executor.desk.sight import Sight
from executor.desk.signals import Signals
from executor.desk.snapshots import may_be_live
from executor.journal.rows import StrategyChain, public_number

_TOLD_LATER = "the trade log says when it is done, or why not"
_HOLDS = {Side.BUY: "long", Side.SELL: "short"}  # a trade's side -> its strategy's word for it
_LEAVES = (State.HOLD, State.CANCELLING, State.CLOSING)  # of such trades there may be several in one contract


class Owner:
    """Carry out commands. A command that cannot be done now is refused with the reason, and changes nothing."""

    def __init__(
        self,
        book: Book,
        gate: Gate,
        sight: Sight,
        life: Life,
        alarms: Alarms,
        orders: Orders,
        signals: Signals,
        outbox: Outbox,
        broker: Broker,
        clock: Clock,
    ) -> None:
        self._book, self._gate, self._sight, self._life, self._alarms = book, gate, sight, life, alarms
        self._orders, self._signals, self._outbox, self._broker, self._clock = orders, signals, outbox, broker, clock
        self._handlers: dict[CommandKind, Callable[[Command], str]] = {
            CommandKind.CLOSE: self._close, CommandKind.RESET: self._reset, CommandKind.ADOPT: self._adopt,
            CommandKind.FLATTEN: self._flatten, CommandKind.DISMISS: self._dismiss,
            CommandKind.IGNORE_POSITION: self._ignore_position, CommandKind.ADOPT_POSITION: self._adopt_position,
            CommandKind.FOLLOW: self._follow, CommandKind.LEAVE: self._leave,
        }  # fmt: skip

    def obey(self, command: Command) -> str:
        """Carry out one wish and return what was done, in words; what it sends waits in the outbox for the commit.

        Raises:
            CommandRefused: It cannot be done now; the text says why and what to do.
            JournalError: It could not be written down; nothing was done.
        """
        with self._book.change():
            text = self._handlers[command.kind](command)
            symbol = command.symbol or (self._trade(command).symbol if command.trade_id else "")
            self._book.log("owner", text, symbol=symbol, trade_id=command.trade_id)
        self._gate.want_snapshot("the owner chose")
        return text

    def _trade(self, command: Command) -> Trade:
        try:
            return self._book.trade(command.trade_id or 0)
        except KeyError:
            raise CommandRefused(f"there is no trade {command.trade_id} in the journal") from None

    def _on_hold(self, command: Command) -> tuple[Trade, Snapshot]:
        trade, snapshot = self._trade(command), self._sight.last
        if trade.state is not State.HOLD:
            raise CommandRefused(
                f"the trade in {trade.symbol} is not on hold (it is {trade.state.value}): nothing to decide"
            )
        if snapshot is None or self._gate.ready_since is None:
            raise CommandRefused("TWS is not connected: decide when it is, on fresh evidence")
        self._look_first(trade.con_id)
        return trade, snapshot

    def _look_first(self, con_id: int) -> None:
        """Refuse to act on a position and orders that were not read after the last change to them."""
        if not self._sight.is_fresh(con_id):
            self._gate.want_snapshot("the owner decides on what has not been read a moment ago")
            raise CommandRefused("orders and positions are being read from TWS: press again in a few seconds")

    # ---- open trades ----

    def _close(self, command: Command) -> str:
        trade = self._trade(command)
        if trade.state not in (State.WORKING, State.OPEN):
            raise CommandRefused(
                f"the trade in {trade.symbol} cannot be closed by this button: it is {trade.state.value}"
            )
        trade = self._life.move(replace(trade, close_cause=CloseCause.OWNER), Event.CLOSE)
        return f"the {trade.side.value} trade in {trade.symbol} is being closed{self._when(trade)}; {_TOLD_LATER}"

    def _when(self, trade: Trade) -> str:
        """Return in words until when a close waits for its market to open, "" where it does not."""
        opens_at = self._sight.opens_at(trade)
        if opens_at is None or not trade.live_exits:
            return ""
        return f" when its market opens ({opens_at:%Y-%m-%d %H:%M} UTC); its exits stay until then"

    def _reset(self, command: Command) -> str:
        symbol = command.symbol or ""
        if not self._book.release(symbol):
            raise CommandRefused(f"no re-entry block is set in {symbol}")
        return f"re-entry block in {symbol} released on the page"

    # ---- trades on hold ----

    def _adopt(self, command: Command) -> str:
        trade, snapshot = self._on_hold(command)
        if any(o.state not in _LEAVES for o in self._book.in_contract(trade.con_id)):
            raise CommandRefused(
                f"another trade in {trade.symbol} is open: this one can only be flattened or dismissed"
            )
        if turned := self._turned_over(trade):
            if self._cancel_live(trade, snapshot):
                return f"{trade.symbol} flipped: its orders are being cancelled first; press adopt again when they are gone"
            self._replace(trade, command, turned)
            return f"{trade.symbol} flipped to {decimal_text(turned)}; that is now a separate trade with no exits"
        trade, held = self._match(trade, snapshot)
        self._life.move(replace(trade, hold_reason=None), Event.ADOPT)
        return f"{trade.symbol}: the trade continues with what the account shows ({decimal_text(held)})"

    def _flatten(self, command: Command) -> str:
        trade, snapshot = self._on_hold(command)
        if turned := self._turned_over(trade):
            if self._cancel_live(trade, snapshot):
                return f"{trade.symbol} flipped: its orders are being cancelled first; press flatten again when they are gone"
            new = self._replace(trade, command, turned)
            self._life.move(replace(new, close_cause=CloseCause.OWNER), Event.CLOSE)
            return f"{trade.symbol} flipped to {decimal_text(turned)}; that is being closed at market; {_TOLD_LATER}"
        trade, held = self._match(trade, snapshot)
        trade = self._life.move(replace(trade, hold_reason=None, close_cause=CloseCause.OWNER), Event.FLATTEN)
        if held and (when := self._when(trade)):
            return f"{trade.symbol}: {decimal_text(held)} is closed at market{when}; {_TOLD_LATER}"
        if not held:
            return (
                f"{trade.symbol}: the account holds none of the trade; orders of it that still work are being cancelled"
            )
        return f"{trade.symbol}: its orders are being cancelled, then {decimal_text(held)} is closed at market; {_TOLD_LATER}"

    def _cancel_live(self, trade: Trade, snapshot: Snapshot) -> bool:
        """Cancel the orders that may still fill; True if there are any."""
        live = [o for o in trade.orders if may_be_live(o, snapshot)]
        for order in live:
            self._orders.cancel(self._book.trade(trade.id), order, "the owner ends the trade")
        return bool(live)

    def _dismiss(self, command: Command) -> str:
        trade = self._let_go(command, ExitReason.SETTLED)
        return f"the trade in {trade.symbol} is closed in the journal: you settled it yourself"

    def _let_go(self, command: Command, reason: ExitReason) -> Trade:
        """End a trade on hold in the journal alone; `reason` is how what it still held is gone."""
        trade, snapshot = self._on_hold(command)
        if any(may_be_live(order, snapshot) for order in trade.orders):
            raise CommandRefused(
                f"orders of the trade in {trade.symbol} are still live: choose flatten, or cancel them in TWS first"
            )
        trade = _with_held(self._forget_live(trade, snapshot), ZERO, reason)
        return self._life.move(replace(trade, hold_reason=None), Event.DISMISS)

    def _turned_over(self, trade: Trade) -> Decimal:
        """Return the signed position against the trade's side, 0 if there is none."""
        against = max(-self._sight.held_of(trade), ZERO)
        return -against if trade.side is Side.BUY else against

    def _replace(self, trade: Trade, command: Command, turned: Decimal) -> Trade:
        """End a trade whose position has flipped, and make what is held now a separate trade."""
        self._let_go(command, ExitReason.UNKNOWN)
        return self._take_over(trade.symbol, trade.con_id, turned)

    def _match(self, trade: Trade, snapshot: Snapshot) -> tuple[Trade, Decimal]:
        """Return the trade with what the account shows of it, without the orders that are not there; and that quantity."""
        trade = self._forget_live(trade, snapshot)
        for order in trade.live:
            trade = trade.with_order(order.with_cancel(None))  # the trade counts on it again
        held = max(self._sight.held_of(trade), ZERO)
        closes, stops = (sum(1 for _ in trade.legs(leg)) for leg in (Leg.CLOSE, Leg.PUT_BACK))
        trade = replace(_with_held(trade, held), closes_forgiven=closes, stops_forgiven=stops, unprotected_at=None)
        return trade, held

    def _forget_live(self, trade: Trade, snapshot: Snapshot) -> Trade:
        """Return a trade without the orders that are not at the broker; one never seen there is cancelled by its id as well.

        A held order that TWS does not list could be released by a click later.
        """
        for order in trade.live:
            if may_be_live(order, snapshot):
                continue
            gone = replace(
                order, said=Status.CANCELLED, said_filled=order.filled, reason="not at the broker (owner's choice)"
            )
            trade = trade.with_order(gone)
            if order.state is OrderState.SENDING:
                self._outbox.add(partial(self._broker.cancel, order.order_id or 0))
        return self._life.settle(trade)

    # ---- a strategy that holds something else ----

    def _differing(self, symbol: str) -> tuple[Trade | None, StrategyChain | None]:
        """Return the symbol's trade where its strategy's size is another; else that trade, and a strategy that differs.

        Raises:
            CommandRefused: Nothing is known to differ.
        """
        trade = self._book.open_trade(self._book.contract_id(symbol) or 0, symbol)
        if trade is not None and trade.strategy_size is not None and trade.strategy_size != trade.held:
            return trade, None
        strategy = self._book.strategy_of(symbol) if self._alarms.is_open(AlarmKind.STRATEGY_DIFFERS, symbol) else None
        if strategy is None:
            raise CommandRefused(f"no strategy is known to hold anything else in {symbol} than this account")
        return trade, strategy

    def _follow(self, command: Command) -> str:
        symbol = command.symbol or ""
        trade, strategy = self._differing(symbol)
        if self._gate.ready_since is None:
            raise CommandRefused("TWS is not connected: decide when it is, on fresh evidence")
        con_id = trade.con_id if trade else self._book.contract_id(symbol) or 0
        if any(self._book.waiting(name) for name in {symbol, *self._book.names_of(con_id)}):
            raise CommandRefused(f"a signal for {symbol} has no outcome yet: press again when it has one")
        self._look_first(con_id)
        if strategy is None:
            return self._resize(trade, trade.strategy_size if trade else None)
        holds = strategy.chain.holds
        if trade is None:
            return self._enter(strategy)
        if holds.market_position == _HOLDS[trade.side]:
            return self._resize(trade, holds.size)
        said = self._close(Command(CommandKind.CLOSE, trade_id=trade.id))
        return f"the strategy is {holds} {symbol}: {said}"

    def _resize(self, trade: Trade | None, size: Decimal | None) -> str:
        """Give an open trade its strategy's size."""
        if trade is None or size is None:
            raise CommandRefused("the strategy's newest alert says no size: close the trade, or leave it")
        self._signals.ask(resized(trade, size))
        now, then = decimal_text(trade.shall_hold), decimal_text(size)
        return f"{trade.symbol}: following the strategy from {now} to {then}, at market; {_TOLD_LATER}"

    def _enter(self, strategy: StrategyChain) -> str:
        """Enter a strategy's position, with the exits that its alert asked for."""
        symbol, holds = strategy.symbol, strategy.chain.holds
        wish = entered(symbol, holds, self._book.opening_of(strategy), self._book.last_ended(symbol))
        if isinstance(wish, str):
            raise CommandRefused(wish)
        self._signals.ask(wish)
        return f"{symbol}: following the strategy into {holds}, at market; {_TOLD_LATER}"

    def _leave(self, command: Command) -> str:
        symbol = command.symbol or ""
        trade, strategy = self._differing(symbol)
        over = f"{symbol}: you left the difference as it is, until the strategy's next alert"
        if strategy is None and trade is not None:
            self._book.put(replace(trade, strategy_size=None))
            self._alarms.state(AlarmKind.SIZE_DIFFERS, None, str(trade.id), over=over)
        else:
            self._alarms.state(AlarmKind.STRATEGY_DIFFERS, None, symbol, over=over)
        return f"{symbol}: the difference from the strategy stays as it is, until its next alert"

    # ---- positions that the journal does not know ----

    def unknown_positions(self) -> list[dict[str, str]]:
        """Return what the account holds that neither a trade nor the owner's choice explains, as the page shows it.

        A contract is left out while an order of ours is under way in it, since its position may be ahead of its
        executions, and while part of a trade is missing, which is explained elsewhere: neither can be ignored or adopted.
        """
        unfinished = self._book.unfinished()
        busy = {t.con_id for t in unfinished if t.state not in (State.OPEN, State.HOLD) or self._is_short(t)}
        return [
            {"symbol": self._sight.symbol(con_id), "con_id": str(con_id), "quantity": decimal_text(unknown)}
            for con_id, unknown in self._sight.all_unexplained().items()
            if con_id not in busy and not self._sight.may_lag(con_id)
        ]

    def _is_short(self, trade: Trade) -> bool:
        """True if the account shows less of a trade than it holds, so that the difference is the trade's."""
        return self._sight.unexplained(trade.con_id) * trade.signed < 0

    def _unknown(self, command: Command) -> tuple[int, Decimal]:
        row = next((r for r in self.unknown_positions() if r["symbol"] == command.symbol), None)
        if row is None or self._gate.ready_since is None:
            raise CommandRefused(f"the account shows no position in {command.symbol} that the journal does not know")
        self._look_first(int(row["con_id"]))
        return int(row["con_id"]), Decimal(row["quantity"])

    def _ignore_position(self, command: Command) -> str:
        con_id, unknown = self._unknown(command)
        self._book.set_beside(con_id, command.symbol or "", self._book.beside(con_id) + unknown)
        return f"your own {decimal_text(unknown)} {command.symbol} are left alone; signals trade alongside them"

    def _adopt_position(self, command: Command) -> str:
        con_id, unknown = self._unknown(command)
        if self._book.open_trade(con_id, command.symbol or "") is not None:
            raise CommandRefused(f"a trade in {command.symbol} is open: only a whole position can be adopted")
        if unknown * self._sight.shown(con_id) <= 0:
            raise CommandRefused(
                f"the account shows {decimal_text(self._sight.shown(con_id))} {command.symbol}, less than you chose to leave "
                "alone: there is nothing to adopt. Choose ignore: what is left is yours"
            )
        self._take_over(command.symbol or "", con_id, unknown)
        self._book.remember_contract(command.symbol or "", con_id)
        return f"your {decimal_text(unknown)} {command.symbol} are now a trade in the journal, with no exits"

    def _take_over(self, symbol: str, con_id: int, quantity: Decimal) -> Trade:
        """Make a position a trade, without exits."""
        now, position = self._clock.now(), self._sight.position(con_id)
        # None where it nets to zero with what is the owner's own.
        price = None if position is None else public_number(position.entry_price)
        return self._book.add(
            Trade(
                id=0, symbol=symbol, side=Side.BUY if quantity > 0 else Side.SELL, account=self._book.account, con_id=con_id,
                asked=abs(quantity), state=State.OPEN, signal_id=f"adopted-{con_id}-{now:%Y%m%dT%H%M%S%f}",
                received_at=now, valid_until=now, timestamp=now, filled_at=now, adopted_price=price,
            )
        )  # fmt: skip


def _with_held(trade: Trade, held: Decimal, reason: ExitReason = ExitReason.UNKNOWN) -> Trade:
    """Return a trade with the quantity that the owner chose; `reason` is how it ended where none of it is left."""
    ended = reason if held == 0 < trade.held else None
    return replace(trade, reduced=trade.entered - trade.exited - held, exit_reason=ended)
