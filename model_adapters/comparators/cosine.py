"""Cosine: how far two vectors point apart, row by row; for embeddings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from model_adapters.comparators.rows import Numbers, Row, comparable, compare_rows, vectors_of
from router.core.inference import Answer
from router.core.observations import Comparison
from router.core.options import OptionReader

OPPOSITE = 2.0


@dataclass(frozen=True, slots=True)
class Cosine:
    """Compares vectors by their direction: the distance is 1 - cosine, 0..2; up to `farthest` they are the same."""

    name: ClassVar[str] = "cosine"
    farthest: float = 0.01

    def configured(self, options: Mapping[str, object]) -> "Cosine":
        """See TakesOptions."""
        return Cosine(OptionReader(options, ("max",)).number("max", 0.01, most=OPPOSITE))

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether all vectors point the same way."""
        return compare_rows(self.name, "vector", stable, candidate, vectors_of, self._row, farthest=OPPOSITE)

    def _row(self, ours: Numbers, theirs: Numbers) -> Row:
        settled = comparable(ours, theirs, farthest=OPPOSITE)
        if settled is not None:
            return settled
        a, b = _direction(ours), _direction(theirs)
        if a is None and b is None:
            return Row(same=None, distance=0.0, said="vectors of zeros have no direction")
        if a is None or b is None:
            return Row(same=False, distance=1.0, said=f"{'stable' if a is None else 'candidate'} is all zeros")
        distance = min(max(1 - math.fsum([x * y for x, y in zip(a, b, strict=True)]), 0.0), OPPOSITE)
        return Row(distance <= self.farthest, distance, f"cosine {1 - distance:.6g}")


def _direction(vector: Numbers) -> Numbers | None:
    """Return the vector with length 1, None if it has none; scaled first, so that no square overflows."""
    largest = max(map(abs, vector))
    if not largest:
        return None
    scaled = [number / largest for number in vector]
    length = math.hypot(*scaled)
    return tuple([number / length for number in scaled])
