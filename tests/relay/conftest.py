from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pending.patience import be_patient
from tests.relay.examples import Web
from tests.relay.process import PATIENT, RelayProcess


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of a relay in this process waits as long as it takes."""
    be_patient(monkeypatch)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    found = Web(tmp_path)
    yield found
    found.pending.close()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """A relay for a whole file of tests; each test uses symbols or ids of its own. It is patient, see there."""
    found = RelayProcess(tmp_path_factory.mktemp("relay"), seconds=PATIENT)
    yield found
    found.stop()
    assert "Traceback" not in found.log, found.log
