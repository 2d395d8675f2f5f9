"""What the page shows, worked out from the journal: one value for template, JSON and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar

from common.exits import Distance
from common.signals import Side, decimal_text
from common.symbols import is_forex
from executor.core.conditions import AlarmKind
from executor.core.orders import ZERO, Order
from executor.core.outcomes import Link
from executor.core.ports import Kind
from executor.core.trades import State, Trade

from .journal_view import Look
from .parts import ExitLine, covered, exit_lines, under_way
from .queries import AlarmRow, BlockRow, Content, Live, LogRow, SignalRow, Unreadable, from_json

T = TypeVar("T", Trade, Unreadable)
DIFFERENCES = (AlarmKind.SIZE_DIFFERS, AlarmKind.STRATEGY_DIFFERS)
SILENT_AFTER = timedelta(seconds=15)  # the executor reports about once a second


@dataclass(frozen=True, slots=True)
class Position:
    """What the broker shows for one contract; the first three names are those of feature F9."""

    symbol: str
    position: Decimal
    avgCost: Decimal  # IBKR's spelling, as in the user's own templates
    account: str = ""
    con_id: int = 0
    market_price: Decimal | None = None
    unrealized: Decimal | None = None
    currency: str = ""  # of the unrealised result
    traded: Decimal = ZERO  # the part that belongs to our trade
    ignored: Decimal = ZERO  # the part that the owner chose to leave alone
    trade_id: int | None = None
    is_elsewhere: bool = False  # in another account of the same login: no business of ours

    @property
    def unknown(self) -> Decimal:
        """The part that the journal does not know."""
        return ZERO if self.is_elsewhere else self.position - self.traded - self.ignored


@dataclass(frozen=True, slots=True)
class Protection:
    """True if a trade has the stop that was asked for; level "good", "none", "wait" or "bad"."""

    level: str
    words: str
    since: datetime | None = None

    @property
    def text(self) -> str:
        return f"{self.words} since {self.since:%H:%M:%S} UTC" if self.since else self.words


@dataclass(frozen=True, slots=True)
class Delays:
    """How long a trade took, in milliseconds; None where it has not come so far.

    `to_order` compares the relay's clock with this machine's, so it can be a little off, even below zero.
    """

    to_order: float | None
    to_fill: float | None  # from the order to its first fill


@dataclass(frozen=True, slots=True)
class Shown:
    """One trade as the page shows it: the core's value, and what the moment adds to it."""

    trade: Trade
    delays: Delays
    protection: Protection = Protection("none", "")
    market_price: Decimal | None = None
    unrealized: Decimal | None = None
    result: Decimal | None = None  # of a closed trade, before commissions
    per_unit: bool = False  # the two results above are for one unit: the contract's multiplier is not known
    currency: str = ""
    at_broker: Decimal = (
        ZERO  # what the broker shows of the contract, signed, without what the owner chose to leave alone
    )
    held_since: datetime | None = None  # since when it waits for the owner's choice
    strategy_name: str | None = None  # whose alert opened it

    @property
    def is_on_hold(self) -> bool:
        return self.trade.state is State.HOLD

    @property
    def entry_price(self) -> Decimal | None:
        return _plain(self.trade.entry_price)

    @property
    def exit_price(self) -> Decimal | None:
        return _plain(self.trade.exit_price)

    @property
    def tp_price(self) -> Decimal | None:
        return self._level(self.trade.target)

    @property
    def sl_price(self) -> Decimal | None:
        return self._level(self.trade.stop)

    def _level(self, order: Order | None) -> Decimal | None:
        """Return an exit's price; None of one that is gone while the trade is not: it protects and takes nothing."""
        if order is None or not (order.is_live or order.filled or self.trade.state.is_finished):
            return None
        return order.price

    @property
    def exits(self) -> tuple[ExitLine, ...]:
        """Its targets and stops, where there is more to say than one of each."""
        return exit_lines(self.trade)

    @property
    def covered(self) -> Decimal:
        """What its working stops take out together."""
        return covered(self.trade)

    @property
    def trail(self) -> Distance | None:
        """How far its stop follows the market, None where it stands still."""
        stop = self.trade.stop
        return stop.trail if stop is not None and stop.is_live else None

    @property
    def under_way(self) -> tuple[str, ...]:
        """What of it is about to change, in words."""
        return under_way(self.trade)

    @property
    def entered(self) -> Decimal | None:
        """All that was entered, None while nothing was."""
        return self.trade.entered or None

    @property
    def orders(self) -> tuple[Order, ...]:
        """Its orders by what they are for, each kind in the order of its attempts."""
        return tuple(sorted(self.trade.orders, key=lambda order: (order.leg, order.attempt)))

    @property
    def evidence(self) -> Any:
        """What was seen when it was put on hold; the text itself where it is no JSON."""
        return from_json(self.trade.evidence)


