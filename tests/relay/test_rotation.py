"""Every secret is replaced while alerts come in and are fetched: nobody is refused, nothing lost, nothing doubled."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from common.clock import SystemClock
from common.secret import Secret
from common.signing import SigningKeys, sign
from executor.relay.client import RelayClient
from tests.relay.examples import (
    AUTH,
    FRESH_SECRET,
    FRESH_SENDER_SIGNING,
    FRESH_SIGNING,
    FRESH_TOKEN,
    SECRET,
    SENDER_SIGNING,
    SIGNING,
    TOKEN,
    body,
    signal,
)
from tests.relay.process import RelayProcess

# setting -> the old and the new; the last two are the executor's
SECRETS = {
    "RELAY_WEBHOOK_SECRETS": (SECRET, FRESH_SECRET),
    "RELAY_SENDER_SIGNING_SECRETS": (SENDER_SIGNING, FRESH_SENDER_SIGNING),
    "RELAY_SIGNING_SECRETS": (SIGNING, FRESH_SIGNING),
    "RELAY_EXECUTOR_TOKENS": (TOKEN, FRESH_TOKEN),
    "EXECUTOR_SIGNING_SECRETS": (SIGNING, FRESH_SIGNING),
    "EXECUTOR_RELAY_TOKEN": (TOKEN, FRESH_TOKEN),
}


class House:
    """A relay, senders of both kinds and the executor's own client, all of them busy; secrets in files."""

    def __init__(self, directory: Path) -> None:
        self.files = {name: directory / name for name in SECRETS}
        for name, (old, _) in SECRETS.items():
            self.files[name].write_text(old)
        relays = [name for name in SECRETS if name.startswith("RELAY_")]
        named = {f"{name}_FILE": str(self.files[name]) for name in relays}
        self.relay = RelayProcess(directory / "relay", **named, **dict.fromkeys(relays, ""))
        self.secret, self.key = SECRET, SigningKeys.parse(SENDER_SIGNING)
        self.client = RelayClient(
            self.relay.url, self._secret("EXECUTOR_RELAY_TOKEN"), self._secret("EXECUTOR_SIGNING_SECRETS"), SystemClock()
        )  # fmt: skip
        self.statuses, self.fetched, self.sent = Counter[int](), Counter[str](), set[str]()
        self.faults: list[str] = []
        self._numbers, self._stop = itertools.count(), threading.Event()
        self._senders = [threading.Thread(target=self._send, args=(how,)) for how in (self._plain, self._signed)]
        self._executor = threading.Thread(target=self._fetch)

    def _secret(self, name: str) -> Secret:
        return Secret(self.files[name].read_text(), self.files[name])

    def _plain(self, session: requests.Session, symbol: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.secret}"}
        return session.post(f"{self.relay.url}/webhook", data=body(symbol=symbol), headers=headers, timeout=30)

    def _signed(self, session: requests.Session, symbol: str) -> requests.Response:
        data = body(symbol=symbol)
        headers = sign(self.key, f"msg_{symbol}", int(time.time()), data)
        return session.post(f"{self.relay.url}/webhook", data=data, headers=headers, timeout=30)

    def _send(self, how: Callable[[requests.Session, str], requests.Response]) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                answer = how(session, f"ROT{next(self._numbers)}")
                self.statuses[answer.status_code] += 1
                if answer.status_code == 202:
                    self.sent.add(answer.json()["id"])
                self._stop.wait(0.01)

    def _fetch(self) -> None:
        while not self._stop.is_set() or self.sent > {*self.fetched}:
            try:
                deliveries = self.client.lease(0.2).deliveries
                self.client.ack(list(deliveries))
            except Exception as exc:
                self.faults.append(repr(exc))
                return
            self.fetched.update(each.id for each in deliveries)
            self.faults += [each.problem for each in deliveries if each.envelope is None]

    def __enter__(self) -> House:
        for each in (*self._senders, self._executor):
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in (*self._senders, self._executor):
            each.join(20)
        self.client.close()

    def write(self, name: str, *which: int) -> None:
        """Put secrets into a file: 0 is the old one, 1 the new one."""
        self.files[name].write_text("\n".join(SECRETS[name][each] for each in which))

    def in_force(self, text: str) -> bool:
        """Tell whether the executor's client has read its files."""
        return self.client._token.current().reveal() + self.client._secrets.current().reveal() == text

    def rotations(self) -> int:
        return self.relay.log.count("secret_rotated")


@pytest.mark.slow  # files are looked at once a second
def test_all_secrets_rotate_under_load(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    """Who verifies learns the new one first; then who presents or signs changes over; then the old one goes."""
    with House(tmp_path) as house:
        for name in (
            "EXECUTOR_SIGNING_SECRETS",
            "RELAY_WEBHOOK_SECRETS",
            "RELAY_SENDER_SIGNING_SECRETS",
            "RELAY_EXECUTOR_TOKENS",
        ):
            house.write(name, 1, 0)
        eventually(lambda: house.rotations() == 3 and house.in_force(f"{TOKEN}{FRESH_SIGNING}\n{SIGNING}"))
        house.write("RELAY_SIGNING_SECRETS", 1, 0)
        house.write("EXECUTOR_RELAY_TOKEN", 1)
        house.secret, house.key = FRESH_SECRET, SigningKeys.parse(FRESH_SENDER_SIGNING)
        eventually(lambda: house.rotations() == 4 and house.in_force(f"{FRESH_TOKEN}{FRESH_SIGNING}\n{SIGNING}"))
        for name in (name for name in SECRETS if name.startswith("RELAY_")):
            house.write(name, 1)
        eventually(lambda: house.rotations() == 8)
        eventually(lambda: house.sent <= {*house.fetched})  # nothing waits that only the old key has signed
        house.write("EXECUTOR_SIGNING_SECRETS", 1)
        eventually(lambda: house.in_force(f"{FRESH_TOKEN}{FRESH_SIGNING}"))
        before = len(house.fetched)
        eventually(lambda: len(house.fetched) > before + 20)
    assert set(house.statuses) == {202} and house.statuses[202] > 100
    assert house.faults == [] and {*house.fetched} == house.sent and set(house.fetched.values()) == {1}
    assert house.relay.post("/webhook", signal(), AUTH).status_code == 401, "the old one is out"
    assert house.relay.post("/v1/lease", {}, {"Authorization": f"Bearer {TOKEN}"}).status_code == 401
    assert house.relay.stop() == 0
    assert not any(secret in house.relay.log for pair in SECRETS.values() for secret in pair)
