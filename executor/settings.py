"""The executor's settings, each once: flag, environment name, default, meaning; and `executor.toml`."""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import ConfigError
from common.secret import Secret
from common.settings import ProgramSettings, bearer_token, relay_address, setting
from common.signing import SigningKeys
from common.symbols import canonical
from common.texts import read_text
from executor.core.contracts import spec_from
from executor.core.policy import Policy
from executor.core.ports import ContractSpec

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _signing_keys(secret: Secret) -> None:
    SigningKeys.parse(",".join(secret.items()))


def _certificates(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        expected = "lines from -----BEGIN CERTIFICATE----- on, as ASCII text"
        raise ValueError(f"holds no certificate that can be read in {path}: a PEM file has {expected}") from None
    except OSError as exc:
        raise ValueError(f"cannot be read from {path}: {exc.strerror}") from exc


def _one_token(secret: Secret) -> None:
    if len(secret.items()) != 1:
        raise ValueError("must be one token, in one line")
    bearer_token(secret)


def _templates(folder: Path) -> None:
    try:
        read_text(folder / "index.html")
    except OSError as exc:
        raise ValueError(f"{folder}: expected a folder with an index.html, found none ({exc.strerror})") from exc
    except ValueError as exc:
        raise ValueError(f"has an index.html in {folder} that {exc}") from exc


def _web_address(url: Secret) -> None:
    parts = urlsplit(url.reveal())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address like https://example.com/path")


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings(ProgramSettings):
    """Every setting of `python -m executor`, `executor.toml` aside."""

    env_prefix = "EXECUTOR_"

    relay_url: str = setting("http://127.0.0.1:8080", help="The relay's address.", check=relay_address)
    relay_token: Secret = setting(
        help="The executor's token, one of the relay's RELAY_EXECUTOR_TOKENS.", check=_one_token
    )
    signing_secrets: Secret = setting(
        help="whsec_… keys shared with the relay, a list, newest first.", check=_signing_keys
    )
    relay_ca: Path | None = setting(
        None, help="The relay's certificate authority, a PEM file, if it is a private one.", check=_certificates
    )
    ib_host: str = setting("127.0.0.1", help="Where TWS or IB Gateway runs.")
    ib_port: int = setting(
        7497,
        help="Its API port: TWS 7497 paper, 7496 live; Gateway 4002 paper, 4001 live.",
        minimum=1,
        maximum=65535,
    )
    ib_client_id: int = setting(
        1, help="The executor's client id at TWS; keep it, since orders belong to it.", minimum=0, maximum=2**31 - 1
    )
    account: str | None = setting(None, help="Account to trade; required if the login has several.")
    live: str | None = setting(
        None, help="The live account to trade with real money; only on the command line.", env=False
    )
    paper: bool = setting(False, help="Start the built-in paper TWS on a free port and trade on it.")
    db: Path | None = setting(
        None, help="The journal; by default trade_state.db, or trade_state.paper.db with --paper."
    )
    flask_host: str = setting("0.0.0.0", help="Address of the status page.")  # noqa: S104 - asked for; needs the token
    flask_port: int = setting(5001, help="Port of the status page; 0 takes a free one.", minimum=0, maximum=65535)
    page_token: Secret | None = setting(
        None,
        help="Login token of the page. If one is needed and not set, it is generated and saved in .env.",
    )
    page_hosts: tuple[str, ...] = setting((), help="More names under which browsers reach the page, comma-separated.")
    templates: Path | None = setting(None, help="Folder whose index.html replaces the built-in page.", check=_templates)
    config: Path | None = setting(
        None, help="executor.toml: contracts by symbol, limits, policies. Read automatically if it exists."
    )
    signal_validity_seconds: int = setting(90, help="An entry older than this is not sent.", minimum=1, maximum=86400)
    notify_urls: Secret | None = setting(
        None, help="Where alarms go besides the log and the page: Apprise URLs, a list (tgram://…, mailto://…)."
    )
    heartbeat_url: Secret | None = setting(
        None, help="URL to GET once a minute while all is well, for an outside watcher.", check=_web_address
    )
    log_json: bool = setting(False, help="Write logs as JSON objects.")

    @property
    def page_is_local(self) -> bool:
        """True if only this machine can reach the page."""
        return self.flask_host in _LOOPBACK

    @property
    def journal_path(self) -> Path:
        """Where the journal is: the paper account's never mixes with another's."""
        return self.db or Path("trade_state.paper.db" if self.paper else "trade_state.db")

    def problems(self) -> list[str]:
        """Return what is wrong with the combination of settings that are each valid."""
        problems = []
        if self.live and self.account and self.live != self.account:
            problems.append(f"--live {self.live} and --account {self.account} name different accounts; name one")
        if self.live and self.paper:
            problems.append("--live and --paper cannot be combined")
        return problems


@dataclass(frozen=True, slots=True)
class Choices:
    """The contents of `executor.toml`."""

    policy: Policy = field(default_factory=Policy)
    contracts: Mapping[str, ContractSpec] = field(default_factory=dict)  # canonical symbol → contract


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}, was {value!r}")
        return str(value)

    return read


