"""What web pages, chats and word processors make of an alert that is pasted from them, in words.

A JSON decoder names a column; a person wants to know that a quotation mark is curly. All work here is
bounded: only the text around the error is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_DOUBLE, _SINGLE = "“”„‟«»″＂", "‘’‚‛′`´'"
_BLANK = "\u00a0\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_HTML = r"&(?:quot|ldquo|rdquo|bdquo|apos|nbsp|amp|lt|gt|#x?[0-9a-f]{2,5});"
_WINDOW = 80
_AROUND = f'"{_DOUBLE}{_SINGLE}\u200b\u200c\u200d\u2060\ufeff \t\r\n\u00a0\u202f'
_MARK = rf'(?:["{_DOUBLE}{_SINGLE}]|\\"|{_HTML})'
_GAP = rf"(?:[\s{_BLANK}]|&nbsp;){{0,20}}"
# What a secret begins with says where it ends: a JSON text, single quotes, another mark or none.
_SECRET = re.compile(
    rf'secret{_MARK}?{_GAP}[:=]{_GAP}(?:"(?P<json>(?:[^"\\]|\\.){{1,512}})'
    rf"|[{_SINGLE}](?P<single>[^{_SINGLE}\r\n]{{1,512}})"
    rf'|{_MARK}?(?P<other>[^"{_DOUBLE}\r\n]{{1,512}}))',
    re.IGNORECASE | re.DOTALL,
)
_TOKEN_END = re.compile(rf"[\s{_BLANK}{_DOUBLE}{_SINGLE}\\,;}}&<]")
_MOST_SECRETS = 4

Words = str | Callable[[str, str], str]


def _character(before: str, after: str) -> str:
    return f"{after[0]!r} (U+{ord(after[0]):04X})"


def _number(before: str, after: str) -> str:
    return "".join(re.findall(r"[\d.,\s]*$", before) + re.findall(r"^[\d.,]*", after)).strip(" ,\n\t")


# (words of the decoder's message, text before the error, text at the error, explanation); the first match wins
_CAUSES: tuple[tuple[str, str, str, Words], ...] = (
    ("", "", rf"[{_DOUBLE}]",
     lambda b, a: f"{_character(b, a)} is a typographic quotation mark, which web pages and word processors put in; "
                  'type a plain "'),
    ("", "", rf"[{_SINGLE}]", lambda b, a: f"{_character(b, a)} is not a JSON quotation mark; use the plain double one, \""),
    ("", "", rf"[{_BLANK}]",
     lambda b, a: f"U+{ord(a[0]):04X} is no ordinary space: web pages put these in; type an ordinary one"),
    ("", "", _HTML, "code of a web page (such as &quot;) instead of the character itself; copy the text as it is shown"),
    ("", "", r"\{\{", "a placeholder in {{…}} was not filled in; write the value, in quotation marks if it is text"),
    ("", r"\{", r"\{", "a placeholder in {{…}} was not filled in; write the value, in quotation marks if it is text"),
    ("", r"\d,\s?", r"\d", lambda b, a: f"the number {_number(b, a)} has a comma in it; write it without, decimals with a point"),
    ("", r"\d[ \t]", r"\d", lambda b, a: f"the number {_number(b, a)} has a space in it; write it without"),
    ("", r",\s*", r"[}\]]", "a trailing comma; remove the comma after the last field"),
    ("", "", r",\s*[}\]]", "a trailing comma; remove the comma after the last field"),
    ("", r"[{,]\s*", ",", "a duplicate comma; remove one"),
    ("", "", r'\\"', 'the quotation marks are escaped (\\"); write them plain, without the backslashes'),
    ("", "", r"//|/\*|#", "a comment; JSON has none, take it out"),
    ("control character", "", "", "a line break or tab inside a text; write it in one line"),
    ("Unterminated", "", "", "a quotation mark is opened here and never closed"),
    ("',' delimiter", "", '"', "a comma is missing before this field"),
    ("':' delimiter", "", "", "a colon is missing between a name and its value"),
    ("property name", "", r"[A-Za-z_]", "a name without quotation marks; write \"action\", not action"),
    ("Expecting value", r":\s*", r"[A-Za-z_]", "a text without quotation marks; write \"buy\", not buy"),
    ("Expecting value", r"^\s*", "[^{]", "it does not begin with {; send the JSON object alone"),
    ("Extra data", "", "", "something follows after the closing }; send one JSON object alone"),
    ("", "", "$", "it ends too early: something is missing, such as the closing }"),
)  # fmt: skip
_COMPILED = tuple(
    (words, re.compile(f"{before}$"), re.compile(there, re.IGNORECASE), said) for words, before, there, said in _CAUSES
)


def cause(text: str, place: int, decoder: str) -> str:
    r"""Return why a text is not JSON, from the place at which a decoder stopped and from its words.

    >>> cause('{“a”:1}', 1, "Expecting property name")[:36]
    "'“' (U+201C) is a typographic quotat"
    >>> cause('{"quantity":1,000}', 14, "Expecting property name")
    'the number 1,000 has a comma in it; write it without, decimals with a point'
    """
    if not text.strip():
        return "it is empty"
    before, after = text[max(0, place - _WINDOW) : place], text[place : place + _WINDOW]
    for words, ahead, there, said in _COMPILED:
        if words in decoder and ahead.search(before) and there.match(after):
            return said if isinstance(said, str) else said(before, after)
    if curly := re.search(rf"[{_DOUBLE}]", text):
        return f'{decoder}; there is a typographic quotation mark, {curly[0]}, in it: type the plain "'
    return decoder


def number_cause(text: str) -> str:
    """Return what a person may have meant by a text that is no number, after "; ", or "".

    >>> number_cause("1,000"), number_cause("10k"), number_cause("buy")
    ('; write it without a comma, decimals with a point', '; write it with digits alone', '')
    """
    if re.fullmatch(r"[\d.,]*\d,[\d.,]*", text):
        return "; write it without a comma, decimals with a point"
    if re.fullmatch(rf"[\d.'’_\s{_BLANK}]+", text) or re.fullmatch(r"[$€£]?\s?[\d.,]+\s?([kKmM%]|[A-Z]{3})?", text):
        return "; write it with digits alone"
    return ""


def bare(secret: str) -> str:
    r"""Return a secret without what pasting puts around it.

    >>> bare("“abc”\u00a0")
    'abc'
    """
    return secret.strip(_AROUND)


def secrets_in(text: str) -> list[str]:
    """Return what may be the secret in a text that is not JSON, so that its sender can be told what is wrong with it.

    >>> secrets_in("{“secret”: “abc”, ‘side’: ‘buy’}"), secrets_in("secret=abc&side=buy")
    (['abc'], ['abc&side=buy', 'abc'])
    """
    found: dict[str, None] = {}
    for match in _SECRET.finditer(text):
        value = match[str(match.lastgroup)]
        token = _TOKEN_END.split(value.lstrip(), maxsplit=1)[0]
        found |= dict.fromkeys(each for each in (value, bare(value), bare(token)) if each)
        if len(found) >= _MOST_SECRETS:
            break
    return list(found)


def without_secrets(text: str, instead: str) -> str:
    """Return a text that is not JSON with something else wherever it says what its secret is.

    >>> without_secrets("{'secret': 'abc', 'side': 'buy',}", "[secret]")
    "{'secret': '[secret]', 'side': 'buy',}"
    """

    def replaced(match: re.Match[str]) -> str:
        return match[0][: match.start(str(match.lastgroup)) - match.start()] + instead

    return _SECRET.sub(replaced, text)
