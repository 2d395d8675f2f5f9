"""Whose word on the sender's address is believed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from relay.addresses import Proxies, networks, parse_address
from relay.settings import RelaySettings
from tests.relay.examples import AUTH, ENVIRONMENT, Web, signal

_numbers = itertools.count()
SENDER, NEAR, PROXY, STRANGER = "52.89.214.238", "172.17.0.1", "198.51.100.7", "203.0.113.9"


def new_address() -> str:
    number = next(_numbers)
    return f"10.1.{number // 250}.{number % 250}"


def seen(peer: str, told: str, tmp_path: Any, **changes: Any) -> str:
    """Return the address from which the relay takes a request to come; "" if it cannot tell."""
    settings = replace(RelaySettings.load({}, ENVIRONMENT, tmp_path), **changes)
    return Proxies(settings.proxy_hops, networks(settings.trusted_proxies)).sender(peer, told)


@pytest.mark.parametrize(("peer", "trusted", "believed"), [
    (NEAR, ("near",), True),
    (PROXY, ("near",), False),
    (PROXY, (PROXY,), True),
    (PROXY, ("198.51.100.0/24",), True),
    (STRANGER, (PROXY,), False),
    (NEAR, (PROXY,), False),
])  # fmt: skip
def test_only_trusted_proxies_are_believed(peer: str, trusted: tuple[str, ...], believed: bool, tmp_path: Any) -> None:
    expected = SENDER if believed else peer
    assert seen(peer, SENDER, tmp_path, proxy_hops=1, trusted_proxies=trusted) == expected


@pytest.mark.parametrize(("hops", "expected"), [(0, NEAR), (1, "10.0.0.9"), (2, SENDER), (3, "9.9.9.9"), (4, "")])
def test_the_sender_is_the_one_before_our_own_proxies(hops: int, expected: str, tmp_path: Any) -> None:
    assert seen(NEAR, f"9.9.9.9, {SENDER}, 10.0.0.9", tmp_path, proxy_hops=hops) == expected


# as a proxy wrote it -> what it means
WRITTEN = {
    "1.2.3.4": "1.2.3.4", "1.2.3.4:5": "1.2.3.4", "1.2.3.4:65535": "1.2.3.4", " 1.2.3.4\t": "1.2.3.4", '"1.2.3.4:5"': "1.2.3.4",
    "2001:db8::1": "2001:db8::1", "[2001:db8::1]": "2001:db8::1", "[2001:db8::1]:443": "2001:db8::1",
    '"[2001:db8::1]:443"': "2001:db8::1", "2001:DB8::A": "2001:db8::a", "fe80::1%eth0": "fe80::1", "[fe80::1%25en0]:1": "fe80::1",
    "fe80::1%2": "fe80::1", "::ffff:1.2.3.4": "1.2.3.4", "[::ffff:1.2.3.4]:5": "1.2.3.4", "::1": "::1",
}  # fmt: skip
UNREADABLE = (
    "", '"', '""', "unknown", "_hidden", "-", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4:", "1.2.3.4:x",
    "1.2.3.4:1:2", '"1.2.3.4', '1.2.3.4"', "[1::1", "1::1]", "[]", "[]:80", "[1::1]x", "[1::1]:x", "1::1::1", "for=1.2.3.4",
    "1.2.3.4/8", "1.2.3.4 5.6.7.8", "0x7f.1", "2130706433", "1.2.3.4\x0b", "\u0661.2.3.4", "fe80::1%", "[fe80::1%]", "%eth0",
    "1" * 10_000, "[" * 10_000, '"' * 10_000, ":" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WRITTEN.items())
def test_address_is_read_in_every_form_that_proxies_write(text: str, expected: str, tmp_path: Any) -> None:
    assert str(parse_address(text)) == expected
    assert seen(NEAR, f"9.9.9.9, {text}", tmp_path, proxy_hops=1) == expected


@pytest.mark.parametrize("text", UNREADABLE, ids=lambda text: text[:20])
def test_what_cannot_be_read_is_nobody(text: str, tmp_path: Any) -> None:
    """Not the proxy, not the entry before it, which is the sender's own word."""
    assert parse_address(text) is None
    assert seen(NEAR, f"{SENDER}, {text}", tmp_path, proxy_hops=1) == ""
    assert seen(NEAR, f"{text}, 10.0.0.9", tmp_path, proxy_hops=2) == ""


@pytest.mark.parametrize(
    "told", ['8.8.8.8, "', '"8.8.8.8, ', f'"{SENDER}, x", "', f'"a, {SENDER}", 10.0.0.9', ",", ", ,"]
)
def test_quotes_and_commas_of_a_stranger_move_nothing(told: str, tmp_path: Any) -> None:
    """Behind them the proxy adds the sender's address; where too few entries are left, it is nobody."""
    assert seen(NEAR, f"{told}, {STRANGER}", tmp_path, proxy_hops=1) == STRANGER
    assert seen(NEAR, told, tmp_path, proxy_hops=1) in ("", "10.0.0.9")


@pytest.mark.parametrize("told", ['8.8.8.8, "', "unknown", "", f"{STRANGER}:443", "[2001:db8::9]:1"])
def test_every_refused_address_is_in_the_log(told: str, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As it was told, so that its owner sees why; also while wrong secrets use up their own lines."""
    web = Web(tmp_path, allowed_addresses=("tradingview",), proxy_hops=1)
    for _ in range(200):
        web.relay.unauthentic(new_address(), "/webhook")
    answer = web.post("/webhook", signal(), {**AUTH, "X-Forwarded-For": told})
    (line,) = (record for record in caplog.records if record.getMessage() == "address_refused")
    assert answer.status_code == 403 and line.fields["forwarded"] == told  # type: ignore[attr-defined]
    web.pending.close()


def test_log_of_refused_addresses_is_bounded(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    web = Web(tmp_path, allowed_addresses=("tradingview",), proxy_hops=1)
    for _ in range(200):
        web.post("/webhook", signal(), {**AUTH, "X-Forwarded-For": "x" * 8000})
    lines = [record for record in caplog.records if record.getMessage() == "address_refused"]
    assert len(lines) == 60 and all(len(line.fields["forwarded"]) <= 200 for line in lines)  # type: ignore[attr-defined]
    web.pending.close()
