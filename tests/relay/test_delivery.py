"""lease, ack, nack: what an executor may ask and what it gets."""

from __future__ import annotations

import time

import psutil
import pytest

from common.errors import QueueUnavailable
from relay.context import MOST_POLLS
from relay.delivery import read_acks, read_nack, read_poll
from tests.relay.examples import AUTH, EXECUTOR, Web, signal
from tests.relay.process import RelayProcess, answered, is_waiting


def test_only_an_executor_may_fetch(web):
    for headers in ({}, AUTH, {"Authorization": "Bearer x"}):
        for name in ("lease", "ack", "nack"):
            assert web.post(f"/v1/{name}", {}, headers).status_code == 401
        assert web.get("/metrics", headers).status_code == 401
    assert web.post("/webhook", signal(), EXECUTOR).status_code == 401, "and its token sends nothing"


def test_signals_come_in_the_order_of_acceptance_and_an_ack_ends_them(web):
    ids = [
        web.send(symbol=symbol, side=side).json["id"] for symbol, side in [("A", "buy"), ("A", "sell"), ("B", "buy")]
    ]
    leased = web.lease()
    assert [each["id"] for each in leased] == ids
    acks = [{"id": each["id"], "lease": each["lease"]} for each in leased]
    for _ in range(2):
        assert web.call("ack", acks=acks).json == {"acked": ids, "stale": []}
    web.clock.advance(3600)
    assert web.lease() == []


def test_a_lease_that_ran_out_is_stale_once_somebody_else_has_it(web):
    web.send()
    (first,) = web.lease(lease_seconds=10)
    web.clock.advance(11)
    (second,) = web.lease()
    assert (second["id"], second["attempt"]) == (first["id"], 2) and second["lease"] != first["lease"]
    assert web.call("ack", acks=[{"id": first["id"], "lease": first["lease"]}]).json["stale"] == [first["id"]]
    assert second["headers"] == first["headers"], "signed once, at acceptance"


def test_a_nack_gives_back_and_holds_the_symbol_until_the_retry(web):
    web.send(), web.send(side="sell"), web.send(symbol="AAPL")
    (leased,) = web.lease(limit=1)
    given = {"id": leased["id"], "lease": leased["lease"], "reason": "TWS away", "retry_seconds": 60}
    assert web.call("nack", **given).json == {"status": "returned", "id": leased["id"]}
    assert [each["payload"].count("AAPL") for each in web.lease(lease_seconds=300)] == [1]
    web.clock.advance(61)
    assert [each["attempt"] for each in web.lease()] == [2, 1]
    assert web.call("nack", **given).json["code"] == "lease-lost"


def test_after_five_leases_a_signal_is_a_dead_letter(web):
    web.send()
    for _ in range(5):
        (leased,) = web.lease(lease_seconds=1)
        web.clock.advance(2)
    assert web.lease() == [] and [each.id for each in web.pending.dead(10)] == [leased["id"]]


def test_answers_tell_the_relays_clock(web):
    assert web.call("lease", wait_seconds=0).headers["X-Relay-Time"] == "2026-11-23T09:15:00.000000Z"


REFUSED = {
    "limit 0": ("lease", {"limit": 0}),
    "limit 101": ("lease", {"limit": 101}),
    "limit 1.5": ("lease", {"limit": 1.5}),
    "limit as text": ("lease", {"limit": "10"}),
    "wait too long": ("lease", {"wait_seconds": 56}),
    "wait negative": ("lease", {"wait_seconds": -1}),
    "wait true": ("lease", {"wait_seconds": True}),
    "lease 0": ("lease", {"lease_seconds": 0}),
    "unknown field": ("lease", {"max": 1}),
    "no acks": ("ack", {}),
    "acks no list": ("ack", {"acks": {}}),
    "ack no object": ("ack", {"acks": ["x"]}),
    "ack without lease": ("ack", {"acks": [{"id": "x"}]}),
    "ack with more": ("ack", {"acks": [{"id": "x", "lease": "y", "z": 1}]}),
    "too many acks": ("ack", {"acks": [{"id": "x", "lease": "y"}] * 201}),
    "ack id a number": ("ack", {"acks": [{"id": 5, "lease": "y"}]}),
    "nack without id": ("nack", {"lease": "y", "reason": "r", "retry_seconds": 1}),
    "nack for too long": ("nack", {"id": "x", "lease": "y", "reason": "r", "retry_seconds": 601}),
}


