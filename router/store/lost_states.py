"""A store that has lost something, as gateways and control meet it: what can be read, and giving back what cannot.

What to give back is said by `router.core.recovery`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from router.core.errors import StaleEpochError, UnreadableStateError
from router.core.ports import StateStore
from router.core.recovery import Restoration
from router.core.rollout import RolloutState
from router.telemetry import logs


async def read_readable(
    store: StateStore, routes: Sequence[str]
) -> tuple[Mapping[str, RolloutState], Mapping[str, str]]:
    """Return the stored states, and why others cannot be read: one bad state must not hide another's change.

    Raises StoreUnavailableError.
    """
    try:
        return await store.read_states(routes), {}
    except UnreadableStateError as error:
        return error.states, error.why


async def give_back(store: StateStore, lost: Restoration, log: logs.Log) -> bool:
    """Write what the store has lost, and tell of it; False when somebody else was first, which the next look finds.

    Raises StoreUnavailableError; cancelled, it may or may not have been written.
    """
    with suppress(StaleEpochError):  # somebody decides there already
        if await store.compare_and_set(lost.state, lost.expected_revision, lost.record):
            log.warning(
                "the store had lost a state and has it back", route=lost.state.route, revision=lost.state.revision,
                found=lost.expected_revision, phase=lost.state.phase.value,
            )  # fmt: skip
            return True
    return False
