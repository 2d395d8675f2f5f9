"""Partial closes, protection and what the sender tells of itself, as the relay answers, stores and signs them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.relay.examples import AUTH, SECRET, Web, signal

HALF = {"side": None, "quantity": None, "action": "close", "percent": 50}
PROTECT = {"side": None, "quantity": None, "action": "protect"}


@pytest.fixture
def web(tmp_path: Any) -> Web:
    return Web(tmp_path)


def signed(web: Web) -> list[dict[str, Any]]:
    """Return the signals that wait, as the executor would get them."""
    found: list[dict[str, Any]] = [json.loads(each["payload"]) for each in web.lease()]
    return found


def warned(answer: Any) -> list[str]:
    assert answer.status_code == 202, answer.text
    return [each["field"] for each in answer.json.get("warnings", [])]


def notices(web: Web) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = web.call("lease", wait_seconds=0).json.get("notices", [])
    return found


def test_a_partial_close_that_a_second_one_cannot_be_told_from_is_carried_out_with_a_warning(web: Web) -> None:
    answer = web.send(**HALF)
    assert warned(answer) == ["id"] and "{{timenow}}" in answer.json["warnings"][0]["message"]
    (payload,) = signed(web)
    assert payload["data"]["percent"] == "50" and payload["data"]["warning"].startswith("id: is missing")
    assert payload["expires_at"] is None


KNOWN = {
    "an id": ({"id": "a"}, AUTH),
    "a time": ({"time": "2026-11-23T09:15:00Z"}, AUTH),
    "a webhook-id": ({}, {**AUTH, "webhook-id": "a"}),
    "all of it": ({"percent": 100}, AUTH),
}


@pytest.mark.parametrize("more, headers", KNOWN.values(), ids=KNOWN.keys())
def test_one_that_can_be_told_from_others_has_no_warning(
    web: Web, more: dict[str, Any], headers: dict[str, str]
) -> None:
    assert warned(web.post(data=signal(**(HALF | more)), headers=headers)) == []


@pytest.mark.parametrize("more", [{}, {"id": "the same for all"}])
def test_two_halves_at_two_times_are_two_and_a_resend_of_one_is_one(web: Web, more: dict[str, Any]) -> None:
    times = ["2026-11-23T09:15:00Z", "2026-11-23T09:15:00Z", "2026-11-23T09:15:07Z", "2026-11-23T09:15:07Z"]
    answers = [web.send(**HALF, **more, time=time) for time in times]
    assert [each.status_code for each in answers] == [202, 200, 202, 200]
    assert [each["data"]["time"][:19] for each in signed(web)] == ["2026-11-23T09:15:00", "2026-11-23T09:15:07"]


def test_the_price_that_a_sender_saw_makes_no_other_signal(web: Web) -> None:
    assert [web.send(id="a", price=price).status_code for price in (1.1, 1.2, "NaN")] == [202, 200, 200]


def test_a_time_refuses_no_entry_that_is_sent_again(web: Web) -> None:
    assert [web.send(id="a", time=1795425300 + n).status_code for n in range(2)] == [202, 200]
    assert len(signed(web)) == 1 and [each["kind"] for each in notices(web)] == ["id-used"]


REFUSED = {
    "a close of more than all": {**HALF, "percent": 150},
    "a close of two sizes": {**HALF, "quantity": 5},
    "a protection that cannot be read": {**PROTECT, "sl": "up"},
    "a protection of nothing": PROTECT,
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED.keys())
def test_an_exit_that_is_refused_pages_its_owner(web: Web, fields: dict[str, Any]) -> None:
    assert web.send(**fields).status_code == 400
    (notice,) = notices(web)
    assert notice["kind"] == "exit-refused" and notice["symbol"] == "EURUSD"


def test_a_protection_passes_where_entries_are_held(web: Web) -> None:
    web.pending.set_mode("close-only")
    assert warned(web.send(**PROTECT, sl="entry", loosen=True)) == []
    (payload,) = signed(web)
    assert payload["data"] == {"action": "protect", "symbol": "EURUSD", "sl": "entry", "loosen": True}
    assert payload["expires_at"] is None


def test_a_name_with_the_secret_in_it_is_never_stored(web: Web) -> None:
    assert web.send(strategy_name=f"x {SECRET}").json["problems"][0]["field"] == "strategy_name"
    assert warned(web.send(**HALF, id="a", strategy_name=SECRET)) == ["strategy_name"]
    assert SECRET not in json.dumps(signed(web)) + repr(web.pending.refused(9))


def test_a_price_that_json_cannot_say_refuses_no_entry(web: Web) -> None:
    assert warned(web.post(data=json.dumps(signal(price=float("nan"), time=float("inf"))).encode())) == []
    assert "price" not in signed(web)[0]["data"]


def test_an_alert_that_is_refused_beside_such_a_price_is_kept(web: Web) -> None:
    assert web.post(data=json.dumps(signal(price=float("nan"), side="up")).encode()).status_code == 400
    (kept,) = web.pending.refused(9)
    assert '"side": "up"' in kept.body and "NaN" in kept.body


def strategy(name: str | None, position: str, size: int, before: str, size_before: int, **more: Any) -> dict[str, Any]:
    return signal(
        action="strategy", side=None, quantity=None, strategy_name=name, market_position=position, market_position_size=size,
        prev_market_position=before, prev_market_position_size=size_before, **more,
    )  # fmt: skip


def test_two_strategies_in_one_symbol_are_no_missed_alerts_of_each_other(web: Web) -> None:
    for n, name in enumerate(("Turtle", "Fade", None)):
        assert warned(web.post(data=strategy(name, "long", 5 + n, "flat", 0))) == []
    for n, name in enumerate(("Turtle", "Fade", None)):
        assert warned(web.post(data=strategy(name, "flat", 0, "long", 5 + n))) == []
    assert notices(web) == []
    web.post(data=strategy("Fade", "flat", 0, "short", 7))
    assert [each["text"][:33] for each in notices(web)] == ["An alert of Fade for EURUSD was m"]


def test_of_two_alerts_of_a_strategy_the_older_leaves_no_gap(web: Web) -> None:
    web.post(data=strategy(None, "short", 5, "flat", 0, time="2026-11-23T09:15:02Z"))
    web.post(data=strategy(None, "flat", 0, "long", 5, time="2026-11-23T09:15:01Z"))
    assert notices(web) == []
