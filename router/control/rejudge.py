"""What other gates would have said of a recorded rollout, and what control would have done by them. Pure.

The record holds counters, not requests, so not every question can be put to it afterwards. What cannot be told is said
for each gate with the reason, and the gate is left out: nothing is guessed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from router.analysis.evidence import Evidence
from router.control.judging import judgement_of
from router.control.ramp import next_move, propose
from router.core.basis import Basis, Facts
from router.core.decisions import Advance, Decision, DecisionRecord, Hold, Judgement, Promote, RollBack
from router.core.levels import Levels, levels_of, thresholds_of
from router.core.observations import AFFINITY, CORRECT, DISTANCE, LABEL, LEVEL, CounterKey, latency_edge_ms
from router.core.ports import RolloutPolicy
from router.core.rollout import Asked, Exposure, GateSpec, RolloutState
from router.core.traffic import Role

Counters = Mapping[CounterKey, int]


@dataclass(frozen=True, slots=True)
class Moment:
    """A recorded moment of a rollout, and the decision that was made there, if any."""

    basis: Basis
    decided: DecisionRecord | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """What the gates say at one moment, and what control `would` have done there; a Hold has its reason."""

    moment: Moment
    judgement: Judgement
    would: Decision


@dataclass(frozen=True, slots=True)
class Rejudged:
    """All points of one rollout, oldest first; `untold` are the gates that its record cannot answer, with the reason.

    After the first point at which these gates would have rolled back, the evidence would not have been seen.
    """

    gates: tuple[GateSpec, ...]
    untold: tuple[tuple[str, str], ...]
    points: tuple[Point, ...]

    @property
    def rolled_back(self) -> Point | None:
        """The first point at which they would have rolled back."""
        return next((point for point in self.points if isinstance(point.would, RollBack)), None)

    @property
    def held(self) -> Point | None:
        """The first point at which control went on and they would have waited."""
        return next((point for point in self.points if _went_on(point) and isinstance(point.would, Hold)), None)

    @property
    def sooner(self) -> Point | None:
        """The first point at which control did not go on and they would have."""
        return next(
            (one for one in self.points if isinstance(one.would, Advance | Promote) and not _went_on(one)), None
        )


def _went_on(point: Point) -> bool:
    decided = point.moment.decided
    return decided is not None and decided.kind in (Advance.kind, Promote.kind)


def rejudge(moments: Sequence[Moment], asked: Asked, policies: Mapping[str, RolloutPolicy]) -> Rejudged:
    """Return what `asked` would have done at the moments of one rollout, in any order.

    Moments at which no rollout was under way, or without counters, hold nothing to judge and are left out.
    """
    under_way = [one for one in moments if one.basis.state.active and one.basis.counters is not None]
    in_order = sorted(under_way, key=lambda one: (one.basis.now_s, one.basis.state.revision))
    if not in_order:
        return Rejudged((), (), ())
    last = in_order[-1].basis
    untold = {gate.name: why for gate in asked.gates if (why := untold_of(gate, last)) is not None}
    gates = tuple(gate for gate in asked.gates if gate.name not in untold)
    points = tuple(_point(one, replace(asked, gates=gates), policies) for one in in_order)
    return Rejudged(gates, tuple(untold.items()), points)


def untold_of(gate: GateSpec, last: Basis) -> str | None:  # noqa: PLR0911 - one for each reason
    """Say why a record cannot answer this gate, None if it can; `last` is the last moment of the rollout."""
    counters, spec = last.counters or {}, last.state.spec
    counted = {(key.metric.removeprefix(AFFINITY).partition("@")[0], key.cell) for key in counters}
    if gate.slice is not None and not any(key.slice == gate.slice for key in counters):
        return f"requests of slice {gate.slice} were not counted by themselves"
    if gate.slices is not None and not last.state.slices:
        return "no slices were counted in this rollout"
    if gate.metric == "latency":
        return _untold_latency(gate, () if spec is None else spec.gates, last.state.exposures)
    if gate.metric == "accuracy" and not any(metric == CORRECT for metric, _ in counted):
        return "no true labels came back in this rollout"
    if gate.label is not None and not any(m == LABEL and cell.startswith(f"{gate.label}:") for m, cell in counted):
        return f"no true labels of class {gate.label} were counted in this rollout"
    if gate.beyond is not None and not any(metric == DISTANCE for metric, _ in counted):
        return "the comparator of this route gave no distances"
    return None


def _untold_latency(gate: GateSpec, before: Sequence[GateSpec], exposures: Sequence[Exposure]) -> str | None:
    alike = [one for one in before if one.metric == "latency" and one.slice == gate.slice]
    if not alike:
        return "the rollout had no latency gate for these requests, so no threshold was frozen to count by"
    for exposure in exposures:
        counted = _levels(alike, exposure)
        for threshold in thresholds_of([gate], exposure)[0]:
            missing = {threshold.harm, threshold.proof} - set(counted.candidate)
            if missing or threshold.stable not in counted.stable:
                asked_ms = ", ".join(f"{latency_edge_ms(one):.3g} ms" for one in sorted(missing))
                counted_ms = ", ".join(f"{latency_edge_ms(one):.3g} ms" for one in counted.candidate)
                return (
                    "latencies were counted by the frozen thresholds of the rollout's own gates: in exposure "
                    f"{exposure.id} at {counted_ms}, and this gate asks for {asked_ms}"
                )
    return None


def _levels(gates: Sequence[GateSpec], exposure: Exposure) -> Levels:
    return levels_of(one for found in thresholds_of(gates, exposure) for one in found)


def _point(moment: Moment, asked: Asked, policies: Mapping[str, RolloutPolicy]) -> Point:
    basis = moment.basis
    state = _with_gates(basis.state, asked)
    evidence = Evidence(_relevelled(basis, asked.gates))
    judgement = judgement_of(state, evidence, keyed=basis.keyed, ages=basis.ages)
    facts = Facts() if basis.facts is None else basis.facts
    proposal = propose(policies[state.policy], state, judgement, facts, basis.now_s)
    return Point(moment, judgement, next_move(state, proposal, judgement, basis.now_s, basis.outside).decision)


def _with_gates(state: RolloutState, asked: Asked) -> RolloutState:
    """Return the state as if it had been started with these gates; a step that named none of them asks for all."""
    assert state.spec is not None  # noqa: S101 - a rollout under way has one
    names = {gate.name for gate in asked.gates}
    spec = replace(
        state.spec,
        gates=asked.gates,
        alpha=state.spec.alpha if asked.alpha is None else asked.alpha,
        beta=state.spec.beta if asked.beta is None else asked.beta,
    )
    steps = tuple(replace(step, gates=tuple(name for name in step.gates if name in names)) for step in state.steps)
    return replace(state, spec=spec, steps=steps)


def _relevelled(basis: Basis, gates: Sequence[GateSpec]) -> Counters:
    """Return the counters with latency levels cut as these gates cut them: several of the recorded ones become one."""
    counters, spec = basis.counters or {}, basis.state.spec
    before = () if spec is None else spec.gates
    moves = {
        (exposure.id, slice_, str(role)): _merged(getattr(of_old, role), getattr(of_new, role))
        for exposure in basis.state.exposures
        for slice_, of_old, of_new in _by_slice(before, gates, exposure)
        for role in Role
        if of_old != of_new
    }
    if not moves:
        return counters
    found: dict[CounterKey, int] = {}
    for key, value in counters.items():
        merged = moves.get((key.exposure, key.slice, key.variant))
        if merged is not None and key.metric.removeprefix(AFFINITY).partition("@")[0] == LEVEL:
            level, bar, rest = key.cell.partition("/")
            key = key._replace(cell=f"{merged[int(level)]}{bar}{rest}")  # noqa: PLW2901 - the same counter, renamed
        found[key] = found.get(key, 0) + value
    return found


def _by_slice(
    before: Sequence[GateSpec], gates: Sequence[GateSpec], exposure: Exposure
) -> Iterator[tuple[str, Levels, Levels]]:
    for slice_ in {gate.slice for gate in gates if gate.metric == "latency"}:
        old, new = (
            _levels([gate for gate in some if gate.metric == "latency" and gate.slice == slice_], exposure)
            for some in (before, gates)
        )
        yield slice_ or "", old, new


def _merged(old: tuple[int, ...], new: tuple[int, ...]) -> Sequence[int]:
    """Return for each recorded level 0..len(old) how many of the `new` edges a latency in it exceeds."""
    return [sum(edge in new for edge in old[:level]) for level in range(len(old) + 1)]
