"""What a doctor finds: one line for each check, with the fix if something is wrong."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

import click

from common.errors import ConfigError
from common.secret import Secret
from common.settings import ProgramSettings

T = TypeVar("T")
DAYS_WANTED = 14  # certificates are renewed 30 days before their end; 14 left means that renewing fails
SKEW_SECONDS = 2.0
SHORTEST_SECRET = 16
_SECONDS = 5.0


class State(StrEnum):
    """What was found."""

    OK = "ok"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do if that is wrong."""

    state: State
    what: str
    found: str
    remedy: str = ""


def ok(what: str, found: str) -> Finding:
    return Finding(State.OK, what, found)


def wrong(what: str, found: str, remedy: str) -> Finding:
    return Finding(State.WRONG, what, found, remedy)


def not_checked(what: str, why: str) -> Finding:
    return Finding(State.NOT_CHECKED, what, why)


def tell(findings: Iterable[Finding]) -> NoReturn:
    """Print each finding as it comes, then the totals; end the program with 0 when nothing is wrong, else with 1."""
    count = dict.fromkeys(State, 0)
    for each in findings:
        count[each.state] += 1
        click.echo(f"{each.state:<11}  {each.what}: {each.found}")
        if each.remedy:
            click.echo(f"{'':<11}  fix: {each.remedy}")
    click.echo(", ".join(f"{number} {state}" for state, number in count.items()))
    sys.exit(1 if count[State.WRONG] else 0)


# --- what both programs have ------------------------------------------------------------------------


def loaded(load: Callable[[], T]) -> Generator[Finding, None, T | None]:
    """Check the settings: return what `load` returns, or None where they are wrong and nothing else can be checked."""
    try:
        found = load()
    except ConfigError as exc:
        for problem in exc.problems:
            yield Finding(State.WRONG, "settings", problem)
        yield not_checked("everything else", "fix the settings first")
        return None
    yield ok("settings", "complete and valid")
    return found


def secrets_of(settings: ProgramSettings, names: Iterable[str]) -> Iterable[Finding]:
    """Check secrets: long enough, no two alike, and their files closed to other users."""
    seen: dict[str, str] = {}
    problems = []
    for name in names:
        secret = getattr(settings, name)
        variable = settings.env_prefix + name.upper()
        for item in secret.items() if secret else ():
            if len(item) < SHORTEST_SECRET:
                problems.append(f"an entry of {variable} has fewer than {SHORTEST_SECRET} characters")
            if seen.setdefault(item, variable) != variable:
                problems.append(f"{variable} and {seen[item]} have the same value")
    if problems:
        yield wrong(
            "secrets", "; ".join(problems), "generate each one again, long and random; .env.example has the command"
        )
    else:
        yield ok("secrets", "long enough, and no two alike")
    yield _closed(settings)


def _closed(settings: ProgramSettings) -> Finding:
    what = "secret files"
    files = {each.file for each in vars(settings).values() if isinstance(each, Secret) and each.file}
    env = Path.cwd() / ".env"
    files |= {env} if env.is_file() else set()
    if os.name != "posix":
        return not_checked(what, "file permissions are not checked on this system")
    if open_to_others := sorted(str(file) for file in files if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)):
        names = " ".join(open_to_others)
        return wrong(what, f"other users may read {names}", f"chmod 600 {names}")
    return ok(what, f"{len(files)} files, readable by their owner only" if files else "none in use")


def channels_of(name: str, urls: Secret | None, without: str) -> Finding:
    """Check that each address of an alarm channel is one that Apprise can make something of; nothing is sent.

    Args:
        without: What happens where there are none.
    """
    what = "alarms"
    if not urls:
        return not_checked(what, f"none are sent: {name} is not set, so {without}")
    import apprise  # here: its many plugins cost time

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it writes addresses, and so their secrets
    places = [str(place) for place, url in enumerate(urls.items(), 1) if not apprise.Apprise().add(url)]
    if places:
        remedy = "correct it; what Apprise supports: https://github.com/caronc/apprise/wiki"
        return wrong(what, f"entry {', '.join(places)} of {name} is not one that Apprise supports", remedy)
    return ok(what, f"go to {len(urls.items())} channels (nothing was sent now)")


def port_is_free(host: str, port: int) -> bool:
    """True if a program could listen there now.

    Raises:
        OSError: It could not, and not because somebody else does.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            if exc.errno != errno.EADDRNOTAVAIL and answers(host, port):  # what is not ours is not asked
                return False
            raise
        return not answers(host, port)  # on Windows two programs may be bound to one port


def answers(host: str, port: int, seconds: float = 1.0) -> bool:
    """True if something is listening there."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound to, but asked
    try:
        socket.create_connection((near, port), seconds).close()
    except OSError:
        return False
    return True


def certificate(url: str, now: datetime, ca: Path | None = None) -> Finding:
    """Check the certificate behind an https address: valid for its name, and for how many more days."""
    parts = urlsplit(url)
    what, host, port = "TLS", parts.hostname or "", parts.port or 443
    if parts.scheme != "https":
        return not_checked(what, f"{url} is plain http, which is for this machine only")
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    try:
        plain = socket.create_connection((host, port), _SECONDS)
        with plain, context.wrap_socket(plain, server_hostname=host) as safe:
            until = ssl.cert_time_to_seconds(str((safe.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as exc:
        return wrong(what, f"the certificate of {host} is not valid: {exc.verify_message}", _REMEDY_TLS)
    except socket.gaierror:
        return wrong(what, f"the name {host} is not known", "correct the address, or set the name's A record")
    except OSError as exc:
        return wrong(what, f"{host} port {port} accepts no TLS connection: {exc.strerror or exc}", _REMEDY_TLS)
    days = (datetime.fromtimestamp(until, UTC) - now).days
    found = f"the certificate of {host} is valid for {days} more days"
    return ok(what, found) if days >= DAYS_WANTED else wrong(what, found, _REMEDY_RENEWAL)


_REMEDY_TLS = (
    "let Caddy get one (its name must point to the relay, ports 80 and 443 must be open); for a private authority "
    "set EXECUTOR_RELAY_CA; set this machine's clock if it is wrong"
)
_REMEDY_RENEWAL = "renewal is failing: check Caddy's log on the relay's machine (journalctl -u caddy)"
