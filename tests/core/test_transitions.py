"""The state machine: every Phase x Decision cell, and what each decision does to the state."""

from dataclasses import replace

import pytest

from router.core.decisions import (
    DECISIONS,
    Advance,
    Approve,
    Decision,
    GivePlaces,
    Hold,
    Pause,
    Promote,
    Resume,
    RollBack,
    SetExposure,
    SetPolicy,
    Start,
    Undo,
)
from router.core.errors import IllegalTransitionError
from router.core.rollout import (
    FULL_BP,
    SEEN_BLOCKS,
    Exposure,
    Phase,
    RolloutState,
    Spec,
    Step,
    apply,
    block_hash_of,
    idle_state,
    legal_moves,
)

NOW_S = 1_000.0
LATER_S = 1_060.0

STEPS = (Step(mirror_bp=FULL_BP, min_pairs=500), Step(weight_bp=1_000, mirror_bp=1_000), Step(weight_bp=5_000))
SPEC = Spec(candidate="v2", policy="canary", steps=STEPS)

START = Start(reason="begin", rollout_id="0123456789ab.1", spec=SPEC, steps=STEPS)
MOVES: dict[str, Decision] = {
    "hold": Hold(reason="wait"),
    "start": START,
    "advance": Advance(reason="go"),
    "pause": Pause(reason="stop"),
    "resume": Resume(reason="go on"),
    "approve": Approve(reason="agreed"),
    "set_exposure": SetExposure(reason="a bit", weight_bp=300),
    "set_policy": SetPolicy(reason="at once", policy="blue_green", steps=(Step(weight_bp=FULL_BP),)),
    "give_places": GivePlaces(reason="they come often", slices=()),
    "promote": Promote(reason="good", full=True),
    "roll_back": RollBack(reason="bad"),
    "undo": Undo(reason="back"),
}

# Written out by hand, on purpose not derived from TRANSITIONS: phase -> move -> phase after it; all else is refused.
EXPECTED: dict[str, dict[str, str]] = {
    "idle": {"hold": "idle", "start": "progressing"},
    "progressing": {
        "hold": "progressing",
        "advance": "progressing",
        "approve": "progressing",
        "set_exposure": "progressing",
        "set_policy": "progressing",
        "give_places": "progressing",
        "pause": "paused",
        "promote": "promoted",
        "roll_back": "rolled_back",
    },
    "paused": {
        "hold": "paused",
        "approve": "paused",
        "set_exposure": "paused",
        "set_policy": "paused",
        "give_places": "paused",
        "resume": "progressing",
        "advance": "progressing",
        "promote": "promoted",
        "roll_back": "rolled_back",
    },
    "promoted": {"hold": "promoted", "undo": "rolled_back", "start": "progressing"},
    "rolled_back": {"hold": "rolled_back", "start": "progressing"},
}


def after(*moves: str) -> RolloutState:
    """Return the state after these moves, beginning with an idle route."""
    state = idle_state("digits", "v1", NOW_S)
    for move in moves:
        state = apply(state, MOVES[move], NOW_S)
    return state


IN_PHASE = {
    "idle": after(),
    "progressing": after("start", "advance"),
    "paused": after("start", "advance", "pause"),
    "promoted": after("start", "promote"),
    "rolled_back": after("start", "advance", "roll_back"),
}


def test_the_table_of_this_file_names_every_phase_and_every_move() -> None:
    """Should a phase or a decision be added, this file must learn it."""
    assert set(Phase) == set(EXPECTED)
    assert {kind.kind for kind in DECISIONS} == set(MOVES)
    assert {phase: state.phase for phase, state in IN_PHASE.items()} == dict(zip(EXPECTED, EXPECTED, strict=True))


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("phase", EXPECTED)
def test_each_move_in_each_phase_leads_where_the_table_says_or_is_refused(phase: str, move: str) -> None:
    """A legal move gives the next revision and its reason; an illegal one raises and names the legal ones."""
    state = IN_PHASE[phase]
    expected = EXPECTED[phase].get(move)
    if expected is None:
        with pytest.raises(IllegalTransitionError) as refusal:
            apply(state, MOVES[move], LATER_S)
        assert (phase, move) == (refusal.value.phase, refusal.value.move)
        assert tuple(sorted(EXPECTED[phase].keys() - {"hold"})) == refusal.value.legal == legal_moves(Phase(phase))
    elif move == "hold":
        assert state is apply(state, MOVES[move], LATER_S)
    else:
        moved = apply(state, MOVES[move], LATER_S)
        assert (expected, state.revision + 1, MOVES[move].reason) == (moved.phase, moved.revision, moved.reason)
    assert state == IN_PHASE[phase]


