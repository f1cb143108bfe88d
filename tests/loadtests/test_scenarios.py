"""A rollout under load keeps its limits, and misses them without what it relies on."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtests.under_load.scenario import load, names
from tests.chart.tools import need

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-loadtest"
ERRORS = "errors that clients saw"


def run(folder: Path, scenario: str, minutes: float, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run a scenario; return locust's exit code, the figures and the report."""
    need((VENV / "turnout-stamp").exists(), "locust", "./run setup loadtest")
    figures, report = folder / "figures.json", folder / "report.html"
    done = subprocess.run(
        [
            VENV / "bin/python", "-m", "loadtests.under_load", scenario, "--headless", "--minutes", str(minutes),
            "--json", figures, "--report", report, *options,
        ],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=60 * minutes + 100,
    )  # fmt: skip
    assert figures.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(figures.read_text()), report.read_text()


def missed(figures: dict[str, Any]) -> dict[str, str]:
    """Return the limits that were missed, with what was measured."""
    return {one["what"]: one["measured"] for one in figures["findings"] if not one["passed"]}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(150)
def test_a_candidate_that_hangs_under_load_costs_no_client_an_answer(tmp_path: Path) -> None:
    """Within seconds: stable answers for it, and it is rolled back; the report tells of both, from nowhere else."""
    code, figures, report = run(tmp_path, "candidate-hangs", 0.25)
    assert missed(figures) == {}
    assert code == 0
    assert [one["text"] for one in figures["events"] if one["what"] == "fault"] == ["candidate: hang"]
    assert figures["sources"]["turnout"]["requests"] > 500
    assert figures["sources"]["open loop"]["requests"] > 200
    assert "rolled_back" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert "src=" not in report


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(150)
def test_a_candidate_gone_bad_without_rescue_and_breaker_fails_the_load_test(tmp_path: Path) -> None:
    """Locust's exit code is 1 since clients saw errors: the limits can be missed."""
    code, figures, _ = run(tmp_path, "bad-candidate", 0.2, "--unprotected")
    assert code == 1
    assert ERRORS in missed(figures)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("scenario", names())
def test_loadtest_every_scenario_keeps_its_limits_for_two_minutes(scenario: str, tmp_path: Path) -> None:
    """The whole form, as `./run loadtest` runs it."""
    code, figures, _ = run(tmp_path, scenario, 2.0)
    assert missed(figures) == {}
    assert code == 0


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", names())
def test_loadtest_no_scenario_keeps_its_limits_unprotected(scenario: str, tmp_path: Path) -> None:
    """Without rescue and breaker, with a gateway that asks the store, that stalls, or that leaves at once."""
    code, figures, _ = run(tmp_path, scenario, 0.75, "--unprotected")
    assert code == 1
    what = " ".join(missed(figures))
    assert ("p99" if load(scenario).plant == "stalls" else ERRORS) in what
