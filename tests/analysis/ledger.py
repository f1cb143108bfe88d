"""What a gateway counts, as a small stand-in without I/O: the reference of what docs/evidence.md specifies.

A `Ledger` is one boot. It is told what happens with the moment of each event, in the order of time, and gives whole
counters at a moment. Cells and the rules behind them:

* All but LATENCY and labels are counted at all `CUTS`: of requests that arrived at least 0, 1, 5 and `timeout`
  seconds ago. Their counts stand in cells of one second of arrival until the second is older than the timeout, then in
  one sum; so memory does not grow with requests. A second is counted at a cut when all of it is that old.
* OUTCOME holds each end in one cell: an `Outcome`, or `LATE`.
* LEVEL holds ends by `level_of`, those without an answer by how long they were waited for; what the gateway itself gave
  up has no level.
* LATENCY holds answers by `latency_bucket`.
* STARTED of pairs is counted when a copy is decided on; PAIR, AGREEMENT, DISTANCE and PAIR_FAILURE when both ends are
  known.
* CORRECT is `<stable><candidate>` of 0 and 1; LABEL is `<class>:<truth><stable><candidate>` for each class that is the
  truth or one of both answers. The candidate's digit is `?` where it has made no prediction.
* Each slice of a request counts the same cells again.

With an affinity key, each of these but LATENCY has a twin that counts keys, `AFFINITY` before the metric and `/j`
behind the cell. What counts is the key's first request in the exposure (for STARTED, OUTCOME and LEVEL), its first
copied request (PAIR, AGREEMENT, DISTANCE, PAIR_FAILURE), its first labelled pair (CORRECT, LABEL), and its first
failure (FAILURE, which has only this twin). What comes first is fixed when it begins, not when it ends. `j` is the last
exposure before this one in which the key was counted so, 0 for none. All boots share the bitmaps (`Seen`).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from router.core.levels import Levels, level_of, levels_of, thresholds_of
from router.core.observations import (
    AFFINITY,
    AGREEMENT,
    ALL,
    ANSWERS,
    BOTH,
    CORRECT,
    CUTS,
    DISTANCE,
    DROPS,
    FAILURE,
    FAILURES,
    LABEL,
    LATE,
    LATENCY,
    LEVEL,
    LOST,
    OUTCOME,
    PAIR,
    PAIR_FAILURE,
    PAIR_VARIANT,
    STARTED,
    CounterKey,
    Outcome,
    distance_bucket,
    latency_bucket,
)
from router.core.rollout import Exposure, GateSpec
from router.core.traffic import Role

TIMEOUT_S = 30
COMPARED_FAILURES = FAILURES | {Outcome.CANCELLED, LATE}


class Seen:
    """Which keys were counted in which exposures, by unit; shared by all boots of a rollout."""

    def __init__(self) -> None:
        self._exposures: dict[tuple[str, str], set[int]] = {}

    def first(self, unit: str, key: str, exposure: int) -> int | None:
        """Return the last exposure before this one in which the key was counted, or None if it was in this one."""
        seen = self._exposures.setdefault((unit, key), set())
        if exposure in seen:
            return None
        seen.add(exposure)
        return max((one for one in seen if one < exposure), default=0)


@dataclass(frozen=True, slots=True)
class Request:
    """One live request under way. `first` and `first_copy` are its `j` if it is the key's first one, else None."""

    exposure: int
    role: Role
    second: int
    slices: tuple[str, ...]
    key: str | None
    first: int | None
    first_copy: int | None


