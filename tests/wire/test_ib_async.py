"""The same tests on ib_async: the library is chosen by what the environment has, and nothing else changes."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from executor.tws.client import library
from tests.paper.processes import ROOT, environment

SUPERVISOR = Path(__file__).with_name("test_supervisor.py")  # knows nothing of the library, and takes its time
PYTHON_314 = Path(__file__).with_name("test_python_314.py")  # starts Pythons that would not hide ib_insync
# ib_async comes first on the path, the test tools after it; ib_insync is hidden, as if it were not there.
RUN = """
import sys
sys.modules["ib_insync"] = None
sys.path += {more!r}
import pytest
from executor.tws.client import library
assert library.__name__ == "ib_async", library
sys.exit(pytest.main({arguments!r}))
"""


@pytest.mark.skipif(library.__name__ != "ib_insync", reason="this environment has ib_async: all tests run on it")
@pytest.mark.timeout(120)
def test_wire_on_ib_async() -> None:
    python = environment("ib_async==2.1.0")
    ignored = [f"--ignore={path}" for path in (Path(__file__), SUPERVISOR, PYTHON_314)]
    arguments = ["-q", "-p", "no:cacheprovider", "-x", *ignored, str(Path(__file__).parent)]
    code = RUN.format(more=[str(ROOT), sysconfig.get_paths()["purelib"]], arguments=arguments)
    ended = subprocess.run([str(python), "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
