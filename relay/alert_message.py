"""`python -m relay alert-message`: the text to paste into TradingView's "Message" field."""

from __future__ import annotations

import json
from typing import Any

import click

# Placeholders; source: TradingView, "How to use a variable value in alert" and "Strategy alerts".
# `{{timenow}}` has whole seconds only, so an id also names what was done: two orders of one strategy in one
# second differ, a resend of one alert does not.
_INDICATOR_ID = "-{{ticker}}-{{interval}}-{{timenow}}"
_STRATEGY_ID = "-{{ticker}}-{{strategy.order.id}}-{{strategy.order.action}}-{{timenow}}"
KINDS = ("open", "close", "strategy")


def message(kind: str, name: str, side: str, quantity: str, secret: str | None) -> str:
    """Return an alert message as JSON whose placeholders TradingView fills in."""
    fields: dict[str, Any] = {"action": kind, "symbol": "{{exchange}}:{{ticker}}"}
    if kind == "open":
        fields |= {"side": side, "quantity": quantity, "id": f"{name}-open-{side}{_INDICATOR_ID}"}
    elif kind == "close":
        fields |= {"id": f"{name}-close{_INDICATOR_ID}"}
    else:
        for field in ("market_position", "market_position_size"):
            fields[field] = f"{{{{strategy.{field}}}}}"
            fields[f"prev_{field}"] = f"{{{{strategy.prev_{field}}}}}"
        fields |= {"id": name + _STRATEGY_ID}
    if secret:
        fields["secret"] = secret
    return json.dumps(fields, indent=2)


@click.command("alert-message")
@click.argument("kind", type=click.Choice((*KINDS, "all")), default="all")
@click.option("--name", default="bot", show_default=True, help="Your strategy's name: part of each alert's id.")
@click.option("--side", type=click.Choice(("buy", "sell")), default="buy", show_default=True)
@click.option("--quantity", default="10000", show_default=True)
@click.option("--with-secret", is_flag=True, help="Put in the place of the secret, for a URL without one.")
def alert_message(kind: str, name: str, side: str, quantity: str, with_secret: bool) -> None:
    """Print the message to paste into a TradingView alert: open, close, strategy, or all.

    The webhook URL is https://YOUR-RELAY/webhook/YOUR-SECRET; TradingView can send no headers.
    """
    secret = "PUT-YOUR-SECRET-HERE" if with_secret else None
    kinds = KINDS if kind == "all" else (kind,)
    for each in kinds:
        if len(kinds) > 1:
            click.echo(f"# {each}", err=True)
        click.echo(message(each, name, side, quantity, secret))
