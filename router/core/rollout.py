"""The rollout of one Route: what was asked for (Spec), where it stands (RolloutState), and how it moves.

Everything that changes a RolloutState lives in this file, and `apply` is the only door. Which move is possible in
which phase is the table TRANSITIONS: a missing key is the refusal. Whether a move is *safe* is decided
before, by `router.core.decisions.guard`.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from router.core import decisions as d
from router.core.errors import IllegalTransitionError
from router.core.slices import may_follow

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL_BP = 10_000
"""All traffic, in basis points; also the number of hash buckets."""


class Phase(StrEnum):
    """Where a Route's rollout is; `IDLE` is a Route that has none."""

    IDLE = "idle"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Step:
    """One planned level of exposure and what must hold before it is left.

    `weight_bp` and `mirror_bp` are 0..10000. `min_requests` counts the candidate's live answers, `min_pairs`
    complete pairs, both within the step's exposure. Empty `gates` means all gates of the Spec.
    """

    weight_bp: int = 0
    mirror_bp: int = 0
    bake_s: float = 60.0
    min_requests: int = 0
    min_pairs: int = 0
    approval: bool = False
    gates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A question with a threshold, as the operator asked it.

    Rates and ratios are fractions (0.005 is half a percentage point for `error_rate`, 0.1 is 10 % for `latency`).
    Exactly one of `max_increase` (for metrics of which more is better: the decrease), `maximum`, `minimum` is set.
    `tolerance` is the rollback margin; None means half of the promotion margin. `slack_ms` is added to latency
    thresholds, so that a model of 0.2 ms may take 1 ms. `beyond` is the distance above which a pair disagrees; None
    means that the comparator says so itself.
    """

    name: str
    metric: str
    max_increase: float | None = None
    maximum: float | None = None
    minimum: float | None = None
    tolerance: float | None = None
    label: str | None = None
    slice: str | None = None
    dry_run: bool = False
    weight: float = 1.0
    slack_ms: float = 2.0
    beyond: float | None = None
    slices: str | None = None
    """`each`: asked of every slice of the Route by itself, for harm only."""

    @property
    def margin(self) -> float:
        """The promotion margin: `max_increase` or `maximum`; 0 for a floor."""
        if self.max_increase is not None:
            return self.max_increase
        return 0.0 if self.maximum is None else self.maximum

    @property
    def rollback_margin(self) -> float:
        """The margin up to which the judge never rolls back: `tolerance`, or half of the promotion margin."""
        return self.margin / 2 if self.tolerance is None else self.tolerance


@dataclass(frozen=True, slots=True)
class Asked:
    """Gates that a recorded rollout is asked about. `alpha` and `beta` None mean those of the rollout."""

    gates: tuple[GateSpec, ...]
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """When a replica takes the candidate's traffic away by itself, and what it proposes to the fleet."""

    consecutive: int = 5
    window: int = 20
    ratio_bp: int = 5_000
    fleet: str = "halt"


@dataclass(frozen=True, slots=True)
class NoDataSpec:
    """What happens when no evidence arrives for `after_s` seconds; `action` is `pause` or `abort`."""

    after_s: float = 600.0
    action: str = "pause"


@dataclass(frozen=True, slots=True)
class Spec:
    """One attempt to replace stable by candidate, as asked for. Empty `steps` means the policy's own plan."""

    candidate: str
    policy: str
    steps: tuple[Step, ...] = ()
    gates: tuple[GateSpec, ...] = ()
    alpha: float = 0.01
    beta: float = 0.05
    breaker: BreakerSpec = BreakerSpec()
    no_data: NoDataSpec = NoDataSpec()
    on_inconclusive: str = "pause"
    max_duration_s: float = 7 * 86_400.0
    rollback_window_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Exposure:
    """A period of constant policy and shares; the stratum of all evidence.

    `id` is the revision of the state that opened it, so it only grows within a Route. `since_s` is wall-clock
    time in seconds. `thresholds` are numbers frozen when it opened (latency quantiles), by name.
    """

    id: int
    weight_bp: int
    mirror_bp: int
    policy: str
    since_s: float
    thresholds: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutState:
    """Where one Route stands; replaced whole, written by compare-and-set on `revision` and `epoch`.

    `id` is empty while the Route is idle. After a promotion `stable` is the promoted variant and
    `previous_stable` the one that `Undo` would bring back. `step` indexes `steps`.
    """

    route: str
    stable: str
    revision: int
    epoch: int
    phase: Phase
    reason: str
    exposure: Exposure
    past: tuple[Exposure, ...] = ()
    """The exposures of this rollout before the present one, oldest first: the strata of its evidence."""
    id: str = ""
    spec: Spec | None = None
    steps: tuple[Step, ...] = ()
    step: int = 0
    approved: bool = False
    started_s: float = 0.0
    previous_stable: str = ""
    seen_blocks: tuple[str, ...] = ()
    """Hashes of the rollout blocks ever started here, oldest first, so that a file never starts one twice."""
    halted: bool = False
    """Whether a breaker has taken the weight away: an operator's Resume gives back the step's own shares."""
    slices: tuple[str, ...] = ()
    """The places of this rollout's slices (`router.core.slices`): their number, and what has one, never changes."""
    unknown: tuple[tuple[str, str], ...] = field(default=(), compare=False, kw_only=True)
    """Fields that a newer version wrote, name and JSON: carried through every move, so that an older process that
    decides does not take them away. Two states that differ in nothing else are equal."""

    @property
    def candidate(self) -> str:
        """The variant on trial, or the empty string while the Route is idle."""
        return self.spec.candidate if self.spec else ""

    @property
    def attempt(self) -> int:
        """Which attempt of its block this rollout is, from 1; its id says so."""
        number = self.id.rpartition(".")[2]
        return int(number) if number.isdecimal() else 1

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """All exposures of this rollout, oldest first; the last is the present one."""
        return (*self.past, self.exposure)

    @property
    def policy(self) -> str:
        """Name of the policy that set the present exposure; empty while the Route is idle."""
        return self.exposure.policy

    @property
    def active(self) -> bool:
        """Whether a rollout is under way, so that the candidate may have traffic."""
        return self.phase in (Phase.PROGRESSING, Phase.PAUSED)


