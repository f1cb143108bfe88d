"""The ramp: the plan is walked by itself, waits where it must, and is taken back by the judge."""

from dataclasses import replace

import pytest

from router.control.commands import Change, RefusedError
from router.control.loop import ControlLoop
from router.control.ramp import lagging_of, propose
from router.control.replicas import GATEWAY, LIVE_S, Pulses, replicas_of
from router.control.states import States
from router.core.basis import Facts
from router.core.config import PairsConfig
from router.core.decisions import Advance, Counts, Decision, Hold, Judgement, Pause, Promote, RollBack, Verdict
from router.core.observations import CUTS, CounterKey
from router.core.ports import Heartbeat, RecordBatch
from router.core.rollout import GateSpec, NoDataSpec, Phase, RolloutState, Spec, Step
from router.plugins import load_policies
from router.store.codec import encode_pairs
from router.testing import MemoryServer, MemoryStore
from tests.control.plant import Plant, order

CANARY = load_policies()["canary"]
STEPS = (
    Step(weight_bp=1_000, bake_s=60.0, min_requests=200),
    Step(weight_bp=5_000, bake_s=60.0, min_requests=200),
)
SPEC = Spec(
    "v2", "canary", steps=STEPS, gates=(GateSpec("errors", "error_rate", max_increase=0.005),),
    no_data=NoDataSpec(after_s=600.0), max_duration_s=7_200.0,
)  # fmt: skip
FINE = Judgement(reason="no harm seen", counts=Counts(9_000, 1_000, 0))


async def begun(plant: Plant, spec: Spec = SPEC) -> RolloutState:
    """Return a rollout that has just been started."""
    return await plant.commands.start("digits", spec, order())


NO_NEWS = Facts()


def proposed(
    plant: Plant, state: RolloutState, *, after_s: float = 61.0, facts: Facts = NO_NEWS, promote: bool = False
) -> Decision:
    """Return what control proposes so long after the start."""
    return propose(CANARY, state, replace(FINE, promote=promote), facts, plant.clock() + after_s)


async def test_the_policy_says_what_comes_next(plant: Plant) -> None:
    """One step further, and from the last one to promotion."""
    state = await begun(plant)
    assert isinstance(proposed(plant, state), Advance)
    last = replace(state, step=1, exposure=replace(state.exposure, weight_bp=5_000))
    assert isinstance(proposed(plant, last), Promote)


async def test_nothing_is_proposed_while_it_is_paused(plant: Plant) -> None:
    """An operator has stopped it."""
    await begun(plant)
    paused = await plant.commands.pause("digits", order())
    assert isinstance(proposed(plant, paused), Hold)


@pytest.mark.parametrize(("action", "kind"), [("pause", Pause), ("abort", RollBack)])
async def test_cl5_without_evidence_it_stops_and_never_goes_on(plant: Plant, action: str, kind: type[Decision]) -> None:
    """At its deadline the configured action, before it nothing."""
    state = await begun(plant, replace(SPEC, no_data=NoDataSpec(after_s=600.0, action=action)))
    late = proposed(plant, state, facts=Facts(idle_s=600.0))
    assert isinstance(late, kind)
    assert "no new evidence for 10m" in late.reason
    assert not isinstance(proposed(plant, state, facts=Facts(idle_s=599.0)), kind)


@pytest.mark.parametrize(("action", "kind"), [("pause", Pause), ("abort", RollBack)])
async def test_cl6_an_undecided_rollout_ends_at_its_longest_time(
    plant: Plant, action: str, kind: type[Decision]
) -> None:
    """Inconclusive never promotes; what the judge has passed by then may still end well."""
    state = await begun(plant, replace(SPEC, on_inconclusive=action))
    late = proposed(plant, state, after_s=7_200.0)
    assert isinstance(late, kind)
    assert "inconclusive after 2h" in late.reason
    assert isinstance(proposed(plant, state, after_s=7_200.0, promote=True), Advance)


async def test_shares_that_were_set_by_hand_stay_until_an_operator_goes_on(plant: Plant) -> None:
    """The plan would lower what a person has raised; `promote` takes the next step."""
    await begun(plant)
    by_hand = await plant.commands.change("digits", Change(weight_bp=3_000), order())
    held = proposed(plant, by_hand)
    assert isinstance(held, Hold)
    assert "set by hand" in held.reason
    onwards = await plant.commands.promote("digits", order(), full=False)
    assert isinstance(proposed(plant, onwards), Promote)


