"""`python -m executor doctor`: each mistake of a newcomer, provoked, with a real relay and a paper TWS over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from common.clock import SystemClock, utc_text
from common.errors import JournalError
from common.signing import SigningKeys
from executor.doctor.doctor import doctor
from executor.journal.journal import Journal
from executor.journal.lock import JournalLock
from tests.deploy.examples import Report, certificate, report, run, serving
from tests.paper.processes import Paper
from tests.relay.examples import SIGNING, TOKEN
from tests.relay.process import ROOT, RelayProcess
from tests.wire.harness import between

ENVIRONMENT = {"EXECUTOR_RELAY_TOKEN": TOKEN, "EXECUTOR_SIGNING_SECRETS": SIGNING}
OTHER_KEY = "whsec_b3RoZXItc2lnbmluZy1rZXktMDAwMDAwMDAwMDE="
Look = Callable[..., Report]


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    found = RelayProcess(tmp_path_factory.mktemp("relay"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def running_paper() -> Iterator[Paper]:
    found = Paper("--accounts", "DU1234567,U7654321", "--quiet")
    yield found
    found.end()


@pytest.fixture
def paper(running_paper: Paper) -> Paper:
    running_paper.control.do("clear")
    return running_paper


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("EXECUTOR_", "RELAY_")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def look(relay: RelayProcess, paper: Paper) -> Look:
    """Return a function that runs the doctor on a right setup, changed by further flags."""

    def looks(*flags: str, **more: str) -> Report:
        right = ["--relay-url", relay.url, "--ib-port", str(paper.port), "--account", "DU1234567", "--flask-port", "0"]
        return run(doctor, *right, *flags, env={**ENVIRONMENT, **more})

    return looks


def test_all_is_well(relay: RelayProcess, paper: Paper, here: Path) -> None:
    command = [sys.executable, "-m", "executor", "doctor", "--relay-url", relay.url, "--ib-port", str(paper.port)]
    known = {name: value for name, value in os.environ.items() if not name.startswith("EXECUTOR_")}
    done = subprocess.run(
        [*command, "--account", "DU1234567", "--flask-port", "0"], cwd=here, capture_output=True, text=True,
        env={**known, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}, timeout=30, check=False,
    )  # fmt: skip
    found = report(done.returncode, done.stdout)
    assert (found.code, found.wrong, done.stderr) == (0, [], ""), found.text
    for what in ("relay", "signing keys", "clock", "queue", "client id", "TWS", "account", "orders", "Read-Only API"):
        assert found.state(what) == "ok", found.text
    assert list(here.iterdir()) == []
    assert paper.control.orders() == []


def test_every_missing_setting_is_named() -> None:
    found = run(doctor, env={})
    assert found.code == 1
    assert "EXECUTOR_RELAY_TOKEN is not set" in found.text
    assert "EXECUTOR_SIGNING_SECRETS is not set" in found.text


def test_lines_of_env_that_are_unreadable_or_unknown(look: Look, here: Path) -> None:
    Path(here, ".env").write_text('EXECUTOR_PAGE_TOKEN="abc\nEXECUTOR_IB_PORT 4002\n')
    found = look()
    assert (found.code, found.wrong, found.text.count("wrong        settings")) == (1, ["settings"], 2)
    Path(here, ".env").write_text("EXECUTOR_IB_PROT=4002\nRELAY_PROT=1\n")
    found = look(EXECUTOR_RELAY_TOKN="x")
    for name in ("EXECUTOR_IB_PORT?", "RELAY_PORT?", "EXECUTOR_RELAY_TOKEN?"):
        assert name in found.text


def test_a_mistake_in_executor_toml(look: Look, here: Path) -> None:
    Path(here, "executor.toml").write_text('[policies]\nunprotected = "pray"\n')
    found = look()
    assert found.wrong == ["settings"]
    assert "unprotected must be one of" in found.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"EXECUTOR_RELAY_TOKEN": "first-token-of-two\nsecond-token-of-two"}, "must be one token"),
        ({"EXECUTOR_RELAY_TOKEN": "first-token-of-two,second-token-of-two"}, "must be one token"),
        ({"EXECUTOR_RELAY_TOKEN": "schlüssel-mit-umlaut"}, "must be made of visible ASCII characters"),
        ({"EXECUTOR_RELAY_TOKEN": "a token of four words"}, "must be made of visible ASCII characters"),
        ({"EXECUTOR_HEARTBEAT_URL": "hc-ping.com/uuid"}, "must be an address like https://"),
        ({"EXECUTOR_TEMPLATES": "nowhere"}, "nowhere: expected a folder with an index.html, found none (No such file"),
        ({"EXECUTOR_IB_CLIENT_ID": "99999999999"}, "must be at most 2147483647, was 99999999999"),
    ],
)
def test_values_that_would_fail_only_when_they_are_used(look: Look, values: dict[str, str], words: str) -> None:
    found = look(**values)
    assert found.wrong == ["settings"]
    assert words in found.text, found.text


def test_a_folder_in_the_place_of_env(look: Look, here: Path) -> None:
    Path(here, ".env").mkdir()
    assert look().wrong == ["settings"]


def test_a_template_that_is_not_text(look: Look, here: Path) -> None:
    Path(here, "mine").mkdir()
    Path(here, "mine", "index.html").write_bytes(b"\xe4\xf6")
    found = look("--templates", "mine")
    assert found.wrong == ["settings"] and "is not UTF-8" in found.text


def test_an_address_of_the_page_that_is_not_this_machines(look: Look) -> None:
    found = look("--flask-host", "203.0.113.9")  # of the networks for documentation
    assert found.wrong == ["status page"]
    assert "cannot be listened on" in found.found("status page")


# --- the relay --------------------------------------------------------------------------------------


def test_no_relay(look: Look, free_port: Callable[[], int]) -> None:
    found = look("--relay-url", f"http://127.0.0.1:{free_port()}")
    assert found.wrong == ["relay"]
    assert "nothing is listening there" in found.found("relay")
    assert "python -m relay" in found.found("relay")


def test_something_else_in_place_of_the_relay(look: Look) -> None:
    with serving(b"<html>a login page</html>") as port:
        found = look("--relay-url", f"http://127.0.0.1:{port}")
    assert found.wrong == ["relay"]
    assert "is this the relay?" in found.found("relay")


def test_another_token(look: Look) -> None:
    found = look(EXECUTOR_RELAY_TOKEN="a-token-that-nobody-knows")
    assert found.wrong == ["relay"]
    assert "RELAY_EXECUTOR_TOKENS" in found.found("relay")


def test_another_signing_key(look: Look) -> None:
    found = look(EXECUTOR_SIGNING_SECRETS=OTHER_KEY)
    assert found.wrong == ["signing keys"]
    for keys in (SIGNING, OTHER_KEY):
        assert SigningKeys.parse(keys).fingerprints()[0] in found.found("signing keys")


def test_a_key_in_rotation_is_fine(look: Look) -> None:
    assert look(EXECUTOR_SIGNING_SECRETS=f"{OTHER_KEY},{SIGNING}").wrong == []


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        (None, "python -m relay doctor"),
        ({"mode": "paused", "depth": 3, "dead": 0}, "python -m relay resume"),
        ({"mode": "open", "depth": 0, "dead": 2}, "python -m relay dead"),
    ],
    ids=["away", "paused", "dead letters"],
)
def test_the_queue_of_the_relay(queue: object, words: str, look: Look) -> None:
    with serving({"signing_keys": SigningKeys.parse(SIGNING).fingerprints(), "queue": queue}) as port:
        found = look("--relay-url", f"http://127.0.0.1:{port}")
    assert found.wrong == ["queue"]
    assert words in found.found("queue")


def test_clocks_that_differ(look: Look) -> None:
    time = utc_text(SystemClock().now() - timedelta(hours=1))
    answer = {"signing_keys": SigningKeys.parse(SIGNING).fingerprints(), "queue": None}
    with serving(answer, X_Relay_Time=time) as port:
        found = look("--relay-url", f"http://127.0.0.1:{port}")
    assert found.state("clock") == "wrong"
    assert re.search(r"is 36\d\d\.\d s behind ours", found.found("clock"))


@pytest.mark.parametrize(("days", "state"), [(90, "ok"), (5, "wrong"), (-5, "wrong")])
def test_certificates(days: int, state: str, look: Look, here: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(here / "ca.pem")
    answer = {"signing_keys": SigningKeys.parse(SIGNING).fingerprints(), "queue": {"mode": "open", "dead": 0}}
    leaf = certificate(authority, ends=datetime.now(UTC) + timedelta(days=days))
    with serving(answer, leaf) as port:
        found = look("--relay-url", f"https://localhost:{port}", "--relay-ca", str(here / "ca.pem"))
    assert found.state("TLS") == state, found.text
    assert found.lines["relay"][0] == ("ok" if days > 0 else "wrong")


def test_a_relay_whose_name_is_not_known(look: Look) -> None:
    found = look("--relay-url", "https://relay.invalid")
    assert found.wrong == ["TLS", "relay"]
    assert "the name relay.invalid is not known" in found.found("TLS") and "Caddy" not in found.found("TLS")


# --- TWS --------------------------------------------------------------------------------------------


def test_no_tws_but_another_port_of_it(look: Look, free_port: Callable[[], int]) -> None:
    found = look("--ib-port", str(free_port()))
    assert found.wrong == ["TWS"]
    assert "Enable ActiveX and Socket Clients" in found.found("TWS")


def test_a_port_that_is_not_tws(look: Look) -> None:
    """Something that closes at once, as TWS does where it does not trust the address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        found = look("--ib-port", str(other.getsockname()[1]))
    assert found.wrong == ["TWS"]
    assert "Trusted IPs" in found.found("TWS")