def test_start_begins_at_the_first_step_with_an_exposure_of_its_own() -> None:
    """The rollout id, the plan and the first step's shares are taken; the exposure is named by the revision."""
    state = apply(idle_state("digits", "v1", NOW_S), START, LATER_S)
    assert (
        state.id,
        state.spec,
        state.steps,
        state.step,
        state.started_s,
    ) == ("0123456789ab.1", SPEC, STEPS, 0, LATER_S)
    assert Exposure(1, 0, FULL_BP, "canary", LATER_S) == state.exposure
    assert (state.stable, state.candidate, state.policy, state.active) == ("v1", "v2", "canary", True)
    assert state.seen_blocks == ("0123456789ab",)


def test_a_new_rollout_opens_a_new_exposure_even_with_the_same_shares() -> None:
    """Evidence of one rollout must never continue in the next, which has other users."""
    nothing = Start(reason="begin", rollout_id="b.1", spec=SPEC, steps=(Step(),))
    rolled_back = apply(apply(idle_state("digits", "v1", NOW_S), nothing, NOW_S), RollBack(reason="bad"), NOW_S)
    again = apply(rolled_back, replace(nothing, rollout_id="b.2"), LATER_S)
    assert (again.revision, LATER_S) == (again.exposure.id, again.exposure.since_s)
    assert rolled_back.exposure.id < again.exposure.id


def test_advance_enters_the_next_step_and_forgets_the_approval() -> None:
    """An approval is for one step."""
    approved = after("start", "approve")
    moved = apply(approved, MOVES["advance"], LATER_S)
    assert (approved.approved, moved.approved) == (True, False)
    assert (
        moved.step, moved.exposure.weight_bp, moved.exposure.mirror_bp, moved.exposure.since_s,
    ) == (1, 1_000, 1_000, LATER_S)  # fmt: skip


@pytest.mark.parametrize("moves", [("start", "advance", "advance"), ("start", "advance", "advance", "pause")])
def test_there_is_no_step_after_the_last(moves: tuple[str, ...]) -> None:
    """Advance at the last step raises and says what is possible instead."""
    state = after(*moves)
    with pytest.raises(IllegalTransitionError, match="step 3 of 3 is the last") as refusal:
        apply(state, MOVES["advance"], LATER_S)
    assert refusal.value.legal == ("promote", "roll_back")
    assert after(*moves) == state


def test_set_exposure_changes_only_what_it_names() -> None:
    """None leaves a share as it is; the step and the policy stay."""
    state = after("start", "advance")
    weight = apply(state, SetExposure(reason="more", weight_bp=2_000), LATER_S)
    mirror = apply(state, SetExposure(reason="none", mirror_bp=0), LATER_S)
    assert (weight.exposure.weight_bp, weight.exposure.mirror_bp, weight.step) == (2_000, 1_000, 1)
    assert (mirror.exposure.weight_bp, mirror.exposure.mirror_bp, mirror.policy) == (1_000, 0, "canary")
    assert (weight.revision, LATER_S) == (weight.exposure.id, weight.exposure.since_s)


@pytest.mark.parametrize("move", [Pause(reason="p"), Approve(reason="a"), SetExposure(reason="same", weight_bp=1_000)])
def test_an_unchanged_exposure_goes_on_under_its_old_id(move: Decision) -> None:
    """Its evidence keeps growing: only a change of policy or shares begins a new one."""
    state = after("start", "advance")
    moved = apply(state, move, LATER_S)
    assert state.exposure == moved.exposure
    assert state.revision + 1 == moved.revision


