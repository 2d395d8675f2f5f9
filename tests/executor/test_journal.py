"""The journal's file: created, migrated, checked, durable, and clear when it cannot be used."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from common.clock import FakeClock
from common.errors import JournalError
from common.signals import Action, Envelope, Signal, payload_text
from executor.desk.book import Book
from executor.journal import storage
from executor.journal.journal import Journal
from executor.journal.rows import InboxRow
from executor.journal.storage import MIGRATIONS, open_file

from .fakes import START, House
from .test_desk import entered


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trade_state.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    found = Journal.open(path, FakeClock(START))
    yield found
    found.close()


def received(journal: Journal, signal_id: str) -> InboxRow | None:
    envelope = Envelope(signal_id, START, None, Signal(Action.CLOSE, "EURUSD"))
    return journal.receive(envelope, payload_text(envelope))


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    found = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return int(found)


def test_new_file_has_this_versions_tables_and_durable_commits(path: Path, journal: Journal) -> None:
    pragmas = [journal._rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert pragmas == ["wal", 2, 1] and version(path) == len(MIGRATIONS)


def test_file_is_kept_when_opened_again(path: Path, journal: Journal) -> None:
    assert received(journal, "one")
    again = Journal.open(path, FakeClock(START))
    assert [row.signal_id for row in again.load(START).signals] == ["one"] and not received(again, "one")
    again.close()


def add_migration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sql: str) -> None:
    (tmp_path / "next.sql").write_text(sql, "utf-8")
    monkeypatch.setattr(storage, "MIGRATIONS", (*MIGRATIONS, str(tmp_path / "next.sql")))


def test_file_of_an_earlier_version_is_migrated_and_keeps_its_rows(
    path: Path, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received(journal, "one")
    add_migration(monkeypatch, tmp_path, "ALTER TABLE inbox ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';")
    db = open_file(path)
    assert [tuple(row) for row in db.execute("SELECT signal_id, colour FROM inbox")] == [("one", "red")]
    db.close()
    assert version(path) == len(MIGRATIONS) + 1


def test_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_migration(monkeypatch, tmp_path, "ALTER TABLE inbox ADD COLUMN colour TEXT;\nALTER TABLE nowhere ADD COLUMN x;")
    with pytest.raises(JournalError, match="nowhere"):
        open_file(path)
    assert version(path) == len(MIGRATIONS) and received(journal, "one")


def test_file_of_a_newer_version_is_not_touched(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(JournalError, match="newer version of this program .* update it"):
        open_file(path)


def test_damaged_file_is_said_with_the_remedy(path: Path) -> None:
    journal = Journal.open(path, FakeClock(START))
    for number in range(200):
        received(journal, f"signal {number}")
    journal.close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 4096] = b"\xff" * 4096
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match="restore it from a backup"):
        open_file(path)


def test_file_that_is_no_database_is_said_with_the_remedy(path: Path) -> None:
    path.write_bytes(b"an essay on the markets, " * 100)
    with pytest.raises(JournalError, match="cannot be opened .*: restore it from a backup, or move it away"):
        open_file(path)


def test_reader_changes_nothing(path: Path, journal: Journal) -> None:
    reader = Journal.open(path, FakeClock(START), readonly=True)
    assert reader.load(START).signals == ()
    with pytest.raises(JournalError, match="readonly"):
        received(reader, "one")
    reader.close()


def test_transaction_writes_all_or_nothing(journal: Journal) -> None:
    with pytest.raises(KeyError), journal.transaction():
        received(journal, "one")
        journal.trade(4711)
    assert journal.load(START).signals == ()


def test_lock_held_by_another_program_is_an_error_not_a_hang(path: Path, journal: Journal) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    journal._db.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(JournalError, match="locked"):
        received(journal, "one")
    other.execute("ROLLBACK")
    other.close()
    assert received(journal, "one")


def test_journal_belongs_to_one_account_for_ever(journal: Journal) -> None:
    journal.bind_account("DU1234567")
    journal.bind_account("DU1234567")
    with pytest.raises(JournalError, match="belongs to account DU1234567, not to U7654321"):
        journal.bind_account("U7654321")


def test_order_ids_start_at_the_brokers_floor_and_never_go_back(journal: Journal) -> None:
    book = Book(journal, FakeClock(START))
    for floor, first in ((10, 10), (5, 13), (40, 40), (1, 43)):
        with book.change():
            assert book.take_order_ids(1, 3, floor) == first
    with book.change():
        assert book.take_order_ids(2, 1, 7) == 7
    book = Book(journal, FakeClock(START))
    with book.change():
        assert book.take_order_ids(1, 1, 1) == 46


def test_what_is_so_already_is_not_written_again() -> None:
    """Each write is a wait for the disk: a look at many open trades must cost none."""
    house = House.build().connect()
    entered(house)
    trade, before = house.journal.unfinished()[0], house.journal._db.total_changes
    with house.desk.book.change():
        house.desk.life.settle(replace(trade))
    house.desk.advance()
    house.desk.tick()
    assert house.journal._db.total_changes == before
    house.change_order(trade.order(trade.orders[-1].order_ref), price=Decimal("1.17"))
    assert house.trades()[0]["sl_price"] == 1.17