def _seconds(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 3600:
        raise ValueError(f"must be whole seconds from 1 to 3600, was {value!r}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"must be a whole number of at least 1, was {value!r}")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, was {value!r}")
    return value


def _quantities(value: Any) -> dict[str, Decimal]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a table of sizes by symbol, was {value!r}")
    return {canonical(str(symbol)): _size(symbol, size) for symbol, size in value.items()}


def _size(symbol: str, value: Any) -> Decimal:
    try:
        size = Decimal(str(value))
    except InvalidOperation:
        size = Decimal(0)
    if isinstance(value, bool) or not size.is_finite() or size <= 0:
        raise ValueError(f"the size of {symbol} must be a number above 0, was {value!r}")
    return size


def _by_symbol(value: Any) -> dict[str, bool] | bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, dict) or not all(isinstance(each, bool) for each in value.values()):
        raise ValueError(f"must be true or false, or a table of these by symbol, was {value!r}")
    return {canonical(str(symbol)): choice for symbol, choice in value.items()}


# table of executor.toml → its keys → how each is read; a key is the field of Policy it sets
_TABLES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "policies": {
        "outside_rth": _switch,
        "unprotected": _one_of("hold", "flatten"),
        "unknown_exit": _one_of("block", "allow"),
        "protect_seconds": _seconds,
        "inflight_seconds": _seconds,
    },
    "limits": {"max_open_trades": _count, "max_quantity": _quantities},
}


def load_choices(settings: ExecutorSettings, directory: Path | None = None) -> Choices:
    """Return the contents of `executor.toml`; the defaults if there is none.

    Raises:
        ConfigError: It cannot be read, or some of it is wrong: every mistake with its fix.
    """
    base = Policy(validity_seconds=settings.signal_validity_seconds)
    path = settings.config or (directory or Path.cwd()) / "executor.toml"
    if settings.config is None and not path.is_file():
        return Choices(base)
    try:
        tables = tomllib.loads(read_text(path))
    except OSError as exc:
        raise ConfigError(f"--config {path} cannot be read: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"--config {path} is not valid TOML: {exc}") from exc
    except ValueError as exc:
        raise ConfigError(f"--config {path} {exc}") from exc
    return _choices(tables, base, str(path))


def _choices(tables: Mapping[str, Any], base: Policy, where: str) -> Choices:
    problems: list[str] = []
    policy: dict[str, Any] = {}
    allowed = ("contracts", *_TABLES)
    for name, table in tables.items():
        if name == "scale_in":
            try:
                policy |= _scale_in(_by_symbol(table))
            except ValueError as exc:
                problems.append(f"scale_in {exc}")
        elif name not in allowed or not isinstance(table, dict):
            tables_ = ", ".join(f"[{each}]" for each in allowed)
            problems.append(f"{name} is not a table; allowed: {tables_}, and scale_in")
        elif name in _TABLES:
            found, wrong = _read_table(name, table)
            policy, problems = policy | found, problems + wrong
    contracts, wrong = _contracts(tables.get("contracts", {}))
    problems += wrong
    if problems:
        raise ConfigError([f"{where}: {problem}" for problem in problems])
    values = {name: getattr(base, name) for name in base.__slots__}
    return Choices(Policy(**(values | policy)), contracts)


def _scale_in(choice: dict[str, bool] | bool) -> dict[str, Any]:
    return {"scale_in": choice} if isinstance(choice, bool) else {"scale_in_of": choice}


def _read_table(name: str, table: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    readers, values, problems = _TABLES[name], {}, []
    for key, value in table.items():
        try:
            values[key] = readers[key](value)
        except KeyError:
            problems.append(f"[{name}] {key} is not a key; allowed: {', '.join(readers)}")
        except ValueError as exc:
            problems.append(f"[{name}] {key} {exc}")
    return values, problems


def _contracts(tables: Any) -> tuple[dict[str, ContractSpec], list[str]]:
    specs: dict[str, ContractSpec] = {}
    problems: list[str] = []
    for symbol, table in tables.items() if isinstance(tables, dict) else ():
        if not isinstance(table, dict):
            problems.append(f'contracts.{symbol} must be a table: [contracts."{symbol}"]')
            continue
        spec, wrong = spec_from(symbol, table)
        problems += wrong
        if spec is not None and spec.symbol in specs:
            problems.append(f'[contracts."{symbol}"] describes {spec.symbol}, which is described above already')
        elif spec is not None:
            specs[spec.symbol] = spec
    return specs, problems
