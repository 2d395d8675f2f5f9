"""`make crash`: kill the executor at every boundary of every scenario, and say what came of it.

python -m tests.crash [--runs N] [--double N] [--only WORDS]
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

import click

from tests.crash.run import Job, Verdict, begin_worker, work
from tests.crash.scenarios import SCENARIOS


def plan(dry: Iterable[Verdict], runs: int, double: int, seed: int) -> list[Job]:
    """Return kill runs: all single boundaries or `runs` spread over them evenly, then `double` random pairs."""
    chance, lengths = random.Random(seed), {v.scenario: len(v.boundaries) for v in dry}
    single: list[Job] = [(name, (at,)) for name, count in lengths.items() for at in range(1, count + 1)]
    if 0 < runs < len(single):
        single = [single[round(i * len(single) / runs)] for i in range(runs)]
    chance.shuffle(single)
    names, pairs = list(lengths), []
    for _ in range(double):
        name = chance.choice(names)
        first = chance.randint(1, lengths[name])
        pairs.append((name, (first, first + chance.randint(1, 40))))
    return single + pairs


def tell(verdicts: list[Verdict], dry: list[Verdict]) -> int:
    """Print the figures; the number of violations."""
    counted = [v for v in verdicts if v.reached]
    print(f"{'scenario':36}{'boundaries':>11}{'runs':>6}{'unreached':>10}{'violations':>11}{'holds':>6}")
    for name in dict.fromkeys(v.scenario for v in dry):
        own = [v for v in counted if v.scenario == name]
        width = next(len(v.boundaries) for v in dry if v.scenario == name)
        missed = sum(v.scenario == name for v in verdicts) - len(own)
        bad, held = sum(bool(v.violations) for v in own), sum(bool(v.holds) for v in own)
        print(f"{name:36}{width:11}{len(own):6}{missed:10}{bad:11}{held:6}")
    bad = sum(bool(v.violations) for v in [*counted, *dry])
    single = sum(len(v.kill_at) == 1 for v in counted)
    kinds = {line for v in dry for line in v.boundaries}
    print(f"{single} single kills, {len(counted) - single} double kills; {len(kinds)} kinds of boundary", end="; ")
    print(f"{bad} with a violation, {sum(bool(v.holds) for v in counted)} on hold")
    return bad


def report_trouble(verdict: Verdict) -> None:
    if verdict.violations:
        print(f"VIOLATION {verdict.scenario} killed at {verdict.kill_at} ({verdict.killed_at}): {verdict.violations}")
        print(f"  records: {verdict.folder}; alarms: {verdict.alarms}", flush=True)
    elif verdict.holds:
        print(f"hold {verdict.scenario} killed at {verdict.kill_at} ({verdict.killed_at}): {verdict.holds}", flush=True)


def carry_out(pool: ProcessPoolExecutor, jobs: list[Job], until: float) -> Iterator[Verdict]:
    """Run the jobs, as they come; none is begun after `until` (monotonic)."""
    for begin in range(0, len(jobs), 20):
        if time.monotonic() > until:
            print(f"time is over: {len(jobs) - begin} of {len(jobs)} runs were not begun")
            return
        for verdict in pool.map(work, jobs[begin : begin + 20]):
            report_trouble(verdict)
            yield verdict


@click.command()
@click.option("--runs", default=0, help="Single kills, spread evenly; 0: one at every boundary.")
@click.option("--double", default=0, help="Double kills, at random.")
@click.option("--only", default="", help="Scenarios whose name contains this.")
@click.option("--seed", default=1, help="Of the order and the pairs.")
@click.option("--jobs", default=2, help="Runs at the same time.")
@click.option("--seconds", default=86400.0, help="Begin no run after so long.")
@click.option("--boundaries", is_flag=True, help="Print every boundary of every scenario.")
def main(runs: int, double: int, only: str, seed: int, jobs: int, seconds: float, boundaries: bool) -> None:
    """Enumerate, kill, restart, check. Exit code 1 with a violation, or with a hold where nothing was killed."""
    until = time.monotonic() + seconds
    names = [name for name in SCENARIOS if only in name]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin_worker) as pool:
        dry = list(pool.map(work, [(name, ()) for name in names]))
        for verdict in dry:
            report_trouble(verdict)
            if boundaries:
                print(verdict.scenario, *Counter(verdict.boundaries).items(), sep="\n  ")
        verdicts = list(carry_out(pool, plan(dry, runs, double, seed), until))
    bad = tell(verdicts, dry)
    sys.exit(1 if bad or any(v.holds for v in dry) else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.crash")
