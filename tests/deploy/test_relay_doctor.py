"""`python -m relay doctor`: each mistake of a newcomer, provoked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import trustme

from relay.commands import doctor as module
from relay.commands.doctor import doctor
from relay.pending import open_pending
from relay.pending.base import NewSignal, Pending
from tests.deploy.examples import Report, certificate, report, run, serving
from tests.pending.examples import put, take
from tests.relay.examples import ENVIRONMENT
from tests.relay.process import RelayProcess, environment

OTHER_KEY = "whsec_b3RoZXItc2lnbmluZy1rZXktMDAwMDAwMDAwMDE="


@pytest.fixture
def free(free_port: Callable[[], int]) -> str:
    return str(free_port())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    found = RelayProcess(tmp_path_factory.mktemp("relay"))
    yield found
    found.stop()


def look(*flags: str, **more: str) -> Report:
    return run(doctor, *flags, env={**ENVIRONMENT, **more})


def test_all_is_well_before_the_first_start(tmp_path: Path, free: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "relay", "doctor", "--port", free],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    found = report(done.returncode, done.stdout)
    assert (found.code, found.wrong, done.stderr) == (0, [], "")
    assert "is free" in found.found("port")
    assert found.state("queue") == found.state("settings") == found.state("secrets") == "ok"
    assert found.state("executor") == "not checked"


def test_a_running_relay_is_recognised(started: RelayProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    started.call("lease", wait_seconds=0)
    monkeypatch.chdir(started.directory)
    found = look("--port", str(started.port))
    assert found.wrong == [], found.text
    assert "answers, and signs with" in found.found("port")
    assert "polled" in found.found("executor")


def test_every_missing_setting_is_named() -> None:
    found = run(doctor, env=dict.fromkeys(ENVIRONMENT, ""))
    assert found.code == 1
    for name in ("RELAY_WEBHOOK_SECRETS", "RELAY_SIGNING_SECRETS", "RELAY_EXECUTOR_TOKENS"):
        assert f"{name} is not set" in found.text


def test_lines_of_env_that_are_unreadable_or_unknown(here: Path, free: str) -> None:
    (here / ".env").write_text("RELAY_MAX_DEPTH: 5\n")
    assert look("--port", free).wrong == ["settings"]
    (here / ".env").write_text("RELAY_MAXDEPTH=5\nEXECUTOR_IB_PROT=1\n")
    found = look("--port", free)
    assert found.wrong == ["settings"]
    assert "RELAY_MAX_DEPTH?" in found.text and "EXECUTOR_IB_PORT?" in found.text


def test_alarm_channels_and_tokens_that_can_never_work(free: str) -> None:
    found = look("--port", free, RELAY_ALARM_URLS="nonsense")
    assert found.wrong == ["alarms"] and "entry 1 of RELAY_ALARM_URLS" in found.found("alarms")
    found = look("--port", free, RELAY_EXECUTOR_TOKENS="schlüssel-mit-umlaut")
    assert found.wrong == ["settings"] and "visible ASCII" in found.text


def test_weak_and_shared_secrets(free: str) -> None:
    same = "one-and-the-same-text-for-both"
    found = look("--port", free, RELAY_WEBHOOK_SECRETS=f"short,{same}", RELAY_EXECUTOR_TOKENS=same)
    assert found.wrong == ["secrets"]
    assert "RELAY_WEBHOOK_SECRETS has fewer than 16" in found.text
    assert "RELAY_EXECUTOR_TOKENS and RELAY_WEBHOOK_SECRETS have the same value" in found.text
    assert same not in found.text


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX's")
def test_a_secret_that_others_may_read(here: Path, free: str) -> None:
    Path(here, "token").write_text("x" * 30)
    Path(here, "token").chmod(0o644)
    found = look("--port", free, RELAY_EXECUTOR_TOKENS="", RELAY_EXECUTOR_TOKENS_FILE=str(here / "token"))
    assert found.wrong == ["secret files"]
    assert f"chmod 600 {here / 'token'}" in found.text
    Path(here, "token").chmod(0o600)
    assert look("--port", free, RELAY_EXECUTOR_TOKENS="", RELAY_EXECUTOR_TOKENS_FILE=str(here / "token")).code == 0


def test_another_program_has_the_port() -> None:
    asked: list[str | None] = []
    with serving(b"hello", tokens=asked) as port:
        found = look("--port", str(port))
    assert found.wrong == ["port"]
    assert "not a relay" in found.found("port")
    assert asked == [None], "a stranger is not shown our token"


PROOFS = "signing_keys", "executor_tokens"
STRANGERS: dict[str, dict[str, object]] = {
    "a page titled like ours": {"info": {"title": module.DOCUMENT_TITLE}},
    "empty proofs": {"info": {"title": module.DOCUMENT_TITLE}, **{name: [] for name in PROOFS}},
    "proofs that are no texts": {"info": {"title": module.DOCUMENT_TITLE}, **{name: [1, {}] for name in PROOFS}},
    "proofs of an earlier challenge": {
        "info": {"title": module.DOCUMENT_TITLE},
        "signing_keys": module.proofs(module.SigningKeys.parse(ENVIRONMENT["RELAY_SIGNING_SECRETS"]), "0" * 32),
        "executor_tokens": ["0" * 64],
    },
}


@pytest.mark.parametrize("answer", STRANGERS.values(), ids=STRANGERS.keys())
def test_stranger_that_looks_like_a_relay_is_given_nothing(answer: dict[str, object]) -> None:
    asked: list[str | None] = []
    with serving(answer, tokens=asked) as port:
        found = look("--port", str(port))
    assert found.wrong == ["port"] and asked == [None, None]


def test_proof_shows_no_secret_and_is_another_each_time(started: RelayProcess) -> None:
    def ask(challenge: str) -> requests.Response:
        return requests.get(f"{started.url}/v1/proof/{challenge}", timeout=10)

    answers = [ask(letter * 32) for letter in "ab"]
    assert [answer.status_code for answer in answers] == [200, 200] and answers[0].json() != answers[1].json()
    assert not [value for value in ENVIRONMENT.values() for answer in answers if value in answer.text]
    for challenge in ("a" * 31, "A" * 32, "a" * 33, "%0a" + "a" * 32, "a" * 32 + "%0a"):
        assert ask(challenge).status_code == 404, challenge


def test_the_running_relay_has_another_token(started: RelayProcess) -> None:
    found = look("--port", str(started.port), RELAY_EXECUTOR_TOKENS="another-token-than-it-has")
    assert found.wrong == ["port"]
    assert "a different RELAY_EXECUTOR_TOKENS" in found.found("port")


def test_the_running_relay_signs_with_another_key(started: RelayProcess) -> None:
    found = look("--port", str(started.port), RELAY_SIGNING_SECRETS=OTHER_KEY)
    assert found.wrong == ["port"]
    assert "restart it" in found.found("port")


def test_an_address_of_another_machine() -> None:
    found = look("--host", "192.0.2.1", "--port", "8080")
    assert found.wrong == ["port"]
    assert "cannot be listened on" in found.found("port")


def test_a_queue_that_cannot_be_written(here: Path, free: str) -> None:
    found = look("--port", free, "--queue-url", f"sqlite:///{here / 'missing' / 'pending.db'}")
    assert found.wrong == ["queue"]
    assert found.state("queue depth, executor") == "not checked"


@pytest.mark.slow
def test_a_database_that_is_away(free: str, free_port: Callable[[], int]) -> None:
    found = look("--port", free, "--queue-url", f"postgresql://postgres@127.0.0.1:{free_port()}/relay")
    assert found.wrong == ["queue"]
    assert "start the database" in found.found("queue")


def pending_with(here: Path, at: datetime) -> Pending:
    """A queue in which one signal waits; an executor asked at that time."""
    pending = open_pending(f"sqlite:///{here / 'pending.db'}")
    put(pending, NewSignal("A" * 26, "EURUSD", "close", None, "f", at, None, {}, "{}"), at)
    pending.note_poll(at)
    return pending


def test_a_full_queue_and_switched_off_delivery(here: Path, free: str) -> None:
    pending = pending_with(here, datetime.now(UTC))
    pending.set_mode("paused")
    pending.close()
    found = look("--port", free, "--max-depth", "1")
    assert found.wrong == ["queue depth", "delivery"]
    assert "python -m relay resume" in found.found("delivery")


def test_dead_letters_and_an_executor_gone_silent(here: Path, free: str) -> None:
    at = datetime.now(UTC) - timedelta(hours=7)
    pending = pending_with(here, at)
    for _ in range(5):
        [leased] = take(pending, at, limit=1)
        pending.nack(leased.id, leased.lease, "a test", 0, at)
    pending.close()
    found = look("--port", free)
    assert found.wrong == ["dead letters", "executor"]
    assert "requeue" in found.found("dead letters")


@pytest.mark.parametrize(
    ("state", "words"), [(0, "synchronised with a time server"), (5, "timedatectl"), (None, "does not report it")]
)
def test_the_clock(state: int | None, words: str, free: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_kernel_clock", lambda: state)
    assert words in look("--port", free).found("clock")


# --- from outside -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(here / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(here / "ca.pem"))


def status(key: str = "") -> Callable[[str], dict[str, object]]:
    """A relay's answers, by path."""
    keys = module.SigningKeys.parse(key or ENVIRONMENT["RELAY_SIGNING_SECRETS"])

    def answer(path: str) -> dict[str, object]:
        challenge = path.rpartition("/")[2]
        tokens = [module.proof_of(ENVIRONMENT["RELAY_EXECUTOR_TOKENS"], keys, challenge)]
        proven = {"signing_keys": module.proofs(keys, challenge), "executor_tokens": tokens}
        return {"info": {"title": module.DOCUMENT_TITLE}} if path == "/openapi.json" else proven

    return answer


