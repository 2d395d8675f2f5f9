"""The shape of the product's code, read from its imports: those for typing only and those inside functions count too.

What may import what, room by room, is in `pyproject.toml` (import-linter); here stands what holds for every module.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
OURS = ("common", "relay", "executor")
MOST_BESIDE_THE_ROOMS = 8
CORE = "executor.core"
# how module `two` of a package comes to import what imports it -> the package's `__init__`, and `two`
CIRCLES = {
    "plainly": ("", "from {0} import one\n"),
    "for typing only": ("", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {0}.one import THING\n"),
    "inside a function": ("", "def late() -> None:\n    import {0}.one\n"),
    "of its own package": ("from {0}.two import OTHER\n", "from {0} import HERE\n"),
}


def graph_of(*packages: str) -> grimp.ImportGraph:
    return grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)


def circle(graph: grimp.ImportGraph) -> list[str]:
    """Return modules each of which is imported by the one after it, the first being the last; [] if there is no circle."""
    try:
        TopologicalSorter({each: graph.find_modules_directly_imported_by(each) for each in graph.modules}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def strays(graph: grimp.ImportGraph, room: str) -> list[str]:
    """Return the imports by which a room of the executor knows of anything in it outside that room."""
    inside = {room, *graph.find_descendants(room)}
    return [
        f"{importer} imports {imported}"
        for importer in sorted(inside)
        for imported in sorted(graph.find_modules_directly_imported_by(importer) - inside)
        if imported.split(".")[0] == room.split(".")[0]
    ]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return graph_of(*OURS)


def test_the_graph_is_of_this_tree_and_whole(graph: grimp.ImportGraph) -> None:
    files = {path.relative_to(ROOT) for part in OURS for path in (ROOT / part).rglob("*.py")}
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert graph.modules == names


def test_no_import_circle(graph: grimp.ImportGraph) -> None:
    assert circle(graph) == []


def test_the_core_imports_nothing_of_the_shell(graph: grimp.ImportGraph) -> None:
    assert strays(graph, CORE) == []


def test_few_files_stand_beside_the_executors_rooms() -> None:
    beside = sorted(path.name for path in (ROOT / "executor").glob("*.py"))
    assert len(beside) <= MOST_BESIDE_THE_ROOMS, beside


@pytest.mark.parametrize("how", CIRCLES)
def test_a_circle_is_found(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"circle_{list(CIRCLES).index(how)}"
    package = tmp_path / name
    package.mkdir()
    sources = zip(("__init__", "two", "one"), (*CIRCLES[how], "from {0}.two import OTHER\n"), strict=True)
    for module, source in sources:
        (package / f"{module}.py").write_text(source.format(name), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(set(circle(graph_of(name)))) == 2


def test_an_import_of_the_shell_is_found(graph: grimp.ImportGraph) -> None:
    found = strays(graph, "executor.journal")  # which stands on the core
    assert found and all("imports executor.core" in each for each in found)
