"""How the rows of an answer become a Prediction, in protocols that leave their form to the model.

- A number or text is the label of its row; a number with a fraction is its score, too.
- A list of two or more numbers from 0 to 1 that add up to 1 (within 0.01) is taken as probabilities: the label is the
  index of the largest, the first of equals, and the score is that number.
- Another list is one label, its elements joined by commas; a list of one is its element.
- Of an object the label is the member with one of the names in LABELS, the score that in SCORES, the largest of
  several. Where only probabilities have a name, the index of the largest is the label.
- Of a list of such objects with scores, the one with the highest score counts.
- What fits none of this is one label as a whole: it may differ where a person sees no difference, never the reverse.

Whole numbers are exact, others have six significant digits; 7, 7.0 and "7" are one label. Scores are given only when
every row has one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from router.core.errors import UnreadableError
from router.core.inference import PREDICTION_BYTES, Prediction, kept_label

LABELS = (
    "label", "labels", "class", "classes", "class_name", "className", "class_id", "class_ids", "predicted_label",
    "prediction", "predictions",
)  # fmt: skip
"""Names of what a row is, the first that is there counts."""

SCORES = ("score", "scores", "probability", "probabilities", "prob", "confidence")
"""Names of what the model thinks of it."""

SUM_WITHIN = 0.01
"""How far from 1 probabilities may add up to. Chosen: a hundred classes rounded to four digits."""

DEPTH = 32
"""Deepest nesting of one row. As of tensors: numpy 1 had the same limit."""

_SURELY_KEPT = PREDICTION_BYTES // 4
_NUMBERS = frozenset({float, int})


class Row(NamedTuple):
    """What is read of one row."""

    label: str
    score: float | None = None
    vector: tuple[float, ...] = ()


def prediction_of(rows: Sequence[Any]) -> Prediction:
    """Return what the rows say. Raises UnreadableError."""
    kinds = set(map(type, rows))
    if kinds == {float}:
        return Prediction(tuple([f"{value + 0.0:.6g}" for value in rows]), tuple(rows))
    return joined([row_of(value) for value in rows])


def joined(rows: Sequence[Row]) -> Prediction:
    """Return a Prediction of all rows; scores and vectors only if each row has one."""
    scores = tuple([row.score for row in rows if row.score is not None])
    vectors = tuple([row.vector for row in rows if row.vector])
    return Prediction(
        tuple([row.label if len(row.label) <= _SURELY_KEPT else kept_label((row.label,)) for row in rows]),
        scores if len(scores) == len(rows) else (),
        vectors if len(vectors) == len(rows) else (),
    )


def row_of(value: object, *, sums: bool = True) -> Row:
    """Return what one row says; `sums` False: no list is taken as probabilities. Raises UnreadableError."""
    for _ in range(DEPTH):
        if not isinstance(value, list) or len(value) != 1:
            break
        value = value[0]
    if isinstance(value, float):
        return Row(scalar_text(value), value)
    if isinstance(value, list):
        return _list_row(value, sums=sums)
    if isinstance(value, dict):
        return _object_row(value)
    return Row(scalar_text(value))


def columns_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an object that holds a list for each name. Raises UnreadableError."""
    lists = list(columns.values())
    if not lists or any(type(column) is not list or len(column) != len(lists[0]) for column in lists):
        raise UnreadableError("answer: expected named outputs with as many rows each")
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def class_row(classes: dict[str, Any]) -> Row | None:
    """Return the most probable of an object of classes and probabilities, None if it is none.

    At least two members, all from 0 to 1 and together at most 1: the best of many classes may be all there are.
    """
    numbers = list(classes.values())
    if len(numbers) < 2 or not _probable(numbers) or sum(numbers) > 1 + SUM_WITHIN:
        return None
    best = max(classes, key=lambda name: (classes[name], name))
    return Row(best, float(classes[best]))


def scalar_text(value: object) -> str:
    """Return one element as text. Raises UnreadableError."""
    if isinstance(value, bool):  # first, because a bool is an int
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # the sum makes -0.0 a plain 0
    raise UnreadableError("answer: expected texts, numbers or booleans as predictions")


def whole(value: object, depth: int = DEPTH) -> str:
    """Return one text for a value, the same iff all in it is, numbers in six digits. Raises UnreadableError."""
    if depth == 0:
        raise UnreadableError(f"answer: expected at most {DEPTH} levels in one row")
    if isinstance(value, list):
        return f"[{','.join([whole(one, depth - 1) for one in value])}]"
    if isinstance(value, dict):
        members = [f"{orjson.dumps(name).decode()}:{whole(value[name], depth - 1)}" for name in sorted(value)]
        return f"{{{','.join(members)}}}"
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    return "null" if value is None else scalar_text(value)


def _list_row(value: list[Any], *, sums: bool) -> Row:
    if not value:
        raise UnreadableError("answer: expected at least one element in each row")
    kinds = set(map(type, value))
    if kinds <= _NUMBERS:
        vector = tuple(map(float, value))
        if sums and float in kinds and _probable(value) and abs(sum(value) - 1) <= SUM_WITHIN:
            best = max(value)
            return Row(str(value.index(best)), float(best), vector)
        return Row(",".join(map(scalar_text, value)), None, vector)
    if kinds == {dict}:
        rows = [_object_row(one) for one in value]
        scored = [row for row in rows if row.score is not None]
        if len(scored) == len(rows):
            return max(scored, key=lambda row: row.score or 0.0)
    plain = kinds.isdisjoint((list, dict, type(None))) and not any(type(one) is str and "," in one for one in value)
    return Row(",".join(map(scalar_text, value)) if plain else whole(value))


def _object_row(value: dict[str, Any]) -> Row:
    score, vector = _score(next((value[name] for name in SCORES if value.get(name) is not None), None))
    found = next((value[name] for name in LABELS if value.get(name) is not None), None)
    if found is not None:
        inner = found[0] if isinstance(found, list) and len(found) == 1 else found
        return Row(whole(inner) if isinstance(inner, (list, dict)) else scalar_text(inner), score, vector)
    if len(vector) > 1:
        return Row(str(vector.index(max(vector))), score, vector)
    if score is not None and len(value) == 1:
        return Row(scalar_text(score), score)
    return Row(whole(value), score)


def _score(found: object) -> tuple[float | None, tuple[float, ...]]:
    """Return the score and the numbers it was chosen from; neither where it is no number."""
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return float(found), ()
    if isinstance(found, list) and found and _NUMBERS.issuperset(map(type, found)):
        vector = tuple(map(float, found))
        return max(vector), vector if len(vector) > 1 else ()
    return None, ()


def _probable(numbers: list[Any]) -> bool:
    """Whether all are numbers from 0 to 1."""
    return _NUMBERS.issuperset(map(type, numbers)) and min(numbers) >= 0 and max(numbers) <= 1
