"""No secret is left behind: after all tests, what the product wrote is searched for the secrets that the tests used.

Searched are the databases (SQLite files with their logs; PostgreSQL's tables, see `keep`), the log of every
relay and executor process, every HTTP answer that any test received (bodies and headers: metrics, refusals,
pages), and what tests printed. The secrets are those of the fixtures, in the forms in which they might slip
through, and those in each `.env` that a test's `make run` wrote. The hooks are loaded by tests/conftest.py; a
find fails the run.
"""

from __future__ import annotations

import base64
import http.client
import mmap
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

# What the fixtures use, all over the tests; test_canary holds them to it.
SECRETS = {
    "sender's secret": "canary-hook-secret-1f3a",
    "rotated sender's secret": "canary-fresh-hook-secret-9c1d",
    "executor's token": "canary-exec-token-77b2",
    "rotated executor's token": "canary-fresh-exec-token-5e0f",
    "signing key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "rotated signing key": "whsec_Y2FuYXJ5LWZyZXNoLXNpZ25pbmcta2V5LTAwMDAwMDI=",
    "sender's key": "whsec_Y2FuYXJ5LXNlbmRlci1zaWduaW5nLWtleS0wMDE=",
    "rotated sender's key": "whsec_Y2FuYXJ5LWZyZXNoLXNlbmRlci1rZXktMDAwMDAwMDM=",
    "page's token": "a-login-token-of-the-owner",
    "simulated sender's secret": "simulated-hook-secret",
    "simulated executor's token": "simulated-executor-token",
    "alarm channel": "canary-alarm-channel-40d8",
}
ANSWERS = "answers.http"
_SEARCHED = (".log", ".http", ".db-wal", ".db-journal")
_SQLITE = b"SQLite format 3\0"
_PRUNED = {".venv", "__pycache__", ".git", "node_modules"}
_LONGEST_ANSWER = 256 * 1024
# A person at the console is shown these two: the line to paste and the link to click, and nothing else.
_MEANT_FOR_A_PERSON = re.compile(rb"curl |/login\?token=")
_ENV_LINE = re.compile(rb"^(?:RELAY|EXECUTOR)_[A-Z_]*(?:SECRETS?|TOKENS?)=([^,\s]{16,})", re.MULTILINE)
_found: list[str] = []  # in the process that reports: where a secret was found


def known_secrets() -> dict[str, bytes]:
    """Return what is searched for: what it is -> its bytes."""
    return {f"{what}, {form}": value for what, text in SECRETS.items() for form, value in forms(text).items()}


def forms(secret: str) -> dict[str, bytes]:
    """Return a secret in the forms in which it could be written down."""
    found = {"as it is": secret.removeprefix("whsec_").encode()}
    if secret.startswith("whsec_"):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        found |= {"decoded": key, "in hex": key.hex().encode(), "in URLs": base64.urlsafe_b64encode(key)}
    else:
        found["in base64"] = base64.b64encode(secret.encode()).rstrip(b"=")
    return found


def search(directory: Path, secrets: dict[str, bytes]) -> list[str]:
    """Return "file: what" for every secret in what the product wrote below a directory; never the secret itself."""
    secrets = {**secrets, **_written_by_make_run(directory)}
    finds = []
    for path in _files(directory):
        if path.suffix == ".db" or path.name.endswith(_SEARCHED) or _is_sqlite(path):
            finds += [f"{path}: {what}" for what in _in_file(path, secrets)]
    return finds


def _files(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path) if path.name not in _PRUNED else ()
        elif path.is_file() and path.stat().st_size:
            yield path


def _written_by_make_run(directory: Path) -> dict[str, bytes]:
    found = {}
    for file in (path for path in _files(directory) if path.name == ".env"):
        for number, match in enumerate(_ENV_LINE.finditer(file.read_bytes())):
            found[f"secret {number} of {file}"] = match[1]
    return found


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _in_file(path: Path, secrets: dict[str, bytes]) -> list[str]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [what for what, secret in secrets.items() if _is_in(content, secret, path.suffix == ".log")]


def _is_in(content: mmap.mmap, secret: bytes, console: bool) -> bool:
    at = content.find(secret)
    while at >= 0:
        line = content[content.rfind(b"\n", 0, at) + 1 : max(content.find(b"\n", at), at)]
        if not (console and _MEANT_FOR_A_PERSON.search(line)):
            return True
        at = content.find(secret, at + 1)
    return False


# --- keeping what would be gone ---------------------------------------------------------------------


def keep(directory: Path, name: str, data: bytes) -> None:
    """Put something aside for the search: the text of a table, say."""
    with (directory / f"{name}.http").open("ab") as file:
        file.write(data + b"\n")


@pytest.fixture(scope="session", autouse=True)
def _answers_are_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every HTTP answer that a test of this process receives, whichever client it uses."""
    from werkzeug.test import Client

    with (
        (tmp_path_factory.getbasetemp() / ANSWERS).open("ab", buffering=0) as file,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("read", "read1"):
            patch.setattr(
                http.client.HTTPResponse, name, partial_method(_read, getattr(http.client.HTTPResponse, name), file)
            )
        patch.setattr(http.client.HTTPResponse, "begin", partial_method(_begin, http.client.HTTPResponse.begin, file))
        patch.setattr(Client, "open", partial_method(_opened, Client.open, file))
        yield


def partial_method(function: Callable[..., Any], *first: Any) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return partial(function, *first)(self, *args, **kwargs)

    return method


def _read(read: Any, file: Any, answer: Any, *args: Any) -> Any:
    data = read(answer, *args)
    file.write(data[:_LONGEST_ANSWER])
    return data


def _begin(begin: Any, file: Any, answer: Any) -> None:
    begin(answer)
    file.write(f"\n{answer.status} {answer.headers}\n".encode("utf-8", "replace"))


def _opened(opened: Any, file: Any, client: Any, *args: Any, **kwargs: Any) -> Any:
    answer = opened(client, *args, **kwargs)
    body = answer.get_data()[:_LONGEST_ANSWER] if answer.is_sequence else b""
    file.write(f"\n{answer.status} {answer.headers}\n".encode("utf-8", "replace") + body)
    return answer


# --- pytest's hooks ---------------------------------------------------------------------------------


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Search what a test wrote to stdout and stderr. What pytest itself makes of log records is not our log."""
    for title, text in report.sections:
        if "log" in title:
            continue
        raw = text.encode("utf-8", "replace")
        _found.extend(f"{report.nodeid}, {title}: {what}" for what, secret in _secrets().items() if secret in raw)


_cache: dict[str, bytes] = {}


def _secrets() -> dict[str, bytes]:
    if not _cache:
        _cache.update(known_secrets())
    return _cache


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search everything once, where the run is reported; a find fails the run."""
    if hasattr(session.config, "workerinput"):
        return
    factory: Any = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and factory._basetemp is not None or session.config.option.basetemp:
        _found.extend(search(factory.getbasetemp(), _secrets()))
    if _found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _found:
        terminalreporter.section("secrets were found in what the product wrote", red=True)
        for each in dict.fromkeys(_found):
            terminalreporter.line(each)
