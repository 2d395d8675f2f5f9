"""Logs: one line an event, with an ISO instant in UTC, a level, and fields; never a secret.

`get_logger(__name__).info("signal_accepted", id=..., symbol=...)`. Events are named in the past tense.
It is the standard library's logging underneath, so that every library's lines come out in the same form;
structlog would cost a quarter of a second at each start (it imports the terminal library).
"""

from __future__ import annotations

import atexit
import contextlib
import json as json_text
import logging
import re
import sys
import threading
import traceback
from collections import Counter, deque
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, TextIO

from common.clock import SystemClock, utc_text

HIDDEN = "[secret]"
MOST_LINES, WINDOW_SECONDS = 3000, 60.0  # of one kind in a minute
LONGEST_VALUE = 2000  # characters of one field
_SHORTEST_SECRET = 6
_clock = SystemClock()
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None


def never_log(*secrets: str) -> None:
    """Make sure that these values are replaced wherever they would appear in a log line, escaped or not."""
    global _pattern
    long_enough = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    for written in (str, lambda secret: repr(secret)[1:-1], lambda secret: json_text.dumps(secret)[1:-1]):
        _secrets.update(map(written, long_enough))
    longest_first = sorted(_secrets, key=len, reverse=True)
    _pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def scrub(text: str) -> str:
    """Return text without the secrets that `never_log` knows."""
    return _pattern.sub(HIDDEN, text) if _pattern else text


class Logger:
    """Writes events with fields; `bind` returns a logger that adds fields to each of its lines."""

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: logging.Logger, fields: dict[str, Any]) -> None:
        self._logger, self._fields = logger, fields

    def bind(self, **fields: Any) -> Logger:
        return Logger(self._logger, {**self._fields, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Write an error with the exception at hand and where it came from, all in one line."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(self, level: int, event: str, fields: dict[str, Any], exc_info: bool = False) -> None:
        logger = self._logger
        if logger.isEnabledFor(level):
            error = sys.exc_info() if exc_info else None
            logger.handle(_Line(logger.name, level, event, {**self._fields, **fields}, error))


# What the library notes in every record and nobody sees here: finding it out costs more than all the rest.
_UNSEEN: dict[str, Any] = dict.fromkeys(
    ("args", "stack_info", "exc_text", "thread", "threadName", "process", "processName", "taskName")
)
_UNSEEN |= {"pathname": "", "filename": "", "module": "", "funcName": "", "lineno": 0, "relativeCreated": 0.0}


class _Line(logging.LogRecord):
    """A record of ours, without calling line, process and thread."""

    def __init__(self, name: str, level: int, event: str, fields: dict[str, Any], error: Any) -> None:
        self.__dict__ |= _UNSEEN
        self.name, self.msg, self.levelno, self.levelname = name, event, level, logging.getLevelName(level)
        self.fields, self.exc_info = fields, error
        self.created = _clock.now().timestamp()
        self.msecs = self.created % 1 * 1000


def get_logger(name: str) -> Logger:
    """Return the logger of a module."""
    return Logger(logging.getLogger(name), {})


def configure(program: str, json: bool | None = None, level: str = "INFO") -> None:
    """Send all logs to the console (stderr), as readable lines, or as JSON objects.

    Readable is the default; `json` True is for machines that collect logs.
    """
    handler = Console(sys.stderr)
    handler.setFormatter(JsonLines(program) if json else ReadableLines(program))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)


class BackgroundStream:
    """A stream whose lines a thread writes, many at once, within 20 ms.

    With many threads at work each write of its own makes all of them wait for each other: it halves what a
    server can take. A killed process loses the last lines; one that ends writes them.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=100_000)
        self._some = threading.Event()
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()
        atexit.register(self.drain)

    def write(self, text: str) -> None:
        self._lines.append(text)
        if not self._some.is_set():
            self._some.set()

    def flush(self) -> None:
        """Do nothing: the thread flushes."""

    def drain(self) -> None:
        """Write what there is, now."""
        taken = []
        with contextlib.suppress(IndexError):  # until there are no more
            while True:
                taken.append(self._lines.popleft())
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more
            self._stream.write("".join(taken))
            self._stream.flush()

    def _run(self) -> None:
        while self._some.wait():
            threading.Event().wait(0.02)
            self._some.clear()
            self.drain()


def write_in_background() -> None:
    """Let a thread of this process write the console from now on; call it after any fork."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler.stream, BackgroundStream):
            handler.setStream(BackgroundStream(handler.stream))


class Console(logging.StreamHandler[TextIO]):
    """Writes at most so many lines of one kind a minute, and reports how many it left out.

    A kind is an event of ours, or all lines of another library's logger. Whatever an outsider can make us log,
    or a fault makes us log again and again, fills no disk; rare lines are never left out.
    """

    def __init__(self, stream: TextIO | BackgroundStream, most: int = MOST_LINES) -> None:
        super().__init__(stream)  # type: ignore[arg-type]  # it has the two methods that are used
        self._most = most
        self._start = float("-inf")
        self._counts: Counter[tuple[str, str]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        now = _clock.monotonic()
        if now - self._start >= WINDOW_SECONDS:
            self._report()
            self._start = now
            self._counts.clear()
        kind = record.name, str(record.msg) if isinstance(record, _Line) else ""
        self._counts[kind] += 1
        if self._counts[kind] <= self._most:
            super().emit(record)

    def _report(self) -> None:
        for (name, event), count in self._counts.items():
            if count > self._most:
                fields = {"event": event or name, "count": count - self._most}
                super().emit(_Line(__name__, logging.WARNING, "lines_left_out", fields, None))


class ReadableLines(logging.Formatter):
    """`2026-11-23T09:15:00.123456Z INFO relay signal_accepted id=… symbol=EURUSD`."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        parts = [f"{name}={_readable(value)}" for name, value in _fields(record).items() if value is not None]
        event = _short(scrub(_one_line(record.getMessage())))
        return scrub(" ".join([_instant(record), f"{record.levelname:7}", self._program, event, *parts]))


class JsonLines(ReadableLines):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"at": _instant(record), "level": record.levelname.lower(), "program": self._program}
        fields = {name: _plain(value) for name, value in _fields(record).items()}
        line |= {"event": _short(scrub(record.getMessage())), "logger": record.name, **fields}
        return json_text.dumps(line, ensure_ascii=False)


def _instant(record: logging.LogRecord) -> str:
    return utc_text(datetime.fromtimestamp(record.created, UTC))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1] is not None:
        return fields | _where(record.exc_info[1])
    return fields


def _plain(value: object) -> object:
    """Return a number, truth or nothing as it is, and all else as text without secrets."""
    return value if value is None or isinstance(value, bool | int | float) else _short(scrub(str(value)))


def _where(error: BaseException) -> dict[str, str]:
    """Return what was raised and by which lines of code, innermost first, on one line."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)]
    return {"error": f"{type(error).__name__}: {error}", "where": " < ".join(places)}


def _readable(value: object) -> str:
    text = str(value)
    if len(text) <= LONGEST_VALUE and (text.isalnum() or _PLAIN.fullmatch(text)):
        return text
    return json_text.dumps(_short(scrub(text)), ensure_ascii=not text.isprintable())


def _short(text: str) -> str:
    """Return a text that is cut where it is too long; without secrets before, since of half of one nothing would be found."""
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
