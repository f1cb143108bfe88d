"""Evidence: the counters of all gateway workers as one set of numbers, and how much of it there is.

Each worker start (boot) writes its own counters as whole, ever growing values. A boot never continues another one's
counters, so the sum over boots is the truth, and a worker that died keeps what it counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from router.core.decisions import Counts, Judgement
from router.core.observations import ANSWERS, OUTCOME, PAIR, CounterKey
from router.core.rollout import Exposure
from router.core.traffic import Role

PAIR_VARIANT = "pair"
"""The `variant` of counters that belong to both variants together."""

BOTH = "both"
"""The cell of PAIR that counts complete pairs; every other cell names the answer that is missing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Merged counters of one rollout. Adding two Evidences of different boots is commutative and associative."""

    counters: Mapping[CounterKey, int] = field(default_factory=dict)

    @classmethod
    def of(cls, by_boot: Mapping[str, Mapping[CounterKey, int]]) -> "Evidence":
        """Add up what each boot counted, as `RecordStore.evidence` gives it."""
        return cls(_added(by_boot.values()))

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(_added((self.counters, other.counters)))

    def value(self, exposure: int, metric: str, variant: str, cell: str) -> int:
        """Return one counter over all slices; 0 where nothing was counted."""
        return self.counters.get(CounterKey(exposure, metric, "", variant, cell), 0)


def counts_of(evidence: Evidence, exposure: Exposure) -> Counts:
    """Return how much evidence one exposure holds: complete answers that went to clients, and complete pairs."""
    stable, candidate = (
        sum(evidence.value(exposure.id, OUTCOME, role, outcome) for outcome in ANSWERS) for role in Role
    )
    return Counts(
        requests_stable=stable,
        requests_candidate=candidate,
        pairs=evidence.value(exposure.id, PAIR, PAIR_VARIANT, BOTH),
    )


def count_only(evidence: Evidence, exposure: Exposure) -> Judgement:
    """Return a Judgement that asks for nothing: it holds the counts, so that steps can be followed by eye."""
    return Judgement(counts=counts_of(evidence, exposure))


def _added(parts: Iterable[Mapping[CounterKey, int]]) -> Mapping[CounterKey, int]:
    total: dict[CounterKey, int] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return MappingProxyType(total)
