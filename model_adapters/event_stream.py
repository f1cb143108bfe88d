"""Server-sent events (the WHATWG's text/event-stream), cut anywhere, read in bounded memory."""

from typing import NamedTuple

EVENT_BYTES = 2**16
"""Longest event, and longest line. The worst JSON of that length takes 0.7 ms, and gateways read it on their loop."""

LINES = 2**10
"""Most data lines of one event: empty ones have no bytes, and still take memory."""


class SentEvent(NamedTuple):
    """One event: its type, empty where none is said, and its data lines joined by LF."""

    kind: bytes
    data: bytes


class EventStream:
    """Splits bytes into events; `broken` says that an event was too long, after which none come any more."""

    __slots__ = ("_after_cr", "_data", "_kind", "_line", "_size", "_started", "broken")

    def __init__(self) -> None:
        self.broken = False
        self._line = bytearray()
        self._data: list[bytes] = []
        self._kind = b""
        self._size = 0
        self._after_cr = False
        self._started = False

    @property
    def held_bytes(self) -> int:
        """How much it holds of an event that is not complete."""
        return len(self._line) + self._size

    def feed(self, data: bytes) -> list[SentEvent]:
        """Return the events that end in these bytes."""
        events: list[SentEvent] = []
        if self.broken:
            return events
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):  # the second half of a CRLF
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end]
            start = end + 1
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line.clear()
            if not self._take(line, events):
                return events
        self._line += data[start:]
        self._check(len(self._line))
        return events

    def _take(self, line: bytes, events: list[SentEvent]) -> bool:
        """Read one line; False when the event is too long."""
        if not self._started:
            self._started = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(SentEvent(self._kind, b"\n".join(self._data)))
            self._data, self._kind, self._size = [], b"", 0
            return True
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"event":
            self._kind = value
        return self._check(
            self._size + len(self._kind)
        )  # other fields, and comments, which have no name, mean nothing here

    def _check(self, size: int) -> bool:
        if size > EVENT_BYTES or len(self._data) > LINES:
            self.broken = True
            self._line.clear()
            self._data = []
        return not self.broken
