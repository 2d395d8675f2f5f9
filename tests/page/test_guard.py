"""What the page refuses: foreign names, strangers, guesses, forged buttons; and what each button does."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from common.errors import ConfigError
from executor.core.commands import Command, CommandKind, CommandRefused
from executor.status import PageSettings
from executor.status import settings as settings_module
from executor.status.security import GUESSES

TOKEN = "a-login-token-of-the-owner"
OPEN = {"host": "0.0.0.0", "login_token": TOKEN}
POSTS = (
    "/trades/4/close",
    "/trades/7/adopt",
    "/trades/7/flatten",
    "/trades/7/dismiss",
    "/symbols/GBPUSD/reset",
    "/symbols/NVDA/ignore",
    "/symbols/NVDA/adopt",
    "/symbols/NVDA/follow",
    "/symbols/NVDA/leave",
)


# fmt: off
@pytest.mark.parametrize(("bound", "host", "is_known"), [
    ("127.0.0.1", "127.0.0.1:5001",       True),
    ("127.0.0.1", "localhost:5001",       True),
    ("127.0.0.1", "LOCALHOST",            True),
    ("127.0.0.1", "[::1]:5001",           True),
    ("127.0.0.1", "evil.example",         False),
    ("127.0.0.1", "localhost.evil.example", False),
    ("127.0.0.1", "127.0.0.1.evil.example", False),
    ("127.0.0.1", "192.168.1.20:5001",    False),
    ("127.0.0.1", "",                     False),
    ("0.0.0.0",   "192.168.1.20:5001",    True),
    ("0.0.0.0",   "evil.example:5001",    False),
    ("0.0.0.0",   "trading.house:5001",   True),
])
# fmt: on
def test_host_header_must_be_a_name_of_ours(busy, bound, host, is_known):
    client = busy.client(host=bound, login_token=TOKEN, hosts=("trading.house",))
    answer = client.get("/healthz", headers={"Host": host})
    assert (answer.status_code == 200) is is_known
    assert is_known or (answer.status_code, answer.json["code"]) == (421, "unknown-host")


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics", "/webhook", "/static/page.css", "/login", "/nowhere"])
def test_foreign_host_gets_nothing_anywhere(busy, path):
    assert busy.client().get(path, headers={"Host": "evil.example"}).status_code == 421


def test_an_open_address_without_login_token_is_refused_at_start(bench):
    with pytest.raises(ConfigError, match="needs a login token"):
        bench.app(host="0.0.0.0")


def test_templates_folder_must_hold_an_index(bench, tmp_path):
    with pytest.raises(ConfigError, match="found none"):
        bench.app(templates=str(tmp_path))


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics"])
def test_stranger_is_asked_to_log_in(busy, path):
    answer = busy.client(**OPEN).get(path)
    assert answer.status_code == 401
    assert "DU1234567" not in answer.text


def test_login_link_opens_the_page_for_good(busy):
    client = busy.client(**OPEN)
    answer = client.get(f"/login?token={TOKEN}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and TOKEN not in cookie
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("host", "own", "links"),
    [
        ("0.0.0.0", ["192.168.1.5", "10.8.0.2"], ["192.168.1.5", "10.8.0.2"]),
        ("0.0.0.0", ["192.168.1.5", "fd00::5"], ["192.168.1.5"]),
        ("::", ["192.168.1.5", "fd00::5"], ["192.168.1.5", "[fd00::5]"]),
        ("0.0.0.0", [], []),
        ("127.0.0.1", ["192.168.1.5"], []),
        ("192.168.1.5", ["192.168.1.5"], []),
    ],
)
def test_bound_to_every_address_a_link_for_a_phone_is_told(monkeypatch, host, own, links):
    monkeypatch.setattr(settings_module, "own_addresses", lambda: own)
    found = PageSettings(host=host, port=5001, login_token="tok").links_from_outside
    assert found == [f"http://{each}:5001/login?token=tok" for each in links]


def test_own_addresses_lead_here_and_are_none_of_loopback():
    for address in settings_module.own_addresses():
        assert not ip_address(address).is_loopback
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))


def test_login_link_is_ready_to_click():
    assert PageSettings(host="0.0.0.0", port=5001, login_token="a b").login_link == "http://127.0.0.1:5001/login?token=a%20b"
    assert PageSettings(host="127.0.0.1", port=5002, login_token="x").login_link == "http://127.0.0.1:5002/"
    assert PageSettings(host="::1", port=5002).address == "http://[::1]:5002/"


def test_login_form_works_and_a_changed_token_ends_the_session(busy):
    client = busy.client(**OPEN)
    assert client.post("/login", data={"token": TOKEN}).status_code == 303
    session = client.get_cookie("page_5001").value
    other = busy.client(host="0.0.0.0", login_token="another token")
    other.set_cookie("page_5001", session)
    assert other.get("/").status_code == 401


def test_program_logs_in_by_bearer_token(busy):
    client = busy.client(**OPEN)
    assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_guesses_are_stopped_and_forgiven_after_a_minute(busy):
    client = busy.client(**OPEN)
    for _ in range(GUESSES):
        assert client.post("/login", data={"token": "guess"}).status_code == 401
    blocked = client.post("/login", data={"token": TOKEN})
    assert (blocked.status_code, blocked.headers["Retry-After"]) == (429, "60")
    assert client.get("/login?token=guess").status_code == 429
    busy.clock.advance(61)
    assert client.post("/login", data={"token": TOKEN}).status_code == 303


def test_guesses_of_one_address_do_not_lock_out_another(busy):
    client = busy.client(**OPEN)
    for _ in range(GUESSES + 1):
        client.post("/login", data={"token": "guess"}, environ_base={"REMOTE_ADDR": "10.0.0.66"})
    assert client.post("/login", data={"token": TOKEN}, environ_base={"REMOTE_ADDR": "10.0.0.5"}).status_code == 303


def test_logged_in_browser_is_not_locked_out_by_guesses(busy):
    client = busy.client(**OPEN)
    client.post("/login", data={"token": TOKEN})
    for _ in range(GUESSES + 1):
        client.post("/login", data={"token": "guess"})
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("token", [None, "", "0" * 64])
def test_button_without_the_pages_token_does_nothing(busy, path, token):
    answer = busy.client().post(path, data={"confirm": "yes"} | ({} if token is None else {"csrf_token": token}))
    assert answer.status_code == 403
    assert busy.desk.commands == []


def test_login_page_gives_no_token_away(busy):
    client = busy.client(**OPEN)
    assert "csrf_token" not in client.get("/login").text + client.get("/").text


# fmt: off
@pytest.mark.parametrize(("path", "command"), [
    ("/trades/4/close",       Command(CommandKind.CLOSE, trade_id=4)),
    ("/trades/7/adopt",       Command(CommandKind.ADOPT, trade_id=7)),
    ("/trades/7/flatten",     Command(CommandKind.FLATTEN, trade_id=7)),
    ("/trades/7/dismiss",     Command(CommandKind.DISMISS, trade_id=7)),
    ("/symbols/GBPUSD/reset", Command(CommandKind.RESET, symbol="GBPUSD")),
    ("/symbols/NVDA/ignore",  Command(CommandKind.IGNORE_POSITION, symbol="NVDA")),
    ("/symbols/BRK.B/adopt",  Command(CommandKind.ADOPT_POSITION, symbol="BRK.B")),
    ("/symbols/NVDA/follow",  Command(CommandKind.FOLLOW, symbol="NVDA")),
    ("/symbols/NVDA/leave",   Command(CommandKind.LEAVE, symbol="NVDA")),
])
# fmt: on
def test_confirmed_button_reaches_the_trading_loop(busy, csrf, path, command):
    client = busy.client()
    form = {"csrf_token": csrf(client), "confirm": "yes"}
    answer = client.post(path, data=form, headers={"Accept": "application/json"})
    assert answer.json == {"status": "done", "text": busy.desk.answer}
    assert busy.desk.commands == [command]


@pytest.mark.parametrize("path", POSTS)
def test_first_step_only_asks(busy, csrf, path):
    client = busy.client()
    answer = client.post(path, data={"csrf_token": csrf(client), "step": "ask"})
    assert answer.status_code == 200
    assert 'name="confirm" value="yes"' in answer.text
    assert busy.desk.commands == []


def test_second_step_without_script_says_what_was_done(busy, csrf):
    client = busy.client()
    answer = client.post("/trades/4/close", data={"csrf_token": csrf(client), "confirm": "yes", "step": "do"})
    assert busy.desk.answer in answer.text
    assert len(busy.desk.commands) == 1


@pytest.mark.parametrize("wish", ["adopt", "flatten", "dismiss"])
def test_choice_in_hold_is_never_carried_out_in_one_step(busy, csrf, wish):
    client = busy.client()
    client.post(f"/trades/7/{wish}", data={"csrf_token": csrf(client)})
    assert busy.desk.commands == []


def test_programs_close_and_release_in_one_request(busy, csrf):
    client = busy.client()
    for path in ("/trades/4/close", "/symbols/GBPUSD/reset"):
        assert client.post(path, data={"csrf_token": csrf(client)}).status_code == 303
    assert len(busy.desk.commands) == 2


# fmt: off
@pytest.mark.parametrize(("raised", "status", "code", "words"), [
    (CommandRefused("trade 4 is closing already"), 409, "command-refused", "trade 4 is closing already"),
    (TimeoutError(),                               504, "no-answer",       "check the trade log"),
    (RuntimeError("secret inside"),                500, "internal",        "the executor's log says why"),
])
# fmt: on
def test_what_the_trading_loop_refuses_is_said(busy, csrf, raised, status, code, words):
    busy.desk.answer = raised
    client = busy.client()
    form = {"csrf_token": csrf(client), "confirm": "yes"}
    program = client.post("/trades/4/close", data=form, headers={"Accept": "application/json"})
    person = client.post("/trades/4/close", data=form, headers={"Accept": "text/html"})
    assert (program.status_code, program.json["code"]) == (status, code)
    assert program.content_type == "application/problem+json"
    assert words in program.json["detail"]
    assert person.status_code == status and person.content_type.startswith("text/html")
    assert "secret inside" not in program.text + person.text


def test_hostile_symbol_in_an_address_stays_text(busy, csrf):
    client = busy.client()
    form = {"csrf_token": csrf(client), "step": "ask"}
    answer = client.post("/symbols/%3Cscript%3Ealert(1)%3Cb%3E/reset", data=form)
    assert "&lt;script&gt;alert(1)&lt;b&gt;" in answer.text
    assert "<script>alert" not in answer.text


# fmt: off
@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET",  "/nowhere",            404, "not-found"),
    ("POST", "/trades/4/explode",   404, "not-found"),
    ("POST", "/symbols/NVDA/close", 404, "not-found"),
    ("POST", "/trades/999/close",   404, "no-such-trade"),
    ("POST", f"/trades/{2**70}/close", 404, "not-found"),
    ("GET",  "/trades/4/close",     405, "method-not-allowed"),
    ("PUT",  "/api/status",         405, "method-not-allowed"),
])
# fmt: on
def test_what_there_is_not_is_said(busy, csrf, method, path, status, code):
    client = busy.client()
    answer = client.open(path, method=method, data={"csrf_token": csrf(client)}, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert client.open(path, method=method, data={"csrf_token": csrf(client)}).status_code == status


def test_too_long_a_form_is_refused(busy, csrf):
    client = busy.client()
    answer = client.post("/trades/4/close", data={"csrf_token": csrf(client), "more": "x" * 20_000})
    assert answer.status_code == 413


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/webhook", "/webhook/some-secret"])
def test_alerts_are_sent_on_to_the_relay(busy, method, path):
    answer = busy.client(**OPEN).open(path, method=method, json={"action": "close"})
    assert (answer.status_code, answer.json["code"]) == (410, "gone")
    assert "https://relay.example.net/webhook" in answer.json["detail"]
    assert "some-secret" not in answer.text


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics", "/healthz", "/nowhere", "/login", "/static/page.js"])
def test_every_answer_carries_the_strict_headers(busy, path):
    with busy.client().get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] in ("no-store", "no-cache")
    assert "Server" not in headers


def test_page_asks_nothing_from_outside_and_has_no_inline_script(busy):
    html = busy.client().get("/").text
    assert "http://" not in html and "//cdn" not in html
    assert "style=" not in html and "onclick" not in html
    assert all(' src="/static/' in part for part in html.split("<script")[1:] if part.startswith(" "))
    assert html.count("<script") == 2