@pytest.mark.parametrize("name, fields", REFUSED.values(), ids=REFUSED.keys())
def test_a_question_out_of_form_is_refused(web, name, fields):
    answer = web.call(name, **fields)
    assert answer.status_code == 400 and answer.json["problems"], answer.json


def test_a_question_that_is_no_object_is_refused(web):
    assert web.post("/v1/lease", b"[]", EXECUTOR).status_code == 400


def test_what_is_not_asked_has_a_default():
    assert (read_poll({}).limit, read_poll({}).wait_seconds, read_poll({}).lease_seconds) == (10, 20, 30)
    assert read_acks({"acks": []}) == ([], [])
    assert read_nack({"id": "a", "lease": "b"}) == ("a", "b", "given back", 0)


# --- a lease belongs to a consumer ------------------------------------------------------------------


def poll(web, consumer, **fields):
    return web.call("lease", **{"wait_seconds": 0, "consumer": consumer, **fields})


def test_an_answer_that_was_lost_is_given_again_at_once_and_counts_once(web):
    sent = [web.send(symbol=symbol).json["id"] for symbol in ("A", "B")]
    lost = poll(web, "home").json["signals"]
    for _ in range(10):
        again = poll(web, "home").json["signals"]
        assert again == lost and [each["id"] for each in again] == sent
    assert {each["attempt"] for each in again} == {1}
    acks = [{"id": each["id"], "lease": each["lease"]} for each in again]
    assert web.call("ack", acks=acks).json["acked"] == sent
    assert poll(web, "home").json["signals"] == []


def test_a_second_executor_is_refused_and_the_first_hears_of_it(web):
    web.send()
    assert len(poll(web, "home").json["signals"]) == 1
    for _ in range(3):
        refused = poll(web, "laptop")
        assert (refused.status_code, refused.json["code"]) == (409, "another-consumer")
        assert "home" in refused.json["detail"] and 1 <= int(refused.headers["Retry-After"]) <= 120
    (notice,) = poll(web, "home").json["notices"]
    assert notice["kind"] == "second-executor" and "laptop" in notice["text"]


def test_another_executor_takes_over_after_the_silence(web):
    web.send()
    (first,) = poll(web, "old", lease_seconds=300).json["signals"]
    web.clock.advance(119)
    assert poll(web, "new").status_code == 409
    web.clock.advance(2)
    assert poll(web, "new").json["signals"] == [], "what the old one holds is not lent to two"
    web.clock.advance(300)
    (second,) = poll(web, "new").json["signals"]
    assert (second["id"], second["attempt"]) == (first["id"], 2)
    assert poll(web, "old").status_code == 409


def test_a_refused_executor_does_not_hide_that_the_first_is_silent(web):
    poll(web, "home")
    seen_at = web.pending.stats(web.clock.now()).last_poll_at
    web.clock.advance(60)
    assert poll(web, "laptop").status_code == 409
    assert web.pending.stats(web.clock.now()).last_poll_at == seen_at


def test_a_caller_without_a_name_is_served_as_before(web):
    poll(web, "home")
    web.send()
    (leased,) = web.lease(lease_seconds=10)
    assert web.lease() == [], "given once, until its lease ends"
    assert web.call("ack", acks=[{"id": leased["id"], "lease": leased["lease"]}]).json["stale"] == []


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "é", 5, ["home"]])
def test_a_name_out_of_form_is_refused(web, name):
    assert poll(web, name).json["problems"][0]["field"] == "consumer"


# --- waiting, on the real server --------------------------------------------------------------------


def ack_all(relay, signals):
    relay.call("ack", acks=[{"id": each["id"], "lease": each["lease"]} for each in signals])


def test_a_waiting_poll_gets_a_signal_when_it_arrives(relay):
    """One that is not woken would look again only after ten minutes: this relay is patient."""
    for number in range(20):
        with relay.poll(wait_seconds=55) as waiting:
            assert is_waiting(waiting)
            relay.post("/webhook", signal(symbol=f"WAKE{number}"))
            (leased,) = answered(waiting)["signals"]
        ack_all(relay, [leased])


def test_a_poll_whose_client_is_gone_takes_nothing_with_it(relay):
    """The client hangs up while it waits; the next signal goes to the next poll at once, as its first lease."""
    for _ in range(3):
        relay.poll(wait_seconds=30, lease_seconds=300).close()
    relay.post("/webhook", signal(symbol="GONE"))
    (leased,) = relay.call("lease", wait_seconds=5)["signals"]
    assert leased["attempt"] == 1
    ack_all(relay, [leased])


