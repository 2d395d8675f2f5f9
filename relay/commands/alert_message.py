"""`python -m relay alert-message`: the text to paste into TradingView's "Message" field."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from common.errors import MalformedSignal, Problem
from common.exits import DISTANCE_PATTERN
from common.signals import alert_from
from common.values import NUMBER_PATTERN

# Placeholders; source: TradingView, "How to use a variable value in alert" and "Strategy alerts".
# `{{timenow}}` has whole seconds only, so an id also names what was done, and the position before and after: two orders
# of one strategy in one second differ, also two fills of one exit; a resend of one alert does not.
_INDICATOR_ID = "-{{ticker}}-{{interval}}-{{timenow}}"
_STRATEGY_ID = (
    "-{{ticker}}-{{strategy.order.id}}-{{strategy.order.action}}-{{strategy.prev_market_position_size}}"
    "-{{strategy.market_position}}-{{strategy.market_position_size}}-{{timenow}}"
)
KINDS = ("open", "close", "protect", "strategy")
_EXITS = ("tp", "sl", "trail", "targets", "breakeven_after_target")
# kind -> which of the wishes its message may hold
_WISHES = {"open": _EXITS, "close": ("percent",), "protect": ("tp", "sl"), "strategy": _EXITS}


def message(kind: str, name: str, side: str, quantity: str, wishes: Mapping[str, Any], secret: str | None) -> str:
    """Return an alert message as JSON whose placeholders TradingView fills in.

    Whose alert it is, when it fired, and at which price, are part of each: two strategies in one symbol are told apart,
    and so are two closes of a part.
    """
    fields: dict[str, Any] = {"action": kind, "symbol": "{{exchange}}:{{ticker}}"}
    wished = {field: wishes[field] for field in _WISHES[kind] if field in wishes}
    if kind == "open":
        fields |= {"side": side, "quantity": quantity, **wished, "id": f"{name}-open-{side}{_INDICATOR_ID}"}
    elif kind == "strategy":
        for field in ("market_position", "market_position_size"):
            fields[field] = f"{{{{strategy.{field}}}}}"
            fields[f"prev_{field}"] = f"{{{{strategy.prev_{field}}}}}"
        fields |= {**wished, "id": name + _STRATEGY_ID}
    else:
        wished = wished or ({"sl": "entry"} if kind == "protect" else {})
        what = "-".join([name, kind, *(str(wished[field]) for field in ("percent",) if field in wished)])
        fields |= {**wished, "id": f"{what}{_INDICATOR_ID}"}
    price = "{{strategy.order.price}}" if kind == "strategy" else "{{close}}"
    fields |= {"strategy_name": name, "price": price, "time": "{{timenow}}"}
    if secret:
        fields["secret"] = secret
    return json.dumps(fields, indent=2, ensure_ascii=False)


class _Text(click.ParamType):  # type: ignore[type-arg]
    """A text of one pattern: what TradingView would paste in must leave the message a signal."""

    def __init__(self, name: str, pattern: str, remedy: str) -> None:
        self.name, self._pattern, self._remedy = name, re.compile(pattern, re.ASCII), remedy

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._pattern.fullmatch(value):
            self.fail(f"{self._remedy}, was {value[:60]!r}", param, ctx)
        return value


_NAME = _Text("name", r"[A-Za-z0-9_.-]{1,32}", "must be 1 to 32 letters, digits, or any of _ . -")
_NUMBER = _Text("number", rf"(?!0*(\.0*)?$){NUMBER_PATTERN}", "must be a number greater than 0, such as 10000 or 0.5")
_AMOUNT = rf"(?=.*[1-9]){NUMBER_PATTERN}|{{{{[a-z_0-9]+}}}}"  # a price, which a plot may tell
_DISTANCE = rf"(?=.*[1-9]){DISTANCE_PATTERN}"
_FORMS = 'a placeholder such as {{plot_0}}, or a distance such as "1.5%", "25 ticks" or "2.5 points"'
_EXIT = _Text("price", rf"{_AMOUNT}|{_DISTANCE}|entry", f"must be a price, {_FORMS}; with protect also entry")
_TRAIL = _Text("distance", _DISTANCE, f"must be {_FORMS.partition(', or ')[2]}")
_SHARE = rf"(?=.*[1-9]){NUMBER_PATTERN}%?"
_PERCENT = _Text("percent", _SHARE, "must be a percent, such as 50")
_TARGET = _Text(
    "target", rf"({_AMOUNT}|{_DISTANCE})={_SHARE}", "must be where, =, and a percent, such as 1.25=50 or 2%=50"
)


def targets_of(texts: Iterable[str]) -> list[dict[str, str]]:
    """Return targets as a signal has them.

    >>> targets_of(["1.25=50", "2%=25%"])
    [{'tp': '1.25', 'percent': '50'}, {'tp': '2%', 'percent': '25%'}]
    """
    parts = [text.partition("=") for text in texts]
    return [{"tp": tp.strip(), "percent": percent.strip()} for tp, _, percent in parts]


@click.command("alert-message")
@click.argument("kind", type=click.Choice((*KINDS, "all")), default="all")
@click.option("--name", type=_NAME, default="bot", show_default=True, help="Your strategy's name: part of each id too.")
@click.option("--side", type=click.Choice(("buy", "sell")), default="buy", show_default=True)
@click.option("--quantity", type=_NUMBER, default="10000", show_default=True)
@click.option("--tp", type=_EXIT, help="Take-profit: a price, a placeholder such as {{plot_0}}, or a distance (1.5%).")
@click.option("--sl", type=_EXIT, help="Stop-loss: likewise. With protect also entry, the default there.")
@click.option("--trail", type=_TRAIL, help='Trailing stop: a distance ("25 ticks"); --sl is where it begins.')
@click.option(
    "--target", "targets", type=_TARGET, multiple=True, help="In place of --tp, up to four times: 1.25=50 (percent)."
)
@click.option(
    "--breakeven", "breakeven_after_target", is_flag=True, help="The first target moves the stop to the entry."
)
@click.option("--percent", type=_PERCENT, help="With close: this share of the trade, not all of it.")
@click.option("--with-secret", is_flag=True, help="Include a placeholder for the secret, for a URL without one.")
def alert_message(kind: str, name: str, side: str, quantity: str, with_secret: bool, **wishes: Any) -> None:
    """Print the message to paste into a TradingView alert: open, close, protect, strategy, or all.

    The webhook URL is https://YOUR-RELAY/webhook/YOUR-SECRET; TradingView can send no headers.
    """
    secret = "PUT-YOUR-SECRET-HERE" if with_secret else None
    given = {field: wish for field, wish in wishes.items() if wish}
    if "targets" in given:
        given["targets"] = targets_of(given["targets"])
    if kind != "all" and (unused := [field for field in given if field not in _WISHES[kind]]):
        raise click.UsageError(f"a message for {kind} has no {', no '.join(unused)}")
    kinds = KINDS if kind == "all" else (kind,)
    for each in kinds:
        text = message(each, name, side, quantity, given, secret)
        if problems := _problems(text):
            raise click.UsageError("\n".join(map(str, problems)))
        if len(kinds) > 1:
            click.echo(f"# {each}", err=True)
        click.echo(text)


def _problems(text: str) -> list[Problem]:
    """Return what the relay would refuse of a message whatever TradingView fills in; of a strategy's, on either side."""
    found = [_refused(_filled(text, position)) for position in ("long", "short")]
    return min(found, key=len)


def _filled(text: str, position: str) -> str:
    """Return a message with values in it that contradict nothing: where a plot stands, a distance of its own."""
    plots = itertools.count(1)
    values = {"strategy.market_position": position, "strategy.prev_market_position": "flat"}
    text = re.sub(r'"(tp|sl)": "\{\{\w+\}\}"', lambda found: f'"{found[1]}": "0.{next(plots):09d}%"', text)
    return re.sub(r"\{\{([\w.]+)\}\}", lambda found: values.get(found[1], "1"), text)


def _refused(text: str) -> list[Problem]:
    fields = {name: value for name, value in json.loads(text).items() if name != "symbol"}
    try:
        warnings = alert_from({"symbol": "EURUSD", **fields}).warnings
    except MalformedSignal as exc:
        return exc.problems
    return [warning for warning in warnings if warning.field != "time"]  # it stands for any instant
