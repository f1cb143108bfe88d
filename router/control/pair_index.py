"""The newest pairs by request id: what true labels are joined to. In memory, bounded in bytes."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from router.core.observations import Pair

ENTRY_BYTES = 330
"""What one pair costs beside its texts. Measured with tracemalloc, 1,000 to 175,000 pairs: 286 to 323."""

SHARED_TEXTS = 10_000
"""Different labels that are kept once each, since the same few come again and again."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Where pairs belong: one exposure of one rollout. Shared by all of them."""

    route: str
    rollout: str
    exposure: int


@dataclass(frozen=True, slots=True)
class KnownPair:
    """What a label needs to know of a pair. `stable` and `candidate` are predictions, None where none was read.

    `several` says that requests of different Routes carry its id, so that nobody can tell which one a label is of.
    `slices` are those of its own that gates of true labels ask about.
    """

    stratum: Stratum
    key_cell: int | None
    assigned_at_s: float
    stable: str | None
    candidate: str | None
    several: bool = False
    slices: tuple[str, ...] = ()


class PairIndex:
    """Pairs by request id, at most `limit_bytes` of them; the oldest goes first and is counted in `dropped`.

    Of several pairs of one rollout with the same id the first stands: which one that is was settled before anybody
    answered, so no answer can choose it. A later rollout's takes its place.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.dropped = 0
        self.held_bytes = 0
        self._limit_bytes = limit_bytes
        self._pairs: dict[str, KnownPair] = {}
        self._oldest_first: deque[tuple[str, int]] = deque()
        self._stratum = Stratum("", "", 0)
        self._texts: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"PairIndex({len(self._pairs)} pairs, {self.held_bytes} of {self._limit_bytes} bytes)"

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, request_id: str) -> KnownPair | None:
        """Return the pair of a request, None if it is not known (any more)."""
        return self._pairs.get(request_id)

    def add(self, pair: Pair, asked: Collection[str] = ()) -> None:
        """Take a pair; pairs of one Route come in the order in which they were written.

        Of its slices those are known that gates of true labels ask about.
        """
        known = self._pairs.get(pair.request_id)
        if known is None:
            self._insert(pair, asked)
        elif known.stratum.route != pair.route:
            self._pairs[pair.request_id] = KnownPair(
                known.stratum, known.key_cell, known.assigned_at_s, None, None, several=True
            )
        elif known.stratum.rollout != pair.rollout:
            self._pairs[pair.request_id] = self._known(pair, asked)

    def _insert(self, pair: Pair, asked: Collection[str]) -> None:
        texts = len(pair.request_id) + len(pair.stable.label or "") + len(pair.candidate.label or "")
        size = ENTRY_BYTES + texts
        self._pairs[pair.request_id] = self._known(pair, asked)
        self._oldest_first.append((pair.request_id, size))
        self.held_bytes += size
        while self.held_bytes > self._limit_bytes:
            request_id, size = self._oldest_first.popleft()
            del self._pairs[request_id]
            self.held_bytes -= size
            self.dropped += 1

    def _known(self, pair: Pair, asked: Collection[str]) -> KnownPair:
        stratum = Stratum(pair.route, pair.rollout, pair.exposure)
        if stratum == self._stratum:
            stratum = self._stratum
        self._stratum = stratum
        slices = tuple([one for one in asked if any(one == f"{name}={value}" for name, value in pair.slices)])
        return KnownPair(
            stratum, pair.key_cell, pair.assigned_at_s, self._shared(pair.stable.label),
            self._shared(pair.candidate.label), slices=slices,
        )  # fmt: skip

    def _shared(self, label: str | None) -> str | None:
        if label is None or len(self._texts) >= SHARED_TEXTS:
            return label
        return self._texts.setdefault(label, label)
