"""The owner's commands, on both engines, beside a relay that runs: what they show, do, and say when they cannot."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from relay.__main__ import COMMANDS, main
from relay.pending import open_pending
from tests.relay.examples import AUTH, SECRET, signal
from tests.relay.process import ROOT, RelayProcess, run_command

Command = Callable[..., Result]
_numbers = itertools.count()
leased_by_us: dict[str, str] = {}  # id -> lease
CLOSE = {"action": "close", "symbol": "EURUSD"}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def relay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """One relay for an engine; every test leaves its queue empty."""
    directory = tmp_path_factory.mktemp("commands")
    url = f"sqlite:///{directory / 'queue.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    found = RelayProcess(directory, "--queue-url", url)
    found.queue_url = url  # type: ignore[attr-defined]
    assert requests.get(f"{found.url}/readyz", timeout=30).status_code == 200  # the queue is there now
    yield found
    assert found.stop() == 0 and "Traceback" not in found.log


@pytest.fixture
def owner(relay: RelayProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Return a function that runs one of the owner's commands on the relay's queue."""
    monkeypatch.chdir(tmp_path)
    environment = {"RELAY_QUEUE_URL": relay.queue_url}  # type: ignore[attr-defined]

    def run(*words: str, input: str | None = None) -> Result:
        return CliRunner().invoke(main, list(words), env=environment, input=input)

    yield run
    lease(relay)
    relay.call("ack", acks=[{"id": id, "lease": lease} for id, lease in leased_by_us.items()])
    leased_by_us.clear()
    run("purge", "--yes")


