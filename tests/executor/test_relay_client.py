"""The relay seen from home: only signed signals come through, and whatever else is answered is one error."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import responses
import trustme

from common.clock import FakeClock
from common.secret import Secret
from common.signals import Action, Envelope, Side, Signal, payload_text
from common.signing import SigningKeys, sign
from common.version import user_agent
from executor.relay import client as module
from executor.relay.client import RelayClient, RelayUnavailable

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
KEY = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
OTHER = "whsec_ZZZZZZZ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
URL = "http://127.0.0.1:9"
ID, LEASE = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FBW"
SIGNAL = Signal(Action.OPEN, "EURUSD", Side.BUY, Decimal(10000))


def leased(key: str = KEY, **changes: Any) -> dict[str, Any]:
    """One signal as the relay hands it over, with what a test changes afterwards."""
    payload = payload_text(Envelope(ID, NOW, NOW + timedelta(seconds=90), SIGNAL))
    headers = sign(SigningKeys.parse(key), ID, int(NOW.timestamp()), payload)
    return {"id": ID, "lease": LEASE, "attempt": 1, "headers": headers, "payload": payload, **changes}


def client(url: str = URL, secrets: str = KEY, **options: Any) -> RelayClient:
    return RelayClient(url, Secret("tok-en"), Secret(secrets), FakeClock(NOW), **options)


@pytest.fixture
def relay() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def answers(relay: responses.RequestsMock, signals: Any, **more: Any) -> None:
    relay.post(f"{URL}/v1/lease", json={"signals": signals}, **more)


def test_signed_signal_comes_through(relay: responses.RequestsMock) -> None:
    answers(relay, [leased()])
    found = client().lease(20).deliveries[0]
    assert found.envelope and found.envelope.signal == SIGNAL and found.envelope.received_at == NOW
    assert (found.id, found.lease, found.forged) == (ID, LEASE, False)
    request = relay.calls[0].request
    assert request.headers["Authorization"] == "Bearer tok-en"
    assert request.headers["User-Agent"] == user_agent("signal-executor")
    assert json.loads(request.body) == {"limit": 10, "wait_seconds": 20, "lease_seconds": 10}


def test_it_names_itself_and_hears_that_another_one_fetches(relay: responses.RequestsMock) -> None:
    problem = {"code": "another-consumer", "detail": "executor home fetched 3 s ago"}
    relay.post(f"{URL}/v1/lease", json=problem, status=409, headers={"Retry-After": "120"})
    with pytest.raises(module.SecondExecutor, match="executor home fetched 3 s ago") as refused:
        client(consumer="laptop").lease(0)
    assert json.loads(relay.calls[0].request.body)["consumer"] == "laptop"
    assert refused.value.retry_after == 60


def test_it_refuses_entries_by_itself_but_asks_a_relay_that_does_not_know_the_field_without_it(
    relay: responses.RequestsMock,
) -> None:
    problem = {"code": "malformed", "problems": [{"field": "refuses_entries", "message": "is not a field"}]}
    relay.post(f"{URL}/v1/lease", json=problem, status=400)
    relay.post(f"{URL}/v1/lease", json={"signals": []})
    one = client(consumer="home")
    assert [one.lease(0).mode for _ in range(2)] == ["open", "open"]
    said = [json.loads(call.request.body).get("refuses_entries") for call in relay.calls]
    assert said == [True, None, None]


@pytest.mark.parametrize(
    "told, mode",
    [({}, "open"), ({"mode": "close-only"}, "close-only"), ({"mode": "unknown"}, None), ({"mode": [1]}, None)],
)
def test_the_relay_s_mode_comes_with_its_answer(
    relay: responses.RequestsMock, told: dict[str, Any], mode: str | None
) -> None:
    relay.post(f"{URL}/v1/lease", json={"signals": [], **told})
    assert client(consumer="home").lease(0).mode == mode


def test_notices_are_confirmed_by_their_ids(relay: responses.RequestsMock) -> None:
    relay.post(f"{URL}/v1/ack", json={"acked": [], "stale": []})
    client().heard(["3", "4"])
    assert json.loads(relay.calls[0].request.body) == {"acks": [], "notices": ["3", "4"]}


def test_other_conflicts_are_no_second_executor(relay: responses.RequestsMock) -> None:
    relay.post(f"{URL}/v1/lease", json={"code": "lease-lost"}, status=409)
    with pytest.raises(RelayUnavailable) as refused:
        client(consumer="laptop").lease(0)
    assert not isinstance(refused.value, module.SecondExecutor)


def test_the_name_of_an_executor_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    journal = tmp_path / "trade_state.db"
    name = module.consumer_of(journal)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) and module.consumer_of(journal) == name
    assert module.consumer_of(tmp_path / "trade_state.paper.db") != name
    file = tmp_path / "trade_state.db.consumer"
    assert os.name == "nt" or file.stat().st_mode & 0o777 == 0o600
    for rubbish in ("", "a b", "x" * 65, "\0"):
        file.write_text(rubbish)
        fresh = module.consumer_of(journal)
        assert fresh not in (rubbish, name) and module.consumer_of(journal) == fresh


def test_notices_come_through_and_rubbish_in_their_place_does_no_harm(relay: responses.RequestsMock) -> None:
    notice = {"kind": "alert-missed", "symbol": "AAPL", "text": "x" * 9000, "at": "2026-11-23T09:00:00.000000Z"}
    relay.post(f"{URL}/v1/lease", json={"signals": [], "notices": [notice, 5, {"kind": None}]})
    found = client().lease(0).notices
    assert (found[0].kind, found[0].symbol, len(found[0].text)) == ("alert-missed", "AAPL", 500)
    assert found[0].key == "AAPL 2026-11-23T09:00:00.000000Z" and found[1].text == ""
    relay.post(f"{URL}/v1/lease", json={"signals": [], "notices": {"kind": "x"}})
    assert client().lease(0).notices == ()


def test_any_age_is_verified(relay: responses.RequestsMock) -> None:
    answers(relay, [leased()])
    old = RelayClient(URL, Secret("t"), Secret(KEY), FakeClock(NOW + timedelta(days=400)))
    assert old.lease(0).deliveries[0].envelope


@pytest.mark.parametrize(
    "signal",
    [
        leased(OTHER),
        leased(payload=leased()["payload"].replace("10000", "90000")),
        leased(id="01ARZ3NDEKTSV4RRFFQ69G5FAW"),
        leased(headers={}),
        leased(headers=None),
        leased(headers={**leased()["headers"], "webhook-signature": "v1,AAAA"}),
        leased(headers={**leased()["headers"], "webhook-timestamp": "1"}),
        leased(payload=None),
    ],
)
def test_forged_signal_is_marked_and_has_no_envelope(relay: responses.RequestsMock, signal: dict[str, Any]) -> None:
    answers(relay, [signal])
    found = client().lease(0).deliveries[0]
    assert found.forged and found.envelope is None and found.problem


def test_signed_but_unreadable_signal_is_told_apart(relay: responses.RequestsMock) -> None:
    headers = sign(SigningKeys.parse(KEY), ID, 1, '{"type":"signal"}')
    answers(relay, [leased(headers=headers, payload='{"type":"signal"}')])
    found = client().lease(0).deliveries[0]
    assert not found.forged and found.envelope is None and "must be an object" in found.problem


def test_keys_rotate_without_a_gap(relay: responses.RequestsMock, tmp_path: Path) -> None:
    for _ in range(3):
        answers(relay, [leased(OTHER)])
    file = tmp_path / "keys"
    file.write_text(KEY)
    clock = FakeClock(NOW)
    one = RelayClient(URL, Secret("t"), Secret(KEY, file), clock)
    assert one.lease(0).deliveries[0].forged
    file.write_text(f"{OTHER},{KEY}")
    clock.advance(2)
    assert one.lease(0).deliveries[0].envelope
    file.write_text("rubbish")  # the last good keys stay in force
    clock.advance(2)
    assert one.lease(0).deliveries[0].envelope


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 401}, "rejects our token .401.; EXECUTOR_RELAY_TOKEN"),
        ({"status": 404}, "is not a relay"),
        ({"status": 503, "headers": {"Retry-After": "7"}}, "answered 503"),
        ({"status": 302, "headers": {"Location": "https://evil.example/"}}, "redirects to 'https://evil.example/'"),
        ({"body": "<html>Please log in</html>"}, "answered 200 without JSON"),
        ({"body": "[]"}, "without a JSON object"),
        ({"json": {"hello": 1}}, "answered without signals"),
        ({"json": {"signals": [1]}}, "a signal that is not an object"),
        ({"body": '{"signals":[],"signals":[]}'}, "appears twice"),
        ({"body": b"\xff\xff"}, "not UTF-8"),
        ({"body": b"\xff\xfe"}, "is UTF-16"),
        ({"body": module.requests.Timeout()}, "no answer in time"),
    ],
)
def test_every_other_answer_is_unavailable(relay: responses.RequestsMock, answer: dict[str, Any], words: str) -> None:
    relay.post(f"{URL}/v1/lease", **answer)
    with pytest.raises(RelayUnavailable, match=words) as caught:
        client().lease(0)
    assert caught.value.retry_after == (7 if "Retry-After" in str(answer) else None)
    assert "tok-en" not in str(caught.value)


def test_connection_that_was_closed_meanwhile_is_made_again(relay: responses.RequestsMock) -> None:
    relay.post(f"{URL}/v1/lease", body=module.requests.ConnectionError("RemoteDisconnected"))
    answers(relay, [])
    assert client().lease(0).deliveries == ()


def test_ack_and_nack(relay: responses.RequestsMock) -> None:
    answers(relay, [leased()])
    relay.post(f"{URL}/v1/ack", json={"acked": [], "stale": [ID]})
    relay.post(f"{URL}/v1/nack", json={})
    one = client()
    delivery = one.lease(0).deliveries[0]
    assert one.ack([delivery]) == [ID]
    one.nack(delivery, "why", 60)
    assert json.loads(relay.calls[1].request.body) == {"acks": [{"id": ID, "lease": LEASE}]}
    assert json.loads(relay.calls[2].request.body)["retry_seconds"] == 60


@pytest.mark.parametrize(
    ("headers", "skew"),
    [
        ({"X-Relay-Time": "2026-11-23T15:00:03.250000Z"}, 3.25),
        ({"Date": "Mon, 23 Nov 2026 15:00:10 GMT"}, 10.5),
        ({"X-Relay-Time": "2026-11-23T14:59:00.000000Z", "Date": "Mon, 23 Nov 2026 15:00:10 GMT"}, -60),
        ({"Date": "yesterday"}, None),
        ({}, None),
    ],
)
def test_clock_skew_is_measured(relay: responses.RequestsMock, headers: dict[str, str], skew: float) -> None:
    answers(relay, [], headers=headers)
    assert client().lease(0).skew_seconds == skew


# --- faults on a raw socket -------------------------------------------------------------------------------------


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Start a server that reads a request and then does what it is told; return its address."""
    listeners: list[socket.socket] = []

    def start(does: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65536)
                        does(connection)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")  # half an hour
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


