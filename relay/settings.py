"""The relay's settings, each once: flag, environment name, default, meaning."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from common.secret import Secret
from common.settings import ProgramSettings, bearer_token, setting
from common.signing import SigningKeys
from relay.addresses import is_loopback, networks


def queue_url(url: str) -> None:
    """Raise ValueError for a URL that no engine of ours will ever open."""
    if url.startswith(("postgresql://", "postgres://")):
        if not find_spec("psycopg"):
            raise ValueError("names PostgreSQL, which needs: pip install 'signal-executor[postgres]'")
    elif not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
        raise ValueError("must be sqlite:///FILE or postgresql://HOST/DATABASE")


def _signing_keys(secret: Secret) -> None:
    SigningKeys.parse(",".join(secret.items()))


@dataclass(frozen=True, kw_only=True)
class RelaySettings(ProgramSettings):
    """Every setting of `python -m relay`."""

    env_prefix = "RELAY_"

    host: str = setting("127.0.0.1", help="Address to listen on.")
    port: int = setting(
        8080, help="Port to listen on; 0 takes a free one.", minimum=0, maximum=65535, also_env=("PORT",)
    )
    listen_fd: int | None = setting(
        None,
        help="An inherited listening socket instead of host and port: 3 under a systemd socket unit, which keeps "
        "senders waiting during a restart.",
        minimum=3,
    )
    queue_url: str = setting(
        "sqlite:///pending.db",
        help="The pending queue: sqlite:///FILE or postgresql://…",
        check=queue_url,
        secret=True,
    )
    webhook_secrets: Secret = setting(help="What senders present, a list, newest first.")
    sender_signing_secrets: Secret | None = setting(
        None, help="whsec_… keys of senders that sign, a list, newest first.", check=_signing_keys
    )
    signing_secrets: Secret = setting(
        help="whsec_… keys shared with the executor, a list, newest first.", check=_signing_keys
    )
    executor_tokens: Secret = setting(help="Bearer tokens of the executor, a list, newest first.", check=bearer_token)
    signal_validity_seconds: float = setting(
        90.0, help="How long an entry stays fresh after it was received.", minimum=1, maximum=86400
    )
    max_depth: int = setting(100_000, help="How many signals may wait; beyond that, senders get 503.", minimum=1)
    allowed_addresses: tuple[str, ...] = setting(
        (),
        help='Addresses or ranges that may post alerts, or "tradingview"; empty allows all. '
        "A filter in addition to the secret, never instead of it.",
        check=networks,
    )
    proxy_hops: int | None = setting(
        None,
        help="Proxies in front of the relay that add to X-Forwarded-For; 0 if senders connect directly.",
        minimum=0,
        maximum=10,
    )
    trusted_proxies: tuple[str, ...] = setting(
        ("near",),
        help='From which addresses a proxy is believed; "near" is this machine and private networks.',
        check=networks,
    )
    executor_silent_seconds: float = setting(
        120.0,
        help="After this long without a poll the executor counts as away; polls end within half of it.",
        minimum=15,
    )
    alarm_urls: Secret | None = setting(None, help="Apprise URLs to notify when the executor is away, a list.")
    longest_wait_seconds: float = setting(
        55.0,
        help="The longest a poll may wait, whatever the executor asks for.",
        minimum=1,
        maximum=55,
    )
    threads: int = setting(
        64,
        help="Other requests handled at the same time; alerts and the executor's calls need no thread.",
        minimum=20,
        maximum=1000,
    )
    log_json: bool = setting(False, help="Write the log as JSON lines.")

    @property
    def longest_poll_seconds(self) -> float:
        """Return how long a poll may last: an executor that polls must not seem to be away."""
        return min(self.longest_wait_seconds, self.executor_silent_seconds / 2)

    def problems(self) -> list[str]:
        """Return what would make the address filter see the wrong addresses."""
        allowed = networks(self.allowed_addresses)
        if not allowed:
            return []
        if self.proxy_hops is None:
            return [
                "--proxy-hops / RELAY_PROXY_HOPS must be set when RELAY_ALLOWED_ADDRESSES is: "
                "0 if senders connect directly, 1 behind one proxy such as Caddy"
            ]
        if self.proxy_hops == 0 and is_loopback(self.host) and not any(net.is_loopback for net in allowed):
            return [
                f"--allowed-addresses lets nobody in: {self.host} can be reached only from this machine, and "
                "RELAY_PROXY_HOPS is 0; set it to the number of proxies"
            ]
        return []
