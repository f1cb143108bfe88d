"""What the file asks of a stored state: whether its `rollout:` block is due, and where the two differ. Pure."""

from enum import StrEnum

from router.core.rollout import SEEN_BLOCKS, RolloutState, block_hash_of
from router.core.traffic import Route


class BlockStanding(StrEnum):
    """Of the file's block for one Route."""

    SEEN = "seen"
    """It was started before, so it never is again; only an operator starts it anew."""
    WAITING = "waiting"
    """It changed while another rollout runs, and starts when that one has ended."""
    DUE = "due"


def standing_of(state: RolloutState, block_hash: str) -> BlockStanding:
    """Return what is to be done about the block with this hash."""
    if block_hash in state.seen_blocks:
        return BlockStanding.SEEN
    return BlockStanding.WAITING if state.active else BlockStanding.DUE


def next_rollout_id(state: RolloutState, block_hash: str) -> str:
    """Return an id `<block_hash>.<attempt>` that no rollout of this Route had before.

    The evidence and the users' buckets hang on the id, so it must never come back. Attempts count up from 1 while
    they can be known. When the block ran some time before the present one, or so many blocks ran that the state has
    forgotten the oldest, the attempt is the coming revision: each start takes at least one revision, so no earlier
    attempt is as high.
    """
    if state.id and block_hash_of(state.id) == block_hash:
        attempt = int(state.id.rpartition(".")[2]) + 1
    elif block_hash in state.seen_blocks or len(state.seen_blocks) >= SEEN_BLOCKS:
        attempt = state.revision + 1
    else:
        attempt = 1
    return f"{block_hash}.{attempt}"


def drift_of(route: Route, state: RolloutState | None) -> str | None:
    """Return in one sentence how the file differs from the stored state, None where they agree or nothing is stored."""
    if state is None:
        return None
    named = [state.stable, *([state.candidate] if state.active else [])]
    if missing := [name for name in named if name not in route.variants]:
        return f"the store's state uses {', '.join(missing)}, which the file does not define; put it back into the file"
    if route.stable != state.stable:
        return f"the file names {route.stable} as stable, the store {state.stable}; the store decides"
    return None
