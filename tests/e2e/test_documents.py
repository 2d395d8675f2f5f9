"""The documents hold together: links lead somewhere, examples are what the code accepts."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import pkgutil
import re
import sqlite3
import sys
from pathlib import Path

import pytest

from common import strict_json
from common.signals import alert_from
from tests.executor.fakes import House

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# What TradingView puts in the place of its placeholders.
# source: TradingView, "How to use a variable value in alert"
PLACEHOLDERS = {
    "{{ticker}}": "EURUSD",
    "{{exchange}}": "FX",
    "{{interval}}": "5",
    "{{plot_0}}": "1.20",
    "{{plot_1}}": "1.18",
    "{{close}}": "1.19",
    "{{timenow}}": "2026-11-23T09:15:00Z",
    "{{strategy.order.id}}": "Long",
    "{{strategy.order.price}}": "1.1903",
    "{{strategy.order.action}}": "buy",
    "{{strategy.market_position}}": "long",
    "{{strategy.market_position_size}}": "10000",
    "{{strategy.prev_market_position}}": "flat",
    "{{strategy.prev_market_position_size}}": "0",
}


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets."""
    plain = re.sub(r"[`*_]|\[([^]]*)\]\([^)]*\)", lambda m: m.group(1) or "", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    lines = FENCE.sub("", page.read_text("utf-8")).splitlines()
    return {anchor(line.lstrip("#")) for line in lines if line.startswith("#")}


def links(page: Path) -> list[str]:
    """Return the relative links of a page."""
    found = LINK.findall(FENCE.sub("", page.read_text("utf-8")))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, part = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not part or part in anchors(target), f"{link}: no such heading"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    todo = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    while todo:
        page = todo.pop()
        if page.suffix == ".md" and page not in seen:
            seen.add(page)
            todo += [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
    assert [page.relative_to(ROOT).as_posix() for page in PAGES if page not in seen] == []


def messages(page: Path) -> list[str]:
    """Return the JSON examples of a page that are alerts."""
    blocks = re.findall(r"^```json\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if '"action"' in block and '"signals"' not in block]


@pytest.mark.parametrize(
    "message", [m for page in PAGES for m in messages(page)], ids=lambda message: message.strip()[:60]
)
def test_every_alert_message_in_the_documents_is_accepted(message: str) -> None:
    for name, value in PLACEHOLDERS.items():
        message = message.replace(name, value)
    assert "{{" not in message
    assert alert_from(*strict_json.read(message.encode())).signal.symbol


def test_claims_are_honest() -> None:
    """Never "exactly once", except to say that it is not claimed."""
    for page in PAGES:
        for line in page.read_text("utf-8").splitlines():
            assert "exactly once" not in line.lower() or "never" in line.lower(), f"{page.name}: {line}"


def modules() -> list[str]:
    found = []
    for name in ("common", "relay", "executor"):
        package = importlib.import_module(name)
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{name}.")]
    return [name for name in found if not name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_are_true(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


def test_the_makefile_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    mentioned = {t for page in PAGES for t in re.findall(r"`make ([a-z-]+)", page.read_text("utf-8"))}
    assert mentioned <= targets


def test_locks_name_no_machine_and_no_registry() -> None:
    for lock in ROOT.glob("requirements*.txt"):
        assert not re.search(r"https?:|file:|--(index|find|extra)", lock.read_text("utf-8")), lock.name


def test_every_table_and_column_of_the_journal_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "journal.md").read_text("utf-8")
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript((ROOT / "executor" / "journal" / "schema.sql").read_text("utf-8"))
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = {(table, row[1]) for table in tables for row in db.execute(f"PRAGMA table_info({table})")}
    sections = {section.split("\n", 1)[0].strip(): section for section in page.split("\n## ")}
    for table, column in columns:
        if not table.startswith("sqlite_"):
            place = sections.get(table) or next(row for row in page.splitlines() if row.startswith(f"| `{table}` |"))
            assert f"`{column}`" in place, f"{table}.{column}"


def test_the_walk_of_one_signal_names_the_files_in_their_order() -> None:
    """At most twenty, numbered without a gap, each in the tree; those of the desk are the ones a signal really runs through."""
    page = (ROOT / "docs" / "explanation" / "follow-one-signal.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| `([^`]+\.py)` \|", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1)) and len(rows) <= 20
    walk = [ROOT / name for _, name in rows]
    assert [path for path in walk if not path.is_file()] == []
    inside = {path for path in walk if path.parent.name in ("desk", "core")}
    assert inside == inside & _files_of_one_signal()


def _files_of_one_signal() -> set[Path]:
    """Return the files in which a function was called between a signal's arrival and its protected position."""
    house = House.build().connect()
    seen: set[Path] = set()
    sys.setprofile(lambda frame, event, arg: seen.add(Path(frame.f_code.co_filename)) if event == "call" else None)
    try:
        house.signal("open", side="buy", size="10000", tp="1.25", sl="1.10")
    finally:
        sys.setprofile(None)
    assert house.state == "open" and len(house.working()) == 2
    return seen
