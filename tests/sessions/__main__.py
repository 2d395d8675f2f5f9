"""`make sessions`: play random sessions of the real programs, and report the results.

python -m tests.sessions [--count 200 | --seeds 17,100-120] [--jobs 2] [--seconds 600]
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import click

from tests.seeds import fresh, seeds
from tests.sessions.play import Verdict, play_seed

CONFIDENT = 3  # rule of three: 0 of N seen, so less than 3/N at 95 %


def verdicts(wanted: list[int], jobs: int, until: float) -> Iterator[Verdict]:
    """Play the seeds in their order; none is started after `until` (monotonic)."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for begin in range(0, len(wanted), 2 * jobs):
            if time.monotonic() > until:
                print(f"time is over: {len(wanted) - begin} of {len(wanted)} seeds were not begun")
                return
            yield from pool.map(play_seed, wanted[begin : begin + 2 * jobs])


def tell(verdict: Verdict) -> None:
    """Print what broke, the story up to there, and how to play it again."""
    print(f"VIOLATION in the session of seed {verdict.seed}; its records are in {verdict.folder}")
    for line in [*verdict.broken, *(f"    {step}" for step in verdict.steps)]:
        print(f"  {line}")
    print(f"  again (the same story, not the same timing): make sessions SEEDS={verdict.seed}", flush=True)


def table(title: str, counts: Counter[str]) -> None:
    print(f"{title}: " + (", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"))


@click.command()
@click.option(
    "--seeds", "text", default="", help="Numbers and ranges, like 17 or 1-400; else they follow from the commit."
)
@click.option("--count", default=200, show_default=True, help="How many seeds to draw from the commit.")
@click.option("--jobs", default=2, show_default=True, help="Sessions at the same time.")
@click.option("--seconds", default=86400.0, help="Begin no session after so long.")
def main(text: str, count: int, jobs: int, seconds: float) -> None:
    """Play, judge, print the figures. Exit code 1 with a violation."""
    began, wanted = time.monotonic(), seeds(text) if text else fresh(count)
    print(f"seeds {wanted[0]} to {wanted[-1]}{'' if text else ', from the commit'}", flush=True)
    played, broken, length = 0, Counter[str](), 0.0
    counts, outcomes, alarms = Counter[str](), Counter[str](), Counter[str]()
    for verdict in verdicts(wanted, jobs, began + seconds):
        played, length = played + 1, length + verdict.seconds
        counts, outcomes, alarms = counts + verdict.counts, outcomes + verdict.outcomes, alarms + verdict.alarms
        if verdict.broken:
            broken[verdict.broken[0].partition(":")[0]] += 1
            tell(verdict)
    passed = time.monotonic() - began
    print(f"{played} sessions in {passed:.0f} s, {length / max(played, 1):.1f} s each, {jobs} at a time")
    table("figures", counts)
    table("outcomes", outcomes)
    table("alarms, most of them over again", alarms)
    table(f"{sum(broken.values())} violations", broken)
    if not broken:
        print(f"0 of {played}: less than {100 * CONFIDENT / max(played, 1):.3g} % of such sessions at 95 % confidence")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.sessions")
