"""What the admin API says of a rollout, as much of it as the demo reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

NOON = "2026-01-31T12:00:00.000000Z"
NOON_S = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
GATES = ("accuracy", *(f"recall:{digit}" for digit in range(10)), "error_rate", "latency")

Body = dict[str, Any]


def gate(name: str, *, proof: float = 0.0, harm: float = 0.0, enforced: bool = True, estimate: float = 0.0) -> Body:
    """Return one gate's line; `proof` and `harm` are parts of the way to their critical values."""
    margin = {"accuracy": 0.04, "error_rate": 0.01, "latency": 1.0}.get(name, 0.15)
    return {
        "gate": name, "verdict": "fail" if harm >= 1 else "pass" if proof >= 1 else "inconclusive",
        "sentence": f"{name}: what it says", "enforced": enforced, "estimate": estimate, "margin": margin,
        "log_e_proof": 4.0 * proof, "proof_at": 4.0, "log_e_harm": 8.0 * harm, "harm_at": 8.0,
    }  # fmt: skip


def judgement(
    *gates: Body, requests: int = 0, pairs: int = 0, invalid: str | None = None, harm: str | None = None
) -> Body:
    """Return a judgement of these gates, from so many requests of the candidate and pairs."""
    counts = {"requests_stable": 3 * requests, "requests_candidate": requests, "pairs": pairs}
    return {"invalid": invalid, "harm": harm, "reason": "all 12 gates pass", "counts": counts, "gates": gates}


def step(weight_bp: int) -> Body:
    """Return a step of 6 s, 100 requests of the candidate where it has any, and 1,000 pairs."""
    return {"weight_bp": weight_bp, "bake_s": 6.0, "min_requests": 100 if weight_bp else 0, "min_pairs": 1_000}


def replica(revision: int, applied_at: str | None = NOON) -> Body:
    """Return one gateway worker."""
    return {"revision": revision, "applied_at": applied_at}


def rollout(
    phase: str = "progressing",
    *,
    candidate: str = "v2",
    stable: str = "v1",
    revision: int = 1,
    at: int = 0,
    weight_bp: int = 0,
    mirror_bp: int = 10_000,
    judged: Body | None = None,
    replicas: Sequence[Body] | None = None,
    reason: str = "it is so",
) -> Body:
    """Return where a rollout stands; its exposure began at NOON."""
    return {
        "id": f"{candidate}.1", "candidate": candidate, "stable": stable, "revision": revision, "phase": phase,
        "reason": reason, "step": at, "steps": [step(0), step(1_000), step(2_500), step(5_000)],
        "exposure": {"weight_bp": weight_bp, "mirror_bp": mirror_bp, "since": NOON},
        "judgement": judged or judgement(*map(gate, GATES)),
        "replicas": [replica(revision), replica(revision)] if replicas is None else replicas,
    }  # fmt: skip


def decision(
    kind: str,
    *,
    revision: int = 1,
    candidate: str = "v2",
    weight_bp: int = 0,
    mirror_bp: int = 10_000,
    phase: str = "progressing",
    actor: str = "control",
    reason: str = "it is so",
    at: str = NOON,
    before: tuple[int, int] = (0, 0),
    judged: Body | None = None,
) -> Body:
    """Return one line of the ledger; `before` are weight and mirror before it."""
    return {
        "at": at, "rollout": f"{candidate}.1", "revision": revision, "kind": kind, "reason": reason, "actor": actor,
        "phase_before": "progressing", "phase_after": phase, "policy": "canary",
        "weight_bp_before": before[0], "weight_bp_after": weight_bp,
        "mirror_bp_before": before[1], "mirror_bp_after": mirror_bp,
        "judgement": judged or judgement(*map(gate, GATES)),
    }  # fmt: skip
