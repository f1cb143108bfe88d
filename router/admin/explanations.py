"""The endpoint that explains a rollout: why it stands where it stands, and what would make it move."""

from collections.abc import Iterable

from router.admin import schemas as s
from router.admin.problems import legal_verbs
from router.admin.services import Services
from router.admin.views import exposure_view, judgement_view
from router.control.explanation import changes_of, limits_of, missing_of
from router.control.ramp import Outlook
from router.core.decisions import DecisionRecord, Judgement
from router.core.rollout import RolloutState
from router.core.timestamps import rfc3339

LOOKED_AT = 500
"""Newest decisions among which changes of the shares are looked for: one read of the store, ten rollouts or more."""


class ExplanationEndpoints:
    """`/v1/routes/{route}/explain`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def explain(self, route: str) -> s.ExplanationView:
        """Why the rollout stands where it stands, by whose decision, and what would make it move."""
        services = self._services
        state = await services.state(route)
        judgement = await services.control.states.judge(state)
        outlook = services.control.outlook(state, judgement, await services.store.heartbeats())
        records = await services.store.decisions(route, LOOKED_AT)
        return explanation_view(state, judgement, outlook, records, decides=services.control.view.epoch is not None)


def explanation_view(
    state: RolloutState, judgement: Judgement, outlook: Outlook, records: Iterable[DecisionRecord], *, decides: bool
) -> s.ExplanationView:
    """Return the explanation; `records` are the Route's newest decisions, newest first."""
    return s.ExplanationView(
        route=state.route,
        rollout=state.id,
        revision=state.revision,
        phase=state.phase,
        reason=state.reason,
        policy=state.policy,
        step=state.step,
        steps=len(state.steps),
        stable=state.stable,
        candidate=state.candidate,
        exposure=exposure_view(state.exposure),
        changes=[_change_view(record) for record in changes_of(state, records)],
        judgement=judgement_view(judgement),
        waits_for=outlook.waits_for,
        next=None if outlook.next is None else s.NextView(kind=outlook.next.kind, reason=outlook.next.reason),
        missing=list(missing_of(state, judgement, outlook)),
        limits=list(limits_of(state, judgement, outlook)),
        operator=legal_verbs(state.phase),
        decides=decides,
    )


def _change_view(record: DecisionRecord) -> s.ChangeView:
    return s.ChangeView(
        at=rfc3339(record.at_s),
        revision=record.revision,
        kind=record.kind,
        actor=record.actor,
        reason=record.reason,
        weight_bp=record.weight_bp_after,
        mirror_bp=record.mirror_bp_after,
    )
