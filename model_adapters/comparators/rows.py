"""What comparators of rows share: each row of a batch is compared by itself, and all of them make one comparison.

The rules, for every comparator that uses this:

- answers of different status differ; where an answer holds nothing to compare, the two are not compared;
- answers of different numbers of rows differ, with the farthest distance there is;
- a row differs, is the same, or cannot be compared (both sides hold a number that is not finite, say). One row that
  differs makes the answers differ; else one that cannot be compared leaves them not compared. Never a silent match;
- the distance is the mean over the rows that could be compared, and always finite.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from router.core.inference import Answer
from router.core.observations import Comparison

FAR = 1e5
"""Distance of what no number says: the end of the scale that evidence has (`observations.DISTANCE_BUCKETS`)."""

Numbers = tuple[float, ...]
Value = TypeVar("Value")


class Row(NamedTuple):
    """How one row differs; `same` is None, and the distance means nothing, where that cannot be said."""

    same: bool | None
    distance: float
    said: str = ""


def status_differs(name: str, stable: Answer, candidate: Answer) -> Comparison | None:
    """Return the comparison of answers with different status, None where it is one."""
    if stable.status == candidate.status:
        return None
    return Comparison(name, same=False, reason=f"status {stable.status} != {candidate.status}")


def missing(name: str, what: str, status: int, *, ours: bool, theirs: bool) -> Comparison:
    """Return that there is nothing to compare: whose, and the status if that explains it. `ours`: stable has it."""
    without = [role for role, has in (("stable", ours), ("candidate", theirs)) if not has]
    why = "" if 200 <= status < 300 else f" (status {status})"
    return Comparison(name, same=None, reason=f"no {what} of {' and '.join(without)}{why}")


def compare_rows(  # noqa: PLR0913, PLR0917 - one for each part of the rules
    name: str,
    what: str,
    stable: Answer,
    candidate: Answer,
    rows_of: Callable[[Answer], Sequence[Value]],
    compare_row: Callable[[Value, Value], Row],
    *,
    farthest: float = 1.0,
) -> Comparison:
    """Return how two answers differ, by the rules above; `what` names a row's content, `farthest` its last distance."""
    by_status = status_differs(name, stable, candidate)
    if by_status is not None:
        return by_status
    ours, theirs = rows_of(stable), rows_of(candidate)
    if not ours or not theirs:
        return missing(name, what, stable.status, ours=bool(ours), theirs=bool(theirs))
    if len(ours) != len(theirs):
        return Comparison(name, same=False, distance=farthest, reason=f"{len(ours)} rows != {len(theirs)} rows")
    return _all_rows(name, [compare_row(a, b) for a, b in zip(ours, theirs, strict=True)])


def _all_rows(name: str, rows: list[Row]) -> Comparison:
    compared = [row.distance for row in rows if row.same is not None]
    distance = math.fsum(compared) / len(compared) if compared else None
    differing = [number for number, row in enumerate(rows) if row.same is False]
    unsure = [number for number, row in enumerate(rows) if row.same is None]
    if not differing and not unsure:
        return Comparison(name, same=True, distance=distance)
    places, words = (differing, "rows differ") if differing else (unsure, "rows cannot be compared")
    reason = rows[places[0]].said
    if len(rows) > 1:
        reason = f"row {places[0]}: {reason} ({len(places)} of {len(rows)} {words})"
    return Comparison(name, same=False if differing else None, distance=distance if differing else None, reason=reason)


def vectors_of(answer: Answer) -> Sequence[Numbers]:
    """Return the numbers of each row, where the adapter reads several."""
    return answer.prediction.vectors if answer.prediction else ()


def numbers_of(answer: Answer) -> Sequence[Numbers]:
    """Return the numbers of each row: vectors, else scores, else labels that are numbers; () if one is not."""
    prediction = answer.prediction
    if prediction is None:
        return ()
    if prediction.vectors:
        return prediction.vectors
    if prediction.scores:
        return [(score,) for score in prediction.scores]
    try:
        return [(float(label),) for label in prediction.labels]
    except ValueError:
        return ()


def comparable(ours: Numbers, theirs: Numbers, *, farthest: float = 1.0) -> Row | None:
    """Return why two rows of numbers need no arithmetic, or None: other lengths, nothing in them, not finite.

    A number that is not finite on one side only is a difference; on both sides nobody can say.
    """
    if len(ours) != len(theirs):
        return Row(same=False, distance=farthest, said=f"{len(ours)} numbers != {len(theirs)} numbers")
    if not ours:
        return Row(same=None, distance=0.0, said="both rows are empty")
    finite, also = all(map(math.isfinite, ours)), all(map(math.isfinite, theirs))
    if finite and also:
        return None
    if finite or also:
        return Row(same=False, distance=farthest, said=f"{'candidate' if finite else 'stable'} is not finite")
    return Row(same=None, distance=0.0, said="neither is finite")
