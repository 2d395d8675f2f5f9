"""Text files as their owners write them: with a Windows editor too.

Notepad may put a byte-order mark in front, a redirection in Windows PowerShell 5 writes UTF-16, and both end
lines with CR LF. What is neither UTF-8 nor UTF-16 is named, never guessed: a guess could change a secret.
"""

from __future__ import annotations

import codecs
import os
from functools import partial
from pathlib import Path

# what a file begins with → its encoding; UTF-32 is looked for first, since its mark begins like that of UTF-16
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FIX = "save it as UTF-8 text"


def read_text(path: Path) -> str:
    """Return the text of a file, as `text_of` reads it.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not text that is understood; the words say where, and what to do.
    """
    return text_of(path.read_bytes())


def add_text(path: Path, text: str) -> None:
    """Add to a file in its own encoding; a new one is UTF-8, and only its owner can read it.

    Raises:
        OSError: It cannot be written.
    """
    with open(path, "a+b", opener=partial(os.open, mode=0o600)) as file:
        file.seek(0)
        head = file.read(2)
        wide = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
        file.write(text.encode(wide.get(head, "utf-8")))


def text_of(raw: bytes) -> str:
    r"""Return the text of UTF-8 or UTF-16 bytes without their byte-order mark, each line ended by a line feed.

    >>> text_of(b"\xff\xfea\x00\r\x00\n\x00"), text_of(b"\xef\xbb\xbfa\r\n"), text_of(b"a\rb")
    ('a\n', 'a\n', 'a\nb')

    Raises:
        ValueError: It is neither: UTF-16 without a mark among others.
    """
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    if encoding == "UTF-32" or (len(raw) > 1 and raw[:2].count(0) == 1):
        raise ValueError(f"is {'UTF-32' if encoding == 'UTF-32' else 'UTF-16 without a byte-order mark'}: {_FIX}")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        kind = "UTF-16, though it begins like it" if encoding == "utf-16" else "UTF-8"
        raise ValueError(f"is not {kind} (byte {exc.start}, in line {line}): {_FIX}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
