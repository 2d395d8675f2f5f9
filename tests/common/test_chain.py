"""The chain of a strategy's alerts: what follows, what is missing, what comes late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain import Chain, Link, hang
from common.signals import PrevPosition

NOW = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)


def prev(text: str) -> PrevPosition:
    word, _, size = text.partition(" ")
    return PrevPosition(word, Decimal(size) if size else None)


def links(start: str, *alerts: tuple[str, str], seconds: float = 1) -> list[str]:
    """Hang alerts (position, position before) one after the other."""
    chain, found = Chain(start), []
    for number, (position, before) in enumerate(alerts):
        chain, link = hang(chain, position, prev(before), NOW + timedelta(seconds=seconds * number))
        chain = Chain.read(str(chain))  # as it is stored
        found.append(link.value)
    return found


ORDERS = {
    "a reversal in two, swapped": ("long 10", [("short 10", "flat"), ("flat", "long 10")], ["missed", "late"]),
    "scaled out, then flat, swapped": ("long 50", [("flat", "long 20"), ("long 20", "long 50")], ["missed", "late"]),
    "what comes after a late one": (
        "long 10", [("short 10", "flat"), ("flat", "long 10"), ("flat", "short 10")], ["missed", "late", "follows"]),
    "one that is lost": ("flat", [("flat", "short 10"), ("long 5", "flat")], ["missed", "follows"]),
    "a flat that does not follow": ("long 10", [("flat", "short 10")], ["missed"]),
    "late only once": ("long 10", [("short 10", "flat"), ("flat", "long 10"), ("flat", "long 10")], ["missed", "late", "missed"]),
    "one after the last is never late": ("long 10", [("short 10", "flat"), ("flat", "short 10")], ["missed", "follows"]),
    "what ends elsewhere than the gap is not late": (
        "long 10", [("short 10", "flat"), ("long 5", "long 10")], ["missed", "missed"]),
    "late after one that followed": (
        "long 10", [("short 10", "flat"), ("short 20", "short 10"), ("flat", "long 10")], ["missed", "follows", "late"]),
    "without sizes": ("long 10", [("short 10", "flat"), ("flat", "long")], ["missed", "late"]),
}  # fmt: skip


@pytest.mark.parametrize("start, alerts, expected", ORDERS.values(), ids=ORDERS.keys())
def test_how_alerts_hang_together(start: str, alerts: list[tuple[str, str]], expected: list[str]) -> None:
    assert links(start, *alerts) == expected


def test_a_gap_lapses_after_five_minutes() -> None:
    swapped = [("short 10", "flat"), ("flat", "long 10")]
    assert links("long 10", *swapped, seconds=300) == ["missed", "late"]
    assert links("long 10", *swapped, seconds=301) == ["missed", "missed"]


def test_without_a_previous_position_it_is_the_newest_word() -> None:
    assert hang(Chain("long 10"), "short 5", None, NOW) == (Chain("short 5"), Link.FOLLOWS)
    assert hang(None, "short 5", prev("long 3"), NOW) == (Chain("short 5"), Link.FOLLOWS)


POSITIONS = st.sampled_from(["flat", "long 10", "long 20", "short 10", "short 5"])


@given(st.lists(POSITIONS, min_size=2, max_size=8))
def test_alerts_in_their_order_are_never_late_or_missed(positions: list[str]) -> None:
    alerts = list(zip(positions[1:], positions, strict=False))
    assert set(links(positions[0], *alerts)) <= {"follows"}


@given(st.lists(POSITIONS, min_size=3, max_size=8, unique=True), st.data())
def test_two_that_change_places_end_where_the_strategy_is(positions: list[str], data: st.DataObject) -> None:
    alerts = list(zip(positions[1:], positions, strict=False))
    at = data.draw(st.integers(0, len(alerts) - 2))
    alerts[at], alerts[at + 1] = alerts[at + 1], alerts[at]
    chain = Chain(positions[0])
    for position, before in alerts:
        chain, _ = hang(chain, position, prev(before), NOW)
    assert chain.position == positions[-1]
