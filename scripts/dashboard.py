#!/usr/bin/env python3
"""Prints the Grafana dashboard: `scripts/dashboard.py > helm/turnout/files/dashboard.json`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WIDTH, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 8
"""Grafana's grid has 24 columns."""

HERE = 'namespace=~"$namespace"'
ROUTE = f'{HERE},route=~"$route"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: what it shows, in which of Grafana's units, and its lines as (query, legend)."""

    title: str
    meaning: str
    unit: str
    lines: tuple[tuple[str, str], ...]


def rate(metric: str, by: str, where: str) -> str:
    """Return the query for increases per second, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str, where: str) -> str:
    """Return the query for a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{by}le', where)})"


WAITED_S = rate("turnout_queue_wait_seconds_total", "route, variant", ROUTE)
WAITED = rate("turnout_queue_waits_total", "route, variant", ROUTE)

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Rollouts",
        (
            Panel(
                "Weight and copies",
                "The candidate's share of live answers, and of requests that are copied.",
                "percentunit",
                (
                    (f"max by (route) (turnout_weight_ratio{{{ROUTE}}})", "{{route}} weight"),
                    (f"max by (route) (turnout_mirror_ratio{{{ROUTE}}})", "{{route}} copies"),
                ),
            ),
            Panel(
                "Decisions",
                "By kind and by what sort of reason; the ledger has the numbers behind each.",
                "short",
                (
                    (
                        f"sum by (kind, reason) (increase(turnout_decisions_total{{{HERE}}}[$__interval]))",
                        "{{kind}} by {{reason}}",
                    ),
                ),
            ),
            Panel(
                "Breakers",
                "1 while a worker keeps the candidate's traffic away and the fleet has not followed.",
                "short",
                ((f"max by (route) (turnout_breaker_open{{{ROUTE}}})", "{{route}}"),),
            ),
            Panel(
                "Gates: estimate and threshold",
                "What a gate limits, and what promotion must exclude; in the gate's own unit.",
                "short",
                (
                    (f"max by (route, gate) (turnout_gate_estimate{{{ROUTE}}})", "{{route}} {{gate}}"),
                    (f"max by (route, gate) (turnout_gate_threshold{{{ROUTE}}})", "{{route}} {{gate}} threshold"),
                ),
            ),
            Panel(
                "Gates: what promotion cannot exclude yet",
                "Passes below its threshold (of a minimum: above).",
                "short",
                ((f"max by (route, gate) (turnout_gate_bound{{{ROUTE}}})", "{{route}} {{gate}}"),),
            ),
            Panel(
                "Gates: evidence of harm",
                "Natural logarithm. With one gate and alpha 1 % the candidate is taken back at 4.6.",
                "short",
                ((f"max by (route, gate) (turnout_gate_log_e{{{ROUTE}}})", "{{route}} {{gate}}"),),
            ),
        ),
    ),
    (
        "Traffic",
        (
            Panel(
                "Requests",
                "By the variant that served them.",
                "reqps",
                ((rate("turnout_requests_total", "route, variant", ROUTE), "{{route}} {{variant}}"),),
            ),
            Panel(
                "Requests that did not end well",
                "By how they ended; shed, queue_timeout, cancelled and oversize are not the variant's doing.",
                "reqps",
                (
                    (
                        rate("turnout_requests_total", "route, variant, outcome", f'{ROUTE},outcome!="ok"'),
                        "{{route}} {{variant}} {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Latency",
                "Median and 99th percentile of what a variant takes, to the last byte.",
                "s",
                tuple(
                    (
                        quantile(share, "turnout_request_seconds", "route, variant, ", ROUTE),
                        f"{{{{route}}}} {{{{variant}}}} p{share * 100:.0f}",
                    )
                    for share in (0.5, 0.99)
                ),
            ),
            Panel(
                "In flight and waiting",
                "Copies included; waiting are live requests without a place.",
                "short",
                (
                    (f"sum by (route, variant) (turnout_in_flight{{{ROUTE}}})", "{{route}} {{variant}}"),
                    (f"sum by (route, variant) (turnout_queue_length{{{ROUTE}}})", "{{route}} {{variant}} waiting"),
                ),
            ),
            Panel(
                "Waiting time",
                "Mean of those who had to wait.",
                "s",
                (
                    (
                        f"{WAITED_S} / {WAITED}",
                        "{{route}} {{variant}}",
                    ),
                ),
            ),
            Panel(
                "Rescues",
                "Failures of a candidate that no client had seen yet: answered by stable, or why not.",
                "reqps",
                ((rate("turnout_rescues_total", "result", HERE), "{{result}}"),),
            ),
            Panel(
                "Backends",
                "Share of a backend's addresses that take traffic, as the worker that sees it worst.",
                "percentunit",
                (
                    (
                        f"min by (route, variant, backend) (turnout_backend_up{{{ROUTE}}})",
                        "{{route}} {{variant}} {{backend}}",
                    ),
                ),
            ),
            Panel(
                "Addresses left out, connects elsewhere",
                "Because live requests failed there; because a connect did.",
                "short",
                (
                    (rate("turnout_ejections_total", "route, variant, backend", ROUTE), "{{backend}} left out"),
                    (rate("turnout_connect_retries_total", "route, variant", ROUTE), "{{route}} {{variant}} elsewhere"),
                ),
            ),
            Panel(
                "Lookups of names",
                "By result.",
                "short",
                ((rate("turnout_lookups_total", "result", HERE), "{{result}}"),),
            ),
        ),
    ),
    (
        "Pairs and the store",
        (
            Panel(
                "Pairs",
                "Copied requests: both answered, or the outcome of the answer that is missing.",
                "reqps",
                ((rate("turnout_pairs_total", "outcome", HERE), "{{outcome}}"),),
            ),
            Panel(
                "Given up",
                "To stay within a bound, and which.",
                "short",
                ((rate("turnout_dropped_total", "what, reason", HERE), "{{what}}: {{reason}}"),),
            ),
            Panel(
                "Waiting for the store",
                "Observations and pairs, of all workers.",
                "bytes",
                ((f"sum(turnout_recorder_queue_bytes{{{HERE}}})", "bytes"),),
            ),
            Panel(
                "Store",
                "1 while it answers every process of a pod.",
                "short",
                ((f"min by (pod) (turnout_store_up{{{HERE}}})", "{{pod}}"),),
            ),
            Panel(
                "Batches", "By result.", "short", ((rate("turnout_store_writes_total", "result", HERE), "{{result}}"),)
            ),
            Panel(
                "Unreadable entries",
                "Each time one is met.",
                "short",
                ((rate("turnout_unreadable_total", "what", HERE), "{{what}}"),),
            ),
        ),
    ),
    (
        "Labels and webhooks",
        (
            Panel(
                "True labels",
                "By what became of them.",
                "short",
                (
                    (rate("turnout_feedback_total", "result", HERE), "{{result}}"),
                    (f"sum(turnout_feedback_waiting{{{HERE}}})", "waiting now"),
                ),
            ),
            Panel(
                "Delay of labels",
                "Median and 90th percentile, from the request to its label.",
                "s",
                tuple(
                    (quantile(share, "turnout_feedback_delay_seconds", "", HERE), f"p{share * 100:.0f}")
                    for share in (0.5, 0.9)
                ),
            ),
            Panel(
                "Webhooks",
                "Calls by how they ended, and events that were dropped.",
                "short",
                ((rate("turnout_webhooks_total", "type, result", HERE), "{{type}} {{result}}"),),
            ),
        ),
    ),
    (
        "Processes",
        (
            Panel(
                "Rollback on its way",
                "99th percentile, from the decision to the worker that routes by it.",
                "s",
                ((quantile(0.99, "turnout_rollback_propagation_seconds", "", HERE), "p99"),),
            ),
            Panel(
                "Event loop",
                "99th percentile of how late it wakes up.",
                "s",
                ((quantile(0.99, "turnout_loop_lag_seconds", "pod, ", HERE), "{{pod}}"),),
            ),
            Panel(
                "Workers and versions",
                "Workers that control knows; pods by version.",
                "short",
                (
                    (f"max by (state) (turnout_replicas{{{HERE}}})", "{{state}} workers"),
                    (
                        f"count by (version, python) (turnout_build_info{{{HERE}}})",
                        "pods of {{version}} on Python {{python}}",
                    ),
                ),
            ),
        ),
    ),
)


def panels() -> Iterator[dict[str, Any]]:
    """Yield rows and panels, each in its place on the grid."""
    number, top = 0, 0
    for title, row in ROWS:
        number += 1
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        top += 1
        for at, panel in enumerate(row):
            number += 1
            line, column = divmod(at * PANEL_WIDTH, WIDTH)
            place = {"h": PANEL_HEIGHT, "w": PANEL_WIDTH, "x": column, "y": top + line * PANEL_HEIGHT}
            yield graph(number, panel, place)
        top += -(-len(row) * PANEL_WIDTH // WIDTH) * PANEL_HEIGHT


def graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    """Return one panel in Grafana's words."""
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.meaning,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": None}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for at, (query, legend) in enumerate(panel.lines)
        ],
    }


SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def variable(name: str, label: str) -> dict[str, Any]:
    """Return a choice among the values that a label has."""
    query = f"label_values(turnout_weight_ratio, {label})"
    return {
        "name": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the whole dashboard."""
    return {
        "uid": "turnout",
        "title": "Turnout",
        "tags": ["turnout"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                variable("namespace", "namespace"),
                variable("route", "route"),
            ]
        },
        "panels": list(panels()),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
