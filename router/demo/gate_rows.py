"""The gates at a glance: how far the proof of no harm has come, and how much evidence of harm there is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from router.demo.admin import Body

LEVELS: Final = "·▁▂▃▄▅▆▇"
METER: Final = 10
"""Characters of a bar."""

HEAD: Final = f" {'gates':<13}{'candidate against stable':<27}{'proof of no harm':<20}evidence of harm"
CLASS: Final = "recall:"


def gate_rows(gates: Sequence[Body]) -> Sequence[Text]:
    """Return a line for each enforced gate, and three for those of all digits together; none without gates."""
    if not gates:
        return [Text(" nothing is judged yet", style="dim")]
    enforced = [gate for gate in gates if gate["enforced"]]
    single = [gate for gate in enforced if not gate["gate"].startswith(CLASS)]
    digits = [gate for gate in enforced if gate["gate"].startswith(CLASS)]
    return [Text(HEAD, style="dim"), *map(_row, single), *_digit_rows(digits)]


def _row(gate: Body) -> Text:
    proof, harm = _part(gate, "proof"), _part(gate, "harm")
    return Text.assemble(
        f" {gate['gate']:<13}{_estimate(gate):<27}", *_bar(proof, "green"), f" {'✔' if proof >= 1 else ' '}        ",
        *_bar(harm, "red"), (" ✖" if harm >= 1 else "  ", "bold red"),
    )  # fmt: skip


def _digit_rows(gates: Sequence[Body]) -> Sequence[Text]:
    if not gates:
        return []
    names = Text(f" {'recall of':<13}").append("".join(f"{gate['gate'].removeprefix(CLASS):<5}" for gate in gates))
    proofs, harms = Text("   proof      "), Text("   harm       ")
    for gate in gates:
        proof, harm = _part(gate, "proof"), _part(gate, "harm")
        proofs.append(f"{'✔' if proof >= 1 else _level(proof)}    ", style="green")
        harms.append(f"{'✖' if harm >= 1 else _level(harm)}    ", style="bold red" if harm > 0.5 else "red")
    return [names, proofs, harms]


def _estimate(gate: Body) -> str:
    """Say how the candidate compares, where that is known, and what is allowed."""
    worse, margin = gate["estimate"], gate["margin"]
    if gate["gate"] == "latency":
        return f"{'-' if worse is None else f'{worse:+.0%}':>8}, at most {margin:+.0%}"
    # Of a score more is better: what the gate limits is the loss, what is shown is the change.
    sign, bound = (-1, "at least") if gate["gate"] == "accuracy" else (1, "at most")
    shown = "-" if worse is None else f"{100 * sign * worse + 0.0:+.1f} pp"
    return f"{shown:>8}, {bound} {100 * sign * margin:+g} pp"


def _part(gate: Body, what: str) -> float:
    """Return how much of the way to its critical value the evidence has come, 0..1 or more."""
    found: float = gate[f"log_e_{what}"] / gate[f"{what}_at"]
    return max(0.0, found)


def _bar(part: float, colour: str) -> tuple[tuple[str, str], tuple[str, str]]:
    filled = min(METER, int(part * METER))
    return ("█" * filled, colour), ("·" * (METER - filled), "dim")


def _level(part: float) -> str:
    return LEVELS[min(len(LEVELS) - 1, int(part * len(LEVELS)))]
