"""Argmax: two answers are the same if the largest of each row's numbers stands at the same place."""

from model_adapters.comparators.rows import Numbers, Row, comparable, compare_rows, vectors_of
from router.core.inference import Answer
from router.core.observations import Comparison


class Argmax:
    """Compares where the largest number stands, the first where there are several; the scores may differ."""

    name = "argmax"

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether every row has its largest number at the same place; rows need two numbers at least."""
        return compare_rows(self.name, "vector", stable, candidate, vectors_of, _row)


def _row(ours: Numbers, theirs: Numbers) -> Row:
    settled = comparable(ours, theirs)
    if settled is not None:
        return settled
    if len(ours) == 1:
        return Row(same=None, distance=0.0, said="of one number there is no largest")
    a, b = ours.index(max(ours)), theirs.index(max(theirs))
    return Row(same=True, distance=0.0) if a == b else Row(same=False, distance=1.0, said=f"class {a} != class {b}")
