"""What the doctors' tests share: running one, reading its lines, and servers that are wrong in one way."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import click
import trustme
from click.testing import CliRunner


@dataclass(frozen=True)
class Report:
    """What a doctor printed: for each thing that was looked at, its state and text."""

    code: int
    lines: dict[str, tuple[str, str]]
    text: str

    def state(self, what: str) -> str:
        return self.lines[what][0]

    def found(self, what: str) -> str:
        return self.lines[what][1]

    @property
    def wrong(self) -> list[str]:
        return [what for what, (state, _) in self.lines.items() if state == "wrong"]


def report(code: int, text: str) -> Report:
    """Read a doctor's output; a remedy goes with the line before it."""
    assert "Traceback" not in text, text
    lines: dict[str, tuple[str, str]] = {}
    last = ""
    for line in text.splitlines()[:-1]:
        state, rest = line[:11].strip(), line[13:]
        if state:
            last, _, found = rest.partition(": ")
            lines[last] = state, found
        else:
            lines[last] = lines[last][0], f"{lines[last][1]} | {rest}"
    return Report(code, lines, text)


def run(doctor: click.Command, *flags: str, env: Mapping[str, str]) -> Report:
    """Run a doctor in this process, in the present directory."""
    result = CliRunner().invoke(doctor, flags, env=dict(env))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return report(result.exit_code, result.output)


@contextmanager
def serving(
    answer: Mapping[str, Any] | bytes | Callable[[str], Mapping[str, Any]],
    tls: trustme.LeafCert | None = None,
    tokens: list[str | None] | None = None,
    **headers: str,
) -> Iterator[int]:
    """An HTTP server on a free port that answers every GET alike, or by its path; by TLS where a certificate is given.

    `tokens` gets what each request presented.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if tokens is not None:
                tokens.append(self.headers["Authorization"])
            found = answer(self.path) if callable(answer) else answer
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a refused handshake is what is tested
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def certificate(authority: trustme.CA, name: str = "localhost", ends: datetime | None = None) -> trustme.LeafCert:
    """A certificate for a name, valid until `ends`."""
    started = datetime(2020, 1, 1, tzinfo=UTC)
    return authority.issue_cert(name, not_before=started if ends else None, not_after=ends)
