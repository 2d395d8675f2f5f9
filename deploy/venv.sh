#!/bin/sh
# Make the virtual environment $1 with the first Python of 3.13, 3.12, 3.11, 3.14 that really runs: 3.14 comes last,
# because the test suite has not yet run on it as a whole (docs/decisions/0001).
# A command that exists but fails (a version manager's shim, a Python without venv) is passed over.
# One that already works is kept, however it was made.
set -u
"$1/bin/python" -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1 && exit 0
probe='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python}; do
    if "$candidate" -c "$probe" >/dev/null 2>&1; then
        echo "Making $1 with $("$candidate" --version) ..."
        exec "$candidate" -m venv --clear "$1"
    fi
done
found=$(python3 --version 2>/dev/null || echo "no python3")
echo "Python 3.11, 3.12, 3.13 or 3.14 with its venv module is needed; found: $found." >&2
echo "Install one (Debian, Ubuntu: sudo apt-get install python3 python3-venv; macOS: brew install python@3.13;" >&2
echo "any system: https://www.python.org/downloads/), or name yours: make PYTHON=/path/to/python3.12 run" >&2
exit 1
