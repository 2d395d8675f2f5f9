"""How results are shown: a table on the console, the same in docs/performance.md."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

BEGIN, END = "<!-- figures: written by make bench WRITE=1 -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One result, with what it must reach and what it should."""

    what: str
    value: str
    aim: str = ""
    must: str = ""


def show(rows: Iterable[Row]) -> list[Row]:
    """Print each row as it comes, then all as a table; return them."""
    console, kept = Console(), []
    for row in rows:
        kept.append(row)
        console.print(f"{row.what}: [bold]{row.value}[/bold]")
    table = Table("measured", "result", "must", "aim")
    for row in kept:
        table.add_row(row.what, row.value, row.must, row.aim)
    console.print(table)
    return kept


def file_system(folder: str) -> str:
    """Return the kind of file system that a folder is on: in memory (tmpfs), a commit costs next to nothing."""
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    own = [str(place) for place in (Path(folder).resolve(), *Path(folder).resolve().parents)]
    return next((mounts[place] for place in own if place in mounts), "an unknown file system")


def machine() -> str:
    """Return what was measured on, in words."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text("utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    python, files = platform.python_version(), file_system(tempfile.gettempdir())
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {os.cpu_count()} cores, {system}, Python {python}, databases on {files}"


def code() -> str:
    """Return which code was measured, in words."""
    git = shutil.which("git")
    words = [git or "git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=, changed since"]
    done = subprocess.run(words, capture_output=True, text=True) if git else None
    return f"commit {done.stdout.strip()}" if done and not done.returncode else "a tree without git"


def load() -> str:
    """Return how busy the machine is with all that runs on it, in words."""
    if not hasattr(os, "getloadavg"):
        return "how busy it was is not known"
    return f"processes that wanted to run in the last 15 minutes, these included: {os.getloadavg()[2]:.1f} on average"


def write(page: Path, rows: list[Row], day: str) -> None:
    """Replace the figures in a page."""
    text = page.read_text("utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = [
        BEGIN,
        "",
        f"Measured on {day} at {code()}, on {machine()}; {load()}.",
        "",
        "| measured | result | must | aim |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row.what} | {row.value} | {row.must} | {row.aim} |" for row in rows]
    page.write_text("\n".join([head + lines[0], *lines[1:], "", END]) + tail, "utf-8")
