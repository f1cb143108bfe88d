"""One variant's half of a pair while it is under way, and the bound on the answers that are kept to be compared."""

from collections import defaultdict
from typing import TYPE_CHECKING

from router.core.observations import Outcome
from router.gateway.pieces import Pieces, add_piece

if TYPE_CHECKING:
    from router.core.ports import StreamReader
    from router.core.traffic import Role
    from router.gateway.heads import AnswerHead
    from router.gateway.streams import Passing, Streams

SMALL_BYTES = 4 * 2**10
"""Longest answer that the event loop itself reads. Measured: the worst two take open_inference and label 0.9 ms.

They are bounded by the number of copies in flight and take no room of `Answers`: long ones must not keep them out.
"""


class Answers:
    """The long answers that one worker holds until they have been compared.

    `drops` counts those that were not kept: `too_long` for one, or `no_room` for it beside the others.
    """

    def __init__(self, longest_bytes: int, limit_bytes: int) -> None:
        self.held_bytes = 0
        self.drops: defaultdict[str, int] = defaultdict(int)
        self._longest_bytes = longest_bytes
        self._limit_bytes = limit_bytes

    def __repr__(self) -> str:
        return f"<Answers {self.held_bytes}/{self._limit_bytes} bytes>"

    def refusal(self, length: int, more: int) -> str:
        """Return why an answer may not grow by `more` to `length` bytes, "" if it may."""
        if length > self._longest_bytes:
            return "too_long"
        return "no_room" if self.held_bytes + more > self._limit_bytes else ""


class Side:
    """One half. `body` is None once it is not kept any more, and `missing` says why; or it is read as a `stream`."""

    __slots__ = (
        "_answers", "_held_bytes", "answer", "body", "body_bytes", "done", "latency_ms", "missing", "outcome",
        "role", "status", "stream",
    )  # fmt: skip

    def __init__(self, role: "Role", answers: Answers) -> None:
        self.role = role
        self.outcome = Outcome.OVERSIZE
        self.status = 0
        self.latency_ms = 0.0
        self.body_bytes = 0
        self.body: Pieces | None = []
        self.missing = ""
        self.answer: AnswerHead | None = None
        self.stream: Passing | None = None
        self.done = False
        self._answers = answers
        self._held_bytes = 0

    def add(self, data: bytes) -> None:
        """Take a piece of the answer's body."""
        self.body_bytes += len(data)
        if self.body is None:
            if self.stream is not None:
                self.stream.take(data)
        elif self.body_bytes <= SMALL_BYTES or self._take_room():
            add_piece(self.body, data)

    def open_stream(self, streams: "Streams", reader: "StreamReader", head: "AnswerHead", sent_at: float) -> None:
        """Have the answer read while it passes, if it is one that can be; called before its first piece."""
        self.stream = streams.open(reader, head, self._answers, sent_at)
        if self.stream is not None:
            self.body = None

    def _take_room(self) -> bool:
        more = self.body_bytes - self._held_bytes
        refusal = self._answers.refusal(self.body_bytes, more)
        if refusal:
            self._answers.drops[refusal] += 1
            self.let_go(f"size: {refusal}")
            return False
        self._answers.held_bytes += more
        self._held_bytes += more
        return True

    def end(self, outcome: Outcome, latency_ms: float) -> None:
        """Close this half."""
        self.outcome = outcome
        self.latency_ms = latency_ms
        self.done = True

    def let_go(self, missing: str) -> None:
        """Keep the body no longer; safe to call again."""
        self._answers.held_bytes -= self._held_bytes
        self._held_bytes = 0
        self.body = None
        self.missing = missing
        if self.stream is not None:
            self.stream.let_go(missing)
