"""The executor's settings and executor.toml: every mistake at once, by name, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from common.errors import ConfigError
from executor.__main__ import main
from executor.settings import Choices, ExecutorSettings, load_choices
from tests.editors import editors
from tests.executor import settings_page

KEY = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
REQUIRED = {"EXECUTOR_RELAY_TOKEN": "token", "EXECUTOR_SIGNING_SECRETS": KEY}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ExecutorSettings]:
    def load(environ: dict[str, str] | None = None, **flags: Any) -> ExecutorSettings:
        return ExecutorSettings.load(flags, {**REQUIRED, **(environ or {})}, tmp_path)

    return load


def test_defaults_are_those_of_the_contract(load: Callable[..., ExecutorSettings]) -> None:
    settings = load()
    assert (settings.flask_host, settings.flask_port) == ("0.0.0.0", 5001)
    assert (settings.ib_host, settings.ib_port, settings.ib_client_id) == ("127.0.0.1", 7497, 1)
    assert settings.journal_path == Path("trade_state.db") and settings.signal_validity_seconds == 90
    assert load(paper=True).journal_path == Path("trade_state.paper.db")
    assert load(paper=True, db="x.db").journal_path == Path("x.db")


def test_live_comes_from_the_command_line_only(load: Callable[..., ExecutorSettings]) -> None:
    assert load(live="U1").live == "U1"
    with pytest.raises(ConfigError, match="EXECUTOR_LIVE is set in the environment.*did you mean --live"):
        load({"EXECUTOR_LIVE": "U1"})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"relay_url": "http://relay.example.com"}, "must begin with https://"),
        ({"relay_url": "relay.example.com"}, "must be an address like https://"),
        ({"relay_url": "https://u:p@relay.example.com"}, "the secret or token is a separate setting"),
        ({"relay_url": "http://127.0.0.1:8080.evil.example"}, "Port could not be cast"),
        ({"ib_port": "70000"}, "--ib-port / EXECUTOR_IB_PORT must be at most 65535"),
        ({"live": "U1", "account": "U2"}, "name different accounts"),
        ({"live": "U1", "paper": True}, "cannot be combined"),
    ],
)
def test_mistakes_are_named(load: Callable[..., ExecutorSettings], wrong: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=words):
        load(**wrong)


def test_all_mistakes_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ExecutorSettings.load({"ib_port": "x", "flask_port": "-1"}, {}, tmp_path)
    text = "\n".join(caught.value.problems)
    for name in ("EXECUTOR_RELAY_TOKEN", "EXECUTOR_SIGNING_SECRETS", "--ib-port", "--flask-port"):
        assert name in text


def choices(load: Callable[..., ExecutorSettings], tmp_path: Path, text: str) -> Choices:
    (tmp_path / "executor.toml").write_text(text, "utf-8")
    return load_choices(load(), tmp_path)


def test_validity_of_signals_is_the_policys(load: Callable[..., ExecutorSettings], tmp_path: Path) -> None:
    assert load_choices(load(signal_validity_seconds="17"), tmp_path).policy.validity_seconds == 17
    (tmp_path / "executor.toml").write_text("[limits]\nmax_open_trades = 1\n", "utf-8")
    assert load_choices(load(signal_validity_seconds="17"), tmp_path).policy.validity_seconds == 17


def test_executor_toml_is_read(load: Callable[..., ExecutorSettings], tmp_path: Path) -> None:
    found = choices(load, tmp_path, settings_page.TOML.partition("```toml\n")[2].partition("```")[0])
    assert found.policy.max_open_trades == 3 and found.policy.max_quantity["EURUSD"] == Decimal(50000)
    assert found.policy.unprotected == "hold" and found.policy.validity_seconds == 90
    assert (found.contracts["ES"].sec_type, found.contracts["ES"].expiry) == ("FUT", "202612")
    assert (found.contracts["VOD"].primary_exchange, found.contracts["VOD"].local) == ("LSE", "VOD")


@editors
def test_executor_toml_is_read_as_any_editor_writes_it(
    load: Callable[..., ExecutorSettings], tmp_path: Path, written: Callable[[str], bytes]
) -> None:
    (tmp_path / "executor.toml").write_bytes(written("# é\n[limits]\nmax_open_trades = 3\n"))
    assert load_choices(load(), tmp_path).policy.max_open_trades == 3


def test_executor_toml_in_another_encoding_is_named(load: Callable[..., ExecutorSettings], tmp_path: Path) -> None:
    (tmp_path / "executor.toml").write_bytes(b"# one\n# \xe9\n")
    with pytest.raises(ConfigError, match=r"executor\.toml is not UTF-8 \(byte 8, in line 2\): save it as UTF-8"):
        load_choices(load(), tmp_path)


def test_a_certificate_authority_is_read_or_named(load: Callable[..., ExecutorSettings], tmp_path: Path) -> None:
    path, pem = tmp_path / "ca.pem", trustme.CA().cert_pem.bytes()
    for right in (pem, pem.replace(b"\n", b"\r\n"), "\ufeff".encode() + pem):  # OpenSSL passes over the mark
        path.write_bytes(right)
        assert load(relay_ca=str(path)).relay_ca == path
    for wrong in (pem.decode().encode("utf-16"), b"", b"x"):
        path.write_bytes(wrong)
        with pytest.raises(ConfigError, match=r"--relay-ca .* holds no certificate that can be read"):
            load(relay_ca=str(path))
    with pytest.raises(ConfigError, match=r"--relay-ca .* cannot be read from .*none\.pem"):
        load(relay_ca=str(tmp_path / "none.pem"))


@pytest.mark.parametrize("text, found", [
    ("scale_in = true", (True, {})),
    ("[scale_in]\nAAPL = true\n\"NASDAQ:MSFT\" = false", (False, {"AAPL": True, "MSFT": False})),
])  # fmt: skip
def test_scale_in_is_a_choice_for_all_or_by_symbol(
    load: Callable[..., ExecutorSettings], tmp_path: Path, text: str, found: object
) -> None:
    policy = choices(load, tmp_path, text).policy
    assert (policy.scale_in, policy.scale_in_of) == found


@pytest.mark.parametrize("text", ["scale_in = 1", "[scale_in]\nAAPL = 3"])
def test_a_wrong_scale_in_says_what_to_write(load: Callable[..., ExecutorSettings], tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="scale_in must be true or false, or a table of these by symbol"):
        choices(load, tmp_path, text)


def test_no_executor_toml_is_the_safe_defaults(load: Callable[..., ExecutorSettings], tmp_path: Path) -> None:
    assert load_choices(load(), tmp_path) == Choices()


def test_every_mistake_of_executor_toml_is_listed(load: Callable[..., ExecutorSettings], tmp_path: Path) -> None:
    text = """
    speed = 3
    [policies]
    unprotected = "pray"
    outside_rth = "yes"
    protect_seconds = 0
    colour = "red"
    [limits]
    max_open_trades = 0
    max_quantity = {EURUSD = -1}
    [contracts.ES]
    sec_type = "FUTURE"
    expiry = "soon"
    colour = "red"
    [contracts."FX:EURUSD"]
    con_id = "12"
    [contracts.eurusd]
    con_id = 1
    [contracts.EURUSD]
    con_id = 2
    """
    with pytest.raises(ConfigError) as caught:
        choices(load, tmp_path, text)
    said = "\n".join(caught.value.problems)
    for words in (
        "speed is not a table", "unprotected must be one of hold, flatten", "outside_rth must be true or false",
        "protect_seconds must be whole seconds", "[policies] colour is not a key", "max_open_trades must be",
        "the size of EURUSD must be", "exchange is missing", "currency is missing", "sec_type must be one of",
        "expiry must be YYYYMM", '[contracts."ES"] colour is not a field', "con_id must be a whole number",
        "described above already",
    ):  # fmt: skip
        assert words in said, words


@pytest.mark.parametrize("text", ["[policies", "\x00"])
def test_what_is_no_toml_is_said(load: Callable[..., ExecutorSettings], tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="is not valid TOML"):
        choices(load, tmp_path, text)


def test_config_that_is_not_there_is_said(load: Callable[..., ExecutorSettings], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_choices(load(config=tmp_path / "none.toml"))


def test_reference_page_is_true() -> None:
    assert settings_page.PAGE.read_text("utf-8") == settings_page.render(), (
        "run: python -m tests.executor.settings_page"
    )


def test_help_shows_every_flag() -> None:
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    for flag in ("--flask-host", "--flask-port", "--ib-host", "--ib-port", "--ib-client-id", "--relay-url", "--db",
                 "--paper", "--account", "--live", "--templates", "--config"):  # fmt: skip
        assert flag in shown.output


def test_wrong_settings_end_with_2_and_a_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in REQUIRED:
        monkeypatch.delenv(name, raising=False)
    ended = CliRunner().invoke(main, ["--ib-port", "x"])
    assert ended.exit_code == 2 and "Traceback" not in ended.output
    assert len([line for line in ended.output.splitlines() if line.startswith("configuration: ")]) == 3
