"""What to write into a store that has lost something: it came back empty, older, or with another history. Pure.

Whoever read a state remembers it: each gateway (also on disk) and each control process. All of them ask `restore`
when the store holds something else, and write the answer by compare-and-set. So it does not matter who is first, and
however many do it at once the result is one history that everybody follows:

- A store is behind if its revision or its epoch is lower than the remembered one: neither ever falls by itself. At
  the same revision two states must be equal but for the epoch.
- What is remembered then wins, at a revision above everything known. So the weight of a Route never rises because a
  state is missing: it becomes what the gateways route by anyway.
- A rollback wins over everything. A rollout that was rolled back is never resumed, whichever side remembers it; and
  if the state in the store is a rollback made after what is remembered, somebody wanted the candidate gone while the
  store was behind, so the remembered rollout is rolled back too.

Each write raises the revision or fills an empty place, and rolled back is terminal, so this ends.
"""

from dataclasses import dataclass, replace

from router.core.decisions import Actor, ActorKind, DecisionRecord, Judgement, RollBack
from router.core.moves import make_move
from router.core.rollout import Phase, RolloutState

RECOVERY = Actor(ActorKind.CONTROL, "recovery")


@dataclass(frozen=True, slots=True)
class Restoration:
    """The arguments of the compare-and-set that gives the store back what it has lost."""

    state: RolloutState
    expected_revision: int
    record: DecisionRecord | None = None


def restore(known: RolloutState, stored: RolloutState | None, now_s: float) -> Restoration | None:
    """Return what to write over `stored`, a state of the same Route, for one who remembers `known`; None: nothing."""
    if stored is None:
        return Restoration(known, 0) if known.revision else None
    if not (_is_behind(known, stored) or resumes(known, stored)):
        return None
    revision = known.revision if known.revision > stored.revision else stored.revision + 1
    kept = replace(known, revision=revision, epoch=max(known.epoch, stored.epoch))
    if not (known.active and _was_rolled_back(known, stored)):
        return Restoration(kept, stored.revision)
    reason = f"rolled back while the store was behind: {stored.reason}"
    judgement = Judgement(invalid="the store has lost states", reason="not judged")
    move = make_move(kept, (RollBack(reason=reason, actor=RECOVERY),), judgement, now_s)
    return Restoration(move.state, stored.revision, move.record)


def _is_behind(known: RolloutState, stored: RolloutState) -> bool:
    """Whether the store has lost `known`."""
    if stored.revision == known.revision:
        return replace(stored, epoch=known.epoch) != known
    return stored.revision < known.revision or stored.epoch < known.epoch


def resumes(known: RolloutState, stored: RolloutState) -> bool:
    """Whether `stored` goes on with a rollout that is known to have been rolled back."""
    return known.phase is Phase.ROLLED_BACK and stored.id == known.id and stored.phase is not Phase.ROLLED_BACK


def _was_rolled_back(known: RolloutState, stored: RolloutState) -> bool:
    """Whether `stored` is a rollback of the known rollout, or one that was made after it."""
    if stored.phase is not Phase.ROLLED_BACK:
        return False
    return stored.id == known.id or stored.exposure.since_s > known.exposure.since_s
