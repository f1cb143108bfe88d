"""Decisions, the judgement they rest on, and the guard through which every one of them goes.

A Decision is plain data: what shall happen, why, and who says so. Policies and operators propose; `guard` disposes.
Safety lives in `guard` and nowhere else.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.core.basis import Basis
    from router.core.rollout import RolloutState, Spec, Step


class Verdict(StrEnum):
    """Of one gate. ERROR means "could not measure", which is not "bad"."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class ActorKind(StrEnum):
    """What sort of being asked for a decision."""

    OPERATOR = "operator"
    CONTROL = "control"
    BREAKER = "breaker"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: the kind decides what `guard` lets through, the name is for the record."""

    kind: ActorKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    @classmethod
    def parse(cls, text: str) -> "Actor":
        """Read back what `str(actor)` wrote; raises ValueError on an unknown kind."""
        kind, _, name = text.partition(":")
        return cls(ActorKind(kind), name)


CONTROL = Actor(ActorKind.CONTROL)
"""The control loop itself."""


FORMULA = "turnout-judge/1"
"""Version of the judge's formulas, kept with every judgement: a replay by another version may differ."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate says now: its verdict, one plain sentence, and every number behind them.

    `estimate` is what the gate limits, in its own unit (a difference of rates, a ratio minus 1, a rate), within
    `low`..`high`: values below `low` are refuted with the certainty that a rollback asks for, values above `high` with
    the one that promotion asks for, whenever one looks. `margin` and `tolerance` are the limits of promotion and
    rollback. `log_e_harm` is the logarithm of the evidence of harm, FAIL from `harm_at` on; `log_e_proof` that of no
    harm in the present exposure, PASS from `proof_at` on. `counts` are the numbers they follow from, by name.
    `more_requests` is how many more are needed to pass if all goes on like this, None where that cannot be said.
    `slice` names the slice it is about, empty for all requests; `proves` is False of a gate that looks for harm only.
    """

    gate: str
    verdict: Verdict
    sentence: str
    rule: str = ""
    enforced: bool = True
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float = 0.0
    tolerance: float = 0.0
    log_e_harm: float = 0.0
    harm_at: float = 0.0
    log_e_proof: float = 0.0
    proof_at: float = 0.0
    counts: tuple[tuple[str, int], ...] = ()
    more_requests: int | None = None
    slice: str = ""
    proves: bool = True


@dataclass(frozen=True, slots=True)
class Counts:
    """How much evidence the present exposure holds."""

    requests_stable: int = 0
    requests_candidate: int = 0
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """All gates together. `invalid` holds the reason why the evidence cannot be relied on, or None.

    `harm` says why there is too much evidence of harm to go on to the next step, though not enough to roll back; None
    when there is not. `log_e` is the logarithm of the weighted average of evidence of harm over all enforced gates,
    `rollback` from `rollback_at` on. `formula` names the version of the formulas, empty when nothing was judged.
    `thresholds` are stable's latency quantiles until now, for the exposure that opens next. `exposed_s` and `running_s`
    say how long the present exposure and the rollout have lasted, by clocks that never jump; None where nobody has
    measured, then the state's wall-clock seconds are all there is.
    """

    rollback: bool = False
    promote: bool = False
    invalid: str | None = None
    harm: str | None = None
    reason: str = "not judged"
    log_e: float = 0.0
    rollback_at: float = 0.0
    formula: str = ""
    counts: Counts = Counts()
    gates: tuple[GateResult, ...] = ()
    thresholds: tuple[tuple[str, float], ...] = ()
    exposed_s: float | None = None
    running_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    """What every decision carries: one sentence why, and who asks."""

    kind: ClassVar[str]
    reason: str
    actor: Actor = CONTROL


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(_Proposal):
    """Change nothing; the reason says what is waited for."""

    kind: ClassVar[str] = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(_Proposal):
    """Begin a rollout with a fresh id; `steps` is the plan the policy made of `spec`."""

    kind: ClassVar[str] = "start"
    rollout_id: str
    spec: "Spec"
    steps: "tuple[Step, ...]"
    slices: tuple[str, ...] = ()
    """The places of its slices (`router.core.slices`); none where the Route has no slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(_Proposal):
    """Go to the next step."""

    kind: ClassVar[str] = "advance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(_Proposal):
    """Stop moving; traffic stays as it is."""

    kind: ClassVar[str] = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(_Proposal):
    """Go on after a pause."""

    kind: ClassVar[str] = "resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve(_Proposal):
    """A person agrees that the present step may be left."""

    kind: ClassVar[str] = "approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetExposure(_Proposal):
    """Set weight, mirror or both, in basis points 0..10000; None leaves one as it is."""

    kind: ClassVar[str] = "set_exposure"
    weight_bp: int | None = None
    mirror_bp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPolicy(_Proposal):
    """Go on under another policy, at the first step of its plan."""

    kind: ClassVar[str] = "set_policy"
    policy: str
    steps: "tuple[Step, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivePlaces(_Proposal):
    """Give free places to slices, for the rest of the rollout; `slices` are all places as they shall be."""

    kind: ClassVar[str] = "give_places"
    slices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(_Proposal):
    """Make the candidate the stable variant. `full` is the operator's word instead of the judge's."""

    kind: ClassVar[str] = "promote"
    full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack(_Proposal):
    """Take the candidate's traffic away for good; only a new rollout id brings it back."""

    kind: ClassVar[str] = "roll_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(_Proposal):
    """After a promotion: put the previous stable variant back."""

    kind: ClassVar[str] = "undo"