def test_read_only_api(look: Look, paper: Paper) -> None:
    paper.control.fault("read_only")
    found = look()
    assert found.wrong == ["Read-Only API"]
    assert "untick Read-Only API" in found.found("Read-Only API")


def test_client_id_in_use(look: Look, paper: Paper) -> None:
    with client_id_taken(paper.port, 1):
        found = look()
        assert found.wrong == ["client id"]
        assert "--ib-client-id" in found.found("client id")
        assert found.state("Read-Only API") == "ok"
    assert look("--ib-client-id", "5").wrong == []


def test_several_accounts(look: Look, relay: RelayProcess, paper: Paper) -> None:
    flags = ["--relay-url", relay.url, "--ib-port", str(paper.port), "--flask-port", "0"]
    found = run(doctor, *flags, env=ENVIRONMENT)
    assert found.wrong == ["account"]
    assert "DU1234567, U7654321" in found.found("account")
    assert "--account" in found.found("account")


def test_a_live_account_needs_its_flag(look: Look) -> None:
    found = look("--account", "U7654321")
    assert found.wrong == ["account"]
    assert "--live U7654321" in found.found("account")
    assert look("--account", "U7654321", "--live", "U7654321").wrong == []


def test_ibkr_cannot_be_reached(look: Look, paper: Paper) -> None:
    with without_ibkr(paper.port) as port:
        found = look("--ib-port", str(port))
    assert found.state("TWS") == "ok"
    assert found.wrong == ["link to IBKR"]


