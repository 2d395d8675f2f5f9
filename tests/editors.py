"""How editors and shells write one text: every file that an owner writes is tried with each."""

from __future__ import annotations

import codecs
from collections.abc import Callable

import pytest

# as what writes it → how
EDITORS: dict[str, Callable[[str], bytes]] = {
    "any editor": lambda text: text.encode(),
    "Notepad, UTF-8 with BOM": lambda text: codecs.BOM_UTF8 + text.encode(),
    "Notepad, line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "PowerShell 5, UTF-16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "Notepad, UTF-16 BE": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "an old Macintosh": lambda text: text.replace("\n", "\r").encode(),
}
editors = pytest.mark.parametrize("written", EDITORS.values(), ids=EDITORS)
