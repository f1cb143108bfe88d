"""Which gateway workers are alive, and which revision each has applied."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from router.core.ports import Heartbeat

GATEWAY = "gateway"
CONTROL = "control"
"""Kinds of processes, as their heartbeats say."""

LIVE_S = 5.0
"""Chosen: five beats at one a second; a worker that is silent for longer counts as gone."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One live gateway worker, as far as one Route is concerned.

    `revision` is what it routes by, 0 before it has any; it took effect at the wall-clock second `applied_at_s`.
    """

    id: str
    host: str
    pid: int
    revision: int
    applied_at_s: float
    seen_at_s: float


class Pulses:
    """Tells the living from the silent by when their heartbeats were seen to change, not by what their clocks say.

    So a process whose wall clock is an hour off, or steps, is as alive as it beats. One that is seen for the first time
    counts as alive for LIVE_S: a ramp that waits for the dead is late, one that does not wait for the living is wrong.
    """

    def __init__(self) -> None:
        self._beats: dict[str, tuple[float, float]] = {}
        """By boot: the beat seen last, and the second of our monotonic clock at which it was new."""

    def __repr__(self) -> str:
        return f"<Pulses of {len(self._beats)} processes>"

    def live(self, heartbeats: Iterable[Heartbeat], now: float) -> Collection[str]:
        """Return the boots of the living among all recorded processes, at the second `now` of a monotonic clock."""
        before, self._beats = self._beats, {}
        for one in heartbeats:
            known = before.get(one.boot)
            self._beats[one.boot] = known if known is not None and known[0] == one.at_s else (one.at_s, now)
        return {boot for boot, (_, at) in self._beats.items() if now - at <= LIVE_S}

    def forget(self) -> None:
        """Begin anew: what happened since the last look cannot be known."""
        self._beats.clear()


def replicas_of(route: str, heartbeats: Iterable[Heartbeat], live: Collection[str]) -> Sequence[Replica]:
    """Return the gateway workers among `live` boots, in the order of `heartbeats`."""
    found = []
    for one in heartbeats:
        if one.kind == GATEWAY and one.boot in live:
            revision, applied_at_s = one.applied.get(route, (0, 0.0))
            found.append(Replica(one.boot, one.host, one.pid, revision, applied_at_s, one.at_s))
    return found


def ahead_of(replicas: Iterable[Replica], revision: int) -> str | None:
    """Return which live replicas route by a revision that the store has lost, as one sentence, or None.

    They give it back within a second or two. Until then nothing is started and nothing advances on the older state.
    """
    ahead = [f"{one.id} by {one.revision}" for one in replicas if one.revision > revision]
    return f"waits: the store has revision {revision}, yet replicas route {', '.join(ahead)}" if ahead else None
