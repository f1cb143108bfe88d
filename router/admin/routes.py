"""Endpoints that show Routes."""

from router.admin import schemas as s
from router.admin.services import Services
from router.admin.views import pending_view, route_summary, route_view
from router.core.rollout import RolloutState
from router.settings import block_hash


class RouteEndpoints:
    """`/v1/routes` and `/v1/routes/{route}`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def index(self) -> list[s.RouteSummary]:
        """All Routes in the order of the file, one line for each."""
        states = self._services.control.states
        stored = await states.stored()
        summaries = []
        for name, route in self._services.config.routes.items():
            why = states.unreadable.get(name)
            found = states.newest.get(name) if why else stored.get(name)
            summaries.append(route_summary(route, states.or_idle(name, found), found, why))
        return summaries

    async def show(self, route: str) -> s.RouteView:
        """One Route as the file defines it, its rollout, and where file and store differ."""
        services = self._services
        defined, states = services.route(route), services.control.states
        stored = await states.find(route)
        state = states.or_idle(route, stored)
        rollout = services.shown(state, await states.judge(state), await services.store.heartbeats())
        return route_view(defined, stored, self._pending(state), rollout)

    def _pending(self, state: RolloutState) -> s.PendingView | None:
        spec = self._services.config.rollouts.get(state.route)
        if spec is None:
            return None
        return pending_view(state, spec, block_hash(spec), self._services.control.view.blocks.get(state.route))
