"""The names of every setting in the environment, of both programs.

They share one `.env`, and neither may import the other: with this list each can tell the other's names from typos.
A test compares it with what the programs declare.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

_SECRET = {
    "RELAY_": ("QUEUE_URL", "WEBHOOK_SECRETS", "SENDER_SIGNING_SECRETS", "SIGNING_SECRETS", "EXECUTOR_TOKENS",
               "ALARM_URLS"),
    "EXECUTOR_": ("RELAY_TOKEN", "SIGNING_SECRETS", "PAGE_TOKEN", "NOTIFY_URLS", "HEARTBEAT_URL"),
}  # fmt: skip
_PLAIN = {
    "RELAY_": ("HOST", "PORT", "LISTEN_FD", "SIGNAL_VALIDITY_SECONDS", "MAX_DEPTH", "ALLOWED_ADDRESSES",
               "PROXY_HOPS", "TRUSTED_PROXIES", "EXECUTOR_SILENT_SECONDS", "LONGEST_WAIT_SECONDS", "THREADS",
               "LOG_JSON", "URL", "PUBLIC_URL"),
    "EXECUTOR_": ("RELAY_URL", "RELAY_CA", "IB_HOST", "IB_PORT", "IB_CLIENT_ID", "ACCOUNT", "PAPER", "DB",
                  "FLASK_HOST", "FLASK_PORT", "PAGE_HOSTS", "TEMPLATES", "CONFIG", "SIGNAL_VALIDITY_SECONDS",
                  "LOG_JSON"),
}  # fmt: skip
PREFIXES = tuple(_SECRET)
NAMES = frozenset(
    [prefix + name for table in (_SECRET, _PLAIN) for prefix, names in table.items() for name in names]
    + [f"{prefix}{name}_FILE" for prefix, names in _SECRET.items() for name in names]
)
_NEAR = 0.85  # how alike a name that lacks our prefixes must be to one of ours to be taken for it


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that was most likely meant, if any: without its prefix, or with a slip.

    >>> nearest("EXECUTOR_IB_PROT", NAMES), nearest("IB_PORT", NAMES), nearest("relay-port", NAMES)
    ('EXECUTOR_IB_PORT', 'EXECUTOR_IB_PORT', 'RELAY_PORT')
    """
    upper = name.upper()
    whole = [each for each in sorted(known) if "_" in name and each.endswith(f"_{upper}")]
    return next(iter(whole or difflib.get_close_matches(upper.replace("-", "_"), sorted(known), 1)), None)


def is_meant(name: str, known: Collection[str]) -> bool:
    """True if a name in our own `.env` can only be meant for one of the programs.

    >>> [is_meant(name, NAMES) for name in ("RELAY_PROT", "EXECUTER_IB_PORT", "IB_PORT", "TZ", "DOMAIN")]
    [True, True, True, False, False]
    """
    found = nearest(name, known)
    if found is None:
        return False
    alike = difflib.SequenceMatcher(None, name.upper(), found).ratio()
    return alike >= _NEAR or found.endswith(f"_{name.upper()}")
