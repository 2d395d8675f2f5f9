"""When a page cannot be made: the buttons stay, the log and an alarm say so, /healthz too, and it ends by itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.status import page, rendering
from tests.editors import editors

BUTTONS = (
    "/trades/4/close", "/trades/7/adopt", "/trades/7/flatten", "/trades/7/dismiss", "/symbols/GBPUSD/reset",
    "/symbols/NVDA/ignore", "/symbols/NVDA/adopt",
)  # fmt: skip
OWN_MISTAKES = {
    "syntax": ("fine\n{% for %}", "line 2"),
    "a name that does not exist": ("fine\n\n{{ dashboard_data.nothing.at_all }}", "line 3"),
    "a value of another kind": ('fine\n{{ "%d"|format("x") }}', "line 2"),
    "a missing part": ('{% include "nothing.html" %}', "line 1"),
}


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("planted")


def has_buttons(html: str) -> bool:
    return all(f'action="{button}"' in html for button in BUTTONS)


def press_all(bench, client, html: str) -> None:
    """Press every button as a browser without scripts does: asked once more, then sent."""
    token = re.search(r'name="csrf_token" value="([0-9a-f]+)"', html)[1]
    for button in BUTTONS:
        asked = client.post(button, data={"csrf_token": token, "step": "ask"})
        assert asked.status_code == 200 and 'name="confirm" value="yes"' in asked.text
        done = client.post(button, data={"csrf_token": token, "confirm": "yes", "step": "do"})
        assert done.status_code == 200 and bench.desk.answer in done.text
    assert len(bench.desk.commands) == len(BUTTONS)


# What fails: the built-in template, what it is made from, the reading before it.
@pytest.fixture(params=["render", "build", "look"])
def broken(busy, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A page that cannot be made; the function ends that."""
    if request.param == "render":
        monkeypatch.setattr(page, "render_template", fail)
    elif request.param == "build":
        monkeypatch.setattr(page, "build", fail)
    else:
        monkeypatch.setattr(page, "is_silent", fail)
    return monkeypatch.undo


def test_a_page_that_cannot_be_made_keeps_its_buttons(busy, broken):
    client = busy.client()
    answer = client.get("/")
    assert answer.status_code == 500 and "ETag" not in answer.headers
    assert has_buttons(answer.text)
    press_all(busy, client, answer.text)


def test_nothing_is_blamed_on_a_template_of_ones_own_where_there_is_none(busy, broken):
    html = busy.client().get("/").text
    assert "a bug in this program" in html and "planted" in html
    assert "your own template" not in html


def test_a_fault_is_told_once_and_its_end_too(busy, broken):
    client = busy.client()
    for _ in range(5):
        client.get("/")
    assert [(what, bool(words)) for what, words in busy.told] == [("/", True)]
    assert client.get("/healthz").json == {"status": "failing", "reason": "failing: /"}
    assert client.get("/healthz").status_code == 503
    broken()
    busy.seed().live("connection", {"status": "connected", "text": "again"})
    assert client.get("/").status_code == 200
    assert busy.told[1:] == [("/", None)]
    assert client.get("/healthz").json == {"status": "ok"}


def test_a_fault_is_logged_with_its_place_once_in_five_minutes(busy, broken, caplog):
    client = busy.client()
    with caplog.at_level(logging.ERROR):
        for number in range(20):
            busy.clock.advance(1)
            busy.seed().live("account", {"NetLiquidation": str(number)})  # so it is tried again
            client.get("/")
        [record] = caplog.records
        assert record.getMessage() == "page_failed" and record.exc_info[2] is not None
        busy.clock.advance(300)
        busy.seed().live("account", {})
        client.get("/")
    assert len(caplog.records) == 2


def test_an_alarm_of_an_earlier_run_ends_when_the_page_works(busy):
    client = busy.client()
    for _ in range(3):
        client.get("/")
    assert busy.told == [("/", None)]


@pytest.mark.parametrize("name", OWN_MISTAKES)
def test_a_mistake_in_ones_own_template_is_named_on_the_built_in_page(busy, tmp_path: Path, name):
    text, place = OWN_MISTAKES[name]
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    client = busy.client(templates=str(tmp_path))
    answer = client.get("/")
    assert answer.status_code == 500
    assert f"your own template index.html, {place}" in answer.text
    assert 'id="live"' in answer.text and "/static/page.js" in answer.text  # it is the built-in one
    press_all(busy, client, answer.text)
    assert [what for what, words in busy.told if words] == ["/"]


@editors
def test_ones_own_template_is_read_as_any_editor_writes_it(busy, tmp_path: Path, written):
    (tmp_path / "index.html").write_bytes(written("<!doctype html>\n<p>Überblick: {{ 1 + 1 }}</p>\n"))
    answer = busy.client(templates=str(tmp_path)).get("/")
    assert answer.status_code == 200
    assert answer.text.startswith("<!doctype html>") and "<p>Überblick: 2<" in answer.text


