"""What `make run` and `make demo` say when something is in their way; that they run is shown in tests/e2e."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import ConfigError
from deploy import demo
from deploy.local import RunError, fresh_secrets, secrets_of


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_secrets_are_read_as_any_editor_writes_them(tmp_path: Path, encoding: str) -> None:
    """Such as a redirection in Windows PowerShell 5, which writes UTF-16."""
    own = fresh_secrets()
    text = "\r\n".join(f"{name}={value}" for name, value in own.items())
    (tmp_path / ".env").write_text(text, encoding, newline="")
    assert secrets_of(tmp_path / ".env") == own


def test_lines_that_cannot_be_read_are_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('RELAY_WEBHOOK_SECRETS="abc\n', "utf-8")
    with pytest.raises(ConfigError, match=r"line 1 \(RELAY_WEBHOOK_SECRETS\) cannot be read"):
        secrets_of(tmp_path / ".env")


@pytest.mark.parametrize("was_killed", [False, True])
def test_the_demo_needs_a_run_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_killed: bool) -> None:
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    if was_killed:
        (tmp_path / ".run").mkdir()
        (tmp_path / ".run" / "state.json").write_text(json.dumps({"page": 1}))
    with pytest.raises(RunError, match="start `make run` in another terminal first"):
        demo.running()
