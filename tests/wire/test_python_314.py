"""The broker's library where no event loop is made unasked, as on Python 3.14: imported, then used over a real socket.

The older Pythons imitate it: their policy raises where 3.14's does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor.tws.client import LIBRARY, library

ROOT = Path(__file__).parents[2]
STRICT = """
import asyncio, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of policies, since 3.14

class Strict(asyncio.DefaultEventLoopPolicy):
    def get_event_loop(self):
        if self._local._loop is None:
            raise RuntimeError("There is no current event loop in thread 'MainThread'.")
        return self._local._loop

    def new_event_loop(self):
        made.append(super().new_event_loop())
        return made[-1]

made = []
policy = Strict()
asyncio.set_event_loop_policy(policy)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STRICT + code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(library.__name__ != "ib_insync", reason="ib_async can be imported without a loop")
def test_the_imitation_is_as_strict_as_3_14() -> None:
    done = run("import ib_insync")
    assert done.returncode == 1
    assert "RuntimeError: There is no current event loop" in done.stderr


def test_the_library_is_imported_without_a_loop_and_leaves_none() -> None:
    done = run(
        "from executor.tws import client as tws\n"
        "assert policy._local._loop is None\n"
        "assert made and all(loop.is_closed() for loop in made)\n"
        "print(tws.LIBRARY)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LIBRARY}\n", "")


def test_numpy_is_loaded_at_its_first_use_only() -> None:
    done = run(
        "from executor.tws import client\n"
        "assert not [name for name in sys.modules if name.startswith('numpy.')]\n"
        "from eventkit.ops import array\n"
        "assert array.np.asarray([1, 2]).sum() == 3 == array.np.sum([1, 2])\n"
        "assert sys.modules['numpy'].ndarray is array.np.ndarray\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_loop_that_runs_at_the_import_stays_the_current_one() -> None:
    done = run(
        "async def main():\n"
        "    import executor.tws.client\n"
        "    assert policy.get_event_loop() is asyncio.get_running_loop()\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
        "assert all(loop.is_closed() for loop in made)\n"
    )
    assert done.returncode == 0, done.stderr


def test_orders_and_facts_pass_over_a_socket() -> None:
    chosen = ["-k", "bracket or partial"]
    arguments = ["-q", "-p", "no:cacheprovider", "-x", *chosen, str(Path(__file__).with_name("test_orders.py"))]
    done = run(f"import pytest; sys.exit(pytest.main({arguments!r}))")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
