"""Secrets out of what a sender wrote, wherever they are in it, before any of it is checked, answered, logged or stored."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from urllib.parse import unquote

from common.logs import HIDDEN, scrub

_ESCAPED = re.compile(r"\\u([0-9A-Fa-f]{4})")


def hidden(text: str, secrets: Collection[str]) -> str:
    """Return a text without these secrets and without any of ours, written plainly, JSON-escaped or percent-encoded.

    A text in which one was escaped comes back unescaped: it is for a person to read, not to be parsed.

    >>> hidden("a note: hunt\\\\u0065r2, or hunt%65r2", ["hunter2"])
    'a note: [secret], or [secret]'
    """
    found = _plainly(text, secrets)
    for read in (_unescaped, unquote):
        plain = read(found)
        if plain != found and (clean := _plainly(plain, secrets)) != plain:
            found = clean
    return found


def hidden_in(value: object, secrets: Collection[str]) -> object:
    """Return decoded JSON in which every text and every name is without secrets, at any depth."""
    if isinstance(value, dict):
        return {_text(name, secrets): hidden_in(item, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [hidden_in(item, secrets) for item in value]
    return _text(value, secrets) if isinstance(value, str) else value


def _text(text: str, secrets: Collection[str]) -> str:
    found = hidden(text, secrets)
    return text if found == text else found  # the same object: a number is a text of its own type


def _plainly(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        for written in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            text = text.replace(written, HIDDEN)
    return scrub(text)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
