"""Settings: precedence, every mistake at once, secrets that never show and may change in their file."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from common.errors import ConfigError
from common.secret import Rotating, Secret
from common.settings import ProgramSettings, click_options, describe, setting, speaking


@dataclass(frozen=True, kw_only=True)
class Sample(ProgramSettings):
    env_prefix = "SAMPLE_"
    host: str = setting("127.0.0.1", help="Address.")
    port: int = setting(8080, help="Port.", minimum=1, maximum=65535, also_env=("PORT",))
    rate: Decimal = setting(Decimal("0.5"), help="Rate.")
    mode: str = setting("a", help="Mode.", choices=("a", "b"))
    db: Path | None = setting(None, help="File.")
    names: tuple[str, ...] = setting((), help="Names.")
    paper: bool = setting(False, help="Paper.")
    live: str | None = setting(None, help="Account.", env=False)
    token: Secret = setting(help="The token.")
    spare: Secret | None = setting(None, help="Another token.")

    def problems(self) -> list[str]:
        return ["paper and live together"] if self.paper and self.live else []


def load(tmp_path, flags=None, **environ):
    return Sample.load(flags or {}, {"SAMPLE_TOKEN": "tok-123456", **environ}, tmp_path)


def problems(tmp_path, flags=None, **environ):
    with pytest.raises(ConfigError) as caught:
        Sample.load(flags or {}, environ, tmp_path)
    return caught.value.problems


def test_flag_wins_over_environment_over_file_over_dotenv_over_default(tmp_path):
    (tmp_path / ".env").write_text("SAMPLE_HOST=from-dotenv\nSAMPLE_SPARE=from-$dotenv\n")
    (tmp_path / "secret").write_text("from-file\n")
    assert load(tmp_path, {"host": "flag"}, SAMPLE_HOST="env").host == "flag"
    assert load(tmp_path, SAMPLE_HOST="env").host == "env"
    assert load(tmp_path).host == "from-dotenv"
    assert load(tmp_path).spare.reveal() == "from-$dotenv"
    assert load(tmp_path, SAMPLE_SPARE_FILE=str(tmp_path / "secret")).spare.reveal() == "from-file"
    assert load(tmp_path, SAMPLE_SPARE="env", SAMPLE_SPARE_FILE=str(tmp_path / "secret")).spare.reveal() == "env"
    assert load(tmp_path).port == 8080


def test_the_further_environment_name_comes_second(tmp_path):
    assert load(tmp_path, PORT="81").port == 81
    assert load(tmp_path, PORT="81", SAMPLE_PORT="82").port == 82
    assert load(tmp_path, SAMPLE_PORT="").port == 8080


def test_text_becomes_the_type_of_the_field(tmp_path):
    found = load(tmp_path, SAMPLE_RATE="1.50", SAMPLE_DB="x.db", SAMPLE_NAMES="a, b,", SAMPLE_PAPER="yes")
    assert (found.rate, found.db, found.names, found.paper) == (
        Decimal("1.50"),
        Path("x.db"),
        ("a", "b"),
        True,
    )


def test_every_mistake_is_reported_at_once_with_its_names(tmp_path):
    found = problems(tmp_path, {"port": "0"}, SAMPLE_MODE="c", SAMPLE_RATE="NaN", SAMPLE_PAPER="maybe", SAMPLE_TOKN="x")
    assert [line.split(" ")[0] for line in found] == ["--port", "--rate", "--mode", "--paper", "SAMPLE_TOKEN"]
    assert "SAMPLE_TOKN is set" in found[-1] and "at least 1, was 0" in found[0]


def test_a_secret_file_that_is_missing_or_empty_is_named(tmp_path):
    (tmp_path / "empty").write_text("\n")
    assert "SAMPLE_TOKEN_FILE" in problems(tmp_path, SAMPLE_TOKEN_FILE=str(tmp_path / "none"))[0]
    assert "is empty" in problems(tmp_path, SAMPLE_TOKEN_FILE=str(tmp_path / "empty"))[0]


def test_a_setting_for_the_command_line_only_is_refused_elsewhere(tmp_path):
    assert load(tmp_path, {"live": "U1"}).live == "U1"
    [found] = problems(tmp_path, SAMPLE_TOKEN="t", SAMPLE_LIVE="U1")
    assert found == "SAMPLE_LIVE is set in the environment, but there is no such setting: did you mean --live?"


def test_mistakes_between_settings_are_reported(tmp_path):
    with pytest.raises(ConfigError, match="paper and live together"):
        load(tmp_path, {"live": "U1", "paper": True})


def test_secrets_never_show(tmp_path):
    found = load(tmp_path)
    shown = {field.name: str(getattr(found, field.name)) for field in fields(found)}
    assert "tok-123456" not in repr(found) + str(found) + str(shown) + f"{found.token!r}"


def test_a_secret_list_is_split_at_commas_and_lines():
    assert Secret(" a, b\nc,,\n").items() == ("a", "b", "c")


def test_rows_describe_every_setting():
    rows = {row.name: row for row in describe(Sample)}
    assert rows["port"].env == ("SAMPLE_PORT", "PORT") and rows["port"].flag == "--port"
    assert rows["token"].flag is None and rows["token"].secret and rows["token"].required
    assert rows["live"].env == ()


@click.command()
@click_options(Sample)
@speaking
def command(**flags):
    click.echo(repr(Sample.load(flags, {"SAMPLE_TOKEN": "t"}, Path("/nonexistent")).port))


def test_flags_reach_the_settings_and_mistakes_end_with_two():
    assert CliRunner().invoke(command, ["--port", "99"]).output == "99\n"
    refused = CliRunner().invoke(command, ["--port", "x", "--mode", "z"])
    assert refused.exit_code == 2 and refused.output.count("configuration: --") == 2
    assert "SAMPLE_PORT, PORT" in CliRunner().invoke(command, ["--help"]).output


def rewrite(path: Path, text: str) -> None:
    """Replace a file as a deployment does: a new file under the old name."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_a_secret_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    seconds = iter(range(100))
    rotating = Rotating(Secret("old", path), lambda: next(seconds) * 2.0)
    assert rotating.current().reveal() == "old"
    rewrite(path, "new,old")
    assert rotating.current().items() == ("new", "old")


@pytest.mark.parametrize("content", ["", "bad", None])
def test_a_broken_rotation_leaves_the_old_secret_in_force(tmp_path, content):
    def check(secret: Secret) -> None:
        if secret.reveal() == "bad":
            raise ConfigError("must be better")

    path = tmp_path / "secret"
    path.write_text("old")
    seconds = iter(range(100))
    rotating = Rotating(Secret("old", path), lambda: next(seconds) * 2.0, check)
    path.unlink() if content is None else rewrite(path, content)
    assert rotating.current().reveal() == "old" and str(path) in (rotating.problem or "")


def test_a_secret_that_is_in_no_file_never_changes():
    rotating = Rotating(Secret("fixed"), lambda: 1e9)
    assert rotating.current().reveal() == "fixed"
