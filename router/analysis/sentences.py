"""One plain sentence for each gate: the facts, what follows from them, and how sure that is."""

import math

from router.analysis.measures import Measure
from router.core.decisions import Verdict
from router.core.rollout import GateSpec

LARGEST = 1e9
"""Chances are told down to one in a billion; below that the digits mean nothing to a reader."""


def sentence_of(one: Measure, verdict: Verdict, log_e: float, proof_at: float) -> str:
    """Return what a gate says, for a person who sees nothing else."""
    return f"{one.gate.name}: {one.facts}; {_conclusion(one, verdict, log_e, proof_at)}"


def _conclusion(one: Measure, verdict: Verdict, log_e: float, proof_at: float) -> str:
    match verdict:
        case Verdict.FAIL:
            chance = f"{math.exp(min(log_e, math.log(LARGEST))):,.0f}"
            return (
                f"the chance of ever seeing this from {_harmless(one.gate)} is below 1 in {chance}, whenever one looks"
            )
        case Verdict.PASS:
            harmful, chance = _harmful(one.gate), f"{math.exp(proof_at):,.0f}"
            return f"a candidate {harmful} gets this far in fewer than 1 of {chance} rollouts, whenever one looks"
        case Verdict.ERROR:
            return "this could not be measured: the statistic is not a number, which is a bug worth reporting"
        case _:
            return _undecided(one)


def _undecided(one: Measure) -> str:
    if one.unmeasured is not None:
        return f"not measured here: {one.unmeasured}"
    if one.more is None:
        return f"undecided, and nothing seen so far tells it from a candidate {_harmful(one.gate)}"
    more = f"about {one.more:,} more {one.unit}"
    return f"undecided; if it goes on like this, {more} will show that it is not {_harmful(one.gate)}"


def _harmless(gate: GateSpec) -> str:
    if gate.minimum is not None:
        return f"a candidate that keeps {_amount(gate, gate.minimum)}"
    if gate.rollback_margin == 0:
        return "an equal model"
    if gate.maximum is not None:
        return f"a candidate with at most {_amount(gate, gate.rollback_margin)}"
    return f"a candidate worse by at most {_amount(gate, gate.rollback_margin)}"


def _harmful(gate: GateSpec) -> str:
    if gate.minimum is not None:
        return f"below {_amount(gate, gate.minimum)}"
    if gate.maximum is not None:
        return f"with {_amount(gate, gate.maximum)} or more"
    return f"worse by {_amount(gate, gate.margin)} or more"


def _amount(gate: GateSpec, value: float) -> str:
    points = gate.max_increase is not None and gate.metric != "latency"
    return f"{100 * value:.3g} {'pp' if points else '%'}"
