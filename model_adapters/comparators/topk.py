"""Top-k: two answers are the same if the k largest of each row's numbers stand at the same places."""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import ClassVar

from model_adapters.comparators.rows import Numbers, Row, comparable, compare_rows, vectors_of
from router.core.inference import Answer
from router.core.observations import Comparison
from router.core.options import OptionReader


@dataclass(frozen=True, slots=True)
class TopK:
    """Compares the places of the `k` largest numbers, in any order.

    The distance is the share of them that only one side has; up to `farthest` the rows are the same.
    """

    name: ClassVar[str] = "topk"
    k: int = 5
    farthest: float = 0.0

    def configured(self, options: Mapping[str, object]) -> "TopK":
        """See TakesOptions."""
        read = OptionReader(options, ("k", "max"))
        return TopK(read.whole("k", 5, 1, 1_000), read.number("max", 0.0, most=1.0))

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether the sets overlap enough; rows need more than k numbers, else every set is the same."""
        return compare_rows(self.name, "vector", stable, candidate, vectors_of, self._row)

    def _row(self, ours: Numbers, theirs: Numbers) -> Row:
        settled = comparable(ours, theirs)
        if settled is not None:
            return settled
        if len(ours) <= self.k:
            return Row(same=None, distance=0.0, said=f"the top {self.k} of {len(ours)} numbers are all of them")
        common = len(_top(ours, self.k) & _top(theirs, self.k))
        distance = 1 - common / self.k
        return Row(distance <= self.farthest, distance, f"{common} of the top {self.k} in common")


def _top(numbers: Numbers, k: int) -> set[int]:
    """Return the places of the k largest; of equal ones the first."""
    return set(nlargest(k, range(len(numbers)), key=numbers.__getitem__))
