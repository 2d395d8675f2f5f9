"""Networks and addresses: who may post, and where a request comes from, on nobody's word but our own proxies'."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

# Where TradingView sends from; source: TradingView support, "How to configure webhook alerts".
TRADINGVIEW = ("52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7")
# Peers that may speak for a sender when RELAY_PROXY_HOPS says that there is a proxy.
NEAR = ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
PRESETS = {"tradingview": TRADINGVIEW, "near": NEAR}
# An address as nginx, Azure, AWS and RFC 7239 write it: bare, with a port, in brackets, in quotes; IPv6 with a zone.
_WRITTEN = re.compile(
    r"""(?P<quote>"?)
    (?: (?P<with_port>[0-9.]{7,15}):[0-9]{1,5}
      | \[(?P<bracketed>[0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._~-]{1,64})?\](?::[0-9]{1,5})?
      | (?P<bare>[0-9A-Fa-f:.]{2,45})(?:%[0-9A-Za-z._~-]{1,64})? )
    (?P=quote)""",
    re.VERBOSE | re.ASCII,
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def networks(words: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks that addresses, CIDR ranges and preset names mean.

    >>> networks(("tradingview",))[0]
    IPv4Network('52.89.214.238/32')

    Raises:
        ValueError: One is neither.
    """
    found: list[Network] = []
    for word in words:
        for text in PRESETS.get(word.lower(), (word,)):
            try:
                found.append(ipaddress.ip_network(text))
            except ValueError:
                raise ValueError(
                    f"must be addresses, ranges like 10.0.0.0/8, or {', '.join(PRESETS)}, was {word[:40]!r}"
                ) from None
    return tuple(found)


def parse_address(text: str) -> Address | None:
    """Return the address in one of the forms that proxies write, None if there is none.

    >>> [str(parse_address(text)) for text in ("52.89.214.238:443", "[::ffff:10.0.0.1]:80", "fe80::1%eth0", '"')]
    ['52.89.214.238', '10.0.0.1', 'fe80::1', 'None']
    """
    found = _WRITTEN.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    try:
        address = ipaddress.ip_address(found["bare"] or found["with_port"] or found["bracketed"])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_within(address: str, allowed: Iterable[Network]) -> bool:
    """Return True if an address lies in one of the networks; what is no address lies in none.

    >>> is_within("::ffff:52.89.214.238", networks(("tradingview",)))
    True
    """
    found = parse_address(address)
    return found is not None and any(found.version == network.version and found in network for network in allowed)


def is_loopback(host: str) -> bool:
    """Return True if this machine alone reaches a host that a program listens on."""
    found = parse_address(host)
    return host == "localhost" if found is None else found.is_loopback


class Proxies:
    """Our own proxies: how many there are, and from which addresses they are believed."""

    def __init__(self, hops: int, trusted: Iterable[Network]) -> None:
        self._hops, self._trusted = hops, tuple(trusted)

    def sender(self, peer: str, forwarded: str | None) -> str:
        """Return the sender's address, "" if our proxies did not say it in a form that can be read.

        The right-most `hops` entries of X-Forwarded-For were added by our own proxies; the first of these is the
        sender. A peer that is no trusted proxy speaks for nobody, and a request without the header is its own.
        """
        if not self._hops or forwarded is None or not is_within(peer, self._trusted):
            return peer
        entries = forwarded.split(",")
        found = parse_address(entries[-self._hops]) if len(entries) >= self._hops else None
        return str(found) if found else ""
