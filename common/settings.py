"""Settings of both programs: one field each, from which flags, environment names and documents come.

    @dataclass(frozen=True, kw_only=True)
    class RelaySettings(ProgramSettings):
        env_prefix = "RELAY_"
        host: str = setting("127.0.0.1", help="Address to listen on.")
        webhook_secrets: Secret = setting(help="What senders present.")      # no default: required

Precedence: flag, environment, `NAME_FILE` (secrets), the same two from `.env` in the working directory,
default. This is the only module that reads the environment. Plain dataclasses, since pydantic-settings
alone takes as long to import as everything else in the relay together.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

import click

from common.env_file import read_env
from common.errors import ConfigError
from common.names import NAMES, PREFIXES, is_meant, nearest
from common.secret import Secret
from common.texts import read_text

F = TypeVar("F", bound=Callable[..., Any])
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_REQUIRED: Any = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One setting for people: what `--help` and the reference page show."""

    name: str
    flag: str | None
    env: tuple[str, ...]
    default: object  # "" when there is none; see required
    help: str
    secret: bool
    required: bool


def setting(
    default: Any = _REQUIRED,
    *,
    help: str,
    flag: bool | str = True,
    env: bool = True,
    also_env: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], object] | None = None,
    secret: bool = False,
) -> Any:
    """Declare one setting. Its type decides how its text is read; without a default it is required.

    Args:
        flag: False for none (a Secret never has one: other users can read command lines), a text for
            another name than the field's.
        secret: The text may hold a secret (a URL with a password): never shown, and `NAME_FILE` works.
        env: False for a setting that only the command line may give.
        also_env: Further environment names, looked at after the own one.
        check: Called with the value; raises ValueError (or ConfigError) that says how to fix it.
    """
    meta: dict[str, Any] = {"help": help, "flag": flag, "env": env, "also_env": also_env, "choices": choices}
    meta |= {"minimum": minimum, "maximum": maximum, "check": check, "secret": secret}
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramSettings:
    """Base of a program's settings. Subclasses set `env_prefix` and declare fields with `setting`."""

    env_prefix: ClassVar[str] = ""
    of_one_command: ClassVar[bool] = False  # then only names that may have been meant for it are its business

    def problems(self) -> list[str]:
        """Return what is wrong with the combination of settings that are each valid; overridden by subclasses."""
        return []

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Self:
        """Return the settings from flags (by field name, None for not given), environment and `.env`.

        Raises:
            ConfigError: Every mistake at once, each by its names and with the fix.
        """
        environ = dict(os.environ if environ is None else environ)
        layers: list[Mapping[str, str]] = [environ, {}]
        try:
            layers[1] = _dotenv(directory or Path.cwd())
        except ConfigError as exc:  # what is missing then may stand in the lines that cannot be read
            raise ConfigError([*exc.problems, *map(str, _unknown(cls, layers))]) from exc
        values, mistakes = _collect(cls, flags or {}, layers)
        if mistakes:
            raise ConfigError(mistakes)
        settings = cls(**values)
        mistakes = settings.problems()
        if mistakes:
            raise ConfigError(mistakes)
        return settings


def load(cls: type[S], flags: Mapping[str, Any] | None = None) -> S:
    """Return `cls.load(flags)`: the settings, or a ConfigError that lists every mistake."""
    return cls.load(flags)


S = TypeVar("S", bound=ProgramSettings)


def describe(cls: type[ProgramSettings]) -> list[Row]:
    """Return a row for each setting, in the order of declaration."""
    types_of = typing.get_type_hints(cls)
    return [_row(cls, field, types_of[field.name]) for field in dataclasses.fields(cls)]


