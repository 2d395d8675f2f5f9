"""`make simulate`: play trading days by seed, and report the results.

python -m tests.simulate [--count 200 | --seeds 17,100-120] [--days 5] [--jobs 2] [--trace]
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import click

from tests.seeds import fresh, seeds
from tests.simulate.owner import BUTTONS, HANDS
from tests.simulate.story import is_calm, play, play_seed
from tests.simulate.troubles import TROUBLES
from tests.simulate.world import Figures, Result, run

CONFIDENT = 3  # rule of three: 0 of N seen, so less than 3/N at 95 %
EVERY, MANY = sorted({*TROUBLES, *HANDS, *BUTTONS}), 1000  # all troubles; days in which each must come about


def results(wanted: list[int], days: int, jobs: int, until: float) -> Iterator[Result]:
    """Play the seeds, as they come; none is begun after `until` (monotonic)."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for begin in range(0, len(wanted), 4 * jobs):
            if time.monotonic() > until:
                print(f"time is over: {len(wanted) - begin} of {len(wanted)} seeds were not begun")
                return
            yield from pool.map(partial(play_seed, days), wanted[begin : begin + 4 * jobs])


def tell_broken(result: Result, days: int) -> None:
    """Print what broke, the last of the trace, and how to see it again."""
    print(f"VIOLATION seed {result.seed}, day {result.figures.days + 1}, look {result.figures.looks}: {result.broken}")
    for line in result.lines:
        print(f"    {line}")
    print(f"  again, with the whole trace: make simulate SEEDS={result.seed} DAYS={days} TRACE=1", flush=True)


def tell(total: Figures, count: int, broken: Counter[str], seconds: float) -> None:
    """Print the figures of all seeds together."""
    print(f"{count} seeds, {total.days} trading days in {seconds:.0f} s ({seconds / max(total.days, 1):.2f} s a day)")
    print(f"{total.signals} alerts sent, {total.orders} orders accepted, {total.fills} executions, {total.looks} looks")
    table("troubles, and what the owner did: how often each met something (and was drawn)", total.met, total.faults)
    table("executor killed", total.kills)
    table("verdicts on signals", total.outcomes)
    table("alarms", total.alarms)
    held = sum(total.holds.values())
    share = 100 * total.hold_days / max(total.days, 1)
    table(f"{held} holds, on {total.hold_days} days ({share:.1f} %)", total.holds)
    print(f"{total.calm_days} days without a fault: no hold and no page is allowed there; ", end="")
    print(f"{total.gentle_days} days of troubles after which all can be known: no hold is allowed there")
    table(f"{sum(broken.values())} violations", broken)
    if not broken:
        bound = 100 * CONFIDENT / max(total.days, 1)
        print(f"0 of {total.days} days with a violation: less than {bound:.3g} % of such days at 95 % confidence")


def table(title: str, counts: Counter[str], of: Counter[str] | None = None) -> None:
    print(f"{title}:" if counts else title)
    for name in sorted(counts | (of or counts), key=lambda name: (-counts[name], name)):
        print(f"    {counts[name]:7}  {name}{f' ({of[name]})' if of else ''}")


@click.command()
@click.option(
    "--seeds", "text", default="", help="Numbers and ranges, like 17 or 1-400; else they follow from the commit."
)
@click.option("--count", default=200, show_default=True, help="How many seeds to draw from the commit.")
@click.option("--days", default=5, show_default=True, help="Trading days of each seed.")
@click.option("--jobs", default=2, show_default=True, help="Seeds at the same time.")
@click.option("--seconds", default=86400.0, help="Begin no seed after so long.")
@click.option("--trace", is_flag=True, help="Print the whole trace, one seed after the other.")
def main(text: str, count: int, days: int, jobs: int, seconds: float, trace: bool) -> None:
    """Play, check after every step, print the figures. Exit code 1 with a violation, or with a trouble that never came."""
    began, total, broken, wanted = time.monotonic(), Figures(), Counter[str](), seeds(text) if text else fresh(count)
    print(f"seeds {wanted[0]} to {wanted[-1]}{'' if text else ', from the commit'}", flush=True)
    found = (run(s, days, play, print) for s in wanted) if trace else results(wanted, days, jobs, began + seconds)
    played = 0
    for result in found:
        played += 1
        total.add(result.figures)
        if result.broken:
            broken[result.broken.partition(":")[0]] += 1
            tell_broken(result, days)
        if trace:
            print(f"seed {result.seed}{' (calm)' if is_calm(result.seed) else ''}: trace {result.trace}")
    tell(total, played, broken, time.monotonic() - began)
    unmet = [name for name in EVERY if not total.met[name]]
    if unmet and total.days >= MANY:
        print(f"never met in {total.days} days, so nothing is shown of: {', '.join(unmet)}")
    sys.exit(1 if broken or (unmet and total.days >= MANY) else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.simulate")
