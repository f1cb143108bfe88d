"""What all endpoints share."""

from collections.abc import Callable
from dataclasses import dataclass

from router.control.loop import ControlLoop
from router.control.replicas import Replica, replicas_of
from router.core.config import TurnoutConfig
from router.core.errors import StoreUnavailableError
from router.core.ports import Store
from router.core.rollout import RolloutState
from router.core.traffic import Route


@dataclass(frozen=True, slots=True)
class Services:
    """The process's configuration, its store and its control loop (running or not), and the wall clock."""

    config: TurnoutConfig
    store: Store
    control: ControlLoop
    now_s: Callable[[], float]

    def route(self, name: str) -> Route:
        """Return the Route; raises UnknownRouteError."""
        return self.control.commands.route(name)

    async def state(self, route: str) -> RolloutState:
        """Return one Route's state; raises UnknownRouteError, StoreUnavailableError."""
        self.route(route)
        return await self.control.states.read(route)

    async def replicas(self, route: str) -> list[Replica]:
        """Return the live gateway workers; raises StoreUnavailableError."""
        return list(replicas_of(route, await self.store.heartbeats(), self.now_s()))

    async def replicas_or_last_seen(self, route: str) -> list[Replica]:
        """Return the live gateway workers, as the loop saw them last if the store has just gone.

        For the answer to a command that was carried out: it must not become an error because of a look afterwards.
        """
        try:
            return await self.replicas(route)
        except StoreUnavailableError:
            return list(replicas_of(route, self.control.view.heartbeats, self.now_s()))
