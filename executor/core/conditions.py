"""What the owner is alerted to: the table of alarms, and what must be true of a trade for each of its own. Pure.

A condition returns in words what is wrong, or None; an alarm stays open from the first words until its condition is over.
`docs/reference/alarms.md` is generated from the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from common.signals import decimal_text
from executor.core.moment import Moment
from executor.core.orders import ZERO, Leg, Order, OrderState
from executor.core.planning import awaits_market
from executor.core.policy import Policy
from executor.core.steps import Step, Unprotected
from executor.core.trades import State, Trade

CLOSE_WAITS_SECONDS = 10.0


class Level(StrEnum):
    """How loud an alarm is."""

    PAGE = "page"  # wants a person now
    WARN = "warn"  # wants one today


class AlarmKind(StrEnum):
    """What an alarm is about; stored, so fixed."""

    UNPROTECTED = "unprotected"
    HOLD = "hold"
    EXIT_TOO_LARGE = "exit too large"
    CONTRACT = "contract"
    CLOSE_WAITS = "close waits"
    TAKE_PROFIT_LOST = "take-profit lost"
    DAY_ORDER = "day order"
    NOT_REDUCED = "not reduced"
    NOT_MOVED = "exit not moved"
    SIZE_DIFFERS = "size differs"
    STRATEGY_DIFFERS = "strategy differs"
    UNKNOWN_EXIT = "unknown exit"
    MISMATCH = "position mismatch"
    ORPHAN = "orphan"
    STUCK_SIGNAL = "stuck signal"
    EXPIRED_SIGNAL = "expired signal"
    FORGED_SIGNAL = "forged signal"
    DEAD_LETTER = "dead letter"
    MISSED_ALERT = "missed alert"
    MANY_REPORTS = "many reports"
    REFUSED_EXIT = "refused exit"
    REFUSED_ALERT = "refused alert"
    USED_ID = "used id"
    BROKER_BLIND = "broker blind"
    MARKET_DATA = "market data"
    SECOND_EXECUTOR = "second executor"
    RELAY = "relay"
    CLOCK = "clock"
    ACCOUNT = "account"
    STORAGE = "storage"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table: how loud, when it is raised and when it is over (for the docs), and its closing message."""

    level: Level
    raised: str
    ends: str
    over: str = ""  # the closing message where it ends because it is no longer true
    told_for: timedelta | None = None  # it reports something that happened: how long it stays open at least

    @property
    def told(self) -> str:
        """The closing message where it ends because it was open for its time."""
        return f"reported for {_SPANS[self.told_for]}" if self.told_for else self.over


_PAGE, _WARN = Level.PAGE, Level.WARN
_QUARTER, _HOUR, _DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
_SPANS = {_QUARTER: "15 minutes", _HOUR: "an hour", _DAY: "a day"}  # how long -> in words

