"""`--paper`: the built-in paper TWS as a child process on a free port; the executor knows only its port."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from common.errors import ConfigError

_READY = re.compile(r"paper TWS ready port=(\d+)")


class PaperChild:
    """A paper TWS of our own; its books lie beside the journal, so that a restart finds the same broker."""

    def __init__(self, journal: Path) -> None:
        self._state = journal.with_suffix(".tws.json")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> int:
        """Start it and return its port.

        Raises:
            ConfigError: It ended before it was ready; its own words are on the console.
        """
        command = [sys.executable, "-m", "executor.paper", "--port", "0", "--quiet", "--state", str(self._state)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own program
        assert self._process.stdout is not None  # noqa: S101  a pipe was asked for
        for line in self._process.stdout:
            if ready := _READY.search(line):
                return int(ready[1])
        raise ConfigError("--paper: the paper TWS ended before it was ready; see its words above")

    def end(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
