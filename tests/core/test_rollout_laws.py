"""What holds for every rollout, whatever is decided in whatever order."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.decisions import (
    Actor,
    ActorKind,
    Advance,
    Approve,
    Counts,
    Decision,
    GivePlaces,
    Hold,
    Judgement,
    Pause,
    Promote,
    Resume,
    RollBack,
    SetExposure,
    SetPolicy,
    Start,
    Undo,
    guard,
)
from router.core.errors import IllegalTransitionError
from router.core.rollout import FULL_BP, Phase, RolloutState, Spec, Step, apply, idle_state
from router.core.slices import may_follow

LAWS = settings(max_examples=200, deadline=None, derandomize=True)

shares = st.integers(0, FULL_BP)
actors = st.builds(Actor, st.sampled_from(ActorKind), st.just("somebody"))
steps = st.lists(
    st.builds(
        Step,
        weight_bp=shares,
        mirror_bp=shares,
        bake_s=st.sampled_from([0.0, 60.0]),
        min_requests=st.sampled_from([0, 200]),
        approval=st.booleans(),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
judgements = st.builds(
    Judgement,
    rollback=st.sampled_from([False, False, False, True]),
    promote=st.booleans(),
    invalid=st.sampled_from([None, None, "counters disagree"]),
    counts=st.builds(Counts, requests_candidate=st.integers(0, 400), pairs=st.integers(0, 400)),
)


def decisions(by: st.SearchStrategy[Actor]) -> st.SearchStrategy[Decision]:
    """Return any decision of these actors."""
    said = {"reason": st.just("why"), "actor": by}
    return st.one_of(
        st.builds(Hold, **said),
        st.builds(Advance, **said),
        st.builds(Pause, **said),
        st.builds(Resume, **said),
        st.builds(Approve, **said),
        st.builds(SetExposure, **said, weight_bp=st.none() | shares, mirror_bp=st.none() | shares),
        st.builds(SetPolicy, **said, policy=st.sampled_from(["shadow", "canary"]), steps=steps),
        st.builds(GivePlaces, **said, slices=st.sampled_from([(), ("t=other", "t=none", "t=a")])),
        st.builds(Promote, **said, full=st.booleans()),
        st.builds(RollBack, **said),
        st.builds(Undo, **said),
        st.builds(
            Start,
            **said,
            rollout_id=st.sampled_from(["a.1", "b.1", "b.2"]),
            spec=st.just(Spec("v2", "canary")),
            steps=steps,
            slices=st.sampled_from([(), ("t=other", "t=none", "t=")]),
        ),
    )


histories = st.lists(st.tuples(decisions(actors), judgements, st.sampled_from([0.0, 30.0, 90.0])), max_size=40)


def decide(
    state: RolloutState, proposed: Decision, judgement: Judgement, now_s: float
) -> tuple[RolloutState, Decision]:
    """Return the state after guard and apply, and what was applied: a refused decision is a Hold."""
    decision = guard(judgement, state, proposed, now_s)
    try:
        return apply(state, decision, now_s), decision
    except IllegalTransitionError:
        return state, Hold(reason="refused")


@given(histories)
@LAWS
def test_revisions_only_grow_and_name_every_exposure(history: list[tuple[Decision, Judgement, float]]) -> None:
    """Each applied decision is one revision; an exposure has the revision that opened it, and none comes back."""
    state, now_s = idle_state("digits", "v1", 0.0), 0.0
    for proposed, judgement, seconds in history:
        now_s += seconds
        before = state
        state, applied = decide(state, proposed, judgement, now_s)
        assert state.revision == before.revision + (0 if isinstance(applied, Hold) else 1)
        assert before.exposure.id <= state.exposure.id <= state.revision
        if state.exposure != before.exposure:
            assert (state.exposure.id, state.exposure.since_s) == (state.revision, now_s)


@given(histories)
@LAWS
def test_a_candidate_has_traffic_only_while_a_rollout_is_under_way(
    history: list[tuple[Decision, Judgement, float]],
) -> None:
    """Outside of progressing and paused both shares are 0, and always within 0..10000."""
    state, now_s = idle_state("digits", "v1", 0.0), 0.0
    for proposed, judgement, seconds in history:
        now_s += seconds
        state, _ = decide(state, proposed, judgement, now_s)
        exposure = state.exposure
        assert 0 <= exposure.weight_bp <= FULL_BP
        assert 0 <= exposure.mirror_bp <= FULL_BP
        assert state.active or (exposure.weight_bp, exposure.mirror_bp) == (0, 0)


@given(histories)
@LAWS
def test_a_slice_keeps_its_place_while_the_rollout_lasts(history: list[tuple[Decision, Judgement, float]]) -> None:
    """Whoever decides what: only free places change, so the weights of the evidence do not."""
    state = idle_state("digits", "v1", 0.0)
    for proposed, judgement, seconds in history:
        before = state
        state, applied = decide(state, proposed, judgement, seconds)
        assert isinstance(applied, Start) or may_follow(before.slices, state.slices)


@given(histories, histories)
@LAWS
def test_rolled_back_is_final_until_a_new_start(
    history: list[tuple[Decision, Judgement, float]], more: list[tuple[Decision, Judgement, float]]
) -> None:
    """After RollBack no decision but Start, of nobody, gives the candidate a request or a copy again."""
    state = idle_state("digits", "v1", 0.0)
    for proposed, judgement, _ in history:
        state, _ = decide(state, proposed, judgement, 0.0)
    if not state.active:
        state = apply(state, Start(reason="s", rollout_id="c.1", spec=Spec("v2", "canary"), steps=(Step(),)), 0.0)
    state = apply(state, RollBack(reason="bad"), 0.0)
    for proposed, judgement, seconds in more:
        state, applied = decide(state, proposed, judgement, seconds)
        if isinstance(applied, Start):
            return
        assert (state.phase, state.exposure.weight_bp, state.exposure.mirror_bp) == (Phase.ROLLED_BACK, 0, 0)


@given(
    st.lists(
        st.tuples(
            decisions(actors.filter(lambda actor: actor.kind is not ActorKind.OPERATOR)),
            judgements,
            st.sampled_from([0.0, 30.0, 90.0]),
        ),
        max_size=40,
    )
)
@LAWS
def test_without_an_operator_the_weight_rises_only_step_by_step(
    history: list[tuple[Decision, Judgement, float]],
) -> None:
    """Start enters a plan, Advance its next step when all it waits for is there, never past an approval."""
    state, now_s = idle_state("digits", "v1", 0.0), 0.0
    for proposed, judgement, seconds in history:
        now_s += seconds
        before = state
        state, applied = decide(state, proposed, judgement, now_s)
        if isinstance(applied, Advance):
            left = before.steps[before.step]
            assert now_s - before.exposure.since_s >= left.bake_s
            assert judgement.counts.requests_candidate >= left.min_requests
            assert judgement.invalid is None
            assert not left.approval
        elif not isinstance(applied, Start):
            assert state.exposure.weight_bp <= before.exposure.weight_bp


@given(histories, judgements)
@LAWS
def test_harm_ends_every_rollout_in_one_decision(
    history: list[tuple[Decision, Judgement, float]], judgement: Judgement
) -> None:
    """From any state that is under way, one tick under a rollback judgement gives weight 0."""
    state = idle_state("digits", "v1", 0.0)
    for proposed, earlier, seconds in history:
        state, _ = decide(state, proposed, earlier, seconds)
    if state.active:
        harm = replace(judgement, rollback=True, reason="harm")
        state, applied = decide(state, Advance(reason="on"), harm, 0.0)
        assert (applied.kind, state.phase, state.exposure.weight_bp) == ("roll_back", Phase.ROLLED_BACK, 0)