def test_a_poll_that_waits_holds_no_thread(tmp_path):
    relay = RelayProcess(tmp_path / "r", "--threads", "20")
    process = psutil.Process(relay.process.pid)
    relay.post("/healthz", {})  # Flask is there
    relay.call("lease", wait_seconds=0.1)
    before = process.num_threads()
    polls = [relay.poll(wait_seconds=55) for _ in range(40)]
    assert relay.post("/webhook", b"{", {}).status_code == 401
    assert process.num_threads() <= before + 2, "whatever their number"
    assert all(map(is_waiting, polls))
    assert relay.stop() == 0
    for poll in polls:
        assert answered(poll) == {"signals": [], "mode": "unknown"}
        poll.close()


def test_a_call_with_a_slash_at_its_end_is_the_same_call(relay):
    assert relay.post("/v1/ack/", {"acks": []}, EXECUTOR).json() == {"acked": [], "stale": []}
    assert relay.post("/v1/lease/", {"wait_seconds": 0}).status_code == 401


def test_long_polls_never_starve_webhooks(relay, eventually):
    """More polls than may wait have come: those are answered, and an alert does not wait for any of the others."""
    polls = [relay.poll(wait_seconds=55, limit=1) for _ in range(MOST_POLLS + 16)]
    eventually(lambda: sum(map(is_waiting, polls)) == MOST_POLLS)
    waiting = [poll for poll in polls if is_waiting(poll)]
    for number in range(MOST_POLLS):
        assert relay.post("/webhook", signal(symbol=f"HUNGRY{number}")).status_code == 202
        if number == 20:
            assert any(map(is_waiting, waiting)), "still waiting"
    ack_all(relay, [each for poll in polls for each in answered(poll)["signals"]])
    assert relay.call("lease", wait_seconds=0)["signals"] == [], "one for each"
    for poll in polls:
        poll.close()


def test_a_poll_ends_in_time_with_nothing(relay):
    """Not before, and not only when this patient relay looks at its queue again."""
    started = time.monotonic()
    assert relay.call("lease", wait_seconds=0.3) == {"signals": []}
    assert time.monotonic() - started > 0.25


def test_the_kill_switch_holds_and_lets_go(tmp_path):
    web = Web(tmp_path)
    web.send(), web.post(data={"action": "close", "symbol": "AAPL"})
    web.pending.set_mode("paused")
    assert web.lease() == [] and web.get("/readyz").json["mode"] == "paused"
    web.pending.set_mode("close-only")
    assert [each["payload"].count('"close"') for each in web.lease()] == [1]
    web.pending.set_mode("open")
    assert len(web.lease()) == 1


def test_an_executor_that_refuses_entries_by_itself_gets_reversals_in_close_only_mode(tmp_path):
    web = Web(tmp_path)
    web.pending.set_mode("close-only")
    web.send(side="sell"), web.post(data={"action": "close", "symbol": "AAPL"})
    asked = {"wait_seconds": 0, "consumer": "home", "refuses_entries": True}
    answer = web.call("lease", **asked).json
    assert answer["mode"] == "close-only" and len(answer["signals"]) == 2
    assert web.call("lease", **asked).json["signals"] == answer["signals"], "the answer was lost"
    web.pending.set_mode("paused")
    assert web.call("lease", **asked).json == {"signals": [], "mode": "paused"}
    web.pending.set_mode("open")
    assert web.call("lease", **asked).json == {"signals": answer["signals"]}


def test_a_caller_that_does_not_refuse_entries_by_itself_gets_none_in_close_only_mode(tmp_path):
    web = Web(tmp_path)
    web.pending.set_mode("close-only")
    web.send(side="sell"), web.post(data={"action": "close", "symbol": "AAPL"})
    for asked in ({"consumer": "home"}, {"refuses_entries": True}, {"consumer": "home", "refuses_entries": False}):
        assert [each["payload"].count('"close"') for each in web.lease(**asked, limit=9)] in ([1], []), asked
    assert web.call("lease", wait_seconds=0, refuses_entries="yes").status_code == 400


def test_a_queue_that_is_away_is_asked_once_a_second_however_many_strangers_ask(web, monkeypatch):
    """Each would hold a thread for two seconds, and the executor needs one."""
    asked = []

    def away():
        asked.append(1)
        raise QueueUnavailable("gone")

    monkeypatch.setattr(web.pending, "ready", away)
    assert [web.get("/readyz").status_code for _ in range(5)] == [503] * 5 and len(asked) == 1
    web.clock.advance(1)
    assert web.get("/readyz").status_code == 503 and len(asked) == 2