@dataclass(frozen=True, slots=True)
class Connection:
    """Which account the executor trades, in what mode of its own, and since when it is connected (or not)."""

    account: str = ""
    mode: str = ""
    since: str = ""  # UTC, ISO 8601
    stops: tuple[str, ...] = ()  # why nothing is sent, or no entry

    @property
    def is_paper(self) -> bool:
        """True if no real money moves (source: IBKR, paper accounts are named DU… and DF…)."""
        return self.account.startswith(("DU", "DF"))


@dataclass(frozen=True, slots=True)
class AlarmGroup:
    """The alarms of one level about one symbol, or about none, newest first."""

    level: str
    symbol: str
    alarms: tuple[AlarmRow, ...]
    trade_id: int | None  # the symbol's open trade, where there is one


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Everything the page shows; `status`, `account` and `positions` are the names of feature F9."""

    status: str
    account: Mapping[str, Any]
    positions: tuple[Position, ...]
    is_connected: bool = False
    connection: Connection = Connection()
    reported_at: datetime | None = None  # when the executor last published
    problem: str = ""  # why the journal, or one of its trades, cannot be read
    open_trades: tuple[Shown, ...] = ()
    closed_trades: tuple[Shown, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    signals: tuple[SignalRow, ...] = ()
    alarms: tuple[AlarmRow, ...] = ()
    blocks: tuple[BlockRow, ...] = ()
    log: tuple[LogRow, ...] = ()
    delays: Mapping[int, Delays] | None = None  # trade id → delays, for the list of signals

    @property
    def held(self) -> tuple[Shown, ...]:
        return tuple(trade for trade in self.open_trades if trade.is_on_hold)

    @property
    def warnings(self) -> tuple[AlarmRow, ...]:
        """The alarms below page level, newest first; so many of them are folded that they hide nothing."""
        return tuple(alarm for alarm in self.alarms if alarm.level != "page")

    @property
    def differences(self) -> tuple[AlarmRow, ...]:
        """Where a strategy holds something else than this account, newest first; the owner follows, or leaves it."""
        return tuple(alarm for alarm in self.alarms if alarm.kind in DIFFERENCES)

    @property
    def alarm_groups(self) -> tuple[AlarmGroup, ...]:
        found: dict[tuple[str, str], list[AlarmRow]] = {}
        for alarm in self.alarms:
            found.setdefault((alarm.level, alarm.symbol), []).append(alarm)
        trades = {shown.trade.symbol: shown.trade.id for shown in self.open_trades}
        return tuple(
            AlarmGroup(level, symbol, tuple(rows), trades.get(symbol)) for (level, symbol), rows in found.items()
        )

    @property
    def glance(self) -> tuple[tuple[str, str], ...]:
        """What is held and how it is protected, in a few words: pairs of a tone and a text, the worst first."""
        levels = Counter(trade.protection.level for trade in self.open_trades)
        unknown = len(self.unknown_positions)
        counts = (
            ("bad", levels["bad"], "UNPROTECTED"),
            ("wait", len(self.held), "on hold: your decision"),
            ("wait", unknown, f"position{'s' * (unknown > 1)} not in the journal: your decision"),
            ("wait", levels["wait"], "stop not confirmed"),
            ("none", levels["none"], "without a stop, as requested"),
            ("good", levels["good"], "protected by a stop"),
        )
        return tuple((tone, f"{count} {text}") for tone, count, text in counts if count)

    @property
    def unknown_positions(self) -> tuple[Position, ...]:
        """Positions that need the owner's choice; one whose trade is being entered or closed is still settling."""
        settled = {shown.trade.id for shown in self.open_trades if shown.trade.state is State.OPEN}
        return tuple(p for p in self.positions if p.unknown and (p.trade_id is None or p.trade_id in settled))


def build(look: Look, now: datetime) -> Dashboard:
    """Return the dashboard for one reading of the journal."""
    content = look.content
    connection = _connection(content)
    positions = _positions(content, connection.account)
    contracts = _mapping(content.live.get("contracts"))
    reported_at = last_report(content)
    connected, status = _status(look, reported_at, now)
    raised = {alarm.key: alarm.raised_at for alarm in content.alarms}
    names = content.strategies
    closed = tuple(
        replace(_shown(trade, None, contracts), strategy_name=names.get(trade.id)) for trade in content.closed_trades
    )
    held = {p.trade_id: p for p in reversed(positions)}  # the first of several counts
    opened = tuple(
        replace(
            _shown(trade, held.get(trade.id), contracts),
            protection=protection(trade, is_alarmed=f"unprotected:{trade.id}" in raised, is_seen=connected),
            held_since=raised.get(f"hold:{trade.id}"),
            strategy_name=names.get(trade.id),
        )
        for trade in content.open_trades
    )
    return Dashboard(
        status=status,
        is_connected=connected,
        account=_account(content),
        positions=positions,
        connection=connection,
        reported_at=reported_at,
        problem=look.problem or "; ".join(lost.text for lost in content.unreadable),
        unreadable=content.unreadable,
        open_trades=opened,
        closed_trades=closed,
        signals=content.signals,
        alarms=content.alarms,
        blocks=content.blocks,
        log=content.log,
        delays={shown.trade.id: shown.delays for shown in (*opened, *closed)},
    )


