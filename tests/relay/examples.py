"""What the relay's tests say again and again, in one place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from common.clock import FakeClock
from common.secret import Secret
from relay.app import create_app
from relay.pending import open_pending
from relay.settings import RelaySettings
from tests.canary import SECRETS

SECRET, FRESH_SECRET = SECRETS["sender's secret"], SECRETS["rotated sender's secret"]
TOKEN, FRESH_TOKEN = SECRETS["executor's token"], SECRETS["rotated executor's token"]
SIGNING, FRESH_SIGNING = SECRETS["signing key"], SECRETS["rotated signing key"]
SENDER_SIGNING, FRESH_SENDER_SIGNING = SECRETS["sender's key"], SECRETS["rotated sender's key"]
CHANNEL = SECRETS["alarm channel"]
AUTH = {"Authorization": f"Bearer {SECRET}"}
EXECUTOR = {"Authorization": f"Bearer {TOKEN}"}
NOW = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
ENVIRONMENT = {
    "RELAY_WEBHOOK_SECRETS": SECRET,
    "RELAY_SENDER_SIGNING_SECRETS": SENDER_SIGNING,
    "RELAY_SIGNING_SECRETS": SIGNING,
    "RELAY_EXECUTOR_TOKENS": TOKEN,
}


def signal(**more: Any) -> dict[str, Any]:
    """Return an open signal; `more` replaces fields, None takes one out."""
    fields = {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": 10000, **more}
    return {name: value for name, value in fields.items() if value is not None}


def body(**more: Any) -> bytes:
    return json.dumps(signal(**more)).encode()


def settings(**more: Any) -> RelaySettings:
    defaults = {
        "webhook_secrets": Secret(SECRET), "sender_signing_secrets": Secret(SENDER_SIGNING),
        "signing_secrets": Secret(SIGNING), "executor_tokens": Secret(TOKEN),
    }  # fmt: skip
    return RelaySettings(**{**defaults, **more})


class Web:
    """The application in this process, over a real SQLite queue and a clock that stands still."""

    def __init__(self, path: Any, pending: Any = None, **more: Any) -> None:
        self.clock = FakeClock(NOW)
        self.pending = pending or open_pending(f"sqlite:///{path}/pending.db")
        self.app = create_app(settings(**more), self.pending, self.clock)
        self.relay = self.app.extensions["relay"]
        self._client = self.app.test_client()

    def post(self, path: str = "/webhook", data: Any = None, headers: Any = AUTH, **more: Any) -> Any:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self._client.post(path, data=raw, headers=headers, **more)

    def send(self, **more: Any) -> Any:
        return self.post(data=signal(**more))

    def get(self, path: str, headers: Any = None) -> Any:
        return self._client.get(path, headers=headers)

    def call(self, name: str, **fields: Any) -> Any:
        return self.post(f"/v1/{name}", fields, EXECUTOR)

    def lease(self, **fields: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("lease", **{"wait_seconds": 0, **fields}).json["signals"]
        return found