EXPOSURES = 50
"""How many exposures a rollout may have. Chosen: with affinity keys the judge's work grows with their square, 0.14 s at
60; a plan has ten, so this leaves an operator forty changes of mind. The weight may be lowered at any time."""

SEEN_BLOCKS = 64
"""How many block hashes a state remembers. Chosen; a file holds one block, so this is 64 edits of the file."""


def block_hash_of(rollout_id: str) -> str:
    """Return the block's part of a rollout id `<hash of the block>.<attempt>`."""
    return rollout_id.rpartition(".")[0]


def idle_state(route: str, stable: str, now_s: float) -> RolloutState:
    """Return the state of a Route that the store has never seen: all traffic on `stable`, revision 0."""
    return RolloutState(
        route=route,
        stable=stable,
        revision=0,
        epoch=0,
        phase=Phase.IDLE,
        reason="no rollout yet",
        exposure=Exposure(id=0, weight_bp=0, mirror_bp=0, policy="", since_s=now_s),
    )


TRANSITIONS: "Mapping[tuple[Phase, type[d.Decision]], Phase]" = {
    (Phase.IDLE, d.Hold): Phase.IDLE,
    (Phase.IDLE, d.Start): Phase.PROGRESSING,
    (Phase.PROGRESSING, d.Hold): Phase.PROGRESSING,
    (Phase.PROGRESSING, d.Approve): Phase.PROGRESSING,
    (Phase.PROGRESSING, d.SetExposure): Phase.PROGRESSING,
    (Phase.PROGRESSING, d.SetPolicy): Phase.PROGRESSING,
    (Phase.PROGRESSING, d.GivePlaces): Phase.PROGRESSING,
    (Phase.PROGRESSING, d.Advance): Phase.PROGRESSING,
    (Phase.PROGRESSING, d.Pause): Phase.PAUSED,
    (Phase.PROGRESSING, d.Promote): Phase.PROMOTED,
    (Phase.PROGRESSING, d.RollBack): Phase.ROLLED_BACK,
    (Phase.PAUSED, d.Hold): Phase.PAUSED,
    (Phase.PAUSED, d.Approve): Phase.PAUSED,
    (Phase.PAUSED, d.Resume): Phase.PROGRESSING,
    (Phase.PAUSED, d.SetExposure): Phase.PAUSED,
    (Phase.PAUSED, d.SetPolicy): Phase.PAUSED,
    (Phase.PAUSED, d.GivePlaces): Phase.PAUSED,
    (Phase.PAUSED, d.Advance): Phase.PROGRESSING,
    (Phase.PAUSED, d.Promote): Phase.PROMOTED,
    (Phase.PAUSED, d.RollBack): Phase.ROLLED_BACK,
    (Phase.PROMOTED, d.Hold): Phase.PROMOTED,
    (Phase.PROMOTED, d.Undo): Phase.ROLLED_BACK,
    (Phase.PROMOTED, d.Start): Phase.PROGRESSING,
    (Phase.ROLLED_BACK, d.Hold): Phase.ROLLED_BACK,
    (Phase.ROLLED_BACK, d.Start): Phase.PROGRESSING,
}
"""(phase, kind of decision) -> phase after it. A pair that is not here is refused."""


def legal_moves(phase: Phase) -> tuple[str, ...]:
    """Return the names of the decisions that are possible in `phase`, sorted, without `hold`."""
    return tuple(sorted(move.kind for at, move in TRANSITIONS if at is phase and move is not d.Hold))


