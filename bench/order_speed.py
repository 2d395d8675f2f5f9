"""From the first byte of an alert until the paper TWS has decoded its bracket, beside a bare bot.

Both systems get the same signals in turn, each with a paper TWS of its own, and are flat again after each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import pairs
from bench.report import Row
from bench.systems import bare_bot, shares, whole

ROUNDS, FIRSTS, WARM_UP, SECONDS = 80, 40, 5, 90
TEN_ORDERS: dict[str, object] = {
    "symbol": "EURUSD",
    "quantity": 20000,
    "sl": 1.10,
    "targets": [{"tp": tp, "percent": 20} for tp in (1.30, 1.31, 1.32, 1.33)],
}


def measure(rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield the row of alert to bracket, on a contract that is known."""
    with tempfile.TemporaryDirectory() as name, bare_bot(Path(name, "bare")) as bare, whole(Path(name, "ours")) as ours:
        found = pairs.take(lambda _: ours.round(), lambda _: bare.round(), rounds, seconds=SECONDS, warm_up=WARM_UP)
    yield Row("alert to bracket ÷ bare single process", str(found), must="2.5", aim="2.0")


def measure_targets(rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield the row of a bracket with four targets, ten orders in all, to its last order, beside one of three."""
    with tempfile.TemporaryDirectory() as name, whole(Path(name, "one")) as one, whole(Path(name, "four")) as four:
        found = pairs.take(
            lambda _: four.round(TEN_ORDERS), lambda _: one.round(), rounds, seconds=SECONDS, warm_up=WARM_UP
        )
    yield Row("bracket with four targets ÷ plain bracket, to its last order", str(found), must="2")


def measure_firsts(firsts: int = FIRSTS) -> Iterator[Row]:
    """Yield the row of the first signal ever in a symbol, beside a bot that qualifies the contract first."""
    stocks = firsts + WARM_UP
    with (
        tempfile.TemporaryDirectory() as name,
        bare_bot(Path(name, "bare"), stocks) as bare,
        whole(Path(name, "ours"), stocks) as ours,
    ):
        found = pairs.take(
            lambda n: ours.round(shares(n)), lambda n: bare.round(shares(n)), firsts, seconds=SECONDS, warm_up=WARM_UP
        )
    yield Row("first signal ever in a symbol ÷ bare bot that qualifies", str(found), must="4", aim="2")
