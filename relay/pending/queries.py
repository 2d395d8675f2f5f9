"""Named SQL, kept in files beside the code that runs it."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_queries(file_name: str) -> dict[str, str]:
    """Return name -> SQL text of one file, split at its `-- name:` lines."""
    parts = _NAME.split(read_sql(file_name))[1:]
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def read_sql(file_name: str) -> str:
    """Return the text of an SQL file of this package."""
    return files(__package__).joinpath(file_name).read_text("utf-8")


def migrations(engine: str) -> list[str]:
    """Return the schema scripts of an engine: the first makes version 1, the second turns 1 into 2."""
    names = [entry.name for entry in files(__package__).iterdir()]
    numbers = sorted(int(m[1]) for name in names if (m := re.fullmatch(rf"{engine}_(\d+)\.sql", name)))
    return [read_sql(f"{engine}_{number}.sql") for number in numbers]
