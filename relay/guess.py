"""What a refused alert was probably meant to do: for its owner's alarm, never for an order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from common.symbols import canonical
from common.values import NUMBER_PATTERN

# What closes or protects in a sender's words, by the fields that say what to do; read off a body that may be no JSON.
_CLOSES = re.compile(
    r"\b(?:action|market_position|side|type)\b\W{1,6}(?:close|exit|flat|protect|cover|liquidat|sell.?to.?close|buy.?to.?cover)",
    re.IGNORECASE,
)
_SIZE = re.compile(NUMBER_PATTERN, re.ASCII)


def looks_like_exit(body: bytes, fields: object) -> bool:
    """True if an alert may have been meant to take something out or to protect it, also a strategy that leaves or shrinks a side.

    >>> looks_like_exit(b'{"action": "close", }', None), looks_like_exit(b'{"action": "open", "price": "close"}', None)
    (True, False)
    """
    if _CLOSES.search(body.decode("utf-8", "replace")):
        return True
    read = fields if isinstance(fields, dict) else {}
    before, after = (str(read.get(name, "")).strip().lower() for name in ("prev_market_position", "market_position"))
    if before not in ("long", "short"):
        return False
    held, holds = (_size(read.get(name)) for name in ("prev_market_position_size", "market_position_size"))
    return before != after or held is None or holds is None or holds < held


def _size(value: object) -> Decimal | None:
    return Decimal(value) if isinstance(value, str) and _SIZE.fullmatch(value) else None


def symbol_of(fields: object, secrets: Sequence[str]) -> str:
    """Return the symbol of a refused alert where it can be read and holds no secret, else ""."""
    symbol = fields.get("symbol") if isinstance(fields, dict) else None
    if not isinstance(symbol, str) or any(secret in symbol for secret in secrets):
        return ""
    try:
        return canonical(symbol)
    except ValueError:
        return ""
