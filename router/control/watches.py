"""How long a rollout and its present exposure have lasted, by clocks that never jump.

A wall clock may be an hour off, or step, and the one that stamped `since_s` may belong to another machine. So each
control process, whether it decides or not, measures by its own monotonic clock from the look that showed it something
new, and tells in its heartbeat how much it has measured. Whoever comes later takes up the longest such measure of the
same thing. Time in which no control process ran does not count.

Why no step is left early: a measure begins at 0, at or after the moment it is about, and grows with true time only.
Why it is not begun anew when another process decides: that one has measured itself, or reads what others have.
The wall clock is asked only about a Route that no control process has ever told of.
"""

from collections.abc import Callable, Iterable, Mapping

from router.core.basis import Ages
from router.core.ports import Heartbeat, Watched
from router.core.rollout import RolloutState


class Watches:
    """What this process has measured, by the clock `monotonic`; `look` at all that is read and written."""

    def __init__(self, monotonic: Callable[[], float], wall_s: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall_s = wall_s
        self._begun: dict[str, Watched] = {}
        """As `Watched`, but with the seconds of our clock at which each began."""

    def __repr__(self) -> str:
        return f"<Watches over {len(self._begun)} routes>"

    def look(self, states: Iterable[RolloutState], heartbeats: Iterable[Heartbeat] = ()) -> None:
        """Begin to measure what is new in `states`, with what other processes have measured of it."""
        now = self._monotonic()
        told: dict[str, list[Watched]] = {}
        for heartbeat in heartbeats:
            for route, watched in heartbeat.watched.items():
                told.setdefault(route, []).append(watched)
        for state in states:
            known = self._begun.get(state.route)
            exposure, started_s = state.exposure.id, state.started_s
            if known is not None and (known.exposure, known.started_s) == (exposure, started_s):
                continue
            others = told.get(state.route, [])
            if known is None and not others:
                wall_s = self._wall_s()
                exposed_s, running_s = max(wall_s - state.exposure.since_s, 0.0), max(wall_s - started_s, 0.0)
            else:
                exposed_s = max((one.exposed_s for one in others if one.exposure == exposure), default=0.0)
                running_s = max((one.running_s for one in others if one.started_s == started_s), default=0.0)
            exposed_at, running_at = now - exposed_s, now - running_s
            if known is not None and known.exposure == exposure:
                exposed_at = known.exposed_s
            if known is not None and known.started_s == started_s:
                running_at = known.running_s
            self._begun[state.route] = Watched(exposure, exposed_at, started_s, running_at)

    def ages(self, state: RolloutState) -> Ages | None:
        """Return what was measured of this state, None if the last look showed another exposure or none."""
        begun = self._begun.get(state.route)
        if begun is None or (begun.exposure, begun.started_s) != (state.exposure.id, state.started_s):
            return None
        now = self._monotonic()
        return Ages(now - begun.exposed_s, now - begun.running_s)

    def told(self) -> Mapping[str, Watched]:
        """Return what was measured until now, for the heartbeat."""
        now = self._monotonic()
        return {
            route: Watched(begun.exposure, now - begun.exposed_s, begun.started_s, now - begun.running_s)
            for route, begun in self._begun.items()
        }
