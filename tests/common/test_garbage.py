"""Garbage is looked for at rest only."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from common import garbage


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.collect()
    yield
    gc.set_threshold(*thresholds)


class Knot:
    """An object that only a collection can free."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_looked_for_while_work_is_done() -> None:
    garbage.collect_at_rest()
    looks: list[str] = []
    gc.callbacks.append(lambda phase, info: looks.append(phase))
    try:
        kept = [[n] for n in range(10_000)]
    finally:
        gc.callbacks.pop()
    assert kept and not looks


def test_very_much_is_not_left_lying_until_a_rest() -> None:
    garbage.collect_at_rest()
    lost = weakref.ref(Knot())
    kept = [[n] for n in range(100_000)]
    assert kept and lost() is None


def test_a_rest_frees_what_was_made_lately() -> None:
    garbage.collect_at_rest()
    lost, kept = weakref.ref(Knot()), [[n] for n in range(1_000)]
    assert lost() is not None
    garbage.rest()
    assert lost() is None and kept


def test_what_is_kept_is_never_looked_at_again() -> None:
    garbage.collect_at_rest()
    kept = weakref.ref(Knot())
    garbage.keep()
    garbage.rest(long=True)
    assert kept() is not None


def test_a_long_rest_looks_at_everything_else() -> None:
    garbage.collect_at_rest()
    knot = Knot()
    lost = weakref.ref(knot)
    gc.collect()  # it is old now
    del knot
    garbage.rest()
    garbage.rest(long=True)
    assert lost() is None
