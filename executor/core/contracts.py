"""Which contract a symbol means: PURE, from its spelling and from what `executor.toml` says.

Forex pairs and US shares are understood from their spelling; everything else needs an explicit contract,
since a guess could trade something that its owner never meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.errors import BridgeError
from common.symbols import canonical, is_forex
from executor.core.ports import ContractSpec

_US_SHARE = re.compile(r"[A-Z]{1,5}(\.[A-Z]{1,2})?", re.ASCII)
_EXPIRING = ("FUT", "FOP")
_SEC_TYPES = ("STK", "CASH", "FUT", "CONTFUT", "CFD", "CMDTY", "CRYPTO", "IND")
_NEEDED = ("sec_type", "exchange", "currency")
# field of [contracts.SYMBOL] → which field of ContractSpec it fills
_FIELDS = {
    "sec_type": "sec_type", "symbol": "local", "currency": "currency", "exchange": "exchange",
    "primary_exchange": "primary_exchange", "expiry": "expiry", "multiplier": "multiplier",
    "con_id": "con_id",
}  # fmt: skip


class UnknownSymbol(BridgeError):
    """No contract is known for a symbol. The text says why, with the choices."""

    code = "unknown-symbol"


def spec_for(symbol: str, configured: Mapping[str, ContractSpec]) -> ContractSpec:
    """Return the contract that a canonical symbol means; the configuration wins over the spelling.

    >>> spec = spec_for("EURUSD", {})
    >>> spec.sec_type, spec.local, spec.currency, spec.exchange
    ('CASH', 'EUR', 'USD', 'IDEALPRO')
    >>> spec_for("BRK.B", {}).local
    'BRK B'

    Raises:
        UnknownSymbol: It is neither configured, nor a forex pair, nor spelled like a US share.
    """
    if symbol in configured:
        return configured[symbol]
    if is_forex(symbol):
        return ContractSpec(symbol, "CASH", symbol[:3], symbol[3:], "IDEALPRO")
    if _US_SHARE.fullmatch(symbol):
        return ContractSpec(symbol, "STK", symbol.replace(".", " "), "USD", "SMART")
    known = f"; configured are {', '.join(sorted(configured))}" if configured else ""
    raise UnknownSymbol(
        f"{symbol} is neither a forex pair nor a US share{known}. Describe its contract in executor.toml: "
        f'[contracts."{symbol}"] with sec_type, symbol, exchange, currency (and expiry for a future)'
    )


def spec_from(symbol: str, table: Mapping[str, Any]) -> tuple[ContractSpec | None, list[str]]:
    """Return the contract that a `[contracts.SYMBOL]` table describes, and every mistake in it.

    >>> table = {"sec_type": "FUT", "exchange": "CME", "currency": "USD", "expiry": "202612"}
    >>> spec, problems = spec_from("ES", table)
    >>> spec.local, problems
    ('ES', [])
    """
    where = f'[contracts."{symbol}"]'
    problems = [
        f"{where} {name} is not a field; allowed: {', '.join(_FIELDS)}" for name in table if name not in _FIELDS
    ]
    if "con_id" not in table:
        problems += [f"{where} {name} is missing" for name in _NEEDED if not table.get(name)]
    sec_type = str(table.get("sec_type", ""))
    if sec_type and sec_type not in _SEC_TYPES:
        problems.append(f"{where} sec_type must be one of {', '.join(_SEC_TYPES)}, was {sec_type!r}")
    if sec_type in _EXPIRING and not ({"expiry", "con_id"} & set(table)):
        problems.append(f"{where} expiry is missing (YYYYMM or YYYYMMDD)")
    problems += _spelling(symbol, table, where)
    if problems:
        return None, problems
    values: dict[str, Any] = {_FIELDS[name]: value if name == "con_id" else str(value) for name, value in table.items()}
    exchange = "" if "con_id" in table else "SMART"  # a number says it all
    defaults: dict[str, Any] = {"sec_type": "", "local": symbol, "currency": "", "exchange": exchange}
    return ContractSpec(symbol=canonical(symbol), **{**defaults, **values}), []


def _spelling(symbol: str, table: Mapping[str, Any], where: str) -> list[str]:
    problems = []
    try:
        canonical(symbol)
    except ValueError as exc:
        problems.append(f"{where} the symbol {exc}")
    if not re.fullmatch(r"(\d{6}(\d\d)?)?", str(table.get("expiry", ""))):
        problems.append(f"{where} expiry must be YYYYMM or YYYYMMDD, was {table['expiry']!r}")
    con_id = table.get("con_id", 0)
    if not isinstance(con_id, int) or isinstance(con_id, bool) or con_id < 0:
        problems.append(f"{where} con_id must be a whole number, was {con_id!r}")
    return problems


def canonical_of(sec_type: str, local: str, currency: str, fallback: str) -> str:
    """Return the canonical symbol of a contract that the broker named, as far as its own data shows.

    >>> canonical_of("CASH", "EUR", "USD", "EUR.USD"), canonical_of("STK", "BRK B", "USD", "BRK B")
    ('EURUSD', 'BRK.B')
    """
    if sec_type == "CASH":
        return local + currency
    if sec_type == "STK":
        return local.replace(" ", ".")
    return fallback or local
