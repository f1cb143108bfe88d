"""May this rollout start here? What can be told without asking anybody. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from router.core.errors import ConfigError
from router.core.ports import RolloutPolicy
from router.core.rollout import RolloutState, Spec, Step
from router.core.traffic import Route


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


def start_refusal(route: Route, state: RolloutState, spec: Spec, steps: Sequence[Step]) -> str | None:
    """Say why `spec` cannot start on `route` now, None when nothing speaks against it."""
    if state.active:
        return f"rollout {state.id} is {state.phase} with candidate {state.candidate}; it has to end first"
    if spec.candidate == state.stable:
        return f"{spec.candidate} is stable already; name another variant as candidate"
    return mirror_refusal(route, steps)


def mirror_refusal(route: Route, steps: Sequence[Step]) -> str | None:
    """Say why these steps cannot be walked on a Route whose requests must not be sent twice, None if they can."""
    if route.mirror_safe or not any(step.mirror_bp for step in steps):
        return None
    return (
        f"this copies requests, but {route.name} does not say that a request may be sent twice; "
        "set mirror_safe: true on the route, or leave the mirror out"
    )
