"""Answers on their way to the socket: in one piece, without a banner, never waiting longer than need be."""

from __future__ import annotations

import socket

from gunicorn.http import wsgi

from relay.problems import HEADERS, PROBLEMS, problem_text


class WholeAnswer(wsgi.Response):  # type: ignore[misc]
    """An answer in one piece, that does not tell which server made it."""

    def default_headers(self) -> list[str]:
        return [line for line in super().default_headers() if not line.startswith("Server:")]

    headers_sent: bool
    unsent = b""  # what the socket did not take

    def write(self, part: bytes) -> None:
        """Send the head and the body together: one system call less, and each costs all threads time."""
        if self.headers_sent or self.chunked or self._omits_body or self.response_length != len(part):
            super().write(part)
            return
        self.unsent = send_now(self.sock, self.whole(part))

    def whole(self, body: bytes) -> bytes:
        """Return head and body, which are then as good as sent."""
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self.headers_sent, self.sent = True, len(body)
        return "".join(lines).encode("latin-1") + body


def send_now(client: socket.socket, data: bytes) -> bytes:
    """Send what the socket takes without waiting; return the rest.

    Raises:
        OSError: The client is gone.
    """
    try:
        return data[client.send(data) :]
    except BlockingIOError:  # its buffer is full
        return data


def problem_bytes(code: str) -> bytes:
    """Return a whole HTTP answer for a request that the server itself refuses."""
    body, status = problem_text(code)
    head = {"Connection": "close", "Content-Type": "application/problem+json", "Content-Length": len(body), **HEADERS}
    lines = [f"HTTP/1.1 {status} {PROBLEMS[code].title}", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", body]).encode("ascii")
