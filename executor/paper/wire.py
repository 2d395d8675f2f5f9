"""Framing of the TWS socket protocol: bytes in, lists of text fields out, and back. No I/O, no state of orders.

A message is a four-byte big-endian length followed by fields that each end in NUL. The first bytes of a
connection are ``API`` + NUL and one frame with the client's range of versions (``v157..176``).
Source: the official clients' connection code; checked against ib_insync's Decoder in the tests.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation

SERVER_VERSION = 176
MIN_VERSION = 157
MAX_FRAME = 0xFF_FFFF  # TWS and its clients refuse longer messages
MAX_FIELDS = 100_000  # that a message may announce
LARGEST_DIGITS = 12  # of a price or size before the point

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"
_GREETING = b"API\0"
_UNSET = {"", UNSET_INTEGER, UNSET_DOUBLE, "1.7976931348623157e+308", "1.7976931348623157e308", "Infinity", "Infinite"}


class WireError(Exception):
    """The client sent bytes that are not a message; the reader closes the connection."""


def text(value: object) -> str:
    """Return the field text of a value: flags as 1/0, None as empty, decimals without exponent.

    >>> text(True), text(None), text(Decimal("1.1900")), text(Decimal("2E+4"))
    ('1', '', '1.19', '20000')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Decimal):
        return format(value.normalize() if value else Decimal(0), "f")
    return str(value)


def frame(fields: Iterable[object]) -> bytes:
    """Return one message, length prefix included."""
    body = "".join(f"{text(field)}\0" for field in fields).encode()
    return struct.pack(">I", len(body)) + body


def negotiate(greeting: str) -> int:
    """Return the version to speak with a client that offers ``v157..178`` and the like.

    Raises:
        WireError: Nothing in common; close the connection, as TWS does.
    """
    found = re.match(r"v(\d{1,6})(?:\.\.(\d{1,6}))?(?!\d)", greeting)
    if not found:
        raise WireError(f"expected a range of versions such as v157..176, found {greeting[:40]!r}")
    low, high = int(found[1]), int(found[2] or found[1])
    version = min(high, SERVER_VERSION)
    if version < max(low, MIN_VERSION):
        raise WireError(f"the client speaks v{low}..{high}, this server v{MIN_VERSION}..{SERVER_VERSION}")
    return version


class Receiver:
    """Cut a stream of bytes into messages, however it was chopped on its way."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> Iterator[list[str]]:
        """Yield the fields of every message that is complete by now; the first is the greeting.

        Raises:
            WireError: The bytes are no message; nothing after them can be read.
        """
        self._data += data
        if not self._greeted and not self._take_greeting():
            return
        while len(self._data) >= 4:
            length = int.from_bytes(self._data[:4])
            if length > MAX_FRAME:
                raise WireError(f"a message of {length} bytes was announced, the limit is {MAX_FRAME}")
            if len(self._data) < 4 + length:
                return
            body = bytes(self._data[4 : 4 + length])
            del self._data[: 4 + length]
            yield body.decode(errors="backslashreplace").removesuffix("\0").split("\0")

    def _take_greeting(self) -> bool:
        if not _GREETING.startswith(self._data[:4]):
            raise WireError("a connection must begin with API and NUL")
        if len(self._data) < 4:
            return False
        del self._data[:4]
        self._greeted = True
        return True


class Fields:
    """A cursor over the fields of one message; what is missing at the end reads as empty."""

    def __init__(self, fields: list[str]) -> None:
        self._fields = fields
        self._at = 0

    def text(self) -> str:
        self._at += 1
        return self._fields[self._at - 1] if self._at <= len(self._fields) else ""

    def texts(self, count: int) -> list[str]:
        if not 0 <= count <= MAX_FIELDS:
            raise WireError(f"expected at most {MAX_FIELDS} fields, found {count} announced")
        return [self.text() for _ in range(count)]

    def named(self, names: Iterable[str]) -> dict[str, str]:
        """Return the next fields under these names; what is read for an empty name is left out."""
        found = {name: self.text() for name in names}
        found.pop("", None)
        return found

    def whole(self) -> int:
        return whole(self.text())


def whole(field: str) -> int:
    """Return the integer of a field, 0 for an empty one. Raises WireError for anything else."""
    if len(field) > 20 or not re.fullmatch(r"(-?\d+)?", field, re.ASCII):
        raise WireError(f"expected a whole number, found {field[:40]!r}")
    return int(field or 0)


def number(field: str) -> Decimal | None:
    """Return the decimal of a field, None where the client left it unset. Raises WireError for rubbish."""
    if field in _UNSET:
        return None
    try:
        value = Decimal(field)
    except InvalidOperation:
        raise WireError(f"expected a number, found {field[:40]!r}") from None
    if not value.is_finite() or abs(value.adjusted()) > LARGEST_DIGITS or len(value.as_tuple().digits) > 40:
        raise WireError(f"expected a number of at most {LARGEST_DIGITS} digits, found {field[:40]!r}")
    return value
