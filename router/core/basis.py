"""What a decision followed from: enough to take it again and get the same, to the last digit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.core.decisions import NOTHING_OUTSIDE, Outside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.core.decisions import Decision, Judgement
    from router.core.observations import CounterKey
    from router.core.rollout import RolloutState
    from router.core.slices import Popular


@dataclass(frozen=True, slots=True)
class Facts:
    """What control knows of a rollout beside its evidence.

    `idle_s` is how long no evidence has arrived; `lagging` says which replicas do not route by the present revision
    yet, or None. `popular` is what workers tell of values without a slice of their own, None where no place is free.
    """

    idle_s: float = 0.0
    lagging: str | None = None
    popular: "Popular | None" = None


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds since the present exposure opened, and since the rollout started or was resumed."""

    exposed_s: float
    running_s: float


def ages_of(judgement: "Judgement") -> Ages | None:
    """Return the ages that a judgement was made with."""
    if judgement.exposed_s is None or judgement.running_s is None:
        return None
    return Ages(judgement.exposed_s, judgement.running_s)


@dataclass(frozen=True, slots=True)
class Basis:
    """All that went into one decision: the `state` before it, at the wall-clock second `now_s`.

    `counters` are the merged ones of the state's rollout, all that the judge reads of them; None when they could not
    be read. `keyed` says that the Route has an affinity key. `proposals` are what was asked for, in order; `facts` are
    None unless control itself proposed, by the policy. `ages` are None where nobody has measured. `outside` is what
    `guard` was told beside all that.
    """

    state: "RolloutState"
    now_s: float
    counters: "Mapping[CounterKey, int] | None"
    keyed: bool
    proposals: "tuple[Decision, ...]" = ()
    facts: Facts | None = None
    ages: Ages | None = None
    outside: Outside = NOTHING_OUTSIDE
