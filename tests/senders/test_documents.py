"""Every example of docs/reference/senders.md does what the page says, against a real relay."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.commands.alert_message import message
from tests.relay.examples import SECRET, SENDER_SIGNING
from tests.relay.process import ROOT, RelayProcess, environment
from tests.senders.tradingview import fill, post

PAGE = (ROOT / "docs/reference/senders.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# words in a block -> the signal that it sends
RUN = {
    "python -m relay send": {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000", "tp": "1.2"},
    "Authorization: Bearer %s": {"action": "open", "symbol": "AAPL", "side": "buy", "quantity": "10", "id": "curl-1"},
    "openssl dgst": {"action": "close", "symbol": "AAPL"},
    "uuid.uuid4())}": {"action": "open", "symbol": "MSFT", "side": "sell", "quantity": "5", "sl": "512.3"},
    "from standardwebhooks": {"action": "reset", "symbol": "MSFT"},
    "createHmac": {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000"},
}
TOOLS = {"sh": ("sh", "curl", "openssl", "od"), "js": ("node",), "python": ()}


def block(words: str) -> tuple[str, str]:
    """Return the language and the text of the one block that holds these words."""
    (found,) = [(kind, text) for kind, text in BLOCKS if words in text]
    return found


def command(kind: str, text: str, directory: Path) -> list[str]:
    if kind == "sh":
        return ["sh", "-euc", re.sub(r"^python ", f"{sys.executable} ", text)]
    file = directory / ("example.mjs" if kind == "js" else "example.py")
    file.write_text(text, "utf-8")
    return [shutil.which("node") or "node" if kind == "js" else sys.executable, str(file)]


def delivered(relay: RelayProcess) -> dict[str, Any]:
    """Return the one signal that waits, and finish it."""
    (leased,) = relay.call("lease", wait_seconds=2)["signals"]
    relay.call("ack", acks=[{"id": leased["id"], "lease": leased["lease"]}])
    found: dict[str, Any] = json.loads(leased["payload"])["data"]
    return found


def test_every_block_is_run_or_checked() -> None:
    others = [kind for kind, text in BLOCKS if not any(words in text for words in RUN)]
    assert sorted(others) == ["json", "json", "json", "json", "pine"]


@pytest.mark.parametrize("words, sent", RUN.items(), ids=RUN.keys())
def test_the_example_sends_its_signal(relay: RelayProcess, tmp_path: Path, words, sent) -> None:
    kind, text = block(words)
    missing = [tool for tool in TOOLS[kind] if not shutil.which(tool)]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")
    assert "https://relay.example.com" in text
    for placeholder, value in {
        "https://relay.example.com": relay.url, "PASTE-YOUR-SECRET": SECRET, "whsec_PASTE-YOUR-KEY": SENDER_SIGNING,
    }.items():  # fmt: skip
        text = text.replace(placeholder, value)
    found = subprocess.run(
        command(kind, text, tmp_path), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert found.returncode == 0 and "queued" in found.stdout and not found.stderr, found
    assert delivered(relay).items() >= sent.items()


@pytest.mark.parametrize("kind", ["strategy", "open", "close", "protect"])
def test_the_messages_are_what_the_command_prints(relay: RelayProcess, kind) -> None:
    _, text = block(f'"action": "{kind}",\n')
    exits = {"tp": "{{plot_0}}", "sl": "{{plot_1}}"} if kind == "open" else {}
    assert text.strip() == message(kind, "turtle", "buy", "10000", exits, None)
    assert post(f"{relay.url}/webhook/{SECRET}", fill(text)).status_code == 202
    assert delivered(relay)["symbol"] == "EURUSD"


# What the names in the Pine example stand for while it runs.
PINE = {
    "syminfo.ticker": "EURUSD", "side": "sell", "str.tostring(stop, format.mintick)": "1.20500",
    "str.tostring(timenow)": "1795425300000",
}  # fmt: skip


def test_the_json_of_the_pine_example_is_a_signal(relay: RelayProcess) -> None:
    """Its text is put together as Pine would: quoted texts and names, joined by plus."""
    _, script = block("alert(message(")
    expression = re.search(r"=>\n(.*?)\n\n", script, re.DOTALL)
    assert expression
    parts = re.findall(r"'[^']*'|[^\s'+][^'+]*[^\s'+]", expression[1])
    text = "".join(part[1:-1] if part[0] == "'" else PINE[part] for part in parts)
    assert post(f"{relay.url}/webhook/{SECRET}", text).status_code == 202
    assert delivered(relay) == {
        "action": "open", "symbol": "EURUSD", "side": "sell", "quantity": "10000", "sl": "1.205",
        "id": "crossings-sell-EURUSD-1795425300000",
    }  # fmt: skip


def documented_ids() -> list[str]:
    """Return the ids with placeholders that any page tells a person to paste."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return [id for page in pages for id in re.findall(r'"id": "([^"]*\{\{[^"]*)"', page.read_text("utf-8"))]


def test_no_page_tells_to_paste_an_id_that_two_symbols_share() -> None:
    """Two alerts of one bar come in the same second; with one id the second would be refused as a conflict."""
    assert len(documented_ids()) >= 5
    assert [id for id in documented_ids() if "{{ticker}}" not in id or "{{timenow}}" not in id] == []
