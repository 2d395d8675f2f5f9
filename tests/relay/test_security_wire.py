"""The lines of docs/security.md about who may send and fetch, on the real server over raw sockets."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from common.signing import SigningKeys, sign, verify
from tests.relay.examples import AUTH, EXECUTOR, SECRET, SENDER_SIGNING, SIGNING, TOKEN, body, signal
from tests.relay.process import PATIENT, RelayProcess, http, status

_senders = itertools.count()
NO_CREDENTIAL = b"X: y"
BEARER, TOKEN_HEADER = (b"Authorization: " + each["Authorization"].encode() for each in (AUTH, EXECUTOR))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """A relay that no other test sends anything to; it waits for a slow disk as long as that takes."""
    found = RelayProcess(tmp_path_factory.mktemp("wire"), "--proxy-hops", "1", seconds=PATIENT)
    yield found
    assert found.stop() == 0 and "Traceback" not in found.log


def ask(
    relay: RelayProcess, data: bytes = b"", path: str = "/webhook", *headers: bytes, method: bytes = b"POST"
) -> bytes:
    """Send one request with these headers and no credential besides; return the answer without its date.

    Each comes from an address of its own, as a proxy tells: else a minute's failures would be used up.
    """
    number = next(_senders)
    lines = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: relay", b"Content-Length: %d" % len(data), *headers]
    lines.append(b"X-Forwarded-For: 198.51.%d.%d" % divmod(number, 250))
    answer = relay.raw(b"\r\n".join([*lines, b"", data]))
    return re.sub(rb"(?i)\r\n(date|x-relay-time): [^\r]*", b"", answer)


def signed(data: bytes, id: str, seconds_ago: int = 0, key: str = SENDER_SIGNING) -> list[bytes]:
    found = sign(SigningKeys.parse(key), id, int(time.time()) - seconds_ago, data)
    return [f"{name}: {value}".encode() for name, value in found.items()]


FOUR_WAYS: dict[str, Any] = {
    "a header": lambda data: (data, "/webhook", [BEARER]),
    "the path": lambda data: (data, f"/webhook/{SECRET}", []),
    "the body": lambda data: (json.dumps({**json.loads(data), "secret": SECRET}).encode(), "/webhook", []),
    "a signature": lambda data: (data, "/webhook", signed(data, "wire-ok")),
}  # fmt: skip


@pytest.mark.parametrize("way", FOUR_WAYS)
def test_each_kind_of_credential_is_taken(own: RelayProcess, way: str) -> None:
    data, path, headers = FOUR_WAYS[way](body(symbol="WAY" + "ABCD"[list(FOUR_WAYS).index(way)]))
    assert status(ask(own, data, path, *headers)) == 202


# what comes with an alert -> path and headers; none of it is a credential
NOBODY: dict[str, tuple[str, list[bytes]]] = {
    "nothing": ("/webhook", []),
    "a wrong bearer": ("/webhook", [b"Authorization: Bearer wrong"]),
    "an empty bearer": ("/webhook", [b"Authorization: Bearer "]),
    "the secret without a scheme": ("/webhook", [b"Authorization: " + SECRET.encode()]),
    "basic": ("/webhook", [b"Authorization: Basic " + SECRET.encode()]),
    "a piece of the secret": ("/webhook", [BEARER[:-1]]),
    "more than the secret": ("/webhook", [BEARER + b"x"]),
    "the secret twice": ("/webhook", [BEARER, BEARER]),
    "a wrong secret before the right one": ("/webhook", [b"Authorization: Bearer x", BEARER]),
    "a wrong secret behind the right one": ("/webhook", [BEARER, b"Authorization: Bearer x"]),
    "a header that only looks like it": ("/webhook", [b"Authorization_: Bearer " + SECRET.encode(), b"X-" + BEARER]),
    "bytes that are no text": ("/webhook", [b"Authorization: Bearer \xff\xfe" + SECRET.encode()]),
    "the executor's token": ("/webhook", [TOKEN_HEADER]),
    "the executor's token in the path": (f"/webhook/{TOKEN}", []),
    "a wrong path": ("/webhook/wrong", []),
    "the secret in the query": (f"/webhook?secret={SECRET}", []),
    "the secret behind a #": (f"/webhook#{SECRET}", []),
    "half a signature": ("/webhook", [b"webhook-id: m", b"webhook-signature: v1,AAAA"]),
}  # fmt: skip
SIGNATURES: dict[str, list[bytes]] = {
    "by the relay's own key": signed(body(), "m1", key=SIGNING),
    "of another body": signed(body(side="sell"), "m2"),
    "over five minutes old": signed(body(), "m3", seconds_ago=330),
    "from the future": signed(body(), "m4", seconds_ago=-86_400),
    "with another id": [b"webhook-id: m6", *signed(body(), "m5")[1:]],
    "with two ids": [b"webhook-id: m7", *signed(body(), "m7")],
    "with two timestamps": [*signed(body(), "m8"), b"webhook-timestamp: 1"],
    "with two signatures in two headers": [*signed(body(), "m9"), b"webhook-signature: v1,AAAA"],
    "with underscores": [line.replace(b"-", b"_", 1) for line in signed(body(), "m10")],
    "of a thousand": [*signed(body(), "m11")[:2], b"webhook-signature: " + b"v1,AAAA " * 1000],
    "that is no base64": [*signed(body(), "m12")[:2], b"webhook-signature: v1,\xff\xff\xff"],
    "that is empty": [*signed(body(), "m13")[:2], b"webhook-signature:"],
    "with a very long timestamp": [b"webhook-id: m14", b"webhook-timestamp: " + b"9" * 5000, b"webhook-signature: v1,"],
}  # fmt: skip


def test_no_alert_without_a_credential_and_every_refusal_has_the_same_bytes(own: RelayProcess) -> None:
    """The answer shows neither what was wrong, nor how near it was."""
    answers = {name: ask(own, body(), path, *headers) for name, (path, headers) in NOBODY.items()}
    answers |= {f"a signature {name}": ask(own, body(), "/webhook", *headers) for name, headers in SIGNATURES.items()}
    answers["a secret in the body that is wrong"] = ask(own, body(secret="wrong"))
    answers["a body that is no JSON"] = ask(own, b"{")
    assert {name: status(answer) for name, answer in answers.items() if status(answer) != 401} == {}
    assert len(set(answers.values())) == 1, set(answers.values())


def test_what_nobody_vouched_for_is_in_no_table(own: RelayProcess) -> None:
    assert status(ask(own, body(symbol="VOUCHED"), "/webhook", BEARER)) in (202, 200)
    for data in (body(symbol="NOBODY"), b'{"NOBODY":', body(symbol="NOBODY", side="up")):
        assert status(ask(own, data, "/webhook", b"Authorization: Bearer wrong")) == 401
    with sqlite3.connect(f"{(own.directory / 'pending.db').as_uri()}?mode=ro", uri=True) as database:
        text = "\n".join(database.iterdump())
        assert "VOUCHED" in text and "NOBODY" not in text
    database.close()


def test_copied_signed_request_is_a_duplicate_and_then_nothing(own: RelayProcess) -> None:
    data = body(symbol="COPIED")
    headers = signed(data, "copied", seconds_ago=240)
    assert [status(ask(own, data, "/webhook", *headers)) for _ in range(2)] == [202, 200]
    assert status(ask(own, data, "/webhook", *signed(data, "copied", seconds_ago=330))) == 401


CLOSED = [
    ("/v1/lease", b"POST"), ("/v1/ack", b"POST"), ("/v1/nack", b"POST"), ("/v1/lease/", b"POST"), ("/v1/status", b"GET"),
    ("/metrics", b"GET"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "method"), CLOSED)
def test_only_the_executors_token_opens_what_is_the_executors(own: RelayProcess, path: str, method: bytes) -> None:
    data = b'{"wait_seconds":0}' if method == b"POST" else b""
    wrong = [
        [],
        [BEARER],
        [b"Authorization: Bearer wrong"],
        [TOKEN_HEADER, TOKEN_HEADER],
        [TOKEN_HEADER[:-1]],
        signed(data, "x"),
    ]
    answers = {ask(own, data, path, *headers, method=method) for headers in wrong}
    answers.add(ask(own, data, f"{path}?token={TOKEN}", method=method))
    assert {status(answer) for answer in answers} == {401} and len(answers) == 1
    assert status(ask(own, data, path, TOKEN_HEADER, method=method)) in (200, 400)


def test_signature_covers_what_is_delivered_and_until_when(own: RelayProcess) -> None:
    """An entry carries its end under the signature, an exit has none; a changed character of either is noticed."""
    for fields in (signal(symbol="ENDS"), {"action": "close", "symbol": "ENDSNOT"}):
        assert status(own.raw(http(json.dumps(fields).encode()))) == 202
    leased = [each for each in own.call("lease", wait_seconds=0, limit=100)["signals"] if "ENDS" in each["payload"]]
    ends = [json.loads(each["payload"])["expires_at"] for each in leased]
    assert len(leased) == 2 and ends[0] and ends[1] is None
    keys = SigningKeys.parse(SIGNING)
    for each in leased:
        assert verify(keys, each["headers"], each["payload"]) == each["id"]
        with pytest.raises(Exception, match="no signature matches"):
            verify(keys, each["headers"], each["payload"].replace("ENDS", "EMDS"))


def test_no_answer_of_a_stranger_shows_anything_of_the_queue(own: RelayProcess) -> None:
    own.raw(http(body(symbol="SHOWSNOT")))
    for path in (
        "/",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/v1/lease",
        "/v1/status",
        "/metrics",
        "/webhook",
        "/v1/proof/x",
    ):
        for method in (b"GET", b"POST", b"PUT", b"OPTIONS"):
            answer = ask(own, b"", path, NO_CREDENTIAL, method=method)
            assert b"SHOWSNOT" not in answer and b"Traceback" not in answer and b"<html" not in answer.lower()
