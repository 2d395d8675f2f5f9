"""The built-in paper TWS next to the executor, as a separate process that ends with it.

It is started by module name and spoken to by TCP only, so that nothing here knows more of it than of a real TWS. Its
state lies beside the journal: a restart of the executor finds the same orders and positions.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from common.errors import BrokerUnavailable
from common.logs import get_logger
from executor.threads import in_thread

log = get_logger(__name__)

HOST = "127.0.0.1"
_READY = "paper TWS ready port="
_START_SECONDS, _END_SECONDS = 30.0, 3.0


class PaperChild:
    """One paper TWS, started when first asked for, and again should it end."""

    def __init__(self, journal: Path) -> None:
        self._state = journal.with_name(journal.name + ".tws.json")
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    async def address(self) -> tuple[str, int]:
        """Return where it listens.

        Raises:
            BrokerUnavailable: It does not start; the text holds its own last words.
        """
        if self._process is None or self._process.poll() is not None:
            try:
                self._port = await in_thread(self._start, timeout=_START_SECONDS)
            except TimeoutError:
                self.end()
                raise BrokerUnavailable(f"the paper TWS was not ready within {_START_SECONDS:.0f} s") from None
        return HOST, self._port

    def end(self) -> None:
        """End it, within a few seconds."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> int:
        command = [sys.executable, "-m", "executor.paper_child", "--port", "0", "--quiet", "--state", str(self._state)]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace", **_own_group(),
        )  # fmt: skip
        words = []
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        for line in self._process.stdout:
            if line.startswith(_READY):
                log.info("paper_tws_started", port=(port := int(line[len(_READY) :].split()[0])))
                threading.Thread(target=_drain, args=(self._process,), daemon=True).start()
                return port
            words.append(line.strip())
        raise BrokerUnavailable(f"the paper TWS exited at start: {' '.join(words[-3:])[-300:]}")


def _own_group() -> dict[str, Any]:
    """Return how to start a process that Ctrl-C on our console does not reach: we end it, after ourselves."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0}


def _drain(process: subprocess.Popen[str]) -> None:
    """Pass on its output, so that it never waits for us to read."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    for line in process.stdout:
        log.info("paper_tws_said", text=line.strip()[:300])


def _end_with_parent() -> None:
    """End this process when the other end of its standard input is gone, that is when the executor was killed."""
    while os.read(0, 1):  # not sys.stdin, whose lock would be in the way at the end
        pass
    os._exit(0)  # its state is on disk before anything is answered


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[0] = "executor.paper"
    runpy.run_module("executor.paper", run_name="__main__", alter_sys=True)
