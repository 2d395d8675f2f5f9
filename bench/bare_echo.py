"""The floor for (b): a Flask application that answers what it was sent, with nothing behind it."""

from __future__ import annotations

from flask import Flask, request

app = Flask(__name__)


@app.post("/webhook")
def echo() -> tuple[dict[str, object], int]:
    """Answer 202 with what was posted."""
    return {"status": "queued", "echo": request.get_json()}, 202
