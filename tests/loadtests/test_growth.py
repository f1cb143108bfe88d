"""How cost grows: what is made of the turns, and a real run of the smallest part."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.compare import control_cost, growth
from loadtests.compare.figures import PLAIN, Cost
from loadtests.compare.growth import Growth, points_of
from loadtests.compare.rounds import upstreams
from tests.loadtests.test_figures import cell

ROOT = Path(__file__).parents[2]
POINTS = points_of("routes", [{1: cell("routes", PLAIN, 1, 10.0), 1_000: cell("routes", PLAIN, 1, 12.0)}])
COSTS = [Cost("a pair, in the store", 5.9, "us")]
FOUND = Growth({"kernel": "6.1"}, POINTS, COSTS)


def test_a_point_is_told_by_the_first_value_of_its_own_round() -> None:
    """A round in which the machine was half as fast does not change by what a factor grows."""
    rounds = [
        {1: cell("routes", PLAIN, 1, us), 1_000: cell("routes", PLAIN, 1, 1.2 * us, errors=1)}
        for us in (10.0, 20.0, 11.0)
    ]
    first, last = points_of("routes", rounds)
    assert (first.value, first.times_first, first.errors) == (1, 1.0, 0)
    assert last.times_first == pytest.approx(1.2)
    assert (last.cpu_us["gateway"], last.errors) == (13.2, 3)


def test_what_grows_by_more_than_its_limit_is_said() -> None:
    """1.25 for routes; what has no limit may grow."""
    assert FOUND.too_much == []
    rounds = [{1: cell("routes", PLAIN, 1, 10.0), 1_000: cell("routes", PLAIN, 1, 12.6)}]
    (complaint,) = Growth({}, points_of("routes", rounds), []).too_much
    assert complaint.startswith("routes: at 1000 a request takes 1.26 times")
    assert Growth({}, points_of("connections", rounds), []).too_much == []
    idle = [Cost("a Route that nobody asks, in the gateway", us, "us/s") for us in (20.0, 20.1)]
    (complaint,) = Growth({}, [], idle).too_much
    assert complaint == "a Route that nobody asks, in the gateway: 20.1 us/s, at most 20.0 expected"


def test_a_turn_without_a_request_is_an_error() -> None:
    """It is not taken for a request that costs nothing."""
    with pytest.raises(RuntimeError, match="no request was counted"):
        points_of("routes", [{1: cell("routes", PLAIN, 1, None)}])


def test_what_is_written_can_be_read_again() -> None:
    """With points, costs and what was too much."""
    text = growth.as_json(FOUND)
    assert growth.as_json(growth.from_json(text)) == text
    assert list(json.loads(text)) == ["v", "machine", "points", "costs", "too_much"]
    assert "| routes | 1,000 | 1,000 | 12.0 | 1.20 |" in growth.as_markdown(FOUND)
    assert "| a pair, in the store | 5.90 | us |" in growth.as_markdown(FOUND)


def test_the_picture_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """As that of the comparison."""
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        growth.draw(FOUND, file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_part_can_be_measured_alone(tmp_path: Path) -> None:
    """More header fields cost more, and nothing fails."""
    file = tmp_path / "found.json"
    command = [sys.executable, "-m", "loadtests.compare", "--growth", "--quick", "--rounds", "1", "--only", "headers"]
    done = subprocess.run([*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: more than expected, which one busy second may say
    found = growth.from_json(file.read_text())
    assert [(point.value, point.errors) for point in found.points] == [(0, 0), (10, 0), (40, 0), (80, 0)]
    assert found.points[-1].times_first > 1.2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_made_up_replicas_cost_control_and_the_store_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty of them for two seconds: their counters are read, so both take CPU."""
    monkeypatch.setattr(control_cost, "SECONDS", 2)
    monkeypatch.setattr(control_cost, "LOAD_S", 1)
    monkeypatch.setattr(control_cost, "FLEETS", (0, 50))
    monkeypatch.chdir(ROOT)
    with upstreams() as models:
        found = {cost.what: cost.value for cost in control_cost.control_costs(models)}
    assert found["control, 51 replicas"] > found["control, 1 replicas"]
    assert found["a replica, in the store"] > 0
    assert found["counters that a replica writes"] > 20
