"""Copies of databases in use."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.clock import SystemClock
from executor.journal.backup import backup as backup_journal
from executor.journal.journal import Journal
from relay.commands.backup import backup as backup_queue
from relay.pending.base import Wish
from tests.relay.examples import NOW, Web


def test_the_queue_is_copied_while_the_relay_has_it_open(web_queue: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(backup_queue, [str(tmp_path / "copy.db"), "--queue-url", f"sqlite:///{web_queue}"])
    assert result.exit_code == 0, result.output
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("SELECT count(*) FROM signals").fetchone() == (1,)
    copy.close()
    if sys.platform != "win32":
        assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_restored_copy_delivers_what_was_waiting(web_queue: Path, tmp_path: Path) -> None:
    CliRunner().invoke(backup_queue, [str(tmp_path / "copy.db"), "--queue-url", f"sqlite:///{web_queue}"])
    from relay.pending import open_pending

    restored = open_pending(f"sqlite:///{tmp_path / 'copy.db'}")
    assert [each.attempt for each in restored.take(Wish(10, 10, lambda: NOW, 0, lambda: True))] == [1]
    restored.close()


def test_the_journal_is_copied_while_it_is_open(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "trade_state.db", SystemClock())
    journal.bind_account("DU1234567")
    result = CliRunner().invoke(backup_journal, [str(tmp_path / "copy.db"), "--db", str(tmp_path / "trade_state.db")])
    journal.close()
    assert result.exit_code == 0, result.output
    copy = Journal.open(tmp_path / "copy.db", SystemClock(), readonly=True)
    assert copy.account() == "DU1234567"
    copy.close()


def test_nothing_is_overwritten_and_nothing_left_behind(web_queue: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{web_queue}"
    Path(tmp_path, "copy.db").write_text("mine")
    assert (
        "is not overwritten" in CliRunner().invoke(backup_queue, [str(tmp_path / "copy.db"), "--queue-url", url]).output
    )
    assert Path(tmp_path, "copy.db").read_text() == "mine"
    Path(tmp_path, "broken.db").write_bytes(b"no database " * 200)
    result = CliRunner().invoke(backup_journal, [str(tmp_path / "other.db"), "--db", str(tmp_path / "broken.db")])
    assert result.exit_code == 1
    assert "could not be copied" in result.output
    assert not Path(tmp_path, "other.db").exists()
    assert "is no file" in CliRunner().invoke(backup_journal, ["x.db", "--db", str(tmp_path / "missing.db")]).output


def test_postgresql_has_its_own_tool() -> None:
    result = CliRunner().invoke(backup_queue, ["x.db", "--queue-url", "postgresql://127.0.0.1/relay"])
    assert "pg_dump" in result.output


@pytest.fixture
def web_queue(tmp_path: Path) -> Iterator[Path]:
    """A queue with one signal that waits, open in a relay."""
    folder = tmp_path / "relay"
    folder.mkdir()
    web = Web(folder)
    web.send()
    yield folder / "pending.db"
    web.pending.close()
