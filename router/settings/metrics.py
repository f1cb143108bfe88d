"""What a gate may ask of each metric, and in which unit its limits are written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from router.core.quantities import fraction, points, ratio

Metric = Literal["error_rate", "latency", "disagreement", "accuracy", "recall", "precision", "f1"]


@dataclass(frozen=True, slots=True)
class Form:
    """The limits a metric takes, each with the reader of its unit; and whether it is of one class (`per_label`).

    `from_labels`: it is measured by true labels that clients send back, joined to pairs.
    `advisory_difference`: a difference assumes stationary rows, so it never decides (statistics.md rule 14).
    """

    readers: Mapping[str, Callable[[object], float]]
    from_labels: bool = False
    per_label: bool = False
    advisory_difference: bool = False

    @property
    def limits(self) -> str:
        """Names of the limits, for an error."""
        return " or ".join(self.readers)


_SCORE: Mapping[str, Callable[[object], float]] = {"max_decrease": points, "min": fraction}

METRICS: Mapping[str, Form] = {
    "error_rate": Form({"max_increase": points, "max": fraction}),
    "latency": Form({"max_increase": ratio}),
    "disagreement": Form({"max": fraction}),
    "accuracy": Form(_SCORE, from_labels=True),
    "recall": Form(_SCORE, from_labels=True, per_label=True),
    # Over all classes together both are the accuracy, so they too need a class.
    "precision": Form(_SCORE, from_labels=True, per_label=True, advisory_difference=True),
    "f1": Form(_SCORE, from_labels=True, per_label=True, advisory_difference=True),
}


def read_limit(metric: str, field: str, value: object, before: Mapping[str, object]) -> float:
    """Return a limit of `metric` as a fraction; `before` holds the limits that were read already.

    The tolerance has the unit of the limit it belongs to and is at most as large. A floor has none.
    """
    readers = METRICS[metric].readers
    if field != "tolerance":
        if field not in readers:
            raise ValueError(f"no such limit: {metric} takes {METRICS[metric].limits}")
        return readers[field](value)
    for owner in ("max_increase", "max_decrease", "max"):
        limit = before.get(owner)
        if isinstance(limit, float) and owner in readers:
            tolerance = readers[owner](value)
            if tolerance > limit:
                raise ValueError(f"at most {owner}: nothing may be promoted that would be rolled back")
            return tolerance
    raise ValueError("no tolerance: it belongs to max_increase, max_decrease or max")
