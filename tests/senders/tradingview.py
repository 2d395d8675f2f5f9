"""What TradingView does with an alert message: it fills in the placeholders, and posts the text."""

from __future__ import annotations

import json
import re

import requests

# Examples of what it fills in; source: TradingView, "How to use a variable value in alert", "Strategy alerts".
VALUES = {
    "ticker": "EURUSD", "exchange": "FX", "interval": "5", "close": "1.1903", "time": "2026-11-23T09:10:00Z",
    "timenow": "2026-11-23T09:15:00Z", "plot_0": "1.2", "plot_1": "1.18",
    "strategy.order.action": "buy", "strategy.order.contracts": "20000", "strategy.order.price": "1.1903",
    "strategy.order.id": "Long", "strategy.order.comment": "", "strategy.position_size": "10000",
    "strategy.market_position": "long", "strategy.market_position_size": "10000",
    "strategy.prev_market_position": "flat", "strategy.prev_market_position_size": "0",
}  # fmt: skip


def fill(message: str, **values: str) -> str:
    """Return the text as TradingView sends it; `order_id` means `strategy.order.id`, and so on."""
    known = {**VALUES, **{name.replace("__", "."): value for name, value in values.items()}}
    return re.sub(r"\{\{\s*([a-z0-9_.]+)\s*\}\}", lambda found: known[found[1]], message)


def post(url: str, text: str) -> requests.Response:
    """Post a text as TradingView does: JSON only by its Content-Type when it is JSON, and no headers of ours.

    Source: TradingView support, "How to configure webhook alerts".
    """
    try:
        json.loads(text)
        kind = "application/json; charset=utf-8"
    except ValueError:
        kind = "text/plain; charset=utf-8"
    return requests.post(url, data=text.encode(), headers={"Content-Type": kind}, timeout=30)
