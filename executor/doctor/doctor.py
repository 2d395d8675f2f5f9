"""`python -m executor doctor`: everything a newcomer gets wrong at home, each with the fix.

Run it where the executor runs, in the same directory and with the same flags. It trades nothing and changes
nothing: at TWS it reads, and asks what an order would need, which places none; it leases no signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from common.checkup import (
    SKEW_SECONDS,
    Finding,
    State,
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
from common.errors import JournalError
from common.settings import click_options
from common.signing import SigningKeys
from executor.doctor.tws import look_at_tws
from executor.journal.journal import Journal
from executor.journal.lock import AlreadyRunning, JournalLock
from executor.journal.storage import MIGRATIONS
from executor.relay.client import RelayClient, RelayUnavailable, Status
from executor.settings import Choices, ExecutorSettings, load_choices

_SECRETS = ("relay_token", "signing_secrets", "page_token")
_NEWER, _UPDATE = "a newer version", "update this program"
_CLOCK_REMEDY = "synchronise this computer's clock (and the relay's: timedatectl set-ntp true)"


@click.command()
@click_options(ExecutorSettings)
def doctor(**flags: Any) -> None:
    """Check settings, journal, page, relay, TWS and account, and report how to fix what is wrong.

    Ends with 0 when nothing is wrong, else with 1.
    """
    tell(findings(flags))


def findings(flags: Mapping[str, Any]) -> Iterator[Finding]:
    """Check one thing after the other."""
    found = yield from loaded(lambda: _settings(flags))
    if found is None:
        return
    settings, choices = found
    yield from secrets_of(settings, _SECRETS)
    running = _running(settings.journal_path)
    bound, journal = _journal(settings.journal_path, running)
    yield journal
    yield _page(settings, bool(running))
    yield from _relay(settings)
    yield channels_of("EXECUTOR_NOTIFY_URLS", settings.notify_urls, "only the log and the page show them")
    yield from asyncio.run(look_at_tws(settings, choices, bound, running))


def _settings(flags: Mapping[str, Any]) -> tuple[ExecutorSettings, Choices]:
    settings = ExecutorSettings.load(flags)
    return settings, load_choices(settings)


# --- here -------------------------------------------------------------------------------------------


def _running(path: Path) -> str:
    """Return who trades with this journal now, "" when nobody does."""
    lock = JournalLock(path)
    if not lock.path.exists():
        return ""
    try:
        lock.take(SystemClock())
    except AlreadyRunning as exc:
        return str(exc)
    lock.release()
    return ""


def _journal(path: Path, running: str) -> tuple[str | None, Finding]:
    """Return the account that the journal belongs to, if it has one yet, and how it is."""
    what, folder = "journal", path.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # a full disk takes the file, and not what is in it
    except OSError as exc:
        why = f"its folder {folder} cannot be written to ({exc.strerror})"
        remedies = {errno.ENOENT: "create the folder", errno.ENOSPC: "make room on the disk"}
        remedy = remedies.get(exc.errno or 0, "let the user who runs the executor write there")
        return None, wrong(what, why, f"{remedy}, or name another file with --db")
    if path.is_dir():
        return None, wrong(what, f"{path} is a folder", "name a file with --db")
    if not path.exists() or not path.stat().st_size:
        return None, ok(what, f"{path} will be created at the first start")
    if not os.access(path, os.W_OK):
        return None, wrong(what, f"{path} cannot be written to", "give it to the user who runs the executor")
    try:
        bound = _whole_journal(path)
        if not running:
            _try_to_write(path)
    except (JournalError, sqlite3.Error) as exc:
        remedy = "stop the program that has it open" if _is_locked(exc) else "restore it from a backup, or move it away"
        return None, wrong(what, f"{path} cannot be used: {exc}", _UPDATE if _NEWER in str(exc) else remedy)
    owner = f"belongs to account {bound}" if bound else "belongs to no account yet"
    used = "; the running executor has it open" if running else ""
    return bound, ok(what, f"{path} is intact, writable, and {owner}{used}")


def _is_locked(error: Exception) -> bool:
    """Return whether another program holds the file."""
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    return getattr(cause, "sqlite_errorcode", 0) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _whole_journal(path: Path) -> str | None:
    """Return the journal's account after a check of all its pages.

    Raises:
        JournalError, sqlite3.Error: It is no journal, damaged, or newer than this program.
    """
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        schema = db.execute("PRAGMA user_version").fetchone()[0]
    if damage != "ok":
        raise JournalError(f"it is damaged ({damage})")
    if schema > len(MIGRATIONS):
        raise JournalError(f"{_NEWER} wrote it ({schema})")
    if not schema:
        raise JournalError("it is a database of another program")
    with contextlib.closing(Journal.open(path, SystemClock(), readonly=True)) as journal:
        return journal.account()


def _try_to_write(path: Path) -> None:
    """Begin to write and write nothing; sqlite3.Error where another program (a database browser) keeps it locked."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0.5)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")


