"""The state of a Route as bytes. The most careful of the codecs: everything that serves traffic acts by it.

Processes of two versions run side by side during an upgrade, and either may write (CF7). Fields of the state itself
that this version does not know are kept and written back; inside spec, steps, gates and exposures they are not. So a
new field belongs at the top, and must have a default that means what there was before it; a change that an older
process must not act without raises VERSION, which the older one refuses: it then keeps the last good state.
"""

from dataclasses import fields

import orjson

from router.core.rollout import (
    FULL_BP,
    BreakerSpec,
    Exposure,
    GateSpec,
    NoDataSpec,
    Phase,
    RolloutState,
    Spec,
    Step,
)
from router.store import fields as f
from router.store.fields import Fields, UnreadableRecordError

VERSION = 1

_OURS = frozenset({"v", *(field.name for field in fields(RolloutState))})
"""Top-level names that this version reads or never writes; every other one is kept as it came."""


def encode_state(state: RolloutState) -> bytes:
    """Return the record of `state`; raises ValueError for one that cannot be read back (a NaN, a weight of 10001)."""
    spec = state.spec
    raw = orjson.dumps(
        {
            **{name: orjson.Fragment(json) for name, json in state.unknown},
            "v": VERSION,
            "route": state.route,
            "stable": state.stable,
            "revision": state.revision,
            "epoch": state.epoch,
            "phase": state.phase,
            "reason": state.reason,
            "exposure": _exposure_to_json(state.exposure),
            "past": [_exposure_to_json(exposure) for exposure in state.past],
            "id": state.id,
            "spec": None if spec is None else spec_to_json(spec),
            "steps": [step_to_json(step) for step in state.steps],
            "step": state.step,
            "approved": state.approved,
            "started_s": state.started_s,
            "previous_stable": state.previous_stable,
            "seen_blocks": state.seen_blocks,
            "halted": state.halted,
            "slices": state.slices,
        }
    )
    # States are written a few times a minute and everything hangs on them, so the proof is worth its 50 us.
    try:
        readable = decode_state(raw) == state
    except UnreadableRecordError as error:
        raise ValueError(f"a state that nobody could read back: {error}") from error
    if not readable:
        raise ValueError(f"the state of {state.route} does not survive its codec: {state}")
    return raw


def decode_state(raw: bytes | str) -> RolloutState:
    """Return the state in `raw`; raises UnreadableRecordError."""
    record = Fields.parse(raw, "state", VERSION)
    spec = None if record.get("spec") is None else read_spec(record.record("spec"))
    steps = tuple(read_step(step) for step in record.records("steps"))
    return RolloutState(
        route=record.text("route"),
        stable=record.text("stable"),
        revision=record.whole("revision"),
        epoch=record.whole("epoch"),
        phase=record.choice("phase", Phase),
        reason=record.text("reason"),
        exposure=_exposure(record.record("exposure")),
        past=tuple(_exposure(exposure) for exposure in record.records("past")),
        id=record.text("id"),
        spec=spec,
        steps=steps,
        step=record.whole("step", 0, max(len(steps) - 1, 0)),
        approved=record.flag("approved"),
        started_s=record.number("started_s"),
        previous_stable=record.text("previous_stable"),
        seen_blocks=record.texts("seen_blocks"),
        halted="halted" in record.values and record.flag("halted"),  # states of before there was a breaker
        slices=record.texts("slices") if "slices" in record.values else (),
        unknown=tuple(
            (name, orjson.dumps(value).decode()) for name, value in record.values.items() if name not in _OURS
        ),
    )


def _exposure_to_json(exposure: Exposure) -> dict[str, object]:
    return {
        "id": exposure.id,
        "weight_bp": exposure.weight_bp,
        "mirror_bp": exposure.mirror_bp,
        "policy": exposure.policy,
        "since_s": exposure.since_s,
        "thresholds": exposure.thresholds,
    }


def _exposure(record: Fields) -> Exposure:
    return Exposure(
        id=record.whole("id"),
        weight_bp=record.whole("weight_bp", 0, FULL_BP),
        mirror_bp=record.whole("mirror_bp", 0, FULL_BP),
        policy=record.text("policy"),
        since_s=record.number("since_s"),
        thresholds=f.named_numbers(record, "thresholds"),
    )