async def test_cl9_it_waits_for_every_live_replica_to_route_by_the_present_revision(plant: Plant) -> None:
    """Forward only: a replica that lags does not hold up the way back."""
    state = await begun(plant)
    now_s = plant.clock()
    beats = [
        Heartbeat(boot, GATEWAY, "host", 1, now_s, "same", {"digits": (revision, now_s)})
        for boot, revision in (("a", state.revision), ("b", state.revision - 1), ("c", 0))
    ]
    pulses = Pulses()
    pulses.live(beats, now=0.0)
    beats[:2] = [replace(one, at_s=one.at_s + 1.0) for one in beats[:2]]
    live = pulses.live(beats, now=LIVE_S + 0.1)  # of c nothing new has come
    lagging = lagging_of(state, replicas_of("digits", beats, live), beats)
    assert lagging == f"waits until all replicas route by revision {state.revision}: b not yet"
    assert proposed(plant, state, facts=Facts(lagging=lagging)) == Hold(reason=lagging)
    beats[1] = replace(beats[1], applied={"digits": (state.revision, now_s)})
    assert lagging_of(state, replicas_of("digits", beats, live), beats) is None
    ahead = [*beats[:1], replace(beats[1], applied={"digits": (state.revision + 1, now_s)})]
    assert lagging_of(state, replicas_of("digits", ahead, live), ahead) == (
        f"waits: the store has revision {state.revision}, yet replicas route b by {state.revision + 1}"
    )
    beats[1] = replace(beats[1], config_digest="other")
    assert "same configuration" in str(lagging_of(state, replicas_of("digits", beats, live), beats))


@pytest.mark.parametrize(
    ("gate", "last", "why"),
    [
        (
            GateSpec("speed", "latency", max_increase=0.1),
            Step(weight_bp=10_000, mirror_bp=1_000),
            "both variants serve",
        ),
        (GateSpec("speed", "latency", max_increase=0.1), Step(mirror_bp=10_000), "both variants serve"),
        (GateSpec("errors", "error_rate", max_increase=0.005), Step(weight_bp=10_000), "nothing to compare"),
        (GateSpec("flips", "disagreement", maximum=0.02), Step(weight_bp=5_000), "needs copies"),
        (GateSpec("right", "accuracy", max_increase=0.01), Step(weight_bp=5_000), "accuracy needs copies"),
    ],
)
async def test_a_rollout_whose_gate_could_never_pass_is_refused(
    plant: Plant, gate: GateSpec, last: Step, why: str
) -> None:
    """Preflight: each enforced gate can be measured in the last step; a gate on trial may be what it likes."""
    spec = replace(SPEC, steps=(STEPS[0], last), gates=(gate,))
    with pytest.raises(RefusedError, match=f"gate {gate.name} cannot pass in the last step .*{why}"):
        await begun(plant, spec)
    await begun(plant, replace(spec, gates=(replace(gate, dry_run=True),)))


async def test_a_gate_on_labels_needs_predictions_in_the_pair_log(plant: Plant) -> None:
    """Without them a label would find nothing to be held against."""
    loop = ControlLoop(
        config=replace(plant.config, pairs=PairsConfig(predictions=False)), store=plant.store, policies=plant.policies,
        prober=plant.prober, boot="control-1", now_s=plant.clock, monotonic=plant.clock,
    )  # fmt: skip
    steps = (STEPS[0], Step(weight_bp=5_000, mirror_bp=1_000))
    spec = replace(SPEC, steps=steps, gates=(GateSpec("right", "accuracy", max_increase=0.01),))
    with pytest.raises(RefusedError, match=r"gate right cannot pass .*pairs\.predictions is off"):
        await loop.commands.start("digits", spec, order())
    assert (await begun(plant, spec)).active


BLUE_GREEN = Spec("v2", "blue_green")
MOST_ERRORS = GateSpec("most_errors", "error_rate", maximum=0.02)
MORE_ERRORS = GateSpec("more_errors", "error_rate", max_increase=0.005)
SPEED = GateSpec("speed", "latency", max_increase=0.1)
FLIPS = GateSpec("flips", "disagreement", maximum=0.02)


