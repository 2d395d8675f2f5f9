"""Whose word on the sender's address is believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.addresses import Proxies, networks
from relay.settings import RelaySettings
from tests.relay.examples import ENVIRONMENT

SENDER, NEAR, PROXY, STRANGER = "52.89.214.238", "172.17.0.1", "198.51.100.7", "203.0.113.9"


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
