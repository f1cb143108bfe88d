"""Gates asked of slices: harm to one tenant is found and named, and the promise holds whichever slices there are."""

from dataclasses import replace

import numpy as np
import pytest

from router.analysis.judge import of_each_slice, weights_of
from router.core.decisions import Verdict
from router.core.observations import ALL, BOTH, LOST, OUTCOME, PAIR, PAIR_VARIANT, STARTED, CounterKey
from router.core.rollout import GateSpec
from router.core.traffic import Role
from tests.analysis.cases import DISAGREEMENT, HALF, agreements, case_of, failures, judged
from tests.analysis.ledger import served, settled

OVERALL = GateSpec("errors", "error_rate", max_increase=0.2, tolerance=0.15)
EACH = GateSpec("each", "error_rate", max_increase=0.005, slices="each")
ACME = GateSpec("acme", "error_rate", max_increase=0.005, slice="tenant=acme")
PLACES = ("tenant=other", "tenant=none", "tenant=acme", "tenant=rest", "tenant=")
NAMES = ["each@tenant=acme", "each@tenant=rest"]


def by_slice(**tenants: tuple[tuple[int, int], tuple[int, int]]) -> dict[CounterKey, int]:
    """Return what gateways count: ends by slice, and starts of all requests only.

    Each tenant has (requests, failures among them) of stable and of the candidate.
    """
    found: dict[CounterKey, int] = {}
    sums = np.zeros((2, 2), dtype=int)
    for tenant, arms in tenants.items():
        sums += np.array(arms)
        for role, (requests, failed) in zip(Role, arms, strict=True):
            ends = {"ok": requests - failed, "http_error": failed}
            found |= settled(HALF, OUTCOME, role, ends, f"tenant={tenant}")
    (a, b), (c, d) = sums.tolist()
    return {**found, **failures(HALF, (a, b), (c, d))}


WORSE_FOR_ACME = by_slice(acme=((100, 1), (100, 60)), rest=((1_900, 19), (1_900, 19)))


@pytest.mark.parametrize(("gate", "name"), [(EACH, "each@tenant=acme"), (ACME, "acme")])
def test_harm_to_one_tenant_is_found_and_named_while_all_together_pass(gate: GateSpec, name: str) -> None:
    """A twentieth of the traffic fails: less than the overall gate allows, far more than this tenant's."""
    found = judged(case_of(OVERALL, gate, slices=PLACES), WORSE_FOR_ACME)
    verdicts = {one.gate: one.verdict for one in found.gates}
    assert verdicts["errors"] is Verdict.PASS
    assert verdicts[name] is Verdict.FAIL
    assert {verdicts[one] for one in verdicts if one not in ("errors", name)} <= {Verdict.INCONCLUSIVE, Verdict.PASS}
    assert found.rollback
    assert found.reason.startswith(f"{name}: ")


def test_without_a_gate_for_slices_the_same_candidate_would_pass() -> None:
    """So it is the slice that finds it."""
    assert judged(case_of(OVERALL), WORSE_FOR_ACME).promote


def test_gates_of_each_slice_prove_nothing_and_hold_nothing_up() -> None:
    """A slice with three requests could never be proved; promotion asks the gates of all requests."""
    found = judged(
        case_of(OVERALL, EACH, slices=PLACES), by_slice(acme=((3, 0), (2, 0)), rest=((2_000, 20), (2_000, 20)))
    )
    assert found.promote
    assert found.reason == next(one for one in found.gates if one.gate == "errors").sentence


