"""Decisions that gateways wrote: a breaker's halt is news too, and a gateway sends none."""

from collections.abc import Mapping

from router.control.webhooks.webhooks import Webhooks
from router.core.decisions import Actor, ActorKind
from router.core.ports import StateStore
from router.core.rollout import RolloutState

NEWEST = 50
"""How many records are looked through after a change. Chosen: a second's decisions are one or two."""


class GatewayDecisions:
    """Notices changes of states, and tells of those among them that a breaker decided."""

    def __init__(self, store: StateStore, webhooks: Webhooks) -> None:
        self._store = store
        self._webhooks = webhooks
        self._seen: dict[str, int] = {}

    async def look(self, states: Mapping[str, RolloutState], *, tell: bool) -> None:
        """Note the revisions; where `tell` is set, as for the process that decides, tell of what is new.

        Raises StoreUnavailableError; then the next look tells.
        """
        if not self._webhooks.tells:
            return
        for route, state in states.items():
            seen = self._seen.get(route, state.revision)
            if tell and state.revision > seen:
                for record in reversed(await self._store.decisions(route, NEWEST)):
                    if seen < record.revision <= state.revision and Actor.parse(record.actor).kind is ActorKind.BREAKER:
                        self._webhooks.tell(record, state)
            self._seen[route] = state.revision
