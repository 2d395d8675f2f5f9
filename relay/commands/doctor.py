"""`python -m relay doctor`: everything a newcomer gets wrong on the relay's side, each with the fix.

Run it where the relay runs, in the same directory and environment. It changes nothing, save that the queue is
proved by one durable write of its own.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import secrets
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import click

from common.checkup import (
    Finding,
    State,
    answers,
    certificate,
    channels_of,
    loaded,
    not_checked,
    ok,
    port_is_free,
    secrets_of,
    tell,
    wrong,
)
from common.clock import SystemClock
from common.errors import QueueError
from common.settings import click_options, setting
from common.signing import SigningKeys, proof_of, proofs
from relay.pending import open_pending
from relay.pending.base import Pending, Stats
from relay.settings import RelaySettings

_SECONDS = 5.0
DOCUMENT_TITLE = "Signal relay"  # of /openapi.json, by which a relay is known
_UNSYNCHRONISED = 5  # source: adjtimex(2), TIME_ERROR
_TIMEX_BYTES = 512  # more than struct timex has; all zero asks and sets nothing
_SECRETS = ("webhook_secrets", "sender_signing_secrets", "signing_secrets", "executor_tokens")


def _public(url: str) -> None:
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError for what is no port
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"must be an address like https://relay.example.com, was {url[:80]!r}")


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(RelaySettings):
    """The relay's settings, and where the world sees it."""

    public_url: str | None = setting(None, help="The relay's public address, to check it as well.", check=_public)


@click.command()
@click_options(DoctorSettings)
def doctor(**flags: Any) -> None:
    """Check settings, port, queue, clock and TLS, and report how to fix what is wrong.

    Ends with 0 when nothing is wrong, else with 1.
    """
    tell(findings(flags))


def findings(flags: Mapping[str, Any]) -> Iterator[Finding]:
    """Check one thing after the other."""
    settings = yield from loaded(lambda: DoctorSettings.load(flags))
    if settings is None:
        return
    yield from secrets_of(settings, _SECRETS)
    yield _port(settings)
    yield from _queue(settings)
    yield channels_of("RELAY_ALARM_URLS", settings.alarm_urls, "nobody hears when the executor is away")
    yield _clock()
    yield from _outside(settings)


# --- here -------------------------------------------------------------------------------------------


def _port(settings: DoctorSettings) -> Finding:
    what, where = "port", f"{settings.host} port {settings.port}"
    another = "stop that program, or choose another port (--port / RELAY_PORT)"
    try:
        if port_is_free(settings.host, settings.port):
            return ok(what, f"{where} is free; the relay is not running")
    except OSError as exc:
        return wrong(what, f"{where} cannot be listened on: {exc.strerror}", "choose another --host or --port")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - asked, not bound
    return _is_ours(what, settings, http.client.HTTPConnection(host, settings.port, timeout=_SECONDS), where, another)


def _is_ours(
    what: str, settings: DoctorSettings, connection: http.client.HTTPConnection, where: str, remedy: str
) -> Finding:
    """Check whether the listener there is a relay with these secrets. None is sent: it must prove that it has them."""
    challenge = secrets.token_hex(16)
    try:
        status, value = _get(connection, "/openapi.json")
        if _title(value) != DOCUMENT_TITLE:
            return wrong(what, f"{where} is used by a program that is not a relay (it answered {status})", remedy)
        status, value = _get(connection, f"/v1/proof/{challenge}")
    except (OSError, http.client.HTTPException) as exc:
        return wrong(what, f"{where} is used by a program that is not a relay ({type(exc).__name__})", remedy)
    if status != 200 or not all(isinstance(value.get(name), list) for name in ("signing_keys", "executor_tokens")):
        return wrong(what, f"the relay at {where} is a different version (it answered {status})", "upgrade it")
    keys = SigningKeys.parse(",".join(settings.signing_secrets.items()))
    if value["signing_keys"] != proofs(keys, challenge):
        return wrong(what, f"the relay at {where} runs with a different RELAY_SIGNING_SECRETS", _REMEDY_ANOTHER)
    if value["executor_tokens"] != [proof_of(token, keys, challenge) for token in settings.executor_tokens.items()]:
        return wrong(what, f"the relay at {where} runs with a different RELAY_EXECUTOR_TOKENS", _REMEDY_ANOTHER)
    return ok(what, f"{where} answers, and signs with {_list(keys.fingerprints())}")


_REMEDY_ANOTHER = "restart it, or run the doctor with its environment and in its directory"


