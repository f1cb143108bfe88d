"""Numeric: two answers are the same if all their numbers are within a tolerance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from model_adapters.comparators.rows import FAR, Numbers, Row, comparable, compare_rows, numbers_of
from router.core.inference import Answer
from router.core.observations import Comparison
from router.core.options import OptionReader


@dataclass(frozen=True, slots=True)
class Numeric:
    """Compares numbers: the same up to `absolute`, or `relative` (a fraction) of stable's, whichever allows more.

    A row's distance is its largest difference, in the unit of the numbers.
    """

    name: ClassVar[str] = "numeric"
    absolute: float = 0.0
    relative: float = 0.0

    def configured(self, options: Mapping[str, object]) -> "Numeric":
        """See TakesOptions."""
        read = OptionReader(options, ("abs", "rel"))
        return Numeric(read.number("abs", 0.0), read.ratio("rel", 0.0))

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether all numbers are near enough: those of vectors, else scores, else labels."""
        return compare_rows(self.name, "number", stable, candidate, numbers_of, self._row, farthest=FAR)

    def _row(self, ours: Numbers, theirs: Numbers) -> Row:
        settled = comparable(ours, theirs, farthest=FAR)
        if settled is not None:
            return settled
        farthest, said = 0.0, ""
        for a, b in zip(ours, theirs, strict=True):
            gap = abs(b - a)  # may be infinite, which is beyond every tolerance
            farthest = max(farthest, gap)
            if not said and not within(a, b, self.absolute, self.relative):
                said = f"{a:.6g} != {b:.6g}"
        return Row(not said, min(farthest, FAR), said)


def within(stable: float, candidate: float, absolute: float, relative: float) -> bool:
    """Whether two finite numbers are within a tolerance of each other."""
    return stable == candidate or abs(candidate - stable) <= max(absolute, relative * abs(stable))
