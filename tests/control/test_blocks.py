"""What the file asks of a state: started once, held while another runs, under an id that never comes back."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.control.blocks import BlockStanding, drift_of, next_rollout_id, standing_of
from router.core.decisions import RollBack, Start
from router.core.rollout import SEEN_BLOCKS, RolloutState, Spec, Step, apply, idle_state
from router.core.traffic import Backend, Match, Route, Variant

SPEC = Spec("v2", "canary")
STEPS = (Step(weight_bp=100),)
IDLE = idle_state("digits", "v1", 0.0)


def started(state: RolloutState, block: str) -> RolloutState:
    """Return the state with a rollout of this block under way."""
    rollout_id = next_rollout_id(state, block)
    return apply(state, Start(reason="go", rollout_id=rollout_id, spec=SPEC, steps=STEPS), 1.0)


def ended(state: RolloutState) -> RolloutState:
    """Return the state with its rollout rolled back."""
    return apply(state, RollBack(reason="no"), 2.0)


def route() -> Route:
    """Return a Route whose file names v1 as stable."""
    variants = {name: Variant(name, (Backend("127.0.0.1", 1),)) for name in ("v1", "v2")}
    return Route("digits", Match(), "opaque", variants, "v1")


def test_a_block_the_store_has_never_seen_is_due() -> None:
    """On an idle Route, and after another rollout has ended."""
    assert standing_of(IDLE, "aa") is BlockStanding.DUE
    assert standing_of(ended(started(IDLE, "bb")), "aa") is BlockStanding.DUE


def test_a_changed_block_waits_while_another_rollout_runs() -> None:
    """It is held, not started over the running one."""
    assert standing_of(started(IDLE, "bb"), "aa") is BlockStanding.WAITING


def test_a_block_that_ran_is_never_due_again() -> None:
    """Running, ended, or followed by others."""
    running = started(IDLE, "aa")
    later = ended(started(ended(running), "bb"))
    assert [standing_of(one, "aa") for one in (running, ended(running), later)] == [BlockStanding.SEEN] * 3


def test_attempts_count_up_while_they_can_be_known() -> None:
    """The first is 1, a retry the next; a block from before gets the coming revision."""
    first = ended(started(IDLE, "aa"))
    second = ended(started(first, "aa"))
    other = ended(started(second, "bb"))
    assert [first.id, second.id, other.id] == ["aa.1", "aa.2", "bb.1"]
    assert f"aa.{other.revision + 1}" == next_rollout_id(other, "aa")


@given(st.lists(st.integers(0, SEEN_BLOCKS + 20), max_size=SEEN_BLOCKS * 3))
def test_no_rollout_id_ever_comes_back(blocks: list[int]) -> None:
    """However many blocks run in whatever order, also after the state has forgotten the oldest."""
    state, ids = IDLE, []
    for block in blocks:
        state = ended(started(state, f"block{block}"))
        ids.append(state.id)
    assert len(ids) == len(set(ids))


def test_no_id_comes_back_when_more_blocks_ran_than_the_state_remembers() -> None:
    """Two rounds over more blocks than are remembered: the second round finds its hashes forgotten."""
    state, ids = IDLE, []
    for _ in range(2):
        for block in range(SEEN_BLOCKS + 1):
            state = ended(started(state, f"block{block}"))
            ids.append(state.id)
    assert len(ids) == len(set(ids))


def test_drift_names_both_stables() -> None:
    """After a promotion the file still names the old one; the store decides, and it is said."""
    promoted = replace(IDLE, stable="v2")
    assert drift_of(route(), promoted) == "the file names v1 as stable, the store v2; the store decides"
    assert [drift_of(route(), IDLE), drift_of(route(), None)] == [None, None]


def test_drift_names_a_variant_that_the_file_has_lost() -> None:
    """A state that uses an unknown variant is the worse of the two."""
    drift = drift_of(route(), replace(IDLE, stable="v9"))
    assert drift is not None
    assert "v9" in drift
    assert "does not define" in drift
