"""What a sender may say: one row per rule of the specification, section "A signal"."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MalformedSignal
from common.floats import without_noise
from common.signals import (
    Action,
    Envelope,
    Side,
    Signal,
    decimal_text,
    parse_alert,
    parse_payload,
    payload_text,
)

OPEN = {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": 10000}
STRATEGY = {
    "action": "strategy",
    "symbol": "FX:EURUSD",
    "market_position": "long",
    "market_position_size": "10000",
}
NOW = datetime(2026, 11, 23, 9, 15, 0, 123456, tzinfo=UTC)


def alert(fields: dict[str, object]):
    return parse_alert(json.dumps(fields).encode())


def problems(body: object) -> dict[str, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(MalformedSignal) as caught:
        parse_alert(raw)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_an_open_with_both_exits_becomes_canonical_text():
    data = alert({**OPEN, "symbol": "fx:eur/usd", "side": "BUY", "tp": 1.20, "sl": "1.180"}).signal.data()
    assert list(data.items()) == [
        ("action", "open"), ("symbol", "EURUSD"), ("side", "buy"), ("quantity", "10000"),
        ("tp", "1.2"), ("sl", "1.18"),
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["quantity", "tp", "sl"])
def test_any_number_is_taken_without_a_float_s_noise(field):
    raw = json.dumps({**OPEN, field: 0}).replace(f'"{field}": 0', f'"{field}": 154.00000000000003')
    assert parse_alert(raw.encode()).signal.data()[field] == "154"
    assert alert({**OPEN, field: "153.99999999999997"}).signal.data()[field] == "154"
    assert alert({**OPEN, field: "154.003"}).signal.data()[field] == "154.003"


def test_a_position_that_a_float_wrote_follows_from_the_one_that_it_is():
    noisy = {**STRATEGY, "prev_market_position": "long", "prev_market_position_size": 0.1 + 0.2}
    prev = alert(noisy).prev
    assert prev is not None and prev.follows("long 0.3")


@pytest.mark.parametrize("action", ["close", "reset"])
def test_close_and_reset_need_only_a_symbol(action):
    assert alert({"action": action, "symbol": "AAPL"}).signal == Signal(Action(action), "AAPL")


ACCEPTED = {
    "tp alone": {**OPEN, "tp": 1.2},
    "sl alone": {**OPEN, "sl": 1.2},
    "sell with tp below sl": {**OPEN, "side": "sell", "tp": 1.1, "sl": 1.2},
    "quantity as text": {**OPEN, "quantity": "0.5"},
    "the longest number": {**OPEN, "quantity": "9" * 12 + "." + "9" * 20},
    "leading zeros in text": {**OPEN, "quantity": "007"},
    "an id and a note": {**OPEN, "id": "x" * 128, "note": "n" * 200},
    "a note with a line break": {**OPEN, "note": "one\ntwo"},
    "a secret": {**OPEN, "secret": "s"},
}


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_allowed(fields):
    assert alert(fields).signal.symbol == "EURUSD"


REFUSED = {
    "no action": ({"symbol": "EURUSD"}, {"action"}),
    "unknown action": ({**OPEN, "action": "buy"}, {"action"}),
    "action is no text": ({**OPEN, "action": 1}, {"action"}),
    "unknown side": ({**OPEN, "side": "long"}, {"side"}),
    "missing symbol": ({"action": "close"}, {"symbol"}),
    "empty symbol": ({"action": "close", "symbol": " "}, {"symbol"}),
    "symbol is a number": (b'{"action":"close","symbol":5}', {"symbol"}),
    "hostile symbol": ({"action": "close", "symbol": "<script>"}, {"symbol"}),
    "missing quantity": ({"action": "open", "symbol": "A", "side": "buy"}, {"quantity"}),
    "zero quantity": ({**OPEN, "quantity": 0}, {"quantity"}),
    "zero as text": ({**OPEN, "quantity": "0.000"}, {"quantity"}),
    "negative quantity": ({**OPEN, "quantity": -1}, {"quantity"}),
    "exponent": (b'{"action":"open","symbol":"A","side":"buy","quantity":1e4}', {"quantity"}),
    "exponent as text": ({**OPEN, "quantity": "1E+999999999"}, {"quantity"}),
    "13 digits": ({**OPEN, "quantity": "1" * 13}, {"quantity"}),
    "21 decimals": ({**OPEN, "quantity": "1." + "1" * 21}, {"quantity"}),
    "underscores": ({**OPEN, "quantity": "1_000"}, {"quantity"}),
    "spaces": ({**OPEN, "quantity": " 1 "}, {"quantity"}),
    "fullwidth digits": ({**OPEN, "quantity": "１"}, {"quantity"}),
    "comma": ({**OPEN, "quantity": "1,5"}, {"quantity"}),
    "NaN as text": ({**OPEN, "quantity": "NaN"}, {"quantity"}),
    "boolean": ({**OPEN, "quantity": True}, {"quantity"}),
    "null exit": ({**OPEN, "tp": None}, {"tp"}),
    "list": ({**OPEN, "quantity": [1]}, {"quantity"}),
    "minus zero": ({**OPEN, "tp": "-0"}, {"tp"}),
    "tp below sl on a buy": ({**OPEN, "tp": 1.1, "sl": 1.2}, {"tp"}),
    "tp equal to sl": ({**OPEN, "tp": "1.10", "sl": "1.1"}, {"tp"}),
    "tp above sl on a sell": ({**OPEN, "side": "sell", "tp": 1.3, "sl": 1.2}, {"tp"}),
    "unknown field": ({**OPEN, "leverage": 5}, {"leverage"}),
    "quantity on a close": ({"action": "close", "symbol": "A", "quantity": 1}, {"quantity"}),
    "side with strategy": ({**STRATEGY, "side": "buy"}, {"side"}),
    "long note": ({**OPEN, "note": "n" * 201}, {"note"}),
    "long id": ({**OPEN, "id": "x" * 129}, {"id"}),
    "empty id": ({**OPEN, "id": ""}, {"id"}),
    "id with a line break": ({**OPEN, "id": "a\nb"}, {"id"}),
    "id is a number": (b'{"action":"close","symbol":"A","id":5}', {"id"}),
    "secret is a number": (b'{"action":"close","symbol":"A","secret":5}', {"secret"}),
    "no position": ({"action": "strategy", "symbol": "A", "market_position_size": 1}, {"market_position"}),
    "no size": ({"action": "strategy", "symbol": "A", "market_position": "long"}, {"market_position_size"}),
    "long of nothing": ({**STRATEGY, "market_position_size": 0}, {"market_position_size"}),
    "unknown previous position": ({**STRATEGY, "prev_market_position": "up"}, {"prev_market_position"}),
    "strategy exits on the wrong sides": ({**STRATEGY, "market_position": "short", "tp": 2, "sl": 1}, {"tp"}),
    "a list": (b"[]", {""}),
    "a text": (b'"open"', {""}),
    "everything at once": (
        {"action": "open", "symbol": "", "side": "up", "quantity": "x", "tp": "y", "foo": 1, "id": ""},
        {"symbol", "side", "quantity", "tp", "foo", "id"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("body, fields", REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_every_problem_by_its_field(body, fields):
    found = problems(body)
    assert set(found) == fields
    assert all(len(message) < 300 for message in found.values())


STRATEGIES = [
    ("long", "5", {"action": "open", "side": "buy", "quantity": "5"}),
    ("short", "5.50", {"action": "open", "side": "sell", "quantity": "5.5"}),
    ("flat", "0", {"action": "close"}),
]


@pytest.mark.parametrize("position, size, expected", STRATEGIES)
def test_a_strategy_alert_is_what_its_position_means(position, size, expected):
    signal = alert({**STRATEGY, "market_position": position, "market_position_size": size, "tp": 3, "id": "a"}).signal
    with_exit = {"tp": "3"} if position != "flat" else {}
    assert signal.data() == {"symbol": "EURUSD", "id": "a", **expected, **with_exit}


def test_the_previous_position_comes_beside_the_signal():
    prev = alert({**STRATEGY, "prev_market_position": "short", "prev_market_position_size": 3}).prev
    assert (prev.market_position, prev.size) == ("short", Decimal(3))
    assert alert(STRATEGY).prev is None


def test_the_secret_is_beside_the_signal_and_never_in_it():
    found = alert({**OPEN, "secret": "hush"})
    assert found.secret == "hush"
    assert "hush" not in payload_text(Envelope("A", NOW, None, found.signal)) and "hush" not in repr(found.signal)


def test_the_payload_is_exactly_what_the_contract_says():
    envelope = Envelope("A", NOW, NOW + timedelta(seconds=90), Signal(Action.CLOSE, "EURUSD", note="é"))
    assert payload_text(envelope) == (
        '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z",'
        '"data":{"action":"close","symbol":"EURUSD","note":"é"},"expires_at":"2026-11-23T09:16:30.123456Z"}'
    )


# As any signal has them: what reads like a float's noise was taken off when it came in.
NUMBERS = st.decimals(min_value=Decimal("0.00000001"), max_value=Decimal(10**12 - 1), places=8).map(without_noise)
TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=100)
OPENS = st.builds(
    Signal, st.just(Action.OPEN), st.sampled_from(["EURUSD", "AAPL", "BRK.B"]), st.sampled_from(Side),
    NUMBERS, st.none() | NUMBERS, st.none(), st.none() | TEXTS, st.none() | TEXTS,
)  # fmt: skip


@given(OPENS)
def test_payload_round_trip(signal):
    for envelope in (Envelope("A", NOW, NOW, signal), Envelope("A", NOW, None, signal)):
        assert parse_payload("A", payload_text(envelope)) == envelope


@given(OPENS)
def test_canonical_form_is_a_fixed_point(signal):
    once = parse_alert(json.dumps(signal.data()).encode()).signal
    assert once.data() == signal.data() and once == signal


BAD_PAYLOADS = [
    "", "[]", "{}", "\ud800",
    '{"type":"order","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"close","symbol":"A"},"expires_at":null}',
    '{"type":"signal","timestamp":null,"data":{"action":"close","symbol":"A"},"expires_at":null}',
    '{"type":"signal","timestamp":5,"data":{"action":"close","symbol":"A"},"expires_at":null}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"close","symbol":"A"}}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"close","symbol":"A"},"expires_at":"soon"}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"close","symbol":"A","secret":"s"},"expires_at":null}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":[],"expires_at":null}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"strategy","symbol":"A"},"expires_at":null}',
]  # fmt: skip


@pytest.mark.parametrize("payload", BAD_PAYLOADS)
def test_a_payload_out_of_form_is_malformed_and_nothing_else(payload):
    with pytest.raises(MalformedSignal):
        parse_payload("A", payload)


@given(st.text())
def test_whatever_the_text_an_envelope_or_malformed(payload):
    with pytest.raises(MalformedSignal):
        parse_payload("A", payload)


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
FIELDS = ["action", "symbol", "side", "quantity", "tp", "sl", "id", "note", "secret", "market_position",
          "market_position_size", "prev_market_position", "prev_market_position_size", "other"]  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES),
    st.sampled_from(["open", "close", "reset", "strategy"]),
)
def test_whatever_the_fields_a_signal_or_malformed(fields, action):
    try:
        signal = alert({**fields, "action": action}).signal
    except MalformedSignal:
        return
    assert parse_alert(json.dumps(signal.data()).encode()).signal == signal


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**12, places=10))
def test_decimal_text_has_one_form_per_value(value):
    text = decimal_text(value)
    assert Decimal(text) == value and decimal_text(Decimal(text)) == text and "E" not in text
