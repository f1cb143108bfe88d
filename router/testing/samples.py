"""Complete, valid values to start a test from: change what it is about with `dataclasses.replace`."""

from router.core.basis import Basis, Facts
from router.core.decisions import Advance, Counts, DecisionRecord, GateResult, Judgement, Outside, Verdict
from router.core.observations import Comparison, CounterKey, Outcome, Pair, PairSide
from router.core.ports import Heartbeat, RecordBatch
from router.core.rollout import Exposure, GateSpec, Phase, RolloutState, Spec, Step
from router.core.slices import Popular
from router.store.codec import encode_pairs

NOW_S = 1_790_000_000.125
"""A second in September 2026, with a fraction that floats hold exactly."""

ROLLOUT = "a1b2c3d4e5f6.1"


SAMPLE_POPULAR = Popular(ROLLOUT, {"country": 1_000}, {"country=fr": 40, "country=a|b": 9})


def sample_state(route: str, revision: int = 1, epoch: int = 1) -> RolloutState:
    """Return a canary rollout at its first of two steps, every optional field filled."""
    shadow = Step(mirror_bp=10_000, min_pairs=500)
    canary = Step(weight_bp=100, mirror_bp=1_000, bake_s=30.5, min_requests=200, approval=True, gates=("errors",))
    gates = (
        GateSpec("errors", "error_rate", max_increase=0.005, tolerance=0.0025, slice="eu", dry_run=True),
        GateSpec("flips", "disagreement", maximum=0.02, label="7", weight=2.5, slack_ms=0.5, beyond=0.1),
    )
    return RolloutState(
        route=route,
        stable="v1",
        revision=revision,
        epoch=epoch,
        phase=Phase.PROGRESSING,
        reason="started by olga: „v2“",
        exposure=Exposure(revision, 100, 1_000, "canary", NOW_S, (("latency_p99", 0.1 + 0.2), ("latency_p50", 3.0))),
        past=(Exposure(1, 0, 10_000, "canary", NOW_S - 60.0),),
        id=ROLLOUT,
        spec=Spec("v2", "canary", steps=(shadow, canary), gates=gates),
        steps=(shadow, canary),
        step=1,
        approved=True,
        started_s=NOW_S - 60.0,
        previous_stable="v0",
        seen_blocks=("0f0f0f", "a1b2c3d4e5f6"),
        slices=("country=other", "country=none", "country=de", "country="),
    )


def sample_decision(route: str, revision: int = 1) -> DecisionRecord:
    """Return an operator's decision to advance."""
    gate = GateResult(
        "errors", Verdict.INCONCLUSIVE, "errors: 0.1 % against 0.2 %, limit 0.5 points", rule="neither",
        estimate=-0.001, low=-0.02, high=0.015, margin=0.005, tolerance=0.0025, log_e_harm=-0.5, harm_at=4.6,
        log_e_proof=1.25, proof_at=3.0, counts=(("stable_requests", 1_000), ("candidate_requests", 10)),
        more_requests=4_000,
    )  # fmt: skip
    return DecisionRecord(
        at_s=NOW_S,
        route=route,
        rollout=ROLLOUT,
        revision=revision,
        epoch=1,
        kind="advance",
        reason="looks good",
        actor="operator:olga",
        phase_before="progressing",
        phase_after="progressing",
        weight_bp_before=0,
        weight_bp_after=100,
        mirror_bp_before=10_000,
        mirror_bp_after=1_000,
        policy="canary",
        judgement=Judgement(
            harm="a little",
            log_e=1.5,
            rollback_at=5.3,
            formula="turnout-judge/1",
            counts=Counts(1_000, 10, 500),
            gates=(gate,),
            thresholds=(("latency_p50_ms", 3.5),),
        ),
    )


def sample_basis(route: str, revision: int = 1) -> Basis:
    """Return what a decision of control's followed from: a proposal, facts, and counters of two exposures."""
    counters = {
        CounterKey(1, "started", "", "stable", "all"): 1_000,
        CounterKey(1, "label", "country=de|at", "pair", "%7:111/0"): 2**53,
        CounterKey(revision, "latency", "", "candidate", "230"): 7,
    }
    state, proposal = sample_state(route, revision), Advance(reason="next: „v2“")
    facts, outside = (
        Facts(12.5, "b1 not yet", SAMPLE_POPULAR),
        Outside("frozen until Mon", "nobody agreed", "the pager demands it"),
    )
    return Basis(state, NOW_S, counters, keyed=True, proposals=(proposal,), facts=facts, outside=outside)


def sample_pair(route: str, number: int = 1, boot: str = "boot1") -> Pair:
    """Return a pair in which the candidate flipped the label; `number` makes its ids and its second."""
    return Pair(
        pair_id=f"{boot}-{number}",
        request_id=f"request-{number}",
        route=route,
        rollout=ROLLOUT,
        exposure=2,
        assigned_at_s=NOW_S + number,
        served="stable",
        stable=PairSide(Outcome.OK, 200, 1.25, 312, "91b7584a2265b1f5", "7", 0.98),
        candidate=PairSide(Outcome.OK, 200, 2.5, 310, "0b1c2d3e4f506172", "1", 0.51),
        comparison=Comparison("label", same=False, distance=1.0, reason="label 7 against 1"),
        slices=(("country", "de"),),
    )


def sample_batch(route: str, sequence: int, pairs: int = 1, boot: str = "boot1", requests: int = 0) -> RecordBatch:
    """Return the `sequence`th batch of a boot: `pairs` pairs numbered on from the batch before, `requests` counted."""
    first = (sequence - 1) * pairs
    counters = {CounterKey(2, "started", "", "stable", ""): requests} if requests else {}
    made = [sample_pair(route, first + index, boot) for index in range(pairs)]
    return RecordBatch(route, ROLLOUT, boot, sequence, pairs, encode_pairs(made), counters)


def sample_heartbeat(boot: str, at_s: float = NOW_S) -> Heartbeat:
    """Return the sign of life of a gateway worker."""
    return Heartbeat(boot, "gateway", "host1", 4711, at_s, "c0ffee", {"digits": (3, at_s - 1.0)},
                     popular={"digits": SAMPLE_POPULAR})  # fmt: skip
