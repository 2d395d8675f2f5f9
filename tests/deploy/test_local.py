"""What `make run` and `make demo` say when something is in their way; that they run is shown in tests/e2e."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import demo
from deploy.local import RunError, fresh_secrets, secrets_of


def test_secrets_in_another_encoding_are_one_clear_mistake(tmp_path: Path) -> None:
    """As a redirection in Windows PowerShell 5 writes them."""
    text = "\n".join(f"{name}={value}" for name, value in fresh_secrets().items())
    (tmp_path / ".env").write_text(text, "utf-16")
    with pytest.raises(RunError, match="is not UTF-8 text"):
        secrets_of(tmp_path / ".env")
    (tmp_path / ".env").write_text(text, "utf-8")
    assert set(secrets_of(tmp_path / ".env")) == set(fresh_secrets())


@pytest.mark.parametrize("was_killed", [False, True])
def test_the_demo_needs_a_run_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_killed: bool) -> None:
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    if was_killed:
        (tmp_path / ".run").mkdir()
        (tmp_path / ".run" / "state.json").write_text(json.dumps({"page": 1}))
    with pytest.raises(RunError, match="start `make run` in another terminal first"):
        demo.running()
