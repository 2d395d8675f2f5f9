"""The processes of one session: relay, executor and paper TWS, and a sender that posts until it is answered."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from tests.executor.processes import ExecutorProcess
from tests.paper.processes import Paper
from tests.relay.examples import AUTH
from tests.relay.process import RelayProcess
from tests.sessions import oracle
from tests.sessions.oracle import Post, Records

SETTLED_SECONDS = 60.0  # only what never settles takes so long
STILL_SECONDS = 0.4  # nothing may change for so long, all laws kept, before it counts as settled
KILLED = ("relay", "executor", "paper")


class Broken(Exception):
    """A law is broken, or a program ended by itself; the text says which, one a line."""


class Stage:
    """Start the three programs; each can be killed and is started again on what it left."""

    def __init__(self, folder: Path, sabotage: str = "none", *, patient: bool = False) -> None:
        self._folder, self._program = (
            folder,
            ("-m", "executor") if patient else ("-m", "tests.sessions.child", sabotage),
        )
        self.posts: list[Post] = []
        self._over = threading.Event()
        self._queues: dict[str, queue.Queue[tuple[Post, int]]] = {}  # symbol → what is to be posted, in order
        self._senders: list[threading.Thread] = []
        self.truth, self.journal = folder / "truth.jsonl", folder / "journal.db"
        self.relay = RelayProcess(folder / "relay")
        self.paper = Paper("--quiet", "--truth", self.truth, "--state", folder / "paper.db")
        self._ports = self.relay.port, self.paper.port
        self.executor = self._executor()
        self.lines: list[str] = []

    def _executor(self) -> ExecutorProcess:
        flags = ["--relay-url", f"http://127.0.0.1:{self._ports[0]}", "--ib-port", self._ports[1], "--db", self.journal]
        return ExecutorProcess(self._folder, *flags, program=self._program)

    def kill(self, who: str, seconds: float = 0.0) -> None:
        """Kill one program as a power cut does, and start it again so much later."""
        if who == "executor":
            self._must_live()
            self.executor.end(kill=True)
            self.lines += self.executor.lines
        elif who == "relay":
            self.relay.process.kill()
            self.relay.stop()
        else:
            self.paper.kill()
        time.sleep(seconds)
        if who == "executor":
            self.executor = self._executor()
        elif who == "relay":
            self.relay = RelayProcess(self._folder / "relay", "--port", str(self._ports[0]))
        else:
            options = ("--quiet", "--truth", self.truth, "--state", self._folder / "paper.db", "--port", self._ports[1])
            self.paper = Paper(*options)

    def _must_live(self) -> None:
        code = self.executor.process.poll()
        if code is not None:
            raise Broken(f"the executor ended by itself with {code}: {' | '.join(self.executor.lines[-5:])}")

    def end(self) -> None:
        self._over.set()
        for sender in self._senders:
            sender.join(50)
        self.executor.end(kill=True)
        self.lines += self.executor.lines
        self.paper.kill()
        self.relay.process.kill()
        self.relay.stop()

    # ---- what happens ----

    def post(self, body: dict[str, Any], times: int = 1) -> None:
        """Send one signal, again and again until it is answered, and more times after that."""
        post = Post({**body, "id": f"s-{len(self.posts)}"})
        self.posts.append(post)
        if post.symbol not in self._queues:
            self._queues[post.symbol] = queue.Queue()
            self._senders.append(threading.Thread(target=self._send, args=(post.symbol,), daemon=True))
            self._senders[-1].start()
        self._queues[post.symbol].put((post, times))

    def _send(self, symbol: str) -> None:
        mine = self._queues[symbol]
        while not self._over.is_set():
            with suppress(queue.Empty):
                post, times = mine.get(timeout=0.05)
                while times and not self._over.is_set():
                    times -= self._answered(post)

    def _answered(self, post: Post) -> bool:
        """Try once; True if there was an answer with which a sender is done."""
        with suppress(requests.RequestException):
            url = f"http://127.0.0.1:{self._ports[0]}/webhook"
            answer = requests.post(url, json=post.body, headers=AUTH, timeout=5)
            post.answers.append((answer.status_code, answer.json()))
            if answer.status_code < 500:
                return True
        self._over.wait(0.05)
        return False

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def do(self, action: str, **given: Any) -> None:
        """Use the paper TWS's control port."""
        self.paper.control.do(action, **given)

    def until_cut(self, seconds: float = 50.0) -> None:
        """Wait until the broker has lost a client."""
        deadline = time.monotonic() + seconds
        while not any(entry["event"] == "disconnected" for entry in self.paper.control.truth()):
            self._must_live()
            if time.monotonic() > deadline:
                raise Broken("no connection was cut")
            time.sleep(0.02)

    def settle(self, seconds: float = SETTLED_SECONDS) -> Records:
        """Wait until every law holds and nothing changes. What is armed and not met yet may still be met.

        Raises:
            Broken: A law that holds at every moment is broken, or one of the others still after so long.
        """
        deadline, still_since, last = time.monotonic() + seconds, time.monotonic(), (0, 0)
        problems = ["there is no journal"]
        while True:
            self._must_live()
            with suppress(sqlite3.Error):
                records = oracle.read(self.posts, self.truth, self.journal)
                if now := oracle.broken(records, oracle.ALWAYS):
                    raise Broken("\n".join(now))
                problems = oracle.broken(records, oracle.SETTLED)
                seen = (len(records.truth), len(records.events))
                still_since = still_since if seen == last and not problems else time.monotonic()
                last = seen
                if not problems and time.monotonic() - still_since > STILL_SECONDS:
                    return records
            if time.monotonic() > deadline:
                raise Broken("\n".join(problems or ["it does not come to rest"]))
            time.sleep(0.1)
