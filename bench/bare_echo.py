"""The floor for (b): a Flask application that answers what it was sent, with nothing behind it.

    python -m bench.bare_echo PORT

It runs on gunicorn with the relay's own settings (one process, as many threads), but the stock threaded worker.
"""

from __future__ import annotations

import sys
from typing import Any

from flask import Flask, request
from gunicorn.app.base import BaseApplication

from relay.server import gunicorn_options
from relay.settings import RelaySettings

app = Flask(__name__)
STOCK = ("worker_class", "logger_class", "post_worker_init", "worker_exit")  # what the relay replaces


@app.post("/webhook")
def echo() -> tuple[dict[str, Any], int]:
    """Answer 202 with what was posted."""
    return {"status": "queued", "echo": request.get_json()}, 202


class Echo(BaseApplication):  # type: ignore[misc]
    """gunicorn with the relay's settings, where they are gunicorn's own."""

    def load_config(self) -> None:
        options = gunicorn_options(RelaySettings.load({"port": int(sys.argv[1])}))
        for name, value in {**options, "worker_class": "gthread"}.items():
            if name not in STOCK or name == "worker_class":
                self.cfg.set(name, value)

    def load(self) -> Flask:
        return app


if __name__ == "__main__":
    Echo().run()
