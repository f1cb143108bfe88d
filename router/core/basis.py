"""What a decision followed from: enough to take it again and get the same, to the last digit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.core.decisions import NOTHING_OUTSIDE, Outside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.core.decisions import Decision
    from router.core.observations import CounterKey
    from router.core.rollout import RolloutState


@dataclass(frozen=True, slots=True)
class Facts:
    """What control knows of a rollout beside its evidence.

    `idle_s` is how long no evidence has arrived; `lagging` says which replicas do not route by the present revision
    yet, or None.
    """

    idle_s: float = 0.0
    lagging: str | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """All that went into one decision: the `state` before it, at the wall-clock second `now_s`.

    `counters` are the merged ones of the state's rollout, all that the judge reads of them; None when they could not
    be read. `keyed` says that the Route has an affinity key. `proposals` are what was asked for, in order; `facts` are
    None unless control itself proposed, by the policy. `outside` is what `guard` was told beside all that.
    """

    state: "RolloutState"
    now_s: float
    counters: "Mapping[CounterKey, int] | None"
    keyed: bool
    proposals: "tuple[Decision, ...]" = ()
    facts: Facts | None = None
    outside: Outside = NOTHING_OUTSIDE
