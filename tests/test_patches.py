"""A test that patches a name which does not exist, or which nobody reads there, tests something else than it says.

Read from the source of all tests: `module.NAME = …`, `setattr(module, "NAME", …)`, `setattr("module.NAME", …)` and the
pairs `(module, "NAME")` that a loop patches.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("executor", "relay", "common", "deploy", "bench")
FILES = sorted(path for path in (ROOT / "tests").rglob("*.py"))
Patch = tuple[str, str]  # the module's full name, and the name in it


def patches(tree: ast.Module) -> Iterator[Patch]:
    """Yield what a test's source patches in modules of the product."""
    modules = imported(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name, ctx=ast.Store()) if owner in modules:
                yield modules[owner], name
            case ast.Tuple(elts=[ast.Name(id=owner), ast.Constant(value=str(name)), *_]) if owner in modules:
                yield modules[owner], name
            case ast.Call(func=ast.Attribute(attr="setattr" | "delattr") | ast.Name(id="setattr"), args=[first, *rest]):
                yield from _set(first, rest, modules)


def _set(first: ast.expr, rest: list[ast.expr], modules: dict[str, str]) -> Iterator[Patch]:
    match first, rest:
        case ast.Name(id=owner), [ast.Constant(value=str(name)), *_] if owner in modules:
            yield modules[owner], name
        case ast.Constant(value=str(path)), _ if path.startswith(OURS):
            module, _, name = path.rpartition(".")
            yield module, name


def imported(tree: ast.Module) -> dict[str, str]:
    """Return the product's modules that a test imports: its name for one → the full name."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname and alias.name.startswith(OURS)}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(OURS):
            for alias in node.names:
                if module(full := f"{node.module}.{alias.name}"):
                    found[alias.asname or alias.name] = full
    return found


@cache
def module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None  # a class or a function


def is_read(owner: ModuleType, name: str) -> bool:
    """Whether the module's own code reads a name while it runs; others may read it as an attribute of the module."""
    source = Path(owner.__file__ or "").read_text("utf-8")
    functions = [
        n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    bodies = (part for each in functions for part in (each.body if isinstance(each.body, list) else [each.body]))
    return any(isinstance(n, ast.Name) and n.id == name for body in bodies for n in ast.walk(body))


def mistakes(tree: ast.Module) -> list[str]:
    """Return in words what a test patches in vain."""
    found = []
    for where, name in patches(tree):
        owner = module(where)
        if owner is None or "." in name:
            continue
        if not hasattr(owner, name):
            found.append(f"{where} has no {name}")
        elif not is_read(owner, name) and not _is_read_elsewhere(where, name):
            found.append(f"nothing reads {where}.{name} while it runs")
    return found


def _is_read_elsewhere(where: str, name: str) -> bool:
    attribute = f"{where.rpartition('.')[2]}.{name}"
    files = (path for part in OURS for path in (ROOT / part).rglob("*.py"))
    return any(attribute in path.read_text("utf-8") for path in files)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_that_is_patched_exists_and_is_read(path: Path) -> None:
    assert mistakes(ast.parse(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(("source", "words"), [
    ("from executor.tws import connection\nconnection.FIRST_PAUSE = 1", "has no FIRST_PAUSE"),
    ("from executor.tws import connection\nconnection.SETTLE_SECONDS, connection.NO_SUCH = 1, 2", "has no NO_SUCH"),
    ("import executor.tws.client as module\nmonkeypatch.setattr(module, 'NO_SUCH', 1, raising=False)", "has no NO_SUCH"),
    ("patch.setattr('relay.pending.postgres.no_such', 1)", "has no no_such"),
    ("from executor.core import steps\nfor m, n in ((steps, 'NO_SUCH'),): setattr(m, n, 1)", "has no NO_SUCH"),
    ("from executor.core import commands\ncommands.StrEnum = 1", "nothing reads executor.core.commands.StrEnum"),
])  # fmt: skip
def test_a_patch_in_vain_is_found(source: str, words: str) -> None:
    [found] = mistakes(ast.parse(source))
    assert words in found
