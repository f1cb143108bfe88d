"""Overlap: how much two sets have in common, as intersection over union; of things, or of boxes in an image."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from model_adapters.comparators.rows import Numbers, Row, comparable, compare_rows, vectors_of
from router.core.inference import Answer
from router.core.observations import Comparison
from router.core.options import OptionReader

MOST_BOXES = 100
"""Of one set: as many as detectors are customarily asked for. Measured: two sets of 64 that all meet take 8 ms."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class SetOverlap:
    """Compares sets: the numbers of each row (ids), or where there are none the labels of the answer.

    The distance is 1 - intersection/union; up to `farthest` the sets are the same.
    """

    name: ClassVar[str] = "set"
    farthest: float = 0.0

    def configured(self, options: Mapping[str, object]) -> "SetOverlap":
        """See TakesOptions."""
        return SetOverlap(OptionReader(options, ("max",)).number("max", 0.0, most=1.0))

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether the sets of all rows have enough in common; order and doubles mean nothing."""
        return compare_rows(self.name, "set", stable, candidate, _sets_of, self._row)

    def _row(self, ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> Row:
        a, b = set(ours), set(theirs)
        if not a and not b:
            return Row(same=None, distance=0.0, said="both sets are empty")
        if any(one != one for one in (*a, *b)):  # noqa: PLR0124 - only NaN is not itself
            return Row(same=None, distance=0.0, said="not a number in a set")
        distance = 1 - len(a & b) / len(a | b)
        return Row(distance <= self.farthest, distance, f"{len(a & b)} of {len(a | b)} in common")


def _sets_of(answer: Answer) -> Sequence[Sequence[Hashable]]:
    if answer.prediction is None:
        return ()
    return answer.prediction.vectors or ((answer.prediction.labels,) if answer.prediction.labels else ())


@dataclass(frozen=True, slots=True)
class Boxes:
    """Compares boxes, four numbers each: those that overlap by `least` or more (intersection over union) are matched.

    The distance is 1 - matched/(boxes of both, matched ones once); up to `farthest` the answers are the same. All
    boxes of an answer are one set, or those of each row (`per: row`), where a batch has a row for each image.
    """

    name: ClassVar[str] = "boxes"
    loop_bytes: ClassVar[int] = 0
    least: float = 0.5
    farthest: float = 0.0
    per: str = "answer"
    form: str = "corners"

    def configured(self, options: Mapping[str, object]) -> "Boxes":
        """See TakesOptions."""
        read = OptionReader(options, ("form", "iou", "max", "per"))
        return Boxes(
            read.number("iou", 0.5, most=1.0), read.number("max", 0.0, most=1.0),
            read.choice("per", "answer", "row"), read.choice("form", "corners", "size"),
        )  # fmt: skip

    def compare(self, stable: Answer, candidate: Answer) -> Comparison:
        """Return whether enough boxes match; of more than MOST_BOXES nobody says."""
        return compare_rows(self.name, "box", stable, candidate, self._sets_of, self._row)

    def _sets_of(self, answer: Answer) -> Sequence[Numbers]:
        rows = vectors_of(answer)
        return rows if self.per == "row" or not rows else [tuple([number for row in rows for number in row])]

    def _row(self, ours: Numbers, theirs: Numbers) -> Row:
        if len(ours) == len(theirs):
            settled = comparable(ours, theirs)
            if settled is not None:
                return settled
        a, b = self._boxes(ours), self._boxes(theirs)
        if a is None:
            return Row(same=None, distance=0.0, said="stable's numbers are no boxes")
        if b is None:
            return Row(same=False, distance=1.0, said="candidate's numbers are no boxes")
        if max(len(a), len(b)) > MOST_BOXES:
            return Row(same=None, distance=0.0, said=f"more than {MOST_BOXES} boxes")
        matched = _matched(a, b, self.least)
        distance = 1 - matched / (len(a) + len(b) - matched)
        return Row(distance <= self.farthest, distance, f"{matched} boxes match of {len(a)} and {len(b)}")

    def _boxes(self, numbers: Numbers) -> list[Box] | None:
        """Return corners; None where the numbers are no boxes: not four each, not finite, or the wrong way round."""
        if len(numbers) % 4 or not all(number - number == 0 for number in numbers):
            return None
        fours = [numbers[at : at + 4] for at in range(0, len(numbers), 4)]
        boxes = [(x, y, x + w, y + h) if self.form == "size" else (x, y, w, h) for x, y, w, h in fours]
        return boxes if all(box[0] <= box[2] and box[1] <= box[3] for box in boxes) else None


def _matched(ours: Sequence[Box], theirs: Sequence[Box], least: float) -> int:
    """Return how many boxes find a partner, the pairs that overlap most first."""
    found = [(iou, i, j) for i, a in enumerate(ours) for j, b in enumerate(theirs) if (iou := _iou(a, b)) >= least]
    taken: set[int] = set()
    given: set[int] = set()
    for _, i, j in sorted(found, key=lambda one: -one[0]):
        if i not in taken and j not in given:
            taken.add(i)
            given.add(j)
    return len(taken)


def _iou(a: Box, b: Box) -> float:
    """Return intersection over union; boxes without area meet only if they are equal."""
    width = (min(b[2], a[2])) - (max(b[0], a[0]))
    height = (min(b[3], a[3])) - (max(b[1], a[1]))
    if width <= 0 or height <= 0:
        return 1.0 if a == b else -1.0
    common = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union < float("inf") else 0.0
