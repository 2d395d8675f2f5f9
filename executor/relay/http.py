"""An HTTP session that bounds every answer in bytes and in time, whatever the server sends.

The limit applies where the bytes come in, so that it covers all of an answer: interim responses, status line,
headers, chunks, body. Nothing is ever decompressed, so an answer is never larger than what came over the wire.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from common.clock import Clock


class AnswerTooLarge(Exception):
    """An answer is larger than allowed. The caller drops it; its connection is closed."""


class AnswerTooSlow(Exception):
    """An answer was not complete in the time that its request had. The caller drops it; its connection is closed."""


class _Metered(io.RawIOBase):
    """The bytes of one answer as they come in: at most `most`, and none after the time is up."""

    def __init__(self, raw: Any, sock: socket.socket, clock: Clock, most: int) -> None:
        self._raw, self._sock, self._clock, self._left = raw, sock, clock, most
        seconds = sock.gettimeout()
        self._until = None if seconds is None else clock.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._until is not None:
            left = self._until - self._clock.monotonic()
            if left <= 0:
                raise AnswerTooSlow
            self._sock.settimeout(left)
        try:
            count: int = self._raw.readinto(buffer) or 0
        except TimeoutError as exc:
            raise AnswerTooSlow from exc
        self._left -= count
        if self._left < 0:
            raise AnswerTooLarge
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Adapter(HTTPAdapter):
    """Opens connections that read metered answers."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock, self._most = clock, most
        super().__init__()

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        super().init_poolmanager(*args, **settings)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool(HTTPConnectionPool, HTTPConnection, self._answer_class()),
            "https": _pool(HTTPSConnectionPool, HTTPSConnection, self._answer_class()),
        }

    def _answer_class(self) -> type[http.client.HTTPResponse]:
        clock, most = self._clock, self._most

        class Answer(http.client.HTTPResponse):
            def __init__(self, sock: socket.socket, *args: Any, **settings: Any) -> None:
                super().__init__(sock, *args, **settings)
                raw = self.fp.detach()  # a BufferedReader, by socket.makefile
                self.fp = io.BufferedReader(_Metered(raw, sock, clock, most))

        return Answer


def _pool(pool: type[Any], connection: type[Any], answer: type[http.client.HTTPResponse]) -> type[Any]:
    metered = type(f"Metered{connection.__name__}", (connection,), {"response_class": answer})
    return type(f"Metered{pool.__name__}", (pool,), {"ConnectionCls": metered})


def bounded_session(clock: Clock, most: int) -> requests.Session:
    """Return a session whose answers may have `most` bytes in all, and may take as long as the request's timeout in all.

    Raises, from its requests: AnswerTooLarge, AnswerTooSlow; else what requests raises.
    """
    session = requests.Session()
    session.trust_env = False  # no ~/.netrc in place of our token, no proxy from the environment
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(clock, most))
    return session
