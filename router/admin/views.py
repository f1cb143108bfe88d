"""From core values to answers. Pure."""

from collections.abc import Sequence

from router.admin import schemas as s
from router.analysis.evidence import Evidence, counts_of
from router.control.blocks import BlockStanding, drift_of, standing_of
from router.control.replicas import Replica
from router.core.decisions import Counts, DecisionRecord, GateResult, Judgement
from router.core.rollout import Exposure, RolloutState, Spec, Step
from router.core.slices import is_free
from router.core.timestamps import rfc3339
from router.core.traffic import Backend, Route, Variant


def rollout_view(
    state: RolloutState, judgement: Judgement, waits_for: str | None, replicas: Sequence[Replica]
) -> s.RolloutView:
    """Return where a rollout stands."""
    return s.RolloutView(
        route=state.route,
        id=state.id,
        revision=state.revision,
        epoch=state.epoch,
        phase=state.phase,
        reason=state.reason,
        halted=state.halted,
        policy=state.policy,
        step=state.step,
        steps=[_step_view(step) for step in state.steps],
        exposure=exposure_view(state.exposure),
        stable=state.stable,
        candidate=state.candidate,
        judgement=judgement_view(judgement),
        waits_for=waits_for,
        slices=[place for place in state.slices if not is_free(place)],
        free_places=sum(map(is_free, state.slices)),
        replicas=[_replica_view(replica) for replica in replicas],
    )


def exposure_view(exposure: Exposure) -> s.ExposureView:
    """Return what shares there are, and since when."""
    return s.ExposureView(
        id=exposure.id,
        weight_bp=exposure.weight_bp,
        mirror_bp=exposure.mirror_bp,
        since=rfc3339(exposure.since_s),
    )


def route_summary(
    route: Route, state: RolloutState, stored: RolloutState | None, unreadable: str | None
) -> s.RouteSummary:
    """Return one line about a Route; `unreadable` says why its stored state cannot be read, if so."""
    return s.RouteSummary(
        name=route.name,
        adapter=route.adapter,
        variants=list(route.variants),
        stable=state.stable,
        candidate=state.candidate,
        phase=state.phase,
        policy=state.policy,
        weight_bp=state.exposure.weight_bp,
        mirror_bp=state.exposure.mirror_bp,
        revision=state.revision,
        drift=unreadable or drift_of(route, stored),
    )


def route_view(
    route: Route, stored: RolloutState | None, pending: s.PendingView | None, rollout: s.RolloutView
) -> s.RouteView:
    """Return all about a Route."""
    match = route.match
    return s.RouteView(
        name=route.name,
        adapter=route.adapter,
        match=s.MatchView(path_prefix=match.path_prefix, host=match.host, headers=dict(match.headers)),
        mirror_safe=route.mirror_safe,
        variants=[_variant_view(variant) for variant in route.variants.values()],
        file_stable=route.stable,
        drift=drift_of(route, stored),
        pending=pending,
        rollout=rollout,
    )


def pending_view(state: RolloutState, spec: Spec | None, block: str, why: str | None) -> s.PendingView | None:
    """Return the file's block if it still waits.

    `why` is what the deciding loop says, None where that runs elsewhere.
    """
    standing = standing_of(state, block)
    if spec is None or standing is BlockStanding.SEEN:
        return None
    if standing is BlockStanding.WAITING:
        why = f"waits until {state.id} has ended"
    return s.PendingView(
        candidate=spec.candidate, policy=spec.policy, why=why or "waits for the control process that decides"
    )


def judgement_view(judgement: Judgement) -> s.JudgementView:
    """Return what the gates say."""
    return s.JudgementView(
        rollback=judgement.rollback,
        promote=judgement.promote,
        invalid=judgement.invalid,
        harm=judgement.harm,
        reason=judgement.reason,
        log_e=judgement.log_e,
        rollback_at=judgement.rollback_at,
        formula=judgement.formula,
        counts=_counts_view(judgement.counts),
        gates=[_gate_view(gate) for gate in judgement.gates],
    )


def _gate_view(gate: GateResult) -> s.GateView:
    return s.GateView(
        gate=gate.gate,
        verdict=gate.verdict,
        sentence=gate.sentence,
        rule=gate.rule,
        enforced=gate.enforced,
        estimate=gate.estimate,
        low=gate.low,
        high=gate.high,
        margin=gate.margin,
        tolerance=gate.tolerance,
        log_e_harm=gate.log_e_harm,
        harm_at=gate.harm_at,
        log_e_proof=gate.log_e_proof,
        proof_at=gate.proof_at,
        counts=dict(gate.counts),
        more_requests=gate.more_requests,
        slice=gate.slice or None,
        proves=gate.proves,
    )


def decision_view(record: DecisionRecord) -> s.DecisionView:
    """Return one line of the ledger."""
    return s.DecisionView(
        at=rfc3339(record.at_s),
        route=record.route,
        rollout=record.rollout,
        revision=record.revision,
        epoch=record.epoch,
        kind=record.kind,
        reason=record.reason,
        actor=record.actor,
        phase_before=record.phase_before,
        phase_after=record.phase_after,
        weight_bp_before=record.weight_bp_before,
        weight_bp_after=record.weight_bp_after,
        mirror_bp_before=record.mirror_bp_before,
        mirror_bp_after=record.mirror_bp_after,
        policy=record.policy,
        judgement=judgement_view(record.judgement),
    )


def evidence_view(state: RolloutState, evidence: Evidence) -> s.EvidenceView:
    """Return the counters, sorted by exposure, metric, slice, variant, cell."""
    return s.EvidenceView(
        route=state.route,
        rollout=state.id,
        exposure=state.exposure.id,
        counts=_counts_view(counts_of(evidence, state.exposure)),
        counters=[s.CounterView(**key._asdict(), value=value) for key, value in sorted(evidence.counters.items())],
    )


def _counts_view(counts: Counts) -> s.CountsView:
    return s.CountsView(
        requests_stable=counts.requests_stable,
        requests_candidate=counts.requests_candidate,
        pairs=counts.pairs,
    )


def _step_view(step: Step) -> s.StepView:
    return s.StepView(
        weight_bp=step.weight_bp,
        mirror_bp=step.mirror_bp,
        bake_s=step.bake_s,
        min_requests=step.min_requests,
        min_pairs=step.min_pairs,
        approval=step.approval,
        gates=list(step.gates),
    )


def _replica_view(replica: Replica) -> s.ReplicaView:
    return s.ReplicaView(
        id=replica.id,
        host=replica.host,
        pid=replica.pid,
        revision=replica.revision,
        applied_at=rfc3339(replica.applied_at_s) if replica.revision else None,
        seen=rfc3339(replica.seen_at_s),
    )


def _variant_view(variant: Variant) -> s.VariantView:
    return s.VariantView(
        name=variant.name,
        urls=[_url(backend) for backend in variant.backends],
        model=variant.model,
        version=variant.version,
        path=variant.path,
        health=variant.health,
    )


def _url(backend: Backend) -> str:
    return f"{'https' if backend.tls else 'http'}://{backend.authority}"