def apply(
    state: RolloutState, decision: "d.Decision", now_s: float, thresholds: tuple[tuple[str, float], ...] = ()
) -> RolloutState:
    """Return the state after `decision`, one revision later; `Hold` gives back the same state.

    A new Exposure opens (its id is the new revision) whenever weight or mirror change, and with each Start, Advance and
    SetPolicy, whose steps have clocks and counts of their own; `thresholds` are what it freezes, but for a Start, which
    has no past. Raises IllegalTransitionError, and changes nothing, where TRANSITIONS has no entry, there is no next
    step, a slice would lose its place, or one more exposure than EXPOSURES would open and the weight not fall.
    """
    phase = TRANSITIONS.get((state.phase, type(decision)))
    if phase is None:
        raise IllegalTransitionError(state.phase, decision.kind, legal_moves(state.phase))
    if isinstance(decision, d.Hold):
        return state
    moved = replace(state, phase=phase, revision=state.revision + 1, reason=decision.reason)
    after = _effect(moved, decision, now_s)
    opened = after.exposure is not moved.exposure
    raised = after.active and after.exposure.weight_bp >= state.exposure.weight_bp
    if opened and raised and len(after.past) >= EXPOSURES:
        why = f"this rollout has changed its shares {EXPOSURES} times; abort and retry, or promote --full"
        raise IllegalTransitionError(state.phase, decision.kind, ("promote", "roll_back"), why)
    if not opened or isinstance(decision, d.Start):
        return after
    return replace(after, exposure=replace(after.exposure, thresholds=thresholds))


def _effect(  # noqa: C901, PLR0911, PLR0912 - one case for each kind of decision
    state: RolloutState, decision: "d.Decision", now_s: float
) -> RolloutState:
    """What each decision does beyond phase, revision and reason."""
    match decision:
        case d.Start():
            fresh = replace(
                state, id=decision.rollout_id, spec=decision.spec, steps=decision.steps, started_s=now_s,
                previous_stable="", seen_blocks=_remember(state.seen_blocks, block_hash_of(decision.rollout_id)),
                slices=decision.slices,
            )  # fmt: skip
            opened = _enter_step(fresh, 0, decision.spec.policy, now_s)
            # Same shares as the rollout before, yet other users: a rollout never continues the evidence of another.
            return replace(
                opened, exposure=replace(opened.exposure, id=state.revision, since_s=now_s, thresholds=()), past=()
            )
        case d.SetPolicy():
            planned = replace(state, steps=decision.steps)
            return _enter_step(planned, 0, decision.policy, now_s)
        case d.Advance():
            if state.step + 1 >= len(state.steps):
                why = f"step {state.step + 1} of {len(state.steps)} is the last"
                raise IllegalTransitionError(state.phase, decision.kind, ("promote", "roll_back"), why)
            return _enter_step(state, state.step + 1, state.policy, now_s)
        case d.SetExposure():
            weight_bp = state.exposure.weight_bp if decision.weight_bp is None else decision.weight_bp
            mirror_bp = state.exposure.mirror_bp if decision.mirror_bp is None else decision.mirror_bp
            halted = not weight_bp and (state.halted or decision.actor.kind is d.ActorKind.BREAKER)
            return replace(_expose(state, state.policy, weight_bp, mirror_bp, now_s), halted=halted)
        case d.Approve():
            return replace(state, approved=True)
        case d.GivePlaces():
            if not may_follow(state.slices, decision.slices):
                raise IllegalTransitionError(state.phase, decision.kind, (), "a slice keeps its place for the rollout")
            return replace(state, slices=decision.slices)
        case d.Promote():
            switched = replace(state, stable=state.candidate, previous_stable=state.stable, halted=False)
            return _open(switched, state.policy, 0, 0, now_s)  # always: it says since when there is something to undo
        case d.Undo():
            back = replace(state, stable=state.previous_stable, previous_stable="")
            return _expose(back, state.policy, 0, 0, now_s)
        case d.RollBack():
            return _expose(replace(state, halted=False), state.policy, 0, 0, now_s)
        case d.Resume():
            resumed = replace(state, started_s=now_s)  # an operator who goes on gives it max_duration anew
            step = state.steps[state.step]
            return _open(resumed, state.policy, step.weight_bp, step.mirror_bp, now_s) if state.halted else resumed
        case d.Pause() | d.Hold():
            return state
        case _:
            assert_never(decision)


def _remember(seen: tuple[str, ...], block: str) -> tuple[str, ...]:
    return (*(one for one in seen if one != block), block)[-SEEN_BLOCKS:]


def _enter_step(state: RolloutState, index: int, policy: str, now_s: float) -> RolloutState:
    step = state.steps[index]
    entered = replace(state, step=index, approved=False)
    return _open(entered, policy, step.weight_bp, step.mirror_bp, now_s)


def _expose(state: RolloutState, policy: str, weight_bp: int, mirror_bp: int, now_s: float) -> RolloutState:
    old = state.exposure
    same = (old.policy, old.weight_bp, old.mirror_bp) == (policy, weight_bp, mirror_bp)
    return state if same else _open(state, policy, weight_bp, mirror_bp, now_s)


def _open(state: RolloutState, policy: str, weight_bp: int, mirror_bp: int, now_s: float) -> RolloutState:
    opened = Exposure(state.revision, weight_bp, mirror_bp, policy, now_s)
    return replace(state, exposure=opened, past=(*state.past, state.exposure), halted=False)
