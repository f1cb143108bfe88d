"""Endpoints for machines: alive, ready, metrics."""

import platform
from collections.abc import Mapping

from fastapi import Response

from router import version
from router.admin import schemas as s
from router.admin.problems import ProblemError
from router.admin.services import Services
from router.control.replicas import GATEWAY
from router.core.decisions import Judgement
from router.core.rollout import FULL_BP, RolloutState
from router.telemetry.metrics import CONTENT_TYPE, Snapshot, render

SILENT_S = 5.0
"""How long the loop may be silent and still count as turning. Chosen: five turns."""


def gate_series(states: Mapping[str, RolloutState], judgements: Mapping[str, Judgement]) -> Snapshot:
    """Return what the gates of each rollout under way say; a number that is not known has no series."""
    series: dict[str, dict[tuple[str, ...], float]] = {}
    for route, judgement in judgements.items():
        spec = states[route].spec
        floors = {gate.name for gate in spec.gates if gate.minimum is not None} if spec else set()
        for gate in judgement.gates:
            bound = gate.low if gate.gate in floors else gate.high
            found = {"estimate": gate.estimate, "bound": bound, "threshold": gate.margin, "log_e": gate.log_e_harm}
            for name, value in found.items():
                if value is not None:
                    series.setdefault(f"turnout_gate_{name}", {})[route, gate.gate] = value
    return series


class HealthEndpoints:
    """`/healthz`, `/readyz` and `/metrics` of the control process; the gateways have their own."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._build = (version(), platform.python_version())

    async def healthz(self) -> s.HealthView:
        """The process answers."""
        return s.HealthView(status="ok")

    async def readyz(self) -> s.ReadyView:
        """The store answers and the control loop turns."""
        await self._services.store.ping()
        control = self._services.control
        if control.silent_s > SILENT_S:
            detail = f"the control loop has not turned for {control.silent_s:.0f} s"
            raise ProblemError(503, "loop-silent", detail, headers={"Retry-After": "1"})
        return s.ReadyView(status="ready", epoch=control.view.epoch)

    async def metrics(self) -> Response:
        """Metrics of this process in Prometheus' text format."""
        return Response(render(self._snapshot()), media_type=CONTENT_TYPE)

    def _snapshot(self) -> Snapshot:
        """Return what the loop saw last; a scrape asks the store nothing."""
        control = self._services.control
        feedback = control.feedback
        view = control.view
        known = sum(one.kind == GATEWAY for one in view.heartbeats)
        live = len(control.replicas("", view.heartbeats))
        states = view.states.items()
        return {
            "turnout_weight_ratio": {(name,): state.exposure.weight_bp / FULL_BP for name, state in states},
            "turnout_mirror_ratio": {(name,): state.exposure.mirror_bp / FULL_BP for name, state in states},
            **gate_series(view.states, view.judgements),
            "turnout_store_up": {(): float(control.store_up)},
            "turnout_unreadable_total": {
                (what,): float(number) for what, number in self._services.store.unreadable.items()
            },
            "turnout_decisions_total": {key: float(number) for key, number in control.states.decided.items()},
            "turnout_webhooks_total": {key: float(number) for key, number in control.states.webhooks.counts.items()},
            "turnout_replicas": {("live",): float(live), ("silent",): float(known - live)},
            "turnout_feedback_total": {(result,): float(number) for result, number in feedback.results.items()},
            "turnout_feedback_waiting": {(): float(feedback.waiting)},
            "turnout_feedback_delay_seconds": feedback.delays.series,
            "turnout_dropped_total": {key: float(number) for key, number in feedback.drops.items()},
            "turnout_build_info": {self._build: 1.0},
        }