def _page(settings: ExecutorSettings, running: bool) -> Finding:
    what, where = "status page", f"{settings.flask_host} port {settings.flask_port}"
    remedy = "stop the program that uses it, or choose another port (--flask-port)"
    try:
        free = port_is_free(settings.flask_host, settings.flask_port)
    except OSError as exc:
        return wrong(what, f"{where} cannot be listened on ({exc.strerror})", "choose another --flask-host or port")
    if free:
        return ok(what, f"{where} is free")
    return (
        ok(what, f"{where} is in use by the running executor") if running else wrong(what, f"{where} is taken", remedy)
    )


# --- the relay --------------------------------------------------------------------------------------


def _relay(settings: ExecutorSettings) -> Iterator[Finding]:
    clock = SystemClock()
    client = RelayClient(settings.relay_url, settings.relay_token, settings.signing_secrets, clock, settings.relay_ca)
    yield certificate(settings.relay_url, clock.now(), settings.relay_ca)
    try:
        status = client.status()
    except RelayUnavailable as exc:
        yield Finding(State.WRONG, "relay", str(exc), "" if "EXECUTOR_" in str(exc) else _RELAY_REMEDY)
        yield not_checked("keys, clock, queue", "the relay does not answer")
        return
    finally:
        client.close()
    yield ok("relay", f"{settings.relay_url} answers and accepts our token")
    yield _keys(settings, status)
    yield _clock(status)
    yield _queue(status)


_RELAY_REMEDY = "start it (python -m relay; its own doctor: python -m relay doctor), or correct --relay-url"


def _keys(settings: ExecutorSettings, status: Status) -> Finding:
    own = SigningKeys.parse(",".join(settings.signing_secrets.items())).fingerprints()
    found = f"the relay signs with {', '.join(status.fingerprints)}; this side has {', '.join(own)}"
    if set(own) & set(status.fingerprints):
        return ok("signing keys", found)
    remedy = "EXECUTOR_SIGNING_SECRETS must hold one of the relay's RELAY_SIGNING_SECRETS; otherwise every signal is rejected"
    return wrong("signing keys", found, remedy)


def _clock(status: Status) -> Finding:
    skew = status.skew_seconds
    if skew is None:
        return not_checked("clock", "the relay does not report its time")
    found = f"the relay's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} ours"
    return ok("clock", found) if abs(skew) <= SKEW_SECONDS else wrong("clock", found, _CLOCK_REMEDY)


def _queue(status: Status) -> Finding:
    queue = status.queue
    if queue is None:
        return wrong("queue", "the relay cannot reach its queue", "on the relay's machine: python -m relay doctor")
    found = f"{queue.get('depth')} signals waiting, {queue.get('dead')} dead letters, delivery is {queue.get('mode')}"
    if queue.get("mode") != "open":
        return wrong("queue", found, "on the relay's machine: python -m relay resume")
    if queue.get("dead") != "0":
        return wrong("queue", found, "on the relay's machine: python -m relay dead, then requeue ID or purge --dead")
    return ok("queue", found)
