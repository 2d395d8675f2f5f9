"""How much of a request has arrived: pure, fed with bytes as they come, never looking at one twice."""

from __future__ import annotations

import re

from relay.bodies import MAX_BODY_BYTES

HEAD_BYTES = 32 * 1024
CHUNKED_BYTES = 2 * MAX_BODY_BYTES  # a body and the words around its chunks
MOST_CHUNKS = 256  # each costs time: a body in single bytes would keep everybody waiting
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]{0,256})?\r\n")


class Arrival:
    """The bytes of one request as they come in.

    It is whole when nothing more is needed to answer it; that may be a refusal: whatever is out of form or
    too long counts as whole, and the parser behind says why.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self._start: int | None = None  # of the body
        self._wanted: int | None = None  # bytes of body by Content-Length; None: chunks
        self._at = 0  # how far the head was searched, then where the next chunk begins
        self._decoded = 0
        self._asked = False  # whether an expectation was looked for
        self._chunks, self._chunks_ended = 0, False

    @property
    def has_end(self) -> bool:
        """Tell whether all of the request is here. If not, it is refused, and what follows is still its body:
        read as the next request, a stranger's body would be answered as if somebody had asked for it.
        """
        if self._start is None:
            return False
        if self._wanted is None:
            return self._chunks_ended
        return len(self.received) - self._start >= self._wanted

    @property
    def head_too_large(self) -> bool:
        return (len(self.received) if self._start is None else self._start) > HEAD_BYTES

    @property
    def too_many_chunks(self) -> bool:
        return self._chunks >= MOST_CHUNKS

    def add(self, data: bytes) -> bool:
        """Take more bytes; return whether the request is whole.

        >>> request = Arrival()
        >>> request.add(b"POST / HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{"), request.add(b"}")
        (False, True)
        """
        self.received += data
        if self._start is None and not self._find_body():
            return self.head_too_large or b"\n\n" in self.received
        assert self._start is not None  # noqa: S101 for the type checker
        if self._wanted is None:
            return self._chunks_end()
        return self._wanted > MAX_BODY_BYTES or len(self.received) - self._start >= self._wanted

    def take_expectation(self) -> bool:
        """Tell, once, whether the client waits for a "100 Continue" before it sends the body."""
        if self._start is None or self._asked:
            return False
        self._asked = True
        found = _EXPECT.search(self.received, 0, self._start)
        if not found:
            return False
        del self.received[found.start() : found.end()]
        cut = found.end() - found.start()
        self._start, self._at = self._start - cut, self._at - cut
        return True

    def _find_body(self) -> bool:
        end = self.received.find(b"\r\n\r\n", max(0, self._at - 3))
        self._at = len(self.received)
        if end < 0:
            return False
        self._start = self._at = end + 4
        head = bytes(self.received[: end + 2])
        lengths, codings = _LENGTH.findall(head), _CODED.findall(head)
        if len(lengths) == 1 and not codings and lengths[0].strip().isdigit():
            self._wanted = int(lengths[0][:18])
        elif lengths or [each.strip().lower() for each in codings] != [b"chunked"]:
            self._wanted = 0  # no body, or one whose end the parser will not guess
        return True

    def _chunks_end(self) -> bool:
        while match := _CHUNK.match(self.received, self._at):
            size = int(match[1], 16)
            if size == 0:
                self._chunks_ended = self.received.find(b"\r\n\r\n", match.end() - 2) >= 0
                return self._chunks_ended or self._too_long()
            here = min(size, len(self.received) - match.end())
            if self.too_many_chunks or self._decoded + here > MAX_BODY_BYTES:
                return True
            if here < size:
                return self._too_long()
            self._chunks += 1
            self._decoded += size
            self._at = match.end() + size + 2
        return self.received.find(b"\n", self._at) >= 0 or self._too_long()

    def _too_long(self) -> bool:
        return len(self.received) > HEAD_BYTES + CHUNKED_BYTES
