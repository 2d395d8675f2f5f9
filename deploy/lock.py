"""Compile the locks from pyproject.toml: exact versions with hashes, for every system and Python 3.11-3.14.

`requirements.txt` is what the programs need, `requirements-ib_async.txt` the same with ib_async in the
place of ib_insync, `requirements-dev.txt` the tools on top of either. They share every version, so that the
tools can be installed beside both.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

COMPILE = [
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
    "--generate-hashes", "--no-annotate", "--custom-compile-command", "make lock",
]  # fmt: skip
SWAP = ("ib_insync", "ib_async==2.1.0")


def find_uv() -> str:
    """Return the path of uv, or exit with the fix: only changing a dependency needs it."""
    found = shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv")
    return found or sys.exit(f"make lock needs uv: {sys.executable} -m pip install uv")


def compile_lock(output: str, *arguments: str) -> None:
    """Write one lock; versions that it holds already are kept where they still fit."""
    if subprocess.run([find_uv(), *COMPILE, *arguments, "--output-file", output], check=False).returncode:
        sys.exit(f"make lock: uv could not compile {output}: see above")
    print(f"{output}: {Path(output).read_text('utf-8').count('==')} packages")


def main() -> None:
    """Compile the three locks, the later ones constrained by the first."""
    compile_lock("requirements.txt", "pyproject.toml", "--all-extras")
    with tempfile.TemporaryDirectory() as folder:
        without, added = Path(folder, "without.txt"), Path(folder, "added.in")
        without.write_text(SWAP[0], "utf-8")
        added.write_text(SWAP[1], "utf-8")
        swap = ["--all-extras", "--excludes", str(without), str(added), "-c", "requirements.txt"]
        compile_lock("requirements-ib_async.txt", "pyproject.toml", *swap)
    compile_lock("requirements-dev.txt", "--group", "dev", "-c", "requirements.txt")


if __name__ == "__main__":
    main()
