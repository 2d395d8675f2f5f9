"""The seed under the name `page_seed`, so that test modules can import it whatever else is called `tests`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("page_seed", Path(__file__).with_name("seed.py"))
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules["page_seed"] = _MODULE
_SPEC.loader.exec_module(_MODULE)