@dataclass(slots=True)
class Ledger:
    """The counters of one boot. `gates` and the exposures' thresholds decide which levels are counted."""

    exposures: Sequence[Exposure] = ()
    gates: Sequence[GateSpec] = ()
    timeout_s: int = TIMEOUT_S
    seen: Seen = field(default_factory=Seen)
    _levels: Mapping[tuple[int, str], Levels] = field(init=False)
    _whole: Counter[CounterKey] = field(default_factory=Counter)
    _settled: Counter[CounterKey] = field(default_factory=Counter)
    _arrivals: dict[int, Counter[CounterKey]] = field(default_factory=dict)
    _settled_until: int = -(10**9)

    def __post_init__(self) -> None:
        self._levels = {}
        latency = [gate for gate in self.gates if gate.metric == "latency"]
        for exposure in self.exposures:
            for slice_ in {gate.slice or "" for gate in latency}:
                gates = [gate for gate in latency if (gate.slice or "") == slice_]
                thresholds = [one for found in thresholds_of(gates, exposure) for one in found]
                if thresholds:
                    self._levels[exposure.id, slice_] = levels_of(thresholds)

    # -- Live requests -------------------------------------------------------------------------------------------------

    def start(
        self,
        at_s: float,
        exposure: Exposure,
        role: Role,
        *,
        key: str | None = None,
        slices: Iterable[str] = (),
        copied: bool = False,
    ) -> Request:
        """Assign a request; `copied` says that the other variant gets a copy."""
        first = first_copy = None
        if key is not None:
            first = self.seen.first(STARTED, key, exposure.id)
            first_copy = self.seen.first(PAIR, key, exposure.id) if copied else None
        request = Request(exposure.id, role, math.floor(at_s), tuple(slices), key, first, first_copy)
        self._arrived(request, STARTED, ALL)
        if copied:
            self._paired(request, STARTED, ALL)
        return request

    def end(self, request: Request, outcome: str, latency_ms: float = 0.0) -> None:
        """End a request; `latency_ms` is how long the variant took, or how long it was waited for."""
        self._arrived(request, OUTCOME, outcome)
        if outcome in COMPARED_FAILURES and request.key is not None:
            last = self.seen.first(FAILURE, request.key, request.exposure)
            if last is not None:
                self._count(request, AFFINITY + FAILURE, request.role, f"{ALL}/{last}", arrived=True)
        bucket = latency_bucket(latency_ms)
        if outcome in ANSWERS or outcome == LATE:
            self._count(request, LATENCY, request.role, str(bucket))
        for slice_ in ("", *request.slices):
            levels = self._levels.get((request.exposure, slice_))
            if levels is None or outcome in DROPS:
                continue
            edges = levels.stable if request.role is Role.STABLE else levels.candidate
            self._arrived(request, LEVEL, str(level_of(edges, bucket)), [slice_])

    def _arrived(self, request: Request, metric: str, cell: str, slices: Iterable[str] | None = None) -> None:
        self._count(request, metric, request.role, cell, slices, arrived=True)
        if request.first is not None:
            self._count(request, AFFINITY + metric, request.role, f"{cell}/{request.first}", slices, arrived=True)

    # -- Copied requests -----------------------------------------------------------------------------------------------

    def compare(
        self, request: Request, stable: Outcome, candidate: Outcome, *, same: bool | None, distance: float | None = None
    ) -> None:
        """Both ends of a copied request are known."""
        missing = [f"{role}:{end}" for role, end in zip(Role, (stable, candidate), strict=True) if end not in ANSWERS]
        self._paired(request, PAIR, missing[0] if missing else BOTH)
        self._paired(request, AGREEMENT, {True: "same", False: "different", None: "not_compared"}[same])
        self._paired(request, PAIR_FAILURE, f"{failure_of(stable)}/{failure_of(candidate)}")
        if distance is not None:
            self._paired(request, DISTANCE, str(distance_bucket(distance)))

    def lose(self, request: Request) -> None:
        """Drop a pair on its way to the store."""
        self._paired(request, PAIR, LOST)

    def label(self, request: Request, truth: str, stable: str, candidate: str | None) -> None:
        """Join a label to a pair; None: the candidate has made no prediction."""
        last = None if request.key is None else self.seen.first(CORRECT, request.key, request.exposure)

        def of(class_: str) -> str:
            return f"{stable == class_:d}" + ("?" if candidate is None else f"{candidate == class_:d}")

        self._twice(request, CORRECT, of(truth), last)
        for class_ in {truth, stable, candidate} - {None}:
            self._twice(request, LABEL, f"{class_}:{truth == class_:d}{of(str(class_))}", last)

    def _paired(self, request: Request, metric: str, cell: str) -> None:
        self._twice(request, metric, cell, request.first_copy, arrived=True)

    def _twice(self, request: Request, metric: str, cell: str, last: int | None, *, arrived: bool = False) -> None:
        self._count(request, metric, PAIR_VARIANT, cell, arrived=arrived)
        if last is not None:
            self._count(request, AFFINITY + metric, PAIR_VARIANT, f"{cell}/{last}", arrived=arrived)

    # -- Counters ------------------------------------------------------------------------------------------------------

    def counters(self, now_s: float) -> Mapping[CounterKey, int]:
        """Return whole values of all counters; `now_s` is not before any event, nor before an earlier reading."""
        self._settle(math.floor(now_s))
        found = Counter(self._whole)
        for cut, age_s in zip(CUTS, (-1, 1, 5, self.timeout_s), strict=True):  # -1: this second too
            old = [self._settled, *(cells for second, cells in self._arrivals.items() if second + 1 + age_s <= now_s)]
            for cells in old:
                for key, number in cells.items():
                    found[key._replace(metric=key.metric + cut)] += number
        return found

    def size(self) -> int:
        """Return how many numbers are kept."""
        return len(self._whole) + len(self._settled) + sum(map(len, self._arrivals.values()))

    def _settle(self, now: int) -> None:
        self._settled_until = now - self.timeout_s
        for second in [second for second in self._arrivals if second < self._settled_until]:
            self._settled.update(self._arrivals.pop(second))

    def _count(
        self,
        request: Request,
        metric: str,
        variant: str,
        cell: str,
        slices: Iterable[str] | None = None,
        *,
        arrived: bool = False,
    ) -> None:
        """Count one cell, of requests by the second of `arrived`."""
        cells = self._whole
        if arrived:
            settled = request.second < self._settled_until
            cells = self._settled if settled else self._arrivals.setdefault(request.second, Counter())
        for slice_ in ("", *request.slices) if slices is None else slices:
            cells[CounterKey(request.exposure, metric, slice_, variant, cell)] += 1


