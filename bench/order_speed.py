"""(a) from the first byte of the webhook's POST until the paper TWS has taken the entry order.

Both systems get the same signals in turn, each with a paper TWS of its own, and are closed again after each.
The moment is the one that the paper TWS writes into its log when the last order of the bracket, the one that
transmits, is decoded: the same clock judges both, and about a millisecond in both is the paper TWS's own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.load import percentile, post
from bench.report import Row
from bench.servers import HOST, SECRET, SECRETS, free_port, running, tail
from deploy.local import Ports, Run, RunError

ROUNDS, WARM_UP = 80, 5


class TruthLog:
    """The paper TWS's log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def next(self, **wanted: object) -> dict[str, Any]:
        """Return the next entry in which all of this stands, waiting for it.

        Raises:
            RuntimeError: None came within ten seconds.
        """
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for entry in self._fresh():
                if wanted.items() <= entry.items():
                    return entry
            time.sleep(0.001)
        raise RuntimeError(f"the paper TWS did not log {wanted}")

    def _fresh(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


class System:
    """One thing that turns a webhook into orders, and the log of its broker."""

    def __init__(self, port: int, truth: TruthLog) -> None:
        self.truth, self._number = truth, 0
        self._client = socket.create_connection((HOST, port))
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, **signal: object) -> float:
        """Post one signal; return when its first byte was sent, and read the answer."""
        self._number += 1
        body = json.dumps({"secret": SECRET, "symbol": "EURUSD", "id": f"a-{self._number}", **signal}).encode()
        sent_at = time.time()
        self._client.sendall(post("/webhook", body))
        answer = self._answer()
        if answer[9:12] != b"202":
            raise RuntimeError(answer.decode())
        return sent_at

    def _answer(self) -> bytes:
        """Read one whole answer: servers send head and body in one packet or in two."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._client.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        size = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        while len(body) < size:
            body += self._client.recv(65536)
        return head + b"\r\n\r\n" + body

    def round(self) -> float:
        """Open a trade, close it, and return the milliseconds from sent to taken."""
        sent_at = self.send(action="open", side="buy", quantity=20000, tp=1.30, sl=1.10)
        taken = self.truth.next(event="accepted", orderType="MKT", action="BUY")
        self.truth.next(event="filled", action="BUY")
        self.send(action="close")
        self.truth.next(event="filled", action="SELL")
        time.sleep(0.15)  # both come to rest: the next round must not wait for the end of this one
        return (datetime.fromisoformat(taken["at"]).timestamp() - sent_at) * 1000


@contextlib.contextmanager
def bare_bot(folder: Path) -> Iterator[System]:
    """Run the single process and its paper TWS."""
    port, tws_port = free_port(), free_port()
    folder.mkdir()
    paper = ["executor.paper", "--port", str(tws_port), "--truth", "truth.jsonl"]
    bot = ["bench.bare_bot", str(port), str(tws_port), SECRET]
    with running(paper, folder, tws_port, "paper.log"), running(bot, folder, port, "bot.log"):
        yield System(port, TruthLog(folder / "truth.jsonl"))


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[System]:
    """Run relay, executor and paper TWS as `make run` does."""
    folder.mkdir()
    truth = folder / "truth.jsonl"
    with open(folder / "all.log", "wb") as output:
        run = Run(
            Ports(free_port(), free_port()), SECRETS, folder, paper_options=["--truth", str(truth)], output=output
        )
        try:
            run.start()
            yield System(run.ports.relay, TruthLog(truth))
        except (RuntimeError, RunError) as exc:
            raise RuntimeError(f"{exc}\n{tail(folder / 'all.log')}") from exc
        finally:
            run.end()


def measure() -> Iterator[Row]:
    """Yield every row of this part."""
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as name, bare_bot(Path(name, "bare")) as bare, ours(Path(name, "ours")) as whole:
        for number in range(ROUNDS + WARM_UP):
            for who, system in (("ours", whole), ("bare", bare)):
                took = system.round()
                if number >= WARM_UP:
                    times[who].append(took)
    for who, what in (("ours", "through relay, queue, executor"), ("bare", "single Flask process, ib_insync directly")):
        value = f"p50 {median(times[who]):.1f}, p99 {percentile(times[who], 0.99):.1f} ms"
        yield Row(f"(a) {what}", value, "under 15 ms, idle" if who == "ours" else "")
    ratio = median(mine / bare for mine, bare in zip(times["ours"], times["bare"], strict=True))
    text = f"{median(times['ours']) / median(times['bare']):.2f} of the medians, {ratio:.2f} the median of the pairs"
    yield Row("(a) ratio", text, "at most 2")
