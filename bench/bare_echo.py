"""The floor for (b): a Flask application that answers what it was sent, with nothing behind it.

    python -m bench.bare_echo PORT

It runs as Flask applications usually do: gunicorn's stock threaded worker, one process, with as many threads as the
relay has by default.
"""

from __future__ import annotations

import sys
from typing import Any

from flask import Flask, request
from gunicorn.app.base import BaseApplication

app = Flask(__name__)
OPTIONS = {
    "worker_class": "gthread", "workers": 1, "threads": 64, "worker_connections": 2048, "backlog": 2048, "keepalive": 75,
    "limit_request_line": 2048, "limit_request_fields": 50, "http_parser": "python", "accesslog": None,
    "control_socket_disable": True,
}  # fmt: skip


@app.post("/webhook")
def echo() -> tuple[dict[str, Any], int]:
    """Answer 202 with what was posted."""
    return {"status": "queued", "echo": request.get_json()}, 202


class Echo(BaseApplication):  # type: ignore[misc]
    """gunicorn as a library: nothing from files or the environment."""

    def load_config(self) -> None:
        for name, value in {**OPTIONS, "bind": [f"127.0.0.1:{sys.argv[1]}"]}.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return app


if __name__ == "__main__":
    Echo().run()
