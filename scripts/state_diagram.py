#!/usr/bin/env python3
"""Prints docs/rollout-states.md from the transition table: `scripts/state_diagram.py > docs/rollout-states.md`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from router.core.decisions import DECISIONS, Hold
from router.core.rollout import TRANSITIONS, Phase, legal_moves

INTRODUCTION = """\
# The states of a rollout

Made by `scripts/state_diagram.py` from the table `TRANSITIONS` in `router/core/rollout.py`; do not edit.

A route without a rollout is `idle`. A decision that has no arrow here is refused, with the possible ones named; `hold`
changes nothing and is left out. Whether a possible decision is also safe is asked before, by `guard` in
`router/core/decisions.py`: harm rolls back from `progressing` and `paused` whatever else was proposed.
"""

NOTES = """\
Rolled back is final for a rollout: its candidate gets no request and no copy again. `start` begins another one with
an id of its own.
"""


def diagram() -> str:
    """Return a Mermaid state diagram with one arrow for each pair of phases."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (before, move), after in TRANSITIONS.items():
        if move is not Hold:
            arrows.setdefault((before, after), []).append(move.kind)
    lines = [f"    {before} --> {after}: {', '.join(sorted(moves))}" for (before, after), moves in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Phase.IDLE}", *lines])


def table() -> str:
    """Return every decision against every phase: the phase after it, or a dash."""
    moves = [move for move in DECISIONS if move is not Hold]
    rows = [
        f"| `{move.kind}` | " + " | ".join(TRANSITIONS.get((phase, move), "-") for phase in Phase) + " |"
        for move in moves
    ]
    return "\n".join(["| | " + " | ".join(Phase) + " |", "|---" * (len(Phase) + 1) + "|", *rows])


def page() -> str:
    """Return the whole page."""
    possible = "\n".join(f"- `{phase}`: {', '.join(legal_moves(phase))}" for phase in Phase)
    return (
        f"{INTRODUCTION}\n```mermaid\n{diagram()}\n```\n\n{NOTES}\n"
        f"## What leads where\n\n{table()}\n\n## What is possible\n\n{possible}\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
