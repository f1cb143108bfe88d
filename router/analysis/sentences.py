"""One plain sentence for each gate: the facts, what follows from them, and how sure that is."""

import math

from router.analysis.measures import Measure
from router.core.decisions import Verdict
from router.core.rollout import GateSpec

LARGEST = 1e9
"""Chances are told down to one in a billion; below that the digits mean nothing to a reader."""


def sentence_of(one: Measure, verdict: Verdict, log_e: float, proof_at: float) -> str:
    """Return what a gate says, for a person who sees nothing else."""
    if verdict is Verdict.INCONCLUSIVE and one.unmeasured is not None:
        return f"{one.gate.name}: not measured here: {one.unmeasured}"
    facts = facts_of(one)
    if verdict is Verdict.FAIL and one.unmeasured is not None:  # evidence goes on over exposures, counts do not
        facts = f"{one.gate.name}: seen in earlier exposures of this rollout ({one.unmeasured})"
    return f"{facts}; {_conclusion(one, verdict, log_e, proof_at)}"


def facts_of(one: Measure) -> str:
    """Return what was seen, without what follows from it."""
    return f"{one.gate.name}: {one.unmeasured or one.facts}"


def odds(log_e: float) -> str:
    """Return an e-value in digits: `225`, `4,850,000`, `more than 1,000,000,000`."""
    if log_e > math.log(LARGEST):
        return f"more than {LARGEST:,.0f}"
    value = math.exp(log_e)
    return f"{value:.3g}" if value < 100 else f"{float(f'{value:.3g}'):,.0f}"


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
    if one.detail.more is None:
        return f"undecided, and nothing seen so far tells it from a candidate {_harmful(one.gate)}"
    more = f"about {float(f'{one.detail.more:.2g}'):,.0f} more {one.unit}"
    return f"undecided; if it goes on like this, {more} will show that it {_proved(one.gate)}"


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
    return f"worse by {_amount(gate, gate.margin)} or more" if gate.margin else "no better than stable"


def _proved(gate: GateSpec) -> str:
    if gate.minimum is not None:
        return f"keeps {_amount(gate, gate.minimum)}"
    if gate.maximum is not None:
        return f"stays below {_amount(gate, gate.maximum)}"
    return f"is worse by less than {_amount(gate, gate.margin)}" if gate.margin else "is better than stable"


def _amount(gate: GateSpec, value: float) -> str:
    points = gate.max_increase is not None and gate.metric != "latency"
    return f"{100 * value:.3g} {'pp' if points else '%'}"
