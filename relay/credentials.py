"""Who may send and who may fetch: the relay's secrets in force, each replaceable without a gap.

Wrong secrets are counted by address: a guesser is slowed down, a sender never is.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from threading import Lock
from typing import Generic, TypeVar

from common.clock import Clock
from common.errors import UnauthenticSignal
from common.logs import get_logger, never_log
from common.secret import Rotating, Secret
from common.signing import SigningKeys, proof_of, proofs, same_secret, verify
from relay.addresses import parse_address
from relay.settings import RelaySettings

log = get_logger(__name__)
T = TypeVar("T")
ALLOWED_FAILURES, WINDOW_SECONDS = 60, 60.0
MOST_ADDRESSES = 10_000  # beyond it the address not seen for longest is forgotten: memory stays flat


def _words(secret: Secret) -> tuple[bytes, ...]:
    return tuple(word.encode("utf-8") for word in secret.items())


def _keys(secret: Secret) -> SigningKeys:
    return SigningKeys.parse(",".join(secret.items()))


class _Ring(Generic[T]):
    """A list of secrets as it is in force now, parsed once for each time its file changes."""

    def __init__(self, name: str, secret: Secret, clock: Clock, parse: Callable[[Secret], T]) -> None:
        self._name, self._parse = name, parse
        self._rotating = Rotating(secret, clock.monotonic, check=parse)
        self._told: str | None = None
        self._text = secret
        self._value = self._take(secret)

    def now(self) -> T:
        text = self._rotating.current()
        if text is not self._text:
            before, self._value, self._text = self._text, self._take(text), text
            if text.items() != before.items():  # its file is read once more after the start
                log.info("secret_rotated", setting=self._name, entries=len(text.items()))
        if self._rotating.problem != self._told:
            self._told = self._rotating.problem
            if self._told:
                log.warning("secret_not_rotated", setting=self._name, problem=self._told)
        return self._value

    def _take(self, text: Secret) -> T:
        never_log(*text.items())
        return self._parse(text)


class Credentials:
    """All secrets of the relay. Nothing here remembers, logs or returns one."""

    def __init__(self, settings: RelaySettings, clock: Clock) -> None:
        self._clock, self._lines = clock, LineLimit()
        self._senders = _Ring("RELAY_WEBHOOK_SECRETS", settings.webhook_secrets, clock, _words)
        self._executors = _Ring("RELAY_EXECUTOR_TOKENS", settings.executor_tokens, clock, _words)
        self._signing = _Ring("RELAY_SIGNING_SECRETS", settings.signing_secrets, clock, _keys)
        signers = settings.sender_signing_secrets
        self._signers = _Ring("RELAY_SENDER_SIGNING_SECRETS", signers, clock, _keys) if signers else None

    def is_sender(self, secret: str | None) -> bool:
        """True if this is one of the senders' secrets."""
        return secret is not None and same_secret(secret, self._senders.now())

    def is_executor(self, token: str | None) -> bool:
        """True if this is one of the executor's tokens."""
        return token is not None and same_secret(token, self._executors.now())

    def has_signed(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        """True if a sender's signature fits these bytes and is at most 5 minutes old."""
        if self._signers is None or "webhook-signature" not in headers:
            return False
        try:
            verify(self._signers.now(), headers, body, now=now)
        except UnauthenticSignal as exc:
            if self._lines.allows(self._clock.monotonic()):
                log.info("signature_refused", reason=exc.message)
            return False
        return True

    def proven(self, challenge: str) -> dict[str, list[str]]:
        """Return proofs of the signing keys and of the executor's tokens, each newest first; see common.signing."""
        keys = self._signing.now()
        tokens = [proof_of(token.decode(), keys, challenge) for token in self._executors.now()]
        return {"signing_keys": proofs(keys, challenge), "executor_tokens": tokens}

    def signing_keys(self) -> SigningKeys:
        """Return the keys that every accepted signal is signed with."""
        return self._signing.now()


class FailureCounter:
    """Counts failures in a window of a minute that begins with an address's first."""

    def __init__(self, most: int = MOST_ADDRESSES) -> None:
        self._most = most
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # group -> (start, failures)
        self._lock = Lock()

    def add(self, address: str, now: float) -> tuple[int, int]:
        """Count one failure; return how many there are in the window, and after how many seconds to retry.

        The second number is 0 while the address is within its 60 a minute.
        """
        group = address_group(address)
        with self._lock:
            start, count = self._windows.pop(group, (now, 0))
            if now - start >= WINDOW_SECONDS:
                start, count = now, 0
            self._windows[group] = (start, count + 1)
            if len(self._windows) > self._most:
                self._windows.popitem(last=False)
        if count < ALLOWED_FAILURES:
            return count + 1, 0
        return count + 1, max(1, math.ceil(start + WINDOW_SECONDS - now))

    def __len__(self) -> int:
        return len(self._windows)


class LineLimit:
    """Lets at most so many log lines through a minute: a spray of requests fills no disk."""

    def __init__(self, most: int = 60) -> None:
        self._most, self._start, self._count = most, 0.0, 0

    def allows(self, now: float) -> bool:
        """Count one line; return whether it may be written. Two threads at once may let one more through."""
        if now - self._start >= WINDOW_SECONDS:
            self._start, self._count = now, 0
        self._count += 1
        return self._count <= self._most


def address_group(address: str) -> str:
    """Return what is counted as one sender: an IPv4 address, or an IPv6 network of one customer (/64).

    >>> address_group("2001:db8::1") == address_group("2001:db8::2"), address_group("::ffff:10.0.0.1")
    (True, '10.0.0.1')
    """
    found = parse_address(address)
    if found is None:  # all senders without an address are counted together
        return "unknown"
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
