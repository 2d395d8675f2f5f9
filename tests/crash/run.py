"""One run: a paper TWS, an executor that is killed at given boundaries and started again, and the checker's verdict."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing.util
import operator
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request

from bench.servers import SECRET, SECRETS, relay
from deploy.local import HOST, open_url
from executor import app  # noqa: F401  imported once; every child is forked with it
from executor.paper import __main__ as paper_program
from executor.paper.control import ControlClient
from tests.crash import checker, child, remains
from tests.crash.scenarios import SCENARIOS, SYMBOL, Scenario

REST_SECONDS, PATIENT_SECONDS = 90.0, 180.0  # only who never comes to rest takes so long
Job = tuple[str, tuple[int, ...], bool]  # scenario, where it is killed, whether with the executor's true waits
LIVES = 12  # more restarts than this is an executor that does not start


@dataclass
class Verdict:
    """What one run gave. A run whose kill points were not all reached does not count."""

    scenario: str
    kill_at: tuple[int, ...]
    patient: bool = False
    boundaries: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    outcomes: tuple[str, ...] = ()
    position: int = 0
    seconds: float = 0.0
    folder: str = ""

    @property
    def reached(self) -> bool:
        return all(number <= len(self.boundaries) for number in self.kill_at)

    @property
    def killed_at(self) -> str:
        return "; ".join(self.boundaries[n - 1] for n in self.kill_at if n <= len(self.boundaries))


class Failed(Exception):
    """The run did not come to rest; the text says what is missing."""


def fork(work: Callable[[], object], output: Path, folder: Path) -> int:
    """Start a process that does this and dies with us; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # source: prctl(2), PR_SET_PDEATHSIG
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.chdir(folder)
        os.environ.update(SECRETS)
        work()
    except BaseException as error:  # the child must never return into its parent's code
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


class Stage:
    """The processes of one run."""

    def __init__(self, folder: Path, relay_port: int, kill_at: Sequence[int], patient: bool) -> None:
        self.folder, self.kill_at, self.relay_port, self.patient = folder, set(kill_at), relay_port, patient
        self.truth, self.journal = folder / "truth.jsonl", folder / "journal.db"
        self.boundaries = folder / "boundaries.txt"
        # One relay serves many runs: to it they are one executor, which does not keep itself out.
        self.journal.with_name(self.journal.name + ".consumer").write_text("crash", "ascii")
        self.sent = self.lives = self.pid = 0
        self.paper = fork(self._paper, folder / "paper.log", folder)
        self.tws_port, control = self._ports()
        self.control = ControlClient(control)
        self.wanted = True
        self.start()

    def _paper(self) -> None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        words = ["--port", "0", "--control-port", "0", "--volatility", "0", "--quiet", "--truth", str(self.truth)]
        paper_program.main(words)

    def _ports(self) -> tuple[int, int]:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if found := re.search(r"port=(\d+) control=(\d+)", (self.folder / "paper.log").read_text("utf-8")):
                    return int(found[1]), int(found[2])
            time.sleep(0.01)
        raise Failed("the paper TWS did not start")

    def start(self) -> None:
        self.lives += 1
        if self.lives > LIVES:
            raise Failed("the executor does not stay alive")
        if self.lives > 1 and (left := remains.wrong(self.journal)):
            raise Failed(f"left on the disk by life {self.lives - 1}: {' | '.join(left)}")
        words = ["--ib-host", HOST, "--ib-port", str(self.tws_port), "--flask-host", HOST, "--flask-port", "0"]
        words += ["--relay-url", f"http://{HOST}:{self.relay_port}", "--db", str(self.journal)]
        work: Callable[[], None] = lambda: child.run(words, self.boundaries, self.kill_at, self.patient)  # noqa: E731
        self.pid = fork(work, self.folder / "executor.log", self.folder)

    def look(self) -> None:
        """Start the executor again if it died by our hand; anything else that ends it is a failure."""
        if not self.pid:
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            raise Failed(f"the executor ended by itself with {status}")
        if pid:
            self.pid = 0
            if self.wanted:
                self.start()

    def kill(self, pid: int) -> None:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def end(self) -> None:
        self.control.close()
        self.kill(self.pid)
        self.kill(self.paper)

    # ---- steps ----

    def do(self, name: str, given: dict[str, Any]) -> None:
        if name == "signal":
            self.sent += 1
            self._post({"secret": SECRET, "symbol": SYMBOL, "id": f"{self.folder.name}-{self.sent}", **given})
        elif name == "down":
            self.wanted = False
            self.kill(self.pid)
            self.pid = 0
        elif name == "up":
            self.wanted = True
            self.start()
        else:
            self.control.do(name, **given)

    def _post(self, body: dict[str, Any]) -> None:
        with open_url(Request(f"http://{HOST}:{self.relay_port}/webhook", json.dumps(body).encode()), timeout=5) as a:
            if a.status != 202:
                raise Failed(f"the relay answered {a.status}")

    def rest(self) -> checker.Records:
        """Wait until nothing is under way and every rule holds; what breaks then, breaks for good."""
        seconds = PATIENT_SECONDS if self.patient else REST_SECONDS
        deadline, problems = time.monotonic() + seconds, ["no journal"]
        while True:
            self.look()
            with contextlib.suppress(sqlite3.Error):
                records = checker.read(self.truth, self.journal)
                problems = checker.violations(records, self.sent)
                if not problems and checker.at_rest(records):
                    return records
                problems = problems or ["not at rest"]
            if time.monotonic() > deadline:
                raise Failed(" | ".join(problems))
            time.sleep(0.02)


