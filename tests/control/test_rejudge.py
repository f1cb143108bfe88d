"""What other gates would have done with a recorded rollout, and what its record cannot say."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from router.analysis.evidence import Evidence
from router.control.judging import judgement_of
from router.control.rejudge import Moment, Rejudged, _relevelled, rejudge, untold_of
from router.core.basis import Basis, Facts
from router.core.decisions import Hold, Promote, RollBack
from router.core.errors import StoreUnavailableError
from router.core.observations import CounterKey
from router.core.rollout import Asked, GateSpec, Phase, RolloutState, Spec, Step
from router.store.basis_codec import decode_basis
from router.testing import MemoryServer, MemoryStore
from tests.analysis.cases import LATENCY_GATE, agreements, exposure, latencies, right, spread_ms
from tests.control.ledgers import GATES, POLICIES, SPEC, Traffic, ledger, walked
from tests.control.plant import Plant, order

GOOD = Traffic(1, 0.005, 0.01)


async def moments_of(plant: Plant) -> list[Moment]:
    """Return all that is recorded of the one rollout: its decisions, and the samples between them."""
    records = await ledger(plant)
    samples = [decode_basis(packed) for packed in await plant.store.samples("digits", records[-1].rollout)]
    return [*(Moment(one.basis, one) for one in records if one.basis), *map(Moment, samples)]


async def asked(plant: Plant, *gates: GateSpec, alpha: float | None = None) -> Rejudged:
    """Return what these gates would have done."""
    return rejudge(await moments_of(plant), Asked(gates, alpha), POLICIES)


async def test_the_same_gates_would_have_done_the_same(plant: Plant) -> None:
    """At every decision of control what was decided, and in between nothing."""
    await walked(plant, Traffic(1, 0.005, 0.01))
    found = await asked(plant, *GATES)
    assert found.untold == ()
    assert found.gates == GATES
    assert (found.rolled_back, found.held, found.sooner) == (None, None, None)
    decided = [one.moment.decided for one in found.points]
    assert [one.kind for one in decided if one] == ["advance", "advance", "promote"]
    for point in found.points:
        recorded = point.moment.decided
        assert isinstance(point.would, Hold) if recorded is None else point.would.kind == recorded.kind
        if recorded is not None:
            assert repr(point.judgement) == repr(recorded.judgement), "the very same judgement, too"
    assert sum(one is None for one in decided) >= 2, "samples of the evidence in between"


async def test_stricter_gates_would_have_rolled_back_or_held(plant: Plant) -> None:
    """A candidate that flips 4 % of the answers passed 10 %; at most 1 % would have taken it back earlier."""
    loose = (GATES[0], GateSpec("flips", "disagreement", maximum=0.10))
    await walked(plant, Traffic(1, 0.005, 0.04), replace(SPEC, gates=loose))
    assert (await plant.states.read("digits")).phase is Phase.PROMOTED
    strict = await asked(plant, GATES[0], GateSpec("flips", "disagreement", maximum=0.01))
    assert strict.rolled_back is not None
    assert strict.rolled_back.would.reason.startswith("flips: ")
    between = await asked(plant, GATES[0], GateSpec("flips", "disagreement", maximum=0.045, tolerance=0.045))
    assert between.rolled_back is None
    assert between.held is not None
    assert "flips" in between.held.would.reason


async def test_looser_gates_would_have_gone_on(plant: Plant) -> None:
    """What was rolled back for 30 % of failures would have stayed where nobody asks for failures."""
    await walked(plant, Traffic(1, 0.3, 0.01))
    rolled_back = (await ledger(plant))[-1]
    assert rolled_back.kind == "roll_back"
    found = await asked(plant, GATES[1])
    assert found.rolled_back is None
    at_the_end = next(one for one in found.points if one.moment.decided == rolled_back)
    assert not isinstance(at_the_end.would, RollBack)


async def test_another_certainty_is_another_question(plant: Plant) -> None:
    """With a smaller alpha more evidence is asked for before a rollback."""
    await walked(plant, Traffic(1, 0.3, 0.01))
    usual, sure = await asked(plant, *GATES), await asked(plant, *GATES, alpha=1e-6)
    assert usual.points[-1].judgement.rollback_at == pytest.approx(math.log(2 / 0.01))
    assert sure.points[-1].judgement.rollback_at == pytest.approx(math.log(2e6))


async def test_gates_that_pass_earlier_would_have_gone_on_sooner(plant: Plant) -> None:
    """An inconclusive gate held the promotion back; without it the samples say from when on it could have gone on."""
    never = GateSpec("flips", "disagreement", maximum=0.011, tolerance=0.011)
    await walked(plant, Traffic(1, 0.005, 0.01), replace(SPEC, gates=(GATES[0], never)))
    assert (await plant.states.read("digits")).active
    found = await asked(plant, GATES[0])
    assert found.sooner is not None
    assert isinstance(found.sooner.would, Promote)


# -- What cannot be told ----------------------------------------------------------------------------------------------

STABLE_MS, CANDIDATE_MS = spread_ms(2_000), spread_ms(2_000, factor=1.1)
SLOWER = replace(LATENCY_GATE, name="slower", max_increase=0.5)
PLACES = (exposure(1), exposure(3))


def recorded(*gates: GateSpec, counters: dict[CounterKey, int] | None = None) -> Basis:
    """Return the last moment of a rollout with these gates: latencies counted at their thresholds, in two exposures."""
    counted = {key: n for at in PLACES for key, n in latencies(gates, at, STABLE_MS, CANDIDATE_MS).items()}
    steps = (Step(weight_bp=5_000, mirror_bp=1_000, gates=tuple(gate.name for gate in gates)),)
    state = RolloutState(
        route="digits", stable="v1", revision=3, epoch=1, phase=Phase.PROGRESSING, reason="", exposure=PLACES[1],
        past=PLACES[:1], id="a.1", spec=Spec("v2", "canary", steps=steps, gates=gates), steps=steps,
    )  # fmt: skip
    return Basis(state, 1_000.0, counted if counters is None else counters, keyed=False, facts=Facts())


def test_latency_gates_of_the_rollout_itself_are_judged_as_if_alone() -> None:
    """Two gates cut the latencies finer than one: levels are merged, so that one of them reads exactly its own."""
    both, alone = recorded(LATENCY_GATE, SLOWER), recorded(SLOWER)
    assert _relevelled(both, [SLOWER]) == alone.counters
    assert _relevelled(both, [LATENCY_GATE, SLOWER]) == both.counters
    (point,) = rejudge([Moment(both)], Asked((SLOWER,)), POLICIES).points
    expected = judgement_of(alone.state, Evidence(alone.counters or {}), keyed=False)
    assert repr(point.judgement.gates) == repr(expected.gates)


def test_a_latency_gate_with_other_margins_cannot_be_told() -> None:
    """Levels were counted at the thresholds of the gates of then; the reason names both."""
    other = replace(LATENCY_GATE, max_increase=0.3)
    found = rejudge([Moment(recorded(LATENCY_GATE))], Asked((other,)), POLICIES)
    ((gate, why),) = found.untold
    assert gate == "latency"
    assert why.startswith(
        "latencies were counted by the frozen thresholds of the rollout's own gates: in exposure 1 at "
    )
    assert found.gates == ()
    assert found.points[0].judgement.gates == ()
    assert untold_of(replace(LATENCY_GATE, name="the same"), recorded(LATENCY_GATE)) is None


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        (LATENCY_GATE, "had no latency gate"),
        (GateSpec("eu", "error_rate", maximum=0.1, slice="eu"), "requests of slice eu were not counted by themselves"),
        (GateSpec("all", "error_rate", maximum=0.1, slices="each"), "no slices were counted in this rollout"),
        (GateSpec("right", "accuracy", minimum=0.9), "no true labels came back"),
        (GateSpec("eights", "recall", minimum=0.9, label="8"), "no true labels of class 8 were counted"),
        (GateSpec("far", "disagreement", maximum=0.1, beyond=0.5), "gave no distances"),
    ],
)
def test_what_was_never_counted_cannot_be_told(gate: GateSpec, why: str) -> None:
    """Each gate by itself, with its reason; the others are judged."""
    counters = agreements(PLACES[1], 1_000, 10)
    found = rejudge([Moment(recorded(GATES[0], counters=counters))], Asked((gate, GATES[1])), POLICIES)
    ((name, said),) = found.untold
    assert name == gate.name
    assert why in said
    assert [one.gate for one in found.points[0].judgement.gates] == ["flips"]


def test_labels_that_came_back_can_be_asked_about() -> None:
    """Also by a gate that the rollout did not have."""
    basis = recorded(GATES[0], counters=right(PLACES[1], {"11": 900, "10": 50, "01": 40, "00": 10}))
    assert untold_of(GateSpec("right", "accuracy", minimum=0.9), basis) is None


def test_a_step_that_asked_for_gates_that_are_gone_asks_for_all() -> None:
    """Else such a step could never be passed."""
    found = rejudge(
        [Moment(recorded(GATES[0], counters=agreements(PLACES[1], 5_000, 5)))], Asked((GATES[1],)), POLICIES
    )
    assert found.points[0].judgement.promote


def test_nothing_under_way_is_nothing_to_judge() -> None:
    """Starts and ended rollouts have no gates; a moment without counters says nothing."""
    basis = recorded(GATES[0])
    moments = [
        Moment(replace(basis, counters=None)),
        Moment(replace(basis, state=replace(basis.state, phase=Phase.PROMOTED))),
    ]
    assert rejudge(moments, Asked(GATES), POLICIES).points == ()


# -- Samples ----------------------------------------------------------------------------------------------------------


async def test_samples_come_once_a_minute_and_rarer_in_long_rollouts(plant: Plant) -> None:
    """As many as a fiftieth of the age allows: a week needs no thinning."""
    spec = replace(SPEC, gates=(), steps=(Step(mirror_bp=10_000, bake_s=1e7),), max_duration_s=1e7)
    spec = replace(spec, no_data=replace(spec.no_data, after_s=1e7))
    state = await plant.commands.start("digits", spec, order())
    loop = plant.loop()
    for _ in range(300):
        await loop.turn()
        plant.clock.advance(30)
    seconds = [decode_basis(one).now_s - state.started_s for one in await plant.store.samples("digits", state.id)]
    gaps = [later - earlier for earlier, later in pairwise(seconds)]
    assert seconds[0] == 0
    assert gaps[:40] == [60.0] * 40
    assert gaps[-1] == 180.0
    assert len(seconds) < 110


async def test_a_store_that_takes_no_samples_costs_no_decision(plant: Plant) -> None:
    """It may be full of pairs: what is decided goes first, and is decided all the same."""

    class Full(MemoryStore):
        async def add_sample(self, basis: Basis) -> None:
            raise StoreUnavailableError(f"no room for {len(basis.counters or {})} counters")

    server = MemoryServer()
    plant.new_store = lambda: Full(server)
    plant.store = plant.new_store()
    plant.commands = plant.commands_on(plant.store)
    plant.states = type(plant.states)(plant.store, plant.config.routes, plant.clock)
    await walked(plant, Traffic(1, 0.005, 0.01))
    assert (await plant.states.read("digits")).phase is Phase.PROMOTED
