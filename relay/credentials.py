"""Who may send and who may fetch: the relay's secrets in force, each replaceable without a gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Generic, TypeVar

from common.clock import Clock
from common.errors import UnauthenticSignal
from common.logs import get_logger, never_log
from common.secret import Rotating, Secret
from common.signing import SigningKeys, same_secret, verify
from relay.failures import LineLimit
from relay.settings import RelaySettings

log = get_logger(__name__)
T = TypeVar("T")


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
        """Tell whether this is one of the senders' secrets."""
        return secret is not None and same_secret(secret, self._senders.now())

    def is_executor(self, token: str | None) -> bool:
        """Tell whether this is one of the executor's tokens."""
        return token is not None and same_secret(token, self._executors.now())

    def has_signed(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        """Tell whether a sender's signature fits these bytes and is at most 5 minutes old."""
        if self._signers is None or "webhook-signature" not in headers:
            return False
        try:
            verify(self._signers.now(), headers, body, now=now)
        except UnauthenticSignal as exc:
            if self._lines.allows(self._clock.monotonic()):
                log.info("signature_refused", reason=exc.message)
            return False
        return True

    def signing_keys(self) -> SigningKeys:
        """Return the keys that every accepted signal is signed with."""
        return self._signing.now()