def test_ones_own_template_in_another_encoding_is_named(busy, tmp_path: Path):
    (tmp_path / "index.html").write_bytes("<p>Überblick</p>".encode("cp1252"))
    answer = busy.client(templates=str(tmp_path)).get("/")
    assert answer.status_code == 500
    assert "your own template index.html, line 1" in answer.text and "save it as UTF-8 text" in answer.text


def test_ones_own_template_and_the_built_in_one_fail(busy, tmp_path: Path, monkeypatch):
    (tmp_path / "index.html").write_text("{% for %}", encoding="utf-8")
    client = busy.client(templates=str(tmp_path))
    monkeypatch.setattr(rendering, "render_template", fail)
    answer = client.get("/")
    assert answer.status_code == 500 and "your own template index.html, line 1" in answer.text
    press_all(busy, client, answer.text)


@pytest.mark.parametrize("name", ["_base.html", "confirm.html", "done.html", "error.html", "_macros.html"])
def test_another_broken_template_in_ones_own_folder_takes_no_button_away(busy, tmp_path: Path, name):
    (tmp_path / "index.html").write_text("<p>{{ csrf_token }}</p>", encoding="utf-8")
    (tmp_path / name).write_text("{% for %}", encoding="utf-8")
    client = busy.client(templates=str(tmp_path))
    token = re.search(r"<p>([0-9a-f]+)</p>", client.get("/").text)[1]
    press_all(busy, client, f'name="csrf_token" value="{token}"')
    assert client.get("/nowhere", headers={"Accept": "text/html"}).status_code == 404


def test_login_works_without_any_template(busy, monkeypatch):
    monkeypatch.setattr(rendering, "render_template", fail)
    client = busy.client(host="0.0.0.0", login_token="let-me-in-please")
    refused = client.get("/", headers={"Accept": "text/html"})
    assert refused.status_code == 401 and 'action="/login"' in refused.text
    assert 'name="token"' in client.get("/login").text
    assert client.post("/login", data={"token": "let-me-in-please"}).status_code == 303


@pytest.mark.parametrize(("path", "name"), [("/api/status", "build"), ("/metrics", "build")])
def test_an_api_that_fails_says_so_and_is_told(busy, monkeypatch, path, name):
    monkeypatch.setattr(page, name, fail)
    client = busy.client()
    answer = client.get(path)
    assert answer.status_code == 500 and answer.content_type == "application/problem+json"
    assert "planted" not in answer.text
    assert [what for what, _ in busy.told] == [path]
    monkeypatch.undo()
    assert client.get(path).status_code == 200
    assert [(what, bool(words)) for what, words in busy.told] == [(path, True), (path, False)]


def test_a_button_that_fails_is_told_for_a_quarter_of_an_hour(busy, csrf):
    client = busy.client()
    token = csrf(client)
    busy.desk.answer = RuntimeError("planted")
    answer = client.post("/trades/4/close", data={"csrf_token": token, "confirm": "yes"})
    assert answer.status_code == 500 and "before you press it again" in answer.text
    assert client.get("/healthz").json["reason"] == "failing: /trades"
    busy.clock.advance(901)
    connected_again(busy)
    assert client.get("/healthz").json == {"status": "ok"}
    assert ("/trades", None) in busy.told


def test_a_plain_page_says_that_the_journal_cannot_be_read(bench, monkeypatch):
    monkeypatch.setattr(page, "build", fail)
    bench.path.write_bytes(b"not a journal" * 100)
    answer = bench.client().get("/")
    assert answer.status_code == 500 and "The journal cannot be read" in answer.text


@pytest.mark.parametrize("value", ["[]", "{}", "null", "no json", '[{"symbol": 7}, 3, {"position": "x"}]', "[[]]"])
def test_odd_live_values_do_no_harm_to_the_plain_page(busy, monkeypatch, value):
    busy.seed().row("live", key="positions", value=value, at=busy.seed().ago(0))
    monkeypatch.setattr(page, "build", fail)
    assert 'action="/trades/4/close"' in busy.client().get("/").text


def test_hostile_text_stays_text_on_the_plain_page(busy, monkeypatch):
    seed = busy.seed()
    seed.db.execute("UPDATE trades SET hold_reason = '<script>alert(1)</script>' WHERE state = 'hold'")
    seed.row("blocks", account="x", con_id=1, symbol='"><script>', side="buy", since=seed.ago(1), reason="")
    monkeypatch.setattr(page, "build", fail)
    html = busy.client().get("/").text
    assert "<script" not in html and "&lt;script&gt;" in html


def connected_again(bench) -> None:
    bench.seed().now = bench.clock.now()
    seed = bench.seed()
    seed.live("connection", {"status": "connected", "text": "TWS"}, ago=0)
