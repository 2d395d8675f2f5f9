"""JSON with one meaning: the corpus of what lenient decoders let through."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import strict_json
from common.errors import MalformedSignal

REFUSED = {
    "empty": b"",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "minus infinity": b'{"a":-Infinity}',
    "duplicate key": b'{"a":1,"a":2}',
    "duplicate key by escape": b'{"a":1,"\\u0061":2}',
    "nested duplicate": b'{"x":{"a":1,"a":1}}',
    "byte-order mark": b'\xef\xbb\xbf{"a":1}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "latin-1": b'{"a":"\xe9"}',
    "overlong utf-8": b'{"a":"\xc0\xaf"}',
    "raw surrogate": b'{"a":"\xed\xa0\x80"}',
    "escaped lone surrogate": b'{"a":"\\ud800"}',
    "NUL by escape": b'{"a":"\\u0000"}',
    "control in a key": b'{"\\u0007":1}',
    "raw NUL": b'{"a":"\x00"}',
    "raw newline": b'{"a":"\n"}',
    "list bomb": b"[" * 8000,
    "object bomb": b'{"a":' * 3000,
    "closed list bomb": b"[" * 5000 + b"]" * 5000,
    "nine levels": b"[" * 9 + b"]" * 9,
    "two values": b"{} {}",
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "comment": b'{"a":1}//x',
    "plus sign": b'{"a":+1}',
    "leading zero": b'{"a":01}',
    "hex": b'{"a":0x10}',
    "bare point": b'{"a":1.}',
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_anything_doubtful_is_refused_at_once(body):
    started = time.thread_time()  # of our own work, whatever else this machine does
    with pytest.raises(MalformedSignal):
        strict_json.loads(body)
    assert time.thread_time() - started < 0.05


def test_numbers_keep_the_text_that_was_sent():
    value = strict_json.loads(b'{"a":1.20,"b":-0,"c":1E+999999999,"d":' + b"9" * 5000 + b"}")
    assert value == {"a": "1.20", "b": "-0", "c": "1E+999999999", "d": "9" * 5000}
    assert all(isinstance(number, strict_json.Number) for number in value.values())


def test_brackets_inside_strings_are_no_nesting():
    assert strict_json.loads(b'{"note":"[[[[[[[[[[{{{{{{{{\\"[[[["}') == {"note": '[[[[[[[[[[{{{{{{{{"[[[['}


def test_a_smiley_by_two_escapes_is_text():
    assert strict_json.loads(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


@given(st.binary())
def test_whatever_the_bytes_a_value_or_a_refusal(body):
    with contextlib.suppress(MalformedSignal):
        strict_json.loads(body)


PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=4,
)


@given(VALUES)
def test_plain_values_come_through_unchanged(value):
    assert strict_json.loads(json.dumps(value).encode(), limit_depth=20) == value
