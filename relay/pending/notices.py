"""What the relay has to tell its owner, in words; the queue keeps it until an executor has heard it. Pure."""

from __future__ import annotations

from datetime import datetime

from common.clock import utc_text
from relay.pending.base import DeadLetter, NewSignal, Notice

MOST_CHARACTERS = 400


def missed(new: NewSignal, previous: str) -> Notice:
    """A strategy's previous position is not where its last alert left it."""
    whose = f"An alert of {new.strategy_name} for" if new.strategy_name else "An alert for"
    text = f"{whose} {new.symbol} was missed: the strategy held {new.prev}, but its previous alert reported {previous}."
    return _notice("alert-missed", new.symbol, text, new.received_at)


def id_used(new: NewSignal) -> Notice:
    """An exit came with the id of another signal; it is taken all the same."""
    text = f"The {new.action} for {new.symbol} came with an id that another signal had used ({new.dedupe_key}). It was taken as "
    text += "new, because no exit is dropped over its id; give every alert an id of its own."
    return _notice("id-used", new.symbol, text, new.received_at)


def came_again(new: NewSignal) -> Notice:
    """A duplicate came long after the first, or tells another time: its key is probably the same for every alert."""
    text = (
        f"The {new.action} for {new.symbol} was taken for a resend, since its id was used for the same signal before "
    )
    text += f"({new.dedupe_key}). If every alert has this id, all but the first are lost: give each an id of its own, or none."
    return _notice("id-used", new.symbol, text, new.received_at)


def refused(symbol: str, reason: str, body: str, is_exit: bool, now: datetime) -> Notice:
    """An alert with a valid credential was refused: its sender may be a program that nobody watches."""
    what = "AN EXIT" if is_exit else "An alert"
    then = " Check the position: it may have to be closed by hand." if is_exit else ""
    why = _short(reason, 150)
    text = f"{what} was refused by the relay: {why}{'' if why.endswith('…') else '.'}{then} It was: {_short(body, 120)}"
    return _notice("exit-refused" if is_exit else "alert-refused", symbol, text, now)


def second_executor(consumer: str, address: str, now: datetime) -> Notice:
    """Another executor polls, and is refused."""
    text = f"A second executor ({consumer}, from {address or 'an unknown address'}) is polling this relay for signals. It is "
    text += "refused: stop it, or stop this one. Both would trade the same signals."
    return _notice("second-executor", "", text, now)


def dead_letter(letter: DeadLetter) -> Notice:
    """The relay gave up on a signal."""
    text = f"The relay gave up on the {letter.action} for {letter.symbol}, received {utc_text(letter.received_at)}: "
    text += f"{letter.reason}. Bring it back with: python -m relay requeue {letter.id}"
    return _notice("dead-letter", letter.symbol, text, letter.dead_at)


def _notice(kind: str, symbol: str, text: str, at: datetime) -> Notice:
    return Notice(kind, symbol, _short(text, MOST_CHARACTERS), at)


def _short(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
