"""Every database of ours is its owner's alone, whatever the umask was and whoever created it before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.backup import copy_database
from common.clock import SystemClock
from common.private import make_database_private
from executor.journal.journal import Journal
from executor.paper.store import FileStore, StoreError
from tests.pending.test_sqlite import fill

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows keeps this in the folder's access list")


@pytest.fixture(autouse=True)
def _open_to_everybody() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def journal(path: Path) -> Any:
    found = Journal.open(path, SystemClock())
    found.bind_account("DU1234567")
    return found


def queue(path: Path) -> Any:
    from relay.pending import open_pending

    found = open_pending(f"sqlite:///{path}")
    fill(found, "EURUSD")
    return found


OPENED: dict[str, Callable[[Path], Any]] = {"journal": journal, "paper TWS": FileStore, "queue": queue}


def modes(path: Path) -> dict[str, int]:
    return {
        file.name.removeprefix(path.name): file.stat().st_mode & 0o777 for file in path.parent.glob(f"{path.name}*")
    }


@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED.keys())
def test_database_and_its_other_files_are_their_owners_alone(tmp_path: Path, opened: Callable[[Path], Any]) -> None:
    with closing(opened(tmp_path / "a.db")):
        found = modes(tmp_path / "a.db")
    assert {"", "-wal", "-shm"} <= set(found) and set(found.values()) == {0o600}, found


@pytest.mark.parametrize("opened", OPENED.values(), ids=OPENED.keys())
def test_database_of_an_earlier_version_is_closed_to_others(tmp_path: Path, opened: Callable[[Path], Any]) -> None:
    path = tmp_path / "a.db"
    opened(path).close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").touch()
        Path(f"{path}{suffix}").chmod(0o644)
    with closing(opened(path)):
        assert set(modes(path).values()) == {0o600}, modes(path)


def test_reader_leaves_no_file_that_others_can_read(tmp_path: Path) -> None:
    """The page reads the journal while the executor is down: SQLite creates its other files then."""
    path = tmp_path / "a.db"
    journal(path).close()
    with closing(Journal.open(path, SystemClock(), readonly=True)) as reader:
        reader.account()
        assert set(modes(path).values()) == {0o600}


def test_copy_is_its_owners_alone(tmp_path: Path) -> None:
    with closing(journal(tmp_path / "a.db")):
        copy_database(tmp_path / "a.db", tmp_path / "copy.db")
    assert set(modes(tmp_path / "copy.db").values()) == {0o600}


def test_rights_of_the_owner_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch()
    path.chmod(0o444)
    make_database_private(path)
    assert modes(path) == {"": 0o400}


def test_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="state file .* cannot be used"):
        FileStore(tmp_path / "nowhere" / "a.db")


def test_link_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    """A link to a database elsewhere is the owner's choice; that file is closed to others as well."""
    (tmp_path / "disk.db").touch(0o644)
    (tmp_path / "a.db").symlink_to(tmp_path / "disk.db")
    with closing(journal(tmp_path / "a.db")):
        pass
    assert (tmp_path / "a.db").is_symlink() and modes(tmp_path / "disk.db") == {"": 0o600}
