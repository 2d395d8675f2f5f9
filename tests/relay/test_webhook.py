"""POST /webhook: who may send, what is taken, what is answered."""

from __future__ import annotations

import json

import pytest

from common import strict_json
from common.signals import alert_from
from common.signing import SigningKeys, sign, verify
from relay.intake import fingerprint
from tests.relay.examples import AUTH, NOW, SECRET, SENDER_SIGNING, SIGNING, Web, body, settings, signal

STAMP = int(NOW.timestamp())
SENDER_KEYS = SigningKeys.parse(SENDER_SIGNING)


def test_a_signal_is_queued_signed_and_delivered_once(web):
    answer = web.send(tp=1.20, sl="1.18", id="a-1")
    assert answer.status_code == 202 and answer.json["status"] == "queued"
    (leased,) = web.lease()
    assert leased["id"] == answer.json["id"] == leased["headers"]["webhook-id"] and leased["attempt"] == 1
    assert verify(SigningKeys.parse(SIGNING), leased["headers"], leased["payload"]) == leased["id"]
    assert json.loads(leased["payload"]) == {
        "type": "signal",
        "timestamp": "2026-11-23T09:15:00.000000Z",
        "data": {
            "action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000", "tp": "1.2", "sl": "1.18",
            "id": "a-1",
        },
        "expires_at": "2026-11-23T09:16:30.000000Z",
    }  # fmt: skip
    assert web.lease() == []


@pytest.mark.parametrize("action", ["close", "reset"])
def test_closing_never_expires(web, action):
    web.post(data={"action": action, "symbol": "EURUSD"})
    assert json.loads(web.lease()[0]["payload"])["expires_at"] is None


def test_the_validity_of_an_entry_is_a_setting(tmp_path):
    web = Web(tmp_path, signal_validity_seconds=30.0)
    web.send()
    assert json.loads(web.lease()[0]["payload"])["expires_at"] == "2026-11-23T09:15:30.000000Z"


CREDENTIALS = {
    "secret in the body": ("/webhook", {}, {"secret": SECRET}),
    "bearer": ("/webhook", AUTH, {}),
    "bearer in lower case": ("/webhook", {"Authorization": f"bearer {SECRET}"}, {}),
    "path": (f"/webhook/{SECRET}", {}, {}),
    "right in the body, wrong bearer": ("/webhook", {"Authorization": "Bearer no"}, {"secret": SECRET}),
}