def spec_to_json(spec: Spec) -> dict[str, object]:
    """Return what was asked for, as it stands in records."""
    return {
        "candidate": spec.candidate,
        "policy": spec.policy,
        "steps": [step_to_json(step) for step in spec.steps],
        "gates": [_gate_to_json(gate) for gate in spec.gates],
        "alpha": spec.alpha,
        "beta": spec.beta,
        "breaker": {
            "consecutive": spec.breaker.consecutive,
            "window": spec.breaker.window,
            "ratio_bp": spec.breaker.ratio_bp,
            "fleet": spec.breaker.fleet,
        },
        "no_data": {"after_s": spec.no_data.after_s, "action": spec.no_data.action},
        "on_inconclusive": spec.on_inconclusive,
        "max_duration_s": spec.max_duration_s,
        "rollback_window_s": spec.rollback_window_s,
    }


def read_spec(record: Fields) -> Spec:
    """Return what was asked for; raises UnreadableRecordError."""
    breaker, no_data = record.record("breaker"), record.record("no_data")
    return Spec(
        candidate=record.text("candidate"),
        policy=record.text("policy"),
        steps=tuple(read_step(step) for step in record.records("steps")),
        gates=tuple(_gate(gate) for gate in record.records("gates")),
        alpha=record.number("alpha"),
        beta=record.number("beta"),
        breaker=BreakerSpec(
            consecutive=breaker.whole("consecutive"),
            window=breaker.whole("window"),
            ratio_bp=breaker.whole("ratio_bp", 0, FULL_BP),
            fleet=breaker.text("fleet"),
        ),
        no_data=NoDataSpec(after_s=no_data.number("after_s"), action=no_data.text("action")),
        on_inconclusive=record.text("on_inconclusive"),
        max_duration_s=record.number("max_duration_s"),
        rollback_window_s=record.number("rollback_window_s"),
    )


def step_to_json(step: Step) -> dict[str, object]:
    """Return one step, as it stands in records."""
    return {
        "weight_bp": step.weight_bp,
        "mirror_bp": step.mirror_bp,
        "bake_s": step.bake_s,
        "min_requests": step.min_requests,
        "min_pairs": step.min_pairs,
        "approval": step.approval,
        "gates": step.gates,
    }


def read_step(record: Fields) -> Step:
    """Return one step; raises UnreadableRecordError."""
    return Step(
        weight_bp=record.whole("weight_bp", 0, FULL_BP),
        mirror_bp=record.whole("mirror_bp", 0, FULL_BP),
        bake_s=record.number("bake_s"),
        min_requests=record.whole("min_requests"),
        min_pairs=record.whole("min_pairs"),
        approval=record.flag("approval"),
        gates=record.texts("gates"),
    )


def _gate_to_json(gate: GateSpec) -> dict[str, object]:
    return {
        "name": gate.name,
        "metric": gate.metric,
        "max_increase": gate.max_increase,
        "maximum": gate.maximum,
        "minimum": gate.minimum,
        "tolerance": gate.tolerance,
        "label": gate.label,
        "slice": gate.slice,
        "dry_run": gate.dry_run,
        "weight": gate.weight,
        "slack_ms": gate.slack_ms,
        "beyond": gate.beyond,
        "slices": gate.slices,
    }


def _gate(record: Fields) -> GateSpec:
    return GateSpec(
        name=record.text("name"),
        metric=record.text("metric"),
        max_increase=record.number_or_none("max_increase"),
        maximum=record.number_or_none("maximum"),
        minimum=record.number_or_none("minimum"),
        tolerance=record.number_or_none("tolerance"),
        label=record.text_or_none("label"),
        slice=record.text_or_none("slice"),
        dry_run=record.flag("dry_run"),
        weight=record.number("weight"),
        slack_ms=record.number("slack_ms"),
        beyond=record.number_or_none("beyond"),
        slices=record.text_or_none("slices") if "slices" in record.values else None,
    )
