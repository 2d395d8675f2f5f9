"""Every error this project raises, and who acts on it.

    BridgeError                  base; never raised itself
    |- ConfigError               the operator: every problem at once; the program ends with exit code 2
    |- SignalError               the sender: carries the HTTP status, a stable code and a title
    |  |- MalformedSignal        400 malformed: every problem with its field
    |  |- UnauthenticSignal      401 unauthorized: no or wrong credential, whatever was wrong with it
    |  |  `- StaleSignal         401 unauthorized: the signature is right, its timestamp too far off
    |  |- DuplicateConflict      409 duplicate-conflict: the same id was used for another signal
    |  |- SignalTooLarge         413 too-large
    |  |- TooManyFailures        429 too-many-failures
    |  `- SignalRefused          other refusals of the relay (see relay/problems.py)
    |- QueueError
    |  |- QueueUnavailable       nothing was stored: the sender is answered 503 and sends again
    |  |- QueueFull              nothing was stored: the sender is answered 503 and sends again
    |  |- AnotherConsumer        a second executor is refused while the first one polls; its owner ends one of them
    |  `- LeaseLost              the executor drops the result and reconciles; it does not ack
    |- BrokerError
    |  |- BrokerUnavailable      nothing was sent: the signal waits in the inbox, try at the next turn
    |  |- OrderRefused           TWS said no: journal it, the signal is finished
    |  `- OutcomeUnknown         sent, no answer: journal it, hold this symbol; NEVER send again blindly
    |- JournalError              without a journal there is no trading: stop entries
    |  `- JournalMisuse          a bug of ours: stop, and report it; waiting fixes nothing
    `- IllegalTransition         a bug of ours: hold this symbol, keep the evidence

An alert that repeats another is no error (it is answered as a duplicate), nor is a signal that the rules
skip (a decision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: where (a field's or setting's name, or "" for the whole), and how to fix it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class BridgeError(Exception):
    """Base of all errors of this project; `code` is stable, the text is for people."""

    code: ClassVar[str] = "error"

    @property
    def message(self) -> str:
        return str(self)


class ConfigError(BridgeError):
    """The configuration is wrong. The operator fixes all of `problems`; the program ends with 2."""

    code = "config"

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class SignalError(BridgeError):
    """An alert was refused. The sender is answered with `status`, `code` and `title`."""

    code = "refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The alert was refused"


class MalformedSignal(SignalError):
    """The body is not a signal. The sender fixes all of `problems`."""

    code = "malformed"
    title = "The body is not a valid signal"

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(map(str, self.problems)))


class UnauthenticSignal(SignalError):
    """No credential, or a wrong one. The answer is the same whatever was wrong."""

    code = "unauthorized"
    status = 401
    title = "No valid credential"


class StaleSignal(UnauthenticSignal):
    """The signature is right but its timestamp too far from now: a replay, or a wrong clock."""


class DuplicateConflict(SignalError):
    """The same id came before with another signal. The sender uses a new id for a new signal."""

    code = "duplicate-conflict"
    status = 409
    title = "This id was used for another signal"


class SignalTooLarge(SignalError):
    """The body is longer than the relay reads."""

    code = "too-large"
    status = 413
    title = "The body is too large"


class QueueError(BridgeError):
    """The pending queue could not do what was asked."""

    code = "queue"


class QueueUnavailable(QueueError):
    """The queue cannot be reached or does not answer in time. Nothing was stored; retry."""

    code = "queue-unavailable"


class QueueFull(QueueError):
    """As many signals wait as may wait. Nothing was stored; start the executor, or purge."""

    code = "queue-full"


class AnotherConsumer(QueueError):
    """Another executor fetches from this queue. It may take over `retry_after` seconds after that one's last poll."""

    code = "another-consumer"

    def __init__(self, message: str, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class LeaseLost(QueueError):
    """The lease ended before the ack. The executor drops the result and reconciles."""

    code = "lease-lost"


class BrokerError(BridgeError):
    """Something between us and TWS went wrong."""

    code = "broker"


class BrokerUnavailable(BrokerError):
    """TWS is away; nothing was sent. Try again at the next turn."""

    code = "broker-unavailable"


class OrderRefused(BrokerError):
    """TWS refused the order. Journal it; the signal is finished."""

    code = "order-refused"

    def __init__(self, message: str, broker_code: int | None = None) -> None:
        self.broker_code = broker_code
        super().__init__(message)


class OutcomeUnknown(BrokerError):
    """The order was sent and its fate is unknown. Hold the symbol and look for evidence."""

    code = "outcome-unknown"


class JournalError(BridgeError):
    """The journal cannot be written or read. Stop entries: without a journal there is no trading."""

    code = "journal"


class JournalMisuse(JournalError):
    """The journal was asked for what its rules forbid: a bug of ours. Nothing was written; stop, and report it."""

    code = "journal-misuse"


class IllegalTransition(BridgeError):
    """An event that the table does not allow in this state. Hold the symbol and keep the evidence."""

    code = "illegal-transition"

    def __init__(self, message: str, trade_id: int | None = None) -> None:
        self.trade_id = trade_id  # whose, where one trade alone is concerned
        super().__init__(message)
