"""`python -m relay alert-message`: what it prints is what the relay takes, once TradingView has filled it in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner

from relay.__main__ import main
from relay.commands.alert_message import KINDS
from tests.relay.examples import SECRET
from tests.relay.process import ROOT, RelayProcess, run_command
from tests.senders.tradingview import fill, post


def printed(*words: str) -> str:
    found = CliRunner().invoke(main, ["alert-message", *words])
    assert found.exit_code == 0, found.output
    return found.stdout


def send(relay: RelayProcess, text: str, **values: str) -> dict[str, Any]:
    """Send a filled-in message; return what the executor would get, beside whose it is, when it fired and where."""
    answer = post(f"{relay.url}/webhook/{SECRET}", fill(text, **values))
    assert answer.status_code == 202, answer.text
    leased = relay.call("lease", wait_seconds=1)["signals"]
    relay.call("ack", acks=[{"id": each["id"], "lease": each["lease"]} for each in leased])
    (data,) = [json.loads(each["payload"])["data"] for each in leased if each["id"] == answer.json()["id"]]
    assert data["id"].startswith(data["strategy_name"])
    assert (data["price"], data["time"]) == ("1.1903", "2026-11-23T09:15:00.000000Z")
    return {name: value for name, value in data.items() if name not in ("id", "strategy_name", "price", "time")}


MEANT = {
    "open": ("open", {}, {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000"}),
    "open with exits": (
        "open --side sell --quantity 0.5 --tp 1.1 --sl {{plot_0}}", {},
        {"action": "open", "symbol": "EURUSD", "side": "sell", "quantity": "0.5", "tp": "1.1", "sl": "1.2"},
    ),
    "open with a trailing stop": (
        "open --trail 25ticks --sl 1.5%", {},
        {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000", "sl": "1.5%", "trail": "25 ticks"},
    ),
    "open with targets": (
        "open --target {{plot_0}}=50 --target 2%=25% --sl {{plot_1}} --breakeven", {},
        {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000", "sl": "1.18",
         "targets": [{"tp": "1.2", "percent": "50"}, {"tp": "2%", "percent": "25"}], "breakeven_after_target": True},
    ),
    "close": ("close", {"exchange": "NASDAQ", "ticker": "AAPL"}, {"action": "close", "symbol": "AAPL"}),
    "close of a half": ("close --percent 50", {}, {"action": "close", "symbol": "EURUSD", "percent": "50"}),
    "protect": ("protect", {}, {"action": "protect", "symbol": "EURUSD", "sl": "entry"}),
    "protect at a plot": ("protect --sl {{plot_1}} --tp 3%", {},
                          {"action": "protect", "symbol": "EURUSD", "tp": "3%", "sl": "1.18"}),
    "strategy, long": (
        "strategy", {},
        {"action": "open", "symbol": "EURUSD", "side": "buy", "quantity": "10000", "market_position": "long",
         "prev_market_position": "flat", "prev_market_position_size": "0"},
    ),
    "strategy, reversed": (
        "strategy --sl 1.25",
        {"strategy__market_position": "short", "strategy__market_position_size": "7000",
         "strategy__prev_market_position": "long", "strategy__prev_market_position_size": "10000",
         "strategy__order__action": "sell", "strategy__order__contracts": "17000"},
        {"action": "open", "symbol": "EURUSD", "side": "sell", "quantity": "7000", "sl": "1.25", "market_position": "short",
         "prev_market_position": "long", "prev_market_position_size": "10000"},
    ),
    "strategy, flat": (
        "strategy",
        {"strategy__market_position": "flat", "strategy__market_position_size": "0", "strategy__order__id": "Exit",
         "strategy__prev_market_position": "short", "strategy__prev_market_position_size": "7000"},
        {"action": "close", "symbol": "EURUSD", "market_position": "flat", "prev_market_position": "short",
         "prev_market_position_size": "7000"},
    ),
    "strategy, exit without a stop": (
        "strategy --sl {{plot_0}}",
        {"plot_0": "NaN", "strategy__market_position": "flat", "strategy__market_position_size": "0"},
        {"action": "close", "symbol": "EURUSD", "market_position": "flat", "prev_market_position": "flat",
         "prev_market_position_size": "0", "warning": "sl: must be a number, at most 12 digits before and 20 after the "
         "point, without sign or exponent, was 'NaN'; left out, an exit needs none"},
    ),
    "delayed data": ("close", {"exchange": "NYSE_DLY", "ticker": "BRK.B"}, {"action": "close", "symbol": "BRK.B"}),
}  # fmt: skip


@pytest.mark.parametrize("words, values, meant", MEANT.values(), ids=MEANT.keys())
def test_the_relay_takes_what_it_prints(relay: RelayProcess, words, values, meant) -> None:
    name = f"row-{[*MEANT.values()].index((words, values, meant))}"  # ids must differ
    assert send(relay, printed(*words.split(), "--name", name), **values) == meant


def test_with_secret_it_has_a_place_for_the_secret(relay: RelayProcess) -> None:
    text = fill(printed("close", "--name", "inbody", "--with-secret"))
    assert post(f"{relay.url}/webhook", text).status_code == 401
    assert post(f"{relay.url}/webhook", text.replace("PUT-YOUR-SECRET-HERE", SECRET)).status_code == 202


# Alerts that are not the same alert; the first row is the one that all others are compared with.
OTHER = [
    {},
    {"timenow": "2026-11-23T09:15:01Z"},
    {"ticker": "GBPUSD"},
    {"strategy__order__action": "sell"},
    {"strategy__order__id": "Long 2"},
    {"strategy__market_position_size": "20000"},
    {"strategy__prev_market_position_size": "5000"},
    {"strategy__market_position": "short"},
]


def test_ids_differ_from_alert_to_alert_and_a_resend_is_the_same_alert(relay: RelayProcess) -> None:
    text = printed("strategy", "--name", "unique")
    ids = [json.loads(fill(text, **values))["id"] for values in OTHER]
    assert len(set(ids)) == len(OTHER) and max(map(len, ids)) <= 128
    answers = [post(f"{relay.url}/webhook/{SECRET}", fill(text)) for _ in range(4)]
    assert [each.status_code for each in answers] == [202, 200, 200, 200]


FILLS = [
    # of one exit in one second: position and size after, and before
    [("long", "20", "long", "50"), ("flat", "0", "long", "20")],
    [("short", "7", "short", "9"), ("short", "5", "short", "7"), ("flat", "0", "short", "5")],
    [("long", "20", "long", "50"), ("short", "20", "long", "20")],
]


def documented(path: str) -> str:
    """Return the first strategy message of a page."""
    return next(
        text
        for text in re.findall(r"```json\n(.+?)```", (ROOT / path).read_text("utf-8"), re.DOTALL)
        if "prev_" in text
    )


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/tradingview.md", "docs/reference/senders.md", None])
@pytest.mark.parametrize("fills", FILLS)
def test_the_documented_id_differs_for_every_fill_of_one_second(page: str | None, fills) -> None:
    text, names = documented(page) if page else printed("strategy"), ("", "_size")
    keys = [f"strategy__{when}market_position{name}" for when in ("", "prev_") for name in names]
    ids = [json.loads(fill(text, **dict(zip(keys, each, strict=True))))["id"] for each in fills]
    assert len(set(ids)) == len(fills) and max(map(len, ids)) <= 128


@pytest.mark.parametrize("kind", ["open", "close"])
def test_the_ids_of_an_indicators_alerts_differ(kind) -> None:
    texts = [printed(kind, "--name", name) for name in ("a", "b")]
    filled = [fill(text, **values) for text in texts for values in ({}, {"timenow": "x"}, {"interval": "60"})]
    assert len({json.loads(text)["id"] for text in filled}) == 6


def test_all_of_them_are_printed_with_their_names_apart(tmp_path) -> None:
    found = run_command(tmp_path, "alert-message")
    assert found.returncode == 0 and found.stderr.split("# ")[1:] == [f"{kind}\n" for kind in KINDS]
    decoder, rest, actions = json.JSONDecoder(), found.stdout, []
    while rest := rest.strip():
        value, end = decoder.raw_decode(rest)
        actions.append(value["action"])
        rest = rest[end:]
    assert actions == [*KINDS]


@pytest.mark.parametrize(
    "words, said",
    [
        ("sell", "'sell' is not one of 'open', 'close', 'protect', 'strategy', 'all'"),
        ("open --quantity 1e5", "must be a number greater than 0"),
        ("open --quantity 0", "must be a number greater than 0"),
        ("open --tp high", "must be a price, a placeholder"),
        ('open --name "x', "must be 1 to 32 letters"),
        ("open --tp 1.1 --sl 1.2", "tp: a buy needs tp above sl"),
        ("open --tp entry", "tp: must be a number"),
        ("open --trail 1.5", "must be a distance such as"),
        ("open --target 1.2=50 --target 1.3=60", "targets: take out 110 % together"),
        ("open --target 1.2=50 --tp 1.3", "targets: cannot be there together with tp"),
        ("open --target 1.2", "must be where, =, and a percent"),
        ("open --target {{plot_0}}=50 --breakeven", "breakeven_after_target: needs a stop"),
        ("strategy --tp 1.2 --sl 1.2", "needs tp"),
        ("close --percent 150", "percent: must be at most 100"),
        ("close --tp 1.2", "a message for close has no tp"),
        ("protect --sl 1.2 --tp 1.2", "they must stand apart"),
        ("open --side long", "'long' is not one of 'buy', 'sell'"),
    ],
)
def test_what_would_make_no_signal_is_refused(words, said) -> None:
    found = CliRunner().invoke(main, ["alert-message", *words.split()])
    assert found.exit_code == 2 and said in found.output


@pytest.mark.parametrize(
    "words", ["strategy --tp 1.1 --sl 1.2", "strategy --tp 1.2 --sl 1.1", "all --tp {{plot_0}} --sl {{plot_1}}"]
)
def test_what_one_side_or_a_plot_makes_possible_is_printed(words) -> None:
    assert printed(*words.split())


def test_two_closes_of_a_part_have_ids_that_differ(relay: RelayProcess) -> None:
    text = printed("close", "--percent", "50", "--name", "parts")
    times = ("2026-11-23T09:15:00Z", "2026-11-23T09:15:00Z", "2026-11-23T09:16:00Z")
    answers = [post(f"{relay.url}/webhook/{SECRET}", fill(text, timenow=time)) for time in times]
    assert [each.status_code for each in answers] == [202, 200, 202] and "warnings" not in answers[0].json()
