"""Identifiers: 26 characters, ordered by time, unguessable."""

from __future__ import annotations

import os
import re
import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
_TIME_BITS, _RANDOM_BITS, _LENGTH = 48, 80, 26
_RANDOM_BYTES, _SHIFTS = _RANDOM_BITS // 8, tuple(range(5 * (_LENGTH - 1), -1, -5))
ID_PATTERN = re.compile(r"[0-9A-Z]{26}", re.ASCII)


def new_id() -> str:
    """Return a new identifier: 48 bits of milliseconds, then 80 random bits.

    Text order follows time to the millisecond. It is not a counter: two made within one millisecond, or
    on both sides of a corrected clock, may sort either way, so no rule may depend on their order.
    """
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds & ((1 << _TIME_BITS) - 1)) << _RANDOM_BITS | _random_bits()
    return "".join([_ALPHABET[number >> shift & 31] for shift in _SHIFTS])


def _random_bits() -> int:
    """Return 80 bits from the system's generator, which is asked for many at once."""
    while True:
        try:
            return _stock.pop()
        except IndexError:
            fresh = secrets.token_bytes(_RANDOM_BYTES * 256)
            parts = range(0, len(fresh), _RANDOM_BYTES)
            _stock.extend(int.from_bytes(fresh[at : at + _RANDOM_BYTES]) for at in parts)


_stock: list[int] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stock.clear)  # else parent and child would make the same ids


def is_id(text: str) -> bool:
    """True if text has the form of an identifier of ours."""
    return ID_PATTERN.fullmatch(text) is not None
