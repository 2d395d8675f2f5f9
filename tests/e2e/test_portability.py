"""Nothing in `executor` or `common` that Windows or macOS lacks: the executor runs where TWS runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for part in ("common", "executor") for path in (ROOT / part).rglob("*.py"))

MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
    "termios", "tty", "uvloop",
}  # fmt: skip
# module -> names that Windows' Python does not have
NAMES = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_SYNC", "WNOHANG", "chown", "fchmod", "fchown", "fork",
        "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpgrp", "getuid", "killpg",
        "mkfifo", "nice", "openpty", "posix_fadvise", "pread", "pwrite", "setgid", "setpgid", "setsid",
        "setuid", "sync",
        "uname", "wait", "waitid",
    },
    "signal": {
        "ITIMER_REAL", "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2",
        "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait",
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT", "sendmsg", "recvmsg"},
    "asyncio": {"open_unix_connection", "start_unix_server"},
    "select": {"epoll", "kqueue", "poll"},
    "time": {"clock_gettime", "tzset"},
}  # fmt: skip
METHODS = {"add_signal_handler", "create_unix_server", "create_unix_connection"}  # of an event loop
GUARDS = ("sys.platform", "os.name", "hasattr", "getattr", "TYPE_CHECKING")
CATCHES = ("ImportError", "ModuleNotFoundError", "AttributeError", "NotImplementedError")


def lacking(tree: ast.AST, guarded: bool = False) -> Iterator[str]:
    """Yield what a source uses that Windows lacks, unless a fallback for it stands around it."""
    if isinstance(tree, ast.If) and any(guard in ast.unparse(tree.test) for guard in GUARDS):
        guarded = True
    if isinstance(tree, ast.Try) and any(
        name in ast.unparse(handler.type or ast.Constant("")) for handler in tree.handlers for name in CATCHES
    ):
        guarded = True
    if not guarded:
        yield from (f"line {getattr(tree, 'lineno', 0)}: {found}" for found in _named(tree))
    for child in ast.iter_child_nodes(tree):
        yield from lacking(child, guarded)


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        yield from (f"{module}.{a.name}" for a in node.names if a.name in NAMES.get(module, ()) or module in MODULES)
    elif isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.attr in NAMES.get(node.value.id, ()):
            yield f"{node.value.id}.{node.attr}"
        elif node.attr in METHODS:
            yield node.attr
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _calls(call: ast.Call) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {keyword.arg for keyword in call.keywords}
    encoding_at = {"read_text": 0, "write_text": 1}.get(name, len(call.args) - 1)
    if len(call.args) <= encoding_at and "encoding" not in keywords:
        yield f"{name} without encoding (Windows would take its own)"
    if name == "rename":
        yield "rename (fails on Windows where the target exists; replace does not)"
    if name == "strftime" and any("%-" in ast.unparse(argument) for argument in call.args):
        yield "strftime with %-"
    if {"preexec_fn", "process_group", "start_new_session"} & keywords:
        yield f"{name} with what only POSIX has"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_uses_only_what_windows_has_too(path: Path) -> None:
    assert list(lacking(ast.parse(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import fcntl",
        "from fcntl import flock",
        "import os\nos.fork()",
        "from signal import SIGKILL",
        "loop.add_signal_handler(2, stop)",
        "Path('x').read_text()",
        "import asyncio\nasyncio.start_unix_server(f)",
        "subprocess.Popen(c, start_new_session=True)",
        "f'{x}'; at.strftime('%-d')",
    ],
)
def test_scan_finds_what_windows_lacks(source: str) -> None:
    assert list(lacking(ast.parse(source)))


def test_scan_allows_a_fallback() -> None:
    source = "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None\n"
    source += "if sys.platform != 'win32':\n    os.fork()"
    assert list(lacking(ast.parse(source))) == []
