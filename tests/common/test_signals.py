"""What a sender may say: one row per rule of the specification, section "A signal"."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import strict_json
from common.errors import MalformedSignal
from common.fields import TOLD_FIELDS
from common.floats import without_noise
from common.signals import (
    Action,
    Alert,
    Envelope,
    Side,
    Signal,
    alert_from,
    decimal_text,
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


def alert_of(body: bytes) -> Alert:
    return alert_from(*strict_json.read(body, spared=TOLD_FIELDS))


def alert(fields: dict[str, object]):
    return alert_of(json.dumps(fields).encode())


def problems(body: object) -> dict[str, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(MalformedSignal) as caught:
        alert_of(raw)
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
    assert alert_of(raw.encode()).signal.data()[field] == "154"
    assert alert({**OPEN, field: "153.99999999999997"}).signal.data()[field] == "154"
    assert alert({**OPEN, field: "154.003"}).signal.data()[field] == "154.003"


def test_a_position_that_a_float_wrote_follows_from_the_one_that_it_is():
    noisy = {**STRATEGY, "prev_market_position": "long", "prev_market_position_size": 0.1 + 0.2}
    prev = alert(noisy).signal.prev
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
    "side with strategy": ({**STRATEGY, "side": "buy"}, {"side"}),
    "long note": ({**OPEN, "note": "n" * 201}, {"note"}),
    "long id": ({**OPEN, "id": "x" * 129}, {"id"}),
    "empty id": ({**OPEN, "id": ""}, {"id"}),
    "id with a line break": ({**OPEN, "id": "a\nb"}, {"id"}),
    "id is a number": ({**OPEN, "id": 5}, {"id"}),
    "secret is a number": ({**OPEN, "secret": 5}, {"secret"}),
    "a placeholder in a price": ({**OPEN, "sl": "{{plot_0}}"}, {"sl"}),
    "a placeholder in the symbol": ({"action": "close", "symbol": "{{ticker}}"}, {"symbol"}),
    "a placeholder in a note": ({**OPEN, "note": "at {{close}}"}, {"note"}),
    "a placeholder for the position": ({**STRATEGY, "market_position": "{{strategy.market_position}}"}, {"market_position"}),
    "a reduction without a symbol": ({**STRATEGY, "symbol": "", "prev_market_position": "long",
                                      "prev_market_position_size": 20000}, {"symbol"}),
    "NaN on an entry": (b'{"action":"open","symbol":"A","side":"buy","quantity":1,"sl":NaN}', {""}),
    "a key twice on an exit, where it is needed": (b'{"action":"close","symbol":"A","symbol":"B"}', {"symbol"}),
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
    assert signal.data() == {"symbol": "EURUSD", "id": "a", "market_position": position, **expected, **with_exit}


def test_the_previous_position_stays_with_the_signal():
    signal = alert({**STRATEGY, "prev_market_position": "short", "prev_market_position_size": 3}).signal
    assert (signal.prev.market_position, signal.prev.size, signal.position) == ("short", Decimal(3), "long 10000")
    assert alert(STRATEGY).signal.prev is None


SMALLER = [("long", "buy"), ("short", "sell")]


@pytest.mark.parametrize("position, side", SMALLER)
def test_a_strategy_that_holds_less_on_its_side_reduces(position, side):
    fields = {**STRATEGY, "market_position": position, "prev_market_position": position}
    signal = alert({**fields, "prev_market_position_size": "20000", "sl": "NaN", "tp": 3}).signal
    assert (signal.action, signal.side.value, signal.quantity, signal.tp) == (Action.REDUCE, side, Decimal(10000), None)
    assert signal.is_exit and signal.changes_position


NO_REDUCTION = {
    "larger": {"prev_market_position": "long", "prev_market_position_size": 5000},
    "equal": {"prev_market_position": "long", "prev_market_position_size": 10000},
    "from flat": {"prev_market_position": "flat", "prev_market_position_size": 20000},
    "reversed": {"prev_market_position": "short", "prev_market_position_size": 20000},
    "size not told": {"prev_market_position": "long"},
    "nothing told": {},
}


@pytest.mark.parametrize("told", NO_REDUCTION.values(), ids=NO_REDUCTION.keys())
def test_any_other_strategy_alert_is_no_reduction(told):
    assert alert({**STRATEGY, **told}).signal.action is Action.OPEN


EXITS = {
    "close": {"action": "close", "symbol": "EURUSD"},
    "reset": {"action": "reset", "symbol": "EURUSD"},
    "flat": {"action": "strategy", "symbol": "EURUSD", "market_position": "flat"},
    "reduction": {**STRATEGY, "prev_market_position": "long", "prev_market_position_size": 20000},
}
NEEDED = {"action", "symbol", "market_position"}
RUBBISH = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.lists(st.integers(), max_size=2)
    | st.sampled_from(["NaN", "{{plot_0}}", "🚀", "👩‍💻", "x" * 300, "", " ", "-0", "1e5"])
)  # fmt: skip
OPTIONAL = ["side", "quantity", "tp", "sl", "id", "note", "secret", "price", "time", "strategy_name", "🚀", "x" * 300]


@pytest.mark.parametrize("exit", EXITS)
@given(st.dictionaries(st.sampled_from(OPTIONAL) | st.text(), RUBBISH))
def test_nothing_that_plays_no_part_in_an_exit_refuses_it(exit, more):
    plain, fields = alert(EXITS[exit]).signal, {**more, **EXITS[exit]}
    found = alert(fields)
    assert (found.signal.action, found.signal.position) == (plain.action, plain.position)
    assert all(len(warning.message) < 300 for warning in found.warnings)


def test_what_was_left_out_of_an_exit_is_said_field_by_field():
    found = alert({**EXITS["close"], "sl": "NaN", "note": "n" * 201, "strategy": "x", "quantity": "5 lots"})
    assert {warning.field for warning in found.warnings} == {"sl", "strategy", "quantity", "note"}
    assert alert(EXITS["flat"]).warnings == ()


FLAT_PARTS = ["market_position_size", "prev_market_position", "prev_market_position_size", "tp", "sl", "id", "note"]


@given(st.dictionaries(st.sampled_from(FLAT_PARTS), RUBBISH))
def test_a_flat_strategy_needs_no_size_and_no_previous_position(more):
    assert alert({**EXITS["flat"], **more}).signal.action is Action.CLOSE


BROKEN_JSON = {
    "NaN": b'{"action":"close","symbol":"EURUSD","sl":NaN}',
    "a key twice": b'{"action":"close","symbol":"EURUSD","note":"a","note":"b"}',
    "latin-1": b'{"action":"close","symbol":"EURUSD","note":"\xe9"}',
    "half a surrogate pair": b'{"action":"close","symbol":"EURUSD","note":"\\ud800","id":"a"}',
    "a raw line break": b'{"action":"close","symbol":"EURUSD","note":"one\ntwo"}',
    "a control character in a key": b'{"action":"close","symbol":"EURUSD","\\u0007":1}',
    "deep nesting": b'{"action":"close","symbol":"EURUSD","x":' + b"[" * 50 + b"]" * 50 + b"}",
    "a byte-order mark": b'\xef\xbb\xbf{"action":"close","symbol":"EURUSD"}',
}


@pytest.mark.parametrize("body", BROKEN_JSON.values(), ids=BROKEN_JSON.keys())
def test_an_exit_is_read_as_far_as_it_needs(body):
    found = alert_of(body)
    assert (found.signal.action, found.signal.symbol) == (Action.CLOSE, "EURUSD")
    assert found.warnings and all(str(warning).encode() for warning in found.warnings)
    with pytest.raises(MalformedSignal):
        alert_of(body.replace(b'"close"', b'"open","side":"buy","quantity":1'))


def test_an_id_that_was_not_filled_in_is_no_id_on_any_action():
    for fields in (OPEN, EXITS["close"], EXITS["flat"]):
        found = alert({**fields, "id": "bot-{{timenow}}"})
        assert found.signal.sender_id is None and [warning.field for warning in found.warnings] == ["id"]


@pytest.mark.parametrize("exit", [name for name in EXITS if name != "reset"])
@given(st.dictionaries(st.text(), RUBBISH), st.text())
def test_the_executor_takes_an_exit_whatever_else_the_relay_signed(exit, more, expires_at):
    signal = alert(EXITS[exit]).signal
    outer = {"type": "signal", "timestamp": "2026-11-23T09:15:00.123456Z", "expires_at": expires_at, "more": more}
    found = parse_payload("A", json.dumps({**outer, "data": {**more, "note": 5, **signal.data()}}))
    assert (found.signal.action, found.signal.quantity, found.expires_at) == (signal.action, signal.quantity, None)
    assert found.signal.warning and len(found.signal.warning) <= 300


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
TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=100).filter(
    lambda t: "{{" not in t
)
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
    once = alert_of(json.dumps(signal.data()).encode()).signal
    assert once.data() == signal.data() and once == signal


BAD_PAYLOADS = [
    "", "[]", "{}", "\ud800",
    '{"type":"order","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"close","symbol":"A"},"expires_at":null}',
    '{"type":"signal","timestamp":null,"data":{"action":"close","symbol":"A"},"expires_at":null}',
    '{"type":"signal","timestamp":5,"data":{"action":"close","symbol":"A"},"expires_at":null}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"open","symbol":"A","side":"buy","quantity":"1"}}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"open","symbol":"A","side":"buy","quantity":"1"},"expires_at":"soon"}',
    '{"type":"signal","timestamp":"2026-11-23T09:15:00.123456Z","data":{"action":"open","symbol":"A","side":"buy","quantity":"1","secret":"s"},"expires_at":null}',
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
    if signal.market_position is None and signal.warning is None:
        assert alert_of(json.dumps(signal.data()).encode()).signal == signal
    assert parse_payload("A", payload_text(Envelope("A", NOW, None, signal))).signal == signal


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**12, places=10))
def test_decimal_text_has_one_form_per_value(value):
    text = decimal_text(value)
    assert Decimal(text) == value and decimal_text(Decimal(text)) == text and "E" not in text
