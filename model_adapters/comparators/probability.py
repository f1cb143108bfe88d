"""Probability: how far apart two distributions over the classes are, row by row."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from model_adapters.comparators.rows import FAR, Numbers, Row, comparable, compare_rows, vectors_of
from router.core.inference import Answer
from router.core.observations import Comparison
from router.core.options import OptionReader

SUM_WITHIN = 0.01
"""How far from 1 the sum of probabilities may be. Chosen: a hundred classes rounded to four digits."""


@dataclass(frozen=True, slots=True)
class Probability:
    """Compares class probabilities by `total_variation` (0..1) or `kl`, the divergence of candidate from stable (nats).

    Rows up to `farthest` apart are the same. A row of one number p is a distribution over two classes.
    """

    name: ClassVar[str] = "probability"
    measure: str = "total_variation"
    farthest: float = 0.05

    def configured(self, options: Mapping[str, object]) -> "Probability":
        """See TakesOptions."""
        read = OptionReader(options, ("max", "measure"))
        return Probability(read.choice("measure", "total_variation", "kl"), read.number("max", 0.05))

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether all rows are near enough; numbers that are no distribution are not compared if stable's."""
        last = FAR if self.measure == "kl" else 1.0
        return compare_rows(
            self.name, "vector", stable, candidate, vectors_of, lambda a, b: self._row(a, b, last), farthest=last
        )

    def _row(self, ours: Numbers, theirs: Numbers, last: float) -> Row:
        settled = comparable(ours, theirs, farthest=last)
        if settled is not None:
            return settled
        p, q = _distribution(ours), _distribution(theirs)
        if p is None:
            return Row(same=None, distance=0.0, said=f"stable's numbers are no distribution: sum {sum(ours):.4g}")
        if q is None:
            return Row(
                same=False, distance=last, said=f"candidate's numbers are no distribution: sum {sum(theirs):.4g}"
            )
        distance = min(_divergence(p, q) if self.measure == "kl" else _total_variation(p, q), last)
        return Row(distance <= self.farthest, distance, f"{self.measure} {distance:.4g}")


def _distribution(numbers: Numbers) -> Numbers | None:
    """Return probabilities that sum to 1, None where the numbers are none."""
    if len(numbers) == 1 and 0 <= numbers[0] <= 1:
        return (numbers[0], 1 - numbers[0])
    total = sum(numbers)
    if min(numbers) < 0 or abs(total - 1) > SUM_WITHIN:
        return None
    return tuple([number / total for number in numbers])


def _total_variation(p: Numbers, q: Numbers) -> float:
    return min(sum([abs(a - b) for a, b in zip(p, q, strict=True)]) / 2, 1.0)


def _divergence(p: Numbers, q: Numbers) -> float:
    """Return sum p log(p/q), FAR where the candidate rules out what stable thinks possible."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0:
            if b == 0:
                return FAR
            total += a * (math.log(a) - math.log(b))
    return max(total, 0.0)
