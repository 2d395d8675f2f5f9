"""Every code of the table is provoked; every answer has the same form and the same headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import QueueFull, QueueUnavailable
from common.version import VERSION
from relay.intake import MAX_BODY_BYTES
from relay.problems import PROBLEMS
from tests.relay.examples import AUTH, EXECUTOR, SECRET, Web
from tests.relay.process import http, status


class Broken:
    """A queue of which one method fails."""

    def __init__(self, inner, name, error):
        self._inner, self._name, self._error = inner, name, error

    def __getattr__(self, name):
        if name == self._name:
            return self._fail
        return getattr(self._inner, name)

    def _fail(self, *args, **kwargs):
        raise self._error


def broken(tmp_path, error, name="put"):
    web = Web(tmp_path)
    web.relay.pending = Broken(web.pending, name, error)
    return web


def too_many(tmp_path):
    web = Web(tmp_path)
    answers = [web.post(headers={}) for _ in range(61)]
    assert {each.status_code for each in answers[:60]} == {401}
    assert 1 <= int(answers[60].headers["Retry-After"]) <= 60
    return answers[60]


def conflict(tmp_path):
    web = Web(tmp_path)
    web.send(id="x")
    return web.send(id="x", side="sell")


def second_executor(tmp_path):
    web = Web(tmp_path)
    web.call("lease", wait_seconds=0, consumer="home")
    return web.call("lease", wait_seconds=0, consumer="laptop")


# code -> how the application is brought to answer it
IN_APPLICATION = {
    "malformed": lambda path: Web(path).send(side="up"),
    "unauthorized": lambda path: Web(path).post(headers={}),
    "address-refused": lambda path: Web(path, allowed_addresses=("10.0.0.0/8",), proxy_hops=0).send(),
    "not-found": lambda path: Web(path).get("/nothing"),
    "method-not-allowed": lambda path: Web(path).get("/webhook"),
    "duplicate-conflict": conflict,
    "another-consumer": second_executor,
    "lease-lost": lambda path: Web(path).call("nack", id="A" * 26, lease="x"),
    "length-required": lambda path: Web(path)._client.open("/webhook", method="POST", headers=AUTH),
    "too-large": lambda path: Web(path).post(data=b" " * (MAX_BODY_BYTES + 1)),
    "too-many-failures": too_many,
    "internal": lambda path: broken(path, RuntimeError(f"boom {SECRET}")).send(),
    "queue-full": lambda path: broken(path, QueueFull("full")).send(),
    "queue-unavailable": lambda path: broken(path, QueueUnavailable("gone")).send(),
}
# code -> the bytes that the server itself refuses
BELOW_APPLICATION = {
    "bad-request": b"POST /webhook HTTP/1.1\r\nHost : x\r\n\r\n",
    "header-too-large": b"POST /webhook HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    "uri-too-long": b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "expectation-failed": b"POST /webhook HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n",
}


def test_every_code_has_a_test():
    assert set(IN_APPLICATION) | set(BELOW_APPLICATION) == set(PROBLEMS)


@pytest.mark.parametrize("code", IN_APPLICATION)
def test_the_application_answers_with_the_code(tmp_path, code):
    answer = IN_APPLICATION[code](tmp_path)
    value = answer.json
    assert (answer.status_code, value["code"]) == (PROBLEMS[code].status, code)
    assert value["status"] == answer.status_code and value["title"] == PROBLEMS[code].title and value["detail"]
    assert answer.mimetype == "application/problem+json" and SECRET not in answer.text
    assert (answer.headers["X-Content-Type-Options"], answer.headers["Cache-Control"]) == ("nosniff", "no-store")


@pytest.mark.parametrize("code", BELOW_APPLICATION)
def test_the_server_answers_with_the_code(relay, code):
    answer = relay.raw(BELOW_APPLICATION[code])
    assert status(answer) == PROBLEMS[code].status, answer
    assert b'"code":"%s"' % code.encode() in answer and b"application/problem+json" in answer
    assert b"nosniff" in answer and b"no-store" in answer


@pytest.mark.parametrize("error", [QueueFull("full"), QueueUnavailable("gone")])
def test_503_asks_for_a_resend_and_is_for_nothing_stored_only(tmp_path, error):
    answer = broken(tmp_path, error).send()
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0


# endpoint of the executor -> what it asks of the queue
ASKED = {"lease": "poll", "ack": "finish", "nack": "give_back"}


@pytest.mark.parametrize("name", [*ASKED, "ready", "stats"])
def test_a_queue_that_is_away_is_503_on_every_endpoint(tmp_path, name):
    web = broken(tmp_path, QueueUnavailable("gone"), ASKED.get(name, name))
    call = {"lease": {"wait_seconds": 0}, "ack": {"acks": []}, "nack": {"id": "x", "lease": "y"}}
    answer = web.call(name, **call[name]) if name in call else web.get("/readyz")
    assert answer.status_code == 503 and web.get("/healthz").status_code == 200


def test_a_refused_alert_that_cannot_be_kept_is_answered_all_the_same(tmp_path):
    assert broken(tmp_path, QueueUnavailable("gone"), "refuse").send(side="up").status_code == 400


def test_405_names_what_is_allowed(web):
    assert web.get("/webhook").headers["Allow"] == "POST"
    assert web._client.options("/webhook").status_code == 405


def test_a_right_secret_is_never_refused_for_failures_from_its_address(web):
    for _ in range(100):
        web.post(headers={})
    assert web.send().status_code == 202
    assert web.call("lease", wait_seconds=0).status_code == 200


def test_the_failures_are_forgiven_after_a_minute(web):
    for _ in range(61):
        web.post(headers={})
    web.clock.advance(61)
    assert web.post(headers={}).status_code == 401


def test_the_banner_of_the_server_and_html_are_nowhere(relay):
    for data in (http(b"{}"), http(b"", "/nothing"), b"\r\n\r\nrubbish", *BELOW_APPLICATION.values()):
        answer = relay.raw(data).lower()
        assert not re.search(rb"server:|gunicorn|werkzeug|python|<html", answer), answer


def test_every_code_is_documented():
    page = (Path(__file__).parents[2] / "docs/reference/http-api.md").read_text("utf-8")
    missing = [code for code, kind in PROBLEMS.items() if f"| {kind.status} | `{code}` |" not in page]
    assert not missing


def test_metrics_count_refusals_by_code(web):
    web.send(side="up"), web.send(), web.send(), web.post(headers={})
    text = web.get("/metrics", EXECUTOR).text
    assert 'relay_requests_refused_total{code="malformed"} 1.0' in text
    assert "relay_alerts_queued_total 1.0" in text and "relay_alerts_duplicate_total 1.0" in text
    assert f'relay_build_info{{version="{VERSION}"}} 1.0' in text
    assert "relay_queue_depth 1.0" in text and "relay_queue_up 1.0" in text


def test_metrics_tell_that_the_queue_is_away(tmp_path):
    web = broken(tmp_path, QueueUnavailable("gone"), "stats")
    assert "relay_queue_up 0.0" in web.get("/metrics", EXECUTOR).text