def waiting(queue: Path) -> int:
    """Return how many signals the relay still keeps for the executor."""
    with contextlib.closing(sqlite3.connect(f"file:{queue}?mode=ro", uri=True, timeout=2)) as db:
        return int(db.execute("SELECT count(*) FROM signals WHERE state IN ('pending', 'leased')").fetchone()[0])


def play(stage: Stage, scenario: Scenario, queue: Path) -> checker.Records:
    """Do the steps, each when all is at rest; then wait for the last acks and for the calm after them."""
    for name, given in scenario.steps:
        stage.do(name.removeprefix("quick "), given)
        if stage.wanted and not name.startswith("quick "):
            stage.rest()
    began = time.monotonic()
    while (left := waiting(queue)) or time.monotonic() < began + 0.5:
        if time.monotonic() > began + REST_SECONDS:
            raise Failed(f"{left} signals were never acked")
        stage.look()
        time.sleep(0.05)
    return stage.rest()


def one(name: str, kill_at: tuple[int, ...], patient: bool, relay_port: int, queue: Path) -> Verdict:
    """Run one scenario, killed at these boundaries; the folder is kept where something was wrong."""
    scenario, verdict, began = SCENARIOS[name], Verdict(name, kill_at, patient), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    stage = Stage(folder, relay_port, kill_at, patient)
    try:
        judge(verdict, play(stage, scenario, queue), scenario)
        verdict.violations += [
            f"{each['orderRef']} is held in TWS" for each in stage.control.do("orders") if each["held"]
        ]
    except Failed as failure:
        verdict.violations.append(str(failure))
    finally:
        stage.end()
    verdict.boundaries = [line.split(" ", 1)[1] for line in _lines(stage.boundaries)]
    verdict.seconds = time.monotonic() - began
    if verdict.violations:
        verdict.folder = str(folder)
    else:
        shutil.rmtree(folder)
    return verdict


def judge(verdict: Verdict, records: checker.Records, scenario: Scenario) -> None:
    """Hold the end against what the scenario promises, unless the owner was asked."""
    rows = sorted(records.inbox, key=lambda row: row["seq"])
    verdict.outcomes = tuple(str(row["outcome"]) for row in rows)
    verdict.position = int(sum(map(checker.signed, checker.executions(records.truth)), checker.ZERO))
    verdict.holds = [f"{t['hold_reason']}; evidence: {t['evidence']}" for t in records.trades if t["state"] == "hold"]
    verdict.alarms = [f"{a['kind']}: {a['text']}" for a in records.alarms]
    if not verdict.holds:
        verdict.violations += unlike(verdict, records, scenario)


def unlike(verdict: Verdict, records: checker.Records, scenario: Scenario) -> Iterator[str]:
    """Return what is not as the scenario has it: outcomes, position, exits; and every page that still stands."""
    possible = [outcome.split("|") for outcome in scenario.outcomes]
    fits = len(verdict.outcomes) == len(possible) and all(map(operator.contains, possible, verdict.outcomes))
    if not fits or verdict.position != scenario.position:
        yield f"ended with {verdict.outcomes} at {verdict.position}"
    live = [o for o in checker.live_orders(records.truth).values() if checker.ours(o)]
    exits = {(o["orderRef"][20].replace("R", "S"), _price(o), o["left"]) for o in live}
    if exits != scenario.exits or len(live) != len(exits):
        yield f"ended with the exits {sorted(exits)}, and should with {sorted(scenario.exits)}"
    pages = [row for row in records.alarms if row["level"] == "page" and row["cleared_at"] is None]
    yield from (f"ended with a page: {row['text']}" for row in pages if row["kind"] not in scenario.pages)
    yield from (f"ended without the page {kind!r}" for kind in scenario.pages - {row["kind"] for row in pages})


def _price(order: dict[str, Any]) -> Decimal:
    return Decimal(order["trailStopPrice"] if order["orderType"] == "TRAIL" else order["lmtPrice"] or order["auxPrice"])


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


# ---- a worker: a process with a relay of its own ----

_cleanup = contextlib.ExitStack()
_relays: list[tuple[int, Path]] = []


def begin_worker() -> None:
    """Start this worker's relay, which ends with the worker."""
    _start_relay()
    multiprocessing.util.Finalize(None, _cleanup.close, exitpriority=10)


def _start_relay() -> None:
    folder = Path(_cleanup.enter_context(tempfile.TemporaryDirectory(prefix="crash-relay-")))
    _relays.append((_cleanup.enter_context(relay(folder)).port, folder / "pending.db"))


def work(job: Job) -> Verdict:
    """Do one run in this worker; what a failed run left in the queue must not reach the next."""
    verdict = one(*job, *_relays[-1])
    if verdict.violations:
        _start_relay()
    return verdict