def click_options(cls: type[ProgramSettings]) -> Callable[[F], F]:
    """Return a decorator that gives a click command one option for each setting that has a flag.

    Values arrive as text (True for a switch), or None when not given, for `load` to judge all together.
    """
    options = [_option(cls, row) for row in describe(cls) if row.flag]

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def speaking(command: F) -> F:
    """Decorate a command so that a ConfigError ends the program with 2 and one line per problem."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigError as exc:
            for problem in exc.problems:
                click.echo(f"configuration: {problem}", err=True)
            sys.exit(2)

    return typing.cast(F, run)


def relay_address(url: str) -> None:
    """Check the address of a relay.

    Raises:
        ValueError: It is none, or a secret sent there could be read on the way.
    """
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError for what is no port
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"must be an address like https://relay.example.com, was {url[:80]!r}")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"must begin with https:// (http only on this machine), was {url[:80]!r}")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("must be the relay's address only; the secret or token is a separate setting")


def bearer_token(secret: Secret) -> None:
    """Check a token that is sent in a header.

    Raises:
        ValueError: A header cannot carry it.
    """
    for item in secret.items():
        if not item.isascii() or not item.isprintable() or " " in item:
            raise ValueError("must be made of visible ASCII characters: letters, digits and signs, without a space")


# --- reading ----------------------------------------------------------------------------------------


def _dotenv(directory: Path) -> dict[str, str]:
    """Return what `.env` in the directory sets."""
    path = directory / ".env"
    return read_env(path) if path.exists() else {}


@dataclasses.dataclass(frozen=True, slots=True)
class _Unknown:
    """A name that was meant for one of the programs, and is none of a setting."""

    name: str
    where: str
    near: str | None  # what was most likely meant

    def __str__(self) -> str:
        hint = f"did you mean {self.near}?" if self.near else "docs/reference/settings.md lists them all"
        return f"{self.name} is set in {self.where}, but there is no such setting: {hint}"


def _unknown(cls: type[ProgramSettings], layers: Sequence[Mapping[str, str]]) -> list[_Unknown]:
    """Return the unknown names in the environment and in `.env`; of one command's, only those that concern it."""
    rows = describe(cls)
    own = {name for row in rows for name in (*row.env, *[f"{name}_FILE" for name in row.env if row.secret])}
    switches = {cls.env_prefix + row.name.upper(): row.flag for row in rows if not row.env}  # --live
    known, prefixes = own | NAMES, (cls.env_prefix, *PREFIXES)
    found = []
    for where, names in zip(("the environment", ".env"), layers, strict=True):
        for name in sorted(set(names) - known):
            if not (name.upper().startswith(prefixes) or (where == ".env" and is_meant(name, known))):
                continue  # not ours; and to compare each variable with each of our names would take time at every start
            near = switches.get(name) or nearest(name, known)
            if near in own or not cls.of_one_command:
                found.append(_Unknown(name, where, near))
    return found


def _collect(
    cls: type[ProgramSettings], flags: Mapping[str, Any], layers: Sequence[Mapping[str, str]]
) -> tuple[dict[str, Any], list[str]]:
    types_of, values, mistakes, unknown = typing.get_type_hints(cls), {}, [], _unknown(cls, layers)
    for field in dataclasses.fields(cls):
        kind = _bare(types_of[field.name])
        row = _row(cls, field, kind)
        try:
            found = _find(row, flags.get(field.name), layers)
            if found is not None:
                values[field.name] = _read(field, kind, *found)
            elif row.required:
                slips = [each for each in unknown if each.near == row.env[0]]
                unknown = [each for each in unknown if each not in slips]
                mistakes.append(_missing(row, slips))
        except (ValueError, ConfigError) as exc:
            mistakes += [f"{_names(row)} {each}" for each in getattr(exc, "problems", [str(exc)])]
    return values, [*mistakes, *map(str, unknown)]


def _find(row: Row, flag: Any, layers: Sequence[Mapping[str, str]]) -> tuple[Any, Path | None] | None:
    """Return a setting's raw value, and the file it came from, if any; None if it is not set."""
    if flag is not None:
        return flag, None
    for layer in layers:
        for name in row.env:
            if layer.get(name, "").strip():
                return layer[name].strip(), None
            if row.secret and layer.get(f"{name}_FILE", "").strip():
                return _file_text(Path(layer[f"{name}_FILE"].strip()), f"{name}_FILE")
    return None


