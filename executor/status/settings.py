"""How the page is set up."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote

from common.version import VERSION


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
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"http://{host}:{self.port}/"

    @property
    def login_link(self) -> str:
        """The address to click: with the login token where one is asked for. Print it once, never log it."""
        if self.is_local or not self.login_token:
            return self.address
        return f"{self.address}login?token={quote(self.login_token, safe='')}"