def failure_of(end: Outcome) -> str:
    """Return the half of a PAIR_FAILURE cell that one end gives."""
    if end in FAILURES:
        return "fail"
    return "fine" if end in ANSWERS else "unknown"


# -- Whole exposures at once -------------------------------------------------------------------------------------------


def settled(
    exposure: Exposure, metric: str, variant: str, cells: Mapping[str, int], slice_: str = ""
) -> dict[CounterKey, int]:
    """Return counters of one metric of requests all of which arrived long ago, so at all cuts alike."""
    cuts = ("",) if metric.removeprefix(AFFINITY) in {LATENCY, CORRECT, LABEL} else CUTS
    return {
        CounterKey(exposure.id, metric + cut, slice_, variant, cell): n for cut in cuts for cell, n in cells.items()
    }


def served(
    exposure: Exposure,
    role: Role,
    ends: Mapping[str, int],
    *,
    open_: int = 0,
    levels: Mapping[str, int] | None = None,
    slice_: str = "",
) -> dict[CounterKey, int]:
    """Return counters of one variant's live requests: how they ended, and how many never did."""
    started = {ALL: sum(ends.values()) + open_}
    return {
        **settled(exposure, STARTED, role, started, slice_),
        **settled(exposure, OUTCOME, role, ends, slice_),
        **(settled(exposure, LEVEL, role, levels, slice_) if levels else {}),
    }


def paired(exposure: Exposure, metric: str, cells: Mapping[str, int], slice_: str = "") -> dict[CounterKey, int]:
    """Return counters of one metric of pairs; where they say how pairs ended, also that as many had begun."""
    begun = settled(exposure, STARTED, PAIR_VARIANT, {ALL: sum(cells.values())}, slice_) if metric == PAIR else {}
    return {**begun, **settled(exposure, metric, PAIR_VARIANT, cells, slice_)}
