"""Who may see the page and press its buttons: Host check, login, CSRF token, guesses counted, strict headers."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from collections import deque
from ipaddress import ip_address

from flask import Response, request

from common.clock import Clock
from common.signing import same_secret

from .refusals import Refusal
from .settings import PageSettings

GUESSES, GUESS_WINDOW = 10, 60.0  # wrong logins from one address within so many seconds
_MOST_ADDRESSES = 1000
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'{styles}; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def content_policy(has_own_templates: bool) -> str:
    """Return the Content-Security-Policy: nothing from outside, no inline script.

    The owner's own template may carry inline styles, which cannot act; its scripts are files under /static.
    """
    return _CSP.format(styles=" 'unsafe-inline'" if has_own_templates else "")


class Guard:
    """The checks that every request passes, in this order: host, guesses, login, CSRF token."""

    def __init__(self, settings: PageSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._names = _known_names(settings)
        self._wrong: dict[str, deque[float]] = {}
        self.cookie = f"page_{settings.port}"  # cookies are shared by all ports of a host

    @property
    def session(self) -> str:
        """What the cookie of a logged-in browser holds; it ends when the login token is changed."""
        token = self._settings.login_token or ""
        return hmac.new(token.encode(), b"status page session 1", hashlib.sha256).hexdigest()

    @property
    def csrf_token(self) -> str:
        """The token that every form carries; known only to who may see the page, new at each start."""
        return hmac.new(self._key, self.session.encode(), hashlib.sha256).hexdigest()

    def check_host(self) -> None:
        """Refuse a request under a name that is not ours: another site's name that points here (DNS rebinding).

        Raises:
            Refusal: 421 unknown-host.
        """
        if not self._is_ours(_host_name(request.host)):
            raise Refusal(
                421,
                "unknown-host",
                "This page does not answer to that name",
                f"open it as {self._settings.address}, or allow this name with EXECUTOR_PAGE_HOSTS",
            )

    def check_login(self) -> None:
        """Refuse who is not logged in, where a login is asked for.

        Raises:
            Refusal: 401 login-required, or 429 too-many-guesses.
        """
        if self._settings.is_local or self.is_logged_in():
            return
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer and self.is_login(bearer):
            return
        raise Refusal(401, "login-required", "Please log in",
                      "open the link that the executor printed when it started, or enter its login token")  # fmt: skip

    def is_logged_in(self) -> bool:
        return same_secret(request.cookies.get(self.cookie, ""), [self.session])

    def is_login(self, token: str) -> bool:
        """True if a login token is right; a wrong one counts as a guess.

        Raises:
            Refusal: 429: this address guessed too often; it is not even compared.
        """
        wrong = self._guesses(request.remote_addr or "")
        if len(wrong) >= GUESSES:
            raise Refusal(
                429,
                "too-many-guesses",
                "Too many wrong logins",
                f"wait {GUESS_WINDOW:g} seconds, then log in with the right token",
                retry_after=int(GUESS_WINDOW),
            )
        right = same_secret(token, [self._settings.login_token or secrets.token_hex()])
        if not right:
            wrong.append(self._clock.monotonic())
        return right

    def check_csrf(self) -> None:
        """Refuse a POST that does not come from a page of ours.

        Raises:
            Refusal: 403 csrf.
        """
        said = request.form.get("csrf_token") or request.headers.get("X-CSRF-Token", "")
        if not same_secret(said, [self.csrf_token]):
            raise Refusal(
                403,
                "csrf",
                "This button is from an old page",
                "reload the page and press it again: the executor has been restarted since",
            )

    def log_in(self, response: Response) -> None:
        """Let the browser keep the session; not readable by scripts, not sent by other sites' requests."""
        response.set_cookie(self.cookie, self.session, max_age=30 * 86400, httponly=True, samesite="Lax",
                            secure=request.is_secure)  # fmt: skip

    def _is_ours(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            address = ip_address(name.strip("[]"))
        except ValueError:  # a name, and none of ours
            return False
        return address.is_loopback or not self._settings.is_local  # a number cannot be rebound by anybody's DNS

    def _guesses(self, address: str) -> deque[float]:
        """Return the times of this address's recent wrong logins; memory stays bounded."""
        if len(self._wrong) >= _MOST_ADDRESSES and address not in self._wrong:
            self._wrong.pop(next(iter(self._wrong)))
        wrong = self._wrong.setdefault(address, deque(maxlen=GUESSES))
        while wrong and self._clock.monotonic() - wrong[0] > GUESS_WINDOW:
            wrong.popleft()
        return wrong


def _known_names(settings: PageSettings) -> frozenset[str]:
    names = {"localhost", settings.host.lower(), *(name.lower() for name in settings.hosts)}
    if not settings.is_local:
        machine = socket.gethostname().lower()
        names |= {machine, f"{machine}.local", machine.split(".")[0]}
    return frozenset(names - {""})


def _host_name(host: str) -> str:
    """Return a Host header without its port.

    >>> _host_name("LOCALHOST:5001"), _host_name("[::1]:5001"), _host_name("10.0.0.2")
    ('localhost', '[::1]', '10.0.0.2')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host.lower()