@pytest.mark.parametrize("path, headers, more", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_each_kind_of_credential_lets_in(web, path, headers, more):
    assert web.post(path, signal(**more), headers).status_code == 202
    assert SECRET not in web.lease()[0]["payload"]


def test_a_standard_webhooks_signature_lets_in(web):
    headers = sign(SENDER_KEYS, "msg_1", STAMP, body())
    assert web.post(data=body(), headers=headers).status_code == 202
    assert web.post(data=body(), headers=headers).json["status"] == "duplicate"


@pytest.mark.parametrize("seconds, expected", [(-301, 401), (-299, 202), (299, 202), (301, 401)])
def test_a_signature_is_good_for_five_minutes(web, seconds, expected):
    headers = sign(SENDER_KEYS, "msg_1", STAMP + seconds, body())
    assert web.post(data=body(), headers=headers).status_code == expected


NOBODY = {
    "nothing": ("/webhook", {}, {}),
    "wrong secret": ("/webhook", {}, {"secret": "wrong"}),
    "empty secret": ("/webhook", {}, {"secret": ""}),
    "secret of another type": ("/webhook", {}, {"secret": [SECRET]}),
    "not ascii": ("/webhook", {}, {"secret": "geheim-ü"}),
    "wrong bearer": ("/webhook", {"Authorization": "Bearer wrong"}, {}),
    "basic": ("/webhook", {"Authorization": f"Basic {SECRET}"}, {}),
    "wrong path": ("/webhook/wrong", {}, {}),
    "a signature of another key": ("/webhook", sign(SigningKeys.parse(SIGNING), "m", STAMP, body()), {}),
    "half a signature": ("/webhook", {"webhook-id": "m", "webhook-signature": "v1,AAAA"}, {}),
    "secret in the query": (f"/webhook?secret={SECRET}", {}, {}),
}


def test_whatever_is_wrong_the_refusal_has_the_same_bytes(web):
    answers = {web.post(path, signal(**more), headers) for path, headers, more in NOBODY.values()}
    seen = {(answer.status, answer.data, tuple(answer.headers)) for answer in answers}
    assert len(seen) == 1 and next(iter(answers)).status_code == 401
    assert web.lease() == []


def test_bad_json_without_a_credential_is_401_and_with_one_400(web):
    assert web.post(data=b"{", headers={}).status_code == 401
    assert web.post(data=b"{").status_code == 400
    assert web.post(f"/webhook/{SECRET}", b"{", {}).status_code == 400
    assert web.post(data=b'{"secret":"%s","quantity":NaN}' % SECRET.encode(), headers={}).status_code == 400
    assert web.post(data=b'{"secret":"wrong","quantity":NaN}', headers={}).status_code == 401


def test_all_problems_of_a_signal_are_listed(web):
    answer = web.send(side="up", quantity="-1", tp="1e5", leverage=10)
    assert answer.status_code == 400 and answer.json["code"] == "malformed"
    assert {each["field"] for each in answer.json["problems"]} == {"side", "quantity", "tp", "leverage"}


def test_json_is_taken_whatever_the_content_type(web):
    for number, kind in enumerate(["text/plain", "application/json", "application/x-www-form-urlencoded", "x"]):
        assert web.post(data=signal(symbol=f"AAA{number}"), content_type=kind).status_code == 202


def test_a_strategy_alert_is_an_open_of_its_position(web):
    fields = {"action": "strategy", "symbol": "NASDAQ:AAPL", "market_position": "short", "market_position_size": "5"}
    assert web.post(data=fields).status_code == 202
    data = json.loads(web.lease()[0]["payload"])["data"]
    expected = {"action": "open", "symbol": "AAPL", "side": "sell", "quantity": "5", "market_position": "short"}
    assert data == expected


def test_a_strategy_that_holds_less_is_a_reduction_and_never_expires(web):
    before = {"prev_market_position": "long", "prev_market_position_size": 50}
    fields = {"action": "strategy", "symbol": "AAPL", "market_position": "long", "market_position_size": 20, **before}
    assert web.post(data=fields).status_code == 202
    payload = json.loads(web.lease()[0]["payload"])
    assert (payload["data"]["action"], payload["data"]["quantity"], payload["expires_at"]) == ("reduce", "20", None)


# --- exits are never refused for what plays no part in them ------------------------------------------

FLAT = {"action": "strategy", "symbol": "EURUSD", "market_position": "flat", "market_position_size": "0"}
CLOSES = {
    "close": {"action": "close", "symbol": "EURUSD"},
    "reset": {"action": "reset", "symbol": "EURUSD"},
    "flat": FLAT,
}
NO_PART = {
    "a stop that the chart did not know": {"sl": "NaN"},
    "a long note": {"note": "n" * 5000},
    "a long id": {"id": "i" * 129},
    "no text for an id": {"id": 5},
    "an empty id": {"id": ""},
    "a long strategy name": {"strategy_name": "s" * 500},
    "an unknown field": {"leverage": 10},
    "an emoji that is several characters": {"note": "👩‍💻"},
    "an emoji for a name": {"🚀": "🚀"},
    "a size": {"quantity": "all"},
    "an object": {"extra": {"a": [[[[[[[[[1]]]]]]]]]}},
    "the secret in the note": {"note": f"my {SECRET}!"},
    "the secret in the id": {"id": SECRET},
    "the secret in a bad price": {"tp": SECRET},
}  # fmt: skip


@pytest.mark.parametrize("more", NO_PART.values(), ids=NO_PART.keys())
@pytest.mark.parametrize("exit", CLOSES)
def test_an_exit_is_taken_whatever_else_is_in_it_and_says_what_was_left_out(web, exit, more):
    answer = web.post(data={**more, **CLOSES[exit]})
    assert answer.status_code == 202 and answer.json["warnings"][0]["message"], answer.json
    data = json.loads(web.lease()[0]["payload"])["data"]
    assert data["action"] == ("reset" if exit == "reset" else "close") and data["warning"]
    assert SECRET not in repr(data) and SECRET not in answer.text
    assert not data.keys() & more.keys()


@pytest.mark.parametrize("key", ["k" * 129, "", "\u200b"])
def test_an_exit_is_taken_without_a_webhook_id_out_of_form(web, key):
    answer = web.post(data=CLOSES["close"], headers={**AUTH, "webhook-id": key.encode().decode("latin-1")})
    assert answer.status_code == 202 and answer.json["warnings"][0]["field"] == "webhook-id"


NO_JSON = {
    "NaN": b'"sl":NaN', "a key twice": b'"note":"a","note":"b"', "no UTF-8": b'"note":"\xe9"',
    "a raw line break": b'"note":"one\ntwo"', "nine levels": b'"x":' + b"[" * 9 + b"]" * 9, "half a pair": b'"id":"\\ud800"',
}  # fmt: skip


@pytest.mark.parametrize("more", NO_JSON.values(), ids=NO_JSON.keys())
@pytest.mark.parametrize("path, headers, secret", [("/webhook", AUTH, b""), ("/webhook", {}, b'"secret":"%s",')])
def test_an_exit_is_taken_whose_json_is_wrong_where_it_plays_no_part(web, more, path, headers, secret):
    inside = secret % SECRET.encode() if secret else b""
    answer = web.post(path, b"{" + inside + b'"action":"close","symbol":"EURUSD",' + more + b"}", headers)
    assert answer.status_code == 202 and answer.json["warnings"], answer.json
    assert json.loads(web.lease()[0]["payload"])["data"]["symbol"] == "EURUSD"
    entry = b"{" + inside + b'"action":"open","symbol":"A","side":"buy","quantity":1,' + more + b"}"
    assert web.post(path, entry, headers).status_code == 400


def test_what_was_left_out_makes_no_other_signal(web):
    first = web.post(data={**CLOSES["close"], "sl": "NaN"})
    assert web.post(data=CLOSES["close"]).json["id"] == first.json["id"]


def test_no_answer_lists_warnings_without_end(web):
    answer = web.post(data={**{f"x{number}": 1 for number in range(500)}, **CLOSES["close"]})
    assert answer.status_code == 202 and len(answer.json["warnings"]) == 20
    assert len(json.loads(web.lease()[0]["payload"])["data"]["warning"]) <= 300


def test_an_id_that_was_not_filled_in_swallows_no_later_alert(web):
    answers = [web.send(id="bot-{{timenow}}", side=side) for side in ("buy", "sell")]
    assert [each.status_code for each in answers] == [202, 202]
    assert [each.json["warnings"][0]["field"] for each in answers] == ["id", "id"]


# --- duplicates -------------------------------------------------------------------------------------


def test_the_same_id_is_taken_once_for_thirty_days(web):
    first = web.send(id="x").json["id"]
    web.clock.advance(29 * 86400)
    assert web.send(id="x").json == {"status": "duplicate", "id": first}
    web.clock.advance(2 * 86400)
    assert web.send(id="x").status_code == 202


def test_the_same_id_with_another_signal_is_a_conflict(web):
    web.send(id="x")
    assert web.send(id="x", side="sell").json["code"] == "duplicate-conflict"


def test_an_equal_signal_spelled_otherwise_is_a_duplicate(web):
    web.send(id="x", symbol="FX:EUR/USD", quantity="10000.00")
    assert web.send(id="x").status_code == 200


def test_the_webhook_id_header_is_a_key_and_wins_over_the_field(web):
    headers = {**AUTH, "webhook-id": "k"}
    assert web.post(data=signal(), headers=headers).status_code == 202
    assert web.post(data=signal(), headers=headers).status_code == 200
    assert web.post(data=signal(id="y"), headers=headers).status_code == 200


@pytest.mark.parametrize("key", ["k" * 129, ""])
def test_a_webhook_id_out_of_form_is_refused(web, key):
    assert web.post(data=signal(), headers={**AUTH, "webhook-id": key}).json["problems"][0]["field"] == "webhook-id"


def test_without_an_id_an_equal_signal_within_thirty_seconds_is_a_duplicate(web):
    assert web.send().status_code == 202
    web.clock.advance(29)
    assert web.send().status_code == 200
    web.clock.advance(2)
    assert web.send().status_code == 202, "30 s from the first acceptance, not from the last resend"


def test_another_signal_of_the_symbol_in_between_ends_the_duplicates(web):
    assert [web.send(side=side).status_code for side in ("buy", "sell", "buy")] == [202, 202, 202]


def test_the_fingerprint_ignores_what_the_sender_saw_and_its_id_only():
    one, same, other, later = (
        fingerprint(alert_from(*strict_json.read(body(**more))).signal)
        for more in ({"id": "a"}, {"id": "b", "price": 5}, {"note": "n"}, {"time": 1795425300})
    )
    assert one == same != other and later.partition(":")[0] == one != later


# --- a clock that is set ---------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-86400, -3600, -31, 31, 3600, 86400])
def test_a_clock_that_jumps_loses_and_doubles_nothing(web, seconds):
    first = web.send(id="x", symbol="AAPL").json["id"]
    (held,) = web.lease(lease_seconds=10)
    for _ in range(60):
        web.post(headers={})
    web.clock.advance(seconds)
    if seconds < 0:
        assert web.post(headers={}).status_code == 429, "the minute of wrong secrets is not the clock's"
    assert web.send(id="x", symbol="AAPL").json == {"status": "duplicate", "id": first}
    second = web.send(id="y", symbol="AAPL", side="sell").json["id"]
    third = web.send(symbol="MSFT").json["id"]
    assert web.call("ack", acks=[{"id": held["id"], "lease": held["lease"]}]).json["acked"] == [first]
    assert [each["id"] for each in web.lease()] == [second, third]


# --- what the owner can see -------------------------------------------------------------------------


def test_an_authenticated_alert_that_was_refused_is_kept_without_its_secret(web):
    web.post(data=signal(side="up", secret=SECRET), headers={})
    web.post(data=b'{"secret": "%s", "quantity": NaN, "note": "%s"}' % (SECRET.encode(), SECRET.encode()))
    web.send(id="x"), web.send(id="x", side="sell")
    kept = web.pending.refused(10)
    assert [each.code for each in kept] == ["duplicate-conflict", "malformed", "malformed"]
    assert "side: must be one of" in kept[2].reason and '"side": "up"' in kept[2].body
    assert SECRET not in repr(kept)


def test_that_a_refused_alert_cannot_be_kept_changes_no_answer(web, monkeypatch, caplog):
    monkeypatch.setattr(web.pending, "refuse", lambda refused: 1 // 0)
    assert web.send(quantity="-1").status_code == 400
    assert "refused_alert_not_kept" in caplog.messages


def test_what_nobody_vouched_for_is_not_kept(web):
    web.post(data=signal(side="up"), headers={})
    assert web.pending.refused(10) == []


@pytest.mark.parametrize("field", ["note", "id"])
def test_a_secret_in_another_field_is_refused_and_not_repeated(web, field):
    answer = web.send(**{field: f"my {SECRET}!"})
    assert answer.json["problems"] == [{"field": field, "message": "must not contain the secret"}]
    assert SECRET not in repr(web.pending.refused(1)) and web.lease() == []


STEPS = [
    # (previous position told, size told) after an alert that left long 5 -> missed?
    ("long", "5", False), ("long", None, False), ("flat", "0", True), ("long", "6", True), ("short", "5", True),
]  # fmt: skip


@pytest.mark.parametrize("prev, size, missed", STEPS)
def test_a_strategy_alert_that_does_not_follow_tells_of_a_missed_one(web, prev, size, missed):
    alert = {"action": "strategy", "symbol": "AAPL", "market_position": "long", "market_position_size": 5}
    web.post(data=alert)
    told = {"prev_market_position": prev} | ({"prev_market_position_size": size} if size else {})
    web.post(data={**alert, "market_position": "flat", "market_position_size": 0, **told})
    notices = web.call("lease", wait_seconds=0).json.get("notices", [])
    assert [each["kind"] for each in notices] == ["alert-missed"] * missed
    assert web.get("/readyz").json["alerts_missed"] == int(missed)
    assert web.call("lease", wait_seconds=0).json.get("notices", []) == notices, "again: an answer may get lost"
    web.clock.advance(60)
    assert "notices" not in web.call("lease", wait_seconds=0).json


# --- the address filter -----------------------------------------------------------------------------

FILTERED = {"allowed_addresses": ("tradingview", "10.1.0.0/16"), "host": "0.0.0.0"}
FROM_TRADINGVIEW = "52.89.214.238"
ADDRESSES = [
    # hops, peer, X-Forwarded-For, let in?
    (0, FROM_TRADINGVIEW, None, True),
    (0, "::ffff:52.89.214.238", None, True),
    (0, "10.1.2.3", None, True),
    (0, "8.8.8.8", None, False),
    (0, "8.8.8.8", FROM_TRADINGVIEW, False),
    (1, "127.0.0.1", FROM_TRADINGVIEW, True),
    (1, "127.0.0.1", f"{FROM_TRADINGVIEW}, 8.8.8.8", False),
    (1, "127.0.0.1", f"8.8.8.8,{FROM_TRADINGVIEW}", True),
    (1, "127.0.0.1", None, False),
    (1, "8.8.8.8", FROM_TRADINGVIEW, False),
    (2, "127.0.0.1", f"{FROM_TRADINGVIEW}, 10.9.9.9", True),
    (2, "127.0.0.1", FROM_TRADINGVIEW, False),
    (2, "127.0.0.1", f"{FROM_TRADINGVIEW}, 8.8.8.8, 10.9.9.9", False),
    (1, "127.0.0.1", "rubbish", False),
]  # fmt: skip


@pytest.mark.parametrize("hops, peer, told, let_in", ADDRESSES)
def test_the_address_filter_believes_only_its_own_proxies(tmp_path, hops, peer, told, let_in):
    web = Web(tmp_path, **FILTERED, proxy_hops=hops)
    headers = {**AUTH, **({"X-Forwarded-For": told} if told else {})}
    answer = web.post(data=signal(), headers=headers, environ_base={"REMOTE_ADDR": peer})
    assert answer.status_code == (202 if let_in else 403)


def test_an_ambiguous_filter_is_refused_at_the_start():
    assert "RELAY_PROXY_HOPS" in settings(allowed_addresses=("tradingview",)).problems()[0]
    assert "lets nobody in" in settings(allowed_addresses=("tradingview",), proxy_hops=0).problems()[0]
    assert settings(**FILTERED, proxy_hops=1).problems() == []
    assert settings(allowed_addresses=("127.0.0.1",), proxy_hops=0).problems() == []
