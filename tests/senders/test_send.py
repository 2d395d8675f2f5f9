"""`python -m relay send`: what it posts, and what it says when something is wrong."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from relay.__main__ import main
from tests.relay.examples import SECRET
from tests.relay.process import RelayProcess, run_command

Command = Callable[..., Result]
OPEN = ("open", "EURUSD", "buy", "10000")


@pytest.fixture
def send(tmp_path, monkeypatch) -> Command:
    """Return a function that runs `send` in this process, in an empty directory, with nothing but our settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("RELAY_URL", "RELAY_PORT", "PORT", "RELAY_WEBHOOK_SECRETS_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str, secret: str | None = SECRET) -> Result:
        return CliRunner().invoke(main, ["send", *words], env={"RELAY_WEBHOOK_SECRETS": secret})

    return run


def test_a_signal_is_posted_and_the_answer_printed(relay: RelayProcess) -> None:
    """In a process of its own, as a person runs it."""
    words = ("send", *OPEN, "--tp", "1.20", "--sl", "1.18", "--id", "cli-1", "--note", "for a test")
    found = run_command(relay.directory, *words, RELAY_PORT=str(relay.port))
    assert found.returncode == 0 and found.stderr == ""
    answer = json.loads(found.stdout)
    assert answer["status"] == "queued"
    leased = next(each for each in relay.call("lease", wait_seconds=0)["signals"] if each["id"] == answer["id"])
    assert json.loads(leased["payload"])["data"] == {
        "action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000", "tp": "1.2", "sl": "1.18",
        "note": "for a test", "id": "cli-1",
    }  # fmt: skip


def test_sent_twice_it_says_duplicate(relay: RelayProcess, send: Command) -> None:
    words = ("close", "AAPL", "--id", "cli-2", "--url", relay.url)
    first, second = json.loads(send(*words).output), json.loads(send(*words).output)
    assert (first["status"], second["status"]) == ("queued", "duplicate") and first["id"] == second["id"]


def test_the_newest_secret_of_a_list_is_sent(relay: RelayProcess, send: Command) -> None:
    assert send("reset", "AAPL", "--url", relay.url, secret=f"{SECRET},an-old-one").exit_code == 0
    assert send("reset", "AAPL", "--url", relay.url, secret=f"a-newer-one,{SECRET}").exit_code == 1


WISHES = {
    "a close of a half": (("close", "--percent", "50%"), {"action": "close", "percent": "50"}),
    "a close of a number": (("close", "--quantity", "5"), {"action": "close", "quantity": "5"}),
    "a stop at the entry": (("protect", "--sl", "entry"), {"action": "protect", "sl": "entry"}),
    "a looser stop": (("protect", "--sl", "2%", "--loosen"), {"action": "protect", "sl": "2%", "loosen": True}),
    "a trailing stop": (("open", "buy", "5", "--trail", "25 ticks"), {"action": "open", "trail": "25 ticks"}),
    "targets": (
        ("open", "buy", "5", "--target", "1.25=50", "--target", "3% = 25%", "--sl", "1.1", "--breakeven"),
        {"targets": [{"tp": "1.25", "percent": "50"}, {"tp": "3%", "percent": "25"}], "breakeven_after_target": True},
    ),
    "whose it is": (("reset", "--strategy-name", "Turtle"), {"action": "reset", "strategy_name": "Turtle"}),
}  # fmt: skip


@pytest.mark.parametrize("words, meant", WISHES.values(), ids=WISHES.keys())
def test_each_wish_can_be_sent(relay: RelayProcess, send: Command, words, meant) -> None:
    found = send(words[0], "ES1!", *words[1:], "--url", relay.url)
    assert found.exit_code == 0 and "warnings" not in found.output, found.output
    leased = {each["id"]: each for each in relay.call("lease", wait_seconds=0)["signals"]}
    relay.call("ack", acks=[{"id": each["id"], "lease": each["lease"]} for each in leased.values()])
    assert json.loads(leased[json.loads(found.output)["id"]]["payload"])["data"].items() >= meant.items()


def test_two_closes_of_a_part_are_two(relay: RelayProcess, send: Command) -> None:
    answers = [json.loads(send("close", "NQ1!", "--percent", "50", "--url", relay.url).output) for _ in range(2)]
    assert [each["status"] for each in answers] == ["queued", "queued"]


# what is wrong -> the words, and what the command says; "{url}" is the relay's address
MISTAKES = {
    "side and quantity missing": (("open", "EURUSD"), "expected: send open SYMBOL SIDE QUANTITY"),
    "too much": (("close", "EURUSD", "buy"), "expected: send close SYMBOL"),
    "an action that is none": (("buy", "EURUSD"), "'buy' is not one of 'close', 'open', 'protect', 'reset'"),
    "a quantity twice": ((*OPEN, "--quantity", "5"), "the quantity of an open is given by its place"),
    "a target without its share": ((*OPEN, "--target", "1.2", "--url", "{url}"), "targets: target 1: percent must be"),
    "a trail that is no distance": ((*OPEN, "--trail", "1.2", "--url", "{url}"), 'trail: must be a distance with its unit'),
    "an address without https": ((*OPEN, "--url", "relay.example.com"), "must be an address like https://"),
    "a secret in clear over the net": ((*OPEN, "--url", "http://relay.example.com"), "must begin with https://"),
    "a secret in the address": ((*OPEN, "--url", "https://u:p@relay.example.com"), "the relay's address only"),
    "nothing listens": ((*OPEN, "--port", "1"), "Is the relay running, and is --url or --port right?"),
    "a port that is none": ((*OPEN, "--port", "x"), "--port / RELAY_PORT / PORT must be a whole number"),
    "a side that is none": (("open", "EURUSD", "up", "1", "--url", "{url}"), "side: must be one of buy, sell"),
    "a quantity of nothing": (("open", "EURUSD", "buy", "0", "--url", "{url}"), "quantity: must be greater than 0"),
    "a symbol that is none": (("close", "??", "--url", "{url}"), "symbol: "),
    "exits on the wrong sides": ((*OPEN, "--tp", "1.1", "--sl", "1.2", "--url", "{url}"), "a buy needs tp above sl"),
    "an exponent": (("open", "EURUSD", "buy", "1e4", "--url", "{url}"), "without sign or exponent"),
}  # fmt: skip


@pytest.mark.parametrize("words, said", MISTAKES.values(), ids=MISTAKES.keys())
def test_each_mistake_is_said_with_its_remedy(relay: RelayProcess, send: Command, words, said) -> None:
    found = send(*(word.replace("{url}", relay.url) for word in words))
    assert found.exit_code in (1, 2) and said in found.output, found.output
    assert isinstance(found.exception, SystemExit) and SECRET not in found.output


def test_all_mistakes_of_a_signal_are_told_at_once(relay: RelayProcess, send: Command) -> None:
    found = send("open", "??", "up", "0", "--tp", "x", "--url", relay.url)
    assert "refused (400 malformed)" in found.output
    assert all(f"  {field}: " in found.output for field in ("symbol", "side", "quantity", "tp"))


def test_a_wrong_secret_is_said_and_not_shown(relay: RelayProcess, send: Command) -> None:
    found = send(*OPEN, "--url", relay.url, secret="canary-wrong-secret-5")
    assert found.exit_code == 1 and "refused (401 unauthorized): No valid credential" in found.output
    assert "canary-wrong" not in found.output


def test_no_secret_is_said_by_name(send: Command) -> None:
    found = send(*OPEN, secret=None)
    assert found.exit_code == 2 and "RELAY_WEBHOOK_SECRETS is not set" in found.output


def test_a_secret_outside_latin_1_is_no_traceback(relay: RelayProcess, send: Command) -> None:
    found = send(*OPEN, "--url", relay.url, secret="geheim-€-ключ")
    assert found.exit_code == 1 and "401 unauthorized" in found.output


# --- other servers at the address -------------------------------------------------------------------


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """Answers like other things that may sit at an address: a web page, or a redirect to HTTPS."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        moved = self.path.startswith("/moved")
        body = b"" if moved else b"<html>hello</html>"
        self.send_response(301 if moved else 200)
        if moved:
            self.send_header("Location", "https://elsewhere.example/webhook")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_no_relay_is_said(send: Command, elsewhere: str) -> None:
    found = send(*OPEN, "--url", elsewhere)
    assert found.exit_code == 1 and "answered 200, but it is not a signal relay" in found.output


def test_a_redirect_is_not_followed_with_the_secret(send: Command, elsewhere: str) -> None:
    found = send(*OPEN, "--url", f"{elsewhere}/moved")
    assert found.exit_code == 1 and "redirects to https://elsewhere.example/webhook" in found.output
