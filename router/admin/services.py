"""What all endpoints share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.admin.schemas import RolloutView
from router.admin.views import rollout_view
from router.control.loop import ControlLoop
from router.core.config import TurnoutConfig
from router.core.decisions import Judgement
from router.core.errors import StoreUnavailableError
from router.core.ports import Heartbeat, Store
from router.core.rollout import RolloutState
from router.core.traffic import Route


@dataclass(frozen=True, slots=True)
class Services:
    """A process's configuration, store and control loop (running or not), and its clocks: the wall's, and monotonic."""

    config: TurnoutConfig
    store: Store
    control: ControlLoop
    now_s: Callable[[], float]
    monotonic: Callable[[], float]

    def route(self, name: str) -> Route:
        """Return the Route; raises UnknownRouteError."""
        return self.control.commands.route(name)

    async def state(self, route: str) -> RolloutState:
        """Return one Route's state; raises UnknownRouteError, StoreUnavailableError."""
        self.route(route)
        return await self.control.states.read(route)

    async def heartbeats_or_last_seen(self) -> Sequence[Heartbeat]:
        """Return the signs of life of all processes, as the loop saw them last if the store has just gone.

        For the answer to a command that was carried out: it must not become an error because of a look afterwards.
        """
        try:
            return await self.store.heartbeats()
        except StoreUnavailableError:
            return self.control.view.heartbeats

    def shown(self, state: RolloutState, judgement: Judgement, heartbeats: Sequence[Heartbeat]) -> RolloutView:
        """Return where a rollout stands and what control makes of it."""
        waits_for = self.control.outlook(state, judgement, heartbeats).waits_for
        return rollout_view(state, judgement, waits_for, self.control.replicas(state.route, heartbeats))
