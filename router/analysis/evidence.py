"""Evidence: the counters of all gateway workers as one set of numbers.

Each worker start (boot) writes its own counters as whole, ever growing values. A boot never continues another one's
counters, so the sum over boots is the truth, and a worker that died keeps what it counted: what it had in flight
stays in flight for ever, and the judge counts that in the candidate's favour (statistics.md rule 6).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from router.analysis.eprocess import Floats
from router.core.decisions import Counts, Judgement
from router.core.observations import (
    AFFINITY,
    ANSWERS,
    BOTH,
    LATENCY,
    LATENCY_BUCKETS,
    OUTCOME,
    PAIR,
    PAIR_VARIANT,
    CounterKey,
)
from router.core.rollout import Exposure
from router.core.traffic import Role

Boots = Mapping[str, Mapping[CounterKey, int]]
"""What each boot counted, as `RecordStore.evidence` gives it."""

_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Evidence:
    """Merged counters of one rollout. Adding two Evidences of different boots is commutative and associative."""

    counters: Mapping[CounterKey, int] = field(default_factory=dict)
    _cells: Mapping[tuple[int, str, str, str], Mapping[str, int]] = field(init=False, repr=False, compare=False)
    _tables: "dict[tuple[str, str], Table]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        cells: dict[tuple[int, str, str, str], dict[str, int]] = {}
        for key, value in self.counters.items():
            cells.setdefault(key[:4], {})[key.cell] = value
        object.__setattr__(self, "_cells", cells)
        tables: dict[tuple[str, str], dict[Row, Mapping[str, int]]] = {}
        for (exposure, metric, slice_, variant), found in cells.items():
            base, at, cut = metric.partition("@")
            tables.setdefault((base, variant), {})[at + cut, exposure, slice_] = found
        object.__setattr__(
            self,
            "_tables",
            {name: Table.of(rows, by_key=name[0].startswith(AFFINITY)) for name, rows in tables.items()},
        )

    @classmethod
    def of(cls, by_boot: Boots) -> "Evidence":
        """Add up what each boot counted."""
        return cls(_added(by_boot.values()))

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(_added((self.counters, other.counters)))

    def value(self, exposure: int, metric: str, variant: str, cell: str) -> int:
        """Return one counter over all slices; 0 where nothing was counted."""
        return self.cells(exposure, metric, "", variant).get(cell, 0)

    def cells(self, exposure: int, metric: str, slice_: str, variant: str) -> Mapping[str, int]:
        """Return all cells of one metric in one exposure, by their names; empty where nothing was counted."""
        return self._cells.get((exposure, metric, slice_, variant), _NOTHING)

    def table(self, metric: str, variant: str) -> "Table":
        """Return all cells of one metric, at all its cuts, in every exposure and slice."""
        return self._tables.get((metric, variant), _EMPTY)

    def histogram(self, slices: Sequence[str], role: Role, exposure: Exposure) -> Floats:
        """Return one exposure's answers of one variant by latency bucket, (slices, buckets); `""` is all requests."""
        table = self.table(LATENCY, role)
        counts = np.zeros((len(slices), LATENCY_BUCKETS + 1))
        counts[:, [int(name) for name in table.names]] = table.gather(slices, ("",), [exposure])[:, 0, 0]
        return counts


Row = tuple[str, int, str]
"""A cut (of `observations.CUTS`), an exposure's id, a slice."""


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of one metric and variant as a matrix: `names` (L,) of its columns, and in which exposure they stand.

    `last` (L,) is, for counters of affinity keys, the exposure in which the key was last counted before; else 0.
    """

    names: tuple[str, ...]
    last: NDArray[np.int64]
    _values: Floats
    _slices: Mapping[str, int]
    _cuts: Mapping[str, int]
    _exposures: Mapping[int, int]

    @classmethod
    def of(cls, rows: Mapping[Row, Mapping[str, int]], *, by_key: bool) -> "Table":
        """Lay out cells; behind the last of each axis stand zeros, for strata in which nothing was counted."""
        columns = {
            cell: column for column, cell in enumerate({cell: None for cells in rows.values() for cell in cells})
        }
        cuts = {cut: number for number, cut in enumerate({row[0]: None for row in rows})}
        exposures = {exposure: number for number, exposure in enumerate({row[1]: None for row in rows})}
        slices = {slice_: number for number, slice_ in enumerate({row[2]: None for row in rows})}
        values = np.zeros((len(slices) + 1, len(cuts) + 1, len(exposures) + 1, len(columns)))
        for (cut, exposure, slice_), cells in rows.items():
            at = slices[slice_], cuts[cut], exposures[exposure]
            values[at][[columns[cell] for cell in cells]] = list(cells.values())
        split = [cell.rpartition("/") if by_key else (cell, "", "0") for cell in columns]
        last = np.array([int(last) for _, _, last in split], dtype=np.int64)
        return cls(tuple(name for name, _, _ in split), last, values, slices, cuts, exposures)

    def gather(self, slices: Sequence[str], cuts: Sequence[str], exposures: Sequence[Exposure]) -> Floats:
        """Return (slices, cuts, exposures, L)."""
        at_slice = np.array([self._slices.get(slice_, -1) for slice_ in slices])
        at_cut = np.array([self._cuts.get(cut, -1) for cut in cuts])
        at_exposure = np.array([self._exposures.get(exposure.id, -1) for exposure in exposures])
        return np.asarray(self._values[at_slice[:, None, None], at_cut[:, None], at_exposure])


_EMPTY = Table.of({}, by_key=False)


def newest(one: Boots, other: Boots) -> Boots:
    """Merge two readings of the same replicas: of each boot's each counter the larger value.

    Counters only grow, so this is idempotent, commutative and associative: readings may be late, doubled or
    out of order.
    """
    return {boot: _largest(one.get(boot, {}), other.get(boot, {})) for boot in {*one, *other}}


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


def _largest(one: Mapping[CounterKey, int], other: Mapping[CounterKey, int]) -> Mapping[CounterKey, int]:
    return {key: max(one.get(key, 0), other.get(key, 0)) for key in {*one, *other}}
