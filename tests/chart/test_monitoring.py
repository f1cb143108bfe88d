"""Alerts and dashboard: promtool accepts them, they fire when they should, and every metric in them exists."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from router.store.embedded import EmbeddedValkey
from router.telemetry.metrics import TABLE, Kind
from tests.chart.tools import CHART, ROOT, Helm, need, one
from tests.chart.value_sets import SETS
from tests.e2e.harness import Turnouts, config_for
from tests.e2e.load import eventually
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import fetch, request

ALERTS = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
PANELS = [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")

SERIES: Mapping[str, tuple[str, ...]] = {
    metric.name + end: metric.labels + (("le",) if end == "_bucket" else ())
    for metric in TABLE
    for end in (("_bucket", "_count", "_sum") if metric.kind is Kind.HISTOGRAM else ("",))
}
"""Series that Turnout has, with their labels."""

OF_THE_SCRAPE = {"namespace", "instance", "pod"}
"""Labels that Prometheus adds."""


def promtool(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    need(shutil.which("promtool"), "promtool", "Debian: apt install prometheus")
    return subprocess.run(["promtool", *arguments], input=text, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_promtool_accepts_the_rules(helm: Helm, tmp_path: Path) -> None:
    """As they are, and as Prometheus' operator gets them from the chart."""
    rendered = one(helm.render(SETS["everything"]), "PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rendered))
    for file in (ALERTS, tmp_path / "rules.yaml"):
        done = promtool("check", "rules", file)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(RULES)} rules found" in done.stdout
    links = [rule["annotations"]["runbook_url"] for rule in rendered["groups"][0]["rules"]]
    assert [link for link in links if not link.startswith("https://wiki.example/turnout#turnout")] == []


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    """By promtool's unit tests; every alert is among those that must fire."""
    cases = (ROOT / "tests" / "chart" / "alerts_test.yaml").read_text(encoding="utf-8")
    assert {rule["alert"] for rule in RULES} == set(re.findall(r'alertname="(\w+)"', cases))
    (tmp_path / "test.yaml").write_text(cases.replace("[ALERTS]", f"[{ALERTS}]"))
    done = promtool("test", "rules", tmp_path / "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_runbook_with_one_move() -> None:
    """A section by its name with three parts, where its link points; and no section without an alert."""
    sections = dict(re.findall(r"^## (\w+)\n\n((?:(?!^## ).*\n)*)", RUNBOOKS, re.MULTILINE))
    assert list(sections) == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert re.findall(r"^\*\*(\w+)\*\*: ", sections[rule["alert"]], re.MULTILINE) == ["Means", "Look", "Move"]


def test_every_series_and_label_in_alerts_and_dashboard_exists() -> None:
    """A renamed metric would leave an alert that never fires and a panel without data."""
    for query in (*QUERIES, *(rule["expr"] for rule in RULES)):
        used = set(re.findall(r"\bturnout_\w+", query))
        assert used <= SERIES.keys(), query
        known = OF_THE_SCRAPE.union(*(SERIES[name] for name in used))
        matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query))
        grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(",")}
        assert matched | grouped <= known, query


def test_every_label_value_in_alerts_exists() -> None:
    """Outcomes, results, kinds and reasons are words of the code."""
    from router.core.decisions import Decision
    from router.core.observations import FAILURES, Outcome
    from router.gateway.rescue import Result

    text = ALERTS.read_text(encoding="utf-8")

    def words(label: str) -> set[str]:
        return {word for found in re.findall(rf'\b{label}!?=~?"([^"]*)"', text) for word in found.split("|")}

    assert words("outcome") == {*map(str, FAILURES), Outcome.SHED, Outcome.QUEUE_TIMEOUT}
    assert words("kind") <= {kind.kind for kind in get_args(Decision)}
    assert words("result") - {"ok", "refused"} <= {str(result) for result in Result}
    bounds = next(metric.bounds for metric in TABLE if metric.name == "turnout_rollback_propagation_seconds")
    assert words("le") <= {str(bound) for bound in bounds}


def test_every_metric_is_on_the_dashboard() -> None:
    """All of the table, so also all of design.md section 8; none is left out."""
    shown = set(re.findall(r"\bturnout_[a-z_]+", " ".join(QUERIES)))
    assert {metric.name for metric in TABLE if not any(name.startswith(metric.name) for name in shown)} == set()


def test_the_dashboard_is_that_of_its_script_and_its_panels_do_not_overlap() -> None:
    """Made by scripts/dashboard.py; ids are unique, and each place of the grid is used once."""
    script = ROOT / "scripts" / "dashboard.py"
    made = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True).stdout
    assert made == DASHBOARD.read_text(encoding="utf-8")
    ids = [panel["id"] for panel in json.loads(made)["panels"]]
    assert len(ids) == len(set(ids))
    taken = [
        (x, y)
        for panel in json.loads(made)["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23


@pytest.mark.slow
def test_promtool_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """As recording rules, with Grafana's variables filled in: a slip in one would show an empty panel."""
    filled = [re.sub(r"\$__(rate_)?interval", "1m", query).replace("$namespace", ".*") for query in QUERIES]
    rules = [{"record": f"panel:{at}", "expr": query.replace("$route", ".*")} for at, query in enumerate(filled)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", tmp_path / "panels.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
async def test_promtool_accepts_the_scraped_metrics(turnouts: Turnouts, store: EmbeddedValkey, tmp_path: Path) -> None:
    """Those of a gateway and of control, in the middle of a rollout with copies; its lint is about names and units."""
    rollout = {
        "candidate": "v2",
        "policy": "canary",
        "steps": [{"weight": "50%", "mirror": "100%", "bake": "1h"}],
        "gates": [{"metric": "error_rate", "max_increase": "1pp"}],
    }
    async with ModelServer(1).running() as stable, ModelServer(2).running() as candidate:
        config = {**config_for(stable, candidate, rollout=rollout), "store": {"url": store.url}}
        gateway = await turnouts.start(config, "gateway", directory=tmp_path / "gateway")
        control = await turnouts.start(config, "control", directory=tmp_path / "control")

        async def pages() -> list[str]:
            ports = (gateway.port("ops"), control.port("admin"))
            return [(await fetch(port, request("GET", "/metrics"))).body.decode() for port in ports]

        async def judged() -> bool:
            await fetch(gateway.port("gateway"), request("POST", INFER, BODY))
            first, second = await pages()
            return 'turnout_pairs_total{outcome="both"}' in first and "turnout_gate_log_e{" in second

        await eventually(judged)
        for page in await pages():
            done = promtool("check", "metrics", text=page)
            assert (done.returncode, done.stdout + done.stderr) == (0, "")
        assert promtool("check", "metrics", text="# TYPE bad_seconds counter\nbad_seconds 1\n").returncode != 0
        assert [await gateway.stop(), await control.stop()] == [0, 0]
