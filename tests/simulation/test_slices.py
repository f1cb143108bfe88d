"""Equal variants are rarely rolled back whatever slices turn up, and harm to one of them is found."""

import math

import pytest

from tests.simulation.parallel import generators
from tests.simulation.slices import ASKED, PLACES, WORLDS, World, bound, false_alarms, found_after, medians

SEED = 20_261_125


@pytest.mark.slow
def test_alpha_holds_against_somebody_who_chases_bad_luck_under_new_names() -> None:
    """A new name whenever none looks bad: some fall, at most alpha, but too many where places change hands."""
    found = false_alarms("chased", 200, SEED, processes=2)
    assert 1 <= found.ours <= bound(200)
    assert found.wrong > bound(200), "the control: it would see a broken promise"


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("world", WORLDS)
def test_alpha_holds_in_every_world(world: World) -> None:
    """3,000 rollouts each: some fall, at most alpha; and too many by the wrong rule where bad luck is chased."""
    found = false_alarms(world, 3_000, SEED, processes=2)
    assert 0.002 * found.runs <= found.ours <= bound(found.runs)
    if world == "chased":
        assert found.wrong > bound(found.runs)


def test_harm_to_one_tenant_is_found_by_its_slice_alone() -> None:
    """The gate of all requests tolerates it; the slice, by name or as one of each, finds it."""
    for asked, gates in ASKED.items():
        (source,) = generators(SEED, 1)
        places = (*PLACES[:2], "tenant=1", *PLACES[3:])
        assert math.isinf(found_after(gates, places, source)) is (asked == "all requests only")


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_more_places_cost_a_logarithm_of_evidence() -> None:
    """48 places in place of 7 are ln(48/7) = 1.9 more of log e: some more requests, and not seven times as many."""
    found = medians(200, SEED, processes=2)
    few, many = (requests for (asked, _), requests in found.items() if asked == "slices: each")
    assert few < many < 2 * few
