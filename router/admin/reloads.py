"""`POST /v1/reload`: the processes of this machine read the file again."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from router.admin import schemas as s
from router.admin.problems import ProblemError
from router.admin.services import Services
from router.core.config import TurnoutConfig
from router.core.rollout import RolloutState


@dataclass(frozen=True, slots=True)
class Reloader:
    """`read` reads the file again (raises ConfigError, may block); `ask` asks this process's parent for a reload."""

    read: Callable[[], TurnoutConfig]
    ask: Callable[[], None]


class ReloadEndpoints:
    """Checks the file before anybody else reads it, so that what is wrong is told to whoever asked."""

    def __init__(self, services: Services, reloader: Reloader | None) -> None:
        self._services = services
        self._reloader = reloader

    async def reload(self) -> s.ReloadView:
        """The file is read again; one that is wrong, or leaves out what is in use, changes nothing."""
        if self._reloader is None:
            raise ProblemError(
                409, "no-file", "only `turnout serve` reloads by this call; restart this process instead"
            )
        new = await asyncio.to_thread(self._reloader.read)
        missing = left_out(new, await self._services.control.states.stored())
        if missing is not None:
            raise ProblemError(409, "in-use", f"the file leaves out what has traffic now: {missing}")
        self._reloader.ask()
        return s.ReloadView(status="asked", digest=new.digest)


def left_out(config: TurnoutConfig, states: Mapping[str, RolloutState]) -> str | None:
    """Return which route or variants that stored states use a configuration does not have, None when it has all."""
    for name, state in states.items():
        route = config.routes.get(name)
        if route is None:
            if state.active:
                return f"route {name}, whose rollout {state.id} is under way"
            continue
        used = {state.stable, *([state.candidate] if state.active else [])}
        if missing := sorted(used - set(route.variants)):
            return f"{', '.join(missing)} of route {name}"
    return None
