"""What is written into a store that has lost states: the remembered one, and a rollback wins over everything."""

from dataclasses import replace

import pytest

from router.core.decisions import Promote, RollBack, SetExposure, Start
from router.core.recovery import Restoration, restore
from router.core.rollout import Phase, RolloutState, Spec, Step, apply, idle_state

NOW_S = 1_000.0
SPEC = Spec("v2", "canary", steps=(Step(weight_bp=1_000),))
IDLE = replace(idle_state("r", "v1", 0.0), epoch=3)
BEGUN = apply(IDLE, Start(reason="go", rollout_id="x.1", spec=SPEC, steps=SPEC.steps), 10.0)
HALF = apply(BEGUN, SetExposure(reason="half", weight_bp=5_000), 20.0)
BACK = apply(HALF, RollBack(reason="harm"), 30.0)
PROMOTED = apply(HALF, Promote(reason="good", full=True), 30.0)
OTHER = apply(
    PROMOTED, Start(reason="next", rollout_id="y.1", spec=replace(SPEC, candidate="v3"), steps=SPEC.steps), 40.0
)


def at(state: RolloutState, revision: int, epoch: int = 3) -> RolloutState:
    """Return the same content under other numbers."""
    return replace(state, revision=revision, epoch=epoch)


@pytest.mark.parametrize("known", [BEGUN, BACK, PROMOTED])
def test_rd5_an_empty_store_gets_the_remembered_state_as_it_was(known: RolloutState) -> None:
    """Same revision, same epoch: nobody who routes by it has anything to change."""
    assert restore(known, None, NOW_S) == Restoration(known, 0)


@pytest.mark.parametrize(
    ("known", "stored"),
    [
        (IDLE, None),
        (HALF, HALF),
        (HALF, at(HALF, HALF.revision, epoch=9)),
        (HALF, BACK),
        (PROMOTED, OTHER),
        (BACK, apply(BACK, Start(reason="again", rollout_id="x.2", spec=SPEC, steps=SPEC.steps), 50.0)),
    ],
    ids=["nothing known", "equal", "fenced", "newer", "next rollout", "retried"],
)
def test_a_store_that_is_not_behind_is_left_alone(known: RolloutState, stored: RolloutState | None) -> None:
    """Also after a new leader's fence, which changes nothing but the epoch."""
    assert restore(known, stored, NOW_S) is None


@pytest.mark.parametrize(
    ("known", "stored", "revision"),
    [
        (HALF, BEGUN, HALF.revision),
        (OTHER, BACK, OTHER.revision),
        (PROMOTED, at(HALF, 9, epoch=2), 10),
        (HALF, at(BEGUN, HALF.revision), HALF.revision + 1),
        (HALF, at(BEGUN, 1, epoch=8), HALF.revision),
    ],
    ids=["older", "rolled back before", "went on at a lower epoch", "another of the same revision", "a later epoch"],
)
def test_rd5_an_older_store_gets_what_is_remembered_above_all_numbers(
    known: RolloutState, stored: RolloutState, revision: int
) -> None:
    """No number goes back, and nothing but the numbers changes."""
    lost = restore(known, stored, NOW_S)
    assert lost == Restoration(at(known, revision, max(known.epoch, stored.epoch)), stored.revision)


@pytest.mark.parametrize("stored", [BEGUN, HALF, at(HALF, 7), at(PROMOTED, 9), at(HALF, 9, epoch=1)])
def test_rd5_what_was_rolled_back_is_never_resumed(stored: RolloutState) -> None:
    """Whatever revision an unaware process has brought the older state to."""
    lost = restore(BACK, stored, NOW_S)
    assert lost is not None
    assert (lost.state.phase, lost.state.exposure.weight_bp) == (Phase.ROLLED_BACK, 0)
    assert lost.state.revision > stored.revision or lost.state.revision == BACK.revision


@pytest.mark.parametrize(
    ("known", "stored"),
    [(HALF, apply(BEGUN, RollBack(reason="stop it"), 15.0)), (OTHER, apply(BEGUN, RollBack(reason="stop it"), 99.0))],
    ids=["the same rollout", "another one, but later"],
)
def test_rd5_an_abort_of_the_older_state_is_an_abort(known: RolloutState, stored: RolloutState) -> None:
    """Somebody wanted the candidate gone while the store was behind. Stable is the newer state's."""
    lost = restore(known, stored, NOW_S)
    assert lost is not None
    assert lost.record is not None
    assert (lost.state.id, lost.state.phase, lost.state.stable) == (known.id, Phase.ROLLED_BACK, known.stable)
    assert lost.state.exposure.weight_bp == 0
    assert lost.state.revision > max(known.revision, stored.revision)
    assert lost.record.reason == "rolled back while the store was behind: stop it"


def test_a_rollback_from_before_does_not_stop_what_was_started_after_it() -> None:
    """The older store remembers the end of the rollout before."""
    lost = restore(OTHER, BACK, NOW_S)
    assert lost is not None
    assert lost.state == OTHER