def last_report(content: Content) -> datetime | None:
    return max((live.at for live in content.live.values() if live.at), default=None)


def is_silent(content: Content, now: datetime) -> bool:
    """True if the executor published before, and not lately."""
    reported_at = last_report(content)
    return reported_at is not None and now - reported_at > SILENT_AFTER


def _status(look: Look, reported_at: datetime | None, now: datetime) -> tuple[bool, str]:
    """Return whether TWS is connected, and the words; they begin with "connected" or "disconnected"."""
    if look.problem and not look.content.live:
        return False, f"disconnected: {look.problem}"
    if reported_at is None:
        return False, "disconnected: the executor is starting and has not reported yet"
    if is_silent(look.content, now):
        why = "it is hanging, or cannot write the journal (is the disk full?): check its log"
        return False, f"disconnected: the executor has not reported since {reported_at:%H:%M:%S} UTC; {why}"
    said = _mapping(look.content.live.get("connection"))
    connected = said.get("status") == Link.CONNECTED
    words = str(said.get("text") or "")
    for spoken in ("disconnected", "connected"):
        if words.startswith(spoken):
            words = words[len(spoken) :].lstrip(" :,-\N{EM DASH}")
            break
    head = "connected" if connected else "disconnected"
    return connected, f"{head}: {words}" if words else head


def _account(content: Content) -> dict[str, Any]:
    return {str(name): value for name, value in _mapping(content.live.get("account")).items()}


def _connection(content: Content) -> Connection:
    said = _mapping(content.live.get("connection"))
    stops = said.get("stops")
    account, mode, since = (str(said.get(name) or "") for name in ("account", "mode", "since"))
    return Connection(
        account,
        mode,
        since,
        stops=tuple(map(str, stops)) if isinstance(stops, list) else (),
    )


def _positions(content: Content, ours: str) -> tuple[Position, ...]:
    live = content.live.get("positions")
    rows = live.value if live and isinstance(live.value, list) else []
    trades = _ByContract(content.open_trades)
    lost = _ByContract(each for each in content.unreadable if not each.closed)
    found = [_position(row, content, ours, trades, lost) for row in rows if isinstance(row, Mapping)]
    return tuple(sorted((p for p in found if p.position), key=lambda p: (p.symbol, p.con_id)))


class _ByContract(Generic[T]):
    """Trades by what a position says of its contract; the first of several counts."""

    def __init__(self, trades: Iterable[T]) -> None:
        self._found: dict[object, T] = {}  # (account, conId), ("", conId) or symbol → trade
        for trade in trades:
            for key in ((trade.account, trade.con_id), ("", trade.con_id), trade.symbol):
                self._found.setdefault(key, trade)

    def of(self, position: Position) -> T | None:
        """Return the trade in a position's contract; a position without a number is known by its symbol."""
        return self._found.get((position.account, position.con_id) if position.con_id else position.symbol)


def _position(
    row: Mapping[str, Any], content: Content, ours: str, trades: _ByContract[Trade], unreadable: _ByContract[Unreadable]
) -> Position:
    account = str(row.get("account") or ours)
    position = Position(
        symbol=str(row.get("symbol", "")),
        position=decimal(row.get("position")) or ZERO,
        avgCost=decimal(row.get("avgCost")) or ZERO,
        account=account,
        is_elsewhere=bool(ours) and account != ours,
        con_id=int(decimal(row.get("con_id")) or 0),
        market_price=decimal(row.get("market_price")),
        unrealized=decimal(row.get("unrealized")),
        currency=str(row.get("currency") or ""),
    )
    ignored = content.ignored.get((position.account, position.con_id), ZERO) if content.ignored else ZERO
    position = replace(position, ignored=ignored)
    if trade := trades.of(position):
        return replace(position, traded=trade.signed, trade_id=trade.id)
    lost = unreadable.of(position)
    return replace(position, trade_id=lost.id) if lost else position


