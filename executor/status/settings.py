"""How the page is set up."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote

from common.version import VERSION

# by which of its addresses a machine reaches the world, and private networks where it has no way out
_FAR = (
    (socket.AF_INET, "192.0.2.1"), (socket.AF_INET, "10.255.255.254"), (socket.AF_INET, "172.31.255.254"),
    (socket.AF_INET, "192.168.255.254"), (socket.AF_INET6, "2001:db8::1"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What the page needs to know; the executor's settings fill it.

    `login_token` is required for an address that is not loopback, and not asked for on loopback.
    `hosts` are further names under which browsers reach the page (behind a proxy, or by a name in the house).
    """

    host: str = "127.0.0.1"
    port: int = 5001
    login_token: str | None = None
    templates: str | None = None  # a folder whose index.html wins over the built-in one
    relay_url: str = ""
    version: str = VERSION
    hosts: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach the page."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:  # a name, which may lead anywhere
            return False

    @property
    def address(self) -> str:
        """The page's address, for a person on this machine."""
        return self._address_of({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))  # noqa: S104 - compared, not bound

    @property
    def login_link(self) -> str:
        """The address to click: with the login token where one is asked for. Print it once, never log it."""
        return self._link(self.address)

    @property
    def links_from_outside(self) -> list[str]:
        """The same for a phone, where the page listens on every address: one for each that this machine has."""
        if self.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            return []
        return [self._link(self._address_of(each)) for each in own_addresses() if self.host == "::" or ":" not in each]

    def _address_of(self, host: str) -> str:
        return f"http://[{host.strip('[]')}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def _link(self, address: str) -> str:
        if self.is_local or not self.login_token:
            return address
        return f"{address}login?token={quote(self.login_token, safe='')}"


def own_addresses() -> list[str]:
    """Return the addresses under which other devices reach this machine, as far as its routes tell; it sends nothing.

    A datagram socket that is connected asks the system only which of its addresses it would send from.
    """
    found: list[str] = []
    for family, target in _FAR:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            address = str(probe.getsockname()[0])
            if not ip_address(address).is_loopback and address not in found:
                found.append(address)
    return found
