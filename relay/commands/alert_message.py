"""`python -m relay alert-message`: the text to paste into TradingView's "Message" field."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from common.values import NUMBER_PATTERN

# Placeholders; source: TradingView, "How to use a variable value in alert" and "Strategy alerts".
# `{{timenow}}` has whole seconds only, so an id also names what was done, and the position before and after: two orders
# of one strategy in one second differ, also two fills of one exit; a resend of one alert does not.
_INDICATOR_ID = "-{{ticker}}-{{interval}}-{{timenow}}"
_STRATEGY_ID = (
    "-{{ticker}}-{{strategy.order.id}}-{{strategy.order.action}}-{{strategy.prev_market_position_size}}"
    "-{{strategy.market_position}}-{{strategy.market_position_size}}-{{timenow}}"
)
KINDS = ("open", "close", "strategy")


def message(kind: str, name: str, side: str, quantity: str, exits: dict[str, str], secret: str | None) -> str:
    """Return an alert message as JSON whose placeholders TradingView fills in."""
    fields: dict[str, Any] = {"action": kind, "symbol": "{{exchange}}:{{ticker}}"}
    if kind == "open":
        fields |= {"side": side, "quantity": quantity, **exits, "id": f"{name}-open-{side}{_INDICATOR_ID}"}
    elif kind == "close":
        fields |= {"id": f"{name}-close{_INDICATOR_ID}"}
    else:
        for field in ("market_position", "market_position_size"):
            fields[field] = f"{{{{strategy.{field}}}}}"
            fields[f"prev_{field}"] = f"{{{{strategy.prev_{field}}}}}"
        fields |= {**exits, "id": name + _STRATEGY_ID}
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
_PRICE = _Text(
    "price",
    rf"(?!0*(\.0*)?$){NUMBER_PATTERN}|{{{{[a-z_0-9]+}}}}",
    "must be a price, or a placeholder such as {{plot_0}}",
)


@click.command("alert-message")
@click.argument("kind", type=click.Choice((*KINDS, "all")), default="all")
@click.option("--name", type=_NAME, default="bot", show_default=True, help="Your strategy's name: part of each id.")
@click.option("--side", type=click.Choice(("buy", "sell")), default="buy", show_default=True)
@click.option("--quantity", type=_NUMBER, default="10000", show_default=True)
@click.option("--tp", type=_PRICE, help="Take-profit: a price, or a placeholder such as {{plot_0}}.")
@click.option("--sl", type=_PRICE, help="Stop-loss: a price, or a placeholder such as {{plot_1}}.")
@click.option("--with-secret", is_flag=True, help="Include a placeholder for the secret, for a URL without one.")
def alert_message(kind: str, name: str, side: str, quantity: str, with_secret: bool, **exits: str | None) -> None:
    """Print the message to paste into a TradingView alert: open, close, strategy, or all.

    The webhook URL is https://YOUR-RELAY/webhook/YOUR-SECRET; TradingView can send no headers.
    """
    secret = "PUT-YOUR-SECRET-HERE" if with_secret else None
    given = {field: price for field, price in exits.items() if price}
    kinds = KINDS if kind == "all" else (kind,)
    for each in kinds:
        if len(kinds) > 1:
            click.echo(f"# {each}", err=True)
        click.echo(message(each, name, side, quantity, given, secret))