def test_paper_brings_its_own_tws(look: Look) -> None:
    assert look("--paper").state("TWS") == "not checked"


# --- here -------------------------------------------------------------------------------------------


def test_the_journal_belongs_to_another_account(look: Look, here: Path) -> None:
    journal = Journal.open(here / "trade_state.db", SystemClock())
    journal.bind_account("DU9999999")
    journal.close()
    found = look()
    assert found.wrong == ["account"]
    assert "belongs to account DU9999999" in found.found("journal")
    assert "another journal (--db)" in found.found("account")


def test_a_damaged_journal(look: Look, here: Path) -> None:
    Path(here, "trade_state.db").write_bytes(b"this is no database " * 100)
    found = look()
    assert found.wrong == ["journal"]
    assert "backup" in found.found("journal")


def test_a_folder_in_the_place_of_the_journal(look: Look, here: Path) -> None:
    Path(here, "trade_state.db").mkdir()
    assert "is a folder" in look().found("journal")


def test_an_empty_file_is_a_journal_to_be(look: Look, here: Path) -> None:
    Path(here, "trade_state.db").touch()
    assert look().wrong == []
    Journal.open(here / "trade_state.db", SystemClock()).close()


def test_a_database_of_another_program(look: Look, here: Path) -> None:
    with contextlib.closing(sqlite3.connect(here / "trade_state.db")) as db:
        db.execute("CREATE TABLE theirs (x)")
    found = look()
    assert found.wrong == ["journal"] and "a database of another program" in found.found("journal")
    with pytest.raises(JournalError, match="belongs to another program: name another file with --db"):
        Journal.open(here / "trade_state.db", SystemClock())


