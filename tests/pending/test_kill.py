"""The relay's process is killed under load: nothing answered is lost, nothing acked is delivered again."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay.pending import open_pending
from tests.pending.examples import acks, at, ids, take

ROOT = Path(__file__).parents[2]


@dataclass
class Heard:
    """What the killed processes had said."""

    put: set[str] = field(default_factory=set)
    got: Counter[str] = field(default_factory=Counter)
    ack: list[str] = field(default_factory=list)  # in order

    def take_in(self, output: bytes, acked_before: set[str]) -> None:
        for line in output.decode().splitlines():
            word, id = line.split()
            if word == "put":
                self.put.add(id)
            elif word == "ack":
                self.ack.append(id)
            else:
                assert id not in acked_before, f"{id} was delivered again after its ack"
                self.got[id] += 1


def run_and_kill(url: str, run: int, seconds: float) -> bytes:
    """Return what the process said before it was killed."""
    command = [sys.executable, "-m", "tests.pending.load", url, str(run)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        timer = time.monotonic() + seconds
        rest = b""
        while time.monotonic() < timer:
            rest += process.stdout.read1()
        process.kill()
        return first + rest + process.stdout.read()


def torture(url: str, kills: int) -> None:
    dice, heard = random.Random(7), Heard()
    for run in range(kills):
        output = run_and_kill(url, run, dice.uniform(0.05, 0.3))
        heard.take_in(output, set(heard.ack))
    check_what_is_left(url, heard)


def check_what_is_left(url: str, heard: Heard) -> None:
    queue = open_pending(url)
    left: list[str] = []
    while leased := take(queue, at(301), limit=200, seconds=300):
        left += ids(leased)
        queue.ack(acks(leased), at(302))
    queue.close()
    assert heard.put and heard.ack
    assert not set(left) & set(heard.ack), "delivered again after the ack"
    assert heard.put <= set(left) | set(heard.got), "answered and lost"
    assert len(left) == len(set(left))
    assert_in_order_of_acceptance(left)


def assert_in_order_of_acceptance(left: list[str]) -> None:
    lines: dict[tuple[int, int], list[int]] = {}
    for name in left:
        run, sender, count = map(int, name.split("-"))
        lines.setdefault((run, sender), []).append(count)
    assert all(line == sorted(line) for line in lines.values())


def test_three_kills_under_load_lose_and_double_nothing(queue_url: str) -> None:
    torture(queue_url, 3)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_25_kills_under_load_lose_and_double_nothing(queue_url: str) -> None:
    torture(queue_url, 25)
