"""Python looks for unreachable cycles while idle, not while an alert is on its way.

Left to itself it does so whenever some hundred objects were made, in the middle of whatever runs: 0.1 ms several times
for each alert, 2 ms every dozen alerts, 26 ms now and then. Objects without cycles are freed at once, as always.
"""

from __future__ import annotations

import gc

_MOST = 20_000  # objects made and kept since the last rest, after which Python does not wait for one
_FEW = 500  # fewer are not worth a look


def collect_at_rest() -> None:
    """From now on look for garbage when `rest` is called, and otherwise only when very much was made."""
    gc.set_threshold(_MOST, *gc.get_threshold()[1:])


def keep() -> None:
    """Spare everything that exists now from every later look: what was made for the start stays to the end."""
    gc.freeze()


def rest(*, long: bool = False) -> None:
    """Free unreachable cycles among what was made lately; after a `long` rest among everything that is not kept."""
    if long:
        gc.collect()
    elif gc.get_count()[0] >= _FEW:
        gc.collect(1)
