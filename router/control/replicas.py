"""Which gateway workers are alive, and which revision each has applied. Pure."""

from collections.abc import Iterable, Sequence
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


def is_live(heartbeat: Heartbeat, now_s: float) -> bool:
    """Return whether this process has given a sign of life lately. The clocks of the machines may differ by seconds."""
    return now_s - heartbeat.at_s <= LIVE_S


def replicas_of(route: str, heartbeats: Iterable[Heartbeat], now_s: float) -> Sequence[Replica]:
    """Return the live gateway workers in the order of `heartbeats`."""
    found = []
    for one in heartbeats:
        if one.kind == GATEWAY and is_live(one, now_s):
            revision, applied_at_s = one.applied.get(route, (0, 0.0))
            found.append(Replica(one.boot, one.host, one.pid, revision, applied_at_s, one.at_s))
    return found
