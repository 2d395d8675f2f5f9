"""The page's words and numbers: what each button asks, and how amounts and times are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from common.clock import parse_utc, utc_text
from executor.core.commands import CommandKind
from executor.core.orders import Leg

from .dashboard import decimal

DASH = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Wish:
    """One button: its label, and the confirmation before it acts. `{symbol}` and `{trade_id}` are filled in."""

    label: str
    question: str
    consequence: str
    confirm: str
    is_grave: bool = True  # it trades, or cannot be taken back
    always_asks: bool = True  # a POST without confirm=yes only asks


WISHES: dict[CommandKind, Wish] = {
    CommandKind.CLOSE: Wish(
        "Close", "Close the {symbol} trade?",
        "The executor cancels the exits of trade {trade_id}, then closes what it holds at market. "
        "Your own position in {symbol} is not touched.",
        "Close at market", always_asks=False),
    CommandKind.RESET: Wish(
        "Release", "Release the re-entry block on {symbol}?",
        "The next signal on the blocked side will be traded again.",
        "Release the block", is_grave=False, always_asks=False),
    CommandKind.ADOPT: Wish(
        "Adopt", "Continue with what the broker shows for {symbol}?",
        "The broker's current position becomes the quantity of trade {trade_id}, and trading continues. "
        "Check in TWS that this is what you want.",
        "Adopt and continue", is_grave=False),
    CommandKind.FLATTEN: Wish(
        "Flatten", "Close everything in the {symbol} trade?",
        "The executor cancels the orders of trade {trade_id} and closes its position at market.",
        "Flatten at market"),
    CommandKind.DISMISS: Wish(
        "Dismiss", "Have you settled the {symbol} trade yourself?",
        "Trade {trade_id} is closed in the journal. No order is sent and none is cancelled: "
        "check in TWS that none of its orders is still working.",
        "I have settled it"),
    CommandKind.IGNORE_POSITION: Wish(
        "Ignore", "Leave your {symbol} position alone?",
        "Signals in {symbol} are traded alongside it; the executor never closes or protects your own position.",
        "Ignore the position", is_grave=False),
    CommandKind.ADOPT_POSITION: Wish(
        "Adopt", "Make your {symbol} position a trade?",
        "From now on signals close it like any other trade. "
        "It has no stop-loss unless you set one in TWS.",
        "Adopt as a trade", is_grave=False),
    CommandKind.FOLLOW: Wish(
        "Follow now", "Follow the strategy in {symbol} now?",
        "The executor brings your position to what the strategy holds now, at market: it adds or takes a part out, enters "
        "with the exits that the strategy's alert asked for, or closes. What forbids an entry forbids it here too.",
        "Follow at market"),
    CommandKind.LEAVE: Wish(
        "Leave it", "Leave the difference in {symbol} as it is?",
        "No order is sent. The alarm ends, and comes back with the strategy's next alert if the two differ then.",
        "Leave it", is_grave=False),
}  # fmt: skip

STATES = {
    "sending": "sent, not confirmed",
    "working": "entry working",
    "open": "open",
    "cancelling": "to be closed, its orders first",
    "closing": "closing",
    "hold": "on hold",
    "closed": "closed",
    "void": "never filled",
}

ORDER_STATES = {"sending": "sent, not confirmed"}  # the others need no translation

# An order's leg → its word, in the order in which they are shown.
LEGS = {leg.value: leg.word for leg in Leg} | {"R": "stop-loss put back"}

# IBKR's name → ours, and whether it is a gain or loss; the rest of the account is one click away.
HEADLINE = (
    ("NetLiquidation", "Net liquidation", False),
    ("TotalCashValue", "Cash", False),
    ("BuyingPower", "Buying power", False),
    ("UnrealizedPnL", "Unrealised", True),
    ("RealizedPnL", "Realised", True),
)

MOST_WARNINGS = 3  # more are folded into one line: what needs a decision is not pushed off the screen

TONES = {
    "entered": "good", "added": "good", "reduced": "plain", "protected": "good", "superseded": "quiet",
    "closed": "plain", "reset": "plain", "nothing to do": "quiet", "ignored": "quiet",
    "expired": "warn", "refused": "bad", "waiting": "wait", "closing": "wait",
}  # fmt: skip


def quantity(value: Any) -> str:
    """Return a number with thousands set off and no needless zeros.

    >>> quantity(Decimal("10000.00")), quantity(Decimal("-1.5")), quantity(None)
    ('10,000', '−1.5', '—')
    """
    if value is None:
        return DASH
    text = f"{value:,f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", MINUS)


def price(value: Any) -> str:
    """Return a price with at least two decimals and all that it has, at most six.

    >>> price(Decimal("1.2")), price(Decimal("1.189125"))
    ('1.20', '1.189125')
    """
    if value is None:
        return DASH
    number = Decimal(value).quantize(Decimal("0.000001"), ROUND_HALF_EVEN).normalize()
    exponent = number.as_tuple().exponent
    places = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{number:,.{places}f}".replace("-", MINUS)


def exit_wish(value: Any) -> str:
    """Return where a signal wants an exit: a price, or a distance as it was sent.

    >>> exit_wish(Decimal("1.2")), exit_wish("25 ticks")
    ('1.20', '25 ticks')
    """
    return value if isinstance(value, str) else price(value)


def money(value: Any, signed: bool = False) -> str:
    """Return an amount with two decimals, and its sign in full where it is a gain or a loss.

    >>> money(Decimal("1234.5")), money(Decimal("12.3"), True), money(Decimal("-7"), True), money("x")
    ('1,234.50', '+12.30', '−7.00', 'x')
    """
    if value is None:
        return DASH
    try:
        text = f"{Decimal(str(value)):{'+' if signed else ''},.2f}"
    except (ArithmeticError, ValueError):  # no amount: shown as it came
        return str(value)
    return "0.00" if text.strip("+-") == "0.00" else text.replace("-", MINUS)


def gain(value: Any, per_unit: bool = False) -> str:
    """Return a gain or loss with its sign; as a difference of prices where it is for one unit.

    >>> gain(Decimal("-0.0012"), True), gain(Decimal("12.3"))
    ('−0.0012', '+12.30')
    """
    if not per_unit or value is None:
        return money(value, signed=True)
    return f"+{price(value)}" if value > 0 else price(value)


def milliseconds(value: float | None) -> str:
    """Return a delay that a person can compare at a glance.

    >>> milliseconds(7.26), milliseconds(412.4), milliseconds(12400), milliseconds(-3), milliseconds(None)
    ('7.3 ms', '412 ms', '12.4 s', '< 0 ms', '—')
    """
    if value is None:
        return DASH
    if value < 0:
        return "< 0 ms"  # the two clocks differ by more than the delay
    if value < 100:
        return f"{value:.1f} ms"
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"


def tone(value: Any) -> str:
    """Return the class of a gain or loss; the sign is written out as well, so colour is never alone."""
    if value is None or not value:
        return "flat"
    return "gain" if value > 0 else "loss"


@lru_cache(maxsize=4096)  # a page shows some 250 instants, and nearly all of them again and again
def moment(at: datetime | str | None) -> Markup:
    """Return an instant as a <time>: UTC first, in the reader's zone once the script has run."""
    if at is None:
        return Markup(DASH)  # noqa: S704 - a constant
    try:
        instant = parse_utc(at) if isinstance(at, str) else at
    except ValueError:  # no instant: shown as it came
        return Markup("{}").format(at)
    shown = f"{instant:%H:%M:%S}"
    exact = f"{instant:%Y-%m-%d %H:%M:%S}.{instant.microsecond // 1000:03d} UTC"
    html = f'<time datetime="{utc_text(instant)}" title="{exact}">{shown} UTC</time>'
    return Markup(html)  # noqa: S704 - digits


def fill_in(text: str, symbol: str, trade_id: int | None) -> str:
    """Return a wish's sentence for one symbol or trade; braces in a symbol stay what they are."""
    return text.replace("{symbol}", symbol).replace("{trade_id}", str(trade_id or ""))


FILTERS: dict[str, Callable[..., Any]] = {
    "quantity": quantity,
    "price": price,
    "exit": exit_wish,
    "money": money,
    "milliseconds": milliseconds,
    "tone": tone,
    "gain": gain,
    "amount": decimal,
    "moment": moment,
}