@pytest.mark.usefixtures("trusted")
def test_the_public_address_leads_here(authority: trustme.CA, free: str) -> None:
    with serving(status(), certificate(authority)) as port:
        found = look("--port", free, "--public-url", f"https://localhost:{port}")
    assert found.state("TLS") == "ok"
    assert found.state("public address") == "ok"
    assert found.wrong == ["public port"]  # a test has no 443


@pytest.mark.usefixtures("trusted")
def test_the_public_address_leads_to_another_relay(authority: trustme.CA, free: str) -> None:
    with serving(status(OTHER_KEY), certificate(authority)) as port:
        found = look("--port", free, "--public-url", f"https://localhost:{port}")
    assert found.state("TLS") == "ok"
    assert found.wrong == ["public port", "public address"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("name", "days", "words"),
    [("localhost", 5, "4 more days"), ("localhost", -5, "expired"), ("elsewhere.example", 90, "not valid")],
)
def test_certificates(name: str, days: int, words: str, authority: trustme.CA, free: str) -> None:
    ends = datetime.now(UTC) + timedelta(days=days)
    with serving(status(), certificate(authority, name, ends)) as port:
        found = look("--port", free, "--public-url", f"https://localhost:{port}")
    assert found.state("TLS") == "wrong"
    assert words in found.found("TLS")


def test_a_certificate_of_an_unknown_authority(authority: trustme.CA, free: str) -> None:
    with serving(status(), certificate(authority)) as port:
        found = look("--port", free, "--public-url", f"https://localhost:{port}")
    assert found.wrong.count("TLS") == 1
    assert found.state("public address") == "not checked"


def test_nobody_at_the_public_address(free: str, free_port: Callable[[], int]) -> None:
    found = look("--port", free, "--public-url", f"https://localhost:{free_port()}")
    assert "does not answer" in found.found("public address")
    assert "is https" not in look("--port", free, "--public-url", "http://relay.example.com").text
    assert "must be an address like https" in look("--public-url", "http://relay.example.com").text
