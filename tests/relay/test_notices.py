"""What the owner hears at home of alerts that were missed or refused: kept until an executor has heard it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.calls import Call, Request, blocking, to_the_end
from relay.intake import Intake
from relay.problems import Answer
from tests.relay.examples import AUTH, SECRET, Web, signal
from tests.relay.process import RelayProcess

FLAT = {"action": "strategy", "symbol": "EURUSD", "market_position": "flat", "market_position_size": 0}
LONG = {**FLAT, "market_position": "long", "market_position_size": 20}
REDUCED = {**LONG, "prev_market_position": "long", "prev_market_position_size": 50}
REVERSED = {**LONG, "prev_market_position": "short", "prev_market_position_size": 50}


def notices(web: Web) -> list[dict[str, str]]:
    found: list[dict[str, str]] = web.call("lease", wait_seconds=0).json.get("notices", [])
    return found


def kinds(web: Web) -> list[str]:
    web.lease()
    return [notice["kind"] for notice in notices(web)]


def test_a_long_reason_ends_in_one_mark(web: Web) -> None:
    web.post(data={**signal(), **{f"field{n}": 1 for n in range(9)}})
    web.lease()
    (notice,) = notices(web)
    assert "…" in notice["text"] and "…." not in notice["text"]


# --- refused ----------------------------------------------------------------------------------------

EXITS = {
    "a close without a symbol": {"action": "close"},
    "a close of a placeholder": {"action": "close", "symbol": "{{ticker}}"},
    "an exit in other words": {"action": "exit", "symbol": "EURUSD"},
    "a flat without a symbol": {**FLAT, "symbol": ""},
    "a reversal with a bad stop": {**REVERSED, "sl": "NaN"},
    "a reduction without a symbol": {**REDUCED, "symbol": 5},
    "a reduction whose size cannot be read": {**REDUCED, "market_position_size": "half"},
    "a trailing comma": b'{"action":"close","symbol":"EURUSD",}',
    "curly quotes": "{“action”: “close”, “symbol”: “EURUSD”}".encode(),
    "no end": b'{"action":"close","symbol":"EURUSD"',
    "a list": [{"action": "close", "symbol": "EURUSD"}],
}
ENTRIES = {
    "a bad stop": signal(sl="NaN"),
    "an unknown field": signal(leverage=5),
    "an entry of a strategy": {**LONG, "sl": "NaN", "prev_market_position": "flat"},
    "a larger position": {**REDUCED, "market_position_size": 80, "sl": "NaN"},
    "a close for a price": signal(tp="{{close}}"),
    "nothing at all": b"{}",
}


@pytest.mark.parametrize("alert", EXITS.values(), ids=EXITS.keys())
def test_a_refused_exit_is_told_at_home_as_one(web: Web, alert: Any) -> None:
    assert web.post(data=alert).status_code == 400
    assert kinds(web) == ["exit-refused"]


@pytest.mark.parametrize("alert", ENTRIES.values(), ids=ENTRIES.keys())
def test_another_refused_alert_is_told_at_home_too(web: Web, alert: Any) -> None:
    assert web.post(data=alert).status_code == 400
    assert kinds(web) == ["alert-refused"]


def test_a_notice_names_symbol_reason_and_alert_and_never_the_secret(web: Web) -> None:
    web.post(data=signal(quantity="-1", note=SECRET, secret=SECRET), headers={})
    (notice,) = notices(web)
    assert notice["symbol"] == "EURUSD" and "quantity: must be greater than 0" in notice["text"]
    assert '"side": "buy"' in notice["text"] and SECRET not in repr(notice) and len(notice["text"]) <= 400


def test_what_nobody_vouched_for_is_told_to_nobody(web: Web) -> None:
    web.post(data={"action": "close"}, headers={})
    assert notices(web) == []


@pytest.fixture
def web_of_few(tmp_path: Path) -> Iterator[Web]:
    found = Web(tmp_path, allowed_addresses=("10.1.0.0/16",), proxy_hops=0)
    yield found
    found.pending.close()


def test_an_alert_from_an_address_that_may_not_post_is_told_where_its_secret_is_right(web_of_few: Web) -> None:
    """TradingView may begin to send from another address: every alert would be lost."""
    close = {"action": "close", "symbol": "EURUSD"}
    for headers in ({}, AUTH):
        assert web_of_few.post(data=close, headers=headers, environ_base={"REMOTE_ADDR": "8.8.8.8"}).status_code == 403
    (notice,) = notices(web_of_few)
    assert notice["kind"] == "exit-refused" and "8.8.8.8 is not in RELAY_ALLOWED_ADDRESSES" in notice["text"]


CREDENTIALS: dict[str, Any] = {
    "in the body": ({"secret": SECRET}, {}, None),
    "in a header": ({}, {"authorization": f"Bearer {SECRET}"}, None),
    "in the path": ({}, {}, SECRET),
    "wrong": ({"secret": "wrong-secret-of-a-stranger"}, {}, None),
    "none": ({}, {}, None),
}


@pytest.mark.parametrize("fields, headers, path_secret", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_an_address_that_may_not_post_is_answered_before_its_credential_is_looked_at(
    web_of_few: Web, monkeypatch: pytest.MonkeyPatch, fields: Any, headers: dict[str, str], path_secret: str | None
) -> None:
    """The time that the answer takes must not tell a stranger that a secret is right."""
    steps: list[str] = []
    credentials, is_sender = web_of_few.relay.credentials, web_of_few.relay.credentials.is_sender
    monkeypatch.setattr(credentials, "is_sender", lambda secret: (steps.append("credential"), is_sender(secret))[1])

    async def wait(call: Call) -> Any:
        steps.append("queue")
        return await blocking(call)

    async def give(answer: Answer) -> None:
        steps.append(str(answer.status))

    body = json.dumps({"action": "close", "symbol": "EURUSD", **fields}).encode()
    request = Request(headers, body, "8.8.8.8", "/webhook", path_secret)
    to_the_end(Intake(web_of_few.relay).accept(request, wait, give))
    is_right = SECRET in (*fields.values(), path_secret) or bool(headers)
    assert steps[0] == "403" and steps.count("403") == 1
    assert steps.count("queue") == len(notices(web_of_few)) == is_right


@pytest.mark.parametrize(
    "path, headers, told", [(f"/webhook/{SECRET}", {}, 1), ("/webhook", AUTH, 1), ("/webhook", {}, 0)]
)
def test_an_alert_too_large_to_be_read_is_told_where_a_credential_beside_it_is_right(
    tmp_path: Path, path: str, headers: dict[str, str], told: int, eventually: Any
) -> None:
    """What it was nobody knows: it counts as an exit."""
    relay = RelayProcess(tmp_path)
    try:
        alert = {"action": "close", "symbol": "EURUSD", "note": "n" * 20_000}
        assert relay.post(path, alert, headers).status_code == 413
        if told:
            (notice,) = eventually(lambda: relay.call("lease", wait_seconds=0).get("notices"))
            assert notice["kind"] == "exit-refused" and "at most 16384 bytes" in notice["text"]
        else:
            assert relay.call("lease", wait_seconds=0) == {"signals": []}
    finally:
        relay.stop()


def test_the_same_refusal_again_is_one_notice(web: Web) -> None:
    for _ in range(5):
        web.post(data={"action": "close"})
        web.clock.advance(60)
    assert kinds(web) == ["exit-refused"]


def test_no_flood_of_refusals_hides_what_is_of_another_kind(web: Web) -> None:
    web.post(data={"action": "close"})
    for number in range(150):
        web.post(data=signal(quantity=f"-{number}"))
    found = [notice["kind"] for notice in notices(web)]
    assert found[0] == "exit-refused" and len(found) == 100


# --- an id that was used for another signal ------------------------------------------------------------

CLOSING = {"a close": {"action": "close", "symbol": "EURUSD"}, "a flat": FLAT, "a reduction": REDUCED}


@pytest.mark.parametrize("exit", CLOSING.values(), ids=CLOSING.keys())
@pytest.mark.parametrize("header", [False, True])
def test_an_exit_with_a_used_id_is_taken_as_new_and_told(web: Web, exit: dict[str, Any], header: bool) -> None:
    web.send(id="x")
    headers, fields = ({**AUTH, "webhook-id": "x"}, exit) if header else (AUTH, {**exit, "id": "x"})
    answer = web.post(data=fields, headers=headers)
    assert answer.status_code == 202 and answer.json["warnings"][0]["field"] == "id"
    assert web.post(data=fields, headers=headers).json == {"status": "duplicate", "id": answer.json["id"]}
    assert [each["id"] for each in web.lease()][1:] == [answer.json["id"]]
    (notice,) = notices(web)
    assert notice["kind"] == "id-used" and "(x)" in notice["text"]


def test_two_closing_fills_of_one_second_with_one_id_both_come_through(web: Web) -> None:
    """As TradingView sent them with the message that version 0.1.0 documented."""
    id = "EURUSD Close sell 2026-11-23T09:15:00Z"
    answers = [web.post(data={**fields, "id": id}).status_code for fields in (REDUCED, FLAT)]
    assert answers == [202, 202] and len(web.lease()) == 2


def test_an_entry_with_a_used_id_is_a_conflict_and_told(web: Web) -> None:
    web.send(id="x")
    assert web.send(id="x", side="sell").status_code == 409
    assert kinds(web) == ["alert-refused"]
    assert web.post(data={**REVERSED, "id": "x"}).status_code == 409
    assert "exit-refused" in kinds(web), "half of a reversal closes"


# --- kept until it is heard -------------------------------------------------------------------------


def test_a_missed_alert_is_told_after_a_restart_of_the_relay(tmp_path: Path) -> None:
    web = Web(tmp_path)
    web.post(data=LONG)
    assert web.post(data={**FLAT, "prev_market_position": "short", "prev_market_position_size": 5}).status_code == 202
    web.pending.close()
    web = Web(tmp_path)
    web.clock.advance(86_400)
    assert kinds(web) == ["alert-missed"]
    web.pending.close()


def test_two_alerts_that_changed_places_are_one_missed_alert_and_not_three(web: Web) -> None:
    for after, size, before, held in (
        ("long", 10, "flat", 0), ("short", 10, "flat", 0), ("flat", 0, "long", 10), ("flat", 0, "short", 10),
        ("long", 10, "flat", 0),
    ):  # fmt: skip
        told = {"prev_market_position": before, "prev_market_position_size": held}
        assert (
            web.post(data={**FLAT, "market_position": after, "market_position_size": size, **told}).status_code == 202
        )
    assert kinds(web) == ["alert-missed"]


def test_a_notice_is_repeated_until_it_is_confirmed(web: Web) -> None:
    web.post(data={"action": "close"})
    (notice,) = notices(web)
    assert notices(web) == [notice]
    assert web.call("ack", acks=[], notices=[notice["id"]]).json == {"acked": [], "stale": []}
    assert notices(web) == []


def test_a_notice_whose_answer_was_lost_is_told_when_the_executor_is_back(web: Web) -> None:
    web.post(data={"action": "close"})
    (notice,) = notices(web)
    web.clock.advance(3600)
    assert notices(web) == [notice] and notices(web) == [notice]
    web.clock.advance(61)
    assert notices(web) == [], "an executor that confirms nothing has heard it for a minute"


@pytest.mark.parametrize("ids", [["x"], [5], [""], ["1" * 30], "1"])
def test_a_confirmation_out_of_form_is_refused(web: Web, ids: Any) -> None:
    assert web.call("ack", acks=[], notices=ids).json["problems"][0]["field"] == "notices"


def test_signals_do_not_wait_for_notices_that_cannot_be_read(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.errors import QueueUnavailable

    web.post(data={"action": "close"})
    web.send()
    monkeypatch.setattr(web.pending, "notices", lambda now, told: told(QueueUnavailable("gone")))
    assert len(web.lease()) == 1
