"""The executor as its own process, beside a real relay and a paper TWS of its own."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from tests.relay.examples import ENVIRONMENT

ROOT = Path(__file__).parents[2]
_PAGE = re.compile(r"Status page: (http://\S+)")
open_url = build_opener(ProxyHandler({})).open


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which an executor knows the tests' relay, and nothing else of ours is set."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("EXECUTOR_", "RELAY_"))}
    own = {
        "EXECUTOR_RELAY_TOKEN": ENVIRONMENT["RELAY_EXECUTOR_TOKENS"].partition(",")[0],
        "EXECUTOR_SIGNING_SECRETS": ENVIRONMENT["RELAY_SIGNING_SECRETS"],
        "EXECUTOR_RELAY_URL": "http://127.0.0.1:9",  # nothing is there: a test must not reach what runs on this machine
        "EXECUTOR_IB_PORT": "9",
    }
    return {**known, "PYTHONPATH": str(ROOT), **own, **more}


class ExecutorProcess:
    """`python -m executor`; its page on loopback at a free port, its journal in `directory`.

    `program`: how Python is told to run it, where it is to be another one in something.
    """

    def __init__(
        self, directory: Path, *flags: object, program: Sequence[str] = ("-m", "executor"), **more: str
    ) -> None:
        self.directory, self.lines, self.page = directory, list[str](), ""
        defaults = ["--flask-host", "127.0.0.1", "--flask-port", "0"] if "--flask-host" not in flags else []
        self.process = subprocess.Popen(
            [sys.executable, *program, *defaults, *map(str, flags)],
            cwd=directory,
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := _PAGE.match(line):
                self.page = found[1].rstrip("/")

    def said(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]

    def status(self) -> dict[str, Any]:
        """Return what the page's API says, {} while it does not answer."""
        try:
            with open_url(f"{self.page}/api/status", timeout=20) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (URLError, OSError, ValueError):
            return {}

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Read the journal as another program would."""
        path = next(self.directory.glob("trade_state*.db"))
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(sql)]
        finally:
            db.close()

    def ends(self, seconds: float = 50) -> int:
        """Wait until it ends by itself; its exit code. All that it said is in `lines` then."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def end(self, *, kill: bool = False) -> int:
        """End it, and return its exit code; nothing of it may be left."""
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        code = self.process.wait(30)
        self._reader.join(30)
        if self.process.stdout:
            self.process.stdout.close()
        return code
