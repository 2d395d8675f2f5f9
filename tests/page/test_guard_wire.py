"""The lines of docs/security.md about the status page, on its real server over raw sockets."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from executor.status import PageServer, serve

TOKEN = "a-login-token-of-the-owner"
OWN = b"DU1234567"  # the account, which is on the page
HOST = b"Host: 127.0.0.1"
Ask = Callable[[bytes], bytes]


@pytest.fixture
def server(busy) -> Iterator[PageServer]:
    with closing(serve(busy.app(), "127.0.0.1", 0)) as found:
        yield found


@pytest.fixture
def guarded(busy) -> Iterator[PageServer]:
    """A page that other machines can reach, so that it asks for a login; here it listens on this one only."""
    with closing(serve(busy.app(host="0.0.0.0", login_token=TOKEN), "127.0.0.1", 0)) as found:
        yield found


def answer(server: PageServer, data: bytes) -> bytes:
    """Send bytes; return all that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while more := client.recv(65536):
            received += more
    return received


def request(path: bytes, *lines: bytes, body: bytes = b"", method: bytes = b"GET") -> bytes:
    head = [method + b" " + path + b" HTTP/1.1", *lines, b"Connection: close"]
    if body or method == b"POST":
        head.append(b"Content-Length: %d" % len(body))
        head.append(b"Content-Type: application/x-www-form-urlencoded")
    return b"\r\n".join([*head, b"", body])


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/1.") else 0


PATHS = [b"/", b"/api/status", b"/metrics", b"/healthz", b"/static/page.css", b"/login", b"/nowhere", b"/webhook"]
FOREIGN: dict[str, list[bytes]] = {
    "another site's name": [b"Host: evil.example"],
    "a name that begins like ours": [b"Host: 127.0.0.1.evil.example"],
    "a name that ends like ours": [b"Host: evil.localhost"],
    "our name behind theirs": [b"Host: evil.example, 127.0.0.1"],
    "theirs behind ours": [b"Host: 127.0.0.1, evil.example"],
    "two, ours first": [HOST, b"Host: evil.example"],
    "two, ours last": [b"Host: evil.example", HOST],
    "ours as its user": [b"Host: 127.0.0.1@evil.example"],
    "ours as its port": [b"Host: evil.example:127.0.0.1"],
    "ours by a header that only looks like it": [b"Host: evil.example", b"X-Forwarded-Host: 127.0.0.1", b"Host_: 127.0.0.1"],
    "none": [],
    "an empty one": [b"Host: "],
    "an address of the house": [b"Host: 192.168.1.20"],
    "a number": [b"Host: 2130706433"],
}  # fmt: skip


