"""What a signal may do with a trade: one row per form that is taken, and per wish that is impossible."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MalformedSignal
from common.signals import Action, AtEntry, Distance, Envelope, Side, Signal, Target, Unit, parse_payload, payload_text
from tests.common.test_signals import EXITS, NOW, NUMBERS, OPEN, STRATEGY, TEXTS, alert, alert_of, problems

PROTECT = {"action": "protect", "symbol": "EURUSD"}
CLOSE = {"action": "close", "symbol": "EURUSD"}
HALVES = [{"tp": 1.2, "percent": 50}, {"tp": "1.3", "percent": "50%"}]


def percent(amount: str) -> Distance:
    return Distance(Decimal(amount), Unit.PERCENT)


# how it is sent → what it is
DISTANCES = {
    "1.5%": percent("1.5"), "1.5 %": percent("1.5"), " 2% ": percent("2"), "2 percent": percent("2"), "0.30 %": percent("0.3"),
    "25 ticks": Distance(Decimal(25), Unit.TICKS), "1 tick": Distance(Decimal(1), Unit.TICKS),
    "8TICKS": Distance(Decimal(8), Unit.TICKS),
    "2.5 points": Distance(Decimal("2.5"), Unit.POINTS), "1 Point": Distance(Decimal(1), Unit.POINTS),
}  # fmt: skip


@pytest.mark.parametrize("text, meant", DISTANCES.items())
@pytest.mark.parametrize("field", ["tp", "sl", "trail"])
@pytest.mark.parametrize("fields", [OPEN, STRATEGY], ids=["open", "strategy"])
def test_a_distance_is_read_as_a_person_writes_it(
    fields: dict[str, Any], field: str, text: str, meant: Distance
) -> None:
    signal = alert({**fields, field: text}).signal
    assert getattr(signal, field) == meant
    assert alert({**OPEN, field: str(meant)}).signal.data()[field] == str(meant)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("field", ["tp", "percent", "trail", "time", "price", "strategy_name", "note", "loosen"])
def test_no_long_text_holds_up_the_relay(field: str) -> None:
    """As long as a body may be, made for patterns that try again from every place."""
    for text in (
        " " * 16000,
        "1" * 16000,
        "1 " * 8000,
        " " * 8000 + "percen" + " " * 8000,
        "1," * 8000,
        "percent" * 2000,
    ):
        for fields in (CLOSE, {**OPEN, "targets": [{"tp": text, "percent": text}]}):
            with contextlib.suppress(MalformedSignal):
                alert({**fields, field: text})


def test_a_distance_has_one_canonical_text() -> None:
    assert [str(DISTANCES[text]) for text in ("1.5 %", "25 ticks", "2.5 points")] == ["1.5%", "25 ticks", "2.5 points"]


def test_a_trailing_stop_may_have_its_first_stop() -> None:
    signal = alert({**OPEN, "trail": "25 ticks", "sl": 1.17}).signal
    assert (signal.trail, signal.sl) == (DISTANCES["25 ticks"], Decimal("1.17"))


def test_targets_are_prices_or_distances_with_their_shares() -> None:
    signal = alert({**OPEN, "targets": [*HALVES[:1], {"tp": "2%", "percent": "12.5 %"}], "sl": 1.1}).signal
    assert signal.targets == (Target(Decimal("1.2"), Decimal(50)), Target(percent("2"), Decimal("12.5")))
    assert signal.data()["targets"] == [{"tp": "1.2", "percent": "50"}, {"tp": "2%", "percent": "12.5"}]


@pytest.mark.parametrize("value, meant", [(True, True), ("true", True), ("False", False), (False, False)])
def test_break_even_after_the_first_target(value: object, meant: bool) -> None:
    fields = {**OPEN, "targets": HALVES, "trail": "1%", "breakeven_after_target": value}
    signal = alert(fields).signal
    assert signal.breakeven_after_target is meant
    assert ("breakeven_after_target" in signal.data()) is meant


PARTS = {
    "a number": ({"quantity": 5}, (Decimal(5), None)),
    "a share": ({"percent": 25}, (None, Decimal(25))),
    "a share with its sign": ({"percent": "12.5 %"}, (None, Decimal("12.5"))),
    "a share in words": ({"percent": " 50 Percent "}, (None, Decimal(50))),
    "all of it": ({"percent": 100}, (None, None)),
    "nothing said": ({}, (None, None)),
}


@pytest.mark.parametrize("fields, meant", PARTS.values(), ids=PARTS.keys())
def test_a_close_may_be_of_a_part(fields: dict[str, Any], meant: tuple[Decimal | None, ...]) -> None:
    found = alert({**CLOSE, **fields})
    assert (found.signal.quantity, found.signal.percent) == meant and found.warnings == ()
    assert found.signal.is_partial_close is (meant != (None, None)) and found.signal.is_exit


@pytest.mark.parametrize("size", ["", "NaN", "{{strategy.order.contracts}}", "-5", 0, None, [5], "all", "1e3", True])
@pytest.mark.parametrize("field", ["quantity", "percent"])
def test_a_close_whose_size_nobody_can_read_closes_all_and_says_so(field: str, size: object) -> None:
    found = alert({**CLOSE, field: size})
    assert found.signal == Signal(Action.CLOSE, "EURUSD")
    (warning,) = found.warnings
    assert warning.field == field and "all of the trade is closed" in warning.message


def test_of_two_sizes_the_one_that_can_be_read_counts() -> None:
    found = alert({**CLOSE, "quantity": "NaN", "percent": 50})
    assert (found.signal.quantity, found.signal.percent) == (None, Decimal(50))
    assert [str(warning)[-8:] for warning in found.warnings] == ["eds none"]


PROTECTIONS = {
    "a price": ({"sl": 1.19}, (Decimal("1.19"), None)),
    "the entry": ({"sl": "entry"}, (AtEntry.ENTRY, None)),
    "the entry, in capitals": ({"sl": " Entry "}, (AtEntry.ENTRY, None)),
    "distances": ({"sl": "1%", "tp": "1%"}, (percent("1"), percent("1"))),
    "a target alone": ({"tp": "entry"}, (None, AtEntry.ENTRY)),
}


@pytest.mark.parametrize("fields, meant", PROTECTIONS.values(), ids=PROTECTIONS.keys())
def test_protect_moves_the_exits(fields: dict[str, Any], meant: tuple[Any, ...]) -> None:
    signal = alert({**PROTECT, **fields}).signal
    assert (signal.action, signal.sl, signal.tp, signal.loosen) == (Action.PROTECT, *meant, False)
    assert signal.is_exit
    assert alert({**PROTECT, **fields, "loosen": "true"}).signal.loosen


REFUSED = {
    "a trail without a unit": ({**OPEN, "trail": 1.5}, "trail", '"1.5%", "25 ticks" or "2.5 points", was 1.5'),
    "a trail at a price": ({**OPEN, "trail": "1.18"}, "trail", "with its unit"),
    "a trail at the entry": ({**OPEN, "trail": "entry"}, "trail", "with its unit"),
    "an unknown unit": ({**OPEN, "sl": "25 pips"}, "sl", "unknown unit, 'pips'"),
    "an unknown unit of a trail": ({**OPEN, "trail": "2 atr"}, "trail", "unknown unit"),
    "no distance": ({**OPEN, "sl": "0%"}, "sl", "greater than 0"),
    "a distance below zero": ({**OPEN, "sl": "-1.5%"}, "sl", "greater than 0"),
    "a comma": ({**OPEN, "sl": "1,5%"}, "sl", "without a comma"),
    "a part of a tick": ({**OPEN, "sl": "2.5 ticks"}, "sl", "whole number of ticks"),
    "a stop of a buy below zero": ({**OPEN, "sl": "100%"}, "sl", "no price is below zero"),
    "a trail of a buy below zero": ({**OPEN, "trail": "150%"}, "trail", "no price is below zero"),
    "a take-profit of a sell below zero": ({**OPEN, "side": "sell", "tp": "100 %"}, "tp", "no price is below zero"),
    "an entry at the entry": ({**OPEN, "sl": "entry"}, "sl", "must be a number"),
    "tp and targets": ({**OPEN, "tp": 1.2, "targets": HALVES}, "targets", "one of the targets"),
    "targets above 100 %": ({**OPEN, "targets": [HALVES[0], {"tp": 1.3, "percent": 70}]}, "targets", "120 % together"),
    "no target": ({**OPEN, "targets": []}, "targets", "1 to 4 targets"),
    "five targets": ({**OPEN, "targets": [{"tp": n, "percent": 1} for n in range(1, 6)]}, "targets", "was 5 of them"),
    "targets that are a text": ({**OPEN, "targets": "1.2"}, "targets", "must be a list"),
    "a target that is a price": ({**OPEN, "targets": [1.2]}, "targets", "target 1 must be like"),
    "a target without a share": ({**OPEN, "targets": [{"tp": 1.2}]}, "targets", "target 1 needs a percent"),
    "a target with more": ({**OPEN, "targets": [{"tp": 1.2, "percent": 1, "sl": 1}]}, "targets", "unknown field, 'sl'"),
    "a target of nothing": ({**OPEN, "targets": [{"tp": 1.2, "percent": 0}]}, "targets", "target 1: percent must be greater"),
    "a target nowhere": ({**OPEN, "targets": [{"tp": "up", "percent": 5}]}, "targets", "target 1: tp must be a number"),
    "two targets at one price": ({**OPEN, "targets": [HALVES[0], {"tp": "1.20", "percent": 1}]}, "targets", "added up"),
    "two targets at one distance": (
        {**OPEN, "targets": [{"tp": "1%", "percent": 1}, {"tp": "1.0 %", "percent": 1}]}, "targets", "two targets at 1%"),
    "a target on the wrong side": ({**OPEN, "targets": HALVES, "sl": 1.25}, "targets", "needs target 1 above sl"),
    "a target on the wrong side of a sell": (
        {**OPEN, "side": "sell", "targets": HALVES, "sl": 1.25}, "targets", "needs target 2 below sl"),
    "a placeholder in a target": (
        {**OPEN, "targets": [{"tp": "{{plot_0}}", "percent": 50}]}, "targets", "was not filled in"),
    "break-even without targets": (
        {**OPEN, "tp": 1.2, "sl": 1.1, "breakeven_after_target": True}, "breakeven_after_target", "it needs targets"),
    "break-even after all is gone": (
        {**OPEN, "targets": [{"tp": 1.2, "percent": 100}], "sl": 1.1, "breakeven_after_target": True},
        "breakeven_after_target", "the first target leaves nothing"),
    "break-even without a stop": (
        {**OPEN, "targets": HALVES, "breakeven_after_target": True}, "breakeven_after_target", "write sl or trail"),
    "break-even, perhaps": ({**OPEN, "breakeven_after_target": "yes"}, "breakeven_after_target", "must be true or false"),
    "targets of a strategy": ({**STRATEGY, "targets": [*HALVES, *HALVES]}, "targets", "200 % together"),
    "more than all is closed": ({**CLOSE, "percent": 101}, "percent", "at most 100, was 101"),
    "two sizes of a close": ({**CLOSE, "percent": 50, "quantity": 5}, "percent", "one of the two"),
    "a part of an open": ({**OPEN, "percent": 50}, "percent", "is not a field of the action open"),
    "protect without exits": (PROTECT, "sl", "needs sl, tp or both"),
    "protect at one price": ({**PROTECT, "sl": 1.2, "tp": "1.20"}, "tp", "must stand apart"),
    "protect at the entry twice": ({**PROTECT, "sl": "entry", "tp": "entry"}, "tp", "must stand apart"),
    "protect with a stop that nobody can read": ({**PROTECT, "sl": "NaN", "tp": 1.2}, "sl", "must be a number"),
    "protect with a placeholder": ({**PROTECT, "sl": "{{plot_0}}"}, "sl", "was not filled in"),
    "protect without a symbol": ({"action": "protect", "sl": 1.2}, "symbol", "is missing"),
    "a name too long": ({**OPEN, "strategy_name": "n" * 65}, "strategy_name", "at most 64"),
    "a name that is a placeholder": ({**OPEN, "strategy_name": "{{strategy}}"}, "strategy_name", "was not filled in"),
}  # fmt: skip


@pytest.mark.parametrize("fields, field, words", REFUSED.values(), ids=REFUSED.keys())
def test_an_impossible_wish_is_refused_with_what_to_write(fields: dict[str, Any], field: str, words: str) -> None:
    found = problems(fields)
    assert set(found) == {field} and words in found[field]


def test_protect_moves_the_stop_whatever_else_is_wrong() -> None:
    more = {
        "tp": "NaN",
        "loosen": "maybe",
        "note": 5,
        "trail": "1%",
        "quantity": 5,
        "id": "x" * 200,
        "strategy_name": [],
    }
    found = alert({**PROTECT, "sl": 1.2, **more})
    assert (found.signal.sl, found.signal.tp, found.signal.loosen) == (Decimal("1.2"), None, False)
    assert {warning.field for warning in found.warnings} == {*more}


def test_protect_moves_the_target_alone() -> None:
    assert set(problems({**PROTECT, "tp": "NaN"})) == {"tp"}


INSTANTS = {
    "2026-11-23T09:15:00Z": datetime(2026, 11, 23, 9, 15, tzinfo=UTC),
    "2026-11-23T09:15:00.250Z": datetime(2026, 11, 23, 9, 15, 0, 250000, tzinfo=UTC),
    "2026-11-23 10:15:00+01:00": datetime(2026, 11, 23, 9, 15, tzinfo=UTC),
    "2026-11-23T04:15:00-0500": datetime(2026, 11, 23, 9, 15, tzinfo=UTC),
    "1795425300": datetime(2026, 11, 23, 9, 15, tzinfo=UTC),
    "1795425300.5": datetime(2026, 11, 23, 9, 15, 0, 500000, tzinfo=UTC),
    "1795425300000": datetime(2026, 11, 23, 9, 15, tzinfo=UTC),
    1795425300000: datetime(2026, 11, 23, 9, 15, tzinfo=UTC),
    1795425300: datetime(2026, 11, 23, 9, 15, tzinfo=UTC),
}


@pytest.mark.parametrize("sent, meant", INSTANTS.items(), ids=map(str, INSTANTS))
def test_the_sender_s_time_is_read_as_senders_write_it(sent: object, meant: datetime) -> None:
    signal = alert({**OPEN, "time": sent}).signal
    assert signal.time == meant and signal.time.utcoffset() is not None
    assert alert({**CLOSE, "time": signal.data()["time"]}).signal.time == meant


ANY = {"open": OPEN, "strategy": STRATEGY, "protect": {**PROTECT, "sl": 1.1}, **EXITS}


@pytest.mark.parametrize("action", ANY)
@pytest.mark.parametrize(
    "told", ["NaN", "nan", "", " ", None, "{{timenow}}", float("nan"), float("inf"), float("-inf")]
)
def test_what_the_sender_could_not_tell_is_not_told(action: str, told: object) -> None:
    found = alert({**ANY[action], "price": told, "time": told})
    assert (found.signal.price, found.signal.time, found.warnings) == (None, None, ())


@pytest.mark.parametrize("action", ANY)
@pytest.mark.parametrize(
    "told", ["soon", "2026-11-23T09:15:00", "2026-02-30T00:00:00Z", "5", True, [1], {"a": 1}, "-3", "9" * 40]
)
def test_a_time_that_cannot_be_read_is_left_out_and_said(action: str, told: object) -> None:
    found = alert({**ANY[action], "time": told})
    assert found.signal.time is None and [warning.field for warning in found.warnings] == ["time"]


@pytest.mark.parametrize("action", ANY)
def test_price_time_and_strategy_name_stay_with_any_signal(action: str) -> None:
    told = {"price": "1.1903", "time": "2026-11-23T09:15:00Z", "strategy_name": "  Turtle\t 2 ", "note": "n", "id": "i"}
    found = alert({**ANY[action], **told})
    signal = found.signal
    assert (signal.price, signal.time, signal.strategy_name) == (Decimal("1.1903"), INSTANTS["1795425300"], "Turtle 2")
    assert found.warnings == () and parse_payload("A", payload_text(Envelope("A", NOW, None, signal))).signal == signal


def test_a_nan_elsewhere_still_refuses_an_entry() -> None:
    with pytest.raises(MalformedSignal):
        alert_of(json.dumps({**OPEN, "price": float("nan"), "sl": float("nan")}).encode())


@pytest.mark.parametrize("exit", ["flat", "reduction"])
def test_a_strategy_s_exit_has_no_exits_of_its_own(exit: str) -> None:
    more = {"tp": 1.2, "sl": "1%", "trail": "25 ticks", "breakeven_after_target": True}
    found = alert({**EXITS[exit], **more, "targets": HALVES})
    assert found.signal == alert(EXITS[exit]).signal and found.warnings == ()


# --- laws ------------------------------------------------------------------------------------------

TENTHS = st.decimals(min_value=Decimal("0.1"), max_value=99, places=1)
LENGTHS = st.builds(Distance, TENTHS, st.sampled_from([Unit.PERCENT, Unit.POINTS])) | st.builds(
    Distance, st.integers(1, 10**6).map(Decimal), st.just(Unit.TICKS)
)
PRICES = NUMBERS | LENGTHS
INSTANT = st.timedeltas(timedelta(), timedelta(days=36000)).map(lambda since: datetime(2000, 1, 1, tzinfo=UTC) + since)
TOLD = {
    "note": st.none() | TEXTS.map(lambda text: text[:100]), "sender_id": st.none() | TEXTS,
    "strategy_name": st.none() | TEXTS.map(lambda text: text[:64]), "price": st.none() | NUMBERS, "time": st.none() | INSTANT,
}  # fmt: skip
TARGETS = st.lists(
    st.builds(Target, PRICES, st.integers(1, 25).map(Decimal)), min_size=1, max_size=4, unique_by=lambda t: t.tp
)
TRAILED = st.builds(
    Signal, st.just(Action.OPEN), st.just("EURUSD"), st.sampled_from(Side), NUMBERS, trail=LENGTHS,
    targets=TARGETS.map(tuple), breakeven_after_target=st.booleans(), **TOLD,
)  # fmt: skip
MOVED = st.builds(
    Signal, st.just(Action.PROTECT), st.just("AAPL"), sl=PRICES | st.just(AtEntry.ENTRY), loosen=st.booleans(), **TOLD
)
PARTLY = st.builds(Signal, st.just(Action.CLOSE), st.just("ES1!"), percent=TENTHS, **TOLD)
COUNTED = st.builds(Signal, st.just(Action.CLOSE), st.just("ES1!"), quantity=NUMBERS, **TOLD)
SIGNALS = TRAILED | MOVED | PARTLY | COUNTED


@given(SIGNALS)
def test_every_signal_is_read_as_it_was_signed(signal: Signal) -> None:
    envelope = Envelope("A", NOW, None, replace(signal, warning="w"))
    assert parse_payload("A", payload_text(envelope)) == envelope


@given(SIGNALS)
def test_the_canonical_form_of_every_wish_is_a_fixed_point(signal: Signal) -> None:
    assert alert_of(json.dumps(signal.data()).encode()).signal == signal


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.sampled_from(
    ["entry", "1.5%", "150%", "25 ticks", "2.5 points", "50%", "1,5%", "NaN", "{{plot_0}}", "2026-11-23T09:15:00Z", "1795425300000"]
)  # fmt: skip
LEAVES = ATOMS | st.fixed_dictionaries({}, optional={"tp": ATOMS, "percent": ATOMS, "more": ATOMS})
WORDS = LEAVES | st.lists(LEAVES, max_size=5)
NAMES = [
    "symbol", "side", "quantity", "percent", "tp", "sl", "trail", "targets", "breakeven_after_target", "loosen", "id", "note",
    "strategy_name", "price", "time", "secret", "market_position", "market_position_size", "prev_market_position",
    "prev_market_position_size", "other",
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), WORDS), st.sampled_from([*ANY.values()]))
def test_every_alert_is_a_signal_that_survives_its_signing_or_a_refusal_in_words(
    more: dict[str, Any], fields: dict[str, Any]
) -> None:
    try:
        found = alert({**fields, **more})
    except MalformedSignal as exc:
        assert exc.problems and all(problem.message and len(problem.message) < 400 for problem in exc.problems)
        return
    assert parse_payload("A", payload_text(Envelope("A", NOW, None, found.signal))).signal == found.signal


@given(
    st.sampled_from([*ANY.values(), {**OPEN, "targets": HALVES, "trail": "1%", "price": 1, "time": 1795425300}]),
    st.data(),
)
def test_a_body_that_was_damaged_on_its_way_is_a_signal_or_a_refusal(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    """One byte of it changed, lost or put in: never an exception of another kind."""
    body = json.dumps(fields).encode()
    at = data.draw(st.integers(0, len(body)))
    damage = data.draw(st.binary(max_size=2) | st.sampled_from([b"NaN", b'"', b"{{", b"[", b"\\u0000", b"}"]))
    try:
        found = alert_of(body[:at] + damage + body[at + data.draw(st.integers(0, 1)) :])
    except MalformedSignal:
        return
    assert parse_payload("A", payload_text(Envelope("A", NOW, None, found.signal))).signal == found.signal


PLAY_NO_PART = [
    name for name in NAMES if name not in ("symbol", "percent", "quantity", "sl") and "market_position" not in name
]


@pytest.mark.parametrize("exit", [*EXITS, "protect"])
@given(more=st.dictionaries(st.sampled_from([*PLAY_NO_PART, "percentage", "Targets"]), WORDS))
def test_no_exit_is_lost_to_a_field_that_plays_no_part_in_it(exit: str, more: dict[str, Any]) -> None:
    fields = {**PROTECT, "sl": "entry"} if exit == "protect" else EXITS[exit]
    if exit == "protect":
        more.pop("tp", None)
    signal, plain = alert({**more, **fields}).signal, alert(fields).signal
    told = {"note": None, "sender_id": None, "strategy_name": None, "price": None, "time": None, "loosen": False}
    assert replace(signal, **told) == plain


@given(st.sampled_from(["quantity", "percent"]), ATOMS)
def test_a_size_never_loses_a_close_unless_it_says_more_than_all(field: str, size: object) -> None:
    try:
        assert alert({**CLOSE, field: size}).signal.action is Action.CLOSE
    except MalformedSignal as exc:
        assert [problem.field for problem in exc.problems] == ["percent"] and "at most 100" in str(exc)
