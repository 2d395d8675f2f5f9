"""The relay in this process: its real application over its real queue, and the ways between it, senders and executor."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from common.clock import Clock
from common.errors import BridgeError
from common.secret import Secret
from relay.app import create_app
from relay.pending.sqlite import SqlitePending, open_connection
from relay.pending.writer import Ticket
from relay.settings import RelaySettings

SECRET, TOKEN, SIGNING = "simulated-hook-secret", "simulated-executor-token", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "http://relay.test"


@dataclass
class Answer:
    """What the relay said to one request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Troubles:
    """What the way to the relay does: chances between 0 and 1."""

    lost_request: float = 0.0  # it never arrives
    lost_answer: float = 0.0  # it is obeyed, and nobody hears so
    met: Callable[[], object] = lambda: None  # called when one is lost


class RelayHouse:
    """One relay over one queue file; it may be killed and started again."""

    def __init__(self, folder: Path, clock: Clock, chance: random.Random) -> None:
        self._path, self._clock, self._chance = str(folder / "pending.db"), clock, chance
        self.troubles = Troubles()
        self.down = False
        self.news = asyncio.Event()
        self.accepted: dict[str, str] = {}  # id of each signal that was answered 202 or 200 → the sender's own, or ""
        self.start()

    def start(self) -> None:
        self.pending = InlinePending(self._path)
        settings = RelaySettings(
            webhook_secrets=Secret(SECRET), signing_secrets=Secret(SIGNING), executor_tokens=Secret(TOKEN)
        )
        self.app = create_app(settings, self.pending, self._clock)
        self.down = False
        self.news.set()

    def kill(self) -> None:
        """End it; what it had committed stays."""
        self.down = True
        self.pending.close()

    def call(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Make one request. Raises ConnectionError where the network or the relay is not there."""
        if self.down:
            raise ConnectionError("the relay is not there")
        if self._chance.random() < self.troubles.lost_request:
            self.troubles.met()
            raise ConnectionError("the request was lost")
        answer = _wsgi(self.app, path, body, headers)
        if path != "/v1/lease":
            self.news.set()
        if self._chance.random() < self.troubles.lost_answer:
            self.troubles.met()
            raise ConnectionError("the answer was lost")
        return answer

    def post(self, fields: Any, secret: str = SECRET) -> int | None:
        """Send one alert as a sender does, once; the status, or None where no answer came."""
        body = fields if isinstance(fields, bytes) else json.dumps({"secret": secret, **fields}).encode()
        try:
            answer = self.call("/webhook", body, {})
        except ConnectionError:
            return None
        if answer.status in (200, 202):
            self.accepted[json.loads(answer.body)["id"]] = "" if isinstance(fields, bytes) else fields.get("id", "")
        return answer.status

    def waiting(self) -> int:
        """Return how many accepted signals no executor has acked yet."""
        with contextlib.closing(sqlite3.connect(self._path)) as db:
            return int(db.execute("SELECT count(*) FROM signals WHERE state IN ('pending', 'leased')").fetchone()[0])

    def requeue_dead(self) -> int:
        """What the owner does with dead letters: give them another chance."""
        return sum(self.pending.requeue(letter.id, self._clock.now()) for letter in self.pending.dead(100))


class InlinePending(SqlitePending):
    """The real queue, its group writer's thread replaced by the caller's own: one commit per call, no waiting."""

    def __init__(self, path: str) -> None:
        super().__init__(path, opener=_open_fast)

    def _do(self, work: Any, *, wakes: bool = False) -> Any:
        ticket: Ticket[Any] = Ticket((work, wakes))
        self._commit_together([ticket])
        return ticket.result(0)

    def _post(self, work: Any) -> None:
        self._do(work)

    def _promise(self, writer: Any, job: Any, told: Callable[[Any], None]) -> None:
        try:
            told(self._do(job[0], wakes=job[1]))
        except BridgeError as exc:
            told(exc)

    def close(self) -> None:
        self._disconnect()


def _open_fast(path: str) -> Any:
    connection = open_connection(path)
    connection.execute("PRAGMA synchronous = OFF")  # no power cuts here: `tests.pending` has those
    return connection


def _wsgi(app: Callable[..., Any], path: str, body: bytes, headers: dict[str, str]) -> Answer:
    said: list[Any] = []
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "relay.test", "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json", "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http", "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False,
        "wsgi.run_once": False, **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }  # fmt: skip
    found = b"".join(app(environ, lambda status, fields, exc=None: said.append((status, fields))))
    status, fields = said[-1]
    return Answer(int(status.split()[0]), fields, found)


class InProcess(BaseAdapter):
    """For the executor's real client: requests are answered by the relay of this process."""

    def __init__(self, relay: RelayHouse) -> None:
        super().__init__()
        self._relay = relay

    def send(self, request: requests.PreparedRequest, **named: Any) -> requests.Response:
        try:
            wanted = {"Authorization": str(request.headers["Authorization"])}
            body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
            answer = self._relay.call(urlsplit(str(request.url)).path, body, wanted)
        except ConnectionError as exc:
            raise requests.ConnectionError(str(exc)) from exc
        response = requests.Response()
        response.status_code, response.url, response.request = answer.status, str(request.url), request
        response.headers.update(dict(answer.headers))
        response.raw = HTTPResponse(io.BytesIO(answer.body), dict(answer.headers), answer.status, preload_content=False)
        return response

    def close(self) -> None: ...


@dataclass
class LongPoll:
    """Stands for the thread in which the executor calls the relay: calls take virtual time, and a poll waits for news."""

    relay: RelayHouse
    chance: random.Random

    async def __call__(self, call: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        await asyncio.sleep(self.chance.uniform(0.001, 0.05))
        if getattr(call, "__name__", "") != "lease":
            return call(*args)
        until = asyncio.get_running_loop().time() + args[0]
        while True:
            self.relay.news.clear()
            answer = call(0.0)
            left = until - asyncio.get_running_loop().time()
            if answer.deliveries or left < 0.001:  # less is lost in the clock, and no time would pass
                return answer
            try:
                await asyncio.wait_for(self.relay.news.wait(), min(left, 10.0))
            except TimeoutError:
                continue
