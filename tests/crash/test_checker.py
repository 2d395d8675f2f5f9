"""The checker finds nothing in a clean record, and each planted violation of each rule."""

from __future__ import annotations

from tests.crash.planted import PLANTED, PLANTED_AT_THE_RELAY, uncaught


def test_each_planted_violation_is_caught_and_each_rule_is_tried() -> None:
    assert len(PLANTED) >= 17 and len(PLANTED_AT_THE_RELAY) >= 5
    assert list(uncaught()) == []
