"""Pairs that wait for others to be written with: rows of this turn, and what earlier turns have encoded."""

from typing import TYPE_CHECKING

from router.store.pair_codec import encode_rows, join_rows

if TYPE_CHECKING:
    from router.core.observations import Payload
    from router.store.pair_codec import Row

BATCH_PAIRS = 512
"""Pairs after which a stream entry is closed. Chosen: about 110 KiB, small beside a store's default limits, and 13 ms
of reading for whoever asks for pairs."""

BATCH_BYTES = 2**18
"""Bytes after which it is closed before it has so many pairs. Chosen: one read of a socket."""


class OpenBatch:
    """A stream entry to be, of one Route and one rollout; `limit_bytes` is where it is full, at most BATCH_BYTES."""

    __slots__ = ("_limit_bytes", "_parts", "_payload_bytes", "_rows", "encoded_bytes", "pairs")

    def __init__(self, limit_bytes: int = BATCH_BYTES) -> None:
        self._limit_bytes = min(limit_bytes, BATCH_BYTES)
        self.pairs = 0
        self.encoded_bytes = 0
        self._parts: list[bytes] = []
        self._rows: list[Row] = []
        self._payload_bytes = 0

    def __repr__(self) -> str:
        return f"<OpenBatch of {self.pairs} pairs, {self.encoded_bytes} bytes and {len(self._rows)} rows>"

    def add(self, row: "Row", payload: "Payload | None") -> None:
        """Take a pair, whose payload is part of the row."""
        self.pairs += 1
        self._rows.append(row)
        if payload is not None:
            self._payload_bytes += payload.size

    @property
    def full(self) -> bool:
        """Whether it should be closed."""
        return self.pairs >= BATCH_PAIRS or self.encoded_bytes + self._payload_bytes >= self._limit_bytes

    def encode(self) -> int:
        """Encode the rows of this turn, which takes a fifth of their room; returns how many bytes that gave."""
        if not self._rows:
            return 0
        part = encode_rows(self._rows)
        self._rows.clear()
        self._payload_bytes = 0
        self._parts.append(part)
        self.encoded_bytes += len(part)
        return len(part)

    def close(self, route: str, rollout: str) -> bytes:
        """Return the entry."""
        self.encode()
        return join_rows(route, rollout, self._parts)
