"""Symbols: one spelling for everything a sender may write for the same instrument."""

from __future__ import annotations

import re

# What IDEALPRO trades, as base or quote; source: IBKR, "Forex: available currency pairs".
IDEALPRO_CURRENCIES = frozenset({
    "AED", "AUD", "CAD", "CHF", "CNH", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "KRW",
    "MXN", "NOK", "NZD", "PLN", "RUB", "SAR", "SEK", "SGD", "TRY", "USD", "ZAR",
})  # fmt: skip
_PREFIX = re.compile(r"[A-Z0-9_]{1,20}:", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._!&-]{0,29}", re.ASCII)
_PAIR = re.compile(r"([A-Z]{3})[./]?([A-Z]{3})", re.ASCII)


def canonical(symbol: str) -> str:
    """Return the one spelling of a symbol; applying it twice changes nothing.

    Upper case; an exchange prefix is dropped; the separator inside a forex pair is removed; a share
    class is set off by a dot.

    >>> [canonical(text) for text in ("EUR/USD", "FX:eurusd", "NASDAQ:AAPL", "BRK/B", "ES1!")]
    ['EURUSD', 'EURUSD', 'AAPL', 'BRK.B', 'ES1!']

    Raises:
        ValueError: It can be no symbol; the message says why.
    """
    text = _PREFIX.sub("", symbol.strip(" ").upper(), count=1) if symbol.isascii() else symbol
    pair = _PAIR.fullmatch(text)
    if pair and is_forex(pair[1] + pair[2]):
        return pair[1] + pair[2]
    text = text.replace("/", ".")
    if not _SYMBOL.fullmatch(text):
        raise ValueError(_why_not(symbol))
    return text


def is_forex(symbol: str) -> bool:
    """True if a canonical symbol is a pair that IDEALPRO trades.

    >>> is_forex("EURUSD"), is_forex("AAPL"), is_forex("USDUSD")
    (True, False, False)
    """
    base, quote = symbol[:3], symbol[3:]
    return base != quote and base in IDEALPRO_CURRENCIES and quote in IDEALPRO_CURRENCIES


def _why_not(symbol: str) -> str:
    if not symbol.strip():
        return "must not be empty, like EURUSD or NASDAQ:AAPL"
    if len(symbol) > 40:
        return f"must be at most 30 characters, was {len(symbol)}"
    return f"must be letters and digits, like EURUSD, NASDAQ:AAPL or BRK.B, was {symbol!r}"
