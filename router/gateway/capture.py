"""Payloads of pairs: of a request and its two answers, what the operator asked to keep, as JSON.

Runs in the recorder, before anything goes into the queue for the store. Whatever cannot be read as JSON, and whatever
is too long to be read here, is not kept at all: nothing is kept that no path was applied to.
"""

from typing import TYPE_CHECKING

import orjson

from router.core.observations import Payload
from router.core.payloads import TooMuchWorkError

if TYPE_CHECKING:
    from router.core.payloads import Selection
    from router.gateway.side import Side

PAYLOAD_BYTES = 16 * 2**10
"""Longest body that is read, and longest text that is kept of one. Chosen: predictions on tables fit.

Measured, a pair of 110-byte bodies costs 16 to 80 us, of 12 KiB 0.1 to 0.3 ms, and the worst of 16 KiB 2 ms, one turn
of the recorder.
"""


class Capture:
    """Reads payloads by one Selection. `skipped` counts bodies of which nothing is kept, by reason.

    `size`: longer than PAYLOAD_BYTES, or with too many values; `not_json`: anything but a JSON object or list. A body
    in which no path leads anywhere is not counted: nothing was asked for.
    """

    def __init__(self, selection: "Selection") -> None:
        self.wanted = bool(selection.keep)
        self.skipped = {"size": 0, "not_json": 0}
        self._selection = selection

    def __repr__(self) -> str:
        return f"<Capture wanted={self.wanted} skipped={self.skipped}>"

    def takes(self, body_bytes: int) -> bool:
        """Whether a request's body of that length is to be held until the pair is read."""
        return self.wanted and body_bytes <= PAYLOAD_BYTES

    def of(self, request: bytes | None, stable: "Side", candidate: "Side") -> Payload | None:
        """Return what is kept of a request (None: it was too long) and its answers; None if that is nothing."""
        if not self.wanted:
            return None
        texts = (self._text(request), self._answer(stable), self._answer(candidate))
        return Payload(*texts) if any(texts) else None

    def _answer(self, side: "Side") -> str | None:
        if not side.outcome.is_answer:
            return None
        if side.stream is not None:
            self.skipped["not_json"] += 1
            return None
        return self._text(None if side.body is None else b"".join(side.body))

    def _text(self, body: bytes | None) -> str | None:
        if body is None or len(body) > PAYLOAD_BYTES:
            self.skipped["size"] += 1
            return None
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            self.skipped["not_json"] += 1
            return None
        if not isinstance(value, (dict, list)):
            self.skipped["not_json"] += 1
            return None
        try:
            kept = self._selection.of(value)
            text = "" if kept is None else orjson.dumps(kept).decode()
        except (TooMuchWorkError, orjson.JSONEncodeError):  # the second: nested too deeply to be written
            text = None
        # Numbers may get longer by being written anew.
        if text is None or len(text.encode()) > PAYLOAD_BYTES:
            self.skipped["size"] += 1
            return None
        return text or None
