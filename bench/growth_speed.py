"""What must not grow: alert to bracket with many open trades, with a long history, and thirty alerts at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench import history, pairs
from bench.report import Row
from bench.systems import System, bare_bot, shares, stock, whole

ROUNDS, WARM_UP, SECONDS = 40, 3, 60
FEW, MANY = 2, 100
BURST, BURSTS, STANDING = 30, 3, 60
AT_ONCE = 5
PACE_SECONDS = 1.5  # ib_insync counts the messages of the last second; after this none of them count
LONGEST = 95  # seconds: an entry is good for 90


def measure_open(few: int = FEW, many: int = MANY, rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield the row of alert to bracket with many open trades, beside few."""
    with (
        tempfile.TemporaryDirectory() as name,
        whole(Path(name, "few"), many) as light,
        whole(Path(name, "many"), many) as heavy,
    ):
        open_trades(light, range(few))
        open_trades(heavy, range(many))
        found = compare(System.round, heavy, light, rounds)
    yield Row(f"alert to bracket, {many} open trades ÷ {few}", str(found), must="1.3", aim="1.1")


def measure_journal(events: int = history.EVENTS, rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield the rows of alert to bracket, and of a reversal, with a long journal, beside an empty one."""
    journal = history.ready_made(events)
    for what, act in (("alert to bracket", System.round), ("reversal", System.reversal)):
        with (
            tempfile.TemporaryDirectory() as name,
            whole(Path(name, "empty")) as light,
            whole(Path(name, "full"), journal=journal) as heavy,
        ):
            found = compare(act, heavy, light, rounds)
        yield Row(f"{what}, journal of {events:,} events ÷ empty", str(found), must="1.3", aim="1.1")


def compare(act: Callable[[System], float], heavy: System, light: System, rounds: int) -> pairs.Pairs:
    """Have both systems do the same in turn."""
    return pairs.take(lambda _: act(heavy), lambda _: act(light), rounds, seconds=SECONDS, warm_up=WARM_UP)


def open_trades(system: System, numbers: range) -> None:
    """Open a trade in each of these made-up stocks, a few at a time."""
    for first in range(0, len(numbers), AT_ONCE):
        system.open_all(numbers[first : first + AT_ONCE])
    system.rest()


def measure_burst(alerts: int = BURST, bursts: int = BURSTS, standing: int = STANDING) -> Iterator[Row]:
    """Yield the row of many alerts in one instant, each in a contract that is known, while trades stand."""
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
        found = pairs.take(
            lambda _: burst(ours, numbers), lambda _: burst(bare, numbers), bursts, seconds=LONGEST, warm_up=0
        )
    trouble = f"not all decoded: {found.trouble}"
    text = f"{median(found.ours):.2f} s (the bare bot's: {median(found.theirs):.2f} s)" if found.ours else trouble
    yield Row(f"{alerts} brackets in one instant, {standing} open", text, must="2.8 s", aim="2.2 s")


def burst(system: System, numbers: range) -> float:
    """Send an open signal in each of these stocks at once; return the seconds until TWS has decoded the last bracket."""
    time.sleep(PACE_SECONDS)
    took = system.open_all(numbers, LONGEST)
    for number in numbers:
        system.close_trade(stock(number))
    system.rest()
    return took
