"""What the demo says while it runs: one Event for each thing that happens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.core.decisions import ActorKind
from router.core.rollout import Phase

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line: `at_s` seconds after the start, what it is about, and a sentence."""

    at_s: float
    name: str
    text: str

    def told(self) -> str:
        """Return it as one line."""
        return f"{clock_of(self.at_s)}  {self.name}: {self.text}"


def clock_of(seconds: float) -> str:
    """Return a duration as `1:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def decided(record: Body, at_s: float) -> Event:
    """Return the Event of one line of the ledger."""
    return Event(at_s, _move_of(record), record["reason"])


def _move_of(record: Body) -> str:
    """Say in a word or two where a decision leads."""
    if str(record["actor"]).startswith(ActorKind.BREAKER) and record["phase_after"] == Phase.PAUSED:
        return "halted"
    match record["kind"]:
        case "start" | "advance":
            return level_of(record["weight_bp_after"])
        case "roll_back":
            return "rolled back"
        case "promote" if record["phase_after"] == Phase.PROMOTED:
            return "promoted"
        case kind:
            return str(kind).replace("_", " ")


def level_of(weight_bp: int) -> str:
    """Return what a step of this weight is called: `shadow`, `25%`."""
    return percent(weight_bp) if weight_bp else "shadow"


def percent(share_bp: float) -> str:
    """Return a share as `12.5%`."""
    return f"{share_bp / 100:g}%"