def _title(document: Mapping[str, Any]) -> object:
    info = document.get("info")
    return info.get("title") if isinstance(info, dict) else None


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, dict[str, Any]]:
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(100_000)
    finally:
        connection.close()
    try:
        value = json.loads(body)
    except ValueError:  # no JSON: some other program
        value = None
    return answer.status, value if isinstance(value, dict) else {}


_FILE_REMEDY = (
    "the file must be the relay's own, its folder exist on a disk with room, and the relay's user be able to write both; "
    "else restore it from a backup, or name another (RELAY_QUEUE_URL)"
)
_SERVER_REMEDY = "start the database, or correct RELAY_QUEUE_URL; the relay's user must be able to write there"


def _queue(settings: DoctorSettings) -> Iterator[Finding]:
    pending = open_pending(settings.queue_url, max_depth=settings.max_depth)
    try:
        ready = pending.ready()
        yield ok("queue", f"{ready.engine} accepts durable writes ({ready.detail}; wake-ups: {ready.wakeups})")
        yield from _waiting(settings, pending)
    except QueueError as exc:
        yield wrong("queue", exc.message, _FILE_REMEDY if settings.queue_url.startswith("sqlite") else _SERVER_REMEDY)
        yield not_checked("queue depth, executor", "the queue cannot be reached")
    finally:
        pending.close()


def _waiting(settings: DoctorSettings, pending: Pending) -> Iterator[Finding]:
    now = SystemClock().now()
    stats = pending.stats(now)
    yield _depth(settings, stats)
    if stats.dead:
        found = f"{stats.dead} signals were given up after five leases"
        yield wrong("dead letters", found, "python -m relay dead, then requeue ID or purge --dead")
    if stats.mode != "open":
        yield wrong("delivery", f"is switched to {stats.mode}", "python -m relay resume")
    yield _executor(settings, stats, now)


def _executor(settings: DoctorSettings, stats: Stats, now: datetime) -> Finding:
    if stats.last_poll_at is None:
        return not_checked("executor", "none has polled yet")
    seconds = max(0.0, (now - stats.last_poll_at).total_seconds())
    found = f"polled {seconds:.0f} s ago"
    if seconds <= settings.executor_silent_seconds:
        return ok("executor", found)
    return wrong("executor", found, "on its machine: python -m executor doctor")


def _depth(settings: DoctorSettings, stats: Stats) -> Finding:
    found = f"{stats.depth} signals waiting, {stats.leased} of them leased; the limit is {settings.max_depth}"
    if stats.depth < settings.max_depth:
        return ok("queue depth", found)
    return wrong("queue depth", found, "start the executor, or python -m relay purge --pending")


def _clock() -> Finding:
    """Ask the kernel whether its clock is kept by a time server."""
    state = _kernel_clock()
    if state is None:
        return not_checked("clock", "this system does not report it; the executor's doctor compares both ends")
    if state == _UNSYNCHRONISED:
        found = "the kernel reports no time server (sudo timedatectl set-ntp true); the executor's "
        return not_checked("clock", f"{found}doctor compares both ends")
    return ok("clock", "synchronised with a time server")


def _kernel_clock() -> int | None:
    """Return what adjtimex(2) says, or None where there is no such thing."""
    if sys.platform != "linux":
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else int(state)


# --- from outside -----------------------------------------------------------------------------------


def _outside(settings: DoctorSettings) -> Iterator[Finding]:
    url = settings.public_url
    if url is None:
        yield not_checked("TLS, public address", "give --public-url https://relay.example.com")
        return
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 443
    if port != 443:
        found = f"{url} uses another port, and TradingView reaches only 80 and 443"
        yield wrong("public port", found, "let the web server listen on 443")
    if why := _unreachable(host, port):
        remedy = "point the name's A record (TradingView supports only IPv4) here, and open port 443 in every firewall"
        yield wrong("public address", why, remedy)
        yield not_checked("TLS", "the address does not answer")
        return
    tls = certificate(url, SystemClock().now())
    yield tls
    if tls.state is State.WRONG:
        yield not_checked("public address", "fix the certificate first")
        return
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    remedy = "let the web server forward everything to the relay (deploy/vps/Caddyfile)"
    yield _is_ours("public address", settings, connection, url, remedy)


def _unreachable(host: str, port: int) -> str:
    """Return why senders cannot reach an address by IPv4; "" where they can, as seen from here."""
    try:
        socket.getaddrinfo(host, port, socket.AF_INET)
    except OSError:
        return f"{host} has no IPv4 address"
    return "" if answers(host, port, _SECONDS) else f"{host} port {port} does not answer"


def _list(fingerprints: list[str]) -> str:
    return ", ".join(fingerprints)
