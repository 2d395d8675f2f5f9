"""A relay's worth of load on a queue, in a process of its own that may be killed at any instant.

    python -m tests.pending.load URL

Prints one line per answer, after the answer: `put ID`, `got ID`, `ack ID`.
"""

from __future__ import annotations

import os
import sys
import threading

from relay.pending import open_pending
from relay.pending.base import Pending, Wish
from tests.pending.examples import START, acks, put, signal

SENDERS = 4


def say(word: str, ids: list[str]) -> None:
    """Write whole lines in one system call, so that a kill cannot tear them."""
    if ids:
        os.write(1, "".join(f"{word} {id}\n" for id in ids).encode())


def send(queue: Pending, run: str, number: int) -> None:
    count = 0
    while True:
        count += 1
        name = f"{run}-{number}-{count}"
        say("put", [put(queue, signal(f"S{number}", id=name), START).id])


def execute(queue: Pending) -> None:
    while True:
        leased = queue.take(Wish(5, 300, lambda: START, 0.1, lambda: True))
        say("got", [one.id for one in leased])
        say("ack", queue.ack(acks(leased), START).acked)


def main(url: str, run: str) -> None:
    queue = open_pending(url)
    threads = [threading.Thread(target=send, args=(queue, run, number)) for number in range(SENDERS)]
    threads.append(threading.Thread(target=execute, args=(queue,)))
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
