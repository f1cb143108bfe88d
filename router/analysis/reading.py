"""From counters to the arrays that the gates ask for.

Axes of what is returned: gates (J), cuts in time (C, as `observations.CUTS`; length 1 where nothing is in flight), and
exposures (K). Where an affinity key keeps a user on one side, the unit is the key and not the request: then there is
an axis of start points (S) before K, because a key that is new to the evidence since one start is not new to that since
an earlier one (statistics.md rule 4).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.analysis.eprocess import Floats
from router.analysis.evidence import Evidence, Table
from router.analysis.gates import Arm, Paired
from router.core.levels import QUANTILES, Threshold, levels_of
from router.core.observations import (
    AFFINITY,
    AGREEMENT,
    ALL,
    ANSWERS,
    BOTH,
    COMPARED_FAILURES,
    CORRECT,
    CUTS,
    DISTANCE,
    DISTANCE_BUCKETS,
    DROPS,
    FAILURE,
    FAILURES,
    LABEL,
    LATE,
    LEVEL,
    LOST,
    NO_PREDICTION,
    OUTCOME,
    PAIR,
    PAIR_FAILURE,
    PAIR_VARIANT,
    STARTED,
    End,
    Outcome,
    distance_bucket,
)
from router.core.rollout import FULL_BP, Exposure, GateSpec
from router.core.traffic import Role

Gates = Sequence[GateSpec]
Names = tuple[str, ...]

# Against an absolute limit a cancelled request is unknown: nobody can say whose fault it was.
COMPARED_EVENTS: Names = (*sorted(COMPARED_FAILURES), LATE)
COMPARED_REST: Names = (Outcome.OK, Outcome.CLIENT_ERROR)
ENDINGS: Names = (*Outcome, LATE)
"""All cells of OUTCOME."""

ABSOLUTE_FAILURES: Names = tuple(sorted(FAILURES))
ABSOLUTE_REST: Names = (Outcome.OK, Outcome.CLIENT_ERROR, LATE)

CODES = tuple(format(cell, "03b") for cell in range(8))
"""Cells of LABEL are `<class>:<code>`, the digits being truth, stable and candidate, in the order of eprocess.CELLS."""

UNSAID = tuple(f"{code:02b}{NO_PREDICTION}" for code in range(4))

ONLY_STABLE_FAILED: Names = (f"{End.FAIL}/{End.FINE}",)
ONLY_CANDIDATE_FAILED: Names = (f"{End.FINE}/{End.FAIL}",)
ALIKE: Names = (f"{End.FINE}/{End.FINE}", f"{End.FAIL}/{End.FAIL}")
MISSING_STABLE: Names = tuple(f"{Role.STABLE}:{outcome}" for outcome in Outcome if outcome not in ANSWERS)
MISSING_CANDIDATE: Names = (*(f"{Role.CANDIDATE}:{outcome}" for outcome in Outcome if outcome not in ANSWERS), LOST)
"""Cells of PAIR: a copy was made and there is no answer of that variant's, whatever the reason."""

PAIR_ENDS: Names = (BOTH, *MISSING_STABLE, *(name for name in MISSING_CANDIDATE if name != LOST))
"""Cells of PAIR that pairs end in which have been read. Of a lost one nobody knows the slice: it stays open in each."""

Limits = Sequence[Sequence[Sequence[Threshold]]]
"""Thresholds by exposure, gate and quantile; none where they are not frozen."""

NO_CUTS = ("",)
_ALL_SLICES = GateSpec("all requests", "error_rate")


@dataclass(frozen=True, slots=True)
class Slow:
    """Slow answers of one variant as events, by QUANTILES: beyond the thresholds of harm, and of proof.

    Those of proof are of the present exposure at the oldest cut, the last along their axes.
    """

    for_harm: Sequence[Arm]
    for_proof: Sequence[Arm]


