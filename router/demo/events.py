"""What the demo says while it runs: one Event for each thing that happens, and what a rollout waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from router.demo.times import seconds_of

Body = Mapping[str, Any]
BREAKER: Final = "breaker"


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
    by_breaker = str(record["actor"]).startswith(BREAKER)
    match record["kind"]:
        case "start" | "advance":
            return level_of(record["weight_bp_after"])
        case "roll_back":
            return "rolled back"
        case "promote" if record["phase_after"] == "promoted":
            return "promoted"
        case kind:
            return f"{kind} by the breaker" if by_breaker else str(kind).replace("_", " ")


def level_of(weight_bp: int) -> str:
    """Return what a step of this weight is called: `shadow`, `25%`."""
    return percent(weight_bp) if weight_bp else "shadow"


def percent(share_bp: float) -> str:
    """Return a share as `12.5%`."""
    return f"{share_bp / 100:g}%"


def waits_for(rollout: Body, now_s: float) -> str:  # noqa: PLR0911 - one line for each thing to wait for
    """Return what a rollout waits for before it goes on, by the admin API's body; `now_s` is wall-clock time."""
    judgement, counts = rollout["judgement"], rollout["judgement"]["counts"]
    if rollout["phase"] == "paused":
        return f"a person, or the judge's rollback: paused, {rollout['reason']}"
    if rollout["phase"] != "progressing":
        return "nothing"
    step = rollout["steps"][rollout["step"]]
    baked_s = now_s - seconds_of(rollout["exposure"]["since"])
    if judgement["invalid"] or judgement["harm"]:
        return str(judgement["invalid"] or judgement["harm"])
    if baked_s < step["bake_s"]:
        return f"time in this step: {max(0.0, baked_s):.0f} of {step['bake_s']:.0f} s"
    if counts["requests_candidate"] < step["min_requests"]:
        return f"requests of the candidate: {counts['requests_candidate']:,} of {step['min_requests']:,}"
    if counts["pairs"] < step["min_pairs"]:
        return f"pairs: {counts['pairs']:,} of {step['min_pairs']:,}"
    if rollout["step"] + 1 < len(rollout["steps"]):
        return "the control loop's next turn"
    open_gates = [gate for gate in judgement["gates"] if gate["enforced"] and gate["verdict"] != "pass"]
    return f"proof of {', '.join(gate['gate'] for gate in open_gates)}" if open_gates else "the loop's next turn"
