"""A closer look at each rollout under way, every ten seconds: all that is too dear for every second."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.analysis.evidence import Evidence
from router.analysis.measures import Measure
from router.control.states import States
from router.core.decisions import Judgement
from router.core.rollout import RolloutState

LOOK_EVERY_S = 10.0
"""How often. Precision and f1 cost as much as all else together (statistics.md 2.4), and so do bounds and words."""

SAMPLE_EVERY_S = 60.0
SAMPLE_SHARE = 0.02
"""A sample is kept once a minute, later each time a fiftieth of the rollout's age has passed: 50 in the first hour, 320
in a week, so that they need no thinning."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen: precision and f1 (`ratios`), and the judgement with every gate's numbers and words."""

    of: tuple[str, int]
    at_s: float
    ratios: Sequence[Measure]
    judgement: Judgement


class Looks:
    """The latest look at each Route, at most LOOK_EVERY_S old. `monotonic` is a clock in seconds that never jumps."""

    def __init__(self, states: States, monotonic: Callable[[], float]) -> None:
        self._states = states
        self._monotonic = monotonic
        self._latest: dict[str, Look] = {}
        self._sampled: dict[str, tuple[str, float]] = {}

    def __repr__(self) -> str:
        return f"Looks({len(self._latest)} routes)"

    def at(self, state: RolloutState, evidence: Evidence) -> Look:
        """Return a look at this rollout and exposure; at `evidence` when the last one is too old."""
        of, now = (state.id, state.exposure.id), self._monotonic()
        known = self._latest.get(state.route)
        if known is None or known.of != of or now - known.at_s >= LOOK_EVERY_S:
            ratios = self._states.ratios(state, evidence)
            known = Look(of, now, ratios, self._states.judgement(state, evidence, ratios))
            self._latest[state.route] = known
        return known

    def judgements(self, states: Iterable[RolloutState]) -> Mapping[str, Judgement]:
        """Return the latest judgement by Route of those rollouts that are under way, and forget all others."""
        under_way = {state.route: state for state in states if state.active}
        self._latest = {
            route: look
            for route, look in self._latest.items()
            if route in under_way and look.of == (under_way[route].id, under_way[route].exposure.id)
        }
        return {route: look.judgement for route, look in self._latest.items()}

    def sample_due(self, state: RolloutState, now_s: float) -> bool:
        """Whether the evidence of this moment is to be kept; asking counts as keeping it."""
        rollout, last_s = self._sampled.get(state.route, ("", 0.0))
        pause_s = max(SAMPLE_EVERY_S, SAMPLE_SHARE * (now_s - state.started_s))
        if rollout == state.id and last_s <= now_s < last_s + pause_s:
            return False
        self._sampled[state.route] = (state.id, now_s)
        return True
