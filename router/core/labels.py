"""True labels that came back, joined to the pairs they are of, and the counters that come of them. Pure."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from router.core.observations import CORRECT, LABEL, NO_PREDICTION, PAIR_VARIANT, CounterKey

LabelValue = str | int | bool
"""One label as a client may write it. An integer and its decimal text are one label, as in the adapters."""


class LabelResult(StrEnum):
    """What became of one label that was joined to a pair."""

    ACCEPTED = "accepted"
    DOUBLE = "double"
    """The request has a label already; the first one stands."""

    FULL = "full"
    """The rollout has as many labels as are kept."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """One pair's predictions and what was true, as texts of `inference.kept_label`; None where the candidate made none.

    `key_cell` is the pair's cell where users are counted instead of requests (`traffic.NO_KEY`: a unit by itself),
    None where they are not. `batch` says that the texts are of several rows, which have no one class. `slices` are
    those of the request in which it is counted once more: ones that gates of true labels name.
    """

    request_id: str
    exposure: int
    key_cell: int | None
    truth: str
    stable: str
    candidate: str | None
    batch: bool = False
    slices: tuple[str, ...] = ()

    def correct(self) -> Iterator[CounterKey]:
        """Yield the counters of who was right, of all requests and of each slice."""
        cell = f"{self.stable == self.truth:d}{self._candidate_is(self.truth)}"
        for slice_ in ("", *self.slices):
            yield CounterKey(self.exposure, CORRECT, slice_, PAIR_VARIANT, cell)

    def classes(self, named: Collection[str]) -> Iterator[tuple[str, CounterKey]]:
        """Yield each class that is the truth or a prediction, and its counter; nothing of a batch.

        By slice only those `named` by gates: what a slice costs is bounded by the gates.
        """
        if self.batch:
            return
        for name in dict.fromkeys((self.truth, self.stable, self.candidate)):
            if name is not None:
                code = f"{self.truth == name:d}{self.stable == name:d}{self._candidate_is(name)}"
                for slice_ in ("", *self.slices) if name in named else ("",):
                    yield name, CounterKey(self.exposure, LABEL, slice_, PAIR_VARIANT, f"{name}:{code}")

    def _candidate_is(self, name: str) -> str:
        return NO_PREDICTION if self.candidate is None else f"{self.candidate == name:d}"


@dataclass(frozen=True, slots=True)
class LabelCount:
    """What became of each label of one call, in its order, and how many of their classes were too many to count."""

    results: tuple[LabelResult, ...]
    uncounted_classes: int = 0


def label_text(value: LabelValue) -> str:
    """Return one label as the adapters write it."""
    if isinstance(value, bool):  # first, because a bool is an int
        return "true" if value else "false"
    return str(value)


def label_texts(value: LabelValue | Sequence[LabelValue]) -> tuple[str, ...]:
    """Return the label of each row."""
    return (label_text(value),) if isinstance(value, str | int) else tuple(map(label_text, value))