def test_resume_leaves_traffic_as_it_was() -> None:
    """Pause and Resume change the phase and nothing else, but that max_duration counts anew."""
    state = after("start", "advance")
    resumed = apply(apply(state, MOVES["pause"], LATER_S), MOVES["resume"], LATER_S)
    assert replace(state, revision=resumed.revision, reason="go on", started_s=LATER_S) == resumed


def test_set_policy_goes_on_at_the_first_step_of_the_new_plan() -> None:
    """The rollout keeps its id and its candidate; the exposure is a new one."""
    state = after("start", "advance")
    moved = apply(state, MOVES["set_policy"], LATER_S)
    assert (state.id, state.spec, 0, "blue_green") == (moved.id, moved.spec, moved.step, moved.policy)
    assert Exposure(moved.revision, FULL_BP, 0, "blue_green", LATER_S) == moved.exposure


def test_promote_makes_the_candidate_stable_and_undo_takes_it_back() -> None:
    """Either way no traffic is left for a candidate, since the stable variant has it all."""
    promoted = after("start", "advance", "promote")
    undone = apply(promoted, MOVES["undo"], LATER_S)
    assert (
        promoted.stable, promoted.previous_stable, promoted.exposure.weight_bp, promoted.exposure.mirror_bp,
    ) == ("v2", "v1", 0, 0)  # fmt: skip
    assert (
        undone.stable, undone.previous_stable, undone.exposure.weight_bp, undone.phase,
    ) == ("v1", "", 0, Phase.ROLLED_BACK)  # fmt: skip


def test_roll_back_takes_all_traffic_away() -> None:
    """Weight and mirror are 0 in the same revision; stable stays who it was."""
    state = after("start", "advance", "roll_back")
    assert (state.stable, state.exposure.weight_bp, state.exposure.mirror_bp, state.active) == ("v1", 0, 0, False)


def test_the_last_64_blocks_are_remembered_oldest_first() -> None:
    """A block that is started again becomes the newest; beyond 64 the oldest is forgotten."""
    state = idle_state("digits", "v1", NOW_S)
    for number in range(SEEN_BLOCKS + 2):
        state = apply(state, replace(START, rollout_id=f"block{number}.1"), NOW_S)
        state = apply(state, RollBack(reason="bad"), NOW_S)
    assert (len(state.seen_blocks), state.seen_blocks[0], state.seen_blocks[-1]) == (SEEN_BLOCKS, "block2", "block65")
    again = apply(state, replace(START, rollout_id="block10.2"), NOW_S)
    assert (len(again.seen_blocks), again.seen_blocks[-1]) == (SEEN_BLOCKS, "block10")


def test_a_rollout_id_names_its_block_before_the_last_dot() -> None:
    """The rest is the attempt."""
    assert block_hash_of("0123456789ab.12") == "0123456789ab"


def test_a_slice_keeps_its_place_for_the_rollout_and_the_next_begins_anew() -> None:
    """Giving places opens no exposure and moves no traffic; taking one away is refused."""
    free, given = ("t=other", "t=none", "t="), ("t=other", "t=none", "t=acme")
    started = apply(idle_state("digits", "v1", NOW_S), replace(START, slices=free), NOW_S)
    after = apply(started, GivePlaces(reason="often", slices=given), LATER_S)
    assert after == replace(started, revision=started.revision + 1, reason="often", slices=given)
    for other in (free, ("t=other", "t=none", "t=bolt"), given[:2]):
        with pytest.raises(IllegalTransitionError, match="a slice keeps its place"):
            apply(after, GivePlaces(reason="no", slices=other), LATER_S)
    ended = apply(after, RollBack(reason="bad"), LATER_S)
    again = apply(ended, replace(START, rollout_id="0123456789ab.2", slices=free), LATER_S)
    assert again.slices == free
