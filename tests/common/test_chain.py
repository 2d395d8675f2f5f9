"""The chain of a strategy's alerts: what follows, what is missing, what comes late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chain import MOST_STRATEGIES, Chain, Link, chains_of, chains_text, hang
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


def sent(seconds: float | None) -> datetime | None:
    return None if seconds is None else NOW + timedelta(seconds=seconds)


# the last alert's time, the chain's position, the alert (position, before), its time → how it connects
TIMED = {
    "older, though it follows": (5, "long 10", ("flat", "long 10"), 4, "late"),
    "older, without a previous position": (5, "long 10", ("flat", None), 4, "late"),
    "older, and follows from nothing": (5, "long 10", ("flat", "short 3"), 4, "late"),
    "newer, and follows": (5, "long 10", ("flat", "long 10"), 6, "follows"),
    "newer, though one is missing": (5, "long 10", ("flat", "short 3"), 6, "missed"),
    "of the same second, and follows": (5, "long 10", ("flat", "long 10"), 5, "follows"),
    "of the same second, though one is missing": (5, "long 10", ("flat", "short 3"), 5, "missed"),
    "the last told none": (None, "long 10", ("flat", "long 10"), 4, "follows"),
    "it tells none": (5, "long 10", ("flat", "long 10"), None, "follows"),
    "it tells none, and one is missing": (5, "long 10", ("flat", "short 3"), None, "missed"),
}


@pytest.mark.parametrize("last, held, alert, time, expected", TIMED.values(), ids=TIMED.keys())
def test_where_both_tell_their_time_the_older_is_late(last, held, alert, time, expected) -> None:
    position, before = alert
    found, link = hang(Chain(held, sent_at=sent(last)), position, prev(before) if before else None, NOW, sent(time))
    assert link.value == expected
    assert found.position == (held if link is Link.LATE else position)
    assert Chain.read(str(found)) == found


def test_a_newer_time_is_never_late_though_it_leads_from_a_gap_s_start_to_its_end() -> None:
    chain, link = hang(Chain("long 10", sent_at=sent(0)), "short 10", prev("flat"), NOW, sent(1))
    assert link is Link.MISSED
    assert hang(chain, "flat", prev("long 10"), NOW, sent(2))[1] is Link.MISSED
    late, link = hang(chain, "flat", prev("long 10"), NOW + timedelta(hours=1), sent(0.5))
    assert link is Link.LATE and late.gap is not None and late.gap.filled and late.position == "short 10"


def test_a_time_far_in_the_future_makes_no_later_alert_late() -> None:
    chain, _ = hang(Chain("flat"), "long 10", prev("flat"), NOW, sent(3600))
    assert hang(chain, "flat", prev("long 10"), NOW, sent(1))[1] is Link.FOLLOWS
    assert hang(chain, "flat", prev("long 10"), NOW, sent(60))[0].sent_at == sent(60)


@given(st.permutations(range(5)))
def test_in_whatever_order_timed_alerts_come_the_chain_ends_with_the_newest(order: list[int]) -> None:
    positions = ["flat", "long 10", "long 20", "long 10", "flat", "short 5"]
    chain = Chain("flat", sent_at=sent(-1))
    for number in order:
        chain, _ = hang(chain, positions[number + 1], prev(positions[number]), NOW, sent(number))
    assert (chain.position, chain.sent_at) == ("short 5", sent(4))


NAMES = st.text(max_size=64)


@given(st.dictionaries(NAMES, st.sampled_from([Chain("flat"), Chain("long 5", sent_at=NOW)]), max_size=5))
def test_chains_are_stored_by_the_names_of_their_strategies(chains: dict[str, Chain]) -> None:
    assert chains_of(chains_text(chains)) == chains and chains_text(chains).isascii()


def test_no_chain_is_known_of_a_new_contract() -> None:
    assert chains_of(None) == {}
    assert chains_of("long 5") == {"": Chain("long 5")}, "as it was stored before"
    many = {str(number): Chain("flat") for number in range(MOST_STRATEGIES + 2)}
    assert list(chains_of(chains_text(many)))[:1] == ["2"]