def test_places_share_the_weight_of_their_gate_whoever_has_them() -> None:
    """All shares of harm together are at most 1, and none depends on which places are taken or on what was counted."""
    for places in (PLACES, (*PLACES[:2], *["tenant="] * 5), tuple(f"tenant={number}" for number in range(88))):
        gates = of_each_slice((OVERALL, EACH), places)
        weights = weights_of(gates, (OVERALL, EACH), len(places))
        assert [gate.slice for gate in gates] == [None, *(place for place in places if not place.endswith("="))]
        assert weights == pytest.approx([0.5, *[0.5 / len(places)] * (len(gates) - 1)])
        assert weights.sum() <= 1 + 1e-12
        on_trial = of_each_slice((OVERALL, replace(EACH, dry_run=True)), places)
        trial = weights_of(on_trial, (OVERALL, replace(EACH, dry_run=True)), len(places))
        assert trial[1:] == pytest.approx(weights[1:]), "as if it were enforced"


def test_gates_of_each_slice_alone_never_promote_and_say_so() -> None:
    """An operator has to."""
    found = judged(case_of(EACH, slices=PLACES), by_slice(acme=((100, 0), (100, 0))))
    assert (found.rollback, found.promote) == (False, False)
    assert "gates of each slice look for harm only" in found.reason


def test_what_has_no_place_is_asked_by_no_gate() -> None:
    """Counters of other names, as an older version or a stranger may have left them, weigh nothing."""
    found = judged(case_of(EACH, slices=PLACES), by_slice(stranger=((100, 0), (100, 90))))
    assert [one.gate for one in found.gates] == ["each@tenant=other", "each@tenant=none", *NAMES]
    assert not found.rollback


def test_no_slice_is_no_evidence() -> None:
    """Where the rollout began without slices, and where no place is taken yet."""
    failing = failures(HALF, (100, 0), (100, 90))
    for places in ((), ("tenant=", "tenant=")):
        found = judged(case_of(EACH, slices=places), failing)
        assert (found.rollback, found.promote, found.gates) == (False, False, ())


def test_what_is_open_in_the_route_is_open_in_each_slice() -> None:
    """Its slice is not known yet: for harm it counts in the candidate's favour, for proof against it."""
    closed = by_slice(acme=((200, 0), (200, 20)))
    open_ = {
        **closed,
        **served(HALF, Role.STABLE, {"ok": 200}, open_=15),
        **served(HALF, Role.CANDIDATE, {"ok": 180, "http_error": 20}, open_=15),
    }
    (sure,), (unsure,) = (judged(case_of(ACME), one).gates for one in (closed, open_))
    assert unsure.log_e_harm < sure.log_e_harm
    assert unsure.log_e_proof <= sure.log_e_proof
    assert dict(unsure.counts)["stable_unknown"] == 15


def test_a_pair_that_was_lost_is_unknown_in_each_slice() -> None:
    """Nobody has read whose it was: it speaks against the candidate where proof is asked, and for it where harm is."""
    gate = replace(DISAGREEMENT, slice="region=eu")
    mine = {key: n for key, n in agreements(HALF, 300, 1, "region=eu").items() if not key.metric.startswith("started")}
    whole = agreements(HALF, 2_000, 10)
    lost = {
        **whole,
        **settled(HALF, STARTED, PAIR_VARIANT, {ALL: 2_040}),
        **settled(HALF, PAIR, PAIR_VARIANT, {BOTH: 2_000, LOST: 40}),
    }
    (sure,), (unsure,) = (judged(case_of(gate), {**mine, **one}).gates for one in (whole, lost))
    assert sure.log_e_proof > unsure.log_e_proof
    assert unsure.log_e_harm < sure.log_e_harm


def test_disagreement_of_one_slice_is_found() -> None:
    """Of pairs, whose slices may stand in the body."""
    ends = {("", ""): (2_000, 20), ("region=", "eu"): (100, 20)}
    counters: dict[CounterKey, int] = {}
    for (name, value), (pairs, different) in ends.items():
        part = agreements(HALF, pairs, different, name + value)
        counters |= {key: n for key, n in part.items() if not name or not key.metric.startswith("started")}
    gate = replace(DISAGREEMENT, name="in eu", slice="region=eu")
    found = judged(case_of(DISAGREEMENT, gate), counters)
    assert [one.verdict for one in found.gates] == [Verdict.PASS, Verdict.FAIL]
    assert found.reason.startswith("in eu: ")
