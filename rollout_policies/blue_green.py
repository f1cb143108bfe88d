"""Blue/green: after copies only, all traffic moves at once; the old variant stays ready for the way back."""

from dataclasses import replace

from rollout_policies.walk import planned, serving_step, shadow_step, walk
from router.core.decisions import Advance, Decision, Hold, Judgement, Promote, waits_for
from router.core.rollout import FULL_BP, GateSpec, RolloutState, Spec, Step


class BlueGreen:
    """Copies first, then serves everything from the candidate for the rollback window, then promotes.

    Where everything is served by one variant, most gates have nothing left to compare. So all traffic moves only when
    the judge has passed the gates that the step before names. In the default plan these are the gates that copies can
    show; afterwards those count that need no comparison.
    """

    name = "blue_green"

    def plan(self, spec: Spec) -> tuple[Step, ...]:
        """Return the Spec's steps, or the shadow step and 100 % that bakes for `spec.rollback_window_s`."""
        enforced = [gate for gate in spec.gates if not gate.dry_run]
        shown = tuple(gate.name for gate in enforced if _shown_by_copies(gate))
        absolute = tuple(gate.name for gate in enforced if _needs_no_comparison(gate))
        everything = serving_step(FULL_BP, bake_s=spec.rollback_window_s)
        return planned(spec, (replace(shadow_step(), gates=shown), replace(everything, gates=absolute)))

    def decide(self, plan: tuple[Step, ...], state: RolloutState, judgement: Judgement, now_s: float) -> Decision:
        """Propose the next step, the one with all traffic once the judge agrees, and promotion at the last one."""
        move = walk(plan, state, judgement, Promote(reason=f"last step: {judgement.reason}"))
        if isinstance(move, Advance) and plan[state.step + 1].weight_bp == FULL_BP and _names_gates(state):
            wait = waits_for(judgement, state, now_s)
            if wait is None and not judgement.promote:
                wait = f"all traffic moves when the judge agrees: {judgement.reason}"
            return move if wait is None else Hold(reason=wait)
        return move


def _shown_by_copies(gate: GateSpec) -> bool:
    return gate.metric != "latency"  # copies do not run under the load of live requests


def _needs_no_comparison(gate: GateSpec) -> bool:
    """Whether a gate can be measured where the candidate serves everything and some requests are copied to stable."""
    return gate.metric not in ("latency", "error_rate") or gate.maximum is not None


def _names_gates(state: RolloutState) -> bool:
    """Whether the present step names a gate that is enforced; without one there is nobody to wait for."""
    named = state.steps[state.step].gates
    return state.spec is not None and any(gate.name in named and not gate.dry_run for gate in state.spec.gates)