def send(relay: RelayProcess, **more: Any) -> str:
    """Send a signal that is no duplicate of any other; return its id."""
    answer = relay.post("/webhook", signal(**{"id": f"command-{next(_numbers)}", **more}))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def lease(relay: RelayProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = relay.call("lease", wait_seconds=0)["signals"]
    leased_by_us.update({each["id"]: each["lease"] for each in found})
    return found


def actions(relay: RelayProcess) -> list[str]:
    return [json.loads(each["payload"])["data"]["action"] for each in lease(relay)]


def kill(relay: RelayProcess, id: str, reason: str) -> None:
    """Give a signal back until it is a dead letter."""
    for _ in range(5):
        (leased,) = [each for each in lease(relay) if each["id"] == id]
        relay.call("nack", id=id, lease=leased["lease"], reason=reason, retry_seconds=0)


def test_refused_alerts_are_listed_with_the_reason_and_without_the_secret(relay, owner) -> None:
    assert owner("refused").output == "No alert was refused.\n"
    relay.post("/webhook", signal(side="up", secret=SECRET), {})
    relay.post("/webhook", b'{"secret": "%s", "note": "a\nb' % SECRET.encode(), {})
    send(relay, id="same")
    relay.post("/webhook", signal(id="same", side="sell"))
    relay.post("/webhook", signal(side="up"), {})  # nobody vouches for it: not kept
    text = owner("refused").output
    assert text.endswith("\n3 refused\n") and SECRET not in text
    assert text.index("duplicate-conflict") < text.index("side: must be one of buy, sell, was 'up'")
    assert '{"action": "open", "symbol": "EURUSD", "side": "up", "quantity": "10000"}' in text
    assert "a\\nb" in text, "what a stranger wrote stays on its line"
    assert owner("refused", "--limit", "1").output.count("duplicate-conflict") == 1


def test_dead_letters_are_listed_and_brought_back(relay, owner) -> None:
    assert owner("dead").output == "No dead letters.\n"
    id = send(relay)
    kill(relay, id, "unreadable \u202e here")
    text = owner("dead").output
    assert text.startswith(f"{id}  open EURUSD  received 20") and "after 5 leases" in text
    assert "unreadable \\u202e here" in text and "python -m relay requeue ID" in text and lease(relay) == []
    both = owner("requeue", id, "0" * 26)
    assert both.exit_code == 1 and "1 requeued" in both.output and f"no such dead letter: {'0' * 26}" in both.output
    assert [(each["id"], each["attempt"]) for each in lease(relay)] == [(id, 1)]


def test_purge_discards_only_what_is_named_and_asks_before(relay, owner) -> None:
    dead = send(relay, symbol="AAPL")
    kill(relay, dead, "x")
    send(relay)
    refused = owner("purge", input="n\n")
    assert refused.exit_code == 1 and dead in owner("dead").output
    assert "0 discarded" in owner("purge", "--yes", "--older-than", "1").output
    assert "1 discarded" in owner("purge", input="y\n").output and dead not in owner("dead").output
    assert "1 discarded" in owner("purge", "--pending", "--yes").output and lease(relay) == []


def test_the_kill_switch_accepts_and_holds(relay, owner, eventually) -> None:
    assert "Paused" in owner("pause").output
    send(relay), relay.post("/webhook", {"action": "close", "symbol": "AAPL"}, AUTH)
    assert lease(relay) == []
    eventually(lambda: requests.get(f"{relay.url}/readyz", timeout=30).json()["mode"] == "paused")
    assert "Close-only" in owner("close-only").output
    assert actions(relay) == ["close"]
    assert "Open" in owner("resume").output
    assert actions(relay) == ["open"]


def test_a_close_that_overtakes_an_entry_buries_it(relay, owner) -> None:
    """In close-only mode a close goes ahead; the entry before it must never follow it into the market."""
    owner("close-only")
    entry = send(relay)
    relay.post("/webhook", CLOSE)
    assert actions(relay) == ["close"]
    owner("resume")
    assert lease(relay) == [] and entry in owner("dead").output


def test_every_command_is_documented() -> None:
    page = (ROOT / "docs/reference/queue.md").read_text("utf-8")
    ours = {name for name, (module, _) in COMMANDS.items() if module == "relay.commands.queue"}
    assert {*re.findall(r"^\| `python -m relay ([a-z-]+)", page, re.MULTILINE)} == ours
    assert {words.split()[0] for words in ALL} == ours


# --- what cannot be done ----------------------------------------------------------------------------

ALL = ["refused", "dead", "requeue X", "purge --yes", "pause", "close-only", "resume"]


def test_a_queue_whose_file_has_a_blank_in_its_name_is_found(tmp_path) -> None:
    pending = open_pending(f"sqlite:///{tmp_path}/my%20queue.db")
    pending.ready()
    pending.close()
    done = CliRunner().invoke(main, ["dead", "--queue-url", f"sqlite:///{tmp_path}/my%20queue.db"])
    assert (done.exit_code, done.output) == (0, "No dead letters.\n")


@pytest.mark.parametrize("words", ALL)
def test_without_a_queue_a_command_makes_none_and_says_where_it_looked(words, tmp_path, monkeypatch) -> None:
    """Else a `pause` in the wrong directory would seem to stop trading."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELAY_QUEUE_URL", raising=False)
    found = CliRunner().invoke(main, words.split())
    assert found.exit_code == 1 and f"there is no queue at {tmp_path / 'pending.db'}" in found.output
    assert list(tmp_path.iterdir()) == []


WRONG = {
    "no URL": ("pause", "pending.db", "must be sqlite:///FILE or postgresql://HOST/DATABASE"),
    "no queue but a file": ("dead", "sqlite:///other.txt", "the queue cannot be used: "),
    "no id": ("requeue", "", "Missing argument 'ID...'"),
    "limit 0": ("dead --limit 0", "", "0 is not in the range"),
    "hours": ("purge --yes --older-than nan", "", "'nan' is not a valid integer"),
}


@pytest.mark.parametrize("words, url, said", WRONG.values(), ids=WRONG.keys())
def test_each_mistake_is_one_clear_message(words, url, said, tmp_path) -> None:
    (tmp_path / "other.txt").write_text("no database " * 100)
    found = run_command(tmp_path, *words.split(), **({"RELAY_QUEUE_URL": url} if url else {}))
    assert found.returncode in (1, 2) and said in found.stderr and "Traceback" not in found.stderr
    assert found.stdout == ""


@pytest.mark.slow  # three seconds of waiting for a database
def test_a_database_that_is_away_is_said(tmp_path) -> None:
    found = run_command(tmp_path, "pause", RELAY_QUEUE_URL="postgresql://relay@127.0.0.1:1/nothing")
    assert found.returncode == 1 and "the queue cannot be used: " in found.stderr and "Traceback" not in found.stderr
