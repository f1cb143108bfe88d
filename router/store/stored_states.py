"""States as they are stored, many at once: one that cannot be read must not hide another Route's change."""

from collections.abc import Mapping

from router.core.errors import UnreadableStateError
from router.core.rollout import RolloutState
from router.store import keys
from router.store.fields import UnreadableRecordError
from router.store.state_codec import decode_state


def decode_states(bodies: Mapping[str, bytes]) -> Mapping[str, RolloutState]:
    """Return the states by Route; raises UnreadableStateError, which holds the readable ones, if any is not."""
    states: dict[str, RolloutState] = {}
    why: dict[str, str] = {}
    for route, body in bodies.items():
        try:
            state = decode_state(body)
            if state.route == route:
                states[route] = state
            else:
                why[route] = _told(route, f"it is of route {state.route[:40]!r}")
        except UnreadableRecordError as error:
            why[route] = _told(route, str(error)[:300])
    if why:
        raise UnreadableStateError(why, states)
    return states


def _told(route: str, error: str) -> str:
    return (
        f"the stored state of route {route} cannot be read, so the last good one stays in force ({error}). If a newer "
        f"Turnout wrote it, update this process; else delete the key {keys.state(route)!r} in the store: within 2 s a "
        "process that remembers the last good state writes it back"
    )
