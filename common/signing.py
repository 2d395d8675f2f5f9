"""Standard Webhooks signatures, version v1, and the project's one comparison of secrets.

Source: the Standard Webhooks specification 1.0.0. A key list is ordered newest first; everything is
signed with every key and accepted under any, so that a key can be replaced without a gap.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from common.errors import ConfigError, StaleSignal, UnauthenticSignal

PREFIX = "whsec_"
SHORTEST_KEY, LONGEST_KEY, MOST_SIGNATURES = 24, 64, 16
_ID = re.compile(r"[!-+/-~\-]{1,128}", re.ASCII)  # visible, no dot (it separates), no comma (two headers joined)
_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,11}", re.ASCII)
_SIGNATURE = re.compile(r"[a-z0-9]{1,8},[A-Za-z0-9+/]{1,128}={0,2}", re.ASCII)
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


class SigningKeys:
    """One or more signing keys, newest first."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = tuple(keys)
        self._primed = tuple(hmac.new(key, digestmod=hashlib.sha256) for key in self._keys)

    @classmethod
    def parse(cls, text: str) -> SigningKeys:
        """Return the keys of a comma-separated list `whsec_…,whsec_…`.

        Raises:
            ConfigError: There is none, or one is not 24 to 64 base64-encoded bytes after "whsec_". The
                problems never show a key, only its place in the list.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        problems = [] if parts else [f"no signing key; make one with: {_RECIPE}"]
        keys = []
        for place, part in enumerate(parts, 1):
            try:
                keys.append(_key(part))
            except ValueError as exc:
                problems.append(f"signing key {place} of {len(parts)} {exc}; make one with: {_RECIPE}")
        if problems:
            raise ConfigError(problems)
        return cls(keys)

    def fingerprints(self) -> list[str]:
        """Return 8 hexadecimal digits for each key, safe to log, the same on both ends."""
        return [hashlib.sha256(b"signal key " + key).hexdigest()[:8] for key in self._keys]

    def signatures(self, content: bytes) -> list[bytes]:
        """Return the HMAC-SHA256 of content under every key, newest first."""
        found = []
        for primed in self._primed:
            mac = primed.copy()
            mac.update(content)
            found.append(mac.digest())
        return found

    def __repr__(self) -> str:
        return f"SigningKeys({', '.join(self.fingerprints())})"


_RECIPE = "python -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\""


def _key(text: str) -> bytes:
    if not text.startswith(PREFIX):
        raise ValueError(f'must begin with "{PREFIX}"')
    encoded = text[len(PREFIX) :].rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f'must be base64 after "{PREFIX}"') from None
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(f"must be {SHORTEST_KEY} to {LONGEST_KEY} bytes, was {len(key)}")
    return key


def sign(keys: SigningKeys, id: str, timestamp: int, payload: str | bytes) -> dict[str, str]:
    """Return the three webhook headers for a payload: one v1 signature for every key.

    Raises:
        ValueError: The id holds a dot, a comma or anything invisible: its signature could be moved.
    """
    if not _ID.fullmatch(id) or not _TIMESTAMP.fullmatch(str(timestamp)):
        raise ValueError(f"cannot sign the id {id[:40]!r} at {timestamp}: 1 to 128 visible ASCII characters, no . ,")
    found = keys.signatures(_content(id, str(timestamp), payload))
    signatures = " ".join("v1," + base64.b64encode(one).decode() for one in found)
    return dict(zip(HEADERS, (id, str(timestamp), signatures), strict=True))


def verify(
    keys: SigningKeys,
    headers: Mapping[str, str],
    payload: bytes | str,
    *,
    now: datetime | None = None,
    tolerance_seconds: float = 300,
) -> str:
    """Return the id of a payload that somebody with one of the keys signed.

    The signature is checked first, then the age; with `now` None any age will do. That the id was not
    seen before is for the caller to check.

    Raises:
        UnauthenticSignal: A header is missing, doubled or out of form, or no signature matches.
        StaleSignal: The signature is right and its timestamp is off by more than the tolerance.
            These two are all that is raised, whatever the bytes.
    """
    id, timestamp, signature = _headers(headers)
    if isinstance(payload, str):
        payload = payload.encode("utf-8", "surrogatepass")
    expected = keys.signatures(_content(id, timestamp, payload))
    if not same_secret_any(_v1_signatures(signature), expected):
        raise UnauthenticSignal("no signature matches; compare the key fingerprints of both ends")
    if now is not None and abs(now.timestamp() - int(timestamp)) > tolerance_seconds:
        raise StaleSignal(f"signed at {timestamp}, more than {tolerance_seconds:g} s from now; set the clock")
    return id


def proofs(keys: SigningKeys, challenge: str) -> list[str]:
    """Return, newest key first, what only who has a key can answer a challenge with; the challenger makes a new one each time.

    It tells nothing of a key, and is no signature of any signal: what is signed there begins with an id, without blanks.
    """
    return [found.hex() for found in keys.signatures(f"proof {challenge}".encode())]


def proof_of(token: str, keys: SigningKeys, challenge: str) -> str:
    """Return what only who has a token and the newest of the keys can answer a challenge with."""
    return proofs(keys, f"{challenge} of {_digest(token).hex()}")[0]


def same_secret(candidate: str | bytes, secrets: Iterable[str | bytes]) -> bool:
    """True if candidate is one of the secrets, in a time that does not reveal where they differ."""
    return same_secret_any([candidate], secrets)


def same_secret_any(candidates: Iterable[str | bytes], secrets: Iterable[str | bytes]) -> bool:
    """True if any candidate is one of the secrets; all are always compared."""
    known = [_digest(secret) for secret in secrets]
    found = False
    for candidate in map(_digest, candidates):
        for secret in known:
            found |= hmac.compare_digest(candidate, secret)
    return found


def _digest(secret: str | bytes) -> bytes:
    raw = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    return hashlib.sha256(raw).digest()


def _content(id: str, timestamp: str, payload: str | bytes) -> bytes:
    raw = payload.encode("utf-8") if isinstance(payload, str) else payload
    return b"%s.%s.%s" % (id.encode("ascii"), timestamp.encode("ascii"), raw)


def _headers(headers: Mapping[str, str]) -> tuple[str, str, str]:
    found = {str(name).lower(): value for name, value in headers.items()}
    id, timestamp, signature = (found.get(name) for name in HEADERS)
    if not (isinstance(id, str) and isinstance(timestamp, str) and isinstance(signature, str)):
        raise UnauthenticSignal(f"needs the headers {', '.join(HEADERS)}")
    if not _ID.fullmatch(id) or not _TIMESTAMP.fullmatch(timestamp):
        raise UnauthenticSignal("webhook-id or webhook-timestamp is malformed, or present twice")
    return id, timestamp, signature


def _v1_signatures(text: str) -> list[bytes]:
    parts = text.split(" ")
    if len(parts) > MOST_SIGNATURES or not all(map(_SIGNATURE.fullmatch, parts)):
        raise UnauthenticSignal("webhook-signature must be a list like: v1,<base64> v1,<base64>")
    try:
        return [base64.b64decode(part[3:], validate=True) for part in parts if part.startswith("v1,")]
    except (binascii.Error, ValueError):
        raise UnauthenticSignal("a v1 signature is not base64") from None
