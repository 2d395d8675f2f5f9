"""What the page, its JSON and its metrics say, on a busy morning and on an empty one."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from page_seed import AAPL, ACCOUNT, EURUSD, HOSTILE, closed_trade, connected, position

from common.version import VERSION
from executor.journal.journal import Journal
from executor.journal.rows import Line
from executor.status import dashboard


def text_of(client, path="/"):
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def api(bench):
    return bench.client().get("/api/status").json


def test_page_shows_the_bracket_of_an_open_trade(busy):
    html = text_of(busy.client())
    assert all(shown in html for shown in ("1.18912", "1.18", "1.20", "1.19243", "+33.10"))
    assert "stop-loss for 10,000 working at the broker" in html


def test_every_amount_has_its_currency(busy):
    page = " ".join(text_of(busy.client()).split())
    assert all(f"<dt>{label}, USD</dt>" in page for label in ("Net liquidation", "Cash", "Unrealised"))
    yen = page.partition('<th scope="row">USDJPY</th>')[2].partition("</tr>")[0]
    assert "+2,900.00</span> <small>JPY</small>" in yen


def test_page_shows_every_kind_of_verdict_with_its_reason(busy):
    html = text_of(busy.client())
    assert all(f">{word}</span>" in html for word in ("entered", "ignored", "refused", "expired", "closing"))
    assert "a buy trade in EURUSD is already open (since 14:06 UTC)" in html


def test_hostile_text_stays_text(busy):
    html = text_of(busy.client())
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<img src=x" not in html


def test_trade_log_is_newest_first(busy):
    log = api(busy)["trade_log"]
    assert [line["timestamp"] for line in log] == sorted((line["timestamp"] for line in log), reverse=True)


def test_api_carries_what_the_page_shows(busy):
    body = api(busy)
    assert set(body) == {
        "version",
        "status",
        "connected",
        "problem",
        "connection",
        "account",
        "positions",
        "open_trades",
        "closed_trades",
        "signals",
        "trade_log",
        "blocks",
        "alarms",
        "differences",
    }
    euro = next(trade for trade in body["open_trades"] if trade["symbol"] == "EURUSD")
    assert (euro["held"], euro["entry_price"], euro["tp_price"], euro["unrealized"]) == (
        "10000",
        "1.18912",
        "1.2",
        "33.10",
    )
    assert euro["milliseconds"] == {"received_to_order": pytest.approx(7.1), "order_to_fill": pytest.approx(48.2)}
    assert euro["protection"]["level"] == "good"


def test_closed_trade_shows_its_result_and_fees(busy):
    pound = next(trade for trade in api(busy)["closed_trades"] if trade["symbol"] == "GBPUSD")
    assert (pound["result"], pound["currency"], pound["commission"]) == ("43.20000", "USD", "2.0")
    assert pound["tp_hit"] is True


def test_result_of_a_contract_with_unknown_multiplier_is_per_unit(bench):
    seed = bench.seed()
    closed_trade(seed, "ES", 1, "sell", "2", ("6000", "5990.5"), 60, 30)
    assert [(t["result"], t["per_unit"]) for t in api(bench)["closed_trades"]] == [("9.5", True)]
    seed.live("contracts", {"ES": {"multiplier": "50", "currency": "USD"}})
    assert [(t["result"], t["per_unit"]) for t in api(bench)["closed_trades"]] == [("950.0", False)]


def test_unrealised_of_a_trade_beside_own_holdings_counts_the_trade_alone(bench):
    seed = bench.seed()
    connected(seed)
    trade = seed.trade("EURUSD", EURUSD, "buy", "10000", 60)
    seed.order(trade, "E", "buy", "10000", "filled")
    seed.fill(trade, "E", "buy", "10000", "1.18", 59, None)
    seed.live("positions", [position("EURUSD", EURUSD, "30000", "1.10", "1.19", "2700")])
    [trade], [row] = api(bench)["open_trades"], api(bench)["positions"]
    assert trade["unrealized"] == "100.00"
    assert row["unknown"] == "20000"


SINCE = "2026-11-23T14:32:00.000000Z"


# fmt: off
@pytest.mark.parametrize(("more", "stop", "level", "words"), [
    ({"stop_wanted": 0},                 None,        "none", "no stop-loss requested"),
    ({"stop_wanted": 1},                 "working",   "good", "working at the broker"),
    ({"stop_wanted": 1},                 "sending",   "wait", "has not confirmed"),
    ({"stop_wanted": 1},                 "cancelled", "wait", "has not confirmed"),
    ({"stop_wanted": 1, "state": "closing"}, "cancelled", "wait", "so that it can be closed"),
    ({"stop_wanted": 1, "unprotected_at": SINCE}, "cancelled", "wait", "none is working since 14:32:00 UTC"),
])
# fmt: on
def test_protection_in_words(bench, more, stop, level, words):
    seed = bench.seed()
    connected(seed)
    trade = seed.trade("AAPL", AAPL, "buy", "40", 60, entry_price="230", **more)
    seed.order(trade, "E", "buy", "40", "filled")
    if stop:
        seed.order(trade, "S", "sell", "40", stop, "220")
    [shown] = api(bench)["open_trades"]
    assert shown["protection"]["level"] == level
    assert words in shown["protection"]["text"]


@pytest.mark.parametrize(("state", "said"), [("working", True), ("filled", False)])
def test_why_an_order_is_held_back_is_said_until_it_is_done(bench, state, said):
    seed = bench.seed()
    connected(seed)
    trade = seed.trade("EURUSD", EURUSD, "buy", "10000", 60)
    seed.order(trade, "E", "buy", "10000", state, held="not before the market opens")
    assert ("TWS on the entry: not before the market opens" in bench.client().get("/").text) is said


def test_missing_stop_is_shouted_while_its_alarm_stands(busy):
    [apple] = (trade for trade in api(busy)["open_trades"] if trade["symbol"] == "AAPL")
    assert apple["protection"] == {"level": "bad", "text": "UNPROTECTED: no working stop-loss since 14:30:57 UTC"}


def test_nothing_is_claimed_of_a_stop_while_the_broker_is_away(busy):
    busy.seed().live("connection", {"status": "disconnected", "text": "TWS restarts"})
    euro = next(trade for trade in api(busy)["open_trades"] if trade["symbol"] == "EURUSD")
    assert euro["protection"]["level"] == "wait"
    assert euro["protection"]["text"] == "stop-loss for 10,000 was working at the broker when last seen"


def test_stop_of_another_size_is_not_called_protection(bench):
    seed = bench.seed()
    trade = seed.trade("AAPL", AAPL, "buy", "40", 60, entry_price="230", stop_wanted=1)
    seed.order(trade, "E", "buy", "40", "filled")
    seed.order(trade, "T", "sell", "40", "working", "240", filled="15")
    seed.order(trade, "S", "sell", "40", "working", "220")
    assert api(bench)["open_trades"][0]["protection"] == {
        "level": "wait", "text": "the stop-loss covers 40 of 25; it is being resized"}


def test_positions_tell_whose_they_are(busy):
    rows = {row["symbol"]: row for row in api(busy)["positions"]}
    assert rows["EURUSD"]["trade_id"] and rows["EURUSD"]["unknown"] == "0"
    assert (rows["MSFT"]["ignored"], rows["MSFT"]["unknown"]) == ("15", "0")
    assert rows["NVDA"]["unknown"] == "8"
    html = text_of(busy.client())
    assert 'action="/symbols/NVDA/ignore"' in html
    assert 'action="/symbols/MSFT/ignore"' not in html


def test_position_of_another_account_is_nobodys_choice(bench):
    seed = bench.seed()
    connected(seed)
    seed.live("positions", [position("NVDA", 7, "8", "1", "1", "0") | {"account": "DU7654321"}])
    assert api(bench)["positions"][0]["unknown"] == "0"
    assert "/symbols/NVDA/ignore" not in text_of(bench.client())


def test_page_of_many_trades_takes_each_position_once(bench, monkeypatch):
    """Each position was held against every open trade, and each trade against every position."""
    seed, many = bench.seed(), range(1, 61)
    connected(seed)
    for number in many:
        trade = seed.trade(f"Z{number}", number, "buy", "10", 60 + number, entry_price="100")
        seed.order(trade, "E", "buy", "10", "filled")
        seed.fill(trade, "E", "buy", "10", "100", 50, "1")
    seed.live("positions", [position(f"Z{n}", n, "10", "100", str(n), "5") for n in reversed(many)])
    asked, of = [], dashboard._ByContract.of
    monkeypatch.setattr(dashboard._ByContract, "of", lambda self, one: asked.append(one) or of(self, one))
    found = api(bench)
    assert len(asked) <= 2 * len(many)
    assert {row["symbol"]: row["unknown"] for row in found["positions"]} == {f"Z{n}": "0" for n in many}
    assert {row["symbol"]: row["market_price"] for row in found["open_trades"]} == {f"Z{n}": str(n) for n in many}


def test_position_without_a_number_is_known_by_its_symbol(bench):
    seed = bench.seed()
    connected(seed)
    trade = seed.trade("AAPL", AAPL, "buy", "40", 60, entry_price="230")
    seed.order(trade, "E", "buy", "40", "filled")
    seed.live("positions", [position("AAPL", 0, "40", "230", "231", "40"), position("NVDA", 0, "8", "1", "1", "0")])
    assert [row["trade_id"] for row in api(bench)["positions"]] == [trade, None]


def test_hold_shows_evidence_and_the_three_choices(busy):
    html = text_of(busy.client())
    assert "executions today" in html and "bought 40 at 231.41, 14:19:22 UTC" in html
    for wish in ("adopt", "flatten", "dismiss"):
        assert f'/{wish}" class="wish"' in html


def test_hold_says_what_journal_and_broker_hold_and_why_an_order_failed(busy):
    seed = busy.seed()
    seed.order(7, "C", "sell", "40", "rejected", reason="Order rejected - reason: no margin")
    seed.live("positions", [position("AAPL", AAPL, "-5", "231.4125", "234.19", "0")])
    words = " ".join(text_of(busy.client()).replace("<b>", "").replace("</b>", "").split())
    assert "The journal holds 40; the broker shows −5 AAPL." in words
    assert "is waiting: after Adopt it is carried out at once" in words
    assert "close order: sell 40 at market, rejected: Order rejected - reason: no margin" in words


def test_what_is_held_and_protected_is_told_at_a_glance(busy):
    html = text_of(busy.client())
    assert html.index("1 UNPROTECTED") < html.index("1 on hold: your decision") < html.index("2 protected by a stop")
    assert "1 position not in the journal: your decision" in html


def test_a_trade_whose_position_is_gone_shows_none(bench):
    seed = bench.seed()
    trade = seed.trade("AAPL", AAPL, "buy", "40", 60, entry_price="230", state="hold")
    seed.order(trade, "E", "buy", "40", "filled")
    assert '<span class="size">40</span>' in text_of(bench.client())
    seed.order(trade, "C", "sell", "40", "filled")
    assert '<span class="size">0</span>' in text_of(bench.client())


def test_prices_without_an_exit_are_drawn_on_no_scale(bench):
    seed = bench.seed()
    connected(seed)
    trade = seed.trade("AAPL", AAPL, "buy", "40", 60)
    seed.order(trade, "E", "buy", "40", "filled")
    seed.fill(trade, "E", "buy", "40", "230", 59, None)
    seed.live("positions", [position("AAPL", AAPL, "40", "230", "229.99", "-0.40")])
    assert 'class="gauge"' not in text_of(bench.client())
    seed.order(trade, "S", "sell", "40", "working", "220")
    assert 'class="gauge"' in text_of(bench.client())


def test_alarms_come_loudest_first_and_those_of_a_symbol_together(busy):
    assert [alarm["level"] for alarm in api(busy)["alarms"]] == ["page", "page", "warn"]
    html = text_of(busy.client())
    assert html.count('class="alarm page"') == html.count('class="alarm warn"') == 1
    assert 'Alarm: <a href="#trade-7">AAPL</a>' in html
    assert '<a class="badge real" href="#alarms">3 alarms</a>' in html
    busy.seed().db.execute("DELETE FROM alarms WHERE level = 'page'")
    assert '<a class="badge warn" href="#alarms">1 alarm</a>' in text_of(busy.client())


@pytest.mark.parametrize("more, is_folded", [(2, False), (3, True), (40, True)])
def test_many_warnings_are_folded_and_push_no_alarm_off_the_screen(busy, more, is_folded):
    seed = busy.seed()
    for n in range(more):
        seed.alarm("refused alert", "warn", f"F: alert {n} was refused", 10 - n / 10, "F", n)
    html = text_of(busy.client())
    assert ('<details id="warnings"' in html) == is_folded
    folded = html.partition('<details id="warnings"')[2].partition("</details>")[0]
    assert html.count('class="alarm page"') == 1 and 'class="alarm page"' not in folded
    assert all(f"alert {n} was refused" in html for n in range(more))  # none is left out
    if is_folded:
        assert f"{more + 1} warnings</strong>, the newest: F: alert {more - 1} was refused" in folded


def test_status_begins_with_connected_or_disconnected(busy):
    assert api(busy)["status"] == "connected: TWS at 127.0.0.1:7497"
    seed = busy.seed()
    seed.live("connection", {"status": "disconnected", "text": "disconnected: refused at 127.0.0.1:7497"})
    assert api(busy)["status"] == "disconnected: refused at 127.0.0.1:7497"


@pytest.mark.parametrize("said", ["connected to nothing yet", "disconnected", "", None, 1, ["connected"]])
def test_only_the_tag_says_that_tws_is_connected(busy, said):
    busy.seed().live("connection", {"status": said, "text": "connected, it says"})
    found = api(busy)
    assert found["connected"] is False and found["status"].startswith("disconnected")


def test_silent_executor_is_called_disconnected(busy):
    client = busy.client()
    before = client.get("/").headers["ETag"]
    busy.clock.advance(16)
    status = client.get("/api/status").json["status"]
    assert status.startswith("disconnected: the executor has not reported since 14:32:07 UTC; it is hanging, or cannot write")
    assert client.get("/").headers["ETag"] != before
    assert client.get("/healthz").status_code == 503


def test_unchanged_page_is_not_sent_again(busy):
    client = busy.client()
    tag = client.get("/").headers["ETag"]
    assert client.get("/", headers={"If-None-Match": tag}).status_code == 304
    busy.seed().live("connection", json.loads('{"status": "connected", "text": "TWS at 127.0.0.1:7497"}'), ago=0)
    assert client.get("/", headers={"If-None-Match": tag}).status_code == 200


def test_same_news_again_is_no_news(busy):
    client = busy.client()
    tag = client.get("/").headers["ETag"]
    connected(busy.seed())
    assert client.get("/", headers={"If-None-Match": tag}).status_code == 304


def test_page_is_compressed_for_who_can_read_it(busy):
    answer = busy.client().get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.data) < 20_000


def test_empty_journal_says_that_nothing_happened_yet(bench):
    connected(bench.seed())
    html = text_of(bench.client())
    for words in ("No open trades", "No signals yet", "No positions at the broker"):
        assert words in html


# fmt: off
BROKEN = {
    "missing":        (lambda path: None,                                              "there is no journal"),
    "not a database": (lambda path: path.write_bytes(b"not a journal" * 100),          "damaged or not a journal"),
    "empty":          (lambda path: path.write_bytes(b""),                             "different tables"),
    "a folder":       (lambda path: path.mkdir(),                                      "cannot be read"),
}
# fmt: on


@pytest.mark.parametrize("name", BROKEN)
def test_page_answers_without_a_readable_journal(bench, name):
    spoil, words = BROKEN[name]
    spoil(bench.path)
    client = bench.client()
    assert words in text_of(client)
    assert client.get("/api/status").json["status"].startswith("disconnected: ")
    assert client.get("/healthz").status_code == 503
    assert "executor_journal_readable 0.0" in text_of(client, "/metrics")
    assert f'executor_build_info{{version="{VERSION}"}} 1.0' in text_of(client, "/metrics")


def test_page_keeps_what_it_saw_when_the_journal_goes_bad(busy):
    client = busy.client()
    text_of(client)
    for path in busy.path.parent.glob("trade_state.db*"):
        path.unlink()
    html = text_of(client)
    assert "there is no journal" in html and "1.18912" in html


def test_page_says_that_another_program_holds_the_journal(busy):
    client = busy.client()
    thief = sqlite3.connect(busy.path, isolation_level=None)
    thief.execute("PRAGMA locking_mode = EXCLUSIVE")
    thief.execute("BEGIN EXCLUSIVE")
    html = text_of(client)
    thief.close()
    assert "is locked by another" in html
    assert "1.18912" in text_of(client)


# what cannot be read → SQL that writes it into the open trade 4, which is in EURUSD
SPOILED = {
    "a quantity": "UPDATE orders SET quantity = 'many' WHERE trade_id = 4",
    "no number": "UPDATE fills SET price = 'NaN' WHERE trade_id = 4",
    "a state": "UPDATE trades SET state = 'asleep' WHERE id = 4",
    "an instant": "UPDATE trades SET sent_at = 'yesterday' WHERE id = 4",
    "a word of the broker": "UPDATE orders SET said = 'Perhaps' WHERE trade_id = 4",
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_trade_that_cannot_be_read_is_said_and_keeps_its_button(busy, name):
    busy.seed().db.execute(SPOILED[name])
    client = busy.client()
    html = text_of(client)
    assert "trade 4 (EURUSD) cannot be read from the journal" in html
    assert 'action="/trades/4/close"' in html and 'action="/symbols/EURUSD/adopt"' not in html
    body = client.get("/api/status").json
    assert [trade["symbol"] for trade in body["open_trades"]] == ["AAPL", "USDJPY"]
    assert body["problem"].startswith("trade 4 (EURUSD) cannot be read from the journal (")
    assert "executor_journal_readable 0.0" in text_of(client, "/metrics")


def test_a_closed_trade_that_cannot_be_read_is_said(busy):
    busy.seed().db.execute("UPDATE fills SET quantity = '1,000' WHERE trade_id = 2")
    assert "trade 2 (GBPUSD) cannot be read from the journal" in text_of(busy.client())
    assert len(api(busy)["closed_trades"]) == 3


@pytest.mark.parametrize(
    "value", ["[]", "{}", '"text"', "null", "no json", '[{"symbol": 7, "position": "x"}, 3]', "[[]]"]
)
def test_odd_live_values_do_no_harm(busy, value):
    for key in ("connection", "account", "positions", "contracts"):
        busy.seed().row("live", key=key, value=value, at=busy.seed().ago(0))
    client = busy.client()
    text_of(client)
    text_of(client, "/api/status")


def test_page_reads_on_while_the_executor_writes(busy):
    seed = busy.seed()
    seed.db.execute("BEGIN IMMEDIATE")
    seed.event(0, "EURUSD", "late", "not committed yet")
    seed.write()
    assert "not committed yet" not in text_of(busy.client())
    seed.db.execute("COMMIT")
    assert "not committed yet" in text_of(busy.client())


def test_page_never_writes_the_journal(busy):
    before = busy.path.read_bytes()
    client = busy.client()
    for path in ("/", "/api/status", "/metrics", "/healthz"):
        text_of(client, path)
    assert busy.path.read_bytes() == before


def test_metrics_count_what_the_journal_holds(busy):
    lines = text_of(busy.client(), "/metrics").splitlines()
    for line in (
        "executor_connected 1.0",
        "executor_open_trades 3.0",
        "executor_trades_on_hold 1.0",
        'executor_alarms{level="page"} 2.0',
        'executor_signals_total{outcome="refused"} 2.0',
        "executor_received_to_order_seconds_count 7.0",
        'executor_order_to_fill_seconds_bucket{le="0.05"} 6.0',
    ):
        assert line in lines, line


def test_metrics_follow_what_is_revised(busy):
    """The tallies are kept by the journal itself: a signal or a trade that changes is counted once, as it is now."""
    seed, client = busy.seed(), busy.client()
    seed.db.execute(
        "UPDATE inbox SET outcome = 'refused' WHERE seq = (SELECT max(seq) FROM inbox WHERE outcome = 'entered')"
    )
    seed.db.execute("UPDATE trades SET filled_at = NULL WHERE id = 4")
    seed.db.execute("UPDATE trades SET filled_at = sent_at WHERE id = 2")
    lines = text_of(client, "/metrics").splitlines()
    counted = [row[0] for row in seed.db.execute("SELECT count(*) FROM inbox GROUP BY coalesce(outcome, state)")]
    shown = [float(line.split()[-1]) for line in lines if line.startswith("executor_signals_total{")]
    assert sorted(n for n in shown if n) == sorted(counted)
    for line in (
        'executor_signals_total{outcome="refused"} 3.0',
        'executor_order_to_fill_seconds_bucket{le="0.005"} 1.0',
        'executor_order_to_fill_seconds_bucket{le="0.05"} 5.0',
        'executor_order_to_fill_seconds_bucket{le="+Inf"} 5.0',
        "executor_order_to_fill_seconds_count 5.0",
    ):
        assert line in lines, line


OWN_TEMPLATE = """<style>b { color: red }</style><h1>{{ dashboard_data.status }}</h1>
{% for name, value in dashboard_data.account.items() %}<i>{{ name }}={{ value }}</i>{% endfor %}
{{ dashboard_data.account.NetLiquidation }}
{% for p in dashboard_data.positions %}<b>{{ p.symbol }}|{{ p.position }}|{{ "%.2f"|format(p.avgCost) }}</b>{% endfor %}
{% for line in trade_log %}
<p>{{ line.timestamp }}|{{ line.symbol }}|{{ line.action }}|{{ line.details }}</p>
{% endfor %}"""


def test_an_exit_that_is_gone_is_no_level_of_an_open_trade(busy):
    trades = {each["symbol"]: each for each in busy.client().get("/api/status").json["open_trades"]}
    apple = trades["AAPL"]  # its stop-loss of 228 was cancelled
    assert [order["state"] for order in apple["orders"] if order["leg"] == "S"] == ["cancelled"]
    assert (apple["sl_price"], apple["tp_price"]) == (None, None)
    assert (trades["EURUSD"]["sl_price"], trades["EURUSD"]["tp_price"]) == ("1.18", "1.2")


def test_a_template_of_ones_own_needs_only_the_four_names(busy, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text(OWN_TEMPLATE, encoding="utf-8")
    html = text_of(busy.client(templates=str(tmp_path / "mine")))
    assert "<h1>connected: TWS at 127.0.0.1:7497</h1>" in html
    assert "<i>NetLiquidation=1004217.36</i>" in html
    assert "<b>EURUSD|10000|1.19</b>" in html
    assert "|EURUSD|entry filled|buy 10000 EURUSD at 1.18912</p>" in html
    assert HOSTILE not in html


def test_account_is_shown(busy):
    assert ACCOUNT in text_of(busy.client())


def test_page_reads_what_the_journal_itself_writes(bench):
    journal = Journal.open(bench.path, bench.clock)
    journal.publish(
        "connection", {"status": "connected", "text": "ready", "stops": ["entries wait: the clock is 31 s off"]}
    )
    journal.write([Line(bench.clock.now(), "signal received", "buy 10,000 EURUSD", symbol="EURUSD")])
    html = text_of(bench.client())
    journal.close()
    assert "connected: ready" in html
    assert "buy 10,000 EURUSD" in html
    assert "entries wait: the clock is 31 s off" in html


def test_the_page_shows_what_a_signal_asked_for(bench):
    seed = bench.seed()
    seed.signal(
        "MSFT",
        60,
        side="buy",
        quantity="5",
        sl="1.5%",
        trail="25 ticks",
        price="401.5",
        targets='[{"tp": "2%", "percent": "50"}]',
        time="2026-11-23T14:30:00.000000Z",
        outcome="entered",
        strategy_name="Turtle 2",
    )
    seed.signal("AAPL", 50, action="close", percent="50", outcome="closed")
    seed.signal("NVDA", 40, action="protect", sl="entry", tp="138.5", targets="torn", loosen=1, outcome="nothing to do")
    seed.write()
    html = " ".join(text_of(bench.client()).split())
    for shown in (
        "50% at 2%",
        "SL 1.5%",
        "trail 25 ticks",
        '<small class="of">Turtle 2</small>',
        "close 50%",
        "TP 138.50 SL entry",
    ):
        assert shown in html, shown
    protect, close, entry = api(bench)["signals"]
    assert (entry["targets"], entry["price"], entry["sl"]) == ([{"tp": "2%", "percent": "50"}], "401.5", "1.5%")
    assert entry["time"].startswith("2026-11-23T14:30:00") and close["percent"] == "50"
    assert (protect["targets"], protect["loosen"], protect["tp"]) == ([], True, "138.5")