Decision = (
    Hold | Start | Advance | Pause | Resume | Approve | SetExposure | SetPolicy | GivePlaces | Promote | RollBack | Undo
)

DECISIONS: tuple[type[Decision], ...] = (
    Hold, Start, Advance, Pause, Resume, Approve, SetExposure, SetPolicy, GivePlaces, Promote, RollBack, Undo,
)  # fmt: skip
"""Every kind of decision, in the order of the glossary."""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One line of the ledger: what was decided, by whom, on what, and what it changed."""

    at_s: float
    route: str
    rollout: str
    revision: int
    epoch: int
    kind: str
    reason: str
    actor: str
    phase_before: str
    phase_after: str
    weight_bp_before: int
    weight_bp_after: int
    mirror_bp_before: int
    mirror_bp_after: int
    policy: str
    judgement: Judgement
    basis: "Basis | None" = None
    """What it followed from; None where nobody could say (a gateway's breaker), or when it is not asked for."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known beside the rollout and its evidence: each a reason in one sentence, or None.

    `frozen` says why no candidate may get more traffic now, `unconfirmed` why those who must agree to the proposal do
    not, `demanded` who asks for a rollback.
    """

    frozen: str | None = None
    unconfirmed: str | None = None
    demanded: str | None = None


NOTHING_OUTSIDE = Outside()
"""No freeze, nobody to ask, and no demand."""


def guard(  # noqa: C901 - one case for each kind of decision
    judgement: Judgement,
    state: "RolloutState",
    decision: Decision,
    now_s: float,
    outside: Outside = NOTHING_OUTSIDE,
) -> Decision:
    """Return the decision that may be applied: the proposed one, a RollBack, or a Hold that says why not.

    The cases, in order:
    1. the judge, or somebody by webhook, demands rollback and a rollout is under way: RollBack, whatever was proposed,
       without any minimum;
    2. a step towards less candidate traffic, or none: passes, whoever asks;
    3. more candidate traffic in a freeze window: nobody, but for an operator's `promote --full`;
    4. Promote: needs the judge's word, or an operator's `full`; it leaves the last step, so 5 holds for it too;
    5. Advance: an operator may; everybody else needs bake, minimum counts, approval and valid bookkeeping;
    6. more weight than now by SetExposure, SetPolicy or a Resume after a halt, and Approve: operators only;
    7. Undo: while the rollback window since the promotion has not passed;
    8. Start, Advance and Promote: need the word of those who were asked by webhook, if any were.

    GivePlaces moves no traffic: it passes.
    """
    demand = judgement.reason if judgement.rollback else outside.demanded
    if demand is not None and state.active:
        return decision if isinstance(decision, RollBack) else RollBack(reason=demand)
    by_operator = decision.actor.kind is ActorKind.OPERATOR
    refusal: str | None = None
    match decision:
        case Promote(full=True) if by_operator:
            refusal = None
        case _ if outside.frozen is not None and _gives_more(state, decision):
            refusal = outside.frozen + (FROZEN_ADVICE if by_operator else "")
        case Promote():
            refusal = None if by_operator else waits_for(judgement, state, now_s)
            refusal = refusal or _promote_refusal(judgement, state)
        case Advance() if not by_operator:
            refusal = waits_for(judgement, state, now_s)
        case Undo():
            refusal = _undo_refusal(state, now_s)
        case Approve() if not by_operator:
            refusal = f"{decision.actor} cannot approve, only an operator can"
        case SetExposure() | SetPolicy() if not by_operator and _weight_after(decision) > state.exposure.weight_bp:
            refusal = f"{decision.actor} may lower the weight, only an operator may raise it"
        case Resume() if not by_operator and state.halted:
            refusal = f"{decision.actor} cannot resume what a breaker has halted, only an operator can"
        case _:
            refusal = None
    if refusal is None and outside.unconfirmed is not None and isinstance(decision, Start | Advance | Promote):
        refusal = outside.unconfirmed
    return Hold(reason=refusal, actor=decision.actor) if refusal else decision


FROZEN_ADVICE = "; until then its traffic can only be lowered, paused or aborted, or made final: promote --full"


def _gives_more(state: "RolloutState", decision: Decision) -> bool:
    """Whether the candidate would get more requests or copies by this decision, or for good."""
    now = state.exposure
    match decision:
        case Advance() | Promote():
            return state.active  # whether the move is possible at all is for TRANSITIONS to say
        case Start():
            return bool(decision.steps[0].weight_bp or decision.steps[0].mirror_bp)
        case SetPolicy():
            return decision.steps[0].weight_bp > now.weight_bp or decision.steps[0].mirror_bp > now.mirror_bp
        case SetExposure():
            return (decision.weight_bp or 0) > now.weight_bp or (decision.mirror_bp or 0) > now.mirror_bp
        case Resume():
            return state.halted  # it gets the step's shares back
        case _:
            return False


def _undo_refusal(state: "RolloutState", now_s: float) -> str | None:
    """Say that it is too late to undo; whether there is anything to undo is for TRANSITIONS to say."""
    old = state.previous_stable
    if state.spec is None or not old or now_s - state.exposure.since_s <= state.spec.rollback_window_s:
        return None
    return (
        f"the rollback window of {state.spec.rollback_window_s / 3_600:g} h since the promotion has passed; "
        f"{old} comes back by a rollout of its own: start with candidate {old}"
    )


def _promote_refusal(judgement: Judgement, state: "RolloutState") -> str | None:
    if state.step + 1 < len(state.steps):
        return f"promotion is for the last step; this is step {state.step + 1} of {len(state.steps)}"
    if judgement.promote:
        return None
    return f"promotion waits for the judge ({judgement.reason}); an operator can promote without it: promote --full"


def _weight_after(decision: SetExposure | SetPolicy) -> int:
    """Return the weight a decision asks for, 0 when it leaves the weight as it is."""
    if isinstance(decision, SetPolicy):
        return decision.steps[0].weight_bp
    return decision.weight_bp or 0


def waits_for(judgement: Judgement, state: "RolloutState", now_s: float) -> str | None:
    """Return what the present step still waits for, or None when it may be left or no rollout is under way."""
    return next(all_waits(judgement, state, now_s), None)


def all_waits(judgement: Judgement, state: "RolloutState", now_s: float) -> "Iterator[str]":
    """Yield everything that the present step still waits for; the first is the reason of a Hold."""
    if not state.active:
        return  # whether the move is possible at all is for TRANSITIONS to say
    step = state.steps[state.step]
    counts = judgement.counts
    baked_s = now_s - state.exposure.since_s if judgement.exposed_s is None else judgement.exposed_s
    if judgement.invalid:
        yield f"the evidence is not valid: {judgement.invalid}"
    if judgement.harm:
        yield judgement.harm
    if baked_s < step.bake_s:
        yield f"baking: {int(baked_s)} s of {step.bake_s:.0f} s"
    if counts.requests_candidate < step.min_requests:
        yield f"candidate requests: {counts.requests_candidate} of {step.min_requests}"
    if counts.pairs < step.min_pairs:
        yield f"pairs: {counts.pairs} of {step.min_pairs}"
    if (step.weight_bp or step.mirror_bp) and not (counts.requests_candidate or counts.pairs):
        yield "no data: the candidate has answered nothing in this step"
    if step.approval and not state.approved:
        yield "an operator's approval is asked for: approve"
