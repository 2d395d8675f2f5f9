"""What owners write: `.env` and other texts, as any editor saves them; every line is understood or named."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from common.env_file import read_env
from common.errors import ConfigError
from common.names import NAMES
from common.secret import Rotating, Secret
from common.settings import ProgramSettings, describe
from common.texts import add_text, text_of
from executor.settings import ExecutorSettings
from relay.commands.doctor import DoctorSettings
from relay.commands.queue import QueueSettings
from relay.commands.send import SendSettings
from relay.settings import RelaySettings
from tests.editors import editors
from tests.relay.examples import ENVIRONMENT, SIGNING, TOKEN

EXECUTOR = {"EXECUTOR_RELAY_TOKEN": TOKEN, "EXECUTOR_SIGNING_SECRETS": SIGNING}


@editors
def test_a_text_is_the_same_whatever_wrote_it(written):
    assert text_of(written("é = 1\nb = 2\n")) == "é = 1\nb = 2\n"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("a\né".encode("cp1252"), "is not UTF-8 (byte 2, in line 2): save it as UTF-8"),
        ("ab".encode("utf-16-le"), "is UTF-16 without a byte-order mark: save it as UTF-8"),
        ("ab".encode("utf-16-be"), "is UTF-16 without a byte-order mark"),
        ("a".encode("utf-32"), "is UTF-32"),
        (codecs.BOM_UTF16_LE + b"abc", "is not UTF-16"),
    ],
)
def test_an_encoding_that_is_not_understood_is_named(raw, words):
    with pytest.raises(ValueError) as caught:
        text_of(raw)
    assert words in str(caught.value)


@editors
def test_env_is_read_as_any_editor_writes_it(tmp_path, written):
    (tmp_path / ".env").write_bytes(written('# mine\nA=1\nB="x y" # note\nexport C=$d\n\nD=\nL="new\nold"\n'))
    assert read_env(tmp_path / ".env") == {"A": "1", "B": "x y", "C": "$d", "D": "", "L": "new\nold"}


@editors
def test_a_line_is_added_in_the_files_own_encoding(tmp_path, written):
    path = tmp_path / ".env"
    path.write_bytes(written("A=1"))
    add_text(path, "\nB=2\n")
    assert read_env(path) == {"A": "1", "B": "2"}


def test_a_file_that_is_made_is_its_owners_alone(tmp_path):
    add_text(tmp_path / ".env", "B=2\n")
    assert read_env(tmp_path / ".env") == {"B": "2"}
    assert os.name != "posix" or (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('A=1\nRELAY_X="abc\n', "line 2 (RELAY_X) cannot be read: close its quotation mark"),
        ("RELAY_X='abc\n", "line 1 (RELAY_X) cannot be read: close its quotation mark"),
        ('RELAY_X="abc" def\n', "line 1 (RELAY_X) cannot be read"),
        ('RELAY_X="abc\nRELAY_Y="def"\n', "lines 1 to 2 (RELAY_X) cannot be read: close its quotation mark"),
        ('RELAY_X="abc\nRELAY_Y=1\nB="\n', "line 1 (RELAY_X) opens a quotation mark and does not close it"),
        ('A=1\n\nRELAY_X=abc"\n', "line 3 (RELAY_X) ends with a quotation mark that was never opened"),
        ("RELAY_X\n", "line 1 cannot be read: write NAME=value"),
        ("just words\n", "line 1 cannot be read"),
        ("=5\n", "line 1 cannot be read"),
        ("RELAY_X: 5\n", "line 1 cannot be read"),
        ("set RELAY_X=5\n", "line 1 cannot be read"),
        ('$env:RELAY_X="5"\n', "line 1 cannot be read"),
        ("RELAY_X=“abc”\n", "line 1 (RELAY_X) holds the character U+201C"),
        ("RELAY_X=a\u00a0b\n", "line 1 (RELAY_X) holds the character U+00A0"),
        ("RELAY_X=a\u200bb\n", "line 1 (RELAY_X) holds the character U+200B"),
        ("RELAY_X=a\0b\n", "line 1 (RELAY_X) holds the character U+0000"),
        ("RELAY_X=1\nA=1\nRELAY_X=2\n", "line 3 sets RELAY_X again, unlike line 1: keep one"),
    ],
)
def test_each_line_of_env_that_cannot_have_been_meant_is_named(tmp_path, text, words):
    (tmp_path / ".env").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_env(tmp_path / ".env")
    [problem] = caught.value.problems
    assert words in problem and "abc" not in problem and "def" not in problem


def test_every_unreadable_line_is_named_at_once_and_no_secret_is_shown(tmp_path):
    (tmp_path / ".env").write_text('whsec_abc\nRELAY_X="abc\nA=1\n# c\n“abc”\n')
    with pytest.raises(ConfigError) as caught:
        read_env(tmp_path / ".env")
    assert [problem.split(" ", 1)[1][:6] for problem in caught.value.problems] == ["line 1", "line 2", "line 5"]
    assert "abc" not in str(caught.value)


def test_a_name_set_twice_alike_or_once_empty_is_no_mistake(tmp_path):
    (tmp_path / ".env").write_text("A=1\nA=1\nB=\nB=2\nC=3\nC=\n")
    assert read_env(tmp_path / ".env") == {"A": "1", "B": "2", "C": "3"}


# --- names ------------------------------------------------------------------------------------------


def test_the_names_of_both_programs_are_those_that_they_declare():
    declared = set()
    for each in (RelaySettings, DoctorSettings, QueueSettings, SendSettings, ExecutorSettings):
        for row in describe(each):
            ours = [name for name in row.env if name.startswith(each.env_prefix)]
            declared |= {*ours, *[f"{name}_FILE" for name in ours if row.secret]}
    assert declared == NAMES


def problems(cls: type[ProgramSettings], folder: Path, text: str = "", **environ: str) -> list[str]:
    (folder / ".env").write_text(text)
    try:
        cls.load({}, {**ENVIRONMENT, **EXECUTOR, **environ}, folder)
    except ConfigError as exc:
        return exc.problems
    return []


@pytest.mark.parametrize("cls", [ExecutorSettings, RelaySettings, DoctorSettings])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EXECUTOR_IB_PROT", "EXECUTOR_IB_PORT"),
        ("EXECUTOR_IBPORT", "EXECUTOR_IB_PORT"),
        ("executor_ib_port", "EXECUTOR_IB_PORT"),
        ("EXECUTER_IB_PORT", "EXECUTOR_IB_PORT"),
        ("EXECUTOR-IB-PORT", "EXECUTOR_IB_PORT"),
        ("IB_PORT", "EXECUTOR_IB_PORT"),
        ("EXECUTOR_PAGE_TOKEN_FILES", "EXECUTOR_PAGE_TOKEN_FILE"),
        ("RELAY_ALLOWED_ADRESSES", "RELAY_ALLOWED_ADDRESSES"),
        ("RELAY_WEBHOOK_SECRET", "RELAY_WEBHOOK_SECRETS"),
        ("WEBHOOK_SECRETS", "RELAY_WEBHOOK_SECRETS"),
    ],
)
def test_an_unknown_name_in_env_is_an_error_with_the_nearest_known_one(tmp_path, cls, name, meant):
    [found] = problems(cls, tmp_path, f"{name}=7497\n")
    assert found == f"{name} is set in .env, but there is no such setting: did you mean {meant}?"


def test_an_unknown_name_in_the_environment_is_an_error_too(tmp_path):
    [found] = problems(ExecutorSettings, tmp_path, RELAY_PROT="1")
    assert found == "RELAY_PROT is set in the environment, but there is no such setting: did you mean RELAY_PORT?"
    assert "settings.md lists them" in problems(RelaySettings, tmp_path, RELAY_5F3759DF9ABCDE01FFFF="1")[0]


def test_names_of_other_programs_are_nobodys_business(tmp_path):
    assert problems(ExecutorSettings, tmp_path, "TZ=UTC\nDOMAIN=x\nCOMPOSE_PROJECT_NAME=y\n", REPLAY_PORT="1") == []


def test_unknown_names_and_unreadable_lines_come_together(tmp_path):
    found = problems(RelaySettings, tmp_path, 'RELAY_X="\n', RELAY_PROT="1")
    assert ["line 1" in found[0], "RELAY_PORT?" in found[1]] == [True, True]


def test_the_kill_switch_is_not_refused_for_a_name_that_plays_no_part_in_it(tmp_path):
    assert problems(QueueSettings, tmp_path, "EXECUTOR_IB_PROT=1\nRELAY_PROT=1\n") == []
    assert "RELAY_QUEUE_URL?" in problems(QueueSettings, tmp_path, "RELAY_QUEUE_ULR=sqlite:///x.db\n")[0]


# --- secrets in files -------------------------------------------------------------------------------


@editors
def test_a_secret_file_is_read_as_any_editor_writes_it(tmp_path, written):
    path = tmp_path / "token"
    path.write_bytes(written("new-token\nold-token\n"))
    given = {**ENVIRONMENT, "RELAY_EXECUTOR_TOKENS": "", "RELAY_EXECUTOR_TOKENS_FILE": str(path)}
    found = RelaySettings.load({}, given, tmp_path)
    assert found.executor_tokens.items() == ("new-token", "old-token")
    rotating = Rotating(Secret("x", path), lambda: 1.0, every=0.0)
    assert rotating.current().items() == ("new-token", "old-token")


def test_a_secret_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "token"
    path.write_bytes("é".encode("cp1252"))
    [found] = problems(RelaySettings, tmp_path, RELAY_ALARM_URLS_FILE=str(path))
    assert str(path) in found and "is not UTF-8 (byte 0, in line 1): save it as UTF-8" in found