CONDITIONS: Mapping[AlarmKind, Condition] = {
    AlarmKind.UNPROTECTED: Condition(
        _PAGE,
        "the stop-loss has been missing, or the wrong size, for `protect_seconds` (10) while TWS is connected; for half "
        "that time if you cancelled it yourself",
        "the stop-loss is working again in the trade's size, or the trade is over",
        "the stop-loss is working again, or is no longer needed"),
    AlarmKind.HOLD: Condition(
        _PAGE,
        "the executor cannot tell what happened to a trade, its close was refused, or its exits filled more than it held",
        "you chose on the page, or the trade is over", "no longer on hold"),
    AlarmKind.EXIT_TOO_LARGE: Condition(
        _PAGE, "for `protect_seconds` an exit has been larger than its trade's position in the account",
        "the exits fit, or the trade is over or on hold", "the exits fit the position, or the trade is on hold"),
    AlarmKind.CONTRACT: Condition(
        _PAGE, "TWS does not identify the contract of an open trade, so nothing can be ordered in it",
        "TWS identifies it, or the trade is over", "TWS identifies the contract again"),
    AlarmKind.CLOSE_WAITS: Condition(
        _WARN,
        "a close waits for its market to open, its exits still working; or for 10 s a close order has not filled, or an order "
        "that must go first (or an expired entry) has not been cancelled",
        "it is no longer waiting, or the trade is over", "the close is no longer waiting"),
    AlarmKind.TAKE_PROFIT_LOST: Condition(
        _WARN, "the take-profit was refused, and the trade has been open without one for `protect_seconds`",
        "the trade is being closed, or is over", "the take-profit is no longer needed"),
    AlarmKind.DAY_ORDER: Condition(
        _WARN, "TWS keeps an exit for the day only, although it was sent as GTC (its presets can do that)",
        "no exit expires with the day", "no exit expires with the day"),
    AlarmKind.NOT_REDUCED: Condition(
        _PAGE, "a reduction was refused, or did not fill within 10 s: the trade keeps its size, and its exits cover it",
        "after an hour", told_for=_HOUR),
    AlarmKind.NOT_MOVED: Condition(
        _PAGE,
        "TWS refuses to move or to add an exit that a signal asked for, so that it stays as it was; or has not confirmed a "
        "move for `protect_seconds`",
        "TWS confirms it, or the trade is over; a refusal after an hour", "the exit is where it was asked to be", _HOUR),
    AlarmKind.SIZE_DIFFERS: Condition(
        _PAGE, "a strategy's size differs from the trade's on its side, and is not followed",
        "both agree, you chose on the page, or the trade is over", "the trade has the strategy's size, or is over"),
    AlarmKind.STRATEGY_DIFFERS: Condition(
        _WARN, "a strategy changes a position that this account does not hold: nothing is entered",
        "a later alert of the strategy agrees with the account, or you chose on the page; after a day",
        "the account is in step with the strategy again", _DAY),
    AlarmKind.UNKNOWN_EXIT: Condition(
        _PAGE,
        'the executor cannot tell how a trade closed (TWS no longer lists its executions); if it had a take-profit, '
        're-entry on that side is blocked, unless `unknown_exit = "allow"`',
        "the block is released; after 15 minutes if there is none", "nothing is left to do", _QUARTER),
    AlarmKind.MISMATCH: Condition(
        _WARN,
        "the account holds more of a traded contract than the journal knows, or less and nothing explains it yet; or "
        "holds a contract that was traded before and has no trade now",
        "both agree again, or you chose on the page", "journal and account agree again, or the trade is on hold"),
    AlarmKind.ORPHAN: Condition(
        _PAGE, "an order of this program is live at the broker without a trade",
        "the broker no longer shows it", "the order is no longer at the broker"),
    AlarmKind.STUCK_SIGNAL: Condition(
        _PAGE,
        "a signal has no outcome 60 s past its validity while TWS is connected, or its close waits for your choice on "
        "a trade on hold",
        "it has an outcome", "the signal has an outcome"),
    AlarmKind.EXPIRED_SIGNAL: Condition(
        _WARN, "an entry arrived, or could be acted on, too late",
        "after 15 minutes", told_for=_QUARTER),
    AlarmKind.FORGED_SIGNAL: Condition(
        _PAGE, "deliveries have no valid signature, or are no signals at all; none was acted on. One alarm, with their number",
        "after an hour", told_for=_HOUR),
    AlarmKind.DEAD_LETTER: Condition(
        _PAGE, "a signed signal cannot be read, or the relay gave up on one",
        "after an hour", told_for=_HOUR),
    AlarmKind.MISSED_ALERT: Condition(
        _WARN, "a strategy alert does not follow from the previous one: an alert in between never arrived",
        "that alert comes late; after a day", told_for=_DAY),
    AlarmKind.MANY_REPORTS: Condition(
        _PAGE,
        "the relay reports more than twenty things at once, or more than twenty an hour: the rest are counted in this one "
        "alarm",
        "after an hour", told_for=_HOUR),
    AlarmKind.REFUSED_EXIT: Condition(
        _PAGE, "the relay refused an alert with a valid credential that looks like an exit: check the position",
        "after an hour", told_for=_HOUR),
    AlarmKind.REFUSED_ALERT: Condition(
        _WARN, "the relay refused an alert with a valid credential",
        "after an hour", told_for=_HOUR),
    AlarmKind.USED_ID: Condition(
        _WARN, "an exit came with the id of another signal, and was carried out; or an alert was taken for a resend, of one "
        "long before or with another `time`",
        "after a day", told_for=_DAY),
    AlarmKind.BROKER_BLIND: Condition(
        _PAGE, "a position is held, and there has been no complete view of TWS for 60 s",
        "everything has been read again", "TWS is visible again, and everything has been read"),
    AlarmKind.MARKET_DATA: Condition(
        _WARN, "TWS has no market data line left (code 101), so the prices of some contracts are given up",
        "after an hour", told_for=_HOUR),
    AlarmKind.SECOND_EXECUTOR: Condition(
        _PAGE,
        "another executor polls the same relay, which refuses the later one; or this one is the later one",
        "after an hour; at once when signals are fetched again", "signals are fetched again", _HOUR),
    AlarmKind.RELAY: Condition(
        _WARN, "signals could not be fetched for over a minute",
        "they are fetched again", "signals are fetched again"),
    AlarmKind.CLOCK: Condition(
        _WARN, "this computer's clock and the relay's differ by more than 2 s; above 30 s no entry is sent",
        "they agree", "the clock is right"),
    AlarmKind.ACCOUNT: Condition(
        _PAGE, "the account may not be traded: not named, not the journal's, or live without `--live`",
        "the right account is logged in", "the account may be traded"),
    AlarmKind.STORAGE: Condition(
        _PAGE, "the journal cannot be written: nothing is sent",
        "it can be written, and everything has been read again", "the journal can be written again"),
    AlarmKind.PROGRAM: Condition(
        _PAGE, "a bug in this program: nothing is sent; or the status page or one of its endpoints fails (trading goes on)",
        "the program was restarted, and everything has been read; the page works again, or a button that failed once "
        "has not failed again for 15 minutes", "the program is running again, and everything has been read"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One trade as the conditions see it, after the steps that it needed were taken."""

    trade: Trade
    moment: Moment
    policy: Policy
    step: Step | None = None  # the step at which its work rests
    contract_problem: str | None = None  # why its contract is not known; "" while it is being asked for

    def lasted(self, since: datetime | None) -> bool:
        """True if something has lasted so long, while the broker was visible, that the owner must be alerted."""
        return self.moment.lasted(since, self.policy.alarm_seconds)


def larger_exits(trade: Trade, moment: Moment) -> list[Order]:
    """Return the exits that would trade more than the account shows of a trade."""
    if not trade.entry_is_done:
        return []  # they wait for it
    left = max(moment.left_for(trade) - trade.reducing, ZERO)
    targets = [o for o in trade.live_exits if o.leg is Leg.TAKE_PROFIT]
    stops = list(trade.live_stops)
    return [o for legs in (targets, stops) if sum((each.remaining for each in legs), ZERO) > left for o in legs]


# What a condition returns for a trade: None, it does not hold; "", it holds, but not for long enough, or for no known
# reason yet, to be reported (an open alarm stays open); else in words what is wrong.
Said = str | None


def _unprotected(case: Case) -> Said:
    trade = case.trade
    if trade.unprotected_at is None:
        return None
    why = case.step.why if isinstance(case.step, Unprotected) else _why_bare(case)
    return f"{trade.symbol}: {decimal_text(trade.held)} held with NO working stop-loss: {why}" if why else ""


def _why_bare(case: Case) -> str:
    """Return why a trade is unprotected, once it has been for too long; else ""."""
    trade, moment = case.trade, case.moment
    since = trade.unprotected_at and min(trade.unprotected_at, moment.amiss_since or trade.unprotected_at)
    told_late = trade.state in (State.CANCELLING, State.CLOSING)  # what is shown may not count the entry yet
    why = _BARE.get(trade.state, "") if told_late or moment.left_for(trade) > 0 else ""
    if told_late and since is not None and not awaits_market(trade, moment):
        why = _bare_for_close(trade, since)
    if case.contract_problem is not None:
        why = why or "TWS has not identified the contract yet, so no order can be sent"
    return why if why and case.lasted(since) else ""


_BARE = {
    State.HOLD: "it is on hold, and its stop-loss is not working",
    State.WORKING: "its entry is partly filled, and the stop-loss is not working yet",
}


def _bare_for_close(trade: Trade, since: datetime) -> str:
    """Return since when the trade has been bare for its close, and what the broker says that the close waits for."""
    held = next((o.held for o in trade.legs(Leg.CLOSE) if o.is_live and o.held), None)
    day = f"{since:%Y-%m-%d %H:%M:%S} UTC"
    return f"it was cancelled for a close that is not complete yet, and has been missing since {day}" + (
        f"; the close waits at the broker: {held}" if held else ""
    )


def _hold(case: Case) -> Said:
    trade = case.trade
    if trade.state is not State.HOLD:
        return None
    return f"{trade.symbol} is on hold: {trade.hold_reason}. Choose on the page: adopt, flatten or dismiss"


def _exit_too_large(case: Case) -> Said:
    trade = case.trade
    large = larger_exits(trade, case.moment) if trade.state is not State.HOLD else []
    if not large:
        return None
    words, left = " and the ".join(o.leg.word for o in large), decimal_text(case.moment.left_for(trade))
    text = (
        f"{trade.symbol}: the {words} would trade more than the account shows ({left} of the trade's "
        f"{decimal_text(trade.held)}), and nothing explains the difference yet: check TWS"
    )
    return text if case.lasted(case.moment.amiss_since) else ""


def _contract(case: Case) -> Said:
    if not case.contract_problem:
        return None
    return (
        f"{case.trade.symbol}: TWS does not identify contract {case.trade.con_id} of the open trade, so nothing can be ordered "
        f"in it: {case.contract_problem}"
    )


def _take_profit_lost(case: Case) -> Said:
    trade = case.trade
    refused = next((o for o in trade.legs(Leg.TAKE_PROFIT) if o.state is OrderState.REJECTED), None)
    works = any(o.is_live for o in trade.legs(Leg.TAKE_PROFIT))  # another one that was added
    if refused is None or works or trade.state is not State.OPEN or trade.held <= 0:
        return None
    text = f"{trade.symbol}: no take-profit is working at the broker ({refused.reason or 'refused'}): close the trade yourself"
    return text if case.lasted(refused.done_at) else ""


def _close_waits(case: Case) -> Said:
    opens_at = case.moment.opens_at
    if opens_at is not None and awaits_market(case.trade, case.moment):
        until = f"{opens_at:%Y-%m-%d %H:%M} UTC, when its market opens"
        return f"the close of {case.trade.symbol} waits until {until}; its exits stay at the broker until then"
    if opens_at is not None and case.trade.reduction is not None:
        until = f"{opens_at:%Y-%m-%d %H:%M} UTC, when its market opens"
        return f"the reduction of {case.trade.symbol} waits until {until}; its exits keep their size until then"
    since, what = _waits(case.trade, case.moment.waiting_since)
    if since is None:
        return None
    return (
        f"the close of {case.trade.symbol} is waiting at the broker: {what}"
        if case.moment.lasted(since, CLOSE_WAITS_SECONDS)
        else ""
    )


def _waits(trade: Trade, waiting_since: datetime | None) -> tuple[datetime | None, str]:
    """Return since when a close waits at the broker, and for what; None where none does."""
    if trade.state is State.CANCELLING:
        asked = [(o.cancelling_since, o.leg.word) for o in trade.live if o.cancelling_since is not None]
        since, leg = min(asked, default=(None, ""))
        return since, f"its {leg} is not cancelled yet"
    entry = trade.entry
    if trade.state is State.WORKING and entry is not None and entry.cancelling_since is not None:
        return entry.cancelling_since, "its entry is not cancelled yet"
    close = next((o for o in trade.legs(Leg.CLOSE) if o.state is OrderState.WORKING), None)
    if close is None and trade.state is State.CLOSING and not trade.live:
        return waiting_since, "TWS has not reported the position that is to be closed"
    if close is None:
        return None, ""
    return close.sent_at, close.held or "not filled yet (is the market closed?)"


def _day_order(case: Case) -> Said:
    ending = next((o for o in case.trade.live_exits if o.ends_today), None)
    if ending is None:
        return None
    return (
        f"{case.trade.symbol}: TWS keeps the {ending.leg.word} for today only ({ending.tif}, not GTC): set it to GTC in TWS, "
        "and remove the time in force from the presets (Global Configuration, Presets)"
    )


def _not_moved(case: Case) -> Said:
    waiting = [o for o in case.trade.live if o.wish is not None and o.wish_sent_at is not None]
    if not waiting:
        return None
    if not any(case.lasted(o.wish_sent_at) for o in waiting):
        return ""
    words = " and ".join(f"the {o.leg.word} to {_price(o.wish)} (it is at {_price(o.price)})" for o in waiting)
    return f"{case.trade.symbol}: TWS has not confirmed the move of {words}"


def _price(price: Decimal | None) -> str:
    return "no price" if price is None else decimal_text(price)


def _size_differs(case: Case) -> Said:
    trade = case.trade
    if trade.strategy_size is None or trade.held == trade.strategy_size:
        return None
    if not trade.entry_is_done or trade.held <= 0 or trade.reduction is not None or trade.reducing:
        return ""
    return (
        f"{trade.symbol}: the strategy holds {decimal_text(trade.strategy_size)}, this trade {decimal_text(trade.held)}. "
        "Choose on the page: follow now, or leave it"
    )


# kind → what must be true of an unfinished trade, in words for the owner
OF_TRADE: Mapping[AlarmKind, Callable[[Case], Said]] = {
    AlarmKind.UNPROTECTED: _unprotected,
    AlarmKind.HOLD: _hold,
    AlarmKind.EXIT_TOO_LARGE: _exit_too_large,
    AlarmKind.CONTRACT: _contract,
    AlarmKind.CLOSE_WAITS: _close_waits,
    AlarmKind.TAKE_PROFIT_LOST: _take_profit_lost,
    AlarmKind.DAY_ORDER: _day_order,
    AlarmKind.NOT_MOVED: _not_moved,
    AlarmKind.SIZE_DIFFERS: _size_differs,
}


def conditions_of(case: Case) -> dict[AlarmKind, str]:
    """Return what holds for an unfinished trade now: kind → words; "" leaves an open alarm as it is.

    While the broker is not visible nothing is over, and only what does not depend on the broker is new.
    """
    if case.moment.ready_since is None:
        return {**dict.fromkeys(OF_TRADE, ""), AlarmKind.HOLD: _hold(case) or ""}
    return {kind: said for kind, holds in OF_TRADE.items() if (said := holds(case)) is not None}
