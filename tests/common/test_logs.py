"""One line an event, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime

import pytest

from common import logs
from common.clock import FakeClock


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


def test_what_is_not_there_is_not_shown(console):
    logs.configure("executor")
    logs.get_logger("x").warning("alarm_raised", kind="clock", symbol=None, count=0, told=False, text="")
    (line,) = console()
    assert line.endswith('executor alarm_raised kind=clock count=0 told=False text=""')


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


# --- a flood ----------------------------------------------------------------------------------------


@pytest.fixture
def flooded(monkeypatch):
    """A console that writes three lines of a kind a minute into a text, and a clock that is moved by hand."""
    clock = FakeClock(datetime(2026, 11, 23, 15, 0, tzinfo=UTC))
    monkeypatch.setattr(logs, "_clock", clock)
    out = io.StringIO()
    handler = logs.Console(out, most=3)
    handler.setFormatter(logs.ReadableLines("relay"))
    logger = logging.getLogger("flood")
    logger.propagate, logger.handlers = False, [handler]
    logger.setLevel("INFO")
    yield clock, out
    logger.handlers = []


def test_flood_of_one_event_is_cut_and_counted_and_hides_no_other(flooded):
    clock, out = flooded
    log = logs.get_logger("flood")
    for number in range(1000):
        log.warning("request_refused", number=number)
    log.info("signal_accepted", id="A1")
    assert out.getvalue().count("request_refused") == 3 and "signal_accepted id=A1" in out.getvalue()
    clock.advance(61)
    log.info("signal_accepted", id="A2")
    assert "lines_left_out event=request_refused count=997" in out.getvalue()
    assert out.getvalue().count("lines_left_out") == 1


def test_flood_of_a_library_is_one_kind_whatever_it_says(flooded):
    """What a library writes has the stranger's words in it: no two lines are alike."""
    clock, out = flooded
    for number in range(1000):
        logging.getLogger("flood").warning(f"socket.send() raised exception {number}")
    assert len(out.getvalue().splitlines()) == 3


def test_everything_is_said_where_there_is_no_flood(flooded):
    clock, out = flooded
    for number in range(60):
        logs.get_logger("flood").info("signal_accepted", id=number)
        clock.advance(30)
    assert len(out.getvalue().splitlines()) == 60


@pytest.mark.parametrize("as_json", [False, True])
def test_no_value_makes_a_long_line_and_none_shows_half_a_secret(console, as_json):
    logs.configure("relay", json=as_json)
    secret = "whsec_" + "q" * 60
    logs.never_log(secret)
    for text in ("x" * 1_000_000, "y " * 1_000_000, "z" * (logs.LONGEST_VALUE - 20) + secret, "\x00" * 100_000):
        logs.get_logger("x").warning("alert_refused", reason=text)
        logging.getLogger("library").warning(text)
    lines = console()
    assert len(lines) == 8 and max(map(len, lines)) < 7 * logs.LONGEST_VALUE
    assert not any("whsec_q" in line for line in lines)