@dataclass(frozen=True, slots=True)
class Reading:
    """The evidence of one rollout, ready to be asked. `exposures` are all so far, oldest first; the last is present.

    `keyed` says that the Route has an affinity key.
    """

    evidence: Evidence
    exposures: Sequence[Exposure]
    keyed: bool

    @property
    def share(self) -> Floats:
        """Return the candidate's share of live requests in each exposure, (K,)."""
        return np.array([exposure.weight_bp / FULL_BP for exposure in self.exposures])

    def outcomes(self, gates: Gates, role: Role, *, absolute: bool = False) -> Arm:
        """Return failures as events: compared between the arms, or of one arm by itself (`absolute`)."""
        events = ABSOLUTE_FAILURES if absolute else COMPARED_EVENTS
        rest = ABSOLUTE_REST if absolute else COMPARED_REST
        started = self._begun(gates, OUTCOME, role, ENDINGS)
        return _arm(started, *self._sums(gates, OUTCOME, role, [events, rest]))

    def dropped(self, role: Role) -> Floats:
        """Return how many requests of one variant the gateway itself gave up, by exposure (K,)."""
        (found,) = self._sums([_ALL_SLICES], OUTCOME, role, [tuple(DROPS)], NO_CUTS)
        return np.asarray(found[0, 0, 0] if self.keyed else found[0, 0])

    def first_failures(self, gates: Gates, role: Role) -> Arm:
        """Return failures as events, each key's first one only; without keys all failures."""
        if not self.keyed:
            return self.outcomes(gates, role)
        (events,) = self._sums(gates, FAILURE, role, [(ALL,)])
        # Every request in flight since a start may become its key's first failure, so all of them are unknown, not
        # first requests only.
        unknown = Reading(self.evidence, self.exposures, keyed=False).outcomes(gates, role).unknown
        since = np.triu(np.ones((len(self.exposures), len(self.exposures))))
        return Arm(events, np.zeros_like(events), unknown[..., None, :] * since)

    def slow(self, gates: Gates, limits: Limits) -> Mapping[Role, Slow]:
        """Return answers beyond their threshold as events; `gates` are all latency gates, with their thresholds.

        Exposures whose thresholds are not frozen hold nothing.
        """
        edges = _edges(gates, limits)
        return {role: self._slow(gates, role, edges[role]) for role in Role}

    def _slow(self, gates: Gates, role: Role, first_slow: NDArray[np.int64]) -> Slow:
        """Do this for one variant; `first_slow` (2, Q, J, K) is the level that begins to be slow, _NEVER for none."""
        cut = first_slow[0, 0] < _NEVER  # (J, K)
        started = self._begun(gates, OUTCOME, role, ENDINGS)
        started = np.where(cut[:, None, None] if self.keyed else cut[:, None], started, 0.0)
        table, cells = self.evidence.table(self._unit(LEVEL), role), self._gather(LEVEL, role, gates, CUTS)
        (ended,) = self._added(table.last, cells, cut[None, ..., None])
        slow = np.array([int(name) for name in table.names], dtype=np.int64) >= first_slow[..., None]
        for_harm = [_arm(started, events, ended - events) for events in self._added(table.last, cells, slow[0])]
        if not self.keyed:  # proof asks for the present exposure at the oldest cut alone
            started, ended, cells, slow = (
                started[:, -1:, -1:],
                ended[:, -1:, -1:],
                cells[:, -1:, -1:],
                slow[..., -1:, :],
            )
        for_proof = [_arm(started, events, ended - events) for events in self._added(table.last, cells, slow[1])]
        return Slow(for_harm, for_proof)

    def copied_failures(self, gates: Gates) -> Paired:
        """Return who failed of the copied requests, in the order of `gates.CHANGES`."""
        return Paired(
            for_harm=self._changes(gates, lambda a, b: (a is not End.FINE, b is End.FAIL)),
            for_proof=self._changes(gates, lambda a, b: (a is End.FAIL, b is not End.FINE)),
            seen=np.stack(
                self._of_pairs(gates, PAIR_FAILURE, [ONLY_STABLE_FAILED, ALIKE, ONLY_CANDIDATE_FAILED]), axis=-1
            ),
        )

    def _changes(self, gates: Gates, fails: Callable[[End, End], tuple[bool, bool]]) -> Floats:
        names: dict[int, list[str]] = {-1: [], 0: [], 1: []}
        for a in End:
            for b in End:
                stable, candidate = fails(a, b)
                names[candidate - stable].append(f"{a}/{b}")
        changes = self._of_pairs(gates, PAIR_FAILURE, [tuple(names[change]) for change in (-1, 0, 1)])
        # Of a copy in flight neither end is known.
        stable, candidate = fails(End.UNKNOWN, End.UNKNOWN)
        changes[1 + candidate - stable] += self._open_pairs(gates, changes)
        return np.stack(changes, axis=-1)

    def _open_pairs(self, gates: Gates, ended: Sequence[Floats]) -> Floats:
        """Return how many copies have begun and not ended."""
        started = self._begun(gates, PAIR, PAIR_VARIANT, PAIR_ENDS)
        return np.maximum(started - sum(ended), 0.0)

    def copies(self, gates: Gates) -> Arm:
        """Return the candidate's failures in copied requests as events."""
        ends = [tuple(f"{a}/{end}" for a in End) for end in (End.FAIL, End.FINE, End.UNKNOWN)]
        fail, fine, unknown = self._of_pairs(gates, PAIR_FAILURE, ends)
        return Arm(fail, fine, unknown + self._open_pairs(gates, (fail, fine, unknown)))

    def disagreements(self, gates: Gates) -> Arm:
        """Return pairs that differ as events; copies without an answer of the candidate's, or not compared, as unknown.

        A pair without stable's answer is no pair: what stable answers is decided without the candidate.
        """
        events, rest = self._of_pairs(gates, AGREEMENT, [("different",), ("same",)])
        by_distance = [gate.beyond is not None for gate in gates]
        if any(by_distance):
            numeric = _along(by_distance, events)
            for table, far in ((events, True), (rest, False)):
                beyond = [self._beyond(gate, far=far) for gate in gates]
                np.copyto(table, np.concatenate(beyond), where=numeric)
        both, missing, no_pair = self._of_pairs(gates, PAIR, [(BOTH,), MISSING_CANDIDATE, MISSING_STABLE])
        uncompared = np.maximum(both - events - rest, 0.0)
        return Arm(events, rest, missing + uncompared + self._open_pairs(gates, (both, missing, no_pair)))

    def _beyond(self, gate: GateSpec, *, far: bool) -> Floats:
        """Return how many pairs of one gate have a distance beyond its own, or within it."""
        edge = -1 if gate.beyond is None else distance_bucket(gate.beyond)
        buckets = tuple(str(bucket) for bucket in range(DISTANCE_BUCKETS + 1) if (bucket > edge) is far)
        (found,) = self._of_pairs([gate], DISTANCE, [buckets])
        return found

    def right_answers(self, gates: Gates) -> Paired:
        """Return labelled pairs (J, 1, [S,] K, 4): both wrong, only the candidate right, only stable right, both right.

        For a gate of one class: among the rows whose truth is that class. A candidate without a prediction is right
        for harm, and wrong for proof.
        """
        cells = [(f"{stable}{candidate}",) for candidate in ("0", "1", NO_PREDICTION) for stable in ("0", "1")]
        neither, stable, candidate, both, unsaid, unsaid_stable = self._of_labels(gates, cells)
        answers = Paired(
            for_harm=np.stack([neither, candidate + unsaid, stable, both + unsaid_stable], axis=-1),
            for_proof=np.stack([neither + unsaid, candidate, stable + unsaid_stable, both], axis=-1),
            seen=np.stack([neither, candidate, stable, both], axis=-1),
        )
        if not any(gate.label for gate in gates):
            return answers
        of_class = self.joint_cells(gates)
        mine = _along([bool(gate.label) for gate in gates], neither)[..., None]
        return Paired(
            *(
                np.where(mine, joint[..., len(CODES) // 2 :], all_)
                for joint, all_ in (
                    (of_class.for_harm, answers.for_harm),
                    (of_class.for_proof, answers.for_proof),
                    (of_class.seen, answers.seen),
                )
            )
        )

    def joint_cells(self, gates: Gates) -> Paired:
        """Return labelled pairs (J, 1, [S,] K, 8) of the gate's class, in the order of `eprocess.CELLS`.

        A candidate without a prediction has told the class rightly for harm, and has not named it for proof.
        """
        table = self.evidence.table(self._unit(LABEL), PAIR_VARIANT)
        cells = self._gather(LABEL, PAIR_VARIANT, gates, NO_CUTS)
        found = np.concatenate([self._of_class(table, cells[j : j + 1], gate.label) for j, gate in enumerate(gates)])
        seen, unsaid = found[..., : len(CODES)], found[..., len(CODES) :]
        for_harm, for_proof = seen.copy(), seen.copy()
        # UNSAID is (truth, stable) in the order 00, 01, 10, 11; behind CODES follow the candidate's 0 and 1.
        for_harm[..., [0, 2, 5, 7]] += unsaid
        for_proof[..., [0, 2, 4, 6]] += unsaid
        return Paired(for_harm, for_proof, seen)

    def _of_class(self, table: Table, cells: Floats, label: str | None) -> Floats:
        """Return cells (1, 1, K, L) of one class as (1, 1, [S,] K, 12), in the order of CODES and UNSAID.

        Class by class, since each has few of up to thousands of cells: keys have one for each exposure they were in.
        """
        places = {f"{label}:{code}": place for place, code in enumerate((*CODES, *UNSAID))}
        columns = [column for column, name in enumerate(table.names) if name in places]
        at = np.array([places[table.names[column]] for column in columns], dtype=np.intp)
        masks = (at == np.arange(len(places))[:, None])[:, None, None]
        return np.stack(self._added(table.last[columns], cells[..., columns], masks), axis=-1)

    def histogram(self, gates: Gates, role: Role) -> Floats:
        """Return the present exposure's answers of one variant by latency bucket, (J, buckets), of all requests."""
        return self.evidence.histogram([gate.slice or "" for gate in gates], role, self.exposures[-1])

    def _begun(self, gates: Gates, metric: str, variant: str, ends: Names) -> Floats:
        """Return how many began that end as `ends` of `metric`.

        A gateway reads a request's slice when it has ended. Of a slice, those that ended in it and all that are open in
        the Route have begun: more than is true, and each of them unknown, so that the bounds stay bounds.
        """
        (started,) = self._sums(gates, STARTED, variant, [(ALL,)])
        if not any(gate.slice for gate in gates):
            return started
        (ended,) = self._sums(gates, metric, variant, [ends])
        everything = [_ALL_SLICES] * len(gates)
        (began,) = self._sums(everything, STARTED, variant, [(ALL,)])
        (over,) = self._sums(everything, metric, variant, [ends])
        untold = _along([bool(gate.slice) for gate in gates], started) & (started == 0)
        return np.where(untold, ended + np.maximum(began - over, 0.0), started)

    def _of_pairs(self, gates: Gates, metric: str, names: Sequence[Names]) -> list[Floats]:
        return self._sums(gates, metric, PAIR_VARIANT, names)

    def _of_labels(self, gates: Gates, names: Sequence[Names]) -> list[Floats]:
        return self._sums(gates, CORRECT, PAIR_VARIANT, names, NO_CUTS)

    def _sums(
        self, gates: Gates, metric: str, variant: str, names: Sequence[Names], cuts: Sequence[str] = CUTS
    ) -> list[Floats]:
        """Return the sum over each group of cells, by gate, cut and exposure."""
        table = self.evidence.table(self._unit(metric), variant)
        masks = np.array([[name in group for name in table.names] for group in names], dtype=bool)
        masks = masks.reshape(len(names), len(table.names))
        cells = self._gather(metric, variant, gates, cuts)
        if self.keyed:
            return self._added(table.last, cells, masks[:, None, None])
        sums = cells @ masks.T.astype(np.float64)  # whole numbers: exact in any order
        return [sums[..., group] for group in range(len(names))]

    def _unit(self, metric: str) -> str:
        return AFFINITY + metric if self.keyed else metric

    def _gather(self, metric: str, variant: str, gates: Gates, cuts: Sequence[str]) -> Floats:
        """Return all cells of a metric, (J, C, K, L)."""
        table = self.evidence.table(self._unit(metric), variant)
        return table.gather([gate.slice or "" for gate in gates], cuts, self.exposures)

    def _added(self, last: NDArray[np.int64], cells: Floats, masks: NDArray[np.bool_]) -> list[Floats]:
        """Return the sums of cells (J, C, K, L) under each mask (N, J, K, L): (J, C, K), or (J, C, S, K) with keys.

        With keys, a cell counts for the evidence since a start if its keys were last counted (`last`, (L,)) before that
        start.
        """
        if not self.keyed:
            return [(cells * mask[:, None]).sum(axis=-1) for mask in masks]
        starts = np.array([exposure.id for exposure in self.exposures])
        new = (last < starts[:, None])[:, None] & (starts[:, None] <= starts)[..., None]  # (S, K, L)
        return [(cells[:, :, None] * (mask[:, None, None] & new)).sum(axis=-1) for mask in masks]


_NEVER = np.iinfo(np.int64).max


def _edges(gates: Gates, limits: Limits) -> Mapping[Role, NDArray[np.int64]]:
    """Return the first slow level of each variant, (2, Q, J, K): as harm and as proof count it.

    Levels are cut by the thresholds of all gates of a slice together.
    """
    stable: list[list[list[tuple[int, int]]]] = []
    candidate: list[list[list[tuple[int, int]]]] = []
    for by_gate in limits:
        of_slice: dict[str | None, list[Threshold]] = {}
        for gate, thresholds in zip(gates, by_gate, strict=True):
            of_slice.setdefault(gate.slice, []).extend(thresholds)
        cuts = {slice_: levels_of(thresholds) for slice_, thresholds in of_slice.items()}
        stable.append([])
        candidate.append([])
        for gate, thresholds in zip(gates, by_gate, strict=True):
            cut = cuts[gate.slice]
            a, b = cut.stable, cut.candidate
            firsts = [(a.index(one.stable) + 1, b.index(one.harm) + 1, b.index(one.proof) + 1) for one in thresholds]
            firsts = firsts or [(_NEVER, _NEVER, _NEVER)] * len(QUANTILES)
            stable[-1].append([(first, first) for first, _, _ in firsts])
            candidate[-1].append([(harm, proof) for _, harm, proof in firsts])
    # (K, J, Q, 2) as they are made
    return {
        role: np.array(found, dtype=np.int64).transpose(3, 2, 1, 0)
        for role, found in ((Role.STABLE, stable), (Role.CANDIDATE, candidate))
    }


def _arm(started: Floats, events: Floats, rest: Floats) -> Arm:
    return Arm(events, rest, np.maximum(started - events - rest, 0.0))


def _along(values: Sequence[bool], like: Floats) -> NDArray[np.bool_]:
    """Return one value for each gate, shaped to broadcast along the other axes of `like` (J, ...)."""
    return np.array(values).reshape(-1, *([1] * (like.ndim - 1)))