FAULTS: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "closes": (lambda connection: None, "closed the connection"),
    "breaks off": (
        lambda c: c.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"sig'),
        "was cut off|answered 200 without",
    ),
    "is no HTTP": (lambda c: c.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"), "closed the connection|cannot be reached"),
    "drips": (drip, "took too long"),
    "floods": (flood, "more than 524288 bytes"),
    "lies about gzip": (
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
        "compressed its answer",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_unavailable_in_bounded_time(
    raw: Callable[..., str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.clock import SystemClock

    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.5)
    does, words = FAULTS[fault]
    one = RelayClient(raw(does), Secret("tok-en"), Secret(KEY), SystemClock())
    with pytest.raises(RelayUnavailable, match=words):
        one.lease(0)
    one.close()


def test_nobody_there_is_said(free_port: Callable[[], int]) -> None:
    with pytest.raises(RelayUnavailable, match="cannot be reached: nothing is listening there"):
        client(f"http://127.0.0.1:{free_port()}").lease(0)


def test_name_that_nobody_knows_is_said() -> None:
    with pytest.raises(RelayUnavailable, match="its name is not known"):
        client("https://relay.invalid").lease(0)


def test_redirect_with_the_token_is_not_followed(raw: Callable[..., str]) -> None:
    seen: list[bytes] = []
    thief = raw(lambda connection: seen.append(b"came"))
    redirect = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {thief}/v1/lease\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(RelayUnavailable, match="redirects"):
        client(raw(lambda connection: connection.sendall(redirect.encode()))).lease(0)
    assert seen == []


def test_netrc_and_proxies_of_the_environment_are_not_used(
    raw: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password wrong\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    body = b'{"signals":[]}'
    url = raw(lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)))
    assert client(url).lease(0).deliveries == ()


class Signalless(BaseHTTPRequestHandler):
    """A relay that has nothing to deliver."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "14")
        self.end_headers()
        self.wfile.write(b'{"signals":[]}')

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_untrusted_certificate_is_said_and_a_private_authority_works(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), Signalless) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}"
        with pytest.raises(RelayUnavailable, match="certificate is not trusted .EXECUTOR_RELAY_CA"):
            client(url).lease(0)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        assert client(url, ca=tmp_path / "ca.pem").lease(0).deliveries == ()
        server.shutdown()