@pytest.mark.parametrize(
    ("gates", "advice"),
    [
        (
            (MORE_ERRORS,),
            r"cannot pass in the last step .*add an absolute limit beside it, as \{metric: error_rate, max",
        ),
        (
            (MOST_ERRORS, SPEED),
            r"gate speed counts in no step of blue_green's own plan, .* \{weight: 50%, mirror: 10%\}",
        ),
    ],
    ids=["nothing left to judge", "latency"],
)
async def test_blue_green_with_gates_that_its_own_plan_cannot_measure_says_what_to_write(
    plant: Plant, gates: tuple[GateSpec, ...], advice: str
) -> None:
    """The default plan has no step for the operator to change."""
    with pytest.raises(RefusedError, match=advice):
        await begun(plant, replace(BLUE_GREEN, gates=gates))


@pytest.mark.parametrize(
    "spec",
    [
        BLUE_GREEN,
        replace(BLUE_GREEN, gates=(MORE_ERRORS, MOST_ERRORS)),
        replace(BLUE_GREEN, gates=(MORE_ERRORS, FLIPS)),
        replace(
            BLUE_GREEN,
            gates=(MORE_ERRORS, FLIPS, SPEED),
            steps=(
                Step(mirror_bp=10_000, min_pairs=500),
                Step(weight_bp=5_000, mirror_bp=1_000, gates=("more_errors", "flips", "speed")),
                Step(weight_bp=10_000, mirror_bp=1_000, bake_s=86_400.0, gates=("flips",)),
            ),
        ),
    ],
    ids=["no gates", "both sorts of errors", "errors and flips", "a gradual switch"],
)
async def test_blue_green_starts_with_gates_that_count_somewhere(plant: Plant, spec: Spec) -> None:
    """What is compared counts before the switch, what needs no comparison after it."""
    assert (await begun(plant, spec)).exposure.mirror_bp == 10_000


async def test_a_gate_that_the_step_before_the_switch_cannot_measure_is_refused(plant: Plant) -> None:
    """All traffic would never move."""
    steps = (Step(mirror_bp=10_000, gates=("speed",)), Step(weight_bp=10_000, gates=("most_errors",)))
    with pytest.raises(RefusedError, match=r"gate speed cannot pass in step 1, the last before 100 %, .*both variants"):
        await begun(plant, replace(BLUE_GREEN, gates=(SPEED, MOST_ERRORS), steps=steps))


@pytest.mark.parametrize(
    ("gate", "last"),
    [
        (GateSpec("errors", "error_rate", max_increase=0.005), Step(mirror_bp=10_000)),
        (GateSpec("errors", "error_rate", maximum=0.01), Step(weight_bp=10_000)),
        (GateSpec("flips", "disagreement", maximum=0.02), Step(weight_bp=10_000, mirror_bp=1_000)),
        (GateSpec("speed", "latency", max_increase=0.1), Step(weight_bp=5_000)),
        (GateSpec("right", "accuracy", max_increase=0.01), Step(weight_bp=5_000, mirror_bp=1)),
        (GateSpec("recall:8", "recall", minimum=0.9, label="8"), Step(mirror_bp=10_000)),
    ],
)
async def test_a_rollout_whose_gates_can_be_measured_starts(plant: Plant, gate: GateSpec, last: Step) -> None:
    """In shadow by copies, at 100 % by absolute limits."""
    assert (await begun(plant, replace(SPEC, steps=(STEPS[0], last), gates=(gate,)))).active


# -- the whole loop -------------------------------------------------------------------------------------------------


def served(exposure: int, stable: tuple[int, int], candidate: tuple[int, int]) -> dict[CounterKey, int]:
    """Return the counters of requests that all ended: (fine, failed) of each variant."""
    found = {}
    for role, (fine, failed) in (("stable", stable), ("candidate", candidate)):
        for cut in CUTS:
            found[CounterKey(exposure, "started" + cut, "", role, "all")] = fine + failed
            found[CounterKey(exposure, "outcome" + cut, "", role, "ok")] = fine
            found[CounterKey(exposure, "outcome" + cut, "", role, "http_error")] = failed
    return found


