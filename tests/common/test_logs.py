"""One line an event, and no secret in any of them."""

from __future__ import annotations

import json
import logging

import pytest

from common import logs


@pytest.fixture
def console(capsys):
    """Configured logs; returns a function that reads what was written."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err.splitlines()
    root.handlers[:] = kept
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_line_has_instant_level_program_event_and_fields(console):
    logs.configure("relay")
    logs.get_logger("x").bind(symbol="EURUSD").info("signal_accepted", id="A1", note="two words")
    (line,) = console()
    assert line.split(" ", 1)[0].endswith("Z")
    assert line.split(" ", 1)[1] == 'INFO    relay signal_accepted symbol=EURUSD id=A1 note="two words"'


def test_a_hostile_value_cannot_begin_a_line_of_its_own(console):
    logs.configure("relay")
    logs.get_logger("x").warning("alert_refused", note='x\n2026 INFO relay all_good \x1b[31m\u2028"')
    assert len(console()) == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_hidden_wherever_they_appear(console, as_json):
    logs.configure("relay", json=as_json)
    logs.never_log('hush"hush\\hush')
    try:
        raise ValueError('is hush"hush\\hush')
    except ValueError:
        logs.get_logger("x").exception("failed", value='a hush"hush\\hush b', many=['hush"hush\\hush'])
    logging.getLogger("library").warning('saw hush"hush\\hush')
    text = "\n".join(console())
    assert "hush" not in text and text.count(logs.HIDDEN) >= 3


def test_an_exception_is_one_line_with_its_place_and_no_traceback(console):
    logs.configure("relay")
    try:
        int("x")
    except ValueError:
        logs.get_logger("x").exception("turn_failed")
    (line,) = console()
    assert "ValueError" in line and "test_logs.py:" in line and "Traceback" not in line


def test_json_lines_are_json(console):
    logs.configure("relay", json=True)
    logs.get_logger("x").info("signal_accepted", depth=3, id="A")
    (line,) = console()
    found = json.loads(line)
    assert (found["event"], found["depth"], found["level"], found["program"]) == (
        "signal_accepted",
        3,
        "info",
        "relay",
    )
