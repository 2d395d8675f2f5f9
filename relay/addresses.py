"""Where a request comes from, told by nobody who is not believed; and who may post at all."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from relay.settings import Network, RelaySettings, networks

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def is_within(address: str, allowed: Iterable[Network]) -> bool:
    """Tell whether an address lies in one of the networks; what is no address lies in none.

    >>> is_within("::ffff:52.89.214.238", networks(("tradingview",)))
    True
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found.version == network.version and found in network for network in allowed)


def behind_proxies(app: WSGIApplication, settings: RelaySettings) -> WSGIApplication:
    """Return the app with REMOTE_ADDR set to the sender's address, as the configured proxies tell it.

    The right-most `proxy_hops` entries of X-Forwarded-For were added by our own proxies; the one before
    them is the sender. A peer that is no trusted proxy, or a header with too few entries, changes nothing.
    """
    hops, trusted = settings.proxy_hops or 0, networks(settings.trusted_proxies)
    if not hops:
        return app
    told = ProxyFix(app, x_for=hops, x_proto=0, x_host=0, x_port=0, x_prefix=0)

    def by_peer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        believed = is_within(environ.get("REMOTE_ADDR", ""), trusted)
        return told(environ, start) if believed else app(environ, start)

    return by_peer