async def write(plant: Plant, state: RolloutState, counters: dict[CounterKey, int], sequence: int = 1) -> None:
    """Let a gateway write what it has counted."""
    await plant.store.append(RecordBatch("digits", state.id, "g1", sequence, 0, encode_pairs([]), counters), 2**20)


async def test_a_good_candidate_is_promoted_by_itself(plant: Plant) -> None:
    """Step by step, each with its bake and its counts; the ledger says by whom and on what."""
    state = await begun(plant)
    loop = plant.loop()
    first = served(state.exposure.id, (8_990, 10), (999, 1))
    await write(plant, state, first)
    await loop.turn()
    assert (await plant.states.read("digits")).step == 0, "baking"
    plant.clock.advance(61)
    await loop.turn()
    second = await plant.states.read("digits")
    assert (second.step, second.exposure.weight_bp) == (1, 5_000)
    assert (state.exposure,) == second.past
    await write(plant, second, first | served(second.exposure.id, (4_995, 5), (4_995, 5)), 2)
    plant.clock.advance(61)
    await loop.turn()
    promoted = await plant.states.read("digits")
    assert (promoted.phase, promoted.stable) == (Phase.PROMOTED, "v2")
    newest = (await plant.store.decisions("digits", 1))[0]
    assert (newest.kind, newest.actor) == ("promote", "control")
    (gate,) = newest.judgement.gates
    assert gate.log_e_proof >= gate.proof_at
    assert "candidate fails 0.10 % against 0.10 %" in gate.sentence


@pytest.mark.parametrize("paused", [False, True])
async def test_a_bad_candidate_is_rolled_back_by_the_judge_before_any_minimum(plant: Plant, *, paused: bool) -> None:
    """Also while an operator has paused it; the decision names the gate and its numbers."""
    state = await begun(plant)
    if paused:
        state = await plant.commands.pause("digits", order())
    await write(plant, state, served(state.exposure.id, (898, 2), (70, 30)))
    await plant.loop().turn()
    after = await plant.states.read("digits")
    assert (after.phase, after.exposure.weight_bp) == (Phase.ROLLED_BACK, 0)
    newest = (await plant.store.decisions("digits", 1))[0]
    assert newest.reason.startswith("errors: candidate fails 30.00 % against 0.22 % (n = 100 / 900); the chance")
    assert newest.judgement.log_e >= newest.judgement.rollback_at


@pytest.mark.parametrize(
    ("action", "phase", "weight_bp"), [("pause", Phase.PAUSED, 1_000), ("abort", Phase.ROLLED_BACK, 0)]
)
async def test_cl5_silence_ends_a_rollout_at_its_deadline(
    plant: Plant, action: str, phase: Phase, weight_bp: int
) -> None:
    """By the whole loop: weight unchanged and the gate inconclusive before, the configured action after, with why."""
    state = await begun(plant, replace(SPEC, no_data=NoDataSpec(after_s=600.0, action=action)))
    loop = plant.loop()
    await loop.turn()
    plant.clock.advance(599)
    await loop.turn()
    before = await plant.states.read("digits")
    assert (before.revision, before.exposure.weight_bp) == (state.revision, 1_000)
    assert [gate.verdict for gate in (await loop.states.judge(before)).gates] == [Verdict.INCONCLUSIVE]
    plant.clock.advance(1)
    await loop.turn()
    ended = await plant.states.read("digits")
    assert (ended.phase, ended.exposure.weight_bp) == (phase, weight_bp)
    assert ended.reason == "no new evidence for 10m (no_data.after)"


@pytest.mark.parametrize("approval", [False, True], ids=["nobody is asked", "after an approval"])
async def test_cl6_a_last_step_without_a_verdict_holds_for_a_person(plant: Plant, *, approval: bool) -> None:
    """Evidence arrives to the end and says neither: held every minute, paused at the longest time, never promoted."""
    last = Step(weight_bp=5_000, bake_s=60.0, min_requests=10, approval=approval)
    state = await begun(plant, replace(SPEC, steps=(last,)))
    if approval:
        state = await plant.commands.approve("digits", order())
    loop = plant.loop()
    phases = set()
    for number in range(1, 120):
        await write(plant, state, served(state.exposure.id, (97 + number, 3), (97 + number, 3)), number)
        await loop.turn()
        phases.add((await plant.states.read("digits")).phase)
        plant.clock.advance(60)
    assert phases == {Phase.PROGRESSING}
    plant.clock.advance(60)
    await loop.turn()
    held = await plant.states.read("digits")
    assert (held.phase, held.stable, held.exposure.weight_bp) == (Phase.PAUSED, "v1", 5_000)
    assert held.reason.startswith("inconclusive after 2h (max_duration)")


