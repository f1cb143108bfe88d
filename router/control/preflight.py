"""May this rollout start here? What can be told without asking anybody. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from router.core.errors import ConfigError
from router.core.ports import RolloutPolicy
from router.core.rollout import FULL_BP, GateSpec, RolloutState, Spec, Step
from router.core.traffic import Route
from router.settings.metrics import METRICS


def plan_of(policies: Mapping[str, RolloutPolicy], spec: Spec) -> tuple[Step, ...]:
    """Return the steps that the Spec's policy makes of it; raises ConfigError naming the known policies."""
    policy = policies.get(spec.policy)
    if policy is None:
        raise ConfigError("policy", spec.policy, f"one of {', '.join(sorted(policies))}")
    return policy.plan(spec)


def replan(policies: Mapping[str, RolloutPolicy], spec: Spec, policy: str, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the plan for going on under `policy`: the given steps, else the Spec's own if they were written for it.

    Steps that were written for another policy would make a canary of a shadow, so those are left behind and the new
    policy's default plan is taken. Raises ConfigError on an unknown policy.
    """
    own = spec.steps if policy == spec.policy else ()
    return plan_of(policies, replace(spec, policy=policy, steps=steps or own))


def check_candidate(route: Route, candidate: str) -> None:
    """Raise ConfigError unless the Route has a Variant of this name."""
    if candidate not in route.variants:
        raise ConfigError("candidate", candidate, f"a variant of {route.name}: {', '.join(sorted(route.variants))}")


def check_gates(spec: Spec, steps: Sequence[Step]) -> None:
    """Raise ConfigError when a step waits for a gate that the Spec does not have; such a step could never be left."""
    known = {gate.name for gate in spec.gates}
    for index, step in enumerate(steps):
        for name in step.gates:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"steps[{index}].gates", name, f"a gate of the rollout: {listed}")


def start_refusal(
    route: Route, state: RolloutState, spec: Spec, steps: Sequence[Step], *, predictions: bool
) -> str | None:
    """Say why `spec` cannot start on `route` now, None when nothing speaks against it; see `gates_refusal`."""
    if state.active:
        return f"rollout {state.id} is {state.phase} with candidate {state.candidate}; it has to end first"
    if spec.candidate == state.stable:
        return f"{spec.candidate} is stable already; name another variant as candidate"
    return mirror_refusal(route, steps) or gates_refusal(spec, steps, predictions=predictions)


def gates_refusal(spec: Spec, steps: Sequence[Step], *, predictions: bool) -> str | None:
    """Say which enforced gate cannot be measured where it counts, so that the rollout could never end; else None.

    It counts in the last step, and in the one before all traffic moves if that one names it. `predictions` says
    whether pairs keep them.
    """
    switches = [index for index, step in enumerate(steps[1:]) if step.weight_bp == FULL_BP and steps[index].gates]
    for index in (*switches, len(steps) - 1):
        step = steps[index]
        for gate in spec.gates:
            if gate.dry_run or gate.slices or (step.gates and gate.name not in step.gates):
                continue
            why = _not_measured(gate, steps[: index + 1], predictions=predictions)
            if why is not None:
                where = "the last step" if index + 1 == len(steps) else f"step {index + 1}, the last before 100 %,"
                return (
                    f"gate {gate.name} cannot pass in {where} (weight {step.weight_bp / 100:g} %, mirror "
                    f"{step.mirror_bp / 100:g} %): {why}; {_advice(spec, gate)}, or set dry_run: true"
                )
    return _forgotten(spec, steps) or _blind(spec, steps, predictions=predictions)


def _advice(spec: Spec, gate: GateSpec) -> str:
    """Say what to write instead; in a policy's own plan there is no step to change."""
    if spec.steps:
        return "change that step, leave the gate out of its `gates`"
    if gate.metric == "error_rate":
        return "add an absolute limit beside it, as {metric: error_rate, max: 2%}"
    return "write `steps:` of your own"


def _forgotten(spec: Spec, steps: Sequence[Step]) -> str | None:
    """Say which enforced gate counts in no step of the policy's own plan; silence would look like success."""
    for gate in spec.gates:
        if (
            spec.steps
            or gate.dry_run
            or gate.slices
            or any(not step.gates or gate.name in step.gates for step in steps)
        ):
            continue
        return (
            f"gate {gate.name} counts in no step of {spec.policy}'s own plan, since both variants never serve at the "
            "same time; write `steps:` with one in which they do, as {weight: 50%, mirror: 10%}, or set dry_run: true"
        )
    return None


def _blind(spec: Spec, steps: Sequence[Step], *, predictions: bool) -> str | None:
    """Say which enforced gate of each slice, which need not pass anywhere, is measured in no step at all."""
    for gate in spec.gates:
        if gate.dry_run or not gate.slices:
            continue
        whys = [_not_measured(gate, steps[: index + 1], predictions=predictions) for index in range(len(steps))]
        if all(whys):
            return f"gate {gate.name} is measured in no step: {whys[-1]}; change a step, or set dry_run: true"
    return None


def _not_measured(  # noqa: PLR0911 - one line for each sort of gate
    gate: GateSpec, steps: Sequence[Step], *, predictions: bool
) -> str | None:
    last = steps[-1]
    compared = 0 < last.weight_bp < FULL_BP
    if METRICS[gate.metric].from_labels:
        if not predictions:
            return "pairs.predictions is off, so there is nothing to hold true labels against"
        return None if last.mirror_bp else f"{gate.metric} needs copies, to join true labels to both answers"
    if gate.metric == "disagreement":
        return None if last.mirror_bp else "disagreement needs copies, to have both answers to one request"
    if gate.metric == "latency":
        if not compared:
            return "latency is compared between requests that both variants serve, not between copies"
        return None if len(steps) > 1 else "stable's quantiles are frozen when a step follows another one"
    if gate.max_increase is not None:
        alone = not compared and not (last.mirror_bp and not last.weight_bp)
        return "there is nothing to compare the candidate with; `max` is an absolute limit" if alone else None
    return None if last.weight_bp or last.mirror_bp else "the candidate gets no request"


def mirror_refusal(route: Route, steps: Sequence[Step]) -> str | None:
    """Say why these steps cannot be walked on a Route whose requests must not be sent twice, None if they can."""
    if route.mirror_safe or not any(step.mirror_bp for step in steps):
        return None
    return (
        f"this copies requests, but {route.name} does not say that a request may be sent twice; "
        "set mirror_safe: true on the route, or leave the mirror out"
    )
