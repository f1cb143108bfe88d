"""What the comparison prints and writes."""

import json
from pathlib import Path

from loadtests.compare.figures import MIRROR, TURNOUT, ratios
from loadtests.compare.report import Report, as_json, as_markdown, draw
from tests.loadtests.test_figures import cell

CELLS = [cell(TURNOUT, MIRROR, n, 8.0, pairs_missing=0) for n in (1, 2)] + [cell("envoy", MIRROR, n) for n in (1, 2)]
MISSING = [{"system": "traefik", "why": "traefik could not be installed: no network"}]
REPORT = Report({"kernel": "6.1"}, CELLS, ratios(CELLS), MISSING)


def test_the_json_has_the_shape_that_was_agreed() -> None:
    """The keys of issue 6, and p99.9, rate and peak memory in each cell."""
    found = json.loads(as_json(REPORT))
    assert list(found) == ["v", "machine", "cells", "ratios", "missing"]
    agreed = ["system", "mode", "body_bytes", "connections", "round", "requests_s", "cpu_us", "p50_ms", "p99_ms"]
    assert list(found["cells"][0]) == [*agreed, "errors", "pairs_missing", "p999_ms", "rate_s", "peak_rss_mib"]
    assert list(found["cells"][0]["cpu_us"]) == ["gateway", "control", "store"]
    assert set(found["ratios"][0]) == {"mode", "peer", "median", "low95", "high95", "must", "pass"}
    assert found["missing"] == MISSING


def test_the_table_names_who_is_missing_and_which_must_was_held() -> None:
    """Nobody is left out in silence."""
    text = as_markdown(REPORT)
    assert "| envoy | mirror | 0.80 | 0.80 to 0.80 | 0.8 | held |" in text
    assert "Missing: traefik: traefik could not be installed: no network" in text


def test_a_run_passes_only_if_its_musts_hold_and_no_request_failed() -> None:
    """Nothing measured is not passed either."""
    assert REPORT.passed
    slow = [cell(TURNOUT, MIRROR, 1, 9.0), cell("envoy", MIRROR)]
    failing = [cell(TURNOUT, MIRROR, 1, 8.0, errors=1), cell("envoy", MIRROR)]
    assert not any(Report({}, cells, ratios(cells), []).passed for cells in (slow, failing, []))


def test_the_picture_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """So that a README's picture changes only when figures do."""
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        draw(REPORT, file)
    assert files[0].read_bytes() == files[1].read_bytes()