def _shown(trade: Trade, position: Position | None, contracts: Mapping[str, Any]) -> Shown:
    multiplier, currency = _contract(trade.symbol, contracts)
    unrealized, is_exact = _unrealized(trade, position, multiplier)
    result = trade.gain(trade.exit_price, Decimal(1) if multiplier is None else multiplier * trade.entered)
    return Shown(
        trade=trade,
        delays=Delays(_ms(trade.received_at, trade.sent_at), _ms(trade.sent_at, trade.filled_at)),
        market_price=position.market_price if position else None,
        unrealized=None if trade.closed else unrealized,
        result=result if trade.closed else None,
        per_unit=multiplier is None and not is_exact,
        currency=currency,
        at_broker=position.position - position.ignored if position else ZERO,
    )


def _unrealized(trade: Trade, position: Position | None, multiplier: Decimal | None) -> tuple[Decimal | None, bool]:
    """Return the result so far, and whether it is the broker's own figure (nothing else is held in the contract)."""
    if position is None or not trade.held:
        return None, False
    if position.position == trade.signed and position.unrealized is not None:
        return position.unrealized, True
    return trade.gain(position.market_price, Decimal(1) if multiplier is None else multiplier * trade.held), False


def _contract(symbol: str, contracts: Mapping[str, Any]) -> tuple[Decimal | None, str]:
    """Return the multiplier and the currency of a symbol's contract, as far as they are known."""
    said = contracts.get(symbol)
    if isinstance(said, Mapping):
        return decimal(said.get("multiplier")), str(said.get("currency") or "")
    return (Decimal(1), symbol[3:]) if is_forex(symbol) else (None, "")


@dataclass(frozen=True, slots=True)
class Gauge:
    """Where a trade's prices stand between loss (0) and gain (1000)."""

    entry: int
    stop: int | None
    target: int | None
    now: int | None


def gauge(shown: Shown) -> Gauge | None:
    """Return the places of a trade's prices on a line, or None where no exit gives it a scale."""
    prices = entry, stop, target, _ = shown.entry_price, shown.sl_price, shown.tp_price, shown.market_price
    known = [price for price in prices if price is not None]
    if entry is None or (stop is None and target is None) or len(set(known)) < 2:
        return None
    low, high = (min(known), max(known)) if shown.trade.side is Side.BUY else (max(known), min(known))

    def place(price: Decimal | None) -> int | None:
        return None if price is None else round(10 + 980 * (price - low) / (high - low))

    return Gauge(place(entry) or 0, *map(place, prices[1:]))


def protection(trade: Trade, *, is_alarmed: bool, is_seen: bool) -> Protection:
    """Return whether the stop that was asked for is working at the broker, in words.

    The first that speaks wins: the alarm of a missing stop outranks everything, and a trade that holds nothing
    needs none. A stop that is missing for less than the alarm's time is on its way. While the broker is not
    seen, nothing is claimed of the present.
    """
    if is_alarmed:
        return Protection("bad", "UNPROTECTED: no working stop-loss", trade.unprotected_at)
    if not trade.stop_wanted:
        return Protection("none", "no stop-loss requested")
    working, stops = covered(trade), _stops_in_words(trade)
    if working and trade.held > 0 and trade.is_protected:
        verb = "working at the broker" if is_seen else "was working at the broker when last seen"
        return Protection("good" if is_seen else "wait", f"{stops} for {working:,f} {verb}")
    if trade.state in (State.CANCELLING, State.CLOSING):
        return Protection("wait", "its exits are being cancelled so that it can be closed")
    if not trade.held:
        return Protection("wait", "the stop-loss goes out with the entry")
    if working:
        several = len(trade.live_stops) > 1
        what, verb = (f"{stops} cover", "are") if several else (f"the {stops} covers", "it is")
        return Protection("wait", f"{what} {working:,f} of {trade.held:,f}; {verb} being resized")
    none = ": none is working" if trade.unprotected_at else ""
    return Protection("wait", f"the broker has not confirmed the stop-loss yet{none}", trade.unprotected_at)


def _stops_in_words(trade: Trade) -> str:
    """Return what protects a trade: a stop-loss, a trailing stop, or how many of them."""
    stops = trade.live_stops
    trailing = sum(stop.kind is Kind.TRAIL for stop in stops)
    word = "trailing stop" if trailing == len(stops) else "stop-loss"
    if len(stops) <= 1:
        return word
    plural = "trailing stops" if trailing == len(stops) else "stops"
    return f"{len(stops)} {plural}"


def _plain(price: Decimal | None) -> Decimal | None:
    """Return a price without the zeros that an average ends with."""
    return None if price is None else Decimal(decimal_text(price))


def _ms(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds() * 1000


def _mapping(live: Live | None) -> Mapping[str, Any]:
    return live.value if live is not None and isinstance(live.value, Mapping) else {}


def decimal(value: Any) -> Decimal | None:
    """Return a number that the executor published, or None where it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
