"""From the first byte of an alert until the paper TWS has decoded its bracket, beside a bare bot.

Both systems get the same signals in turn, each with a paper TWS of its own, and are flat again after each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.load import percentile
from bench.report import Row
from bench.systems import EURUSD, System, bare_bot, shares, turns, whole

ROUNDS, WARM_UP, SECONDS = 80, 5, 90
FIRSTS = 40


def ratio_of(ours: list[float], bare: list[float]) -> float:
    """Return the median of the pairs' ratios: a slow minute of the machine hits both sides of a pair."""
    return median(mine / other for mine, other in zip(ours, bare, strict=True))


def spread(times: list[float]) -> str:
    """Return median and 99th percentile of milliseconds."""
    return f"p50 {median(times):.1f}, p99 {percentile(times, 0.99):.1f} ms"


def measure(rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield the rows of alert to bracket, on a contract that is known."""
    with tempfile.TemporaryDirectory() as name, bare_bot(Path(name, "bare")) as bare, whole(Path(name, "ours")) as ours:
        for _ in range(WARM_UP):
            ours.round(), bare.round()
        pairs = [(ours.round(), bare.round()) for _ in turns(rounds, SECONDS)]
    mine, others = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    yield Row("alert to bracket, through relay, queue and executor", spread(mine))
    yield Row("alert to bracket, single Flask process that calls ib_insync", spread(others))
    text = f"{ratio_of(mine, others):.2f} ({median(mine):.1f} ms beside {median(others):.1f}; {len(pairs)} pairs)"
    yield Row("alert to bracket ÷ bare single process", text, must="2.5", aim="2.0")


def measure_firsts(firsts: int = FIRSTS) -> Iterator[Row]:
    """Yield the row of the first signal ever in a symbol, beside a bot that qualifies the contract first."""
    with (
        tempfile.TemporaryDirectory() as name,
        bare_bot(Path(name, "bare"), firsts + WARM_UP) as bare,
        whole(Path(name, "ours"), firsts + WARM_UP) as ours,
    ):
        _warm_up(ours, bare)
        pairs = [(ours.round(shares(n)), bare.round(shares(n))) for n in turns(firsts, SECONDS)]
    mine, others = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    text = f"{ratio_of(mine, others):.2f} ({spread(mine)} beside {spread(others)}; {len(pairs)} pairs)"
    yield Row("first signal ever in a symbol ÷ bare bot that qualifies", text, must="4", aim="2")


def _warm_up(*systems: System) -> None:
    for _ in range(WARM_UP):
        for system in systems:
            system.round(EURUSD)