def _file_text(path: Path, name: str) -> tuple[str, Path]:
    try:
        text = read_text(path).strip()
    except OSError as exc:
        raise ValueError(f"cannot be read from {path} ({name}): {exc.strerror}") from exc
    except ValueError as exc:
        raise ValueError(f"cannot be read from {path} ({name}): the file {exc}") from exc
    if not text:
        raise ValueError(f"is empty in {path} ({name})")
    return text, path.absolute()


def _read(field: dataclasses.Field[Any], kind: Any, raw: Any, file: Path | None) -> Any:
    if kind is Secret:
        value: Any = Secret(str(raw), file)
    elif isinstance(raw, str) and kind is not str:
        value = _READERS[kind](raw)
    else:
        value = raw
    _check_range(field.metadata, value)
    if field.metadata["check"]:
        field.metadata["check"](value)
    return value


def _check_range(meta: Mapping[str, Any], value: Any) -> None:
    low, high, choices = meta["minimum"], meta["maximum"], meta["choices"]
    if choices and value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}, was {value!r}")
    if low is not None and value < low:
        raise ValueError(f"must be at least {low:.15g}, was {value}")
    if high is not None and value > high:
        raise ValueError(f"must be at most {high:.15g}, was {value}")


def _whole(text: str) -> int:
    if not text.lstrip("-").isdecimal() or not text.isascii():
        raise ValueError(f"must be a whole number, was {text[:40]!r}")
    return int(text)


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"must be a number, was {text[:40]!r}") from None
    if not value.is_finite() or abs(value.adjusted()) > 30:
        raise ValueError(f"must be a number, was {text[:40]!r}")
    return value


def _truth(text: str) -> bool:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    raise ValueError(f"must be one of {', '.join((*_TRUE, *_FALSE))}, was {text[:40]!r}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


# type of a field -> how its text is read
_READERS: dict[Any, Callable[[str], Any]] = {
    int: _whole,
    float: lambda text: float(_decimal(text)),
    Decimal: _decimal,
    bool: _truth,
    Path: Path,
    tuple[str, ...]: _words,
}


# --- showing ----------------------------------------------------------------------------------------


def _bare(kind: Any) -> Any:
    """Return the type without `| None`."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def _row(cls: type[ProgramSettings], field: dataclasses.Field[Any], kind: Any) -> Row:
    meta, kind = field.metadata, _bare(kind)
    flag = meta["flag"]
    given = flag if isinstance(flag, str) else "--" + field.name.replace("_", "-")
    name = None if kind is Secret or flag is False else given
    env = (cls.env_prefix + field.name.upper(), *meta["also_env"]) if meta["env"] else ()
    required = field.default is dataclasses.MISSING
    default = "" if required or field.default is None else field.default
    return Row(field.name, name, env, default, meta["help"], kind is Secret or meta["secret"], required)


def _names(row: Row) -> str:
    return " / ".join([*([row.flag] if row.flag else []), *row.env])


def _missing(row: Row, slips: Sequence[_Unknown]) -> str:
    hint = f" ({slips[0].name} is set; did you mean {row.env[0]}?)" if slips else ""
    file = f", or {row.env[0]}_FILE to a file that holds it; .env.example explains how" if row.secret else ""
    return f"{_names(row)} is not set{hint}: {row.help} Set it{file}."


def _option(cls: type[ProgramSettings], row: Row) -> Callable[[F], F]:
    kind = _bare(typing.get_type_hints(cls)[row.name])
    shown = [f"env {', '.join(row.env)}"] * bool(row.env) + [f"default {row.default}"] * (
        row.default not in ("", False)
    )
    text = f"{row.help} [{'; '.join(shown)}]" if shown else row.help
    if kind is bool:
        return click.option(f"{row.flag}/--no-{str(row.flag)[2:]}", row.name, default=None, help=text)
    metavar = {int: "N", float: "N", Decimal: "N", Path: "PATH"}.get(kind, "TEXT")
    return click.option(str(row.flag), row.name, default=None, help=text, metavar=metavar)
