"""The owner's wishes, from the buttons of the page: each is committed to the journal as an event before it acts."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from common.errors import BrokerUnavailable
from common.signals import Side, decimal_text
from executor.core.commands import Command, CommandKind, CommandRefused
from executor.core.ports import Snapshot, Status
from executor.core.trades import ZERO, Event, Leg, OrderState, State, Trade
from executor.desk.snapshots import may_be_live

if TYPE_CHECKING:
    from executor.desk.desk import Desk


class Owner:
    """Carry out commands. What cannot be done now is refused with the reason, and nothing is changed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._journal = desk.journal
        self._after: list[Callable[[], None]] = []  # what one wish sends, once it is committed
        self._handlers: dict[CommandKind, Callable[[Command], str]] = {
            CommandKind.CLOSE: self._close, CommandKind.RESET: self._reset, CommandKind.ADOPT: self._adopt,
            CommandKind.FLATTEN: self._flatten, CommandKind.DISMISS: self._dismiss,
            CommandKind.IGNORE_POSITION: self._ignore_position, CommandKind.ADOPT_POSITION: self._adopt_position,
        }  # fmt: skip

    def obey(self, command: Command) -> str:
        """Carry out one wish and return what was done, in words.

        Raises:
            CommandRefused: It cannot be done now; the text says why and what to do.
        """
        self._after = []
        with self._journal.transaction():
            text = self._handlers[command.kind](command)
            symbol = command.symbol or (self._trade(command).symbol if command.trade_id else "")
            self._journal.log("owner", text, symbol=symbol, trade_id=command.trade_id)
        self._desk.want_snapshot("the owner chose")
        try:
            for act in self._after:
                act()
        except BrokerUnavailable as exc:
            self._desk.disconnected(f"TWS is gone: {exc}")
        return text

    def _trade(self, command: Command) -> Trade:
        try:
            return self._journal.trade(command.trade_id or 0)
        except KeyError:
            raise CommandRefused(f"there is no trade {command.trade_id} in the journal") from None

    def _on_hold(self, command: Command) -> tuple[Trade, Snapshot]:
        trade, snapshot = self._trade(command), self._desk.resolver.last
        if trade.state is not State.HOLD:
            raise CommandRefused(
                f"the trade in {trade.symbol} is not on hold (it is {trade.state.value}): nothing to decide"
            )
        if snapshot is None or self._desk.ready_since is None:
            raise CommandRefused("the broker is not to be seen now: decide when TWS is connected, on fresh evidence")
        if not self._desk.is_counted(trade.con_id):
            self._desk.want_snapshot("the owner decides on a position that is not told since the last execution")
            raise CommandRefused("the position after the last execution is being read: press again in a few seconds")
        return trade, snapshot

    # ---- open trades ----

    def _close(self, command: Command) -> str:
        trade = self._trade(command)
        if trade.state not in (State.PLANNED, State.WORKING, State.OPEN):
            raise CommandRefused(
                f"the trade in {trade.symbol} cannot be closed by this button: it is {trade.state.value}"
            )
        self._desk.life.move(trade, Event.CLOSE, close_cause="owner")
        return f"close of the {trade.side.value} trade in {trade.symbol} asked on the page"

    def _reset(self, command: Command) -> str:
        symbol = command.symbol or ""
        if not self.release(symbol, self._journal.contract_id(symbol)):
            raise CommandRefused(f"no re-entry block is set in {symbol}")
        return f"re-entry block in {symbol} released on the page"

    def release(self, symbol: str, con_id: int | None) -> bool:
        """Release the re-entry block of a symbol; whether one was set."""
        if not self._journal.release_block(self._desk.account, con_id or 0, symbol):
            return False
        self._journal.log("block released", f"re-entry into {symbol} is allowed again", symbol=symbol)
        return True

    # ---- trades on hold ----

    def _adopt(self, command: Command) -> str:
        trade, snapshot = self._alone_on_hold(command)
        if turned := self._turned_over(trade):
            if self._cancel_live(trade, snapshot):
                return f"{trade.symbol} has turned over: its orders are cancelled first; press adopt again when they are gone"
            self._replace(trade, command, turned)
            return f"{trade.symbol} has turned over: the {decimal_text(turned)} are a trade of their own now, without exits"
        held = self._match(trade, snapshot)
        self._desk.life.move(trade, Event.ADOPT, hold_reason=None)
        self._over(trade, "adopted")
        return f"{trade.symbol}: what the account shows ({decimal_text(held)}) is the trade; it goes on"

    def _flatten(self, command: Command) -> str:
        trade, snapshot = self._alone_on_hold(command)
        if turned := self._turned_over(trade):
            if self._cancel_live(trade, snapshot):
                return f"{trade.symbol} has turned over: its orders are cancelled first; press flatten again when they are gone"
            new = self._replace(trade, command, turned)
            self._desk.life.move(new, Event.CLOSE, close_cause="owner")
            return f"{trade.symbol} has turned over: the {decimal_text(turned)} are closed at market"
        held = self._match(trade, snapshot)
        self._desk.life.move(trade, Event.FLATTEN, hold_reason=None, close_cause="owner")
        self._over(trade, "being flattened")
        return f"{trade.symbol}: its orders are cancelled and {decimal_text(held)} closed at market"

    def _alone_on_hold(self, command: Command) -> tuple[Trade, Snapshot]:
        """Return what `_on_hold` does, for a trade whose position is its own."""
        trade, snapshot = self._on_hold(command)
        other = self._journal.open_trade(trade.account, trade.con_id)
        if other is not None and other.id != trade.id:
            raise CommandRefused(
                f"another trade in {trade.symbol} is open, and the position counts as its own: this one can only be dismissed"
            )
        return trade, snapshot

    def _cancel_live(self, trade: Trade, snapshot: Snapshot) -> bool:
        """Have the orders cancelled that may still fill; whether there are any."""
        live = [o for o in trade.orders if may_be_live(o, snapshot)]
        self._after += [partial(self._desk.dispatch.cancel, trade, o, "the owner ends the trade") for o in live]
        return bool(live)

    def _dismiss(self, command: Command) -> str:
        trade, snapshot = self._on_hold(command)
        if any(may_be_live(order, snapshot) for order in trade.orders):
            raise CommandRefused(
                f"orders of the trade in {trade.symbol} are still live: choose flatten, or cancel them in TWS first"
            )
        self._forget_live(trade, snapshot)
        self._set_held(trade, ZERO)
        self._desk.life.move(self._journal.trade(trade.id), Event.DISMISS, hold_reason=None)
        return f"the trade in {trade.symbol} is closed in the journal: you have settled it yourself"

    def _turned_over(self, trade: Trade) -> Decimal:
        """Return the signed position that stands against the trade's side, 0 where none does."""
        against = max(-self._desk.shown_of(trade), ZERO)
        return -against if trade.side is Side.BUY else against

    def _replace(self, trade: Trade, command: Command, turned: Decimal) -> Trade:
        """End a trade whose position has turned over, and make what stands a trade of its own."""
        self._dismiss(command)
        return self._take_over(trade.symbol, trade.con_id, turned)

    def _match(self, trade: Trade, snapshot: Snapshot) -> Decimal:
        """Make the trade's quantity what the account shows of it, and drop orders that are not there."""
        self._forget_live(trade, snapshot)
        for order in trade.live:
            self._journal.change_order(order.order_ref, cancel_asked_at=None)  # the trade counts on it again
        held = max(self._desk.shown_of(trade), ZERO)
        self._set_held(trade, held)
        closes, stops = (sum(1 for _ in trade.legs(leg)) for leg in (Leg.CLOSE, Leg.PUT_BACK))
        self._journal.change_trade(trade.id, closes_forgiven=closes, stops_forgiven=stops, unprotected_at=None)
        return held

    def _set_held(self, trade: Trade, held: Decimal) -> None:
        """Make a trade's quantity what the owner's choice says; how the rest left it nobody can know."""
        reason = "unknown" if held == 0 < trade.held else None
        self._journal.change_trade(trade.id, reduced=trade.entered - trade.exited - held, exit_reason=reason)

    def _forget_live(self, trade: Trade, snapshot: Snapshot) -> None:
        """Drop the orders that are not at the broker; one that was never seen there is cancelled by its id as well.

        A held order that TWS does not list could be released by a click later.
        """
        for order in trade.live:
            if may_be_live(order, snapshot):
                continue
            why = "not at the broker (owner's choice)"
            self._journal.change_order(
                order.order_ref, said=Status.CANCELLED.value, said_filled=order.filled, reason=why
            )
            if order.state is OrderState.SENDING:
                self._after.append(partial(self._desk.broker.cancel, order.order_id or 0))
        self._desk.life.refresh(trade.id)

    def _over(self, trade: Trade, how: str) -> None:
        self._desk.alarms.clear(
            "hold", str(trade.id), f"{trade.symbol}: {how} by your choice", symbol=trade.symbol, trade_id=trade.id
        )

    # ---- positions that the journal does not know ----

    def unknown_positions(self) -> list[dict[str, str]]:
        """Return what the account holds that neither a trade nor the owner's choice explains, as the page shows it.

        While an order of ours is under way in a contract, its position may show what its executions have not told
        yet: that is nobody's to ignore or to adopt.
        """
        busy = {t.con_id for t in self._journal.unfinished() if t.state not in (State.OPEN, State.HOLD)}
        symbols = {**self._journal.our_contracts(), **{c: p.symbol for c, p in self._desk.positions.items()}}
        return [
            {"symbol": symbols[con_id], "con_id": str(con_id), "quantity": decimal_text(unknown)}
            for con_id, unknown in self._desk.unexplained().items()
            if unknown and con_id not in busy and not self._desk.may_lag(con_id)
        ]

    def _unknown(self, command: Command) -> tuple[int, Decimal]:
        row = next((r for r in self.unknown_positions() if r["symbol"] == command.symbol), None)
        if row is None or self._desk.ready_since is None:
            raise CommandRefused(f"the account shows no position in {command.symbol} that the journal does not know")
        return int(row["con_id"]), Decimal(row["quantity"])

    def _ignore_position(self, command: Command) -> str:
        con_id, unknown = self._unknown(command)
        beside = self._journal.ignored().get((self._desk.account, con_id), ZERO) + unknown
        self._journal.ignore_holding(self._desk.account, con_id, command.symbol or "", beside)
        return f"your own {decimal_text(unknown)} {command.symbol} are left alone; signals trade beside them"

    def _adopt_position(self, command: Command) -> str:
        con_id, unknown = self._unknown(command)
        if self._journal.open_trade(self._desk.account, con_id, command.symbol or "") is not None:
            raise CommandRefused(f"a trade in {command.symbol} is open: only a whole position can be adopted")
        if unknown * self._desk.shown(con_id) <= 0:
            raise CommandRefused(
                f"the account shows {decimal_text(self._desk.shown(con_id))} {command.symbol}, less than you told to leave "
                "alone: there is nothing to adopt. Choose ignore: what is left is yours"
            )
        self._take_over(command.symbol or "", con_id, unknown)
        self._journal.remember_contract(command.symbol or "", con_id)
        return f"your {decimal_text(unknown)} {command.symbol} are a trade of the journal now, without exits"

    def _take_over(self, symbol: str, con_id: int, quantity: Decimal) -> Trade:
        """Make a position a trade, without exits."""
        now, account = self._desk.clock.now(), self._desk.account
        trade = Trade(
            id=0, symbol=symbol, side=Side.BUY if quantity > 0 else Side.SELL, account=account, con_id=con_id,
            asked=abs(quantity), state=State.OPEN, signal_id=f"adopted-{con_id}-{now:%Y%m%dT%H%M%S%f}",
            received_at=now, valid_until=now, timestamp=now,
        )  # fmt: skip
        adopted = self._journal.create_trade(trade, (), None)
        position = self._desk.positions.get(con_id)  # none where it nets to zero with what is the owner's own
        self._journal.change_trade(adopted.id, entry_price=position and position.entry_price, filled_at=now)
        return adopted