async def test_a_broken_policy_does_not_keep_the_judge_from_rolling_back(plant: Plant) -> None:
    """Its mistake is a Hold, and harm is taken back all the same."""
    state = await begun(plant)
    await write(plant, state, served(state.exposure.id, (898, 2), (70, 30)))

    def broken(*_: object) -> Decision:
        raise KeyError("gone")

    await plant.loop(propose=broken).turn()
    assert (await plant.states.read("digits")).phase is Phase.ROLLED_BACK


async def test_a_store_that_was_away_is_no_silence(plant: Plant) -> None:
    """Without the store ramps freeze: what nobody could see did not fail to happen."""
    server = MemoryServer()
    plant.new_store = lambda: MemoryStore(server)
    plant.store = plant.new_store()
    plant.commands = plant.commands_on(plant.store)
    plant.states = States(plant.store, plant.config.routes, plant.clock)
    state = await begun(plant)
    loop = plant.loop()
    await loop.turn()
    server.cut()
    plant.clock.advance(700)
    await loop.turn()
    server.mend()
    await loop.turn()
    assert (await plant.states.read("digits")).revision == state.revision


async def test_resume_counts_silence_and_time_anew(plant: Plant) -> None:
    """An operator who goes on after a pause is not paused again in the same second."""
    await begun(plant)
    loop = plant.loop()
    await loop.turn()
    await plant.commands.pause("digits", order())
    plant.clock.advance(8_000)
    await loop.turn()
    resumed = await plant.commands.resume("digits", order())
    await loop.turn()
    assert (await plant.states.read("digits")).revision == resumed.revision


async def test_stables_own_traffic_is_no_evidence_of_the_candidate(plant: Plant) -> None:
    """A candidate that gets nothing pauses the rollout, however busy stable is."""
    state = await begun(plant)
    loop = plant.loop()
    for number in range(1, 13):
        await write(plant, state, served(state.exposure.id, (100 * number, 0), (0, 0)), number)
        await loop.turn()
        plant.clock.advance(60)
    assert (await plant.states.read("digits")).phase is Phase.PAUSED


async def test_a_step_is_not_left_before_latency_can_be_judged_in_the_next(plant: Plant) -> None:
    """Nothing is frozen later, so a step with too few requests for p99 would lead to one that never passes."""
    spec = replace(SPEC, gates=(*SPEC.gates, GateSpec("speed", "latency", max_increase=0.1)))
    state = await begun(plant, spec)
    loop = plant.loop()
    plant.clock.advance(61)
    few = {CounterKey(state.exposure.id, "latency", "", "stable", "230"): 600}
    await write(plant, state, {**served(state.exposure.id, (600, 0), (300, 0)), **few})
    await loop.turn()
    assert (await plant.states.read("digits")).step == 0
    enough = {CounterKey(state.exposure.id, "latency", "", "stable", "230"): 1_000}
    await write(plant, state, {**served(state.exposure.id, (1_000, 0), (300, 0)), **enough}, 2)
    await loop.turn()
    moved = await plant.states.read("digits")
    assert moved.step == 1
    assert [name for name, _ in moved.exposure.thresholds] == ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"]


async def test_each_attempt_of_a_rollout_has_half_the_chance_to_err(plant: Plant) -> None:
    """Rule 11: the third attempt asks for four times the evidence of the first."""
    levels = []
    for _ in range(3):
        state = await plant.states.read("digits")
        state = await (begun(plant) if state.phase is Phase.IDLE else plant.commands.retry("digits", order()))
        levels.append((await plant.states.judge(state)).rollback_at)
        await plant.commands.abort("digits", order())
    assert [pytest.approx(levels[0] + 0.6931471805599453 * n) for n in range(3)] == levels
