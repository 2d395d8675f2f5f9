"""Instants whose text sorts like time; identifiers that sort like their instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import FakeClock, SystemClock, parse_utc, utc_text
from common.ids import is_id, new_id

INSTANTS = st.datetimes(timezones=st.just(UTC))


@given(INSTANTS)
def test_text_and_back(at):
    assert parse_utc(utc_text(at)) == at and len(utc_text(at)) == 27


@given(INSTANTS, INSTANTS)
def test_text_order_is_time_order(one, other):
    assert (utc_text(one) < utc_text(other)) == (one < other)


def test_other_zones_are_written_in_utc():
    at = datetime(2026, 11, 23, 16, 15, tzinfo=timezone(timedelta(hours=7)))
    assert utc_text(at) == "2026-11-23T09:15:00.000000Z"


def test_an_instant_without_zone_is_refused():
    naive = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(ValueError):
        utc_text(naive)
    with pytest.raises(ValueError):
        FakeClock(naive)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T09:15:00",
        "2026-11-23T09:15:00+02:00",
        "2026-13-01T00:00:00Z",
        "٢٠٢٦-11-23T09:15:00Z",
    ],
)
def test_what_is_no_utc_instant_is_refused(text):
    with pytest.raises(ValueError):
        parse_utc(text)


def test_the_fake_clock_moves_by_hand_and_the_real_one_by_itself():
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(90)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC) and clock.monotonic() == 90
    real = SystemClock()
    assert real.now().tzinfo is UTC and real.monotonic() <= real.monotonic()


def test_ids_are_distinct_well_formed_and_ordered_by_time(monkeypatch):
    instants = iter([1_700_000_000_000_000_000, 1_700_000_001_000_000_000])
    monkeypatch.setattr("common.ids.time.time_ns", lambda: next(instants))
    first, second = new_id(), new_id()
    assert first < second and is_id(first) and not is_id(first.lower())
    monkeypatch.undo()
    assert len({new_id() for _ in range(1000)}) == 1000
