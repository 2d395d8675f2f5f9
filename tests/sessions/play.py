"""One session from its first step to its verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.sessions.oracle import Records
from tests.sessions.stage import SETTLED_SECONDS, Broken, Stage
from tests.sessions.story import Step, Story, is_calm, is_patient

TELLING = (
    "sent again",
    "resized",
    "stop put back",
    "close sent",
    "block set",
)  # kinds of events that show what was met


@dataclass
class Verdict:
    """The result of one session. `folder` is kept if a law was broken."""

    seed: int
    broken: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    steps: list[str] = field(default_factory=list)
    seconds: float = 0.0
    folder: str = ""


def play_seed(seed: int) -> Verdict:
    """Play the session of a seed."""
    return play(Story(seed).steps(), seed, patient=is_patient(seed))


def play(
    steps: Iterable[Step],
    seed: int = 0,
    sabotage: str = "none",
    *,
    patient: bool = False,
    seconds: float = SETTLED_SECONDS,
) -> Verdict:
    """Play these steps in a folder of their own, settle, and judge; `seconds`: how long settling may take."""
    verdict, began = Verdict(seed), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"session-{seed}-"))
    stage = Stage(folder, sabotage, patient=patient)
    try:
        for name, given in steps:
            verdict.steps.append(f"{time.monotonic() - began:6.2f} {name} {given}")
            if name == "settle":
                _count(verdict, stage.settle(seconds))
            else:
                getattr(stage, name)(**given)
        _count(verdict, stage.settle(seconds))
    except Broken as found:
        verdict.broken = str(found).splitlines()
    finally:
        stage.end()
    verdict.seconds = time.monotonic() - began
    verdict.counts["sessions without trouble"] += is_calm(seed)
    if verdict.broken:
        verdict.folder = str(folder)
        (folder / "executor.log").write_text("\n".join(stage.lines), "utf-8")
        (folder / "steps.txt").write_text("\n".join([*verdict.steps, *verdict.broken]), "utf-8")
    else:
        shutil.rmtree(folder)
    return verdict


def _count(verdict: Verdict, records: Records) -> None:
    """Keep the figures of the newest settled moment."""
    events = Counter(str(entry["event"]) for entry in records.truth)
    kills = Counter(f"kills of the {step.split()[2:][1][1:-2]}" for step in verdict.steps if " kill " in step)
    verdict.counts = kills + Counter(
        signals=len(records.posts), accepted=events["accepted"], filled=events["filled"], cuts=events["disconnected"]
    )
    told = Counter(str(row["kind"]) for row in records.events)
    verdict.counts += Counter({f"times {kind}": told[kind] for kind in TELLING})
    verdict.outcomes = Counter(str(row["outcome"]) for row in records.inbox)
    verdict.alarms = Counter(f"{row['kind']} ({row['level']})" for row in records.alarms)