def test_a_full_disk(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert "make room on the disk" in look().found("journal")


def test_a_journal_that_another_program_keeps_locked(look: Look, here: Path) -> None:
    Journal.open(here / "trade_state.db", SystemClock()).close()
    with contextlib.closing(sqlite3.connect(here / "trade_state.db", isolation_level=None)) as browser:
        browser.execute("BEGIN IMMEDIATE")
        found = look()
    assert found.wrong == ["journal"]
    assert "stop the program that has it open" in found.found("journal")


def test_a_journal_of_a_newer_version(look: Look, here: Path) -> None:
    with sqlite3.connect(here / "trade_state.db") as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    found = look().found("journal")
    assert "a newer version wrote it" in found and "update this program" in found and "backup" not in found


def test_a_folder_that_is_not_there(look: Look, here: Path) -> None:
    found = look("--db", str(here / "missing" / "trade_state.db"))
    assert found.wrong == ["journal"]
    assert "create the folder" in found.found("journal")


def test_a_running_executor_is_not_disturbed(look: Look, here: Path, paper: Paper) -> None:
    lock = JournalLock(here / "trade_state.db")
    with client_id_taken(paper.port, 1), socket.create_server(("127.0.0.1", 0)) as page:
        lock.take(SystemClock())
        try:
            found = look("--flask-host", "127.0.0.1", "--flask-port", str(page.getsockname()[1]))
        finally:
            lock.release()
    assert found.wrong == [], found.text
    assert f"process {os.getpid()}" in found.found("client id")


def test_the_page_has_no_port(look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = look("--flask-host", "127.0.0.1", "--flask-port", str(other.getsockname()[1]))
    assert found.wrong == ["status page"]


@pytest.mark.slow  # Apprise's plugins take a second to load
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's
def test_alarm_channels(look: Look) -> None:
    assert "EXECUTOR_NOTIFY_URLS is not set" in look().found("alarms")
    found = look(EXECUTOR_NOTIFY_URLS="json://127.0.0.1/hook,nonsense://secret-token")
    assert found.wrong == ["alarms"]
    assert "entry 2" in found.found("alarms")
    assert "secret-token" not in found.text


@contextlib.contextmanager
def client_id_taken(port: int, client_id: int) -> Iterator[None]:
    """Another program that holds a client id, for as long as the block lasts."""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"API\0" + _framed("v100..176"))
        client.recv(100)
        client.sendall(_framed(f"71\0002\000{client_id}\0\0"))
        heard = b""
        while b"DU1234567" not in heard:
            heard += client.recv(1000)
        yield


def _framed(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


@contextlib.contextmanager
def without_ibkr(port: int) -> Iterator[int]:
    """A port that leads to the paper TWS, which says at once that its own link to IBKR is lost."""
    lost = ["4", "2", "-1", "1100", "Connectivity between IBKR and Trader Workstation has been lost.", ""]
    ports: queue.Queue[int] = queue.Queue()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def stand_between() -> None:
        tell = between(SimpleNamespace(port=port), lambda frame: [frame, lost] if frame[0] == "15" else [frame])  # type: ignore[arg-type]
        async with tell as own:
            ports.put(own)
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(stand_between(),), daemon=True)
    thread.start()
    try:
        yield ports.get(timeout=50)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)
        loop.close()
