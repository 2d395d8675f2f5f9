"""Power cut: what was answered is on the disk, whatever instant the power goes."""

from __future__ import annotations

import random
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from relay.pending.sqlite import SqlitePending
from tests.pending.examples import START, acks, put, signal, take
from tests.pending.power import Steps, new_disk, open_on

SENDERS = 6


@dataclass
class Cut:
    """What was on the disk, and what had been answered, at one instant."""

    image: dict[str, bytes]
    accepted: set[str]
    acked: set[str]


class Load:
    """Senders and an executor on one disk, until the power was cut so many times."""

    def __init__(self, folder: Path, seed: int, count: int, *pragmas: str) -> None:
        self.dice, self.count = random.Random(seed), count
        self.cuts: list[Cut] = []
        self.accepted, self.acked, self.enough = set[str](), set[str](), threading.Event()
        self.disk = new_disk(Steps(self.dice, 25, self.cut))
        self.queue = SqlitePending(str(folder / "pending.db"), opener=open_on(self.disk, *pragmas))

    def cut(self) -> None:
        if len(self.cuts) >= self.count:
            self.enough.set()
            return
        accepted, acked = set(self.accepted), set(self.acked)  # before the image is taken
        self.cuts.append(Cut(self.disk.image(self.dice), accepted, acked))

    def send(self, symbol: str) -> None:
        while not self.enough.is_set():
            self.accepted.add(put(self.queue, signal(symbol), START).id)

    def execute(self) -> None:
        while not self.enough.is_set():
            self.acked.update(self.queue.ack(acks(take(self.queue)), START).acked)

    def run(self) -> list[Cut]:
        threads = [threading.Thread(target=self.send, args=(f"S{number}",)) for number in range(SENDERS)]
        threads.append(threading.Thread(target=self.execute))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.queue.close()
        return self.cuts


def lost(cut: Cut, folder: Path) -> set[str]:
    """Return what was answered and is not there when the power is back."""
    folder.mkdir()
    for name, content in cut.image.items():
        (folder / name).write_bytes(content)
    database = sqlite3.connect(folder / "pending.db")
    try:
        states = dict(database.execute("SELECT id, state FROM signals").fetchall())
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        return cut.accepted
    finally:
        database.close()
    return {id for id in cut.accepted if id not in states} | {id for id in cut.acked if states.get(id) != "acked"}


def losses(folder: Path, cuts: list[Cut]) -> list[int]:
    return [len(lost(cut, folder / f"after-{number}")) for number, cut in enumerate(cuts)]


def test_nothing_answered_is_lost_in_200_cuts(tmp_path: Path) -> None:
    cuts: list[Cut] = []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        cuts += Load(tmp_path / str(seed), seed, 50).run()
    assert len(cuts) == 200
    assert sum(len(cut.accepted) for cut in cuts) > 200
    assert any(cut.acked for cut in cuts)
    assert losses(tmp_path, cuts) == [0] * 200


def test_the_same_proof_catches_a_database_that_does_not_sync(tmp_path: Path) -> None:
    cuts = Load(tmp_path, 1, 20, "PRAGMA synchronous = OFF").run()
    assert sum(count > 0 for count in losses(tmp_path, cuts)) > 5


def test_the_same_proof_catches_normal_instead_of_full(tmp_path: Path) -> None:
    cuts = Load(tmp_path, 2, 20, "PRAGMA synchronous = NORMAL").run()
    assert sum(count > 0 for count in losses(tmp_path, cuts)) > 5