@pytest.mark.parametrize("lines", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_name_gets_nothing_of_the_page(server: PageServer, lines: list[bytes]) -> None:
    for path in PATHS:
        received = answer(server, request(path, *lines))
        assert status(received) in (400, 421), (path, received[:200])
        assert OWN not in received and b"csrf" not in received


def test_foreign_name_in_the_target_gets_nothing_either(server: PageServer) -> None:
    received = answer(server, request(b"http://evil.example/", b"Host: evil.example"))
    assert status(received) in (400, 404, 421) and OWN not in received


def csrf(server: PageServer, *lines: bytes) -> bytes:
    found = re.search(rb'name="csrf_token" value="([0-9a-f]+)"', answer(server, request(b"/", HOST, *lines)))
    assert found
    return found[1]


BUTTONS = [b"/trades/4/close", b"/trades/7/flatten", b"/symbols/GBPUSD/reset", b"/symbols/NVDA/adopt"]
FORGED: dict[str, tuple[list[bytes], bytes]] = {
    "no token": ([], b""),
    "a wrong token": ([], b"csrf_token=" + b"0" * 64),
    "an empty token": ([b"X-CSRF-Token: "], b"csrf_token="),
    "from another page": ([b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site"], b"csrf_token=x"),
    "as JSON": ([b"X-CSRF-Token: null"], b'{"csrf_token":true}'),
}


@pytest.mark.parametrize(("lines", "body"), FORGED.values(), ids=FORGED.keys())
def test_button_of_a_foreign_page_does_nothing(busy, server: PageServer, lines: list[bytes], body: bytes) -> None:
    for path in BUTTONS:
        data = body + b"&confirm=yes&step=do"
        assert status(answer(server, request(path, HOST, *lines, body=data, method=b"POST"))) in (400, 403)
        assert status(answer(server, request(path + b"?" + data, HOST, *lines))) == 405
    assert busy.desk.commands == []


def test_right_token_in_the_query_is_none(busy, server: PageServer) -> None:
    """It would be in the browser's history, and in the Referer that it sends on."""
    path = BUTTONS[0] + b"?confirm=yes&step=do&csrf_token=" + csrf(server)
    assert status(answer(server, request(path, HOST, method=b"POST"))) == 403 and busy.desk.commands == []


def test_button_hidden_in_a_body_is_not_pressed(busy, server: PageServer) -> None:
    """Only the owner's own form counts, whatever a length says of where it ends."""
    press = request(BUTTONS[0], HOST, body=b"confirm=yes&step=do&csrf_token=" + csrf(server), method=b"POST")
    for framing in (b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5\r\nTransfer-Encoding: chunked",
                    b"Content-Length: +5", b"Transfer-Encoding: xchunked", b"Content-Length: %d" % len(press)):  # fmt: skip
        head = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"\r\n" + framing + b"\r\n\r\n"
        answer(server, head + press)
        assert busy.desk.commands == [], framing


STRANGERS: dict[str, list[bytes]] = {
    "nothing": [],
    "a wrong cookie": [b"Cookie: page_5001=wrong; page_0=wrong"],
    "the token as its cookie": [b"Cookie: page_5001=" + TOKEN.encode()],
    "a wrong bearer": [b"Authorization: Bearer wrong"],
    "basic": [b"Authorization: Basic " + TOKEN.encode()],
    "an address of this machine": [b"X-Forwarded-For: 127.0.0.1", b"X-Real-IP: 127.0.0.1", b"Forwarded: for=127.0.0.1"],
}


@pytest.mark.parametrize("lines", STRANGERS.values(), ids=STRANGERS.keys())
def test_open_page_shows_a_stranger_nothing(busy, guarded: PageServer, lines: list[bytes]) -> None:
    for path in (b"/", b"/api/status", b"/metrics", b"/trades", b"/?token=" + TOKEN.encode()):
        received = answer(guarded, request(path, HOST, *lines))
        assert status(received) in (401, 404) and OWN not in received and TOKEN.encode() not in received
    for path in BUTTONS:
        assert status(answer(guarded, request(path, HOST, *lines, body=b"step=do", method=b"POST"))) in (401, 403)
    assert busy.desk.commands == []


def test_guesses_are_stopped_whatever_address_they_claim(guarded: PageServer) -> None:
    """The header by which a proxy names the sender is anybody's here: it counts for nothing."""
    answers = []
    for number in range(15):
        claim = b"X-Forwarded-For: 10.0.0.%d" % number
        answers.append(status(answer(guarded, request(b"/login?token=guess-%d" % number, HOST, claim))))
    assert answers[-1] == 429 and 303 not in answers


def test_every_answer_forbids_framing_scripts_and_keeping(server: PageServer) -> None:
    for path in PATHS:
        head = answer(server, request(path, HOST)).partition(b"\r\n\r\n")[0].lower()
        for line in (
            b"x-content-type-options: nosniff",
            b"x-frame-options: deny",
            b"frame-ancestors 'none'",
            b"default-src 'none'",
        ):
            assert line in head, (path, line)
        assert b"server:" not in head and b"cache-control: no-" in head and b"access-control-allow" not in head
