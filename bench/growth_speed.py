"""What must not grow: alert to bracket with many open trades, with a long history, and thirty alerts at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench import history
from bench.load import percentile
from bench.order_speed import ratio_of
from bench.report import Row
from bench.systems import System, bare_bot, shares, stock, turns, whole

ROUNDS, WARM_UP, SECONDS = 40, 3, 60
FEW, MANY = 2, 100
BURST, BURSTS, STANDING = 30, 3, 60
AT_ONCE = 5
PACE_SECONDS = 1.5  # ib_insync counts the messages of the last second; after this none of them count
LONGEST = 90


def measure_open(few: int = FEW, many: int = MANY, rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield the row of alert to bracket with many open trades, beside few."""
    with (
        tempfile.TemporaryDirectory() as name,
        whole(Path(name, "few"), many) as light,
        whole(Path(name, "many"), many) as heavy,
    ):
        open_trades(light, range(few))
        open_trades(heavy, range(many))
        text = compare(System.round, heavy, light, rounds)
    yield Row(f"alert to bracket, {many} open trades ÷ {few}", text, must="1.3", aim="1.1")


def measure_journal(events: int = history.EVENTS, rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield the rows of alert to bracket, and of a reversal, with a long journal, beside an empty one."""
    journal = history.ready_made(events)
    with (
        tempfile.TemporaryDirectory() as name,
        whole(Path(name, "empty")) as light,
        whole(Path(name, "full"), journal=journal) as heavy,
    ):
        for what, act in (("alert to bracket", System.round), ("reversal", System.reversal)):
            text = compare(act, heavy, light, rounds)
            yield Row(f"{what}, journal of {events:,} events ÷ empty", text, must="1.3", aim="1.1")


def compare(act: Callable[[System], float], heavy: System, light: System, rounds: int) -> str:
    """Have both systems do the same in turn; return the ratio of their times, with the medians."""
    for _ in range(WARM_UP):
        act(heavy), act(light)
    pairs = [(act(heavy), act(light)) for _ in turns(rounds, SECONDS)]
    many, few = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    medians = f"{median(many):.1f} ms beside {median(few):.1f}"
    worst = f"p99 {percentile(many, 0.99):.1f} beside {percentile(few, 0.99):.1f}"
    return f"{ratio_of(many, few):.2f} ({medians}; {worst}; {len(pairs)} pairs)"


def open_trades(system: System, numbers: range) -> None:
    """Open a trade in each of these made-up stocks, a few at a time."""
    for first in numbers[::AT_ONCE]:
        system.open_all(numbers[first - numbers.start :][:AT_ONCE])
    system.rest()


def measure_burst(alerts: int = BURST, bursts: int = BURSTS, standing: int = STANDING) -> Iterator[Row]:
    """Yield the rows of many alerts in one instant, each in a contract that is known, while trades stand."""
    stocks = standing + alerts
    with (
        tempfile.TemporaryDirectory() as name,
        bare_bot(Path(name, "bare"), stocks) as bare,
        whole(Path(name, "ours"), stocks) as ours,
    ):
        open_trades(ours, range(standing))
        numbers = range(standing, stocks)
        for system in (ours, bare):
            for number in numbers:  # from here on, they are known
                system.round(shares(number))
        pairs = [(burst(ours, numbers), burst(bare, numbers)) for _ in range(bursts)]
    mine, others = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    text = f"{median(mine):.2f} s, slowest {max(mine):.2f} (the bare bot's {median(others):.2f})"
    yield Row(f"{alerts} brackets in one instant, {standing} open", text, must="2.8 s", aim="2.2 s")


def burst(system: System, numbers: range) -> float:
    """Send an open signal in each of these stocks at once; return the seconds until TWS has decoded the last bracket."""
    time.sleep(PACE_SECONDS)
    took = system.open_all(numbers, LONGEST)
    for number in numbers:
        system.close_trade(stock(number))
    system.rest()
    return took
