"""Answers that are streamed, read while they pass: what they say, and when their first token came.

The request path only puts the bytes of a stream aside, with the time at which they came. The recorder reads them in
short slices, within its budget for a turn of the loop, and lets go of them: of a stream of any length is held what was
not read yet and what its reader keeps, all within the room of `Answers`.
"""

from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING

from router.core.errors import UnreadableError
from router.gateway.comparing import Heard, RawLines

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.core.ports import AnswerStream, StreamReader
    from router.gateway.heads import AnswerHead
    from router.gateway.side import Answers

SLICE_BYTES = 2 * 2**10
"""How much is read at a time. Measured: the worst, one event in every 9 bytes, takes the openai adapter 0.6 ms."""

PIECE_OVERHEAD_BYTES = 128
"""What a piece that waits holds besides its bytes: two objects, a pair and a place."""


class Passing:
    """One answer that is streamed. `first_token_ms` is counted from when the request was handed over.

    `missing` says why it is not read any more, "" while it is.
    """

    __slots__ = (
        "_answers", "_at", "_digest", "_held_bytes", "_pieces", "_sent_at", "_stream", "_streams", "_unread_bytes",
        "body_bytes", "first_token_ms", "missing", "queued",
    )  # fmt: skip

    def __init__(self, streams: "Streams", stream: "AnswerStream", answers: "Answers", sent_at: float) -> None:
        self.body_bytes = 0
        self.first_token_ms: float | None = None
        self.missing = ""
        self.queued = False
        self._streams = streams
        self._stream: AnswerStream | None = stream
        self._answers = answers
        self._sent_at = sent_at
        self._digest = blake2b(digest_size=16)
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._at = 0  # how far the first one was read
        self._unread_bytes = 0
        self._held_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """How much there is to compare."""
        return self._stream.held_bytes if self._stream is not None else 0

    def take(self, data: bytes) -> None:
        """Put a piece aside to be read."""
        if self._stream is None:
            return
        more = len(data) + PIECE_OVERHEAD_BYTES
        if not self._hold(self._held_bytes + more):
            return
        self._unread_bytes += more
        self._pieces.append((self._streams.now(), data))
        if not self.queued:
            self.queued = True
            self._streams.unread.append(self)

    def read_slice(self) -> bool:
        """Read a little of what was put aside; return whether there is more."""
        if self._stream is None or not self._pieces:
            return False
        came_at, data = self._pieces[0]
        part = data[self._at : self._at + SLICE_BYTES]
        self._at += len(part)
        if self._at == len(data):
            self._pieces.popleft()
            self._at = 0
            self._unread_bytes -= len(data) + PIECE_OVERHEAD_BYTES
        self._read(self._stream, part, came_at)
        return bool(self._pieces)

    def _read(self, stream: "AnswerStream", part: bytes, came_at: float) -> None:
        self._digest.update(part)
        self.body_bytes += len(part)
        try:
            events = stream.feed(part)
            held = stream.held_bytes
        except Exception as error:  # noqa: BLE001 - a plug-in's mistake costs this reading, not the worker's clock
            self.let_go(f"adapter failed: {type(error).__name__}")
            return
        if self.first_token_ms is None and any(event.text for event in events):
            self.first_token_ms = (came_at - self._sent_at) * 1000
        self._hold(self._unread_bytes + held)

    def _hold(self, size: int) -> bool:
        """Hold so much from now on; without room for it the stream is read no more."""
        more = size - self._held_bytes
        refusal = self._answers.refusal(size, more) if more > 0 else ""
        if refusal:
            self._answers.drops[refusal] += 1
            self.let_go(f"size: {refusal}")
            return False
        self._answers.held_bytes += more
        self._held_bytes = size
        return True

    def heard(self) -> Heard | None:
        """Return what the whole stream says, None if it is `missing`; called once, when it was read to its end."""
        if self._stream is None:
            return None
        digest = self._digest.hexdigest()
        try:
            prediction = self._stream.end()
        except UnreadableError as error:
            return Heard(digest, self.body_bytes, None, str(error))
        except Exception as error:  # noqa: BLE001 - as in `_read`
            return Heard(digest, self.body_bytes, None, f"adapter failed: {type(error).__name__}")
        return Heard(digest, self.body_bytes, prediction)

    def let_go(self, missing: str) -> None:
        """Read on no more and hold nothing; safe to call again."""
        self._answers.held_bytes -= self._held_bytes
        self._held_bytes = self._unread_bytes = 0
        self._pieces.clear()
        self._stream = None
        self.missing = self.missing or missing


class Streams:
    """All streams of one worker that have bytes to be read, in the order in which these came."""

    def __init__(self, now: "Callable[[], float]") -> None:
        self.now = now
        self.unread: deque[Passing] = deque()

    def __repr__(self) -> str:
        return f"<Streams {len(self.unread)} unread>"

    def open(self, reader: "StreamReader", head: "AnswerHead", answers: "Answers", sent_at: float) -> Passing | None:
        """Return what reads the answer with this head while it passes, None where it is not a good stream."""
        if not 200 <= head.status < 300:
            return None
        try:
            stream = reader.open_stream(RawLines(head.status, head.fields))
        except Exception:  # noqa: BLE001 - a plug-in's mistake: the answer is read at its end, or not at all
            return None
        return None if stream is None else Passing(self, stream, answers, sent_at)

    def read(self, until: float) -> bool:
        """Read until then, a slice of each stream by turns; return whether there is more."""
        while self.unread:
            stream = self.unread.popleft()
            if stream.read_slice():
                self.unread.append(stream)
            else:
                stream.queued = False
            if self.now() > until:
                break
        return bool(self.unread)
