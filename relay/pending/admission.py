"""Which signals are accepted, which are duplicates: decided from what the database knows.

Pure. The engine locks and reads, fills an Admission, asks it for each signal
of the batch in turn, then stores what is `fresh`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from common.chain import Link, chains_of, chains_text, hang
from common.errors import DuplicateConflict, QueueFull
from relay.pending import notices
from relay.pending.base import KEY_WINDOW, KEYLESS_WINDOW, RESENT_FOR, Accepted, NewSignal, Notice


@dataclass(frozen=True, slots=True)
class Known:
    """A signal that the queue has, as far as duplicates are concerned."""

    id: str
    dedupe_key: str | None
    fingerprint: str
    received_at: datetime


@dataclass(slots=True)
class Admission:
    """One batch of arrivals against what is there; each arrival counts for the next."""

    depth: int
    max_depth: int
    by_id: dict[str, Known] = field(default_factory=dict)
    by_key: dict[str, Known] = field(default_factory=dict)
    newest: dict[str, Known] = field(default_factory=dict)  # symbol -> its newest signal
    positions: dict[str, str] = field(default_factory=dict)  # symbol -> what its strategies said they hold, as chains
    fresh: list[NewSignal] = field(default_factory=list)  # to be stored
    forgotten: list[str] = field(default_factory=list)  # keys to be taken from signals older than the window
    notices: list[tuple[str | None, Notice]] = field(default_factory=list)  # stored if the signal of this id is

    def know(self, known: Known) -> None:
        """Take in a signal that has the id or the key of an arrival."""
        self.by_id[known.id] = known
        if known.dedupe_key is not None:
            self.by_key[known.dedupe_key] = known

    def admit(self, new: NewSignal, now: datetime) -> Accepted:
        """Return the answer to one arrival; it is among `fresh` if it is to be stored.

        Raises:
            DuplicateConflict: Its key was used for another signal, and it is no exit.
            QueueFull: There is no room. Duplicates are answered all the same.
        """
        chains = chains_of(self.positions.get(new.symbol))
        name = new.strategy_name or ""
        chain = chains.pop(name, None)
        previous = chain.position if chain else None
        id_used = is_exit(new) and self._conflicts(new, now)
        plain = replace(new, dedupe_key=None) if id_used else new
        known = self._repeated(plain, now)
        if known is not None:
            if self._is_another(new, known, now):
                self.notices.append((None, notices.came_again(new)))
            return Accepted(known, duplicate=known != new.id, previous=previous)
        self._require_room(new)
        link = Link.FOLLOWS
        if new.position is not None:
            chains[name], link = hang(chain, new.position, new.prev, now, new.sent_at)  # now the last of them
            plain = replace(plain, position=chains_text(chains))
        self._take(plain)
        is_missed = link is Link.MISSED
        if is_missed and previous is not None:
            self.notices.append((new.id, notices.missed(new, previous)))
        if id_used:
            self.notices.append((new.id, notices.id_used(new)))
        return Accepted(new.id, duplicate=False, previous=previous, missed=is_missed, id_used=id_used)

    def _is_another(self, new: NewSignal, known: str, now: datetime) -> bool:
        """True if no sender would be resending the first: a duplicate comes too late, or tells another time."""
        first = self.by_key.get(new.dedupe_key) if new.dedupe_key is not None and known != new.id else None
        tells_another = first is not None and first.id == known and first.fingerprint != new.fingerprint
        return tells_another or (first is not None and now - first.received_at > RESENT_FOR)

    def _conflicts(self, new: NewSignal, now: datetime) -> bool:
        """True if its key is known with another signal."""
        try:
            self._repeated(new, now)
        except DuplicateConflict:
            return True
        return False

    def _repeated(self, new: NewSignal, now: datetime) -> str | None:
        if new.id in self.by_id:
            return new.id  # our own second try: the first was stored, its answer got lost
        if new.dedupe_key is not None:
            return _same_key(new, now, self.by_key.get(new.dedupe_key))
        return _same_signal(new, now, self.newest.get(new.symbol))

    def _require_room(self, new: NewSignal) -> None:
        depth = self.depth + len(self.fresh)
        if depth >= (room_for_exits(self.max_depth) if is_exit(new) else self.max_depth):
            raise QueueFull(
                f"{depth} signals wait, the limit is {self.max_depth}: start the executor, "
                "or purge what is no longer wanted"
            )

    def _take(self, new: NewSignal) -> None:
        if new.dedupe_key is not None and new.dedupe_key in self.by_key:
            self.forgotten.append(new.dedupe_key)
        self.fresh.append(new)
        known = Known(new.id, new.dedupe_key, new.fingerprint, new.received_at)
        self.know(known)
        self.newest[new.symbol] = known
        if new.position is not None:
            self.positions[new.symbol] = new.position


def is_exit(new: NewSignal) -> bool:
    """True if it can only take out what is there: neither a full queue nor a used key may lose it."""
    return new.action != "open"


def room_for_exits(max_depth: int) -> int:
    """Return how deep the queue may get with exits alone, beyond what entries may fill.

    >>> room_for_exits(100_000)
    110000
    """
    return max_depth + max_depth // 10


def _same_key(new: NewSignal, now: datetime, known: Known | None) -> str | None:
    if known is None or now - known.received_at >= KEY_WINDOW:
        return None
    alike = known.fingerprint == new.fingerprint
    if alike or (not is_exit(new) and _without_time(known.fingerprint) == _without_time(new.fingerprint)):
        return known.id
    raise DuplicateConflict(
        f"the id {new.dedupe_key!r} came before with another signal (ours: {known.id}); give every new signal a new id"
    )


def _without_time(fingerprint: str) -> str:
    return fingerprint.partition(":")[0]


def _same_signal(new: NewSignal, now: datetime, newest: Known | None) -> str | None:
    """Compare with the newest. Time counts both ways: a clock that was set back makes no second signal."""
    if newest is None or newest.fingerprint != new.fingerprint:
        return None
    return newest.id if abs(now - newest.received_at) < KEYLESS_WINDOW else None
