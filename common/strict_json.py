"""JSON as strangers send it: one meaning or a refusal.

The standard library's decoder is lenient where money is concerned (NaN, the last of two equal keys,
floats, endless nesting). Here a number stays the text that was sent, so that no float ever exists.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from common.errors import MalformedSignal
from common.pasted import cause

_READABLE_DEPTH = 100  # the decoder recurses
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_LONGEST_NAME = 64
_SURROGATE_OR_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


class Number(str):
    """A JSON number, as the text that was sent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Flaw:
    """What stands in the place of a value that has no one meaning, and why it has none."""

    reason: str
    is_constant: bool = False  # NaN or Infinity


def loads(body: bytes, limit_depth: int = 8, spared: Collection[str] = ()) -> object:
    """Return the value of a JSON text; numbers are `Number`. NaN and Infinity are a `Flaw` in fields that are `spared`.

    Raises:
        MalformedSignal: It is not UTF-8 (a byte-order mark included), not JSON, nested deeper than
            `limit_depth`, has a key twice, NaN or Infinity, or control characters or half a surrogate
            pair in a string. Nothing else is ever raised, whatever the bytes.
    """
    text = _decoded(body)
    if _depth(text) > limit_depth:
        raise MalformedSignal(
            f"JSON is nested deeper than {limit_depth} levels; a signal is one object, flat but for its targets"
        )
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        why = cause(text, exc.pos, exc.msg)
        raise MalformedSignal(f"not JSON: {why} (line {exc.lineno}, column {exc.colno})") from exc
    if "\\" in text:
        _refuse_hidden_characters(value)
    if "NaN" in text or "Infinity" in text:
        _refuse_constants(value, spared)
    return value


def read(body: bytes, spared: Collection[str] = ()) -> tuple[object, MalformedSignal | None]:
    """Return the value and None; or what can be read of an object that `loads` refuses, and the refusal. Never raises.

    What is wrong inside one value (NaN, a key twice, a byte that is no UTF-8, a control character, deep nesting) leaves
    the others as they are: a `Flaw` stands in its place, for a caller who does not need that value. Where it cannot be
    told what belongs to what, the value is None.
    """
    try:
        return loads(body, spared=spared), None
    except MalformedSignal as exc:
        return _salvaged(body), exc


def _salvaged(body: bytes) -> object:
    text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if _depth(text) > _READABLE_DEPTH:
        return None
    try:
        value = _LENIENT.decode(text)
    except json.JSONDecodeError:
        return None
    return _flawed(value) if isinstance(value, dict) else None


def _flawed(value: object) -> object:
    """Return a value with a flaw in the place of each text that nobody can read."""
    if isinstance(value, dict):
        return {_SURROGATE_OR_CONTROL.sub("?", key): _flawed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_flawed(item) for item in value]
    if isinstance(value, str) and _SURROGATE_OR_CONTROL.search(value):
        return Flaw("contains a control character, half a surrogate pair, or a byte that is not UTF-8")
    return value


def _decoded(body: bytes) -> str:
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or body[:2].count(0) == 1:
        raise MalformedSignal("is UTF-16; send the JSON as UTF-8")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise MalformedSignal(f"not UTF-8 at byte {exc.start}; send the JSON as UTF-8") from exc
    if text.startswith("\ufeff"):
        raise MalformedSignal("begins with a byte-order mark; send UTF-8 without one")
    return text


def _depth(text: str) -> int:
    """Return how deep brackets are nested, without recursion; brackets inside strings do not count."""
    if text.count("[") + text.count("{") <= 1:
        return 1
    deepest = depth = 0
    for found in _STRUCTURE.finditer(text):  # one after the other: a long text must not hold up other threads
        mark = found[0]
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        name = (
            repr(twice) if len(twice) <= _LONGEST_NAME else f"of {len(twice)} characters"
        )  # never a piece of a secret
        raise MalformedSignal(f"the key {name} appears twice; send it once")
    return found


def _flawed_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    counts = Counter(key for key, _ in pairs)
    return {key: value if counts[key] == 1 else Flaw("appears twice; send it once") for key, value in pairs}


def _constant(name: str) -> Flaw:
    return Flaw(f"is {name}, which is not a JSON number; send digits, or leave the field out", is_constant=True)


_DECODER = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_constant, object_pairs_hook=_object)
_LENIENT = json.JSONDecoder(
    parse_float=Number,
    parse_int=Number,
    parse_constant=_constant,
    object_pairs_hook=_flawed_object,
    strict=False,
)


def _refuse_hidden_characters(value: object) -> None:
    """Refuse what only an escape can smuggle in: control characters, half a surrogate pair."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_hidden_characters(key)
            _refuse_hidden_characters(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_hidden_characters(item)
    elif isinstance(value, str) and _SURROGATE_OR_CONTROL.search(value):
        raise MalformedSignal("a string contains a control character or half a surrogate pair")


def _refuse_constants(value: object, spared: Collection[str] = ()) -> None:
    """Refuse NaN and Infinity, which no JSON has, outside of the fields that are spared."""
    if isinstance(value, dict):
        for item in (item for name, item in value.items() if not (name in spared and isinstance(item, Flaw))):
            _refuse_constants(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_constants(item)
    elif isinstance(value, Flaw):
        raise MalformedSignal(f"a value {value.reason}")
